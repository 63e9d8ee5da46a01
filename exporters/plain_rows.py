"""Columns as JSON lines and as the texts of a CSV: what these can hold, and what they cannot.

Times become texts in ISO 8601 with all of their digits; a float is written as the shortest text that is read as the
same float. JSON has no NaN, no infinity and no bytes; a CSV has besides no lists and no objects.

Not here: the files (`encoders`).
"""

import math
from collections.abc import Iterator

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from exporters.inference import is_absent
from lake.errors import UsageError


class CannotHold(Exception):
    """A value that the format has no text for: its place in the batch, from 0, the field, and why."""

    def __init__(self, row: int, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.row = row
        self.field = field
        self.why = why


def refuse_for_lines(schema: pa.Schema) -> None:
    """Raises UsageError for a column of a type that JSON has no text for."""
    for field in schema:
        if odd := _without_json(field.type):
            raise UsageError(f"column {field.name!r}: JSON has no {odd}", "parquet, arrow and hf hold it")


def lines(batch: pa.RecordBatch) -> Iterator[bytes]:
    """The rows of a batch as JSON texts. Raises CannotHold."""
    names = batch.schema.names
    columns = [_values(batch.column(place), field.name) for place, field in enumerate(batch.schema)]
    absent = {field.name for field in batch.schema if is_absent(field)}
    for values in zip(*columns, strict=True):
        row = dict(zip(names, values, strict=True))
        if absent:
            row = {name: row[name] for name in names if row[name] is not None or name not in absent}
        yield msgspec.json.encode(row)


def csv_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch of texts, numbers, and true and false. Raises CannotHold."""
    columns = [_cell_column(batch.column(place), field.name) for place, field in enumerate(batch.schema)]
    return pa.record_batch(columns, names=batch.schema.names)


def csv_schema(schema: pa.Schema) -> pa.Schema:
    """The columns that `csv_batch` makes of these."""
    return csv_batch(pa.record_batch([pa.array([], field.type) for field in schema], schema)).schema


def _values(column: pa.Array, name: str) -> list[object]:
    if isinstance(column.type, pa.JsonType):
        return [_raw(text, name, place) for place, text in enumerate(column.to_pylist())]
    values: list[object] = _temporal_as_text(column).to_pylist()
    if _has_floats(column.type) and not _all_finite(column):
        place = next(place for place, value in enumerate(values) if not _is_finite(value))
        raise CannotHold(place, name, "JSON has no NaN and no infinity")
    return values


def _raw(text: str | None, name: str, place: int) -> msgspec.Raw | None:
    if text is None:
        return None
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise CannotHold(place, name, f"not the JSON that the column says it is: {error}") from None
    raw = text.encode()
    return msgspec.Raw(msgspec.json.format(raw, indent=-1) if b"\n" in raw or b"\r" in raw else raw)


def _without_json(kind: pa.DataType) -> str | None:
    """The type within a type that JSON has no text for."""
    if isinstance(kind, pa.JsonType):
        return None
    if pa.types.is_dictionary(kind):
        return _without_json(kind.value_type)
    if pa.types.is_struct(kind):
        return next((odd for field in kind if (odd := _without_json(field.type))), None)
    if _is_list(kind):
        # A time in a list is left alone: nobody has one, and it would be the only reason to walk into lists.
        inner = kind.value_type
        return str(inner) if pa.types.is_temporal(inner) else _without_json(inner)
    plain = (
        pa.types.is_boolean(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_null(kind)
        or pa.types.is_timestamp(kind)
        or pa.types.is_date(kind)
        or pa.types.is_time(kind)
    )
    return None if plain else str(kind)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _temporal_as_text(column: pa.Array) -> pa.Array:
    """Times as texts, also those within objects."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _temporal_as_text(column.dictionary_decode())
    if pa.types.is_struct(kind):
        children = [_temporal_as_text(child) for child in column.flatten()]
        names = [field.name for field in kind]
        return pa.StructArray.from_arrays(children, names=names, mask=column.is_null()) if names else column
    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_time(kind)):
        return column
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        column = column.cast(pa.timestamp(kind.unit, "UTC"))
    text = column.cast(pa.string())
    return pc.replace_substring(text, " ", "T", max_replacements=1) if pa.types.is_timestamp(kind) else text


def _has_floats(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(_has_floats(field.type) for field in kind)
    return _has_floats(kind.value_type) if _is_list(kind) else pa.types.is_floating(kind)


def _all_finite(column: pa.Array) -> bool:
    kind = column.type
    if pa.types.is_struct(kind):
        return all(_all_finite(child) for child in column.flatten() if _has_floats(child.type))
    if _is_list(kind):
        return _all_finite(column.flatten())
    return pc.all(pc.is_finite(column), min_count=0).as_py() is not False


def _is_finite(value: object) -> bool:
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _named(kind: pa.DataType) -> str:
    if _is_list(kind):
        return "a list"
    if pa.types.is_struct(kind):
        return "an object"
    return "JSON" if isinstance(kind, pa.JsonType) else f"a value of {kind}"


def _cell_column(column: pa.Array, name: str) -> pa.Array:
    kind = column.type
    if pa.types.is_struct(kind) or _is_list(kind) or isinstance(kind, pa.JsonType) or _without_json(kind):
        nulls = column.is_null().to_pylist()
        if False in nulls:
            raise CannotHold(nulls.index(False), name, f"a CSV cannot hold {_named(kind)}")
        return pa.nulls(len(column), pa.string())
    if pa.types.is_floating(kind):
        return pa.array([None if value is None else repr(value) for value in column.to_pylist()], pa.string())
    if pa.types.is_null(kind):
        return pa.nulls(len(column), pa.string())
    return _temporal_as_text(column)
