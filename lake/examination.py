"""What one examination of a lake knows so far: its tables, its pins, and what was found.

What the store refuses is a finding here, not an error.

Not here: what is looked at (`tables`, `verify`).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from lake import contents
from lake.checkpoints import Reconciled
from lake.commits import History
from lake.errors import LakeError
from lake.files import Entry, Store, is_scratch
from lake.findings import Code, Export, Finding
from lake.log import Log
from lake.recorded import Recorded
from lake.snapshots import FILE_NAME

Progress = Callable[[int, int | None, str], None]

RESTORE = "restore it from a backup"
REPAIR = "run 'lake repair'"
RESTORE_LOG = "restore {}/_delta_log from a backup"


class Pinned(msgspec.Struct, frozen=True):
    """What is kept in memory of a snapshot: for each table its version and the sha256 of that commit."""

    id: str
    heads: dict[str, tuple[int, str]]


@dataclass
class Table:
    """One table as its commits tell it."""

    log: Log
    history: History = field(default_factory=History)
    state: Reconciled = field(default_factory=Reconciled)
    commits: dict[int, str | None] = field(default_factory=dict)  # sha256 by version
    faulty: set[int] = field(default_factory=set)
    keys: dict[str, np.ndarray] = field(default_factory=dict)
    listed: dict[str, Entry] = field(default_factory=dict)

    @property
    def last(self) -> int:
        """The newest version, -1 where there is none."""
        return self.history.version


class Examination:
    """The findings of one examination, and what they touch."""

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

    def found(self, code: Code, message: str, **more: Any) -> int:
        """Note a finding; its number."""
        self.findings.append(Finding(code=code, message=message, **more))
        return len(self.findings) - 1

    def touch(self, finding: int, snapshot_id: str) -> None:
        """Say that a snapshot, and the exports of it, are touched by a finding."""
        self.touched.setdefault(finding, set()).add(snapshot_id)

    def _bad_file(self, kind: str, name: str, code: Code, message: str) -> None:
        hint = "restore this file from a backup; what does not need it can be read"
        self.bad_files[name] = self.found(code, message, table=kind, file=name, hint=hint)

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


def _became_of(batch: str | None, table: Table) -> str:
    """What became of the batch that a file in no commit was written for."""
    producer, _, sequence = (batch or "").rpartition("@")
    if not sequence.isdigit():
        return "it cannot be read"
    if table.state.transactions.get(f"sequence:{producer}", -1) >= int(sequence):
        return f"its batch {batch} is committed without it"
    return f"its batch {batch} is not committed: its writer was killed before, or the commit was taken away"
