"""What a table is at a version, as its log says it: files, positions of producers, properties.

The log is read here with nothing but the store: from a checkpoint, which sums up what was committed before it, and the
commits after that. Each commit must be whole by its own seal, and name the one before it. A checkpoint counts if its
seal is whole and names the commit that is there; otherwise it is passed over, because the commits say the same.

A process remembers the newest state that it has seen, and reads only what came since; whether that state still is what
the log says shows in the sha256 of the commit that made it, so a log that was rolled back, mended or restored is read
afresh. What a checkpoint says of files, which may be very many, is worked out when somebody asks for them.

Not here: what a commit is (`commits`), whether a checkpoint is right (`checkpoints`), and writing either (`log`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from lake import checkpoints
from lake.checkpoints import CHECKPOINT, HINT, commit_sealed_in, entries_of, read_hint
from lake.commits import COMMIT, DAMAGED, NOT_NEXT, commit_name, decode, digest, file_pin
from lake.errors import Damaged
from lake.files import Store
from lake.kinds import Kind
from lake.snapshots import FilePin

AHEAD = 24  # commits that may be missing, and are missed, before later ones
CLOSE = 64  # commits that are looked for one by one before the folder is asked which there are
LONG = 256  # commits whose files are remembered one by one, and not what they come to
READER_VERSION = 1  # of Delta's protocol: later ones may say of a file that some of its rows are not there

_SAID = ("path", "size", "stats", "deletionVector")  # of an added file; the last names rows that are not there
_ACTIONS = {"commitInfo", "add", "remove", "txn", "metaData", "protocol", "cdc"}
_SAID_AT_ONCE = (  # by a checkpoint: what is not of files
    *("txn.appId", "txn.version", "protocol.minReaderVersion"),
    *("metaData.id", "metaData.schemaString", "metaData.configuration.key_value"),
)

Actions = Mapping[str, Sequence[Mapping[str, Any]]]  # of a commit, by type


class _Ids(msgspec.Struct, gc=False):
    event_id: str


class _Stats(msgspec.Struct, rename="camel", gc=False):
    num_records: int
    min_values: _Ids
    max_values: _Ids


_STATS = msgspec.json.Decoder(_Stats)
_ALL_STATS = msgspec.json.Decoder(list[_Stats])


@dataclass(frozen=True)
class _Read:
    """Files by name: the lake's own, and the names of the foreign ones."""

    own: Mapping[str, FilePin]
    foreign: AbstractSet[str]

    def after(self, commits: Sequence[Actions]) -> "_Read":
        own, foreign = dict(self.own), set(self.foreign)
        for actions in commits:
            for remove in actions["remove"]:
                own.pop(str(remove.get("path")), None)
                foreign.discard(str(remove.get("path")))
            for add in actions["add"]:
                _add(own, foreign, [add.get(name) for name in _SAID])
        return _Read(own, foreign)


@dataclass(frozen=True)
class _Unread:
    """Files as a checkpoint has them, which nobody has asked for, and the commits since then."""

    checkpoint: bytes
    since: tuple[Actions, ...] = ()

    def after(self, commits: Sequence[Actions]) -> "_Read | _Unread":
        later = _Unread(self.checkpoint, (*self.since, *commits))
        return later if len(later.since) < LONG else later.read()

    def read(self) -> _Read:
        return _files_of(self.checkpoint).after(self.since)


class Files:
    """The files of a version, which is never changed; those that a checkpoint has are read when they are asked for."""

    def __init__(self, said: _Read | _Unread) -> None:
        self._said = said

    @property
    def own(self) -> Mapping[str, FilePin]:
        """The lake's own, by name."""
        return self._read().own

    @property
    def foreign(self) -> AbstractSet[str]:
        """Names of others that are live, or that a reader of files would need to know more of than their names."""
        return self._read().foreign

    def after(self, commits: Sequence[Actions]) -> "Files":
        """The files after further commits, by their actions."""
        return Files(self._said.after(commits))

    def _read(self) -> _Read:
        said = self._said
        if isinstance(said, _Unread):
            # Two threads may both do so, with the same result.
            self._said = said = said.read()
        return said


