"""What an event is: the kinds, their columns, and the id that an event's content gives it.

One kind is one append-only table. Every event carries the envelope (`event_id`, `recorded_at`, `schema_version`,
`source`, `batch`) and the columns of its kind. What is filtered or joined on has a column; everything else travels as
JSON text in `extra`. The types are those that Delta, DuckDB, pyarrow and Spark all keep exactly.

Not here: how rows reach a table (`log`), or what they mean together (the views).
"""

import hashlib
import numbers
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lake.errors import InvalidRows, UsageError

SCHEMA_VERSION = 1

EVIDENCE_KINDS = ("completion", "trajectory", "mutation", "document")
ROLES = (
    "executor",
    "reviewer",
    "extractor",
    "verifier",
    "categorizer",
    "tiebreaker",
    "applier",
    "embedder",
    "other",
)
CATEGORIES = ("accepted", "partially_accepted", "rejected", "needs_human_review")
RETRACTION_TARGETS = ("event", "run", "task", "source")
SECTION_TYPES = ("prose", "instruction", "preference")
REPORTS = ("training", "evaluation")

TIMESTAMP = pa.timestamp("us", "UTC")
SOURCE = pa.struct(
    [
        pa.field("file", pa.string()),
        pa.field("line", pa.int64()),
        pa.field("sha256", pa.string()),
    ]
)


@dataclass(frozen=True)
class Kind:
    """One kind of event.

    `columns` are the kind's own, a non-nullable one must be given and, if text, not blank. `enums` lists the values
    that a column may take, `json` the columns that hold JSON text. A `ledger` describes the lake itself and is no part
    of a snapshot. `placed` kinds are facts about a place in a file, so the place is part of what they say. `optional`
    kinds came later than the first lakes, and are no part of a snapshot before they are used: what is pinned again
    after an upgrade has the id that it had.
    """

    name: str
    one_row: str
    columns: pa.Schema
    enums: dict[str, tuple[str, ...]]
    json: tuple[str, ...]
    ledger: bool = False
    placed: bool = False
    optional: bool = False

    @property
    def schema(self) -> pa.Schema:
        """The table's columns: the envelope, then the kind's own."""
        return pa.schema([*ENVELOPE, *self.columns])


ENVELOPE = (
    pa.field("event_id", pa.string(), nullable=False),
    pa.field("recorded_at", TIMESTAMP),
    pa.field("schema_version", pa.int32(), nullable=False),
    pa.field("source", SOURCE),
    pa.field("batch", pa.string(), nullable=False),
)
GIVEN_ENVELOPE = ("recorded_at", "source")

ID_LENGTH = 47
_TIME_LIMIT = 1 << 56
_SLICE_BYTES = 1 << 28  # of Arrow data at a time: the offsets of a text column end at 2 GiB
_NARROW_BYTES = 1 << 30  # of text that is cast at a time, from a type whose offsets are wider
DEEPEST_JSON = 256  # levels: more than ingest lets in, less than at which the first reader gives up

_JSON = msgspec.json.Decoder(msgspec.Raw)
_NUMBERS = msgspec.json.Decoder()
# Whatever is too large for a double has this many digits, or an exponent of three.
_LARGE_NUMBER = "[0-9]{200}|[0-9][eE][+]?[0-9]{3}"


def _text(name: str, *, required: bool = False) -> pa.Field:
    return pa.field(name, pa.string(), nullable=not required)


