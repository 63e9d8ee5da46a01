"""What a commit says: Delta's JSON lines, and the chain that the lake makes of them.

A commit is a file of the log, `tables/<kind>/_delta_log/<version>.json`: a line of `commitInfo`, then one for each file
that it adds or removes and each application transaction that it moves (the format is Delta's protocol, "Actions").
Into `commitInfo` the lake writes what makes a chain of them: `lake.prev` is the sha256 of the commit before. Its last
entry, `lake.seal`, is the length and sha256 of the commit itself (with zeros in place of the seal), so that the newest
commit, which no other one names yet, shows a bit that flipped or an end that is gone.

Here commits are encoded, decoded and followed from the first to the last, with nothing but the store. Which version is
the newest, and what a table holds, is the log's to say.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from lake.errors import Damaged, UsageError
from lake.files import Store
from lake.kinds import Kind
from lake.snapshots import FILE_NAME, FilePin

DEEPEST_NOTE = 32  # a program that reads the log may allow for no more than 128 levels
LONGEST_NOTE = 1 << 20  # bytes
COMMIT = re.compile(r"([0-9]{20})\.json")
_FILE_NAME = re.compile(FILE_NAME)

# What is wrong with a link of the chain, one of these or why it cannot be read.
MISSING = "missing"
NOT_SEALED = "its bytes are not those that were written"
NOT_OURS = "not written by the lake"
NOT_NEXT = "does not follow version"
NOT_APPENDED = "adds or removes what the lake would not"
NOT_ADDING_UP = "has other rows than were committed"

DAMAGED = "run 'lake verify', then 'lake repair'; pinned snapshots can be read all the same, with --at"
_NO_SEAL = f"{0:010d}-{0:064d}".encode()
_SEAL = re.compile(rb"[0-9]{10}-[0-9a-f]{64}")
_SEALED = re.compile(rb'"([^"]*)"\s*:\s*"([^"]{%d})"\s*}\s*}\s*\Z' % len(_NO_SEAL))


@dataclass(frozen=True)
class Commit:
    """One entry of the log. `at` never goes back, whatever the clock did; `prev` is the previous entry's sha256.

    `what` is what upkeep says that it did.
    """

    kind: str
    version: int
    at: datetime
    producer: str | None
    sequence: int | None
    rows: int
    prev: str | None
    operation: str
    what: str | None = None


@dataclass(frozen=True)
class DataFile:
    """A data file as a commit adds it: its pin, and the statistics by which other Delta readers skip it, as JSON."""

    pin: FilePin
    stats: str


@dataclass(frozen=True)
class Link:
    """One commit of the chain. `problems` is what is wrong with it; there may be neither `sha256` nor `actions`."""

    version: int
    name: str
    sha256: str | None
    actions: dict[str, list[dict[str, Any]]] | None
    problems: tuple[str, ...]


@dataclass
class History:
    """What the commits up to a version say of the files, by name.

    `live` are those of that version. `removed` has for each file that a compaction replaced the version and the time
    at which it did, `released` those that vacuum has since given up.
    """

    version: int = -1
    live: dict[str, FilePin] = field(default_factory=dict)
    added: dict[str, FilePin] = field(default_factory=dict)
    removed: dict[str, tuple[int, datetime]] = field(default_factory=dict)
    released: set[str] = field(default_factory=set)

    def follow(self, link: Link) -> None:
        """Take in the next commit; one that cannot be read changes nothing."""
        self.version = link.version
        if link.actions is None:
            return
        info = link.actions["commitInfo"][0]
        for action in link.actions["add"]:
            if (pin := pin_of(action)) is not None:
                self.live[pin.path] = self.added[pin.path] = pin
        for action in link.actions["remove"]:
            if self.live.pop(str(action.get("path")), None) is not None:
                self.removed[action["path"]] = (link.version, time_of(info))
        self.released.update(info.get("lake.released") or ())


class _Info(msgspec.Struct):
    """What is worked with of a commitInfo."""

    timestamp: int | None = None
    time: int | None = msgspec.field(name="lake.time", default=None)
    rows: int = msgspec.field(name="lake.rows", default=0)
    released: list[str] | None = msgspec.field(name="lake.released", default=None)


def commit_name(kind: Kind, version: int) -> str:
    """Where a commit's JSON is, in the lake's store."""
    return f"tables/{kind.name}/_delta_log/{version:020d}.json"


def encode(
    info: Mapping[str, Any],
    *,
    adds: Sequence[DataFile] = (),
    removes: Sequence[FilePin] = (),
    transactions: Mapping[str, int] | None = None,
    rewrite: bool = False,
) -> bytes:
    """The bytes of a commit. `info` are the lake's own entries; a `rewrite` moves rows from file to file, no more."""
    now = time.time_ns() // 1_000_000
    said = {
        "timestamp": now,
        "operation": "OPTIMIZE" if rewrite else "WRITE",
        "operationParameters": {} if rewrite else {"mode": "Append", "partitionBy": "[]"},
        "isBlindAppend": not rewrite,
        **info,
    }
    lines: list[dict[str, Any]] = [{"commitInfo": said}]
    lines += [{"txn": {"appId": app, "version": at, "lastUpdated": now}} for app, at in (transactions or {}).items()]
    lines += [
        {
            "remove": {
                "path": pin.path,
                "deletionTimestamp": now,
                "dataChange": False,
                "extendedFileMetadata": True,
                "partitionValues": {},
                "size": pin.size,
            }
        }
        for pin in removes
    ]
    lines += [
        {
            "add": {
                "path": file.pin.path,
                "partitionValues": {},
                "size": file.pin.size,
                "modificationTime": now,
                "dataChange": not rewrite,
                "stats": file.stats,
            }
        }
        for file in adds
    ]
    return seal(
        b"".join(json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode() + b"\n" for line in lines)
    )


