"""One row of input: strict JSON, its canonical form, and everything that is wrong with it.

This is the authority on what a row is. `columns` does the same for many plain rows at once, and must agree.

Python's own parser is used, because the canonical form is defined by it, and with what it lets pass refused here:
duplicate keys, NaN and infinities, lone surrogates, and nesting deeper than `MAX_DEPTH`.
"""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, NamedTuple

MAX_DEPTH = 200
MARKS = 1 << 20  # brackets, commas and colons that a row may have: a value takes a hundred bytes of memory and more
BYTES_PER_MARK = 16  # what a row of more bytes may have in addition

Values = dict[str, Any]


class Problem(NamedTuple):
    """One thing that is wrong with a row: a code to count by, and a sentence for whoever mends it."""

    reason: str
    message: str


class Refused(Exception):
    """A row that cannot become an event, with everything that is wrong with it. Readers raise it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(problem.message for problem in self.problems))


class Place(NamedTuple):
    """Where a row came from, and the kind of event that is wanted of it.

    `line` is the 1-based line, or the number of the record or element. `format` is `jsonl`, `json`, `csv` or `parquet`.
    """

    file: str
    line: int
    sha256: str
    kind: str
    format: str


class Decoded(NamedTuple):
    """What a row's bytes say. `values` is None where they say nothing; `problems` may be many or none."""

    values: Values | None
    sha256: str
    problems: list[Problem]


def too_much(reason: str, what: str) -> Problem:
    """A row that is larger than a row may be, and how to allow it."""
    return Problem(reason, f"{what}, more than a row may have; --max-row-bytes allows more")


def refuse(reason: str, message: str) -> Refused:
    """A refusal for one reason."""
    return Refused([Problem(reason, message)])


class Decoder:
    """Decodes rows, one at a time, of which none is to have more than `marks` brackets, commas and colons.

    Not to be shared by threads.
    """

    def __init__(self, marks: int = MARKS) -> None:
        self._marks = marks
        self._problems: list[Problem] = []
        self._json = json.JSONDecoder(object_pairs_hook=self._object)

    def decode(self, raw: bytes) -> Decoded:
        """The object that the bytes of a row are, and the sha256 of its canonical JSON.

        Where there is no canonical JSON, the sha256 is that of the bytes themselves.
        """
        self._problems = []
        try:
            values = self._parse(raw)
            digest = sha256(values)
        except Refused as refused:
            return Decoded(None, hashlib.sha256(raw).hexdigest(), refused.problems)
        except (UnicodeEncodeError, ValueError):
            self._problems += unspeakable(values)
            digest = hashlib.sha256(raw).hexdigest()
        return Decoded(values, digest, self._problems)

    def parse(self, text: str) -> Any:
        """The value that a piece of JSON text is. Raises Refused."""
        self._problems = []
        value = self._value(text)
        self._problems += unspeakable(value)
        if self._problems:
            raise Refused(self._problems)
        return value

    def _parse(self, raw: bytes) -> Values:
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise refuse(
                "invalid_utf8", f"not UTF-8: byte {error.start + 1} of the row is 0x{raw[error.start]:02x}"
            ) from None
        value = self._value(text)
        if not isinstance(value, dict):
            raise refuse("not_an_object", f"a row must be an object, and this is {_name(value)}")
        return value

    def _value(self, text: str) -> Any:
        if len(text) > self._marks and marks_in(text) > self._marks:
            raise Refused([too_much("too_many_values", "it has too many values")])
        try:
            value = self._json.decode(text)
        except json.JSONDecodeError as error:
            raise refuse("not_json", f"not JSON: {error.msg} at character {error.pos + 1}") from None
        except RecursionError:
            raise refuse("too_deep", f"nested deeper than {MAX_DEPTH} levels") from None
        except ValueError as error:
            # Python reads no integer of more than some thousand digits.
            raise refuse("number_out_of_range", f"a number is out of range: {error}") from None
        # A row can only be deep if it has many brackets; most have not.
        if text.count("[") + text.count("{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
            raise refuse("too_deep", f"nested deeper than {MAX_DEPTH} levels")
        return value

    def _object(self, pairs: list[tuple[str, Any]]) -> Values:
        values = dict(pairs)
        if len(values) != len(pairs):
            counts = Counter(name for name, _ in pairs)
            several = [name for name, count in counts.items() if count > 1]
            self._problems += [
                Problem("duplicate_key", f"the key {name!r} stands {counts[name]} times in one object")
                for name in several[:_SHOWN]
            ]
        return values


def max_marks(row_bytes: int) -> int:
    """How many brackets, commas and colons a row may have, where it may have so many bytes."""
    return max(MARKS, row_bytes // BYTES_PER_MARK)


def marks_in(text: str) -> int:
    """How many brackets, commas and colons a JSON text has outside of its strings."""
    count = sum(map(text.count, ",:[{"))
    return count if count <= MARKS else sum(map(_STRING.sub("", text).count, ",:[{"))


def canonical(values: Any) -> str:
    """The canonical JSON of a row: keys in order, no blanks, nothing escaped that need not be.

    It is `json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False)`. Raises ValueError for a number
    that JSON cannot say.
    """
    return _CANONICAL.encode(values)


def sha256(values: Any) -> str:
    """The sha256 of a row's canonical JSON in UTF-8. Raises UnicodeEncodeError, ValueError."""
    return hashlib.sha256(_CANONICAL.encode(values).encode()).hexdigest()


def json_text(value: Any) -> str:
    """A value as JSON text that keeps the order of its keys, which chat templates may show to a model."""
    return _COMPACT.encode(value)


def speakable(values: Iterable[tuple[str, Any]]) -> Values:
    """Cells of a table as JSON can say them: times as ISO 8601, decimals and bytes as text. Empty cells are left out.

    Raises Refused for a cell that has no such form.
    """
    return {name: _speakable(name, value) for name, value in values if value is not None}


def _speakable(name: str, value: Any) -> Any:
    if isinstance(value, str | int | float | None):
        return value
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise refuse("invalid_utf8", f"{name}: bytes that are not UTF-8 text") from None
    if isinstance(value, dict):
        return {str(key): _speakable(name, inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_speakable(name, inner) for inner in value]
    raise refuse("wrong_type", f"{name}: {type(value).__name__} has no form in JSON")


def unspeakable(value: Any, path: str = "") -> Iterator[Problem]:
    """What in a value cannot be said in canonical JSON, with its place in the row."""
    if isinstance(value, str):
        if _is_lone(value):
            yield Problem("lone_surrogate", f"{path or 'the row'}: half of a surrogate pair is no character")
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield Problem("not_finite", f"{path or 'the row'}: {value} is no number of JSON")
    elif isinstance(value, dict):
        for key, inner in value.items():
            if _is_lone(key):
                yield Problem("lone_surrogate", f"{path or 'the row'}: half of a surrogate pair in a key")
            shown = key.encode(errors="replace").decode()
            yield from unspeakable(inner, f"{path}.{shown}" if path else shown)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from unspeakable(inner, f"{path}[{number}]")


def _is_lone(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _depth(value: Any) -> int:
    """How many arrays and objects are inside one another."""
    depth = 0
    level = [value] if isinstance(value, dict | list) else []
    while level:
        depth += 1
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    return depth


def _name(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "an array"}
    return names.get(type(value), "an object")


_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SHOWN = 100  # duplicate keys that a reject names
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_COMPACT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)
