"""Rows become events: their columns in the types of their kind, their values checked, the envelope added.

Not here: how events reach a table (`log`).
"""

import numbers
from collections.abc import Iterator
from datetime import datetime

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lake.errors import InvalidRows
from lake.ids import ids_of
from lake.kinds import GIVEN_ENVELOPE, SCHEMA_VERSION, Kind

_TIME_LIMIT = 1 << 56
_SLICE_BYTES = 1 << 28  # of Arrow data at a time: the offsets of a text column end at 2 GiB
_NARROW_BYTES = 1 << 30  # of text that is cast at a time, from a type whose offsets are wider
DEEPEST_JSON = 256  # levels: more than ingest lets in, less than at which the first reader gives up

_JSON = msgspec.json.Decoder(msgspec.Raw)
_NUMBERS = msgspec.json.Decoder()
# Whatever is too large for a double has this many digits, or an exponent of three.
_LARGE_NUMBER = "[0-9]{200}|[0-9][eE][+]?[0-9]{3}"


def to_table(kind: Kind, rows: pa.Table | pa.RecordBatch | list[dict[str, object]]) -> pa.Table:
    """Rows as a table of the kind's own columns plus `recorded_at` and `source`, exactly.

    Missing nullable columns become null. Every cast is lossless or refused, text is valid UTF-8, JSON columns hold
    JSON, enums hold their values. Raises InvalidRows.
    """
    given = _from_dicts(kind, rows) if isinstance(rows, list) else _checked(kind, rows)
    fields = [field for field in kind.schema if field.name in GIVEN_ENVELOPE or field in kind.columns]
    known = {field.name for field in fields}
    unknown = [name for name in given.column_names if name not in known]
    if unknown:
        raise InvalidRows(
            f"{kind.name} has no column {', '.join(map(repr, unknown))}",
            f"its columns are {', '.join(sorted(known))}; carry anything else as JSON text in 'extra'",
        )
    columns = []
    for field in fields:
        if field.name in given.column_names:
            columns.append(_exact(kind, field, given.column(field.name)))
        elif field.nullable:
            columns.append(pa.nulls(given.num_rows, field.type))
        else:
            raise InvalidRows(f"{kind.name} needs the column {field.name!r}")
    table = pa.table(columns, schema=pa.schema(fields))
    _check_values(kind, table)
    return table


def with_ids(kind: Kind, table: pa.Table, batch: str) -> pa.Table:
    """The events of a table made by `to_table`: the envelope added, in the order and schema of the table."""
    rows = len(table)
    made: dict[str, pa.Array | pa.ChunkedArray] = {
        "event_id": pa.chunked_array([ids_of(kind, part) for part in slices(table, _SLICE_BYTES)], pa.string()),
        "schema_version": pa.array(np.full(rows, SCHEMA_VERSION, np.int32)),
        "batch": pa.repeat(batch, rows),
    }
    schema = kind.schema
    return pa.table([made[name] if name in made else table.column(name) for name in schema.names], schema=schema)


def slices(table: pa.Table, limit: int) -> Iterator[pa.Table]:
    """The table's rows in order, in slices of at most `limit` bytes of Arrow data, or of one row."""
    if len(table) > 1 and table.nbytes > limit:
        half = len(table) // 2
        yield from slices(table.slice(0, half), limit)
        yield from slices(table.slice(half), limit)
    elif len(table):
        yield table


def _checked(kind: Kind, rows: pa.Table | pa.RecordBatch) -> pa.Table:
    table = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
    twice = sorted({name for name in table.column_names if table.column_names.count(name) > 1})
    if twice:
        raise InvalidRows(f"{kind.name}: the column {twice[0]!r} is there twice")
    try:
        # Before anything else looks at it: an offset out of bounds or half a character would lead others astray.
        table.validate(full=True)
    except pa.ArrowInvalid as error:
        raise InvalidRows(f"{kind.name}: {error}") from None
    return table


def _from_dicts(kind: Kind, rows: list[dict[str, object]]) -> pa.Table:
    if not rows:
        return kind.columns.empty_table()
    fields = {field.name: field for field in kind.schema}
    columns: dict[str, pa.Array] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        if name not in fields:
            columns[str(name)] = pa.nulls(len(rows))
            continue
        wanted = fields[name].type
        for row, value in enumerate(values):
            if not _means(value, wanted):
                hint = "write datetime.now(UTC), or parse the text first" if name == "recorded_at" else None
                raise InvalidRows(f"{kind.name}: column {name!r}, row {row}: {value!r:.80} is no {wanted}", hint)
        try:
            columns[name] = pa.array(values, wanted)
        except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError, OverflowError) as error:
            raise InvalidRows(f"{kind.name}: column {name!r}: {error}") from None
    return pa.table(columns)


def _means(value: object, wanted: pa.DataType) -> bool:
    """Whether a Python value is of this type. Arrow itself would also take bytes for text and 'ab' for ['a', 'b']."""
    if value is None:
        return True
    if pa.types.is_string(wanted):
        return isinstance(value, str)
    if pa.types.is_list(wanted):
        return isinstance(value, list | tuple) and all(_means(item, wanted.value_type) for item in value)
    if pa.types.is_struct(wanted):
        types = {field.name: field.type for field in wanted}
        return isinstance(value, dict) and all(name in types and _means(value[name], types[name]) for name in value)
    if pa.types.is_timestamp(wanted):
        return isinstance(value, datetime) and value.tzinfo is not None
    if pa.types.is_boolean(wanted):
        return isinstance(value, bool)
    number = numbers.Integral if pa.types.is_integer(wanted) else numbers.Real
    return isinstance(value, number) and not isinstance(value, bool)