def _texts(name: str) -> pa.Field:
    return pa.field(name, pa.list_(pa.field("element", pa.string())))


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "evidence",
            "one thing that a model or a person produced",
            pa.schema(
                [
                    _text("run_id", required=True),
                    _text("task_id", required=True),
                    _text("kind", required=True),
                    _text("role", required=True),
                    _text("model"),
                    _text("stream"),
                    _text("prompt"),
                    _text("messages"),
                    _text("text"),
                    _texts("source_files"),
                    _text("extra"),
                ]
            ),
            enums={"kind": EVIDENCE_KINDS, "role": ROLES},
            json=("messages", "extra"),
        ),
        Kind(
            "scores",
            "one verdict of one version of a scorer on one run",
            pa.schema(
                [
                    _text("run_id", required=True),
                    _text("task_id"),
                    _text("scorer", required=True),
                    _text("scorer_version", required=True),
                    _text("category", required=True),
                    pa.field("score", pa.float64()),
                    _text("sub_scores"),
                    _texts("reasons"),
                    _text("actor"),
                    _text("extra"),
                ]
            ),
            enums={"category": CATEGORIES},
            json=("sub_scores", "extra"),
        ),
        Kind(
            "tasks",
            "one task, with what its runs are checked against",
            pa.schema(
                [
                    _text("task_id", required=True),
                    _text("language"),
                    _text("description"),
                    _text("starter_code"),
                    _text("tests"),
                    _text("entry_point"),
                    _text("answer"),
                    _text("split"),
                    _text("extra"),
                ]
            ),
            enums={},
            json=("extra",),
        ),
        Kind(
            "annotations",
            "one finding of one version of an annotator on one event",
            pa.schema(
                [
                    _text("target", required=True),
                    _text("run_id"),
                    _text("task_id"),
                    _text("annotator", required=True),
                    _text("annotator_version", required=True),
                    _text("label"),
                    pa.field("value", pa.float64()),
                    _text("spans"),
                    _text("against"),
                    _text("extra"),
                ]
            ),
            enums={},
            json=("spans", "extra"),
            optional=True,
        ),
        Kind(
            "prompts",
            "one prompt, or its place in a pool",
            pa.schema(
                [
                    _text("prompt_id", required=True),
                    _text("text", required=True),
                    _text("messages"),
                    _text("domain"),
                    _text("language"),
                    _text("split"),
                    _text("pool"),
                    _text("extra"),
                ]
            ),
            enums={},
            json=("messages", "extra"),
            optional=True,
        ),
        Kind(
            "replay",
            "one sighting of a section of a training document",
            pa.schema(
                [
                    _text("section_id", required=True),
                    _text("section_type", required=True),
                    _text("content", required=True),
                    pa.field("content_bytes", pa.int64()),
                    _text("document"),
                    _text("training_run"),
                    pa.field("weight", pa.float64()),
                    pa.field("auto_mined", pa.bool_()),
                    _text("judge_name"),
                    pa.field("judge_score_chosen", pa.float64()),
                    pa.field("judge_score_rejected", pa.float64()),
                    pa.field("mined_at", TIMESTAMP),
                    pa.field("mined_run_id", pa.int64()),
                    _text("extra"),
                ]
            ),
            enums={"section_type": SECTION_TYPES},
            json=("extra",),
            optional=True,
        ),
        Kind(
            "retractions",
            "one withdrawal of events, by event, run, task or source",
            pa.schema(
                [
                    _text("target_type", required=True),
                    _text("target", required=True),
                    _text("reason"),
                    _text("actor"),
                    _text("extra"),
                ]
            ),
            enums={"target_type": RETRACTION_TARGETS},
            json=("extra",),
        ),
        Kind(
            "rejects",
            "one input that could not become an event",
            pa.schema(
                [
                    _text("kind", required=True),
                    _text("reader", required=True),
                    _text("reason", required=True),
                    _texts("errors"),
                    _text("raw"),
                    _text("raw_encoding"),
                    _text("extra"),
                ]
            ),
            enums={"raw_encoding": ("utf-8", "latin-1")},
            json=("extra",),
            placed=True,
        ),
        Kind(
            "snapshots",
            "one name or note given to a pin",
            pa.schema(
                [
                    _text("snapshot_id", required=True),
                    _text("name"),
                    _text("note"),
                    _text("actor"),
                ]
            ),
            enums={},
            json=(),
            ledger=True,
        ),
        Kind(
            "receipts",
            "one thing that the lake did",
            pa.schema(
                [
                    _text("stage", required=True),
                    _text("inputs"),
                    _text("outputs"),
                    _text("counts"),
                    _text("versions"),
                    pa.field("duration_s", pa.float64()),
                    pa.field("passed", pa.bool_()),
                    _text("extra"),
                ]
            ),
            enums={},
            json=("inputs", "outputs", "counts", "versions", "extra"),
            ledger=True,
        ),
        Kind(
            "metrics",
            "one report of how a training run goes",
            pa.schema(
                [
                    _text("run", required=True),
                    _text("what", required=True),
                    pa.field("step", pa.int64()),
                    pa.field("session", pa.int64()),
                    pa.field("loss", pa.float64()),
                    pa.field("learning_rate", pa.float64()),
                    pa.field("grad_norm", pa.float64()),
                    pa.field("seconds", pa.float64()),
                    pa.field("tokens", pa.int64()),
                    pa.field("trained_tokens", pa.int64()),
                    pa.field("tokens_per_second", pa.float64()),
                    pa.field("data_wait", pa.float64()),
                    _text("extra"),
                ]
            ),
            enums={"what": REPORTS},
            json=("extra",),
            ledger=True,
        ),
    )
}

