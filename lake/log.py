"""One table: an append-only log of commits, each of which names the hash of the one before it.

This is the only room that knows the deltalake library: it makes tables, says what other readers see, and puts nothing
where it stays. A batch becomes Parquet files, whose names begin with the hash of their bytes; then one
commit, which lands on exactly the next version or not at all, adds them together with the producer's sequence. All of
these go through the store, so they are kept when the append returns. A retry is recognised by its sequence, an unknown
outcome is looked up in the log rather than guessed, and a version that was rolled back, edited or written by someone
else breaks the chain.

Every open reads the table's properties back: the ones below are what keeps old versions readable for good.
"""

import contextlib
import random
import re
import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable

from lake import checkpoints
from lake.checkpoints import HINT, hint_to
from lake.commits import (
    COMMIT,
    DAMAGED,
    Commit,
    DataFile,
    commit_name,
    commit_of,
    decode,
    digest,
    encode,
    info_of,
    micros,
    now,
    read_commit,
    seal,
)
from lake.datafiles import ENCODERS, once, write
from lake.errors import Contended, Damaged, LakeError, NotALake, SequenceTaken, SequenceTooLow
from lake.events import slices, with_ids
from lake.files import Store, is_scratch
from lake.held import HeldIds
from lake.ids import digest_of
from lake.kinds import Kind
from lake.snapshots import FILE_NAME, FilePin, TablePin
from lake.states import READER_VERSION, State, States

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
FILE_BYTES = 48 << 20  # of Arrow data in one file, at most; the files of a batch are encoded side by side


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
class _Batch:
    """What names a batch: its producer and sequence, the digest of its ids in the order in which they came, and
    `attempt`, by which one call knows its own commit again.
    """

    producer: str
    sequence: int
    note: dict[str, Any]
    digest: str
    attempt: str


class Head:
    """A table at one version, as its log tells it."""

    def __init__(self, store: Store, kind: Kind, state: State) -> None:
        self._store = store
        self._kind = kind
        self._state = state
        self.version = state.version
        self.sha256 = state.sha256

    @property
    def files(self) -> list[FilePin]:
        """The files that this version has, in no order. Raises Damaged."""
        if foreign := self._state.files.foreign:
            raise Damaged(
                f"tables/{self._kind.name}: version {self.version} has a file that the lake did not write:"
                f" {min(foreign)}",
                "another program has changed this table; restore its _delta_log from a backup",
            )
        return list(self._state.files.own.values())

    def pin(self) -> TablePin:
        """This version, for a manifest, once it is kept for good. Raises Damaged."""
        data = read_commit(self._store, self._kind, self.version)
        decode(data, commit_name(self._kind, self.version))
        # Whoever committed it may not have come this far.
        self._store.sync(commit_name(self._kind, self.version))
        files = self.files
        return TablePin(
            table_id=self._state.metadata.id,
            version=self.version,
            head=digest(data),
            rows=sum(file.rows for file in files),
            schema=msgspec.Raw(self._state.metadata.schema_string.encode()),
            files=tuple(sorted(files, key=lambda file: (file.first_id, file.path))),
        )

    def position(self, producer: str) -> Position | None:
        """How far a producer has come, or None if it never committed here."""
        sequence = self._state.transactions.get(f"sequence:{producer}")
        version = self._state.transactions.get(f"version:{producer}")
        if sequence is None or version is None:
            return None
        info = info_of(self._store, self._kind, version)
        return Position(sequence, info.get("lake.note") or {}, version)


