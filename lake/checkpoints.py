"""Checkpoints: what Delta readers open first, made from the commits, and whether it says the same as they do.

A checkpoint is what the log says up to a version, in one Parquet file; `_last_checkpoint` names the newest. They save
time and hold nothing of their own, so a bad one is made anew from the commits (`repair`). The format is Delta's
protocol, "Checkpoints": a row for each action that still holds, a column for each type of action.

Not here: where one is put (`log`), and what a process keeps of it (`states`).
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.commits import digest
from lake.errors import Damaged

HINT = "_last_checkpoint"

_COMMIT, _SEAL = b"lake.commit", b"lake.seal"
_NO_SEAL = b"0" * 64
CHECKPOINT = re.compile(r"([0-9]{20})\.checkpoint\.parquet")


_MAP = pa.map_(pa.string(), pa.string())
_SCHEMA = pa.schema(
    {
        "protocol": pa.struct({"minReaderVersion": pa.int32(), "minWriterVersion": pa.int32()}),
        "metaData": pa.struct(
            {
                "id": pa.string(),
                "name": pa.string(),
                "description": pa.string(),
                "format": pa.struct({"provider": pa.string(), "options": _MAP}),
                "schemaString": pa.string(),
                "partitionColumns": pa.list_(pa.string()),
                "createdTime": pa.int64(),
                "configuration": _MAP,
            }
        ),
        "txn": pa.struct({"appId": pa.string(), "version": pa.int64()}),
        "remove": pa.struct({"path": pa.string(), "deletionTimestamp": pa.int64(), "dataChange": pa.bool_()}),
        "add": pa.struct(
            {
                "path": pa.string(),
                "partitionValues": _MAP,
                "size": pa.int64(),
                "modificationTime": pa.int64(),
                "dataChange": pa.bool_(),
                "stats": pa.string(),
            }
        ),
    }
)
_ALWAYS = {"partitionValues": [], "dataChange": False}  # the lake partitions nothing, a checkpoint changes nothing


@dataclass
class Reconciled:
    """What of commits holds at the end: files as they were added and removed, by name; transactions; what the table is.

    Delta's protocol calls it so, under "Action Reconciliation".
    """

    adds: dict[str, dict[str, Any]] = field(default_factory=dict)
    removes: dict[str, dict[str, Any]] = field(default_factory=dict)
    transactions: dict[str, int] = field(default_factory=dict)
    about: dict[str, dict[str, Any]] = field(default_factory=dict)

    def follow(self, actions: Mapping[str, Sequence[dict[str, Any]]]) -> None:
        """Take in the actions of the next commit, by their types."""
        for remove in actions.get("remove", ()):
            self.adds.pop(str(remove.get("path")), None)
            self.removes[str(remove.get("path"))] = remove
        for add in actions.get("add", ()):
            self.removes.pop(str(add.get("path")), None)
            self.adds[str(add.get("path"))] = add
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


def encode(since: Reconciled, base: bytes | None, commit: str) -> bytes:
    """The bytes of a checkpoint: what an earlier one says, if any, and what the commits since then say.

    `commit` is the sha256 of the commit of its version. That and the checkpoint's own sha256, the seal, stand among the
    footer's key-value metadata; the seal is worked out with zeros in its place. Raises Damaged.
    """
    sink = pa.BufferOutputStream()
    options = {"compression": "zstd", "write_page_checksum": True, "write_statistics": False, "store_schema": False}
    try:
        before = read(base) if base else _SCHEMA.empty_table()
        with pq.ParquetWriter(sink, _SCHEMA, **options) as writer:
            for name in _SCHEMA.names:
                entries = _entries(name, entries_of(before, name), since)
                columns = [entries if one.name == name else pa.nulls(len(entries), one.type) for one in _SCHEMA]
                # Some readers refuse a row group without rows, parquet-mr before 1.13 among them.
                if len(entries):
                    writer.write_table(pa.table(columns, _SCHEMA))
            writer.add_key_value_metadata({_COMMIT: commit.encode(), _SEAL: _NO_SEAL})
    except (OSError, pa.ArrowException, TypeError, ValueError, OverflowError, KeyError) as error:
        why = str(error).partition("\n")[0]
        raise Damaged(f"no checkpoint can be made of what the commits say: {why}", "run 'lake verify'") from None
    data = sink.getvalue().to_pybytes()
    start = data.rindex(_NO_SEAL)
    return b"".join((data[:start], digest(data).encode(), data[start + len(_NO_SEAL) :]))


def commit_sealed_in(checkpoint: bytes) -> str | None:
    """The sha256 of the commit that a checkpoint was made at, if it is as the lake has made it; None otherwise."""
    try:
        told = pq.read_metadata(pa.BufferReader(checkpoint)).metadata or {}
    except (pa.ArrowException, OSError, ValueError):
        return None
    seal = told.get(_SEAL, b"")
    if len(seal) != len(_NO_SEAL):
        return None
    start, rest = checkpoint.rindex(seal), memoryview(checkpoint)
    whole = hashlib.sha256(rest[:start])
    whole.update(_NO_SEAL)
    whole.update(rest[start + len(seal) :])
    return told.get(_COMMIT, b"").decode("ascii", "replace") if whole.hexdigest().encode() == seal else None


def read(checkpoint: bytes, *columns: str) -> pa.Table:
    """What stands in a checkpoint: all of it, or the columns whose dotted paths begin so.

    Raises OSError or pa.ArrowException if it cannot be read.
    """
    # Threads save no time here: they wait for each other on a busy machine, and each keeps memory of its own.
    file = pq.ParquetFile(pa.BufferReader(checkpoint), page_checksum_verification=True, pre_buffer=False)
    paths = (file.schema.column(number).path for number in range(len(file.schema)))
    wanted = [path for path in paths if not columns or path.startswith(columns)]
    return file.read(columns=wanted, use_threads=False)


def entries_of(table: pa.Table, name: str) -> pa.StructArray:
    """The actions of a type, one after the other."""
    if name not in table.column_names:
        return pa.array([], pa.struct([]))
    return table.column(name).combine_chunks().drop_null()


def told(action: Mapping[str, Any]) -> dict[str, Any]:
    """An action without what it leaves open, maps as dicts: the same from JSON and from Parquet."""
    said = {name: value for name, value in action.items() if value is not None}
    for name in ("configuration", "partitionValues"):
        if name in said:
            said[name] = dict(said[name])
    if "format" in said:
        said["format"] = {**said["format"], "options": dict(said["format"].get("options") or {})}
    return said


def hint_to(version: int, checkpoint: bytes) -> bytes:
    """The hint that names a checkpoint. Raises Damaged."""
    try:
        table = read(checkpoint, "add.size")
        files = len(entries_of(table, "add"))
    except (pa.ArrowException, OSError, KeyError) as error:
        why = str(error).partition("\n")[0]
        raise Damaged(f"the checkpoint of version {version} cannot be read: {why}", "run 'lake repair' again") from None
    return msgspec.json.encode(Hint(version, len(table), len(checkpoint), files))


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


def problem_with_checkpoint(data: bytes, state: Reconciled | None, hint: Hint | None = None) -> str | None:
    """What a checkpoint says otherwise than the commits of its version, if anything; `hint` if that names it.

    Without a `state` only whether it can be read.
    """
    try:
        table = read(data)
        table.validate(full=True)
        if _SEAL in (pq.read_metadata(pa.BufferReader(data)).metadata or {}) and commit_sealed_in(data) is None:
            return "its bytes are not those that were written"
        return (_difference(table, state) if state else None) or _difference_of_hint(table, hint)
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
        return f"cannot be read: {(str(error).splitlines() or [type(error).__name__])[0]:.120}"


def _entries(name: str, before: pa.StructArray, since: Reconciled) -> pa.StructArray:
    """The actions of a type that hold: of those that an earlier checkpoint has, and of those since then."""
    type_ = _SCHEMA.field(name).type
    if name in {"protocol", "metaData"}:
        return _array([since.about[name]] if name in since.about else before.to_pylist(), type_)
    if name == "txn":
        positions = {one["appId"]: one["version"] for one in before.to_pylist()} | since.transactions
        return _array([{"appId": app, "version": at} for app, at in positions.items()], type_)
    if name == "add":
        new = [{**said, "dataChange": False} for said in since.adds.values()]
        partitioned = any(said.get("partitionValues") for said in new)
        if beyond := "partitionValues" if partitioned else _beyond(before):
            raise ValueError(f"{beyond} is nothing that the lake says of a file")
    else:
        # What is said of its size is for who frees files by the log, which the lake does by what needs them.
        new = [
            {"path": path, "deletionTimestamp": said.get("deletionTimestamp"), "dataChange": False}
            for path, said in since.removes.items()
        ]
    if not len(before):
        return _array(new, type_)
    changed = pa.array([*since.adds, *since.removes], pa.string())
    held = before.filter(pc.invert(pc.is_in(pc.struct_field(before, "path"), changed)))
    columns = [
        pa.array([_ALWAYS[one.name]] * len(held), one.type) if one.name in _ALWAYS else pc.struct_field(held, one.name)
        for one in type_
    ]
    return pa.concat_arrays([pa.StructArray.from_arrays(columns, fields=list(type_)), _array(new, type_)])


def _array(actions: Sequence[Mapping[str, Any]], type_: pa.StructType) -> pa.StructArray:
    """Actions as entries. Raises ValueError if one says what a checkpoint of the lake has no room for."""
    meant = [told(action) for action in actions]
    made = pa.array(meant, type_)
    for back, action in zip(map(told, made.to_pylist()), meant, strict=True):
        if back != action:
            odd = next(name for name in {**back, **action} if back.get(name) != action.get(name))
            raise ValueError(f"{odd} is {action.get(odd)!r:.60}")
    return made


def _difference(table: pa.Table, state: Reconciled) -> str | None:
    adds = entries_of(table, "add")
    said = {path: (size, time) for path, size, time in _columns(adds, ("path", "size", "modificationTime"))}
    meant = {path: (add.get("size"), add.get("modificationTime")) for path, add in state.adds.items()}
    if said != meant or len(adds) != len(meant):
        return "has other files than the commits have added"
    for path, stats in _columns(adds, ("path", "stats")):
        if stats != state.adds[path].get("stats") and _parsed(stats) != _parsed(state.adds[path].get("stats")):
            return f"says other things of {path} than its commit"
    if beyond := _beyond(adds):
        return f"says {beyond} of a file, and no commit does"
    if {one["appId"]: one["version"] for one in _dicts(table, "txn")} != state.transactions:
        return "has other sequences of producers than the commits"
    if not {one["path"] for one in _dicts(table, "remove")} <= state.removes.keys():
        return "removes what no commit has removed"
    for name in ("metaData", "protocol"):
        if [told(one) for one in _dicts(table, name)] != [told(state.about.get(name, {}))]:
            return f"has another {name} than the commits"
    for name in table.column_names:
        if name not in {"add", "remove", "txn", "metaData", "protocol"} and len(entries_of(table, name)):
            return f"has a {name}, and no commit does"
    return None


def _difference_of_hint(table: pa.Table, hint: Hint | None) -> str | None:
    if hint is None:
        return None
    if hint.size not in {None, len(table)} or hint.files not in {None, len(entries_of(table, "add"))}:
        return f"has other entries than {HINT} says"
    return None


def _dicts(table: pa.Table, name: str) -> list[dict[str, Any]]:
    return entries_of(table, name).to_pylist()


def _columns(entries: pa.Array, names: Iterable[str]) -> Iterable[tuple[Any, ...]]:
    return zip(*(pc.struct_field(entries, name).to_pylist() for name in names), strict=True)


def _beyond(adds: pa.StructArray) -> str | None:
    """What is said of a file that the lake says of none, if anything."""
    known = {"path", "size", "modificationTime", "stats", "dataChange"}
    names = (name for name in adds.type.names if name not in known)
    return next((name for name in names if _anything(adds.field(adds.type.get_field_index(name)))), None)


def _anything(column: pa.Array) -> bool:
    """Whether there is any value, an empty map or list being none."""
    if pa.types.is_map(column.type) or pa.types.is_list(column.type):
        return len(column.flatten() if pa.types.is_list(column.type) else column.items) > 0
    return column.null_count < len(column)


def _parsed(stats: Any) -> Any:
    return msgspec.json.decode(stats) if isinstance(stats, str) else stats
