"""The second look at every row before it is written.

The firewall has two layers, and either alone would hold. The first is SQL: the dataset views select nothing that is
forbidden. This is the second, and it trusts the views with nothing: it checks each finished row, by columns, against
what a dataset may never hold. A row that fails here got past a view that should have stopped it, so the whole export
is refused and nothing is written.

Here is how rows are checked, and the faults that several datasets know; which of them a dataset has, its own file says.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, TypeVar

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from exporters.dataset import Fault, Rows
from exporters.shapes import ROLES
from lake.errors import LakeError

_Value = TypeVar("_Value")

_SHOWN = 10
_SHA256 = r"^[0-9a-f]{64}$"


class FirewallBreach(LakeError):
    """A view let through rows that its dataset must never hold; nothing was written. `rows` are the first of them."""

    def __init__(self, message: str, hint: str | None = None, rows: "tuple[BadRow, ...]" = ()) -> None:
        super().__init__(message, hint)
        self.rows = rows


class BadRow(msgspec.Struct, frozen=True):
    """A row that may not be written: its place in the export, from 1, its id, and why."""

    row: int
    id: str
    why: str


def check(rows: Rows, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same batches, each looked at before it is handed on. Raises FirewallBreach at the first that holds a bad row.

    A batch has the columns of `Rows.query`. That ids are unique is for the end, and for `repeated_ids`.
    """
    seen = 1
    for batch in batches:
        bad = _bad_rows(rows, batch, seen)
        if bad:
            raise _breach(rows.dataset.name, bad)
        seen += len(batch)
        yield batch


def repeated_ids(keys: np.ndarray) -> int:
    """How many rows repeat the id of another, from 64-bit keys of their ids, shape (rows,)."""
    return len(keys) - len(np.unique(keys))


def _breach(dataset: str, bad: list[BadRow]) -> FirewallBreach:
    first = bad[0]
    more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
    return FirewallBreach(
        f"{dataset}: row {first.row} ({first.id}): {first.why}{more}; nothing was written",
        f"the view '{dataset}' let it through; export without --views to use the installed one",
        tuple(bad[:_SHOWN]),
    )


def _bad_rows(rows: Rows, batch: pa.RecordBatch, start: int) -> list[BadRow]:
    found: dict[int, str] = {}
    for mask, why in rows.dataset.faults(rows, batch):
        if pc.any(mask, min_count=0).as_py():
            for place in np.flatnonzero(np.asarray(pc.fill_null(mask, True))).tolist():
                found.setdefault(place, why if isinstance(why, str) else why(place))
    ids = batch.column("id")
    return [BadRow(start + place, str(ids[place]), found[place]) for place in sorted(found)]


def blank(batch: pa.RecordBatch, *names: str) -> Iterator[Fault]:
    """Texts that are missing, or white space alone."""
    for name in names:
        column = batch.column(name)
        yield pc.is_null(column), f"{name} is missing"
        yield is_blank(column), f"{name} is empty after stripping"


def is_blank(column: pa.Array) -> pa.Array:
    """Which texts are white space alone, or nothing; null where the text is."""
    # A text of white space alone; it looks no further than the first character that is none.
    return pc.or_(pc.equal(pc.binary_length(column), 0), pc.utf8_is_space(column))


def not_in(column: pa.Array, values: frozenset[str]) -> pa.Array:
    """Which values are none of these; a null is none of them."""
    return pc.invert(pc.is_in(column, pa.array(sorted(values), pa.string())))


def provenance(column: pa.Array, name: str) -> Iterator[Fault]:
    """Sources that do not name a file, or the sha256 of a row."""
    yield pc.is_null(column), f"{name} is missing"
    for field in ("file", "sha256"):
        values = pc.struct_field(column, field)
        yield pc.or_(pc.is_null(values), pc.fill_null(is_blank(values), True)), f"{name}.{field} is missing"
    digest = pc.struct_field(column, "sha256")
    yield pc.invert(pc.match_substring_regex(digest, _SHA256)), f"{name}.sha256 is no sha256"


def turns(column: pa.Array, name: str, last: str | None) -> Iterator[Fault]:
    """Faults of a column of lists of {role, content}, of which the last is to be of this role, if one is given."""
    count = pc.fill_null(pc.list_value_length(column), 0)
    yield pc.equal(count, 0), f"{name} must be a list of turns"
    flat = column.flatten()
    parents = np.asarray(pc.list_parent_indices(column))
    roles = pc.struct_field(flat, "role")
    contents = pc.struct_field(flat, "content")
    yield _of_parents(not_in(roles, frozenset(ROLES)), parents, len(column)), f"{name}: a role is unknown"
    yield _of_parents(pc.is_null(contents), parents, len(column)), f"{name}: a content is missing"
    if last is not None:
        yield pc.not_equal(last_of(column, "role"), last), f"{name} must end with a turn of the {last}"
    yield is_blank(last_of(column, "content")), f"{name}: the last content is empty after stripping"


def _of_parents(bad: pa.Array, parents: np.ndarray, rows: int) -> pa.Array:
    marked = np.zeros(rows, bool)
    marked[parents[np.asarray(pc.fill_null(bad, True))]] = True
    return pa.array(marked)


def last_of(column: pa.Array, field: str) -> pa.Array:
    """A field of the last element of each list; null where a list is null or empty."""
    counts = np.asarray(pc.fill_null(pc.list_value_length(column), 0), np.int64)
    ends = np.cumsum(counts) - 1
    places = pa.array(ends, pa.int64(), mask=counts == 0)
    return pc.struct_field(column.flatten(), field).take(places)


class _Turn(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[object] | None = None
    tool_calls: list[object] | None = None


_CONVERSATION = msgspec.json.Decoder(list[_Turn])


def free_form(column: pa.Array) -> Iterator[Fault]:
    """Faults of a column of conversations in JSON, row by row: their keys are their own."""
    yield from row_faults(column.to_pylist(), conversation_fault)


def row_faults(values: Sequence[_Value], fault: Callable[[_Value], str | None]) -> Iterator[Fault]:
    """Faults that only a look at each row by itself can find."""
    faults = {place: why for place, value in enumerate(values) if (why := fault(value)) is not None}
    marked = np.zeros(len(values), bool)
    marked[list(faults)] = True
    yield pa.array(marked), faults.__getitem__


def conversation_fault(text: str | bytes | None) -> str | None:
    """Why a JSON text is no conversation that ends with the assistant; None if it is one."""
    if text is None:
        return "messages is missing"
    try:
        turns = _CONVERSATION.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return f"messages must be a list of turns: {error}"
    if not turns:
        return "messages must be a list of turns"
    last = turns[-1]
    if last.role != "assistant":
        return "messages must end with a turn of the assistant"
    if not (last.content.strip() if isinstance(last.content, str) else last.content) and not last.tool_calls:
        return "messages: the last content is empty after stripping"
    return None
