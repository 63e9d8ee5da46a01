"""The wire between judge and candidate: calls and plain data, as bytes that are safe to decode.

Plain data (numbers, text, containers, dates, …) crosses by value, keeping which containers are the same one. A list or
dict that the other side changes during a call is changed here too, as in one process. Everything else stays where it
is and crosses as a handle. Neither side ever unpickles, evaluates or imports what the other one names.

Not here: what a handle may be used for (`judge` and `candidate` each decide), or what is made of an answer.
"""

import collections
import contextlib
import importlib
import os
import struct
import sys
from collections.abc import Callable
from typing import Any

FRAME_BYTES = 64 << 20

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
# Modules whose exceptions are the same class on both sides, if imported here. unittest's, which skip a test, are not.
STANDARD_ERRORS = ("decimal", "json.decoder", "queue", "re", "re._constants", "copy", "struct", "binascii", "socket")
# Types of the language that mean the same on both sides; a function such as `eval` is no such thing.
_SHARED_TYPES = {
    kind.__name__: kind
    for kind in (bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, object, type)
}


# What decoding bytes that are not of this protocol can raise.
_MALFORMED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError, struct.error)


class Broken(Exception):
    """The other side sent something that is not of this protocol, or too much of it."""


class Gone(BaseException):
    """The other side has ended. Not an Exception, so that no test's `except Exception` takes it for an answer."""


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


class Remote:
    """What stands here for an object of the other side. Its operations are asked for over there.

    What comes back of an operation that mixes it with plain data is believed only where that gives away nothing: an
    object with an `==` of its own would otherwise pass any test. `Link.refuse` says what happens instead.
    """

    __slots__ = ("__weakref__", "_kind", "_link", "_more", "_number")

    def __init__(self, link: "Link", number: int, kind: str, more: tuple[Any, ...]) -> None:
        for name, value in (("_link", link), ("_number", number), ("_kind", kind), ("_more", more)):
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        return self._link.do("getattr", self, name)

    def __setattr__(self, name: str, value: object) -> None:
        self._link.do("setattr", self, name, value)

    def __delattr__(self, name: str) -> None:
        self._link.do("delattr", self, name)

    def __call__(self, *arguments: Any, **named: Any) -> Any:  # noqa: D102  a magic method like the others
        return self._link.do("call", self, arguments, named)

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # so that isinstance(x, list) is true of a subclass of list
        return type(self._more[2]) if self._more[1] else Remote

    def __eq__(self, other: object) -> bool:
        if type(other) is Remote:
            return self is other or bool(self._link.do("eq", self, other))
        if self._more[1]:
            return bool(self._more[2] == other)
        if self._more[3]:
            self._link.refuse(f"an object of class {self._more[0]} is compared with plain data")
        return False

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._more[2]) if self._more[1] else int(self._link.do("hash", self))

    def __bool__(self) -> bool:
        return bool(self._link.do("bool", self))

    def __copy__(self) -> Any:
        return self._link.do("copy", self)

    def __deepcopy__(self, _memo: object) -> Any:
        return self._link.do("deepcopy", self)

    def __mro_entries__(self, _bases: object) -> tuple[type, ...]:
        self._link.refuse(f"a class is derived from {self._more[0]}")
        return ()

    def __exit__(self, *_details: object) -> bool:
        return bool(self._link.do("exit", self))

    def __dir__(self) -> list[str]:
        return list(self._link.do("dir", self))

    def __instancecheck__(self, other: object) -> bool:
        return bool(self._link.do("isinstance", other, self))

    def __subclasscheck__(self, other: object) -> bool:
        return bool(self._link.do("issubclass", other, self))


UNARY = ("len", "str", "repr", "iter", "next", "reversed", "int", "float", "index", "enter")
MIXED = ("lt", "le", "gt", "ge", "add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor")
REFLECTED = tuple("r" + name for name in MIXED[4:])
WITH_ARGUMENTS = ("getitem", "setitem", "delitem", "contains", "format", "round")
SIGNS = ("neg", "pos", "abs", "invert")


