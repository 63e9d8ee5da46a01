"""Checkpoints: whether what Delta readers open first says the same as the commits.

A checkpoint is what the log says up to a version, in one Parquet file; `_last_checkpoint` names the newest. They save
time and hold nothing of their own, so a bad one is made anew from the commits (`repair`).

Not here: making them (`log`).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.commits import Link, digest
from lake.errors import Damaged

HINT = "_last_checkpoint"

_COMMIT, _SEAL = b"lake.commit", b"lake.seal"
_NO_SEAL = b"0" * 64
CHECKPOINT = re.compile(r"([0-9]{20})\.checkpoint\.parquet")


@dataclass
class State:
    """What the commits up to a version say: files as they were added, by name; transactions; what the table is."""

    adds: dict[str, dict[str, Any]] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    transactions: dict[str, int] = field(default_factory=dict)
    about: dict[str, dict[str, Any]] = field(default_factory=dict)

    def follow(self, link: Link) -> None:
        """Take in the next commit; one that cannot be read changes nothing."""
        actions = link.actions or {}
        for add in actions.get("add", ()):
            self.adds[str(add.get("path"))] = add
        for remove in actions.get("remove", ()):
            self.adds.pop(str(remove.get("path")), None)
            self.removed.add(str(remove.get("path")))
        for txn in actions.get("txn", ()):
            self.transactions[str(txn.get("appId"))] = txn.get("version", -1)
        for what in ("metaData", "protocol"):
            for said in actions.get(what, ()):
                self.about[what] = said


class Hint(msgspec.Struct, forbid_unknown_fields=True):
    """`_last_checkpoint`. Every entry but the version may be missing."""

    version: int
    size: int | None = None
    size_in_bytes: int | None = msgspec.field(name="sizeInBytes", default=None)
    files: int | None = msgspec.field(name="numOfAddFiles", default=None)


def read_hint(data: bytes) -> Hint | None:
    """What a hint says, or None if it cannot be read."""
    try:
        return msgspec.json.decode(data, type=Hint)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def sealed(checkpoint: bytes, commit: str) -> bytes:
    """The same checkpoint with page checksums, the sha256 of the commit of its version, and its own (the seal).

    The seal stands among the footer's key-value metadata, and is worked out with zeros in its place.
    """
    sink = pa.BufferOutputStream()
    table = pq.read_table(pa.BufferReader(checkpoint))
    options = {"compression": "zstd", "write_page_checksum": True, "store_schema": False}
    with pq.ParquetWriter(sink, table.schema, **options) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({_COMMIT: commit.encode(), _SEAL: _NO_SEAL})
    data = sink.getvalue().to_pybytes()
    start = data.rindex(_NO_SEAL)
    return data[:start] + digest(data).encode() + data[start + len(_NO_SEAL) :]


def commit_sealed_in(checkpoint: bytes) -> str | None:
    """The sha256 of the commit that a checkpoint was made at, if it is as the lake has made it; None otherwise."""
    try:
        told = pq.read_metadata(pa.BufferReader(checkpoint)).metadata or {}
    except (pa.ArrowException, OSError, ValueError):
        return None
    seal = told.get(_SEAL, b"")
    if len(seal) != len(_NO_SEAL):
        return None
    start = checkpoint.rindex(seal)
    whole = digest(checkpoint[:start] + _NO_SEAL + checkpoint[start + len(seal) :]).encode() == seal
    return told.get(_COMMIT, b"").decode("ascii", "replace") if whole else None


def hint_to(version: int, checkpoint: bytes) -> bytes:
    """The hint that names a checkpoint. Raises Damaged."""
    try:
        table = pq.read_table(pa.BufferReader(checkpoint))
    except (pa.ArrowException, OSError) as error:
        why = str(error).partition("\n")[0]
        raise Damaged(f"the checkpoint of version {version} cannot be read: {why}", "run 'lake repair' again") from None
    return msgspec.json.encode(Hint(version, len(table), len(checkpoint), len(_rows(table, "add"))))


def problem_with_hint(data: bytes, last: int, sizes: Mapping[int, int]) -> str | None:
    """What is wrong with a hint, if anything. `sizes` are the checkpoints' in bytes, by version."""
    hint = read_hint(data)
    if hint is None:
        return "cannot be read"
    if hint.version not in sizes:
        where = f" and the newest commit is version {last}" if hint.version > last else ""
        return f"names a checkpoint of version {hint.version}, which is not there{where}"
    if hint.size_in_bytes not in {None, sizes[hint.version]}:
        return "names a checkpoint of another size"
    return None


