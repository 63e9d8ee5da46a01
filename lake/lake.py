"""The door: create and open a lake, append events, pin and find snapshots.

A lake is a folder (a URI) of `lake.json`, `tables/`, `snapshots/` and `objects/`; nothing else is needed to open one.
Nothing outside this floor touches a table.
"""

import hashlib
import re
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import pyarrow as pa

from lake.commits import Commit, check_note
from lake.errors import Damaged, LakeError, NotALake, SequenceTooLow, UnknownRef, UsageError
from lake.events import to_table
from lake.files import Store
from lake.findings import Finding
from lake.kinds import KINDS, PIN_ORDER, kind_named
from lake.log import Appended, Log, Position
from lake.released import Vacuumed, check_readable, hold
from lake.snapshots import ID_LENGTH, Snapshot, manifest_of, paths_of, scan_files
from lake.stores import store_at
from lake.verify import examine

FORMAT = 1
SHORTEST_PREFIX = 6

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._/-]{0,99}")
_ID = re.compile(rf"[0-9a-f]{{{SHORTEST_PREFIX},{ID_LENGTH}}}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"\s*([a-z]+)=([0-9]{1,18})\s*")


class _Marker(msgspec.Struct):
    """`lake.json`: what makes a folder a lake. A newer format may say more."""

    format: int
    id: str
    created_at: str


class Lake:
    """An open lake. Picklable; any number of processes and threads may hold one, each its own."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._logs = {name: Log(store, kind) for name, kind in KINDS.items()}

    def __reduce__(self) -> tuple[object, tuple[str, Mapping[str, str]]]:
        return Lake.open, (self.uri, self._store.options)

    def __repr__(self) -> str:
        return f"<Lake {self.uri}>"

    @property
    def uri(self) -> str:
        """What opens this lake again."""
        return self._store.uri

    @property
    def store(self) -> Store:
        """Where the lake's files are, for what looks after them on this floor."""
        return self._store

    @property
    def logs(self) -> Mapping[str, Log]:
        """The log of each kind's table, for what looks after them on this floor."""
        return self._logs

    @classmethod
    def create(cls, uri: str, storage_options: Mapping[str, str] | None = None, *, exist_ok: bool = False) -> "Lake":
        """Create a lake at a URI, with every table. Raises LakeError if something is there already."""
        store = store_at(uri, storage_options)
        marker = _Marker(FORMAT, str(uuid.uuid4()), datetime.now(UTC).isoformat(timespec="seconds"))
        # In this order: another process may be creating the lake, and the marker comes first.
        if not store.is_empty() and not store.exists("lake.json"):
            raise LakeError(f"{store.uri}: this folder is not empty and not a lake", "choose another folder")
        if not store.write_new("lake.json", msgspec.json.encode(marker) + b"\n") and not exist_ok:
            raise LakeError(f"{store.uri}: there is a lake here already", "use it as it is, or choose another folder")
        return cls.open(uri, storage_options)

    @classmethod
    def open(cls, uri: str, storage_options: Mapping[str, str] | None = None) -> "Lake":
        """Open the lake at a URI. `storage_options` say how to reach an object store. Raises NotALake."""
        store = store_at(uri, storage_options)
        try:
            marker = msgspec.json.decode(store.read("lake.json"), type=_Marker)
        except FileNotFoundError:
            raise NotALake(f"{store.uri}: there is no lake here", "run 'lake init', or name one with --lake") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Damaged(f"{store.url('lake.json')}: {error}", "restore it from a backup") from None
        if marker.format != FORMAT:
            raise NotALake(
                f"{store.uri}: this lake has format {marker.format}, and this version reads {FORMAT}",
                "install a newer version",
            )
        lake = cls(store)
        for log in lake._logs.values():
            if not log.exists():
                # Creation was cut short, or the lake is older than the kind.
                log.create()
        return lake

    def append(
        self,
        kind: str,
        rows: pa.Table | pa.RecordBatch | list[dict[str, object]],
        *,
        producer: str,
        sequence: int,
        note: dict[str, Any] | None = None,
    ) -> Appended:
        """Append events of a kind; those that the lake already holds are not stored again.

        `rows` have the kind's columns, and may have `recorded_at` (when it happened) and `source`. `producer` and
        `sequence` name this batch: sent again, after any error, it is stored once. `note` is kept in the same commit
        and read back by `position`. When this returns, the events are on the disk.

        Raises InvalidRows, SequenceTooLow, SequenceTaken, Contended.
        """
        if not producer.isprintable() or not producer or not 0 <= sequence < 1 << 63:
            raise UsageError("a batch needs a producer's name, in plain text, and a sequence between 0 and 2^63")
        check_note(note)
        table = to_table(kind_named(kind), rows)
        return self._logs[kind].append(table, producer, sequence, note)

    def position(self, kind: str, producer: str) -> Position | None:
        """How far a producer's committed work has come in a kind's table."""
        return self._logs[kind_named(kind).name].head().position(producer)

    def versions(self) -> dict[str, int]:
        """The newest version of each table, ledgers included."""
        return {name: log.head().version for name, log in self._logs.items()}

    def commits(self, kind: str) -> Iterator[Commit]:
        """What was committed to a kind's table, newest first."""
        return self._logs[kind_named(kind).name].commits()

    def read(self, kind: str) -> pa.Table:
        """All events of a kind, at the newest version, ledgers included. For large tables pin and use `scan`."""
        found = kind_named(kind)
        return pa.Table.from_batches(
            scan_files(self._store, found, self._logs[kind].head().pin().files), schema=found.schema
        )

    def paths(self, kind: str) -> list[str]:
        """Paths on this machine of the files of a kind, at its newest version, ledgers included. Raises Damaged."""
        return paths_of(self._store, kind_named(kind).name, self._logs[kind].head().pin().files)

    def urls(self, kind: str) -> list[str]:
        """The full addresses of the same files, for another engine to read."""
        pin = self._logs[kind_named(kind).name].head().pin()
        return [self._store.url(f"tables/{kind}/{file.path}") for file in pin.files]

    def snapshot(self, ref: str | None = None) -> Snapshot:
        """The state that a reference means: a snapshot's id (or the start of it), its name, a time, or versions.

        Without a reference, the current state. Nothing is written: what must stay readable for good is pinned.

        A time (ISO 8601, UTC unless it says otherwise) means the newest versions committed at or before it. Versions
        are written `evidence=41,scores=17`; tables that are not named are taken as they are now. Raises UnknownRef.
        """
        if ref is None:
            return self._at({})
        ref = ref.strip()
        if "=" in ref:
            return self._at_versions(ref)
        # No name reads as an id, so an id is found without reading the names.
        if _ID.fullmatch(ref) and (found := self._by_prefix(ref)):
            return self._stored(found)
        if _NAME.fullmatch(ref) and (named := self.names().get(ref)):
            return self._stored(named)
        if moment := _moment(ref):
            return self._at_time(ref, moment)
        raise UnknownRef(
            f"{ref!r} is no snapshot, name, time or vector of versions of this lake", "run 'lake snapshot list'"
        )

    def pin(self, ref: str | None = None) -> Snapshot:
        """Pin a state, the current one by default, so that it stays readable for good. The same state, the same id."""
        snapshot = self.snapshot(ref)
        self._keep(snapshot)
        return snapshot

    def name(self, snapshot: Snapshot, name: str | None, note: str | None = None, actor: str | None = None) -> None:
        """Give a snapshot a name, a note, or both, and pin it. A name moves to the snapshot that was given it last."""
        if name is not None and (not _NAME.fullmatch(name) or _ID.fullmatch(name) or _moment(name)):
            raise UsageError(
                f"{name!r} cannot be a snapshot's name",
                "start with a letter; then letters, digits, '.', '_', '-' and '/'; nothing that reads as an id",
            )
        self._keep(snapshot)
        row: dict[str, object] = {"snapshot_id": snapshot.id, "name": name, "note": note, "actor": actor}
        self.record("snapshots", row)

    def record(self, kind: str, row: dict[str, object]) -> None:
        """Append one event that happens now: a name, a receipt, a retraction, a review."""
        rows = [{"recorded_at": datetime.now(UTC), **row}]
        while True:
            last = self.position(kind, "lake")
            try:
                done = self.append(kind, rows, producer="lake", sequence=last.sequence + 1 if last else 0)
            except SequenceTooLow:
                # Other processes recorded something in the meantime; the event's id keeps this from being stored twice.
                continue
            if not done.repeated:
                return

    def snapshots(self) -> list[str]:
        """The ids of all snapshots that are pinned, sorted."""
        return [name.removesuffix(".json") for name in self._store.names("snapshots") if name.endswith(".json")]

    def names(self) -> dict[str, str]:
        """Every snapshot name and the id that it means now."""
        rows = self.read("snapshots").select(["batch", "name", "snapshot_id"]).to_pylist()
        # By the log's own order, not by clocks that jump: the batch is named by a sequence that only rises.
        rows.sort(key=lambda row: int(row["batch"].rpartition("@")[2]))
        return {row["name"]: row["snapshot_id"] for row in rows if row["name"] is not None}

    def put_object(self, data: bytes) -> str:
        """Keep bytes under their sha256, which is returned. Keeping them twice changes nothing."""
        digest = hashlib.sha256(data).hexdigest()
        self._store.write_new(f"objects/{digest}", data)
        return digest

    def get_object(self, digest: str) -> bytes:
        """The bytes kept under a sha256. Raises UnknownRef, Damaged."""
        try:
            data = self._store.read(f"objects/{digest}") if _DIGEST.fullmatch(digest) else None
        except FileNotFoundError:
            data = None
        if data is None:
            hint = "name a digest that stands in the receipt of one of its exports"
            raise UnknownRef(f"the lake keeps nothing under {digest}", hint)
        if hashlib.sha256(data).hexdigest() != digest:
            raise Damaged(f"objects/{digest}: its bytes are not those that were kept", "restore it from a backup")
        return data

    def verify(self, *, deep: bool = False) -> Iterator[Finding]:
        """What is wrong with this lake: properties, chains, files, pins, exports. Nothing if all is well.

        `deep` reads every file in full: its sha256, page checksums, rows, ids. `lake.verify.examine` says more.
        """
        yield from examine(self._store, self._logs, deep=deep).faults

    def _at(self, versions: dict[str, int]) -> Snapshot:
        heads = {kind: self._logs[kind].head(versions.get(kind)) for kind in PIN_ORDER}
        pins = {kind: head.pin() for kind, head in heads.items() if head.version or not KINDS[kind].optional}
        for kind in versions.keys() & pins.keys():
            check_readable(self._store, self._logs[kind], pins[kind])
        return Snapshot(self._store, manifest_of(pins))

    def _at_versions(self, ref: str) -> Snapshot:
        versions: dict[str, int] = {}
        for part in ref.split(","):
            match = _VERSION.fullmatch(part)
            if not match or match[1] not in PIN_ORDER or match[1] in versions:
                raise UnknownRef(f"{part!r} is no table and version", "write for example evidence=41,scores=17")
            kind, version = match[1], int(match[2])
            newest = self._logs[kind].head().version
            if version > newest:
                raise UnknownRef(f"{kind} has no version {version}; its newest is {newest}", "run 'lake log'")
            versions[kind] = version
        return self._at(versions)

    def _at_time(self, ref: str, moment: datetime) -> Snapshot:
        versions = {kind: self._logs[kind].version_at(moment) for kind in PIN_ORDER}
        if all(version is None for version in versions.values()):
            raise UnknownRef(f"the lake is younger than {ref}", "run 'lake log'")
        # A table that is younger was as empty then as it is at version 0.
        return self._at({kind: version or 0 for kind, version in versions.items()})

    def _keep(self, snapshot: Snapshot) -> None:
        if snapshot.root != self.uri:
            raise UsageError(f"snapshot {snapshot.id} is of another lake, {snapshot.root}")
        name = f"snapshots/{snapshot.id}.json"
        known = self._store.exists(name)
        if not known:
            for kind, pin in snapshot.tables.items():
                check_readable(self._store, self._logs[kind], pin, present=True)
        if not self._store.write_new(name, snapshot.manifest):
            self._stored(snapshot.id)
        try:
            for kind, pin in snapshot.tables.items():
                hold(self._store, self._logs[kind], pin)
        except Damaged:
            # What was pinned before is readable without the log; from a damaged one nothing is freed.
            if not known:
                raise
        except Vacuumed:
            # Too late, and so for everybody who pins this state: nobody was told that it is kept.
            self._store.remove(name)
            raise

    def _by_prefix(self, prefix: str) -> str | None:
        found = [snapshot_id for snapshot_id in self.snapshots() if snapshot_id.startswith(prefix)]
        if len(found) > 1:
            raise UnknownRef(f"{prefix!r} is the start of {len(found)} snapshots", "write more of the id")
        return found[0] if found else None

    def _stored(self, snapshot_id: str) -> Snapshot:
        name = f"snapshots/{snapshot_id}.json"
        try:
            manifest = self._store.read(name)
        except FileNotFoundError:
            raise UnknownRef(f"there is no snapshot {snapshot_id}", "run 'lake snapshot list'") from None
        if hashlib.sha256(manifest).hexdigest()[:ID_LENGTH] != snapshot_id:
            raise Damaged(f"{name}: not what was written", "restore it from a backup")
        return Snapshot(self._store, manifest)


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
