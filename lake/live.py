"""Which files a version of a table has: those that its checkpoint has, and what its commits added and removed since.

There may be very many, and most who open a table ask for none of them, so what a checkpoint says of files is worked out
when somebody does.

Not here: which commits and which checkpoint those are (`states`).
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from lake import checkpoints
from lake.commits import file_pin
from lake.errors import Damaged
from lake.snapshots import FilePin

LONG = 256  # changes that are remembered one by one, and not what they come to

_SAID = ("path", "size", "stats", "deletionVector")  # of an added file; the last names rows that are not there


class _Ids(msgspec.Struct, gc=False):
    event_id: str


class _Stats(msgspec.Struct, rename="camel", gc=False):
    num_records: int
    min_values: _Ids
    max_values: _Ids


_STATS = msgspec.json.Decoder(_Stats)
_ALL_STATS = msgspec.json.Decoder(list[_Stats])


@dataclass(frozen=True, slots=True)
class Change:
    """What a commit does to the files: names of those removed, and what is said of those added, see `_SAID`."""

    removed: tuple[str, ...]
    added: tuple[tuple[Any, ...], ...]


def change_of(actions: Mapping[str, Sequence[Mapping[str, Any]]]) -> Change:
    """What a commit does to the files, from its actions by type."""
    removed = tuple(str(remove.get("path")) for remove in actions["remove"])
    return Change(removed, tuple(tuple(add.get(name) for name in _SAID) for add in actions["add"]))


@dataclass(frozen=True)
class _Read:
    own: Mapping[str, FilePin]
    foreign: AbstractSet[str]

    def after(self, changes: Iterable[Change]) -> "_Read":
        own, foreign = dict(self.own), set(self.foreign)
        for change in changes:
            for path in change.removed:
                own.pop(path, None)
                foreign.discard(path)
            for said in change.added:
                _add(own, foreign, said)
        return _Read(own, foreign)


@dataclass(frozen=True)
class _Unread:
    checkpoint: bytes
    since: tuple[Change, ...] = ()

    def after(self, changes: Iterable[Change]) -> "_Read | _Unread":
        later = _Unread(self.checkpoint, (*self.since, *changes))
        return later if len(later.since) < LONG else later.read()

    def read(self) -> _Read:
        return _in_checkpoint(self.checkpoint).after(self.since)


class Files:
    """The files of a version, which is never changed: none, or those that a checkpoint has, until some come after."""

    def __init__(self, checkpoint: bytes | None = None) -> None:
        self._said: _Read | _Unread = _Read({}, frozenset()) if checkpoint is None else _Unread(checkpoint)

    @property
    def own(self) -> Mapping[str, FilePin]:
        """The lake's own, by name. Raises Damaged."""
        return self._read().own

    @property
    def foreign(self) -> AbstractSet[str]:
        """Names of others that are live, or that a reader of files would need to know more of than their names."""
        return self._read().foreign

    def after(self, changes: Sequence[Change]) -> "Files":
        """The files after further commits."""
        if not changes:
            return self
        files = Files()
        files._said = self._said.after(changes)
        return files

    def _read(self) -> _Read:
        said = self._said
        if isinstance(said, _Unread):
            # Two threads may both do so, with the same result.
            self._said = said = said.read()
        return said


def _in_checkpoint(data: bytes) -> _Read:
    """The files that a checkpoint has, whose seal is whole: so the lake has made it, or somebody who pretends to."""
    try:
        adds = checkpoints.entries_of(checkpoints.read(data, *(f"add.{name}" for name in _SAID)), "add")
        columns = [_field(adds, name) for name in _SAID]
    except (OSError, pa.ArrowException, ValueError, KeyError) as error:
        raise Damaged(f"a checkpoint has no list of files: {error!s:.120}", "run 'lake repair'") from None
    files: dict[str, FilePin] = {}
    foreign: set[str] = set()
    paths, sizes, stats, less = columns
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


def _field(entries: pa.StructArray, name: str) -> list[Any]:
    if entries.type.get_field_index(name) < 0:
        return [None] * len(entries)
    return pc.struct_field(entries, name).to_pylist()
