"""One table: an append-only log of commits, each of which names the hash of the one before it.

This is the only room that knows Delta. A batch becomes one Parquet file, named by the hash of its bytes and synced;
then one commit, which lands on exactly the next version or not at all, adds it together with the producer's sequence.
So a retry is recognised by its sequence, an unknown outcome is looked up in the log rather than guessed, and a version
that was rolled back, edited or written by someone else breaks the chain.

Every open reads the table's properties back: the ones below are what keeps old versions readable for good.
"""

import contextlib
import functools
import hashlib
import json
import random
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.transaction import AddAction

from lake.errors import Contended, Damaged, LakeError, NotALake, SequenceTooLow
from lake.events import Kind, slices, with_ids
from lake.files import Store
from lake.held import HeldIds
from lake.snapshots import FILE_NAME, FilePin, TablePin

PROPERTIES = {
    "delta.appendOnly": "true",
    "delta.enableExpiredLogCleanup": "false",
    # Delta accepts this one spelling; others ("100 years", "forever") silently mean 30 days.
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
    "delta.checkpointInterval": "20",
    "delta.dataSkippingStatsColumns": "event_id,recorded_at",
}
PATIENCE = 120.0  # seconds of lost races before an append gives up
ROW_GROUP = 122_880  # rows; what DuckDB reads in one go on one core
FILE_BYTES = 48 << 20  # of Arrow data in one file, at most; the files of a batch are encoded side by side
ENCODERS = 2

_COMMIT = re.compile(r"[0-9]{20}\.json")

# Columns worth a dictionary: their values repeat.
_REPEATING = frozenset(
    {
        *("actor", "batch", "category", "kind", "language", "model", "raw_encoding", "reader", "reason", "role"),
        *("scorer", "scorer_version", "source.file", "split", "stage", "stream", "sub_scores", "target_type"),
        *("reasons.list.element", "task_id"),
    }
)


@dataclass(frozen=True)
class Appended:
    """What an append did: `offered` events came, `added` were new. `version` is None where nothing was committed."""

    offered: int
    added: int
    version: int | None
    repeated: bool = False


@dataclass(frozen=True)
class Position:
    """How far a producer's committed work has come: its last sequence, and what it noted with it."""

    sequence: int
    note: dict[str, Any]
    version: int


@dataclass(frozen=True)
class Commit:
    """One entry of the log. `at` never goes back, whatever the clock did; `prev` is the previous entry's sha256."""

    kind: str
    version: int
    at: datetime
    producer: str | None
    sequence: int | None
    rows: int
    prev: str | None
    operation: str


@dataclass(frozen=True)
class _Batch:
    """What names a batch: its producer and sequence, and `attempt`, by which one call knows its own commit again."""

    producer: str
    sequence: int
    note: dict[str, Any]
    attempt: str


class Head:
    """A table at one version, as its log tells it."""

    def __init__(self, store: Store, kind: Kind, table: DeltaTable, known: dict[str, FilePin]) -> None:
        self._store = store
        self._kind = kind
        self._known = known
        self.table = table
        self.version: int = table.version()

    @functools.cached_property
    def files(self) -> list[FilePin]:
        """The files that this version has, in no order. Raises Damaged."""
        actions = pa.table(self.table.get_add_actions(flatten=True))
        paths = actions.column("path").to_pylist()
        new = [row for row, path in enumerate(paths) if path not in self._known]
        for action in actions.take(pa.array(new, pa.int64())).to_pylist():
            pin = _file_pin(action)
            if pin is None:
                raise Damaged(
                    f"tables/{self._kind.name}: version {self.version} has a file that the lake did not write:"
                    f" {action['path']}",
                    "another program has changed this table; restore its _delta_log from a backup",
                )
            self._known[pin.path] = pin
        return [self._known[path] for path in paths]

    def pin(self) -> TablePin:
        """This version, for a manifest, once it is on the disk. Raises Damaged."""
        data = _read_commit(self._store, self._kind, self.version)
        _actions(data, commit_name(self._kind, self.version))
        # Whoever committed it may not have come this far.
        self._store.sync(commit_name(self._kind, self.version))
        return TablePin(
            table_id=str(self.table.metadata().id),
            version=self.version,
            head=_sha256(data),
            rows=sum(file.rows for file in self.files),
            schema=msgspec.Raw(self.table.schema().to_json().encode()),
            files=tuple(sorted(self.files, key=lambda file: (file.first_id, file.path))),
        )

    def position(self, producer: str) -> Position | None:
        """How far a producer has come, or None if it never committed here."""
        sequence = self.table.transaction_version(f"sequence:{producer}")
        version = self.table.transaction_version(f"version:{producer}")
        if sequence is None or version is None:
            return None
        info = _info(self._store, self._kind, version)
        return Position(sequence, info.get("lake.note") or {}, version)


