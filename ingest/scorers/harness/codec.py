"""Plain data as bytes that are safe to decode.

Numbers, text, containers, dates, … cross by value, keeping which containers are the same one; an object that is none of
these is the caller's to turn into a handle. Decoding never unpickles, evaluates or imports what the bytes name.

Not here: who sends what to whom (`wire`).
"""

import collections
import importlib
import struct
import sys
from collections.abc import Callable
from typing import Any

# Types that cross as text: (module, type, to text, from text). Their modules are imported when one is met.
_BY_TEXT = {
    ("decimal", "Decimal"): ("__str__", ""),
    ("fractions", "Fraction"): ("__str__", ""),
    ("datetime", "datetime"): ("isoformat", "fromisoformat"),
    ("datetime", "date"): ("isoformat", "fromisoformat"),
    ("datetime", "time"): ("isoformat", "fromisoformat"),
}
_CONTAINERS: dict[type, bytes] = {
    list: b"l",
    dict: b"d",
    set: b"e",
    bytearray: b"y",
    collections.deque: b"q",
    collections.Counter: b"c",
    collections.OrderedDict: b"o",
    collections.defaultdict: b"f",
}
_EMPTY: dict[bytes, Callable[[], Any]] = {
    b"l": list,
    b"d": dict,
    b"e": set,
    b"y": bytearray,
    b"q": collections.deque,
    b"c": collections.Counter,
    b"o": collections.OrderedDict,
    b"f": collections.defaultdict,
}
_FACTORIES: dict[str, Any] = {"": None, "list": list, "dict": dict, "set": set, "int": int, "float": float, "str": str}
# Types of the language that mean the same on both sides; a function such as `eval` is no such thing.
_SHARED_TYPES = {
    kind.__name__: kind
    for kind in (bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, object, type)
}
# What decoding bytes that are not of this protocol can raise.
MALFORMED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError, struct.error)


class Broken(Exception):
    """The other side sent something that is not of this protocol, or too much of it."""


class Encoder:
    """Values to bytes. `slots` are the containers met, in order; `hand_over` turns an object into a handle."""

    def __init__(self, hand_over: Callable[["Encoder", object], None], slots: list[Any] | None = None) -> None:
        self.parts: list[bytes] = []
        self.slots = list(slots or ())
        self.places = {id(slot): place for place, slot in enumerate(self.slots)}
        self.hand_over = hand_over

    def number(self, value: int) -> None:
        """A length or a place."""
        self.parts.append(struct.pack("<q", value))

    def text(self, value: str) -> None:
        """Text, lone surrogates included."""
        data = value.encode("utf-8", "surrogatepass")
        self.number(len(data))
        self.parts.append(data)

    def several(self, tag: bytes, values: Any) -> None:
        """A tag, a length and the values."""
        self.parts.append(tag)
        self.number(len(values))
        for value in values:
            self.value(value)

    def value(self, value: Any) -> None:
        """Any value."""
        kind = type(value)
        if value is None or kind is bool:
            self.parts.append(b"N" if value is None else b"T" if value else b"F")
        elif kind is int:
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            self.parts.append(b"i")
            self.number(len(data))
            self.parts.append(data)
        elif kind is float:
            self.parts.append(b"r" + struct.pack("<d", value))
        elif kind is complex:
            self.parts.append(b"x" + struct.pack("<dd", value.real, value.imag))
        elif kind is str:
            self.parts.append(b"s")
            self.text(value)
        elif kind is bytes:
            self.parts.append(b"b")
            self.number(len(value))
            self.parts.append(value)
        elif kind is tuple:
            self.several(b"t", value)
        elif kind is frozenset:
            self.several(b"z", list(value))
        elif kind is range or kind is slice:
            self.several(b"g" if kind is range else b"S", [value.start, value.stop, value.step])
        elif kind in _CONTAINERS:
            self.container(value)
        elif _standard_type(kind) in _BY_TEXT:
            self.parts.append(b"w")
            self.text(kind.__module__)
            self.text(kind.__name__)
            self.text(getattr(value, _BY_TEXT[kind.__module__, kind.__name__][0])())
        elif _standard_type(kind) == ("datetime", "timedelta"):
            self.several(b"D", [value.days, value.seconds, value.microseconds])
        elif value is ... or value is NotImplemented:
            self.parts.append(b"." if value is ... else b"!")
        elif any(value is shared for shared in _SHARED_TYPES.values()):
            self.parts.append(b"p")
            self.text(value.__name__)
        elif isinstance(value, type) and issubclass(value, BaseException) and value.__module__ == "builtins":
            self.parts.append(b"E")
            self.text(value.__name__)
        else:
            self.hand_over(self, value)

    def container(self, value: Any) -> None:
        """A container that can change: its contents once, afterwards its place."""
        place = self.places.get(id(value))
        if place is not None:
            self.parts.append(b"@")
            self.number(place)
            return
        self.places[id(value)] = len(self.slots)
        self.slots.append(value)
        self.contents(value)

    def contents(self, value: Any) -> None:
        """A container's tag and contents."""
        tag = _CONTAINERS[type(value)]
        if tag == b"y":
            self.parts.append(tag)
            self.number(len(value))
            self.parts.append(bytes(value))
        elif tag in b"dcof":
            self.parts.append(tag)
            if tag == b"f":
                factory = getattr(value.default_factory, "__name__", "")
                self.text(factory if _FACTORIES.get(factory) is value.default_factory else "")
            self.number(len(value))
            for key, item in list(value.items()):
                self.value(key)
                self.value(item)
        else:
            if tag == b"q":
                self.parts.append(tag)
                self.value(value.maxlen)
            self.several(tag, list(value))

    def done(self) -> bytes:
        """All of it."""
        return b"".join(self.parts)