def seal(data: bytes) -> bytes:
    """A commit with its seal: the last entry of the commitInfo, which is the first line."""
    line, _, rest = data.partition(b"\n")
    start = line.removesuffix(b"}}") + b',"lake.seal":"'
    rest = b'"}}\n' + rest
    told = f"{len(start) + len(_NO_SEAL) + len(rest):010d}-{digest(start + _NO_SEAL + rest)}"
    return start + told.encode() + rest


def torn(data: bytes) -> bool:
    """Whether this is the beginning of a commit, or nothing, with zeros after it: what a power failure leaves."""
    kept = data.rstrip(b"\0")
    start = b'{"commitInfo":{'
    if b"\0" in kept or not (kept.startswith(start) or start.startswith(kept)):
        return False
    *lines, rest = kept.split(b"\n")
    if not all(map(_is_line, lines)):
        return False
    if (rest and not _is_line(rest)) or not kept:
        return True
    whole = b"\n".join([*lines, rest])
    told = _SEALED.search(whole.partition(b"\n")[0])
    if told is None or not told[2][:10].isdigit():
        return False
    # A wrong length alone is no lost end.
    unsealed = whole[: told.start(2)] + _NO_SEAL + whole[told.end(2) :]
    return len(whole) < int(told[2][:10]) and not told[2].endswith(digest(unsealed).encode())


def check_note(note: object) -> None:
    """Refuse what would not come back from a commit as it was. Raises UsageError."""
    if note is not None and not isinstance(note, dict):
        raise UsageError(f"a note must be an object, not {type(note).__name__}", "write {'next': 7}, for example")
    try:
        text = json.dumps(note, allow_nan=False, ensure_ascii=False).encode()
        same = msgspec.json.decode(text) == note
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"a note must be JSON: {error}", "write numbers, texts, lists and objects") from None
    if not same:
        raise UsageError("a note must be JSON: it would not come back as it is", "write lists, not tuples")
    if _depth(note) > DEEPEST_NOTE or len(text) > LONGEST_NOTE:
        raise UsageError(
            f"a note may be {DEEPEST_NOTE} levels deep and {LONGEST_NOTE} bytes long", "keep the rest with 'put_object'"
        )


def read_commit(store: Store, kind: Kind, version: int) -> bytes:
    """The bytes of a commit. Raises Damaged."""
    try:
        return store.read(commit_name(kind, version))
    except FileNotFoundError:
        raise Damaged(f"{commit_name(kind, version)}: this commit is missing", DAMAGED) from None


def decode(data: bytes, name: str) -> dict[str, list[dict[str, Any]]]:
    """A commit's actions by their type; there is always a commitInfo. Raises Damaged.

    A commit without a seal is of an older version of the lake, or of another program.
    """
    found = actions_of(data, name)
    if (told := _SEALED.search(data.partition(b"\n")[0])) is not None:
        if told[1] != b"lake.seal" and not _SEAL.fullmatch(told[2]):
            # Something else of this length, said last by a version that sealed nothing.
            return found
        unsealed = data[: told.start(2)] + _NO_SEAL + data[told.end(2) :]
        if told[1] != b"lake.seal" or told[2] != f"{len(data):010d}-{digest(unsealed)}".encode():
            raise Damaged(f"{name}: {NOT_SEALED}", DAMAGED)
    return found