# Dependent before depended-on: a pin reads versions in this order, so no pinned score lacks its evidence and no pinned
# fact its withdrawal, although tables commit one by one.
PIN_ORDER = ("rejects", "annotations", "scores", "evidence", "replay", "prompts", "tasks", "retractions")
LEDGERS = tuple(kind.name for kind in KINDS.values() if kind.ledger)


def kind_named(name: str) -> Kind:
    """The kind of this name. Raises UsageError."""
    try:
        return KINDS[name]
    except KeyError:
        raise UsageError(
            f"there is no kind of event named {name!r}",
            f"the kinds are {', '.join(KINDS)}",
        ) from None


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
    """The events of a table made by `to_table`: the envelope added, in the order and schema of the table.

    An id is 14 hexadecimal digits of `recorded_at` in microseconds since 1970 (zeros where unknown), a hyphen, and the
    first 32 of the sha256 of what the event says: its kind, time and non-null columns, each with its name and length,
    so no two contents share an encoding and a column that is added later changes no id.
    """
    rows = len(table)
    made: dict[str, pa.Array | pa.ChunkedArray] = {
        "event_id": pa.chunked_array([_ids(kind, part) for part in slices(table, _SLICE_BYTES)], pa.string()),
        "schema_version": pa.array(np.full(rows, SCHEMA_VERSION, np.int32)),
        "batch": pa.repeat(batch, rows),
    }
    schema = kind.schema
    return pa.table([made[name] if name in made else table.column(name) for name in schema.names], schema=schema)


def keys_of(ids: pa.Array) -> np.ndarray:
    """A 64-bit key for each event id, shape (n,), uint64: equal ids have equal keys, and hardly any others."""
    ids = _one_array(ids) if isinstance(ids, pa.ChunkedArray) else ids
    if len(ids) == 0:
        return np.empty(0, np.uint64)
    text = _characters(ids).reshape(-1, ID_LENGTH)
    halves = np.ascontiguousarray(text[:, -32:]).view(np.uint64)
    mixed = halves[:, 0]
    for column in range(1, 4):
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15) + halves[:, column]
    return mixed ^ (mixed >> np.uint64(32))


def digest_of(ids: pa.ChunkedArray) -> str:
    """The sha256 of event ids one after the other: what tells a batch that is sent again from another one."""
    made = hashlib.sha256()
    for chunk in ids.chunks:
        made.update(_characters(chunk).data)
    return made.hexdigest()