def _forward(name: str, mixes: bool) -> Callable[..., Any]:
    def operation(self: Remote, *arguments: Any) -> Any:
        here = self._more[2] if self._more[1] else None
        if here is not None and hasattr(here, f"__{name}__") and not any(type(a) is Remote for a in arguments):
            return getattr(here, f"__{name}__")(*arguments)
        value = self._link.do(name, self, *arguments)
        if mixes and type(value) is not Remote and not all(type(a) is Remote for a in arguments):
            self._link.refuse(f"an object of class {self._more[0]} is mixed with plain data by __{name}__")
        return value

    operation.__name__ = f"__{name}__"
    return operation


for _name in (*UNARY, *WITH_ARGUMENTS):
    setattr(Remote, f"__{_name}__", _forward(_name, mixes=False))
for _name in (*MIXED, *REFLECTED, *SIGNS):
    setattr(Remote, f"__{_name}__", _forward(_name, mixes=True))


class Link:
    """One end of the wire. `ask` sends a request and serves the other side's requests until the answer comes.

    `serve(operation, arguments)` does what the other side asks, `describe` says what an object of this side is, as
    (kind, (name, has a plain value, the plain value, has an == of its own)). `refuse` is told what the wire will not
    do, and raises.
    """

    def __init__(
        self,
        connection: int,
        serve: Callable[[str, list[Any]], Any],
        describe: Callable[[object], tuple[str, tuple[Any, ...]]],
        refuse: Callable[[str], object],
    ) -> None:
        self.reader = os.fdopen(connection, "rb")
        self.writer = os.fdopen(os.dup(connection), "wb")
        self.serve = serve
        self.describe = describe
        self.refuse = refuse
        self.exported: list[Any] = []
        self.numbers: dict[int, int] = {}
        self.stands: dict[int, Any] = {}
        self.asked = 0
        self.printed: Callable[[], str] = str
        self.print: Callable[[str], object] = len

    def close(self) -> None:
        """Let the other side see the end."""
        with contextlib.suppress(OSError):
            self.writer.close()
        self.reader.close()

    def do(self, operation: str, *arguments: Any) -> Any:
        """Ask, and return the answer's value or raise its exception."""
        status, value = self.ask(operation, *arguments)
        if status == "ok":
            return value
        raise self._rebuilt(value)

    def ask(self, operation: str, *arguments: Any) -> tuple[str, Any]:
        """The answer: ("ok", value) or ("raised", description). Raises Gone, also when the other side misbehaves."""
        request = Encoder(self._hand_over)
        try:
            request.several(b"t", (operation, *arguments))
        except RecursionError:
            self.refuse("a value nests too deeply")
        self.asked += operation not in ("load", "name")
        self._send(b"?" + request.done())
        try:
            while True:
                kind, decoder = self._receive(request.slots)
                if kind != b"?":
                    break
                self._answer(decoder)
            status, value, printed = decoder.value(), decoder.value(), decoder.value()
            decoder.refresh(len(request.slots))
        except (Broken, *_MALFORMED) as error:
            raise Gone(f"the other side broke the wire: {error}") from error
        if printed:
            self.print(str(printed))
        return str(status), value

    def serve_forever(self) -> None:
        """Serve until the other side closes the connection, which raises Gone."""
        while True:
            kind, decoder = self._receive([])
            if kind != b"?":
                raise Broken("an answer to no question")
            self._answer(decoder)

    def _answer(self, decoder: Decoder) -> None:
        decoder.slots = []
        operation, *arguments = decoder.value()
        slots = decoder.slots
        answer: tuple[str, Any]
        try:
            answer = ("ok", self.serve(operation, arguments))
        except Gone:
            raise
        except BaseException as error:  # noqa: BLE001  whatever was raised is the answer
            answer = ("raised", error)
        try:
            data = self._encoded(answer, slots)
        except Exception as error:  # noqa: BLE001  what cannot be said is said to be so
            data = self._encoded(("raised", TypeError(f"the result cannot be handed over: {error}")), slots)
        self._send(data)

    def _encoded(self, answer: tuple[str, Any], slots: list[Any]) -> bytes:
        reply = Encoder(self._hand_over, slots)
        reply.value(answer[0])
        reply.value(describe_exception(answer[1], self._number) if answer[0] == "raised" else answer[1])
        reply.value(self.printed())
        for slot in slots:
            reply.contents(slot)
        return b"=" + reply.done()

    def _number(self, value: object) -> int:
        number = self.numbers.get(id(value))
        if number is None:
            number = self.numbers[id(value)] = len(self.exported)
            self.exported.append(value)  # and so keeps it, and its id, alive
        return number

    def _hand_over(self, encoder: Encoder, value: Any) -> None:
        if type(value) is Remote:
            encoder.parts.append(b"B")
            encoder.number(object.__getattribute__(value, "_number"))
            return
        encoder.parts.append(b"H")
        encoder.number(self._number(value))
        if isinstance(value, type) and issubclass(value, BaseException):
            encoder.text("exception")
            encoder.value(describe_exception_class(value, self._number))
        else:
            kind, more = self.describe(value)
            encoder.text(kind)
            encoder.value(more)

    def _take_over(self, decoder: Decoder, tag: bytes) -> Any:
        if tag == b"B":
            return self.exported[decoder.number()]
        if tag != b"H":
            raise Broken(f"no value begins with {tag!r}")
        number, kind, more = decoder.number(), decoder.text(), decoder.value()
        if kind == "exception":
            return self._mirror(*more)
        if number not in self.stands:
            name, has_value, value, own_equality = more
            self.stands[number] = Remote(self, number, kind, (str(name), bool(has_value), value, bool(own_equality)))
        return self.stands[number]

    def _mirror(self, base: str, lineage: tuple[tuple[int, str, str], ...]) -> type[BaseException]:
        """A class here for an exception class there, under the same built-in one, so that `except` works."""
        kind = builtin_exception(base)
        for number, name, module in reversed(lineage):
            known = getattr(sys.modules.get(module), name, None) if module in STANDARD_ERRORS else None
            if isinstance(known, type) and issubclass(known, kind):
                kind = known
            else:
                kind = self.stands.setdefault(-number - 1, type(name, (kind,), {}))
        return kind

    def _rebuilt(self, description: tuple[Any, ...]) -> BaseException:
        base, lineage, arguments, fields = description
        kind = self._mirror(base, lineage)
        try:
            error = kind(*arguments)
        except (TypeError, ValueError):
            error = kind.__new__(kind)
            error.args = tuple(arguments)
        vars(error).update(fields)
        return error

    def _send(self, data: bytes) -> None:
        if len(data) > FRAME_BYTES:
            self.refuse(f"a message of {len(data)} bytes")
        try:
            self.writer.write(struct.pack("<q", len(data)))
            self.writer.write(data)
            self.writer.flush()
        except OSError as error:
            raise Gone("the other side has ended") from error

    def _receive(self, slots: list[Any]) -> tuple[bytes, Decoder]:
        try:
            head = self.reader.read(8)
            length = struct.unpack("<q", head)[0] if len(head) == 8 else -1
            if length > FRAME_BYTES:
                raise Broken(f"a message of {length} bytes")
            data = self.reader.read(length) if length > 0 else b""
        except OSError as error:
            raise Gone("the other side has ended") from error
        if length < 1 or len(data) < length:
            raise Gone("the other side has ended")
        decoder = Decoder(data, self._take_over, slots)
        return decoder.raw(1), decoder


def builtin_exception(name: str) -> type[BaseException]:
    """The built-in exception of this name, else Exception."""
    found = getattr(sys.modules["builtins"], name, None)
    return found if isinstance(found, type) and issubclass(found, BaseException) else Exception


def describe_exception(error: BaseException, number: Callable[[object], int]) -> tuple[Any, ...]:
    """An exception as plain data: its class, and its arguments and fields where they are plain."""
    fields = {name: value for name, value in vars(error).items() if is_plain(value)}
    arguments = error.args if is_plain(error.args) else (str(error),)
    return (*describe_exception_class(type(error), number), arguments, fields)


def describe_exception_class(kind: type, number: Callable[[object], int]) -> tuple[str, tuple[Any, ...]]:
    """(the built-in class that it comes from, the classes on the way to it)."""
    own = [one for one in kind.__mro__ if one.__module__ != "builtins" and issubclass(one, BaseException)]
    base = next(one.__name__ for one in kind.__mro__ if one.__module__ == "builtins")
    return (base, tuple((number(one), one.__name__, one.__module__) for one in own))


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
    except _MALFORMED as error:
        raise Broken(f"not a value: {error}") from error
    if decoder.at != len(data):
        raise Broken("something follows the value")
    return value
