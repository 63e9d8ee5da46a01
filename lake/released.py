"""Which data files vacuum has freed, and is about to free: what everybody else must heed of it.

A vacuum says in the table's own chain, before it looks at the snapshots for the last time, which files it means to free
(`lake.releasing`), and then, which of these it does free (`lake.released`). Who pins a state writes the manifest first
and then looks here. So either the vacuum finds the manifest, or whoever pins finds the announcement, and says in the
chain that the files are needed (`lake.keeping`). The two commits cannot both come before the other: if the vacuum's
came first, the pin fails; otherwise the vacuum leaves the files alone. Neither waits for the other, and either may be
killed at any point.

The commits form a list of their own, from the newest to the first, which costs nothing where nothing was ever freed.
Not here: choosing and deleting the files (`vacuum`).
"""

import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lake.commits import commit_name, info_of, time_of
from lake.errors import Contended, Damaged, LakeError
from lake.files import VERIFY, Store
from lake.log import PATIENCE, Head, Log
from lake.snapshots import TablePin

# Under this name the newest of these commits is found, as a producer's last batch is. No producer can be named so.
_MARK = "vacuum\t"


class Vacuumed(LakeError):
    """This version's files were replaced by compaction long ago, no snapshot needed them, and vacuum has freed them."""


@dataclass(frozen=True)
class Releases:
    """Files by what vacuum says of them: those that it may free soon, and when it decided on those that it frees."""

    releasing: frozenset[str]
    released: Mapping[str, datetime]


def releases(store: Store, log: Log, head: Head) -> Releases:
    """What a table's commits up to a version say of freed files. Raises Damaged."""
    infos = [info for _, info in _entries(store, log, head)]
    releasing: set[str] = set()
    released: dict[str, datetime] = {}
    for info in reversed(infos):
        releasing.update(info.get("lake.releasing") or ())
        releasing.difference_update(info.get("lake.keeping") or (), info.get("lake.released") or ())
        released.update(dict.fromkeys(info.get("lake.released") or (), time_of(info)))
    return Releases(frozenset(releasing), released)


def settled_since(store: Store, log: Log, head: Head, began: int) -> set[str]:
    """The files of which somebody has said after an announcement that they are needed, or freed by him."""
    later = [info for version, info in _entries(store, log, head) if version > began]
    return {name for info in later for what in ("lake.keeping", "lake.released") for name in info.get(what) or ()}


def announce(log: Log, head: Head, info: Mapping[str, Any]) -> bool:
    """Commit one of the entries that say what is freed, on exactly the next version. False if that is taken."""
    last = head.position(_MARK)
    said = {"lake.rows": 0, "lake.note": {"before": last.version if last else None}, **info}
    moves = {f"sequence:{_MARK}": last.sequence + 1 if last else 0, f"version:{_MARK}": head.version + 1}
    return log.commit_after(head, said, transactions=moves)


def check_readable(store: Store, log: Log, pin: TablePin, *, present: bool = False) -> None:
    """Refuse a version whose files were freed, or with `present` are not all there. Raises Vacuumed, Damaged."""
    if not _has_moved_on(store, log, pin):
        return
    head = log.head()
    old = _replaced(pin, head)
    if old:
        _refuse(log, pin, old, releases(store, log, head))
    for name in sorted(old.difference(store.names(log.folder))) if old and present else ():
        raise Damaged(f"{log.folder}/{name}: this data file is gone", VERIFY)


def hold(store: Store, log: Log, pin: TablePin) -> None:
    """Keep vacuum from the files of a state whose manifest is written. Raises Vacuumed where this comes too late."""
    deadline = time.monotonic() + PATIENCE
    while _has_moved_on(store, log, pin):
        head = log.head()
        old = _replaced(pin, head)
        if not old:
            return
        told = releases(store, log, head)
        _refuse(log, pin, old, told)
        needed = sorted(old & told.releasing)
        info = {"lake.keeping": needed, "lake.what": f"vacuum: a snapshot keeps {len(needed)} files"}
        if not needed or announce(log, head, info):
            return
        if time.monotonic() > deadline:
            raise Contended(f"{log.kind.name}: no commit within {PATIENCE:.0f} s", "try again")
        time.sleep(random.uniform(0, 0.05))  # noqa: S311 -- jitter, no secret


def _entries(store: Store, log: Log, head: Head) -> Iterator[tuple[int, dict[str, Any]]]:
    """The commits that say what is freed, the newest first."""
    last = head.position(_MARK)
    version = last.version if last else None
    while version is not None:
        info = info_of(store, log.kind, version)
        yield version, info
        version = info["lake.note"]["before"]


def _has_moved_on(store: Store, log: Log, pin: TablePin) -> bool:
    """Whether there is a later version: without one, every file of this one is in use."""
    return store.exists(commit_name(log.kind, pin.version + 1))


def _replaced(pin: TablePin, head: Head) -> set[str]:
    return {file.path for file in pin.files} - {file.path for file in head.files}


def _refuse(log: Log, pin: TablePin, old: set[str], told: Releases) -> None:
    if gone := old & told.released.keys():
        at = max(told.released[name] for name in gone)
        raise Vacuumed(
            f"{log.kind.name}: version {pin.version} was vacuumed on {at:%Y-%m-%d %H:%M} UTC, to free space",
            "snapshots and newer versions are whole: run 'lake snapshot list', or 'lake log'",
        )
