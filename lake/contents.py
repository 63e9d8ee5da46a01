"""What is in data files, read in full: whether they are what their commits say, and hold each event once.

An event's id is a function of what the event says, so each is worked out again and compared. Memory is bounded by one
batch of rows and, for a table, eight bytes an event.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.events import with_ids
from lake.findings import Code
from lake.ids import keys_of
from lake.kinds import Kind
from lake.snapshots import BATCH_ROWS, FilePin, odd_column

Source = Callable[[str], Any]
TWICE_TOLD = 20  # ids that are in a table twice, at most, that are named


def problem_with_file(source: Any, kind: Kind, file: FilePin) -> tuple[Code, str] | np.ndarray:
    """What is wrong with a data file's contents, or the keys of its events, shape (n,), uint64.

    Raises FileNotFoundError.
    """
    keys: list[np.ndarray] = []
    ends: list[str] = []
    try:
        with pq.ParquetFile(source, page_checksum_verification=True) as parquet:
            if odd := odd_column(kind, parquet.schema_arrow):
                return Code.FILE_CONTENT, odd
            for batch in parquet.iter_batches(BATCH_ROWS):
                events = _whole(kind, pa.Table.from_batches([batch]))
                events.validate(full=True)
                ids = events.column("event_id").combine_chunks()
                made = with_ids(kind, events, "").column("event_id").combine_chunks()
                if not ids.equals(made):
                    row = int(np.flatnonzero(~np.asarray(pc.fill_null(pc.equal(ids, made), False)))[0])
                    return Code.EVENT_ID, f"row {row + sum(map(len, keys))} does not say what its id {ids[row]} says"
                ends += pc.min_max(ids).as_py().values()
                keys.append(keys_of(ids))
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError, IndexError) as error:
        return Code.FILE_UNREADABLE, f"cannot be read: {(str(error).splitlines() or [type(error).__name__])[0]:.160}"
    rows = sum(map(len, keys))
    if rows != file.rows:
        return Code.FILE_CONTENT, f"{rows} rows where {file.rows} were written"
    if rows and (min(ends), max(ends)) != (file.first_id, file.last_id):
        return Code.FILE_CONTENT, "its events' ids are not in the range that its commit says"
    return np.concatenate(keys) if keys else np.empty(0, np.uint64)


def twice(source: Source, files: Iterable[FilePin], keys: Iterable[np.ndarray]) -> Iterator[tuple[str, int]]:
    """Ids that files hold more than once, with how often; the first few. `keys` are those of the files' events."""
    runs = list(keys)
    every = np.concatenate(runs) if runs else np.empty(0, np.uint64)
    runs.clear()
    every.sort()
    suspects = np.unique(every[1:][every[1:] == every[:-1]])
    if not len(suspects):
        return
    found: list[pa.Array] = []
    for file in files:
        column = pq.read_table(source(file.path), columns=["event_id"]).column(0).combine_chunks()
        at = np.searchsorted(suspects, own := keys_of(column))
        at[at == len(suspects)] = 0
        found.append(column.filter(pa.array(suspects[at] == own)))
    # Whole ids, since two of them may have one key.
    counts = pc.value_counts(pa.concat_arrays(found))
    often = counts.filter(pc.greater(counts.field("counts"), 1))
    for one in often[:TWICE_TOLD].to_pylist():
        yield one["values"], one["counts"]


def batch_of(source: Any) -> str | None:
    """The batch that brought the first event of a data file, or None if it cannot be read."""
    try:
        with pq.ParquetFile(source, page_checksum_verification=True) as parquet:
            first = next(parquet.iter_batches(1, columns=["batch"]), None)
    except (OSError, pa.ArrowException, ValueError):
        return None
    return first.column(0)[0].as_py() if first is not None and len(first) else None


def _whole(kind: Kind, events: pa.Table) -> pa.Table:
    """The events with every column of the kind, those that are younger than the file null."""
    columns = [
        events.column(field.name) if field.name in events.column_names else pa.nulls(len(events), field.type)
        for field in kind.schema
    ]
    return pa.table(columns, schema=kind.schema)
