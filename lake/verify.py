"""Proves that what is stored is what was written, and says what is touched where it is not.

Works from the files alone: the commits first, in their order, then what they and the snapshots name. So a table that no
Delta reader opens is examined like any other. What writers do meanwhile is no fault: what refers to versions is read
before the commits, and what commits refer to after them.

Not here: mending (`repair`).
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from lake import contents
from lake.checkpoints import CHECKPOINT, HINT, State, problem_with_checkpoint, problem_with_hint, read_hint
from lake.commits import (
    COMMIT,
    MISSING,
    NOT_APPENDED,
    NOT_OURS,
    History,
    Link,
    chain,
    commit_name,
    torn,
)
from lake.errors import LakeError
from lake.files import Entry, Store, is_scratch
from lake.findings import Code, Export, Finding, NamedSnapshot, Report
from lake.kinds import KINDS, Kind
from lake.log import PROPERTIES, Log
from lake.recorded import Recorded, changed_outputs, recorded_in
from lake.snapshots import FILE_NAME, ID_LENGTH, FilePin, Snapshot, scan_files

ASIDE = "aside"

Progress = Callable[[int, int | None, str], None]

_PIN = re.compile(rf"([0-9a-f]{{{ID_LENGTH}}})\.json")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_RESTORE = "restore it from a backup"
_REPAIR = "run 'lake repair'"
_RESTORE_LOG = "restore {}/_delta_log from a backup"


class Pinned(msgspec.Struct, frozen=True):
    """What is kept in memory of a snapshot: for each table its version and the sha256 of that commit."""

    id: str
    heads: dict[str, tuple[int, str]]


@dataclass
class Table:
    """One table as its commits tell it."""

    log: Log
    history: History = field(default_factory=History)
    state: State = field(default_factory=State)
    commits: dict[int, str | None] = field(default_factory=dict)  # sha256 by version
    faulty: set[int] = field(default_factory=set)
    keys: dict[str, np.ndarray] = field(default_factory=dict)
    listed: dict[str, Entry] = field(default_factory=dict)

    @property
    def last(self) -> int:
        """The newest version, -1 where there is none."""
        return self.history.version


def verify_log(store: Store, log: Log) -> Iterator[Finding]:
    """What is wrong with one table, seen by itself."""
    examiner = Examiner(store, {log.kind.name: log}, deep=False)
    examiner.tables_in_order()
    yield from (finding for finding in examiner.findings if finding.is_fault)


def examine(
    store: Store,
    logs: Mapping[str, Log],
    *,
    deep: bool = False,
    all_checkpoints: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Everything that is wrong with a lake, and what is worth knowing of it.

    `deep` reads every file in full. `all_checkpoints` compares the older ones too, which `deep` does anyway. `progress`
    is called with commits, or deep with bytes, done and in all, and the table at hand.
    """
    return Examiner(store, logs, deep=deep, all_checkpoints=all_checkpoints or deep, progress=progress).report()