class Log:
    """The log of one kind's table. Opens the table anew for each call, so any number of processes may append."""

    def __init__(self, store: Store, kind: Kind) -> None:
        self.kind = kind
        self._store = store
        self._folder = f"tables/{kind.name}"
        self._known: dict[str, FilePin] = {}
        self._held = HeldIds(lambda name: store.path(f"{self._folder}/{name}"))

    def create(self) -> None:
        """Create the table, unless somebody else did a moment ago."""
        once = CommitProperties(custom_metadata={"lake.time": _now()}, max_commit_retries=0)
        try:
            with _delta(f"{self._folder}: cannot be created"):
                DeltaTable.create(
                    self._store.path(self._folder),
                    schema=self.kind.schema,
                    mode="ignore",
                    name=self.kind.name,
                    description=f"One row per event: {self.kind.one_row}",
                    configuration=PROPERTIES,
                    commit_properties=once,
                )
        except LakeError:
            # That others won the race is as good, whatever deltalake calls it.
            if not self.exists():
                raise
        self._store.sync(commit_name(self.kind, 0))

    def exists(self) -> bool:
        """Whether the table has been created."""
        return self._store.exists(commit_name(self.kind, 0))

    def head(self, version: int | None = None) -> Head:
        """The table at a version, or at its newest. Raises NotALake, Damaged."""
        path = self._store.path(self._folder)
        if not self.exists():
            raise NotALake(f"{path}: there is no table of {self.kind.name} here", "run 'lake init'")
        with _delta(f"{path}: cannot be opened", Damaged, "run 'lake verify'"):
            table = DeltaTable(path, version=version)
        found = table.metadata().configuration
        for name, value in PROPERTIES.items():
            if found.get(name) != value:
                raise Damaged(
                    f"{path}: the property {name} is {found.get(name)!r} and must be {value!r}",
                    "another program has changed this table; restore its _delta_log from a backup",
                )
        return Head(self._store, self.kind, table, self._known)

    def append(self, table: pa.Table, producer: str, sequence: int, note: dict[str, Any] | None) -> Appended:
        """Commit the events of a table that are not there yet. `table` is what `events.to_table` made.

        Returns when the commit is on the disk. Raises SequenceTooLow, Contended, Damaged.
        """
        events = _once(with_ids(self.kind, table, f"{producer}@{sequence}"))
        adds: list[AddAction] | None = None
        batch = _Batch(producer, sequence, note or {}, secrets.token_hex(8))
        deadline = time.monotonic() + PATIENCE
        wait = 0.002
        failed: LakeError | None = None
        while True:
            head = self.head()
            position = head.position(producer)
            if position is not None and position.sequence >= sequence:
                return self._already(position, batch, len(table))
            if time.monotonic() > deadline:
                raise Contended(f"{self.kind.name}: no commit within {PATIENCE:.0f} s", "try again") from failed
            mask = self._held.held(events.column("event_id").combine_chunks(), head.files)
            if mask.any():
                events, adds = events.filter(pa.array(~mask)), None
            if adds is None:
                with ThreadPoolExecutor(ENCODERS) as pool:
                    adds = list(pool.map(self._write, slices(events, FILE_BYTES)))
            try:
                self._commit(head, batch, adds, len(events))
            except LakeError as error:
                # Whether it is committed all the same shows in the log, which the next round reads.
                if failed is not None and failed.message == error.message and self.head().version == head.version:
                    raise
                failed = error
                time.sleep(random.uniform(0, wait))  # noqa: S311 -- jitter, no secret
                wait = min(wait * 2, 0.25)
                continue
            return Appended(len(table), len(events), head.version + 1)

    def commits(self, newest_first: bool = True) -> Iterator[Commit]:
        """The entries of the log."""
        last = self.head().version
        for version in range(last, -1, -1) if newest_first else range(last + 1):
            yield self.commit(version)

    def commit(self, version: int) -> Commit:
        """One entry of the log. Raises Damaged."""
        info = _info(self._store, self.kind, version)
        return Commit(
            kind=self.kind.name,
            version=version,
            at=datetime.fromtimestamp(_micros(info) / 1e6, UTC),
            producer=info.get("lake.producer"),
            sequence=info.get("lake.sequence"),
            rows=info.get("lake.rows", 0),
            prev=info.get("lake.prev"),
            operation=info.get("operation", ""),
        )

    def version_at(self, moment: datetime) -> int | None:
        """The newest version committed at or before a moment, or None if the table is younger."""
        low, high = -1, self.head().version
        while low < high:
            middle = (low + high + 1) // 2
            if self.commit(middle).at <= moment:
                low = middle
            else:
                high = middle - 1
        return low if low >= 0 else None

    def verify(self) -> Iterator[str]:
        """What is wrong with the log, a line each; nothing if every link holds and they add up to the files in use."""
        names = [name for name in self._store.names(f"{self._folder}/_delta_log") if _COMMIT.fullmatch(name)]
        added: set[str] = set()
        previous = None
        for version in range(int(names[-1].removesuffix(".json")) + 1 if names else 1):
            name = commit_name(self.kind, version)
            try:
                data = self._store.read(name)
                actions = _actions(data, name)
            except FileNotFoundError:
                yield f"{name}: missing"
                previous = None
                continue
            except Damaged as error:
                yield error.message
                previous = None
                continue
            yield from (f"{name}: {problem}" for problem in _problems(version, actions, previous))
            previous = _sha256(data)
            added.update(add.get("path", "") for add in actions["add"])
        try:
            used = {file.path for file in self.head().files}
        except LakeError as error:
            yield error.message
        else:
            if used != added:
                yield f"{self._folder}: the newest version has other files than its commits have added"

    def holds(self, pin: TablePin) -> bool:
        """Whether the log still has the version that was pinned, as it was."""
        try:
            return _sha256(self._store.read(commit_name(self.kind, pin.version))) == pin.head
        except FileNotFoundError:
            return False

    def _already(self, position: Position, batch: _Batch, offered: int) -> Appended:
        if position.sequence > batch.sequence:
            raise SequenceTooLow(
                f"{self.kind.name}: {batch.producer} sent sequence {batch.sequence} after {position.sequence}",
                "a producer's sequence only rises; was it started twice?",
            )
        info = _info(self._store, self.kind, position.version)
        # Whoever committed it, this call in vain or a process that was killed, may not have come this far.
        self._store.sync(commit_name(self.kind, position.version))
        if info.get("lake.attempt") != batch.attempt:
            return Appended(offered, 0, None, repeated=True)
        return Appended(offered, info["lake.rows"], position.version)

    def _commit(self, head: Head, batch: _Batch, adds: Sequence[AddAction], rows: int) -> None:
        """Commit on exactly the version after `head`. Raises LakeError, which does not mean that nothing happened."""
        before = _read_commit(self._store, self.kind, head.version)
        info = _actions(before, commit_name(self.kind, head.version))["commitInfo"][0]
        # Each writer syncs the commit that it builds on, so that what is on the disk has no gap.
        self._store.sync(commit_name(self.kind, head.version))
        metadata = {
            "lake.prev": _sha256(before),
            "lake.time": max(_now(), _micros(info) + 1),
            "lake.producer": batch.producer,
            "lake.sequence": batch.sequence,
            "lake.rows": rows,
            "lake.attempt": batch.attempt,
            "lake.note": batch.note,
        }
        transactions = [
            Transaction(f"sequence:{batch.producer}", batch.sequence),
            Transaction(f"version:{batch.producer}", head.version + 1),
        ]
        with _delta(f"{self.kind.name}: cannot commit", hint="mend this, then send it again; nothing of it is stored"):
            head.table.create_write_transaction(
                [*adds],
                "append",
                head.table.schema(),
                commit_properties=CommitProperties(
                    custom_metadata=metadata, max_commit_retries=0, app_transactions=transactions
                ),
            )
        self._store.sync(commit_name(self.kind, head.version + 1))
        # A checkpoint that is half on the disk would keep the table from opening.
        for name in (f"{head.version + 1:020d}.checkpoint.parquet", "_last_checkpoint"):
            with contextlib.suppress(FileNotFoundError):
                self._store.sync(f"{self._folder}/_delta_log/{name}")

    def _write(self, events: pa.Table) -> AddAction:
        data = _parquet(events)
        digest = _sha256(data)
        name = f"{digest}.parquet"
        path = f"{self._folder}/{name}"
        if not self._store.write_new(path, data) and self._store.sha256(path) != digest:
            raise Damaged(f"{path}: its bytes are not those that were written", "move it away; then send it again")
        return AddAction(name, len(data), {}, int(time.time() * 1000), True, _stats(events))