def slices(table: pa.Table, limit: int) -> Iterator[pa.Table]:
    """The table's rows in order, in slices of at most `limit` bytes of Arrow data, or of one row."""
    if len(table) > 1 and table.nbytes > limit:
        half = len(table) // 2
        yield from slices(table.slice(0, half), limit)
        yield from slices(table.slice(half), limit)
    elif len(table):
        yield table


def _characters(ids: pa.Array) -> np.ndarray:
    """The characters of event ids, one id after the other, without a copy."""
    if len(ids) == 0:
        return np.empty(0, np.uint8)
    start = np.frombuffer(ids.buffers()[1], np.int32)[ids.offset]
    return np.frombuffer(ids.buffers()[2], np.uint8)[start : start + len(ids) * ID_LENGTH]


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


def _ids(kind: Kind, table: pa.Table) -> pa.Array:
    names = [*kind.columns.names, *(("source",) if kind.placed else ())]
    parts: list[pa.Array] = []
    for name in names:
        said = _said(_one_array(table.column(name)))
        if said.null_count == len(said):
            continue
        length = pc.binary_length(said).cast(pa.string())
        parts += [pc.binary_join_element_wise(f"\n{name}=", length, ":", "").cast(pa.binary()), said.cast(pa.binary())]
    column = _one_array(table.column("recorded_at")).cast(pa.int64())
    times = _hexadecimal(np.asarray(pc.fill_null(column, 0)))
    short = pc.utf8_ltrim(_texts_of(times), "0")
    told = pc.if_else(pc.is_null(column), "?", pc.if_else(pc.equal(short, ""), "0", short))
    parts.insert(0, pc.binary_join_element_wise(kind.name, told, "\n").cast(pa.binary()))
    contents = pc.binary_join_element_wise(*parts, b"", null_handling="skip")
    offsets = np.frombuffer(contents.buffers()[1], np.int32)[: len(contents) + 1].tolist()
    data = memoryview(contents.buffers()[2])
    digests = b"".join([hashlib.sha256(data[start:end]).digest() for start, end in pairwise(offsets)])
    ids = np.empty((len(contents), ID_LENGTH), np.uint8)
    ids[:, :14] = times
    ids[:, 14] = ord("-")
    ids[:, 15:] = np.frombuffer(digests.hex().encode(), np.uint8).reshape(-1, 64)[:, :32]
    return _texts_of(ids)


def _hexadecimal(values: np.ndarray) -> np.ndarray:
    """Numbers below 2^56 as 14 hexadecimal digits each, shape (n, 14), ASCII."""
    shifts = np.arange(52, -4, -4, dtype=np.int64)
    digits = (values[:, None] >> shifts) & 15
    return np.frombuffer(b"0123456789abcdef", np.uint8)[digits]


def _texts_of(characters: np.ndarray) -> pa.Array:
    """Texts of one length, from their ASCII characters, shape (n, length)."""
    count, length = characters.shape
    offsets = np.arange(count + 1, dtype=np.int32) * length
    data = np.ascontiguousarray(characters)
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(data))


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _said(column: pa.Array) -> pa.Array:
    """A column as text that stays the same under every version of every library."""
    if pa.types.is_string(column.type):
        return column
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.int64()).cast(pa.string())
    if pa.types.is_floating(column.type):
        bits = np.asarray(pc.fill_null(column, 0.0)).view(np.int64)
        return pc.if_else(pc.is_valid(column), pa.array(bits).cast(pa.string()), None)
    if pa.types.is_list(column.type):
        items = column.flatten()
        sized = pc.binary_join_element_wise(pc.binary_length(items).cast(pa.string()), items, ":")
        sizes = np.asarray(pc.fill_null(pc.list_value_length(column), 0))
        offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32))
        lists = pa.ListArray.from_arrays(offsets, sized, mask=pc.is_null(column))
        return pc.binary_join(lists, ",")
    if pa.types.is_struct(column.type):
        texts = [msgspec.json.encode(value, order="sorted").decode() for value in column.to_pylist()]
        return pa.array(texts, pa.string())
    return column.cast(pa.string())
