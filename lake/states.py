"""What a table is at a version, as its log says it: files, positions of producers, properties.

The log is read here with nothing but the store: from a checkpoint, which sums up what was committed before it, and the
commits after that. Each commit must be whole by its own seal, and name the one before it. A checkpoint counts if its
seal is whole and names the commit that is there; otherwise it is passed over, because the commits say the same.

A process remembers the newest state that it has seen, and reads only what came since; whether that state still is what
the log says shows in the sha256 of the commit that made it, so a log that was rolled back, mended or restored is read
afresh.

Not here: what a commit is (`commits`), which files there are (`live`), whether a checkpoint is right (`checkpoints`),
and writing either (`log`).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

import msgspec
import pyarrow as pa

from lake import checkpoints
from lake.checkpoints import CHECKPOINT, HINT, commit_sealed_in, entries_of, read_hint, told
from lake.commits import COMMIT, DAMAGED, NOT_NEXT, commit_name, decode, digest
from lake.errors import Damaged
from lake.files import Store
from lake.kinds import Kind
from lake.live import Change, Files, change_of

AHEAD = 24  # commits that may be missing, and are missed, before later ones
CLOSE = 64  # commits that are looked for one by one before the folder is asked which there are
READER_VERSION = 1  # of Delta's protocol: later ones may say of a file that some of its rows are not there

_ACTIONS = {"commitInfo", "add", "remove", "txn", "metaData", "protocol", "cdc"}
_SAID_AT_ONCE = (  # by a checkpoint: what is not of files
    *("txn.appId", "txn.version", "protocol.minReaderVersion"),
    *("metaData.id", "metaData.schemaString", "metaData.configuration.key_value"),
)


class Metadata(msgspec.Struct, rename="camel", frozen=True):
    """What is worked with of Delta's `metaData`."""

    id: str
    schema_string: str
    configuration: dict[str, str]


class Protocol(msgspec.Struct, rename="camel", frozen=True):
    """What is worked with of Delta's `protocol`."""

    min_reader_version: int


class _Position(msgspec.Struct, rename="camel"):
    """What is worked with of Delta's `txn`."""

    app_id: str
    version: int


@dataclass(frozen=True)
class State:
    """A table at a version. `sha256` is that of the commit which made it; no mapping is ever changed."""

    version: int
    sha256: str
    files: Files
    transactions: Mapping[str, int]
    metadata: Metadata
    protocol: Protocol

    def follow(self, commits: Iterable[tuple[bytes, str]]) -> "State":
        """The state after further commits, each its bytes and name. Raises Damaged."""
        transactions, metadata, protocol = dict(self.transactions), self.metadata, self.protocol
        version, sha256 = self.version, self.sha256
        changes: list[Change] = []
        for data, name in commits:
            actions = decode(data, name)
            if actions["commitInfo"][0].get("lake.prev", sha256) != sha256:
                raise Damaged(f"{name}: {NOT_NEXT} {version} as it is now", DAMAGED)
            if strange := actions.keys() - _ACTIONS:
                raise Damaged(f"{name}: not a commit of the lake: {min(strange)!r:.40}", DAMAGED)
            try:
                for said in msgspec.convert(actions.get("txn", ()), list[_Position]):
                    transactions[said.app_id] = said.version
                for about in actions.get("metaData", ()):
                    metadata = msgspec.convert(about, Metadata)
                for about in actions.get("protocol", ()):
                    protocol = msgspec.convert(about, Protocol)
            except msgspec.ValidationError as error:
                raise Damaged(f"{name}: not a commit: {error!s:.120}", DAMAGED) from None
            version, sha256 = version + 1, digest(data)
            changes.append(change_of(actions))
        return State(version, sha256, self.files.after(changes), transactions, metadata, protocol)


NOTHING = State(-1, "", Files(), {}, Metadata("", "", {}), Protocol(0))


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
            if state.version == known.version + CLOSE or self._goes_on(state.version):
                state = self._to_the_end(state)
        self._newest = state
        return state

    def _goes_on(self, version: int) -> bool:
        """Whether there may be commits behind the next one: some came since we looked, or there is a gap.

        A folder tells nothing of what follows a name without telling all of it, so it is asked for some that may be
        there: all of the next ones, and fewer and fewer farther on.
        """
        if self._store.seeks:
            return True
        ahead = chain(range(2, 2 + AHEAD), range(32, 512, 16), (1 << power for power in range(9, 20)))
        return any(self._store.exists(commit_name(self._kind, version + far)) for far in ahead)

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
        version = self.hinted()
        found = None if version is None else self.checkpoint(version)
        return None if found is None else found[1]

    def _checkpoint_before(self, version: int | None) -> State:
        """The state of the newest checkpoint that is not after a version, or nothing."""
        names = self._store.after(self._log, "")
        found = sorted((int(match[1]) for name in names if (match := CHECKPOINT.fullmatch(name))), reverse=True)
        for number in found:
            if (version is None or number <= version) and (whole := self.checkpoint(number)):
                return whole[1]
        return NOTHING

    def hinted(self) -> int | None:
        """The version of which the hint says that it has the newest checkpoint."""
        try:
            hint = read_hint(self._store.read(f"{self._log}/{HINT}"))
        except FileNotFoundError:
            return None
        return None if hint is None else hint.version

    def checkpoint(self, version: int) -> tuple[bytes, State] | None:
        """A checkpoint and what it says; None if it or its commit is not there as the lake has written it."""
        try:
            data = self._store.read(f"{self._log}/{version:020d}.checkpoint.parquet")
            commit = digest(self._store.read(commit_name(self._kind, version)))
        except FileNotFoundError:
            return None
        # Its commit may have been rolled back, and another be there in its place.
        state = _state_of(version, data, commit) if commit_sealed_in(data) == commit else None
        return None if state is None else (data, state)


def _state_of(version: int, data: bytes, commit: str) -> State | None:
    """What a checkpoint says, or None if that is nothing which the lake would say, whatever its seal."""
    try:
        table = checkpoints.read(data, *_SAID_AT_ONCE)
        said = {name: entries_of(table, name).to_pylist() for name in ("txn", "metaData", "protocol")}
        positions = msgspec.convert(said["txn"], list[_Position])
        [metadata] = msgspec.convert([told(one) for one in said["metaData"]], list[Metadata])
        [protocol] = msgspec.convert(said["protocol"], list[Protocol])
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError):
        return None
    return State(version, commit, Files(data), {one.app_id: one.version for one in positions}, metadata, protocol)