@dataclass(frozen=True)
class State:
    """A table at a version. `sha256` is that of the commit which made it; no mapping is ever changed."""

    version: int
    sha256: str
    files: Files
    transactions: Mapping[str, int]
    metadata: Mapping[str, Any]
    protocol: Mapping[str, Any]

    def follow(self, commits: Iterable[tuple[bytes, str]]) -> "State":
        """The state after further commits, each its bytes and name. Raises Damaged."""
        transactions, metadata, protocol = dict(self.transactions), self.metadata, self.protocol
        version, sha256 = self.version, self.sha256
        followed: list[Actions] = []
        for data, name in commits:
            actions = decode(data, name)
            if actions["commitInfo"][0].get("lake.prev", sha256) != sha256:
                raise Damaged(f"{name}: {NOT_NEXT} {version} as it is now", DAMAGED)
            if strange := actions.keys() - _ACTIONS:
                raise Damaged(f"{name}: not a commit of the lake: {min(strange)!r:.40}", DAMAGED)
            for said in actions.get("txn", ()):
                transactions[str(said.get("appId"))] = int(said.get("version", -1))
            metadata = actions.get("metaData", [metadata])[-1]
            protocol = actions.get("protocol", [protocol])[-1]
            version, sha256 = version + 1, digest(data)
            followed.append(actions)
        files = self.files.after(followed) if followed else self.files
        return State(version, sha256, files, transactions, metadata, protocol)


NOTHING = State(-1, "", Files(_Read({}, frozenset())), {}, {}, {})


class States:
    """The states of one table. Remembers the newest that it has seen."""

    def __init__(self, store: Store, kind: Kind) -> None:
        self._store = store
        self._kind = kind
        self._log = f"tables/{kind.name}/_delta_log"
        self._newest = NOTHING

    def newest(self) -> State:
        """The table as it is now. Raises Damaged, also where a commit is missing and later ones are there."""
        known = self._newest if self._stands(self._newest) else self._hinted()
        if known is None:
            state = self._to_the_end(self._checkpoint_before(None))
        else:
            state = known.follow(self._after(known.version, CLOSE))
            far = state.version == known.version + CLOSE
            state = self._to_the_end(state) if far else self._past_the_end(state)
        self._newest = state
        return state

    def _past_the_end(self, state: State) -> State:
        """The same state if nothing comes after it. What was committed since we looked is followed, a gap is damage."""
        names = [commit_name(self._kind, state.version + ahead) for ahead in range(2, 2 + AHEAD)]
        return state if self._store.first_of(names) is None else self._to_the_end(state)

    def at(self, version: int) -> State:
        """The table at a version. Raises Damaged."""
        near = self._newest
        if near.version > version or not self._stands(near):
            near = self._checkpoint_before(version)
        return self._up_to(version, near)

    def _stands(self, state: State) -> bool:
        """Whether the log still says how this state came about."""
        if state.version < 0:
            return False
        try:
            return digest(self._store.read(commit_name(self._kind, state.version))) == state.sha256
        except FileNotFoundError:
            return False

    def _after(self, version: int, count: int) -> Iterator[tuple[bytes, str]]:
        """The commits after a version, so many of them, or as many as there are."""
        for number in range(version + 1, version + 1 + count):
            name = commit_name(self._kind, number)
            try:
                yield self._store.read(name), name
            except FileNotFoundError:
                return

    def _to_the_end(self, state: State) -> State:
        """The newest state, from an older one; what is committed from here on is not waited for."""
        name = commit_name(self._kind, max(state.version, 0)).rpartition("/")[2]
        commits = map(COMMIT.fullmatch, self._store.after(self._log, name))
        last = max((int(match[1]) for match in commits if match), default=0)
        return self._up_to(last, state)

    def _up_to(self, version: int, state: State) -> State:
        after = state.follow(self._after(state.version, version - state.version))
        if after.version < version:
            raise Damaged(f"{commit_name(self._kind, after.version + 1)}: this commit is missing", DAMAGED)
        return after

    def _hinted(self) -> State | None:
        """The state of the checkpoint that is said to be the newest, or None if that is of no use."""
        try:
            hint = read_hint(self._store.read(f"{self._log}/{HINT}"))
        except FileNotFoundError:
            return None
        return self._checkpoint(hint.version) if hint else None

    def _checkpoint_before(self, version: int | None) -> State:
        """The state of the newest checkpoint that is not after a version, or nothing."""
        names = self._store.after(self._log, "")
        found = sorted((int(match[1]) for name in names if (match := CHECKPOINT.fullmatch(name))), reverse=True)
        for number in found:
            if (version is None or number <= version) and (state := self._checkpoint(number)):
                return state
        return NOTHING

    def _checkpoint(self, version: int) -> State | None:
        """What a checkpoint says, or None if that or its commit cannot be read: then the commits before it do."""
        try:
            data = self._store.read(f"{self._log}/{version:020d}.checkpoint.parquet")
            commit = digest(self._store.read(commit_name(self._kind, version)))
        except FileNotFoundError:
            return None
        # Its commit may have been rolled back, and another be there in its place.
        return replace(_state_of(data), version=version, sha256=commit) if commit_sealed_in(data) == commit else None