class Examiner:
    """One examination of a lake. The order of its steps is what makes it safe beside writers."""

    def __init__(
        self,
        store: Store,
        logs: Mapping[str, Log],
        *,
        deep: bool,
        all_checkpoints: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.store = store
        self.logs = logs
        self.deep = deep
        self.all_checkpoints = all_checkpoints
        self.progress = progress or (lambda *_: None)
        self.findings: list[Finding] = []
        self.pins: dict[str, Pinned] = {}
        self.bad_pins: set[str] = set()
        self.names: dict[str, str] = {}
        self.exports: list[Recorded] = []
        self.tables: dict[str, Table] = {}
        self.bad_files: dict[str, int] = {}  # the finding of each file, by its name in the store
        self.bad_versions: dict[tuple[str, int], list[int]] = {}
        self.touched: dict[int, set[str]] = {}  # snapshots, by finding
        self.touched_exports: dict[int, set[Export]] = {}
        self.uncommitted: set[str] = set()  # files that a snapshot names and no commit
        self.read = 0
        self.total: int | None = None

    def report(self) -> Report:
        """Look at everything, and say what was found."""
        self._marker()
        self._pins()
        # Ledgers first: what they say of other tables was true before those are looked at.
        if self.deep:
            every = (entry for log in self.logs.values() for entry in self._entries(log.folder))
            self.total = sum(entry.size for entry in every if re.fullmatch(FILE_NAME, entry.name))
        self.tables_in_order()
        self._refer()
        self._pinned_states()
        self._objects()
        self._outputs()
        self._put_aside()
        return Report(
            tuple(
                self._with_touched(number, one)
                for number, one in enumerate(self.findings)
                # What a snapshot names is no orphan, though the commit that added it be lost.
                if not (one.code is Code.ORPHAN and one.file in self.uncommitted)
            ),
            tuple(self._named(one) for one in sorted({*self.pins, *self.bad_pins})),
            tuple(sorted({recorded.export for recorded in self.exports})),
        )

    def found(self, code: Code, message: str, **more: Any) -> int:
        """Note a finding; its number."""
        self.findings.append(Finding(code=code, message=message, **more))
        return len(self.findings) - 1

    def touch(self, finding: int, snapshot_id: str) -> None:
        """Say that a snapshot, and the exports of it, are touched by a finding."""
        self.touched.setdefault(finding, set()).add(snapshot_id)

    # lake.json and the manifests

    def _marker(self) -> None:
        try:
            said = msgspec.json.decode(self.store.read("lake.json"), type=dict[str, Any])
            if not {"format", "id", "created_at"} <= said.keys() or said["format"] != 1:
                self.found(Code.MARKER, "not what was written", file="lake.json", hint=_RESTORE)
        except FileNotFoundError:
            self.found(Code.MARKER, "missing", file="lake.json", hint=_RESTORE)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self.found(Code.MARKER, f"not what was written: {error}", file="lake.json", hint=_RESTORE)

    def _pins(self) -> None:
        for entry in self._entries("snapshots"):
            name = f"snapshots/{entry.name}"
            match = _PIN.fullmatch(entry.name)
            if match is None:
                self._odd_one(name, entry)
            elif isinstance(found := self._pin(match[1]), str):
                self.bad_pins.add(match[1])
                self.touch(self.found(Code.PIN_CHANGED, found, file=name, hint=_RESTORE), match[1])
            else:
                heads = {kind: (pin.version, pin.head) for kind, pin in found.tables.items()}
                self.pins[match[1]] = Pinned(match[1], heads)

    def _pin(self, snapshot_id: str) -> Snapshot | str:
        try:
            manifest = self.store.read(f"snapshots/{snapshot_id}.json")
            if hashlib.sha256(manifest).hexdigest()[:ID_LENGTH] != snapshot_id:
                return "not what was written"
            return Snapshot(self.store, manifest)
        except FileNotFoundError:
            return MISSING
        except LakeError as error:
            return error.message

    # tables

    def tables_in_order(self) -> None:
        """Look at every table, the ledgers first."""
        for kind in sorted(self.logs, key=lambda name: not KINDS[name].ledger):
            self.progress(self.read, self.total, kind)
            self.tables[kind] = self._table(self.logs[kind])
            self._files(self.tables[kind])
            if kind == "snapshots":
                self._read_names(self.tables[kind])
            if kind == "receipts":
                self._read_receipts(self.tables[kind])
        self.progress(self.read, self.read, "snapshots")

    def _table(self, log: Log) -> Table:
        kind = log.kind.name
        table = Table(log)
        before = len(self.findings)
        # Before the names: a writer that makes a checkpoint meanwhile names it last.
        hint = self._bytes(f"{log.folder}/_delta_log/{HINT}")
        names = [entry.name for entry in self._entries(f"{log.folder}/_delta_log")]
        checkpoints = {int(match[1]): name for name in names if (match := CHECKPOINT.fullmatch(name))}
        hinted = read_hint(hint) if hint is not None else None
        links = chain(self.store, log.kind)
        told: list[tuple[Link, int]] = []
        for link in links:
            table.history.follow(link)
            table.state.follow(link.actions or {})
            table.commits[link.version] = link.sha256
            self._link(table, link, told)
            newest = max((version for version in checkpoints if version <= link.version), default=None)
            if link.version in checkpoints:
                named = hinted if hinted is not None and hinted.version == link.version else None
                wanted = self.all_checkpoints or newest == max(checkpoints) or named is not None
                if wanted:
                    self._checkpoint(table, checkpoints[link.version], named)
            if not self.deep:
                self.read += 1
                self.progress(self.read, self.total, kind)
        if not any(map(COMMIT.fullmatch, names)) and not checkpoints:
            self._no_log(table, before)
            return table
        self._about(table)
        self._torn(table, told, checkpoints, hinted.version if hinted else -1)
        self._strange_names(log, names)
        self._hint(table, hint, checkpoints)
        self._rolled_back(table, checkpoints)
        if not any(one.is_fault for one in self.findings[before:]):
            self._as_readers_see(table)
        return table

    def _no_log(self, table: Table, before: int) -> None:
        """A table without any commit: not made yet, or lost."""
        table.history.version = -1
        self._rolled_back(table, {})
        if len(self.findings) == before + 1 and not any(
            re.fullmatch(FILE_NAME, entry.name) for entry in self._entries(table.log.folder)
        ):
            del self.findings[before:]
            self.bad_versions.pop((table.log.kind.name, 0), None)
            self.found(Code.NO_TABLE, "made, and empty, when the lake is opened", table=table.log.kind.name)

    def _link(self, table: Table, link: Link, told: list[tuple[Link, int]]) -> None:
        kind = table.log.kind.name
        for problem in link.problems:
            number = self.found(
                _code_of(problem),
                problem,
                table=kind,
                version=link.version,
                file=link.name,
                hint="restore this file from a backup",
            )
            table.faulty.add(link.version)
            self.bad_versions.setdefault((kind, link.version), []).append(number)
            told.append((link, number))

    def _about(self, table: Table) -> None:
        kind = table.log.kind
        meta = table.state.about.get("metaData")
        if meta is None:
            return
        restore = f"another program has changed this table; {_RESTORE_LOG.format(table.log.folder)}"
        configuration = meta.get("configuration") or {}
        for name, value in PROPERTIES.items():
            if configuration.get(name) != value:
                self.found(
                    Code.PROPERTY,
                    f"the property {name} is {configuration.get(name)!r} and must be {value!r}",
                    table=kind.name,
                    hint=restore,
                )
        protocol = table.state.about.get("protocol", {})
        if (protocol.get("minReaderVersion"), protocol.get("minWriterVersion")) != (1, 2) or meta.get(
            "partitionColumns"
        ):
            self.found(Code.PROPERTY, "another protocol or partitioning than the lake's", table=kind.name, hint=restore)
        if _column_names(meta.get("schemaString")) != kind.schema.names:
            self.found(Code.PROPERTY, f"its columns are not those of {kind.name}", table=kind.name, hint=restore)

    def _checkpoint(self, table: Table, name: str, hint: Any) -> None:
        full = f"{table.log.folder}/_delta_log/{name}"
        data = self._bytes(full)
        if data is None:
            return
        # From damaged commits nothing can be told but whether it can be read.
        if problem := problem_with_checkpoint(data, None if table.faulty else table.state, hint):
            self.found(
                Code.CHECKPOINT,
                problem,
                table=table.log.kind.name,
                version=table.last,
                file=full,
                hint=f"{_REPAIR}; it is made anew from the commits",
            )

    def _torn(self, table: Table, told: list[tuple[Link, int]], checkpoints: Mapping[int, str], hinted: int) -> None:
        """Tell a last commit that was never acknowledged from one that was, if it cannot be read."""
        for link, number in told:
            if link.version != table.last or link.sha256 is None or not torn(self._bytes(link.name) or b""):
                continue
            finding = self.findings[number]
            known = self._known_by(table.log.kind.name, link.version, max([hinted, *checkpoints]))
            if known:
                message = f"{finding.message}; it was acknowledged: {known}"
                self.findings[number] = msgspec.structs.replace(finding, code=Code.COMMIT_UNREADABLE, message=message)
            else:
                self.findings[number] = msgspec.structs.replace(
                    finding,
                    code=Code.COMMIT_TORN,
                    message="the last commit is torn, and nothing shows that it was acknowledged",
                    hint=f"{_REPAIR}, and send the batch again",
                )

    def _known_by(self, kind: str, version: int, checkpoint: int) -> str | None:
        """What shows that a version of a table, or a later one, was there, or None."""
        pins = [pin.id for pin in self.pins.values() if pin.heads.get(kind, (-1,))[0] >= version]
        exports = [one.export.folder for one in self.exports if one.tables.get(kind, -1) >= version]
        said = [f"snapshot {pins[0]} pins it{_and_more(pins)}"] if pins else []
        said += [f"the export {exports[0]} is made from it{_and_more(exports)}"] if exports else []
        said += [f"a checkpoint of version {checkpoint} was made"] if checkpoint >= version else []
        return ", ".join(said) or None

    def _rolled_back(self, table: Table, checkpoints: Mapping[int, str]) -> None:
        kind, last = table.log.kind.name, table.last
        known = self._known_by(kind, last + 1, max(checkpoints, default=-1))
        if known is None:
            return
        newest = max(
            [*checkpoints, *(pin.heads[kind][0] for pin in self.pins.values() if kind in pin.heads)]
            + [one.tables.get(kind, -1) for one in self.exports]
        )
        number = self.found(
            Code.ROLLED_BACK,
            f"its newest commit is version {last}, and there was a version {newest}: {known}",
            table=kind,
            version=last,
            hint=f"{_RESTORE_LOG.format(table.log.folder)}; if there is none, ingest the same inputs again:"
            " what is lost is stored once more. What was pinned can be read with --at",
        )
        for pin in self.pins.values():
            if pin.heads.get(kind, (-1,))[0] > last:
                self.touch(number, pin.id)

    def _strange_names(self, log: Log, names: list[str]) -> None:
        for name in names:
            full = f"{log.folder}/_delta_log/{name}"
            if is_scratch(name):
                self.found(Code.SCRATCH, "left by a writer that was killed", file=full, table=log.kind.name)
            elif not COMMIT.fullmatch(name) and not CHECKPOINT.fullmatch(name) and name != HINT:
                if re.match(r"[0-9]{20}\.", name):
                    self.found(
                        Code.LOG_FILE,
                        "not made by the lake, and Delta readers may follow it",
                        file=full,
                        table=log.kind.name,
                        hint=f"{_REPAIR}; it is put aside",
                    )
                else:
                    self.found(Code.STRAY, "not made by the lake", file=full, table=log.kind.name)

    def _hint(self, table: Table, hint: bytes | None, checkpoints: Mapping[int, str]) -> None:
        folder = f"{table.log.folder}/_delta_log"
        sizes = {version: self._size(f"{folder}/{name}") or 0 for version, name in checkpoints.items()}
        problem = problem_with_hint(hint, table.last, sizes) if hint is not None else None
        if problem:
            self.found(
                Code.HINT,
                problem,
                table=table.log.kind.name,
                file=f"{folder}/{HINT}",
                hint=f"{_REPAIR}; it is made anew from the commits",
            )

    def _as_readers_see(self, table: Table) -> None:
        log = table.log
        try:
            used = {file.path: file for file in log.head(table.last).files}
            others = log.as_others_read(table.last)
        except LakeError as error:
            self.found(Code.UNOPENABLE, error.message, table=log.kind.name, hint=error.hint)
            return
        if used != table.history.live or others != used.keys():
            message = "the newest version has other files than its commits have added"
            self.found(Code.UNOPENABLE, message, table=log.kind.name, hint=_REPAIR)

    # data files

    def _files(self, table: Table) -> None:
        kind, folder = table.log.kind, table.log.folder
        table.listed = {entry.name: entry for entry in self._entries(folder)}
        history = table.history
        wanted = [pin for path, pin in history.added.items() if path not in history.released]
        if any(pin.path not in table.listed for pin in wanted):
            # Given up by a vacuum since the commits were read.
            released = self._released_by_now(kind)
            wanted = [pin for pin in wanted if pin.path not in released]
        for pin in wanted:
            self._file(table, pin)
        if self.deep:
            self._twice(table)
        for name, entry in table.listed.items():
            if name not in history.added:
                self._odd_one(f"{folder}/{name}", entry, table)

    def _file(self, table: Table, pin: FilePin) -> None:
        kind, name = table.log.kind, f"{table.log.folder}/{pin.path}"
        entry = table.listed.get(pin.path)
        problem: tuple[Code, str] | np.ndarray | None = None
        if entry is None:
            problem = Code.FILE_MISSING, "missing"
        elif entry.size != pin.size:
            problem = Code.FILE_SIZE, f"{entry.size} bytes instead of {pin.size}"
        elif self.deep:
            problem = self._in_full(kind.name, name, pin)
        if isinstance(problem, tuple):
            self._bad_file(kind.name, name, *problem)
        elif problem is not None and pin.path in table.history.live:
            table.keys[pin.path] = problem

    def _released_by_now(self, kind: Kind) -> set[str]:
        return {name for link in chain(self.store, kind) for name in _released(link)}

    def _in_full(self, kind: str, name: str, pin: FilePin) -> tuple[Code, str] | np.ndarray | None:
        self.read += pin.size
        self.progress(self.read, self.total, kind)
        try:
            if self.store.sha256(name) != pin.sha256:
                return Code.FILE_CHANGED, "its bytes are not those that were written"
            return contents.problem_with_file(self.store.source(name), KINDS[kind], pin)
        except FileNotFoundError:
            # As above, since the folder was listed.
            return None if pin.path in self._released_by_now(KINDS[kind]) else (Code.FILE_MISSING, "missing")
        except LakeError as error:
            return Code.UNREACHABLE, error.message

    def _bad_file(self, kind: str, name: str, code: Code, message: str) -> None:
        hint = "restore this file from a backup; what does not need it can be read"
        self.bad_files[name] = self.found(code, message, table=kind, file=name, hint=hint)

    def _twice(self, table: Table) -> None:
        kind = table.log.kind.name
        live = [pin for path, pin in table.history.live.items() if path in table.keys]
        keys = (table.keys.pop(pin.path) for pin in live)
        for event_id, often in contents.twice(lambda path: self.store.source(f"{table.log.folder}/{path}"), live, keys):
            self.found(Code.EVENT_TWICE, f"the event {event_id} is there {often} times", table=kind, hint="report it")

    def _odd_one(self, name: str, entry: Entry, table: Table | None = None) -> None:
        """A file that is in no commit and no snapshot."""
        kind = table.log.kind.name if table else None
        if is_scratch(entry.name):
            self.found(Code.SCRATCH, "left by a writer that was killed", file=name, table=kind)
        elif table is None or not re.fullmatch(FILE_NAME, entry.name):
            self.found(Code.STRAY, "not made by the lake", file=name, table=kind)
        else:
            batch = contents.batch_of(self.store.source(name))
            self.found(Code.ORPHAN, f"in no commit; {_became_of(batch, table)}", file=name, table=kind)

    # ledgers

    def _rows(self, table: Table) -> Iterator[dict[str, Any]]:
        """The events of a ledger, in the order of its commits, but for those in files that cannot be read."""
        for pin in table.history.live.values():
            try:
                for batch in scan_files(self.store, table.log.kind, [pin]):
                    yield from batch.to_pylist()
            except LakeError as error:
                name = f"{table.log.folder}/{pin.path}"
                if name not in self.bad_files:
                    self._bad_file(table.log.kind.name, name, Code.FILE_UNREADABLE, error.message)

    def _read_names(self, table: Table) -> None:
        rows = [(_sequence_of(row["batch"]), row["name"], row["snapshot_id"]) for row in self._rows(table)]
        for _, name, snapshot_id in sorted(rows, key=lambda row: row[0]):
            if name is not None:
                self.names[name] = snapshot_id

    def _read_receipts(self, table: Table) -> None:
        rows = sorted(self._rows(table), key=lambda row: _sequence_of(row["batch"]))
        self.exports = [found for row in rows if (found := recorded_in(row)) is not None]

    def _refer(self) -> None:
        """What names and exports refer to is there."""
        for name, snapshot_id in self.names.items():
            if snapshot_id not in self.pins and snapshot_id not in self.bad_pins and not self._is_there(snapshot_id):
                self._pin_missing(snapshot_id, f"missing, and the name {name!r} means it")
        for snapshot_id in {one.export.snapshot for one in self.exports} - {*self.names.values()}:
            if snapshot_id not in self.pins and snapshot_id not in self.bad_pins and not self._is_there(snapshot_id):
                self._pin_missing(snapshot_id, "missing, and an export was made from it")

    def _pin_missing(self, snapshot_id: str, message: str) -> None:
        self.touch(
            self.found(Code.PIN_MISSING, message, file=f"snapshots/{snapshot_id}.json", hint=_RESTORE), snapshot_id
        )

    def _is_there(self, snapshot_id: str) -> bool:
        return self._size(f"snapshots/{snapshot_id}.json") is not None

    # what the snapshots need

    def _pinned_states(self) -> None:
        replaced: dict[tuple[str, int], int] = {}
        for pin in self.pins.values():
            for kind, (version, head) in pin.heads.items():
                table = self.tables.get(kind)
                if table is None or version > table.last or table.commits.get(version) == head:
                    continue
                told = self.bad_versions.get((kind, version))
                if told is None and (kind, version) not in replaced:
                    replaced[kind, version] = self.found(
                        Code.COMMIT_REPLACED,
                        f"the log no longer has the version of {kind} that was pinned",
                        table=kind,
                        version=version,
                        file=commit_name(table.log.kind, version),
                        hint=f"{_RESTORE_LOG.format(table.log.folder)}; what was pinned can be read with --at",
                    )
                for number in told or [replaced[kind, version]]:
                    self.touch(number, pin.id)
            self._files_of(pin.id)

    def _files_of(self, snapshot_id: str) -> None:
        snapshot = self._pin(snapshot_id)
        if isinstance(snapshot, str):
            return
        for kind, pin in snapshot.tables.items():
            table = self.tables.get(kind)
            for file in pin.files:
                name = f"tables/{kind}/{file.path}"
                if name not in self.bad_files and table is not None:
                    history = table.history
                    if file.path not in history.added:
                        self.uncommitted.add(name)
                    if history.added.get(file.path) != file or file.path in history.released:
                        self._file(table, file)
                if name in self.bad_files:
                    self.touch(self.bad_files[name], snapshot_id)

    def _objects(self) -> None:
        there = set()
        for entry in self._entries("objects"):
            name = f"objects/{entry.name}"
            if not _DIGEST.fullmatch(entry.name):
                self._odd_one(name, entry)
                continue
            there.add(entry.name)
            if (self.deep or entry.size == 0) and self._sha256(name) != entry.name:
                number = self.found(Code.OBJECT_CHANGED, "not what was kept", file=name, hint=_RESTORE)
                self.touched_exports[number] = {one.export for one in self.exports if entry.name in one.objects}
        needed = {digest: what for one in self.exports for digest, what in one.objects.items()}
        for digest in sorted(needed.keys() - there):
            if self._size(f"objects/{digest}") is None:
                message = f"missing: {needed[digest]} that an export was made with"
                number = self.found(Code.OBJECT_MISSING, message, file=f"objects/{digest}", hint=_RESTORE)
                self.touched_exports[number] = {one.export for one in self.exports if digest in one.objects}

    def _outputs(self) -> None:
        """What the newest export into each folder wrote there, if it is there still."""
        for one in {recorded.export.folder: recorded for recorded in self.exports}.values():
            if "://" in one.export.folder:
                how = f"run 'lake export --verify {one.export.folder}'"
                self.found(Code.EXPORT_ELSEWHERE, "in a bucket: not looked at", file=one.export.folder, hint=how)
            for path, problem in changed_outputs(one, deep=self.deep):
                number = self.found(
                    Code.EXPORT_CHANGED, problem, file=path, hint=f"run 'lake export --verify {one.export.folder}'"
                )
                self.touched_exports[number] = {one.export}

    def _put_aside(self) -> None:
        for entry in self._entries(ASIDE):
            self.found(
                Code.ASIDE, "put aside by 'lake repair'; yours to keep or to delete", file=f"{ASIDE}/{entry.name}"
            )

    def _with_touched(self, number: int, finding: Finding) -> Finding:
        ids = self.touched.get(number, set())
        exports = {one.export for one in self.exports if one.export.snapshot in ids}
        exports |= self.touched_exports.get(number, set())
        return msgspec.structs.replace(
            finding, snapshots=tuple(self._named(one) for one in sorted(ids)), exports=tuple(sorted(exports))
        )

    def _named(self, snapshot_id: str) -> NamedSnapshot:
        names = sorted(name for name, meant in self.names.items() if meant == snapshot_id)
        return NamedSnapshot(snapshot_id, tuple(names))

    # the store, with what it refuses as a finding

    def _entries(self, folder: str) -> list[Entry]:
        try:
            return list(self.store.entries(folder))
        except LakeError as error:
            self.found(Code.UNREACHABLE, error.message, file=folder, hint=error.hint)
            return []

    def _bytes(self, name: str) -> bytes | None:
        try:
            return self.store.read(name)
        except FileNotFoundError:
            return None
        except LakeError as error:
            self.found(Code.UNREACHABLE, error.message, file=name, hint=error.hint)
            return None

    def _size(self, name: str) -> int | None:
        try:
            return self.store.size(name)
        except FileNotFoundError:
            return None

    def _sha256(self, name: str) -> str | None:
        try:
            return self.store.sha256(name)
        except (FileNotFoundError, LakeError):
            return None


def _code_of(problem: str) -> Code:
    if problem == MISSING:
        return Code.COMMIT_MISSING
    if problem in {NOT_OURS, NOT_APPENDED}:
        return Code.COMMIT_FOREIGN
    return Code.COMMIT_UNREADABLE if problem.startswith("not a commit") else Code.COMMIT_CHANGED


def _released(link: Link) -> list[str]:
    return (link.actions["commitInfo"][0].get("lake.released") or []) if link.actions else []


def _became_of(batch: str | None, table: Table) -> str:
    """What became of the batch that a file in no commit was written for."""
    producer, _, sequence = (batch or "").rpartition("@")
    if not sequence.isdigit():
        return "it cannot be read"
    if table.state.transactions.get(f"sequence:{producer}", -1) >= int(sequence):
        return f"its batch {batch} is committed without it"
    return f"its batch {batch} is not committed: its writer was killed before, or the commit was taken away"


def _sequence_of(batch: str) -> int:
    number = batch.rpartition("@")[2]
    return int(number) if number.isdigit() else -1


def _column_names(schema: Any) -> list[str] | None:
    try:
        return [field["name"] for field in json.loads(schema)["fields"]]
    except (TypeError, ValueError, KeyError):
        return None


def _and_more(items: list[str]) -> str:
    return f" (and {len(items) - 1} more)" if len(items) > 1 else ""
