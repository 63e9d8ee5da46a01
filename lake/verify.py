"""Proves that what is stored is what was written, and says what is touched where it is not.

Works from the files alone: the commits first, in their order, then what they and the snapshots name. So a table that no
Delta reader opens is examined like any other. What writers do meanwhile is no fault: what refers to versions is read
before the commits, and what commits refer to after them.

Not here: mending (`repair`).
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from lake.commits import MISSING, commit_name
from lake.errors import LakeError
from lake.examination import RESTORE, RESTORE_LOG, Pinned, Progress, Table
from lake.files import Store
from lake.findings import Code, Finding, NamedSnapshot, Report
from lake.kinds import KINDS
from lake.log import Log
from lake.recorded import changed_outputs, recorded_in
from lake.snapshots import FILE_NAME, ID_LENGTH, Snapshot, scan_files
from lake.tables import Tables

ASIDE = "aside"

_PIN = re.compile(rf"([0-9a-f]{{{ID_LENGTH}}})\.json")
_DIGEST = re.compile(r"[0-9a-f]{64}")


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


class Examiner(Tables):
    """One examination of a lake. The order of its steps is what makes it safe beside writers."""

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

    def _marker(self) -> None:
        try:
            said = msgspec.json.decode(self.store.read("lake.json"), type=dict[str, Any])
            if not {"format", "id", "created_at"} <= said.keys() or said["format"] != 1:
                self.found(Code.MARKER, "not what was written", file="lake.json", hint=RESTORE)
        except FileNotFoundError:
            self.found(Code.MARKER, "missing", file="lake.json", hint=RESTORE)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self.found(Code.MARKER, f"not what was written: {error}", file="lake.json", hint=RESTORE)

    def _pins(self) -> None:
        for entry in self._entries("snapshots"):
            name = f"snapshots/{entry.name}"
            match = _PIN.fullmatch(entry.name)
            if match is None:
                self._odd_one(name, entry)
            elif isinstance(found := self._pin(match[1]), str):
                self.bad_pins.add(match[1])
                self.touch(self.found(Code.PIN_CHANGED, found, file=name, hint=RESTORE), match[1])
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
            self.found(Code.PIN_MISSING, message, file=f"snapshots/{snapshot_id}.json", hint=RESTORE), snapshot_id
        )

    def _is_there(self, snapshot_id: str) -> bool:
        return self._size(f"snapshots/{snapshot_id}.json") is not None

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
                        hint=f"{RESTORE_LOG.format(table.log.folder)}; what was pinned can be read with --at",
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
                number = self.found(Code.OBJECT_CHANGED, "not what was kept", file=name, hint=RESTORE)
                self.touched_exports[number] = {one.export for one in self.exports if entry.name in one.objects}
        needed = {digest: what for one in self.exports for digest, what in one.objects.items()}
        for digest in sorted(needed.keys() - there):
            if self._size(f"objects/{digest}") is None:
                message = f"missing: {needed[digest]} that an export was made with"
                number = self.found(Code.OBJECT_MISSING, message, file=f"objects/{digest}", hint=RESTORE)
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


def _sequence_of(batch: str) -> int:
    number = batch.rpartition("@")[2]
    return int(number) if number.isdigit() else -1