def problem_with_checkpoint(data: bytes, state: State | None, hint: Hint | None = None) -> str | None:
    """What a checkpoint says otherwise than the commits of its version, if anything; `hint` if that names it.

    Without a `state` only whether it can be read.
    """
    try:
        table = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
        table.validate(full=True)
        if _SEAL in (pq.read_metadata(pa.BufferReader(data)).metadata or {}) and commit_sealed_in(data) is None:
            return "its bytes are not those that were written"
        return (_difference(table, state) if state else None) or _difference_of_hint(table, hint)
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
        return f"cannot be read: {(str(error).splitlines() or [type(error).__name__])[0]:.120}"


def _difference(table: pa.Table, state: State) -> str | None:
    adds = _rows(table, "add")
    said = {path: (size, time) for path, size, time in _columns(adds, ("path", "size", "modificationTime"))}
    meant = {path: (add.get("size"), add.get("modificationTime")) for path, add in state.adds.items()}
    if said != meant or len(adds) != len(meant):
        return "has other files than the commits have added"
    for path, stats in _columns(adds, ("path", "stats")):
        if stats != state.adds[path].get("stats") and _parsed(stats) != _parsed(state.adds[path].get("stats")):
            return f"says other things of {path} than its commit"
    for name in adds.type.names:
        if name not in {"path", "size", "modificationTime", "stats", "dataChange"} and _anything(
            adds.field(adds.type.get_field_index(name))
        ):
            return f"says {name} of a file, and no commit does"
    if {one["appId"]: one["version"] for one in _dicts(table, "txn")} != state.transactions:
        return "has other sequences of producers than the commits"
    if not {one["path"] for one in _dicts(table, "remove")} <= state.removed:
        return "removes what no commit has removed"
    for name in ("metaData", "protocol"):
        if [_told(one) for one in _dicts(table, name)] != [_told(state.about.get(name, {}))]:
            return f"has another {name} than the commits"
    for name in table.column_names:
        if name not in {"add", "remove", "txn", "metaData", "protocol"} and len(_rows(table, name)):
            return f"has a {name}, and no commit does"
    return None


def _difference_of_hint(table: pa.Table, hint: Hint | None) -> str | None:
    if hint is None:
        return None
    if hint.size not in {None, len(table)} or hint.files not in {None, len(_rows(table, "add"))}:
        return f"has other entries than {HINT} says"
    return None


def _rows(table: pa.Table, name: str) -> pa.Array:
    """The entries of a type, one after the other."""
    return table.column(name).combine_chunks().drop_null()


def _dicts(table: pa.Table, name: str) -> list[dict[str, Any]]:
    return _rows(table, name).to_pylist() if name in table.column_names else []


def _columns(entries: pa.Array, names: Iterable[str]) -> Iterable[tuple[Any, ...]]:
    return zip(*(pc.struct_field(entries, name).to_pylist() for name in names), strict=True)


def _anything(column: pa.Array) -> bool:
    """Whether there is any value, an empty map or list being none."""
    if pa.types.is_map(column.type) or pa.types.is_list(column.type):
        return len(column.flatten() if pa.types.is_list(column.type) else column.items) > 0
    return column.null_count < len(column)


def _told(action: Mapping[str, Any]) -> dict[str, Any]:
    """An action without what it leaves open, maps as dicts: the same from JSON and from Parquet."""
    told = {name: value for name, value in action.items() if value is not None}
    if "configuration" in told:
        told["configuration"] = dict(told["configuration"])
    if "format" in told:
        told["format"] = {**told["format"], "options": dict(told["format"].get("options") or {})}
    return told


def _parsed(stats: Any) -> Any:
    return msgspec.json.decode(stats) if isinstance(stats, str) else stats