def actions_of(data: bytes, name: str) -> dict[str, list[dict[str, Any]]]:
    """A commit's actions as `decode` gives them, whatever its seal says. Raises Damaged."""
    found: dict[str, list[dict[str, Any]]] = {"commitInfo": [], "add": [], "remove": []}
    try:
        for line in data.splitlines():
            for action, content in msgspec.json.decode(line, type=dict[str, dict[str, Any]]).items():
                found.setdefault(action, []).append(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged(f"{name}: not a commit: {error}", DAMAGED) from None
    if not found["commitInfo"]:
        raise Damaged(f"{name}: not a commit: there is no commitInfo in it", DAMAGED)
    try:
        msgspec.convert(found["commitInfo"][0], _Info)
        time_of(found["commitInfo"][0])
    except (msgspec.ValidationError, KeyError, ValueError, OverflowError) as error:
        raise Damaged(f"{name}: not a commit: {error!s:.200}", DAMAGED) from None
    return found


def info_of(store: Store, kind: Kind, version: int) -> dict[str, Any]:
    """What a commit says of itself. Raises Damaged."""
    return decode(read_commit(store, kind, version), commit_name(kind, version))["commitInfo"][0]


def commit_of(kind: Kind, version: int, info: Mapping[str, Any]) -> Commit:
    """An entry of the log, from what its commit says of itself."""
    return Commit(
        kind=kind.name,
        version=version,
        at=time_of(info),
        producer=info.get("lake.producer"),
        sequence=info.get("lake.sequence"),
        rows=info.get("lake.rows", 0),
        prev=info.get("lake.prev"),
        operation=info.get("operation", ""),
        what=info.get("lake.what"),
    )


def micros(info: Mapping[str, Any]) -> int:
    """When a commit was made, in microseconds since 1970: the lake's own rising time, or Delta's milliseconds."""
    return int(info.get("lake.time") or info["timestamp"] * 1000)


def time_of(info: Mapping[str, Any]) -> datetime:
    """When a commit was made."""
    return datetime.fromtimestamp(micros(info) / 1e6, UTC)


def pin_of(add: Mapping[str, Any]) -> FilePin | None:
    """The file of an add action, or None if it is not one that the lake writes."""
    try:
        stats = msgspec.json.decode(add.get("stats") or "{}", type=dict[str, Any])
        low, high = stats["minValues"]["event_id"], stats["maxValues"]["event_id"]
        path, size, rows = add["path"], add["size"], stats["numRecords"]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        return None
    known = isinstance(size, int) and isinstance(rows, int) and all(isinstance(text, str) for text in (path, low, high))
    return file_pin(path, size, rows, low, high) if known else None


def file_pin(path: str, size: int, rows: int, low: str, high: str) -> FilePin | None:
    """The pin of a data file, or None if its name is not one that the lake gives."""
    if not _FILE_NAME.fullmatch(path):
        return None
    return FilePin(path, size, rows, path[:64], low, high)


def chain(store: Store, kind: Kind) -> Iterator[Link]:
    """Every commit from the first to the last file of the log, each with what is wrong with it."""
    folder = f"tables/{kind.name}/_delta_log"
    versions = [int(match[1]) for name in store.names(folder) if (match := COMMIT.fullmatch(name))]
    previous: str | None = None
    history = History()
    for version in _with_gaps(sorted(versions), lambda number: store.exists(commit_name(kind, number))):
        name = commit_name(kind, version)
        try:
            data = store.read(name)
        except FileNotFoundError:
            yield Link(version, name, None, None, (MISSING,))
            previous = None
            continue
        try:
            actions = decode(data, name)
        except Damaged as error:
            link = Link(version, name, digest(data), _read_at_all(data), (error.message.removeprefix(f"{name}: "),))
            history.follow(link)
            yield link
            previous = None
            continue
        problems = tuple(_problems(version, actions, previous, history.live))
        previous = digest(data)
        link = Link(version, name, previous, actions, problems)
        history.follow(link)
        yield link


def digest(data: bytes | memoryview) -> str:
    """The sha256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def now() -> int:
    """The time in microseconds since 1970."""
    return time.time_ns() // 1000


def _is_line(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=dict[str, dict[str, Any]])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _with_gaps(versions: Sequence[int], there: Callable[[int], bool]) -> Iterator[int]:
    """The versions, and the first and last of those that are missing between them: a name may say any number."""
    expected = 0
    for version in versions or (0,):
        # Commits that land while a large folder is read may not show there although a later one does.
        while expected < version and there(expected):
            yield expected
            expected += 1
        if version > expected:
            yield from sorted({expected, version - 1})
        yield version
        expected = version + 1


def _read_at_all(data: bytes) -> dict[str, list[dict[str, Any]]] | None:
    """What can still be read of a damaged commit."""
    try:
        return actions_of(data, "")
    except Damaged:
        return None


def _depth(value: object) -> int:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, items), default=0) if isinstance(value, dict | list) else 0


def _problems(
    version: int, actions: dict[str, list[dict[str, Any]]], previous: str | None, live: Mapping[str, FilePin]
) -> Iterator[str]:
    """What is wrong with a commit after another of this sha256, upon these files."""
    info = actions["commitInfo"][0]
    if version == 0:
        if not actions.keys() >= {"metaData", "protocol"} or actions["add"] or actions["remove"] or "txn" in actions:
            yield NOT_OURS
        return
    if not info.keys() >= {"lake.prev", "lake.rows"} or not actions.keys() <= {"commitInfo", "add", "remove", "txn"}:
        yield NOT_OURS
        return
    if previous is not None and info["lake.prev"] != previous:
        yield f"{NOT_NEXT} {version - 1} as it is now"
    added = [pin_of(add) for add in actions["add"]]
    removed = [live.get(str(remove.get("path"))) for remove in actions["remove"]]
    if (
        None in added
        or (None in removed and previous is not None)
        or any(a.get("dataChange", True) for a in actions["remove"])
    ):
        yield NOT_APPENDED
    elif sum(pin.rows for pin in added if pin) - sum(pin.rows for pin in removed if pin) != info["lake.rows"]:
        yield NOT_ADDING_UP
