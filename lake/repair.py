"""Mends what can be mended without inventing anything, and refuses the rest with what to do.

A checkpoint and the hint to it are made anew from the commits. A torn last commit that nothing shows to have been
acknowledged is put aside, so that whoever sent it sends it again. Files that nothing needs are listed, and taken away
on demand once they are old. What is put aside is kept under `aside/`; nothing else that is damaged is touched.

Not here: finding what is wrong (`verify`).
"""

import contextlib
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from enum import StrEnum
from typing import Any

import msgspec

from lake.checkpoints import CHECKPOINT, HINT, hint_to, read_hint
from lake.commits import COMMIT, digest, torn
from lake.errors import LakeError, UsageError
from lake.examination import Progress
from lake.files import Entry, Store
from lake.findings import Code, Finding, Report
from lake.lake import Lake
from lake.released import announce
from lake.verify import ASIDE, examine

SAFE_AGE = timedelta(days=7)
SHORTEST_AGE = timedelta(hours=1)

MENDABLE = frozenset({Code.COMMIT_TORN, Code.LOG_FILE, Code.HINT, Code.CHECKPOINT})
_ATTEMPTS = 20
_LEFT = frozenset({Code.ORPHAN, Code.SCRATCH})
# While one of these is true of a table, a file in no commit may be what is missing.
_HARMLESS = frozenset({Code.HINT, Code.CHECKPOINT, Code.EXPORT_CHANGED, Code.OBJECT_CHANGED, Code.OBJECT_MISSING})


class Did(StrEnum):
    """What became of a finding."""

    PUT_ASIDE = "put aside"
    REBUILT = "rebuilt"
    REMOVED = "removed"
    KEPT = "kept"
    REFUSED = "refused"


class Act(msgspec.Struct, frozen=True):
    """What repair did, or in a dry run would do, about one file; `to` is where it was put, `hint` what to do next."""

    did: Did
    file: str
    why: str
    to: str | None = None
    hint: str | None = None

    @property
    def changes(self) -> bool:
        """Whether anything in the lake is another for it."""
        return self.did in {Did.PUT_ASIDE, Did.REBUILT, Did.REMOVED}


def repair(
    lake: Lake,
    *,
    dry_run: bool = False,
    remove_orphans: bool = False,
    older_than: timedelta = SAFE_AGE,
    progress: Progress | None = None,
) -> list[Act]:
    """Mend what can be mended, and say what was done about each finding; a receipt of it is appended to the lake.

    `remove_orphans` takes files away that nothing needs, once they are `older_than` this: at least an hour, so that no
    writer still means to commit them. Raises UsageError; LakeError if the disk refuses.
    """
    if older_than < SHORTEST_AGE:
        raise UsageError(f"orphans must be at least an hour old, not {older_than}", "writers may still commit them")
    work = _Repair(lake, dry_run, time.time() - older_than.total_seconds() if remove_orphans else None)
    # The second of two repairs would take away what a writer has put in the place of what the first one did.
    with contextlib.nullcontext() if dry_run else lake.store.alone():
        report = examine(lake.store, lake.logs, all_checkpoints=True, progress=progress)
        acts = list(work.mend(report))
    changes = [act for act in acts if act.changes]
    if changes and not dry_run:
        rows: dict[str, Any] = {
            "stage": "repair",
            "outputs": msgspec.json.encode([msgspec.to_builtins(act) for act in changes]).decode(),
            "passed": all(act.did is not Did.REFUSED for act in acts),
        }
        try:
            lake.record("receipts", rows)
        except LakeError as error:
            acts.append(Act(Did.REFUSED, "tables/receipts", f"no receipt of this: {error.message}", hint=error.hint))
    return acts