def commit_name(kind: Kind, version: int) -> str:
    """Where a commit's JSON is, in the lake's store."""
    return f"tables/{kind.name}/_delta_log/{version:020d}.json"


def _once(events: pa.Table) -> pa.Table:
    """The table without the second and later events of one id."""
    keys = pc.dictionary_encode(events.column("event_id").combine_chunks()).indices
    _, first = np.unique(np.asarray(keys), return_index=True)
    if len(first) == len(events):
        return events
    mask = np.zeros(len(events), bool)
    mask[first] = True
    return events.filter(pa.array(mask))


def _parquet(events: pa.Table) -> memoryview:
    sink = pa.BufferOutputStream()
    pq.write_table(
        events,
        sink,
        row_group_size=ROW_GROUP,
        compression="zstd",
        use_dictionary=[path for path in _leaves(events.schema) if path in _REPEATING],
        write_statistics=["event_id", "recorded_at"],
        write_page_checksum=True,
    )
    return memoryview(sink.getvalue())


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


def _file_pin(action: dict[str, Any]) -> FilePin | None:
    """What an add action says of a file, or None if it is not one that the lake writes."""
    said: list[Any] = [action.get(name) for name in ("size_bytes", "num_records", "min.event_id", "max.event_id")]
    if None in said or not re.fullmatch(FILE_NAME, action["path"]):
        return None
    size, rows, low, high = said
    return FilePin(action["path"], size, rows, action["path"].removesuffix(".parquet"), low, high)


