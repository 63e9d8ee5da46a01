"""What `verify` reports: findings, each with a code out of a closed vocabulary, and what they touch.

A fault means that something stored is not what was written, or cannot be proved to be. A note is worth knowing and
takes nothing from anybody. docs/repair.md says what to do about each.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import TypeVar

import msgspec


class Code(StrEnum):
    """What is wrong, or worth knowing. Programs may rely on these words."""

    MARKER = "marker"  # lake.json is missing, or not what was written
    PROPERTY = "property"  # a table's properties or schema are not those of the lake
    COMMIT_MISSING = "commit-missing"  # a commit with others after it is gone
    COMMIT_TORN = "commit-torn"  # the last commit is empty, zeroed or cut, and nothing knows it: never acknowledged
    COMMIT_UNREADABLE = "commit-unreadable"  # any other commit that cannot be read
    COMMIT_CHANGED = "commit-changed"  # a commit has other bytes than its seal, its successor or its contents say
    COMMIT_FOREIGN = "commit-foreign"  # another program has committed
    COMMIT_REPLACED = "commit-replaced"  # a pinned version is another commit today
    ROLLED_BACK = "rolled-back"  # something knows a version that the log does not have any more
    HINT = "hint"  # `_last_checkpoint` is unreadable, wrong or leads nowhere
    CHECKPOINT = "checkpoint"  # a checkpoint is unreadable, or says other things than the commits
    LOG_FILE = "log-file"  # a file in the log that the lake does not make and a Delta reader might follow
    UNOPENABLE = "unopenable"  # a Delta reader cannot open the table, or sees another one than the commits tell of
    FILE_MISSING = "file-missing"
    FILE_SIZE = "file-size"
    FILE_CHANGED = "file-changed"  # a data file has another sha256
    FILE_UNREADABLE = "file-unreadable"  # a page checksum or the Parquet around it
    FILE_CONTENT = "file-content"  # a data file has other rows, ids or columns than its commit says
    EVENT_ID = "event-id"  # an event's id is not what its content gives
    EVENT_TWICE = "event-twice"
    PIN_CHANGED = "pin-changed"  # a snapshot's manifest is not what was written
    PIN_MISSING = "pin-missing"  # a name or an export means a snapshot that is not there
    OBJECT_CHANGED = "object-changed"
    OBJECT_MISSING = "object-missing"
    EXPORT_CHANGED = "export-changed"  # a file of an export is not what its receipt says
    UNREACHABLE = "unreachable"  # the disk or the store refused to read
    ORPHAN = "orphan"  # note: a data file in no commit
    SCRATCH = "scratch"  # note: what a writer that was killed had not finished
    STRAY = "stray"  # note: a file that the lake did not make
    ASIDE = "aside"  # note: what repair has put aside
    NO_TABLE = "no-table"  # note: the lake is older than this kind, or its creation was cut short
    EXPORT_ELSEWHERE = "export-elsewhere"  # note: an export in a bucket, which is not looked at


NOTES = frozenset({Code.ORPHAN, Code.SCRATCH, Code.STRAY, Code.ASIDE, Code.NO_TABLE, Code.EXPORT_ELSEWHERE})


class NamedSnapshot(msgspec.Struct, frozen=True, order=True):
    """A pinned snapshot and the names that mean it."""

    id: str
    names: tuple[str, ...] = ()


class Export(msgspec.Struct, frozen=True, order=True):
    """An export that the lake has a receipt of: where it was written, what it is, and of which snapshot."""

    folder: str
    dataset: str
    snapshot: str


_T = TypeVar("_T", NamedSnapshot, Export)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One fault or note. `file` is a name in the lake's store, or the path of an export's file.

    `snapshots` and `exports` are what can no longer be read or proved because of it.
    """

    code: Code
    message: str
    table: str | None = None
    version: int | None = None
    file: str | None = None
    hint: str | None = None
    snapshots: tuple[NamedSnapshot, ...] = ()
    exports: tuple[Export, ...] = ()

    def __str__(self) -> str:
        where = self.file or (f"tables/{self.table}" if self.table else None)
        return f"{where}: {self.message}" if where else self.message

    @property
    def is_fault(self) -> bool:
        """Whether something is wrong, rather than worth knowing."""
        return self.code not in NOTES


class Report(msgspec.Struct, frozen=True):
    """All findings about a lake, and what there is that they may touch."""

    findings: tuple[Finding, ...]
    snapshots: tuple[NamedSnapshot, ...]
    exports: tuple[Export, ...]

    @property
    def faults(self) -> tuple[Finding, ...]:
        """The findings that are no notes."""
        return tuple(finding for finding in self.findings if finding.is_fault)

    @property
    def touched_snapshots(self) -> tuple[NamedSnapshot, ...]:
        """The snapshots that any fault touches."""
        return _all(one for finding in self.faults for one in finding.snapshots)

    @property
    def touched_exports(self) -> tuple[Export, ...]:
        """The exports that any fault touches."""
        return _all(one for finding in self.faults for one in finding.exports)


def _all(items: Iterable[_T]) -> tuple[_T, ...]:
    return tuple(sorted(set(items)))
