"""Small files become large ones, sorted by event id: the same events in fewer files, so that questions open fewer.

Ids begin with the time, so a file's range of ids is a span of time, and a look-up by id reads one file of many; Bloom
filters in it say whether it may hold a run or a task. The work goes in rounds that fit into memory. Each reads some
small files in the order of their ids, checks their bytes, writes the sorted rows, reads back what was written, proves
it to be the same rows one for one, and only then commits: the new files in, the old ones out, or neither.

Any number of compactors and writers may work at once. A commit lands on exactly the next version; whoever comes second
looks again, and where another compactor has replaced one of the files, the round is dropped. Old versions keep their
files: taking those away is `vacuum`'s.
"""

import random
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.commits import DataFile, commit_name, decode, digest, read_commit
from lake.datafiles import write
from lake.errors import Contended, Damaged, LakeError, UsageError
from lake.files import VERIFY, Store
from lake.kinds import KINDS, Kind, kind_named
from lake.lake import Lake
from lake.log import Head, Log
from lake.snapshots import FilePin

MIB = 1 << 20
PATIENCE = 60.0  # seconds of lost races before a round is dropped
MOST_FILES = 4096  # in one round
READERS = 8


@dataclass(frozen=True)
class Sizes:
    """What is small and what is large, in bytes of data before compression.

    A file below `small` is put together with others into files of about `target`; what is as large is left alone. A
    round takes up to `memory` at a time, and needs some four times that. Fewer than `fewest` files are left as they
    are.
    """

    target: int = 128 * MIB
    small: int = 16 * MIB
    memory: int = 256 * MIB
    fewest: int = 2

    def __post_init__(self) -> None:
        """Refuse sizes under which there would be no end, or no sense."""
        if not (0 < self.small <= self.target <= self.memory and self.fewest >= 2):
            raise UsageError(
                f"small files of {self.small} bytes cannot become files of {self.target} in {self.memory} of memory",
                "sizes are above 0: small files at most as large as the target, that at most as large as the memory",
            )


@dataclass(frozen=True)
class Round:
    """What one commit did, or for `plan` would do: `kind`'s table has the same `rows` in other files.

    `version` is the commit, or None where it is only planned, and so is `size_after`. Sizes are in bytes on the disk.
    """

    kind: str
    rows: int
    files_before: int
    files_after: int
    size_before: int
    size_after: int | None = None
    version: int | None = None


def plan(lake: Lake, kinds: Iterable[str] | None = None, sizes: Sizes | None = None) -> Iterator[Round]:
    """What compacting would begin with. Nothing is written."""
    sizes = sizes or Sizes()
    for kind in _kinds(kinds):
        weights: dict[str, int] = {}
        for files, parts in _rounds(lake.store, kind, lake.logs[kind.name].head().files, sizes, weights):
            yield Round(kind.name, sum(f.rows for f in files), len(files), parts, sum(f.size for f in files))


def compact(
    lake: Lake,
    kinds: Iterable[str] | None = None,
    sizes: Sizes | None = None,
) -> Iterator[Round]:
    """Compact the tables of some kinds, or all, until nothing is left to do; yields each round once it is committed.

    Events, versions and snapshots stay as they are. Raises Damaged if a file is not what was written, Contended if
    others won every race for the next version; what was committed before stays.
    """
    sizes = sizes or Sizes()
    for kind in _kinds(kinds):
        log = lake.logs[kind.name]
        weights: dict[str, int] = {}
        began = log.head()
        # What writers add from here on is the next run's, or there would be no end.
        ours = {file.path: file for file in began.files}
        while planned := _rounds(lake.store, kind, ours.values(), sizes, weights):
            for files, parts in planned:
                done, made = _round(lake.store, log, began, files, parts)
                # Where another compactor was faster, let it have these.
                for file in files:
                    del ours[file.path]
                ours.update({file.path: file for file in made})
                if done:
                    yield done
            began = log.head()


def _kinds(names: Iterable[str] | None) -> list[Kind]:
    return list(KINDS.values()) if names is None else [kind_named(name) for name in names]