def _read_commit(store: Store, kind: Kind, version: int) -> bytes:
    """The bytes of a commit. Raises Damaged."""
    try:
        return store.read(commit_name(kind, version))
    except FileNotFoundError:
        raise Damaged(f"{commit_name(kind, version)}: this commit is missing", "run 'lake verify'") from None


def _info(store: Store, kind: Kind, version: int) -> dict[str, Any]:
    """What a commit says of itself. Raises Damaged."""
    return _actions(_read_commit(store, kind, version), commit_name(kind, version))["commitInfo"][0]


def _actions(data: bytes, name: str) -> dict[str, list[dict[str, Any]]]:
    """A commit's actions by their type; there is always a commitInfo. Raises Damaged."""
    found: dict[str, list[dict[str, Any]]] = {"commitInfo": [], "add": []}
    try:
        for line in data.splitlines():
            for action, content in msgspec.json.decode(line, type=dict[str, dict[str, Any]]).items():
                found.setdefault(action, []).append(content)
    except msgspec.DecodeError as error:
        raise Damaged(f"{name}: not a commit: {error}", "run 'lake verify'") from None
    if not found["commitInfo"]:
        raise Damaged(f"{name}: not a commit: there is no commitInfo in it", "run 'lake verify'")
    return found


def _problems(version: int, actions: dict[str, list[dict[str, Any]]], previous: str | None) -> Iterator[str]:
    """What is wrong with a commit after another of this sha256."""
    info = actions["commitInfo"][0]
    if version == 0:
        return
    if not info.keys() >= {"lake.prev", "lake.rows"} or not actions.keys() <= {"commitInfo", "add", "txn"}:
        yield "not written by the lake"
        return
    if previous is not None and info["lake.prev"] != previous:
        yield f"does not follow version {version - 1} as it is now"
    if sum(json.loads(add.get("stats") or "{}").get("numRecords", 0) for add in actions["add"]) != info["lake.rows"]:
        yield "has other rows than were committed"


def _micros(info: dict[str, Any]) -> int:
    """When a commit was made, in microseconds since 1970: the lake's own rising time, or Delta's milliseconds."""
    return int(info.get("lake.time") or info["timestamp"] * 1000)


@contextlib.contextmanager
def _delta(what: str, error: type[LakeError] = LakeError, hint: str | None = None) -> Iterator[None]:
    """Turn whatever deltalake raises into a LakeError. Its panics are no Exceptions."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as cause:
        first = (str(cause).splitlines() or [type(cause).__name__])[0]
        if first.startswith("Forked process"):
            raise LakeError(f"{what}: this process is a fork of one that used a lake", "start it by spawn") from cause
        raise error(f"{what}: {first}", hint) from cause


def _sha256(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def _now() -> int:
    return time.time_ns() // 1000
