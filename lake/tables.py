"""Whether a table is what was written: its commits and checkpoints first, then its files.

Not here: the rest of a lake, and the order in which it is looked at (`verify`).
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from lake import contents
from lake.checkpoints import CHECKPOINT, HINT, problem_with_checkpoint, problem_with_hint, read_hint
from lake.commits import COMMIT, MISSING, NOT_APPENDED, NOT_OURS, Link, chain, torn
from lake.errors import LakeError
from lake.examination import REPAIR, RESTORE_LOG, Examination, Table
from lake.files import is_scratch
from lake.findings import Code
from lake.kinds import KINDS, Kind
from lake.log import PROPERTIES, Log
from lake.snapshots import FILE_NAME, FilePin


class Tables(Examination):
    """Looks at one table after the other."""

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
        restore = f"another program has changed this table; {RESTORE_LOG.format(table.log.folder)}"
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
                hint=f"{REPAIR}; it is made anew from the commits",
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
                    hint=f"{REPAIR}, and send the batch again",
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
            hint=f"{RESTORE_LOG.format(table.log.folder)}; if there is none, ingest the same inputs again:"
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
                        hint=f"{REPAIR}; it is put aside",
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
                hint=f"{REPAIR}; it is made anew from the commits",
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
            self.found(Code.UNOPENABLE, message, table=log.kind.name, hint=REPAIR)

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

    def _twice(self, table: Table) -> None:
        kind = table.log.kind.name
        live = [pin for path, pin in table.history.live.items() if path in table.keys]
        keys = (table.keys.pop(pin.path) for pin in live)
        for event_id, often in contents.twice(lambda path: self.store.source(f"{table.log.folder}/{path}"), live, keys):
            self.found(Code.EVENT_TWICE, f"the event {event_id} is there {often} times", table=kind, hint="report it")


def _code_of(problem: str) -> Code:
    if problem == MISSING:
        return Code.COMMIT_MISSING
    if problem in {NOT_OURS, NOT_APPENDED}:
        return Code.COMMIT_FOREIGN
    return Code.COMMIT_UNREADABLE if problem.startswith("not a commit") else Code.COMMIT_CHANGED


def _released(link: Link) -> list[str]:
    return (link.actions["commitInfo"][0].get("lake.released") or []) if link.actions else []


def _column_names(schema: Any) -> list[str] | None:
    try:
        return [field["name"] for field in json.loads(schema)["fields"]]
    except (TypeError, ValueError, KeyError):
        return None


def _and_more(items: list[str]) -> str:
    return f" (and {len(items) - 1} more)" if len(items) > 1 else ""
