"""Data files: events as Parquet bytes with page checksums, under a name that begins with the hash of these bytes.

Not here: which files a table consists of (`log`).
"""

import json
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.commits import DataFile, digest
from lake.files import Store
from lake.snapshots import FilePin

# A row group is what a look-up reads: a quarter of what DuckDB scans fastest costs a scan nothing that can be measured.
ROW_GROUP = 32_768  # rows
ROW_GROUP_BYTES = 64 << 20  # of Arrow data
ENCODERS = 2

# Columns worth a dictionary: their values repeat.
_REPEATING = frozenset(
    {
        *("actor", "batch", "category", "kind", "language", "model", "raw_encoding", "reader", "reason", "role"),
        *("scorer", "scorer_version", "source.file", "split", "stage", "stream", "sub_scores", "target_type"),
        *("reasons.list.element", "task_id"),
    }
)

# Columns that are looked up by value: a Bloom filter tells which row groups cannot hold it. An id's time does that as
# well, but not where the times are unknown. Together they make a file of evidence two hundredths larger.
_LOOKED_UP = ("event_id", "run_id", "task_id")
_FALSE_POSITIVES = 0.01


def write(store: Store, folder: str, events: pa.Table) -> DataFile:
    """Put events into a folder of the store as one file, for good.

    No name is given twice: what a failed attempt left may be about to be tidied away, and is not counted on.
    """
    data = encode(events)
    sha256 = digest(data)
    name = f"{sha256}-{secrets.token_hex(4)}.parquet"
    store.write_new(f"{folder}/{name}", data)
    ids = pc.min_max(events.column("event_id")).as_py()
    return DataFile(FilePin(name, len(data), len(events), sha256, ids["min"], ids["max"]), _stats(events))


def encode(events: pa.Table) -> memoryview:
    """Events as the bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    group = max(1, min(ROW_GROUP, len(events), ROW_GROUP_BYTES * len(events) // max(1, events.nbytes)))
    pq.write_table(
        events,
        sink,
        row_group_size=group,
        compression="zstd",
        use_dictionary=[path for path in _leaves(events.schema) if path in _REPEATING],
        write_statistics=["event_id", "recorded_at"],
        write_page_checksum=True,
        bloom_filter_options={
            name: {"ndv": group, "fpp": _FALSE_POSITIVES} for name in _LOOKED_UP if name in events.schema.names
        },
    )
    return memoryview(sink.getvalue())


def once(events: pa.Table) -> pa.Table:
    """The table without the second and later events of one id."""
    keys = pc.dictionary_encode(events.column("event_id").combine_chunks()).indices
    _, first = np.unique(np.asarray(keys), return_index=True)
    if len(first) == len(events):
        return events
    mask = np.zeros(len(events), bool)
    mask[first] = True
    return events.filter(pa.array(mask))


def _leaves(schema: pa.Schema) -> Iterator[str]:
    for field in schema:
        if pa.types.is_struct(field.type):
            yield from (f"{field.name}.{field.type.field(i).name}" for i in range(field.type.num_fields))
        elif pa.types.is_list(field.type):
            yield f"{field.name}.list.element"
        else:
            yield field.name


def _stats(events: pa.Table) -> str:
    """Delta's per-file statistics, of the two columns by which files are skipped."""
    ids = pc.min_max(events.column("event_id")).as_py()
    times = pc.min_max(events.column("recorded_at")).as_py()
    lowest, highest = {"event_id": ids["min"]}, {"event_id": ids["max"]}
    if times["min"] is not None:
        lowest["recorded_at"], highest["recorded_at"] = (_iso(times[end]) for end in ("min", "max"))
    nulls = {name: events.column(name).null_count for name in ("event_id", "recorded_at")}
    return json.dumps({"numRecords": len(events), "minValues": lowest, "maxValues": highest, "nullCount": nulls})


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
