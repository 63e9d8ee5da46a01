"""What crosses between judge and candidate, and what does not."""

import collections
import contextlib
import datetime as dt
import decimal
import fractions
import math
import os
import socket
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.scorers.harness import codec, wire

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text(st.characters())
    | st.binary()
    | st.decimals()
    | st.fractions()
    | st.datetimes().map(lambda moment: moment.replace(fold=0))
    | st.dates()
    | st.times().map(lambda moment: moment.replace(fold=0))
    | st.timedeltas()
    | st.just(...)
    | st.sampled_from([int, str, list, ValueError, KeyError, range(1, 9, 2), slice(1, None, 2)])
)
KEYS = st.integers() | st.text() | st.tuples(st.integers(), st.booleans())
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(KEYS, inner)
        | st.sets(KEYS)
        | st.frozensets(KEYS)
        | st.builds(bytearray, st.binary())
        | st.builds(collections.deque, st.lists(inner), st.none() | st.integers(0, 5))
        | st.builds(collections.Counter, st.lists(KEYS))
        | st.builds(collections.OrderedDict, st.dictionaries(KEYS, inner))
        | st.builds(lambda items: collections.defaultdict(list, items), st.dictionaries(KEYS, inner))
    ),
    max_leaves=20,
)


def canonical(value):
    """A value as text, with its types, and without the order that a set does not have."""
    if isinstance(value, set | frozenset):
        return type(value), sorted(map(repr, value))
    if isinstance(value, dict):
        return type(value), [(canonical(key), canonical(item)) for key, item in value.items()]
    if isinstance(value, list | tuple | collections.deque):
        return type(value), getattr(value, "maxlen", None), [canonical(one) for one in value]
    return repr(value)


@settings(max_examples=60)
@given(VALUES)
def test_plain_values_cross_unchanged(value):
    """What is sent is what arrives, with its types."""
    assert canonical(codec.loads(codec.dumps(value))) == canonical(value)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_broken(data):
    """Bytes from outside are decoded or refused, and nothing else happens."""
    with contextlib.suppress(codec.Broken):
        codec.loads(data)