class Decoder:
    """Bytes to values, without trusting them. `take_over` turns a handle into what stands for it here."""

    def __init__(self, data: bytes, take_over: Callable[["Decoder", bytes], Any], slots: list[Any] | None = None):
        self.data = data
        self.at = 0
        self.slots = list(slots or ())
        self.take_over = take_over

    def raw(self, length: int) -> bytes:
        """The next bytes."""
        if length < 0 or self.at + length > len(self.data):
            raise Broken("a value ends before its length")
        self.at += length
        return self.data[self.at - length : self.at]

    def number(self) -> int:
        """A length or a place."""
        value: int = struct.unpack("<q", self.raw(8))[0]
        return value

    def text(self) -> str:
        """Text."""
        return self.raw(self.number()).decode("utf-8", "surrogatepass")

    def several(self) -> list[Any]:
        """A length and the values."""
        return [self.value() for _ in range(self.number())]

    def value(self) -> Any:
        """Any value."""
        tag = self.raw(1)
        if tag in _EMPTY:
            slot = _EMPTY[tag]()
            self.slots.append(slot)
            return self.contents(tag, slot, len(self.slots) - 1)
        simple = {b"N": None, b"T": True, b"F": False, b".": Ellipsis, b"!": NotImplemented}
        if tag in simple:
            return simple[tag]
        if tag == b"i":
            return int.from_bytes(self.raw(self.number()), "little", signed=True)
        if tag == b"r":
            return struct.unpack("<d", self.raw(8))[0]
        if tag == b"x":
            return complex(*struct.unpack("<dd", self.raw(16)))
        if tag == b"s":
            return self.text()
        if tag == b"b":
            return self.raw(self.number())
        if tag == b"t":
            return tuple(self.several())
        if tag == b"z":
            return frozenset(self.several())
        if tag == b"g":
            return range(*self.several())
        if tag == b"S":
            return slice(*self.several())
        if tag == b"D":
            return importlib.import_module("datetime").timedelta(*self.several())
        if tag == b"w":
            place = (self.text(), self.text())
            if place not in _BY_TEXT:
                raise Broken(f"no type {place[1]!r} crosses as text")
            kind = getattr(importlib.import_module(place[0]), place[1])
            reader = _BY_TEXT[place][1]
            return (getattr(kind, reader) if reader else kind)(self.text())
        if tag == b"p":
            return _SHARED_TYPES[self.text()]
        if tag == b"E":
            return builtin_exception(self.text())
        if tag == b"@":
            return self.slots[self.number()]
        return self.take_over(self, tag)

    def contents(self, tag: bytes, slot: Any, place: int) -> Any:
        """The contents of a container, read into `slot`."""
        if tag == b"y":
            slot[:] = self.raw(self.number())
        elif tag in b"dcof":
            if tag == b"f":
                slot.default_factory = _FACTORIES[self.text()]
            pairs = [(self.value(), self.value()) for _ in range(self.number())]
            slot.clear()
            for key, item in pairs:
                slot[key] = item
        elif tag == b"q":
            longest = self.value()
            if self.raw(1) != tag:
                raise Broken("a deque without its items")
            items = self.several()
            if slot.maxlen != longest:
                slot = self.slots[place] = collections.deque(maxlen=longest)
            slot.clear()
            slot.extend(items)
        else:
            items = self.several()
            slot.clear()
            slot.extend(items) if tag == b"l" else slot.update(items)
        return slot

    def refresh(self, count: int) -> None:
        """Read the present contents of the first `count` containers into them."""
        for place in range(count):
            slot = self.slots[place]
            tag = self.raw(1)
            if _CONTAINERS[type(slot)] != tag:
                raise Broken("a container became another kind of container")
            self.contents(tag, slot, place)


def builtin_exception(name: str) -> type[BaseException]:
    """The built-in exception of this name, else Exception."""
    found = getattr(sys.modules["builtins"], name, None)
    return found if isinstance(found, type) and issubclass(found, BaseException) else Exception


def _standard_type(kind: type) -> tuple[str, str] | None:
    """(module, name) of a type of the standard library, None when something only says that it is one."""
    place = (kind.__module__, kind.__qualname__)
    return place if getattr(sys.modules.get(place[0]), place[1], None) is kind else None


def is_plain(value: object) -> bool:
    """Whether a value crosses without any handle."""

    def refuse(_encoder: Encoder, _value: object) -> None:
        raise Broken("not plain")

    try:
        Encoder(refuse).value(value)
    except (Broken, RecursionError, ValueError):
        return False
    return True


def dumps(value: object) -> bytes:
    """A plain value as bytes. Raises Broken."""

    def refuse(_encoder: Encoder, other: object) -> None:
        raise Broken(f"{type(other).__name__} is no plain value")

    encoder = Encoder(refuse)
    encoder.value(value)
    return encoder.done()


def loads(data: bytes) -> Any:
    """The plain value that `dumps` was given. Raises Broken."""

    def refuse(_decoder: Decoder, tag: bytes) -> None:
        raise Broken(f"no value begins with {tag!r}")

    decoder = Decoder(data, refuse)
    try:
        value = decoder.value()
    except MALFORMED as error:
        raise Broken(f"not a value: {error}") from error
    if decoder.at != len(data):
        raise Broken("something follows the value")
    return value