class _Repair:
    def __init__(self, lake: Lake, dry_run: bool, before: float | None) -> None:
        self.lake = lake
        self.store: Store = lake.store
        self.dry_run = dry_run
        self.before = before

    def mend(self, report: Report) -> Iterator[Act]:
        tables = {one.table: None for one in report.faults if one.code in MENDABLE and one.table}
        for kind in tables:
            yield from self._log(kind, [one for one in report.faults if one.table == kind])
        for one in report.faults:
            if one.code is Code.UNOPENABLE:
                yield from self._unopenable(one)
            elif one.code not in MENDABLE:
                yield Act(Did.REFUSED, _place(one), one.message, hint=one.hint)
        yield from self._left(report)

    # a table's log

    def _log(self, kind: str, faults: list[Finding]) -> Iterator[Act]:
        """The torn commit first, then what is made from the commits, if these are whole."""
        broken = {one.version for one in faults if one.code.startswith("commit-") and one.version is not None}
        for one in faults:
            if one.code is Code.COMMIT_TORN and one.file:
                yield from self._aside(one.file, one.message, only_if=torn, hint="send the batch again: ingest again")
                broken.discard(one.version or 0)
            if one.code is Code.LOG_FILE and one.file:
                yield from self._aside(one.file, one.message)
        bad = sorted({one.version for one in faults if one.code is Code.CHECKPOINT and one.version is not None})
        wrong_hint = [one for one in faults if one.code is Code.HINT]
        if not bad and not wrong_hint:
            return
        first = min(broken, default=None)
        if wrong_hint and self._newest(kind) in broken:
            # It may be all that tells that this commit was acknowledged.
            why = "it stays as it is while the last commit is damaged"
            name = f"tables/{kind}/_delta_log/{HINT}"
            yield Act(Did.REFUSED, name, why, hint="mend the commits first: 'lake verify' says how")
            return
        names = [f"tables/{kind}/_delta_log/{version:020d}.checkpoint.parquet" for version in bad]
        for version, name in zip(bad, names, strict=True):
            if first is not None and first <= version:
                why = f"it cannot be made anew: version {first} is damaged itself"
                yield Act(Did.REFUSED, name, why, hint="mend the commits first: 'lake verify' says how")
                return
        yield from self._made_anew(kind, bad, names, wrong_hint)

    def _made_anew(self, kind: str, bad: list[int], names: list[str], wrong_hint: list[Finding]) -> Iterator[Act]:
        log = self.lake.logs[kind]
        hint = f"{log.folder}/_delta_log/{HINT}"
        asides = [(name, "its contents are not those of the commits") for name in names]
        if wrong_hint or self._hinted(hint) in bad:
            asides.append((hint, wrong_hint[0].message if wrong_hint else "it named that checkpoint"))
        for name, why in asides:
            for act in self._aside(name, why):
                yield act
                if act.did is Did.REFUSED:
                    # Nothing is made anew in the place of what is still there.
                    return
        for version, name in zip(bad, names, strict=True):
            if not self.dry_run:
                log.checkpoint(version, afresh=True)
            yield Act(Did.REBUILT, name, "from the commits")
        there = {
            int(m[1]): name
            for name in self.store.names(f"{log.folder}/_delta_log")
            if (m := CHECKPOINT.fullmatch(name))
        }
        if there:
            if not self.dry_run:
                newest = self.store.read(f"{log.folder}/_delta_log/{there[max(there)]}")
                self.store.replace(hint, hint_to(max(there), newest))
            yield Act(Did.REBUILT, hint, f"it names the checkpoint of version {max(there)}")

    def _newest(self, kind: str) -> int:
        names = self.store.names(f"tables/{kind}/_delta_log")
        return max((int(match[1]) for name in names if (match := COMMIT.fullmatch(name))), default=-1)

    def _hinted(self, name: str) -> int | None:
        try:
            found = read_hint(self.store.read(name))
        except FileNotFoundError:
            return None
        return found.version if found else None

    def _unopenable(self, one: Finding) -> Iterator[Act]:
        """Commits and checkpoints are as they should be, and yet a Delta reader sees something else: make them anew."""
        kind = one.table or ""
        folder = f"tables/{kind}/_delta_log"
        found = {int(m[1]): name for name in self.store.names(folder) if (m := CHECKPOINT.fullmatch(name))}
        if not found:
            yield Act(Did.REFUSED, f"tables/{kind}", one.message, hint=one.hint)
            return
        newest = max(found)
        yield from self._made_anew(kind, [newest], [f"{folder}/{found[newest]}"], [])

    def _aside(self, name: str, why: str, only_if: Any = None, hint: str | None = None) -> Iterator[Act]:
        """Keep a copy, then take the file away, if it is still the one that was looked at."""
        try:
            data = self.store.read(name)
        except FileNotFoundError:
            return
        to = f"{ASIDE}/{name.replace('/', '.')}.{digest(data)[:16]}"
        if not self.dry_run:
            if only_if is not None and not only_if(data):
                yield Act(Did.REFUSED, name, "somebody has written it in the meantime", hint="run 'lake verify'")
                return
            self.store.write_new(to, data)
            if self.store.read(name) != data or self.store.read(to) != data:
                yield Act(Did.REFUSED, name, "somebody has written it in the meantime", hint="run 'lake verify'")
                return
            self.store.remove(name)
        yield Act(Did.PUT_ASIDE, name, why, to, hint)

    # what writers left

    def _left(self, report: Report) -> Iterator[Act]:
        left = [one for one in report.findings if one.code in _LEFT and one.file]
        unsafe = {one.table for one in report.faults if one.code not in _HARMLESS}
        entries = self._entries(one.file for one in left if one.file)
        needed = self._needed() if self.before is not None and None not in unsafe else set()
        going: dict[str | None, list[tuple[str, str]]] = {}
        for one in left:
            name = one.file or ""
            entry = entries.get(name)
            if entry is None:
                continue
            said = f"{one.message}; {entry.size} bytes, {_age(entry)} old"
            if self.before is None:
                how = "run 'lake repair --remove-orphans' to take it away once it is old"
                yield Act(Did.KEPT, name, said, hint=how)
            elif entry.modified >= self.before:
                yield Act(Did.KEPT, name, f"{said}: too young to be taken away")
            elif one.code is Code.ORPHAN and (one.table in unsafe or None in unsafe or name in needed):
                yield Act(Did.KEPT, name, f"{said}: while the lake is damaged it may be what is missing")
            else:
                going.setdefault(one.table if one.code is Code.ORPHAN else None, []).append((name, said))
        for kind, files in going.items():
            if kind is not None and not self.dry_run and not self._give_up(kind, [name for name, _ in files]):
                why = "other writers were faster each time"
                yield from (Act(Did.KEPT, name, f"{said}: {why}", hint="try again later") for name, said in files)
                continue
            for name, said in files:
                if not self.dry_run:
                    self.store.remove(name)
                yield Act(Did.REMOVED, name, said)

    def _give_up(self, kind: str, names: list[str]) -> bool:
        """Say in the table's chain that files are given up, so that a writer who slept over them writes others."""
        log = self.lake.logs[kind]
        files = {name.rpartition("/")[2] for name in names}
        what = f"gave up {len(files)} files that no commit names"
        for _ in range(_ATTEMPTS):
            head = log.head()
            # The commit lands right after this head or not at all, so nobody can have named one of them meanwhile.
            if files & {pin.path for pin in head.files}:
                return False
            if announce(log, head, {"operation": "VACUUM END", "lake.released": sorted(files), "lake.what": what}):
                return True
        return False

    def _needed(self) -> set[str]:
        """Every file that a snapshot names: asked again, as late as can be."""
        names: set[str] = set()
        for one in self.lake.snapshots():
            tables = self.lake.snapshot(one).tables
            names |= {f"tables/{kind}/{file.path}" for kind, pin in tables.items() for file in pin.files}
        for kind, log in self.lake.logs.items():
            # Committed since it was looked at; of a table that cannot be opened nothing is taken away.
            with contextlib.suppress(LakeError):
                names |= {f"tables/{kind}/{file.path}" for file in log.head().files}
        return names

    def _entries(self, names: Iterable[str]) -> dict[str, Entry]:
        found = {}
        for name in names:
            try:
                found[name] = self.store.entry(name)
            except FileNotFoundError:
                continue
        return found


def _place(one: Finding) -> str:
    return one.file or (f"tables/{one.table}" if one.table else "")


def _age(entry: Entry) -> str:
    hours = max(0, int(time.time() - entry.modified)) // 3600
    return f"{hours // 24} days" if hours >= 48 else f"{hours} hours"
