"""The wire between judge and candidate: calls and plain data.

Plain data crosses by value (`codec`). A list or dict that the other side changes during a call is changed here too, as
in one process. Everything else stays where it is and crosses as a handle.

Not here: what a handle may be used for (`judge` and `candidate` each decide), or what is made of an answer.
"""

import contextlib
import os
import struct
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from ingest.scorers.harness import codec
else:
    import codec  # in the sandbox this file is had by path, and the product is not

FRAME_BYTES = 64 << 20

# Modules whose exceptions are the same class on both sides, if imported here. unittest's, which skip a test, are not.
STANDARD_ERRORS = ("decimal", "json.decoder", "queue", "re", "re._constants", "copy", "struct", "binascii", "socket")


class Gone(BaseException):
    """The other side has ended. Not an Exception, so that no test's `except Exception` takes it for an answer."""


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
        request = codec.Encoder(self._hand_over)
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
        except (codec.Broken, *codec.MALFORMED) as error:
            raise Gone(f"the other side broke the wire: {error}") from error
        if printed:
            self.print(str(printed))
        return str(status), value

    def serve_forever(self) -> None:
        """Serve until the other side closes the connection, which raises Gone."""
        while True:
            kind, decoder = self._receive([])
            if kind != b"?":
                raise codec.Broken("an answer to no question")
            self._answer(decoder)

    def _answer(self, decoder: codec.Decoder) -> None:
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
        reply = codec.Encoder(self._hand_over, slots)
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

    def _hand_over(self, encoder: codec.Encoder, value: Any) -> None:
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

    def _take_over(self, decoder: codec.Decoder, tag: bytes) -> Any:
        if tag == b"B":
            return self.exported[decoder.number()]
        if tag != b"H":
            raise codec.Broken(f"no value begins with {tag!r}")
        number, kind, more = decoder.number(), decoder.text(), decoder.value()
        if kind == "exception":
            return self._mirror(*more)
        if number not in self.stands:
            name, has_value, value, own_equality = more
            self.stands[number] = Remote(self, number, kind, (str(name), bool(has_value), value, bool(own_equality)))
        return self.stands[number]

    def _mirror(self, base: str, lineage: tuple[tuple[int, str, str], ...]) -> type[BaseException]:
        """A class here for an exception class there, under the same built-in one, so that `except` works."""
        kind = codec.builtin_exception(base)
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

    def _receive(self, slots: list[Any]) -> tuple[bytes, codec.Decoder]:
        try:
            head = self.reader.read(8)
            length = struct.unpack("<q", head)[0] if len(head) == 8 else -1
            if length > FRAME_BYTES:
                raise codec.Broken(f"a message of {length} bytes")
            data = self.reader.read(length) if length > 0 else b""
        except OSError as error:
            raise Gone("the other side has ended") from error
        if length < 1 or len(data) < length:
            raise Gone("the other side has ended")
        decoder = codec.Decoder(data, self._take_over, slots)
        return decoder.raw(1), decoder


def describe_exception(error: BaseException, number: Callable[[object], int]) -> tuple[Any, ...]:
    """An exception as plain data: its class, and its arguments and fields where they are plain."""
    fields = {name: value for name, value in vars(error).items() if codec.is_plain(value)}
    arguments = error.args if codec.is_plain(error.args) else (str(error),)
    return (*describe_exception_class(type(error), number), arguments, fields)


def describe_exception_class(kind: type, number: Callable[[object], int]) -> tuple[str, tuple[Any, ...]]:
    """(the built-in class that it comes from, the classes on the way to it)."""
    own = [one for one in kind.__mro__ if one.__module__ != "builtins" and issubclass(one, BaseException)]
    base = next(one.__name__ for one in kind.__mro__ if one.__module__ == "builtins")
    return (base, tuple((number(one), one.__name__, one.__module__) for one in own))