@settings(max_examples=60)
@given(VALUES, st.data())
def test_damaged_values_are_a_value_or_broken(value, data):
    """Also bytes that are nearly right."""
    sent = bytearray(codec.dumps(value))
    sent[data.draw(st.integers(0, len(sent) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(codec.Broken):
        codec.loads(bytes(sent))


def test_what_is_no_plain_value_is_not_dumped():
    """An object has no bytes; nor has a class that only says it is a standard one."""
    impostor = type("Decimal", (), {"__module__": "decimal"})
    for value in (object(), impostor(), eval, lambda: 1, type("E", (Exception,), {})):
        with pytest.raises(codec.Broken):
            codec.dumps(value)


def test_shared_and_circular_containers_stay_so():
    """What is one list on this side is one list on the other."""
    inner: list[object] = []
    inner.append(inner)
    first, second = codec.loads(codec.dumps((inner, inner)))
    assert first is second
    assert first[0] is first


class Refused(Exception):
    pass


class Ends:
    """Two ends of a wire, the second served in a thread."""

    def __init__(self, operations):
        self.sockets = socket.socketpair()
        self.refused = []
        self.here = wire.Link(os.dup(self.sockets[0].fileno()), self.serve_here, self.describe, self.refuse)
        self.there = wire.Link(
            os.dup(self.sockets[1].fileno()),
            lambda operation, arguments: operations[operation](*arguments),
            self.describe,
            self.refuse,
        )
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        try:
            self.there.serve_forever()
        except (wire.Gone, codec.Broken):
            return

    def serve_here(self, operation, arguments):
        assert operation == "call"
        return arguments[0](*arguments[1], **arguments[2])

    def describe(self, value):
        plain = value if isinstance(value, Odd) else None
        return "object", (type(value).__name__, plain is not None, plain and int(plain), type(value) is Sly)

    def refuse(self, message):
        self.refused.append(message)
        raise Refused(message)

    def close(self):
        self.here.close()
        for one in self.sockets:
            one.close()
        self.thread.join(5)
        self.there.close()


class Odd(int):
    """A number that is more than a number, and says so."""

    def __eq__(self, other):
        return True

    __hash__ = int.__hash__


class Sly:
    """Equal to everything, and zero in any sum."""

    field = 7

    def __eq__(self, other):
        return True

    def __hash__(self):
        return 1

    def __sub__(self, other):
        return 0.0

    def __lt__(self, other):
        return True

    def __len__(self):
        return 3

    def __bool__(self):
        return False

    def __getitem__(self, place):
        return place * 10

    def __iter__(self):
        return iter([1, 2])

    def __enter__(self):
        return "in"

    def __exit__(self, *details):
        return True

    def __add__(self, other):
        return Sly()

    __radd__ = __add__


class Mine(ValueError):
    def __init__(self, text, code):
        super().__init__(text)
        self.code = code


def fail(error):
    raise error


OPERATIONS = {
    "echo": lambda value: value,
    "make": lambda name: {"sly": Sly, "odd": lambda: Odd(3), "class": lambda: Mine, "plain": object}[name](),
    "call": lambda function, arguments, named: function(*arguments, **named),
    "append": lambda items, value: items.append(value) or items,
    "divide": lambda: 1 / 0,
    "decimal": lambda: fail(decimal.InvalidOperation()),
    "raise": lambda: fail(Mine("no", 5)),
    "exit": lambda manager: manager.__exit__(None, None, None),
    "getattr": getattr,
    "setattr": setattr,
    "delattr": delattr,
    "getitem": lambda box, key: box[key],
    "eq": lambda left, right: left == right,
    "sub": lambda left, right: left - right,
    "add": lambda left, right: left + right,
    "radd": lambda right, left: left + right,
    "lt": lambda left, right: left < right,
    "hash": hash,
    "bool": bool,
    "len": len,
    "iter": iter,
    "next": next,
    "str": str,
    "dir": dir,
    "isinstance": isinstance,
    "issubclass": issubclass,
    "copy": lambda value: value,
    "deepcopy": lambda value: value,
    "enter": lambda manager: manager.__enter__(),
}


def wire_depth():
    value: list[object] = []
    for _ in range(5000):
        value = [value]
    return value


OPERATIONS["deep"] = wire_depth


@pytest.fixture
def ends():
    pair = Ends(OPERATIONS)
    yield pair
    pair.close()


def test_changes_to_what_was_handed_over_come_back(ends):
    """A list that the other side appends to has grown here, and is the very list that is returned."""
    items = [1]
    assert ends.here.do("append", items, {"a": items}) is items
    assert items[0] == 1
    assert items[1]["a"] is items


def test_objects_stay_where_they_are(ends):
    """An object comes as a stand-in: one for each object, that goes back as the object itself."""
    sly = ends.here.do("make", "sly")
    assert type(sly) is wire.Remote
    assert ends.here.do("echo", sly) is sly
    assert ends.here.do("eq", sly, sly) is True
    assert (sly.field, len(sly), sly[4], list(sly), bool(sly), hash(sly)) == (7, 3, 40, [1, 2], False, 1)
    sly.field = [1]
    assert sly.field == [1]
    del sly.field
    assert sly.field == 7
    assert "field" in dir(sly)
    with sly as entered:
        assert entered == "in"
        raise ValueError("which the other side swallows")


def test_an_object_is_no_plain_data_by_its_own_word(ends):
    """What is equal to everything equals nothing plain, and counts for nothing in a sum with plain data."""
    sly, plain = ends.here.do("make", "sly"), ends.here.do("make", "plain")
    assert plain != 3
    attempts = (
        lambda: sly == 3,
        lambda: 3 == sly,  # noqa: SIM300  either way round
        lambda: sly - 3,
        lambda: sly < 3,
        lambda: sly != 3,
    )
    for attempt in attempts:
        with pytest.raises(Refused, match="plain data"):
            attempt()
    assert len(ends.refused) == 5


def test_objects_deal_with_one_another_as_they_like(ends):
    """Between two objects of the other side its own operators count."""
    one, other = ends.here.do("make", "sly"), ends.here.do("make", "sly")
    assert one == other
    assert type(one + other) is wire.Remote
    assert type(one + 3) is wire.Remote
    assert type(3 + one) is wire.Remote


def test_a_subclass_of_plain_data_is_compared_as_its_data(ends):
    """A number that says it equals everything equals its own number."""
    odd = ends.here.do("make", "odd")
    assert odd == 3
    assert odd != 4
    assert odd + 1 == 4
    assert isinstance(odd, int)
    assert hash(odd) == hash(3)


def test_classes_answer_for_their_instances(ends):
    """Both isinstance and issubclass ask the other side."""
    kind = ends.here.do("call", ends.here.do("getattr", ends.here.do("make", "sly"), "__class__"), (), {})
    assert type(kind) is wire.Remote
    sly_class = ends.here.do("getattr", kind, "__class__")
    assert isinstance(kind, sly_class)
    assert not isinstance(3, sly_class)
    assert issubclass(sly_class, sly_class)


def test_copies_are_made_over_there(ends):
    """Copying a stand-in copies the object."""
    import copy

    sly = ends.here.do("make", "sly")
    assert copy.copy(sly) is sly
    assert copy.deepcopy(sly) is sly


def test_no_class_is_derived_from_a_stand_in(ends):
    """Which is said."""
    sly = ends.here.do("make", "sly")
    with pytest.raises(Refused, match="derived"):
        type("Derived", (), {}).__class__("Derived", sly.__mro_entries__(()), {})


def test_exceptions_arrive_as_what_they_are(ends):
    """A built-in exception is itself; another one can be caught by its class from over there, or by what it is of."""
    with pytest.raises(ZeroDivisionError):
        ends.here.do("divide")
    mirror = ends.here.do("make", "class")
    assert issubclass(mirror, ValueError)
    with pytest.raises(mirror) as caught:
        ends.here.do("raise")
    assert (str(caught.value), caught.value.code, type(caught.value).__name__) == ("no", 5, "Mine")
    with pytest.raises(decimal.InvalidOperation):
        ends.here.do("decimal")


def test_functions_of_this_side_are_called_back(ends):
    """A function that is handed over runs here, and its exceptions arrive there and come back."""
    called = []
    assert ends.here.do("call", lambda value, more: called.append(value) or more * 2, (1,), {"more": 4}) == 8
    assert called == [1]
    with pytest.raises(KeyError):
        ends.here.do("call", lambda: {}["missing"], (), {})


def test_what_is_printed_comes_along(ends):
    """Each answer brings what was printed since the last one."""
    printed = []
    ends.there.printed = lambda: "hello"
    ends.here.print = printed.append
    ends.here.do("echo", 1)
    assert printed == ["hello"]


def test_what_nests_too_deeply_is_refused(ends):
    """Both as a question and as an answer, without ending the wire."""
    with pytest.raises(Refused, match="deeply"):
        ends.here.do("echo", wire_depth())
    with pytest.raises(TypeError, match="handed over"):
        ends.here.do("deep")
    assert ends.here.do("echo", 1) == 1


def test_a_message_has_a_largest_size(ends, monkeypatch):
    """More than that is neither sent nor taken."""
    monkeypatch.setattr(wire, "FRAME_BYTES", 1000)
    with pytest.raises(Refused, match="message"):
        ends.here.do("echo", "x" * 2000)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\x05\0\0\0\0\0\0\0=abc",
        b"\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x01\0\0\0\0\0\0\0=",
        b"\x02\0\0\0\0\0\0\0=\xff",
        b"\x02\0\0\0\0\0\0\0?N",
        b"\x0a\0\0\0\0\0\0\0=B\x09\0\0\0\0\0\0\0",
    ],
)
def test_whatever_is_no_answer_is_the_end(sent):
    """The other side is gone when it closes, lies about a length, or answers with something else."""
    ours, theirs = socket.socketpair()
    link = wire.Link(os.dup(ours.fileno()), lambda operation, arguments: None, lambda value: ("object", ()), str)
    ours.close()
    theirs.sendall(sent)
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(wire.Gone):
        link.do("echo", 1)
    theirs.close()
    with pytest.raises(wire.Gone):
        link.do("echo", 1)
    link.close()


def test_a_container_cannot_change_its_kind():
    """What comes back for a list is a list."""
    decoder = codec.Decoder(b"d" + b"\0" * 8, lambda decoder, tag: None, [[]])
    with pytest.raises(codec.Broken):
        decoder.refresh(1)


def test_numbers_keep_their_peculiarities():
    """Not a number, the infinities, minus zero, and numbers of any length."""
    nan, infinity, zero, large = codec.loads(codec.dumps((math.nan, -math.inf, -0.0, -(7**5000))))
    assert math.isnan(nan)
    assert infinity == -math.inf
    assert math.copysign(1, zero) == -1
    assert large == -(7**5000)


def test_an_unknown_exception_is_an_exception():
    """A name that is no built-in exception stands for Exception, whatever else it names."""
    assert codec.builtin_exception("eval") is Exception
    assert codec.builtin_exception("Nothing") is Exception
    assert codec.builtin_exception("SystemExit") is SystemExit


def test_standard_values_cross():
    """One of each that crosses as text."""
    values = [
        decimal.Decimal("1.10"),
        fractions.Fraction(1, 3),
        dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC),
        dt.date(2026, 1, 2),
        dt.time(3, 4),
        dt.timedelta(days=-1, microseconds=1),
    ]
    assert codec.loads(codec.dumps(values)) == values