def _exact(kind: Kind, field: pa.Field, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column in the field's type, value for value the same. Raises InvalidRows."""
    if column.type != field.type:
        if not _keeps(column.type, field.type):
            raise InvalidRows(
                f"{kind.name}: column {field.name!r} is {column.type}, not {field.type}",
                "convert it before it is appended; the lake changes no value",
            )
        try:
            column = pa.chunked_array([part.cast(field.type) for part in _narrow(column)], field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InvalidRows(f"{kind.name}: column {field.name!r}: {error}") from None
    return column


def _narrow(column: pa.ChunkedArray) -> Iterator[pa.Array]:
    """The column's values in arrays none of which has more text than an array with narrow offsets can hold."""
    for chunk in column.chunks:
        if chunk.nbytes <= _NARROW_BYTES:
            yield chunk
            continue
        for part in slices(pa.table({"": chunk}), _NARROW_BYTES):
            # A slice keeps its place among the offsets of the whole, which may be past what narrow ones reach.
            yield pa.concat_arrays([part.column(0).chunk(0), chunk[:0]])


def _keeps(given: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a checked cast from one type to the other can only keep each value or fail."""
    if given == wanted or pa.types.is_null(given):
        return True
    if pa.types.is_dictionary(given):
        return _keeps(given.value_type, wanted)
    if pa.types.is_string(wanted):
        return pa.types.is_large_string(given) or pa.types.is_string_view(given)
    if pa.types.is_list(wanted):
        lists = pa.types.is_list(given) or pa.types.is_large_list(given)
        return lists and _keeps(given.value_type, wanted.value_type)
    if pa.types.is_struct(wanted):
        names = [wanted.field(i).name for i in range(wanted.num_fields)]
        return (
            pa.types.is_struct(given)
            and [given.field(i).name for i in range(given.num_fields)] == names
            and all(_keeps(given.field(name).type, wanted.field(name).type) for name in names)
        )
    if pa.types.is_timestamp(wanted):
        return pa.types.is_timestamp(given) and given.tz is not None
    if pa.types.is_integer(wanted):
        return pa.types.is_integer(given)
    return pa.types.is_floating(wanted) and (pa.types.is_integer(given) or pa.types.is_float32(given))


def _check_values(kind: Kind, table: pa.Table) -> None:
    for field in kind.columns:
        column = table.column(field.name)
        if not field.nullable:
            blank = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(column), ""), True)
            _refuse(kind, field.name, column, blank, "is missing or blank")
        if field.name in kind.enums:
            allowed = pa.array([*kind.enums[field.name], None], pa.string())
            _refuse(
                kind,
                field.name,
                column,
                pc.invert(pc.is_in(column, allowed)),
                f"is not one of {', '.join(kind.enums[field.name])}",
            )
        if pa.types.is_floating(field.type):
            _refuse(kind, field.name, column, pc.invert(pc.is_finite(column)), "is not a finite number")
        if pa.types.is_list(field.type):
            holes = np.asarray(pc.is_null(pc.list_flatten(column)))
            ends = np.cumsum(np.asarray(pc.fill_null(pc.list_value_length(column), 0)))
            rows = np.searchsorted(ends, np.flatnonzero(holes), side="right")
            _refuse(kind, field.name, column, pa.array(np.isin(np.arange(len(column)), rows)), "has a null element")
        if field.name in kind.json:
            _check_json(kind, field.name, column)
    _check_times(kind, table.column("recorded_at"))


def _refuse(kind: Kind, name: str, column: pa.ChunkedArray, bad: pa.ChunkedArray, what: str) -> None:
    if pc.any(bad, min_count=0).as_py():
        row = pc.index(bad, True).as_py()
        raise InvalidRows(f"{kind.name}: column {name!r}, row {row}: {column[row].as_py()!r:.80} {what}")


def _check_json(kind: Kind, name: str, column: pa.ChunkedArray) -> None:
    """Refuse what is no JSON, and JSON that some reader of it would not take, or would take for something else."""
    if column.null_count == len(column):
        return
    large = np.asarray(pc.fill_null(pc.match_substring_regex(column, _LARGE_NUMBER), False))
    for row, value in enumerate(column.to_pylist()):
        if value is None:
            continue
        try:
            (_NUMBERS if large[row] else _JSON).decode(value)
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidRows(f"{kind.name}: column {name!r}, row {row} is not JSON: {error}") from None
        if len(value) > 2 * DEEPEST_JSON and _depth(value) > DEEPEST_JSON:
            raise InvalidRows(f"{kind.name}: column {name!r}, row {row} is deeper than {DEEPEST_JSON} levels")


def _depth(text: str) -> int:
    """How many lists and objects are within one another, in JSON that holds; at most, if that is no matter."""
    depth = text.count("[") + text.count("{")
    if depth <= DEEPEST_JSON:
        return depth
    depth, level = 0, [_NUMBERS.decode(text)]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return depth


def _check_times(kind: Kind, column: pa.ChunkedArray) -> None:
    micros = column.cast(pa.int64())
    bad = pc.fill_null(pc.or_(pc.less(micros, 0), pc.greater_equal(micros, _TIME_LIMIT)), False)
    if pc.any(bad, min_count=0).as_py():
        row = pc.index(bad, True).as_py()
        raise InvalidRows(f"{kind.name}: column 'recorded_at', row {row}: the time is not between 1970 and 4253")
