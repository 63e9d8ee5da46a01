"""Frees the space of data files that compaction has replaced and that nothing needs any more.

Kept is what any snapshot needs, what the newest version needs, and what a version needs that was the newest at some
time in the last days. The rest is freed in an order in which a kill at any point leaves nothing broken and nothing
forgotten: announce it in the table's chain, look at the snapshots once more, commit what is freed (`released` says how
this and a pin at the same moment see each other), delete, prove that every snapshot is whole. What a vacuum that was
killed has committed and not deleted, the next one deletes.

Nothing is freed while not all is seen: a snapshot that cannot be read, one that the lake's ledgers speak of and that is
gone, a chain that is not whole. Not here: files that no commit ever named (`repair`).
"""

import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from lake.commits import History, chain
from lake.errors import Contended, Damaged, UsageError
from lake.files import VERIFY
from lake.lake import Lake
from lake.log import PATIENCE, Head, Log
from lake.released import announce, releases, settled_since
from lake.snapshots import FilePin, Snapshot

KEEP = timedelta(days=30)
LEAST = timedelta(days=7)  # a reader of a state that is not pinned may take that long


@dataclass(frozen=True)
class Freed:
    """What vacuum frees of one table, and what keeps the other files that compaction has replaced.

    `free` are files that nothing needs, `left` those that an earlier vacuum has committed to free and not deleted;
    `pinned` are needed by a snapshot, `recent` by a version of the last days.
    """

    kind: str
    free: tuple[FilePin, ...]
    left: tuple[FilePin, ...]
    pinned: tuple[FilePin, ...]
    recent: tuple[FilePin, ...]

    @property
    def files(self) -> int:
        """How many files are freed."""
        return len(self.free) + len(self.left)

    @property
    def size(self) -> int:
        """How many bytes are freed."""
        return size_of((*self.free, *self.left))


def size_of(files: Iterable[FilePin]) -> int:
    """The bytes of some files."""
    return sum(file.size for file in files)


def plan(lake: Lake, keep: timedelta = KEEP) -> list[Freed]:
    """What vacuum would free now, table by table. Nothing is written. Raises LakeError where not all is seen."""
    pins = _pins(lake)
    found = [_examine(lake, log, pins, datetime.now(UTC) - keep) for log in lake.logs.values()]
    _check_whole(lake, pins)
    return found


def vacuum(lake: Lake, keep: timedelta = KEEP, *, force: bool = False) -> list[Freed]:
    """Free what no snapshot and no version of the last days needs; says what it was, table by table.

    `keep` under a week is refused unless `force` says that nobody is reading a state that is not pinned. Raises
    LakeError where not all is seen, and Damaged if a snapshot is not whole, before or after.
    """
    if keep < timedelta(0) or (keep < LEAST and not force):
        raise UsageError(
            f"versions of the last {LEAST.days} days may be in use by who has not pinned them",
            f"keep {LEAST.days} days or more, or use --force while nobody reads",
        )
    planned = plan(lake, keep)
    for late in _late(lake, list(_manifests(lake))):
        # `plan` has seen that nobody was ever told its id.
        lake.store.remove(f"snapshots/{late.id}.json")
    began = {freed.kind: _begin(lake.logs[freed.kind], freed.free) for freed in planned if freed.free}
    pins = _pins(lake)
    done = []
    for freed in planned:
        log = lake.logs[freed.kind]
        free = _conclude(lake, log, began[freed.kind], freed.free, pins) if freed.free else ()
        for file in (*freed.left, *free):
            lake.store.remove(f"{log.folder}/{file.path}")
        done.append(Freed(freed.kind, tuple(free), freed.left, freed.pinned, freed.recent))
    _check_whole(lake, _pins(lake))
    if any(freed.files for freed in done):
        _record(lake, keep, done)
    return done


def _pins(lake: Lake) -> list[Snapshot]:
    """Every snapshot. Raises Damaged if one cannot be read, or is gone that the lake's own records speak of."""
    # In this order: a snapshot is recorded after it was written.
    known = {str(item) for item in lake.read("snapshots")["snapshot_id"].to_pylist()}
    found = {snapshot.id: snapshot for snapshot in _manifests(lake)}
    for missing in sorted(known - found.keys()):
        raise Damaged(
            f"snapshots/{missing}.json: this snapshot was named, and is gone; nothing is freed",
            "restore it from a backup",
        )
    for late in _late(lake, found.values()):
        if late.id in known:
            raise Damaged(f"snapshots/{late.id}.json: files that it needs were freed; nothing more is", VERIFY)
        del found[late.id]
    return list(found.values())


def _manifests(lake: Lake) -> Iterator[Snapshot]:
    for name in lake.store.names("snapshots"):
        try:
            snapshot = Snapshot(lake.store, lake.store.read(f"snapshots/{name}"))
        except FileNotFoundError:
            # A pin that came too late has taken it back.
            continue
        except Damaged as error:
            raise Damaged(f"snapshots/{name}: {error.message}; nothing is freed", "restore it from a backup") from None
        if name != f"{snapshot.id}.json":
            raise Damaged(f"snapshots/{name}: not what was written; nothing is freed", "restore it from a backup")
        yield snapshot


