"""The Arrow types that hold the values of JSON rows exactly, or of a CSV's texts, found by looking at all of them.

A column gets a type of its own where all of its values are of one; objects have to have the same keys. Whatever else
there is (objects that differ, mixed types, integers beyond 64 bits) becomes a column of JSON, which holds anything.
JSON knows a column that is null and one that a row does not have; Arrow has only null. So a column that some rows lack
is marked, and null in it stands for "not there"; if it is null elsewhere as well, it is JSON, and says `null` there.

Not here: reading or writing (`convert`).
"""

from collections.abc import Mapping, Sequence

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from exporters.shapes import TEXTS

ABSENT = {b"null": b"absent"}
JSON = pa.json_(pa.string())

_NULL, _BOOL, _INT, _FLOAT, _TEXT, _LIST, _OBJECT = (1 << bit for bit in range(7))
_PLAIN = {0: pa.null(), _BOOL: pa.bool_(), _FLOAT: pa.float64(), _TEXT: pa.string()}
_BITS = {type(None): _NULL, bool: _BOOL, float: _FLOAT, str: _TEXT}
_EXACT = 1 << 53
_INTEGER = r"^(0|-?[1-9][0-9]{0,17})$"


class _Seen:
    """What values were seen at one place."""

    __slots__ = ("count", "fields", "high", "items", "kinds", "low", "ragged")

    def __init__(self) -> None:
        self.kinds = self.count = self.low = self.high = 0
        self.ragged = False
        self.fields: dict[str, _Seen] = {}
        self.items: _Seen | None = None

    def note(self, value: object) -> None:
        bit = _BITS.get(type(value))
        if bit is not None:
            self.kinds |= bit
        elif isinstance(value, dict):
            self._note_object(value)
        elif isinstance(value, list):
            self.kinds |= _LIST
            if self.items is None:
                self.items = _Seen()
            for item in value:
                self.items.note(item)
        else:
            assert isinstance(value, int)
            self.kinds |= _INT
            self.low, self.high = min(self.low, value), max(self.high, value)

    def _note_object(self, value: dict[str, object]) -> None:
        if not self.kinds & _OBJECT:
            self.fields = {name: _Seen() for name in value}
            self.kinds |= _OBJECT
        # What differs is JSON as a whole, whatever is in it.
        self.ragged = self.ragged or self.fields.keys() != value.keys()
        if not self.ragged:
            for name, child in value.items():
                self.fields[name].note(child)

    def type(self) -> pa.DataType | None:
        """The type that holds all of the values; None where none but JSON does."""
        kinds = self.kinds & ~_NULL
        if kinds in _PLAIN:
            return _PLAIN[kinds]
        if kinds == _INT:
            return self._integer()
        if kinds == _INT | _FLOAT:
            return pa.float64() if self.low >= -_EXACT and self.high <= _EXACT else None
        if kinds == _LIST:
            assert self.items is not None
            item = self.items.inner_type()
            return None if item is None else pa.list_(item)
        if kinds == _OBJECT and self.fields and not self.ragged:
            fields = {name: child.inner_type() for name, child in self.fields.items()}
            return None if None in fields.values() else pa.struct(list(fields.items()))
        return None

    def inner_type(self) -> pa.DataType | None:
        """The type within a list or an object; text where nothing was seen: Parquet's reader trips over less."""
        kind = self.type()
        return pa.string() if kind == pa.null() else kind

    def _integer(self) -> pa.DataType | None:
        if self.low >= -(1 << 63) and self.high < 1 << 63:
            return pa.int64()
        return pa.uint64() if self.low >= 0 and self.high < 1 << 64 else None


class Columns:
    """The columns of rows that are shown to it one after the other."""

    def __init__(self) -> None:
        self.rows = 0
        self._seen: dict[str, _Seen] = {}

    def note(self, row: Mapping[str, object]) -> None:
        """Take a row into account."""
        self.rows += 1
        for name, value in row.items():
            seen = self._seen.get(name)
            if seen is None:
                seen = self._seen[name] = _Seen()
            seen.count += 1
            seen.note(value)

    def schema(self) -> pa.Schema:
        """The columns, in the order in which they came up."""
        return pa.schema([self._field(name, seen) for name, seen in self._seen.items()])

    def _field(self, name: str, seen: _Seen) -> pa.Field:
        absent = seen.count < self.rows
        kind = None if absent and seen.kinds & _NULL else seen.type()
        return pa.field(name, JSON if kind is None else kind, metadata=ABSENT if absent else None)


def is_absent(field: pa.Field) -> bool:
    """Whether null in a column stands for a row without it."""
    return (field.metadata or {}).items() >= ABSENT.items()


def batch(rows: Sequence[Mapping[str, object]], schema: pa.Schema) -> pa.RecordBatch:
    """Rows as a batch of the schema that they were all noted for."""
    return pa.record_batch([_column(rows, field) for field in schema], schema)


def _column(rows: Sequence[Mapping[str, object]], field: pa.Field) -> pa.Array:
    if field.type != JSON:
        return pa.array([row.get(field.name) for row in rows], field.type)
    # In a marked column null is a value too, and has to be told from none.
    null = "null" if is_absent(field) else None
    texts = [_text(row[field.name], null) if field.name in row else None for row in rows]
    return pa.ExtensionArray.from_storage(JSON, pa.array(texts, pa.string()))


def _text(value: object, null: str | None) -> str | None:
    return null if value is None else msgspec.json.encode(value).decode()


class Texts:
    """What the texts of a CSV's column all are: integers, numbers, true and false, or just texts.

    They are something else only where the text says that in the plainest way (`7`, not `007`), so that nothing is lost.
    """

    def __init__(self, name: str) -> None:
        self._integer = self._number = self._boolean = name not in TEXTS
        self._any = False

    def note(self, column: pa.Array) -> None:
        """Take more values into account."""
        values = column.drop_null()
        self._any = self._any or len(values) > 0
        integer = pc.match_substring_regex(values, _INTEGER) if self._integer or self._number else None
        self._integer = self._integer and _all(integer)
        self._boolean = self._boolean and _all(pc.is_in(values, pa.array(["true", "false", "True", "False"])))
        if self._number and not self._integer:
            self._number = all(map(_is_number, values.filter(pc.invert(integer)).to_pylist()))

    def type(self) -> pa.DataType:
        """The type of the column."""
        if not self._any:
            return pa.string()
        if self._boolean:
            return pa.bool_()
        if self._integer:
            return pa.int64()
        return pa.float64() if self._number else pa.string()


def typed(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """The texts of a CSV's column as what they say."""
    return column if pa.types.is_string(kind) else pc.cast(column, kind)


def _all(mask: pa.Array) -> bool:
    return pc.all(mask, min_count=0).as_py()


def _is_number(text: str) -> bool:
    try:
        return repr(float(text)) == text and text not in {"nan", "inf", "-inf"}
    except ValueError:
        return False