def _names(files: Iterable[FilePin]) -> set[str]:
    return {file.path for file in files}


def _rounds(
    store: Store, kind: Kind, live: Iterable[FilePin], sizes: Sizes, weights: dict[str, int]
) -> list[tuple[list[FilePin], int]]:
    """The files of each round in the order of their ids, and how many they become: always fewer, so there is an end."""
    files = sorted((file for file in live if file.size < sizes.small), key=lambda file: (file.first_id, file.path))
    _weigh(store, kind, [file for file in files if file.path not in weights], weights)
    rounds: list[tuple[list[FilePin], int]] = []
    waiting: list[FilePin] = []
    total = 0
    for file in (file for file in files if weights[file.path] < sizes.small):
        if waiting and (total + weights[file.path] > sizes.memory or len(waiting) == MOST_FILES):
            rounds.append((waiting, -(-total // sizes.target)))
            waiting, total = [], 0
        waiting.append(file)
        total += weights[file.path]
    if waiting:
        rounds.append((waiting, -(-total // sizes.target)))
    return [(files, parts) for files, parts in rounds if len(files) >= sizes.fewest and parts < len(files)]


def _weigh(store: Store, kind: Kind, files: Sequence[FilePin], weights: dict[str, int]) -> None:
    """Note how many bytes of data each file holds before compression, as its last page says."""

    def weight(file: FilePin) -> int:
        try:
            found = pq.read_metadata(store.source(f"tables/{kind.name}/{file.path}"))
        except (OSError, pa.ArrowException) as error:
            raise Damaged(f"tables/{kind.name}/{file.path}: {error}", VERIFY) from None
        return max(1, sum(found.row_group(number).total_byte_size for number in range(found.num_row_groups)))

    with ThreadPoolExecutor(READERS) as pool:
        weights.update(zip([file.path for file in files], pool.map(weight, files), strict=True))


def _round(
    store: Store, log: Log, began: Head, files: Sequence[FilePin], parts: int
) -> tuple[Round | None, list[FilePin]]:
    """Replace some files by `parts` others; says what it did, and the new files. Nothing if another was faster."""
    made: list[DataFile] = []
    try:
        events = _read(store, log, files)
        order = np.asarray(pc.sort_indices(events.column("event_id")))
        made += (write(store, log.folder, events.take(pa.array(part))) for part in _cut(events, order, parts))
        _prove(store, log, events, order, made)
        del events
        version = _commit(store, log, began, files, made)
    except FileNotFoundError as error:
        if _names(files) <= _names(log.head().files):
            raise Damaged(f"{error.filename or error}: this data file is gone", VERIFY) from None
        # Replaced by another compactor and freed by vacuum since we looked.
        version = None
    if version is None:
        # No commit names them, and none can any more. No other file has their names.
        for file in made:
            store.remove(f"{log.folder}/{file.pin.path}")
        return None, []
    new = [file.pin for file in made]
    rows = sum(file.rows for file in new)
    before, after = (sum(file.size for file in some) for some in (files, new))
    return Round(log.kind.name, rows, len(files), len(new), before, after, version), new


def _read(store: Store, log: Log, files: Sequence[FilePin]) -> pa.Table:
    """The events of some files, one file after the other. What another program put there must not be made ours."""
    with ThreadPoolExecutor(READERS) as pool:
        tables = list(pool.map(lambda file: _read_one(store, log, file), files))
    return pa.concat_tables(tables).combine_chunks()


def _read_one(store: Store, log: Log, file: FilePin) -> pa.Table:
    name = f"{log.folder}/{file.path}"
    data = store.read(name)
    if digest(data) != file.sha256:
        raise Damaged(f"{name}: its bytes are not those that were written", VERIFY)
    table = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True).read()
    unknown = [column for column in table.column_names if column not in log.kind.schema.names]
    if unknown:
        raise LakeError(f"{name}: this version does not know its column {unknown[0]!r}", "install a newer version")
    columns = [
        table.column(field.name) if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in log.kind.schema
    ]
    return pa.table(columns, schema=log.kind.schema)


def _cut(events: pa.Table, order: np.ndarray, parts: int) -> list[np.ndarray]:
    """The rows in order, in so many parts of about the same number of bytes, none of them empty."""
    sizes = np.ones(len(events), np.int64)
    for column in events.columns:
        if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
            sizes += np.asarray(pc.fill_null(pc.binary_length(column), 0))
    ends = np.cumsum(sizes[order])
    cuts = np.searchsorted(ends, np.arange(1, parts) * (ends[-1] / parts))
    bounds = sorted({0, *(int(cut) for cut in cuts), len(order)})
    return [order[start:end] for start, end in pairwise(bounds)]


def _prove(store: Store, log: Log, events: pa.Table, order: np.ndarray, made: Sequence[DataFile]) -> None:
    """Read the files back, and compare them with the events row by row, value by value. Raises Damaged."""
    written = [store.read(f"{log.folder}/{file.pin.path}") for file in made]
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    back = [pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) for data in written]
    same = (
        all(digest(data) == file.pin.sha256 for data, file in zip(written, made, strict=True))
        # Each row has gone to one place, and no two to the same.
        and len(order) == len(events) == sum(file.pin.rows for file in made)
        and np.array_equal(np.sort(order), np.arange(len(events)))
    )
    for name in events.schema.names if same else ():
        column = pa.concat_tables([file.read(columns=[name]) for file in back]).combine_chunks().column(0)
        same = same and column.take(pa.array(place)).equals(events.column(name))
    if not same:
        raise Damaged(f"{log.folder}: what was written is not what was read; nothing was committed", VERIFY)


def _commit(store: Store, log: Log, began: Head, files: Sequence[FilePin], made: Sequence[DataFile]) -> int | None:
    """The version that has the new files in place of the old ones; None if there can be none. Raises Contended."""
    info = {"lake.rows": 0, "lake.what": f"compacted: {len(files)} files became {len(made)}"}
    old, new = _names(files), {file.pin.path for file in made}
    deadline = time.monotonic() + PATIENCE
    wait = 0.002
    failed: LakeError | None = None
    seen = began.version
    while True:
        head = log.head()
        for version, said in _commits(store, log, seen, head.version):
            if new & {add["path"] for add in said["add"]}:
                # An answer was lost, and the commit was there.
                return version
            if new & set(said["commitInfo"][0].get("lake.released") or ()):
                # We were so slow that somebody took them for what a killed compactor left.
                return None
        seen = head.version
        if not old <= _names(head.files):
            return None
        if time.monotonic() > deadline:
            raise Contended(f"{log.kind.name}: no commit within {PATIENCE:.0f} s", "try again") from failed
        try:
            if log.commit_after(head, info, adds=made, removes=files, rewrite=True):
                _check(log, head)
                return head.version + 1
        except LakeError as error:
            if isinstance(error, Damaged) or (failed is not None and failed.message == error.message):
                raise
            failed = error
        # Writers go first: they have somebody waiting.
        time.sleep(random.uniform(wait / 2, wait))  # noqa: S311 -- jitter, no secret
        wait = min(wait * 2, 0.5)


def _check(log: Log, before: Head) -> None:
    """Prove that a compaction has changed no number of rows. Raises Damaged."""
    rows = [sum(file.rows for file in head.files) for head in (before, log.head(before.version + 1))]
    if rows[0] != rows[1]:
        raise Damaged(
            f"{log.folder}: version {before.version} has {rows[0]} rows, and version {before.version + 1}, which"
            f" only compacted it, has {rows[1]}",
            f"read {log.kind.name}={before.version}, which is whole, and report this",
        )


def _commits(store: Store, log: Log, after: int, until: int) -> Iterator[tuple[int, dict[str, list[dict[str, Any]]]]]:
    """The versions between two others, and what each committed."""
    for version in range(after + 1, until + 1):
        yield version, decode(read_commit(store, log.kind, version), commit_name(log.kind, version))