def _state_of(data: bytes) -> State:
    """What a checkpoint says, whose seal is whole: so it is as the lake has made it."""
    table = checkpoints.read(data, *_SAID_AT_ONCE)
    apps = entries_of(table, "txn")
    transactions = dict(zip(_field(apps, "appId"), _field(apps, "version"), strict=True))
    metadata, protocol = (entries_of(table, name).to_pylist() for name in ("metaData", "protocol"))
    about = {**metadata[0], "configuration": dict(metadata[0]["configuration"])}
    return State(-1, "", Files(_Unread(data)), transactions, about, protocol[0])


def _files_of(data: bytes) -> _Read:
    """The files that a checkpoint has."""
    table = checkpoints.read(data, *(f"add.{name}" for name in _SAID))
    files: dict[str, FilePin] = {}
    foreign: set[str] = set()
    adds = entries_of(table, "add")
    paths, sizes, stats, less = (_field(adds, name) for name in _SAID)
    try:
        # All at once, as there may be very many, each as the lake writes it; otherwise one by one.
        told = _ALL_STATS.decode(f"[{','.join(stats)}]") if not any(less) and None not in sizes else []
        for path, size, of in zip(paths, sizes, told, strict=True):
            pin = file_pin(path, size, of.num_records, of.min_values.event_id, of.max_values.event_id)
            if pin is None:
                raise ValueError(path)
            files[pin.path] = pin
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError, ValueError):
        files.clear()
        for said in zip(paths, sizes, stats, less, strict=True):
            _add(files, foreign, said)
    return _Read(files, foreign)


def _add(files: dict[str, FilePin], foreign: set[str], said: Sequence[Any]) -> None:
    """Take in a file that was added, by what is said of it: see `_SAID`."""
    path, size, stats, less = said
    try:
        told = _STATS.decode(stats or "")
        pin = file_pin(path, size, told.num_records, told.min_values.event_id, told.max_values.event_id)
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError):
        pin = None
    if pin is None or less or not isinstance(size, int):
        foreign.add(str(path))
    else:
        files[pin.path] = pin


def _field(entries: pa.Array, name: str) -> list[Any]:
    if entries.type.get_field_index(name) < 0:
        return [None] * len(entries)
    return pc.struct_field(entries, name).to_pylist()