class Log:
    """The log of one kind's table. Looks at it anew for each call, so any number of processes may append."""

    def __init__(self, store: Store, kind: Kind) -> None:
        self.kind = kind
        self.folder = f"tables/{kind.name}"
        self._store = store
        self._states = States(store, kind)
        self._held = HeldIds(lambda name: store.source(f"{self.folder}/{name}"))

    def create(self) -> None:
        """Create the table, unless somebody else did a moment ago, or its first commit is lost and others remain."""
        with _scratch(f"{self.folder}: cannot be created") as scratch:
            with _delta(f"{self.folder}: cannot be created"):
                DeltaTable.create(
                    scratch,
                    schema=self.kind.schema,
                    name=self.kind.name,
                    description=f"One row per event: {self.kind.one_row}",
                    configuration=PROPERTIES,
                    commit_properties=CommitProperties(custom_metadata={"lake.time": now()}),
                )
            first = seal(Path(scratch, "_delta_log", f"{0:020d}.json").read_bytes())
        try:
            if not self._remains():
                self._store.write_new(commit_name(self.kind, 0), first)
        except LakeError as error:
            raise LakeError(f"{self.folder}: cannot be created: {error.message}", error.hint) from error

    def exists(self) -> bool:
        """Whether the table has been created."""
        return self._store.exists(commit_name(self.kind, 0))

    def head(self, version: int | None = None) -> Head:
        """The table at a version, or at its newest. Raises NotALake, Damaged."""
        path = self._store.url(self.folder)
        if not self.exists():
            if self._remains():
                raise Damaged(f"{path}: cannot be opened: its first commit is missing", DAMAGED)
            raise NotALake(f"{path}: there is no table of {self.kind.name} here", "run 'lake init'")
        try:
            state = self._states.newest() if version is None else self._states.at(version)
        except Damaged as error:
            raise Damaged(f"{path}: cannot be opened: {error.message}", error.hint) from error
        found = state.metadata.configuration
        for name, value in PROPERTIES.items():
            if found.get(name) != value:
                raise Damaged(
                    f"{path}: the property {name} is {found.get(name)!r} and must be {value!r}",
                    "another program has changed this table; restore its _delta_log from a backup",
                )
        if state.protocol.min_reader_version != READER_VERSION:
            raise Damaged(
                f"{path}: another program has made this a table that needs other readers",
                "restore its _delta_log from a backup",
            )
        return Head(self._store, self.kind, state)

    def as_others_read(self, version: int | None = None) -> set[str]:
        """The names of the files that other readers of Delta tables find, by what deltalake makes of it."""
        path = self._store.url(self.folder)
        log = f"{self.folder}/_delta_log"
        before = set(self._store.after(log, ""))
        files = {entry.name for entry in self._store.entries(log)}
        # Commits come and scratch files go while the folder is read: only what was there all the time is strange.
        lasting = before & set(self._store.after(log, ""))
        if others := [name for name in lasting if name not in files and not is_scratch(name)]:
            raise Damaged(f"{log}/{min(others)}: no file of the log", "move it away")
        with _delta(f"{path}: cannot be opened", Damaged, DAMAGED):
            table = DeltaTable(path, version=version, storage_options=dict(self._store.options))
            return set(pa.table(table.get_add_actions()).column("path").to_pylist())

    def append(self, table: pa.Table, producer: str, sequence: int, note: dict[str, Any] | None) -> Appended:
        """Commit the events of a table that are not there yet. `table` is what `events.to_table` made.

        Returns when the commit is kept for good. Raises SequenceTooLow, SequenceTaken, Contended, Damaged.
        """
        given = with_ids(self.kind, table, f"{producer}@{sequence}")
        batch = _Batch(producer, sequence, note or {}, digest_of(given.column("event_id")), secrets.token_hex(8))
        events = once(given)
        files: list[DataFile] | None = None
        deadline = time.monotonic() + PATIENCE
        wait = 0.002
        written: Head | None = None
        failed: LakeError | None = None
        while True:
            head = self.head()
            position = head.position(producer)
            if position is not None and position.sequence >= sequence:
                return self._already(position, batch, len(table))
            if time.monotonic() > deadline:
                raise Contended(f"{self.kind.name}: no commit within {PATIENCE:.0f} s", "try again") from failed
            try:
                mask = self._held.held(events.column("event_id").combine_chunks(), head.files)
            except Damaged:
                if {file.path for file in head.files} <= {file.path for file in self.head().files}:
                    raise
                # Compacted and freed while we looked.
                continue
            if mask.any():
                events, files = events.filter(pa.array(~mask)), None
            if files and written and self._released(written, head) & {file.pin.path for file in files}:
                # We were so slow that somebody took them for what a killed writer left.
                files = None
            if files is None:
                written = head
                with ThreadPoolExecutor(ENCODERS) as pool:
                    parts = slices(events, FILE_BYTES)
                    files = list(pool.map(lambda part: write(self._store, self.folder, part), parts))
            try:
                if self._commit(head, batch, files, len(events)):
                    return Appended(len(table), len(events), head.version + 1)
            except LakeError as error:
                # Whether it is committed all the same shows in the log, which the next round reads.
                if failed is not None and failed.message == error.message and self.head().version == head.version:
                    raise
                failed = error
            time.sleep(random.uniform(0, wait))  # noqa: S311 -- jitter, no secret
            wait = min(wait * 2, 0.25)

    def commit_after(
        self,
        head: Head,
        info: Mapping[str, Any],
        *,
        adds: Sequence[DataFile] = (),
        removes: Sequence[FilePin] = (),
        transactions: Mapping[str, int] | None = None,
        rewrite: bool = False,
    ) -> bool:
        """Commit on exactly the version after `head`. False if somebody else has taken it, and nothing happened.

        `info` needs `lake.rows`, by how many rows the table grows. An answer that was lost is looked up; a LakeError
        means that this failed too, and the commit may be there.
        """
        before = read_commit(self._store, self.kind, head.version)
        if digest(before) != head.sha256:
            # The log was mended or restored since: look again.
            return False
        last = decode(before, commit_name(self.kind, head.version))["commitInfo"][0]
        data = encode(
            {
                "lake.prev": digest(before),
                "lake.time": max(now(), micros(last) + 1),
                "lake.attempt": secrets.token_hex(8),
                **info,
            },
            adds=adds,
            removes=removes,
            transactions=transactions,
            rewrite=rewrite,
        )
        version = head.version + 1
        name = commit_name(self.kind, version)
        try:
            ours = self._store.write_new(name, data)
        except LakeError as error:
            if not self._is(name, data):
                raise LakeError(
                    f"{self.kind.name}: cannot commit: {error.message}",
                    "mend this, then send it again: it is stored once",
                ) from error
            self._store.sync(name)
            ours = True
        # A store that asks again after an answer was lost finds its own file there.
        if not (ours or self._is(name, data)):
            return False
        if version % int(PROPERTIES["delta.checkpointInterval"]) == 0:
            # It saves time and holds nothing of its own: the next one makes up for it.
            with contextlib.suppress(LakeError):
                self.checkpoint(version)
        return True

    def checkpoint(self, version: int, *, afresh: bool = False) -> None:
        """Keep what the log says at a version in one file; `afresh` from the commits alone, not the last checkpoint.

        Raises Damaged.
        """
        log = f"{self.folder}/_delta_log"
        hinted = self._states.hinted()
        base = None if afresh or hinted is None or hinted >= version else self._states.checkpoint(hinted)
        since = checkpoints.Reconciled()
        for number in range(hinted + 1 if base and hinted is not None else 0, version + 1):
            last = read_commit(self._store, self.kind, number)
            since.follow(decode(last, commit_name(self.kind, number)))
        made = checkpoints.encode(since, base and base[0], digest(last))
        name = f"{log}/{version:020d}.checkpoint.parquet"
        # One that is there already may be of commits that were rolled back.
        if not self._store.write_new(name, made):
            self._store.replace(name, made)
        # A later one may have been made while this was. What it says counts as long as it is whole.
        if afresh or hinted is None or hinted <= version or self._states.checkpoint(hinted) is None:
            self._store.replace(f"{log}/{HINT}", hint_to(version, made))
        # A writer makes very many, each a little larger, and would keep the memory of them all.
        pa.default_memory_pool().release_unused()

    def commits(self, newest_first: bool = True) -> Iterator[Commit]:
        """The entries of the log."""
        last = self.head().version
        for version in range(last, -1, -1) if newest_first else range(last + 1):
            yield self.commit(version)

    def commit(self, version: int) -> Commit:
        """One entry of the log. Raises Damaged."""
        return commit_of(self.kind, version, info_of(self._store, self.kind, version))

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

    def holds(self, pin: TablePin) -> bool:
        """Whether the log still has the version that was pinned, as it was."""
        try:
            return digest(self._store.read(commit_name(self.kind, pin.version))) == pin.head
        except FileNotFoundError:
            return False

    def _remains(self) -> bool:
        """Whether there is something of a table whose first commit is lost. Asked while there is no first commit."""
        commits, files = self._store.names(f"{self.folder}/_delta_log"), self._store.names(self.folder)
        found = any(map(COMMIT.fullmatch, commits)) or any(re.fullmatch(FILE_NAME, name) for name in files)
        return found and not self.exists()

    def _already(self, position: Position, batch: _Batch, offered: int) -> Appended:
        if position.sequence > batch.sequence:
            raise SequenceTooLow(
                f"{self.kind.name}: {batch.producer} sent sequence {batch.sequence} after {position.sequence}",
                "a producer's sequence only rises; was it started twice?",
            )
        info = info_of(self._store, self.kind, position.version)
        # A commit of an older version of the lake does not say what it was asked to hold.
        if info.get("lake.batch", batch.digest) != batch.digest:
            raise SequenceTaken(
                f"{self.kind.name}: {batch.producer} sent other events as sequence {batch.sequence} before",
                "send these under the next sequence; was the producer started twice?",
            )
        # Whoever committed it, this call in vain or a process that was killed, may not have come this far.
        self._store.sync(commit_name(self.kind, position.version))
        if info.get("lake.attempt") != batch.attempt:
            return Appended(offered, 0, None, repeated=True)
        return Appended(offered, info["lake.rows"], position.version)

    def _commit(self, head: Head, batch: _Batch, files: Sequence[DataFile], rows: int) -> bool:
        return self.commit_after(
            head,
            {
                "lake.producer": batch.producer,
                "lake.sequence": batch.sequence,
                "lake.rows": rows,
                "lake.batch": batch.digest,
                "lake.attempt": batch.attempt,
                "lake.note": batch.note,
            },
            adds=files,
            transactions={
                f"sequence:{batch.producer}": batch.sequence,
                f"version:{batch.producer}": head.version + 1,
            },
        )

    def _released(self, earlier: Head, head: Head) -> set[str]:
        """The files that were given up in the commits between two heads."""
        infos = (info_of(self._store, self.kind, at) for at in range(earlier.version + 1, head.version + 1))
        return {name for info in infos for name in info.get("lake.released", ())}

    def _is(self, name: str, data: bytes) -> bool:
        try:
            return self._store.read(name) == data
        except FileNotFoundError:
            return False


@contextlib.contextmanager
def _scratch(what: str) -> Iterator[str]:
    """A folder for a while, outside the lake. Raises LakeError where there is no room for it."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield folder
    except (OSError, pa.ArrowException) as error:
        first = str(error).partition("\n")[0]
        raise LakeError(f"{what}: {first}", f"make room in {_temporary()}, or set TMPDIR to another folder") from error


def _temporary() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        return "a folder for temporary files"


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