def _late(lake: Lake, pins: Iterable[Snapshot]) -> list[Snapshot]:
    """The manifests that were written after their files were given up, by who was killed before he saw it."""
    gone = {name: releases(lake.store, log, log.head()).released.keys() for name, log in lake.logs.items()}
    return [pin for pin in pins if any(_needed([pin], kind).keys() & gone[kind] for kind in pin.tables)]


def _needed(pins: Iterable[Snapshot], kind: str) -> dict[str, FilePin]:
    """The files of a table that snapshots need, by name."""
    return {file.path: file for pin in pins if kind in pin.tables for file in pin.tables[kind].files}


def _there(lake: Lake, log: Log) -> Mapping[str, int]:
    """The files in a table's folder, and their sizes."""
    return {entry.name: entry.size for entry in lake.store.entries(log.folder)}


def _examine(lake: Lake, log: Log, pins: Sequence[Snapshot], horizon: datetime) -> Freed:
    history = History()
    for link in chain(lake.store, log.kind):
        if link.problems:
            raise Damaged(f"{link.name}: {link.problems[0]}; nothing is freed", VERIFY)
        history.follow(link)
    if history.live.keys() != {file.path for file in log.head(history.version).files}:
        raise Damaged(f"{log.folder}: its commits add up to other files than it has; nothing is freed", VERIFY)
    needed, there = _needed(pins, log.kind.name), _there(lake, log)
    found: dict[str, list[FilePin]] = {"free": [], "left": [], "pinned": [], "recent": []}
    for name, (_, at) in history.removed.items():
        if name not in there or name in history.live:
            continue
        what = "pinned" if name in needed else "left" if name in history.released else "recent"
        found["free" if what == "recent" and at <= horizon else what].append(history.added[name])
    return Freed(log.kind.name, **{what: tuple(files) for what, files in found.items()})


def _check_whole(lake: Lake, pins: Sequence[Snapshot]) -> None:
    """Prove that each file that a snapshot needs is there, with its size. Raises Damaged."""
    for log in lake.logs.values():
        there = _there(lake, log)
        for file in _needed(pins, log.kind.name).values():
            if there.get(file.path) != file.size:
                touched = [pin.id for pin in pins if file.path in _needed([pin], log.kind.name)]
                raise Damaged(
                    f"{log.folder}/{file.path}: missing or of another size; snapshot {touched[0]} needs it"
                    + (f", and {len(touched) - 1} more" if touched[1:] else ""),
                    VERIFY,
                )


def _heads(log: Log) -> Iterator[Head]:
    """The newest version, time and again until somebody has committed after it. Raises Contended."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        yield log.head()
        time.sleep(random.uniform(0, 0.05))  # noqa: S311 -- jitter, no secret
    raise Contended(f"{log.kind.name}: no commit within {PATIENCE:.0f} s", "try again")


def _begin(log: Log, files: Sequence[FilePin]) -> int:
    """Announce what may be freed. Returns the version that says so."""
    info = {
        "operation": "VACUUM START",
        "lake.releasing": sorted(file.path for file in files),
        "lake.what": f"vacuum: may free {len(files)} files",
    }
    return next(head.version + 1 for head in _heads(log) if announce(log, head, info))


def _conclude(lake: Lake, log: Log, began: int, files: Sequence[FilePin], pins: Sequence[Snapshot]) -> list[FilePin]:
    """Commit which of the announced files are freed: all but those that somebody has pinned since."""
    pinned = _needed(pins, log.kind.name).keys()
    for head in _heads(log):
        settled = settled_since(lake.store, log, head, began)
        free = [file for file in files if file.path not in pinned and file.path not in settled]
        info = {
            "operation": "VACUUM END",
            "lake.released": sorted(file.path for file in free),
            "lake.keeping": sorted({file.path for file in files} - {file.path for file in free}),
            "lake.what": f"vacuum: freed {len(free)} files of {size_of(free):,} bytes",
        }
        if announce(log, head, info):
            break
    return free


def _record(lake: Lake, keep: timedelta, done: Sequence[Freed]) -> None:
    tables = {freed.kind: {"files": freed.files, "bytes": freed.size} for freed in done if freed.files}
    counts = {"files": sum(freed.files for freed in done), "bytes": sum(freed.size for freed in done)}
    receipt: dict[str, object] = {
        "stage": "vacuum",
        "inputs": msgspec.json.encode({"keep_days": keep / timedelta(days=1)}).decode(),
        "outputs": msgspec.json.encode(tables).decode(),
        "counts": msgspec.json.encode(counts).decode(),
        "passed": True,
    }
    lake.record("receipts", receipt)
