"""Snapshots: a pinned vector of table versions, written once, readable with pyarrow alone.

A manifest names, for each table, its id, version, head of the commit chain, schema and files with size and sha256. Its
id is the hash of that content, so the same state has the same id and a changed manifest cannot keep its name. A
`Snapshot` is plain data: it pickles, and reading it calls neither deltalake nor duckdb, so it survives spawn and fork.

Not here: choosing versions and writing manifests (`lake`), and SQL over a snapshot (the views).
"""

import hashlib
import importlib
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import msgspec
import pyarrow as pa

from lake.errors import Damaged, UsageError
from lake.files import VERIFY, Content, Store
from lake.kinds import PIN_ORDER, Kind, kind_named

ID_LENGTH = 32
BATCH_ROWS = 16_384
FILE_NAME = (
    r"\A[0-9a-f]{64}(-[0-9a-f]{8})?\.parquet\Z"  # no other file is ever opened, whatever a manifest or a log says
)


class FilePin(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One data file: its name in the table's folder, bytes, rows, sha256, and the lowest and highest event id in it."""

    path: Annotated[str, msgspec.Meta(pattern=FILE_NAME)]
    size: int
    rows: int
    sha256: str
    first_id: str
    last_id: str


class TablePin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One table at one version. `head` is the sha256 of the commit that made this version, `schema` Delta's JSON."""

    table_id: str
    version: int
    head: str
    rows: int
    schema: msgspec.Raw
    files: tuple[FilePin, ...]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a snapshot's id is the hash of."""

    format: Literal[1]
    tables: dict[str, TablePin]


class Snapshot:
    """A pinned state of a lake: `id`, and for each kind a table at a version."""

    def __init__(self, store: Store, manifest: bytes) -> None:
        self._store = store
        self._manifest = manifest
        self.id = hashlib.sha256(manifest).hexdigest()[:ID_LENGTH]
        try:
            self.tables = msgspec.json.decode(manifest, type=Manifest).tables
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Damaged(f"snapshot {self.id}: {error}", "was it made by a newer version?") from None

    def __reduce__(self) -> tuple[type["Snapshot"], tuple[Store, bytes]]:
        return Snapshot, (self._store, self._manifest)

    def __repr__(self) -> str:
        return f"<Snapshot {self.id[:12]} {self.vector}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Snapshot) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def root(self) -> str:
        """The URI of the lake that this is a state of."""
        return self._store.uri

    @property
    def manifest(self) -> bytes:
        """The bytes that the id is the hash of."""
        return self._manifest

    @property
    def vector(self) -> str:
        """The versions as a reference that a user can type: `evidence=41,scores=17,…`."""
        return ",".join(f"{kind}={self.tables[kind].version}" for kind in sorted(self.tables))

    def rows(self, kind: str) -> int:
        """How many events of a kind the snapshot holds."""
        return sum(file.rows for file in self._files(kind))

    def paths(self, kind: str) -> list[str]:
        """Paths on this machine of a kind's Parquet files. Raises Damaged if one is missing or has another size."""
        return paths_of(self._store, kind, self._files(kind))

    def urls(self, kind: str) -> list[str]:
        """The full addresses of a kind's Parquet files, for another engine to read."""
        return [self._store.url(f"tables/{kind}/{file.path}") for file in self._files(kind)]

    def scan(self, kind: str, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The events of a kind, batch by batch in stored order, each page checked against its checksum."""
        return scan_files(self._store, kind_named(kind), self._files(kind), columns)

    def read(self, kind: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The events of a kind as one table. For large ones use `scan`."""
        return pa.Table.from_batches(self.scan(kind, columns), schema=_columns(kind_named(kind), columns))

    def verify(self, *, deep: bool = False) -> Iterator[str]:
        """What is wrong with the files, a line each; nothing if all is well. `deep` reads them and compares sha256."""
        for kind in sorted(self.tables):
            for file in self.tables[kind].files:
                problem = _problem(self._store, f"tables/{kind}/{file.path}", file, deep=deep)
                if problem:
                    yield problem

    def prove(self) -> None:
        """Read every file and compare its sha256. Raises Damaged.

        For who reads the files by an engine that checks no page: DuckDB gives other rows where a bit has flipped.
        """
        for problem in self.verify():
            raise Damaged(problem, VERIFY)
        for kind in sorted(self.tables):
            # Copies of remote files are made side by side here, then looked at one by one.
            paths_of(self._store, kind, self.tables[kind].files)
            for file in self.tables[kind].files:
                name = f"tables/{kind}/{file.path}"
                if not self._store.holds(Content(name, file.size, file.sha256)):
                    raise Damaged(f"{name}: its bytes are not those that were written", VERIFY)

    def _files(self, kind: str) -> tuple[FilePin, ...]:
        if kind_named(kind).ledger:
            raise UsageError(f"{kind} is a ledger and no part of a snapshot", f"a snapshot has {', '.join(PIN_ORDER)}")
        # A snapshot older than the kind has none of it.
        return self.tables[kind].files if kind in self.tables else ()


def paths_of(store: Store, kind: str, files: Sequence[FilePin]) -> list[str]:
    """Paths on this machine of a kind's files. Raises Damaged if one is missing or has another size."""
    return store.local([Content(f"tables/{kind}/{file.path}", file.size, file.sha256) for file in files])


def scan_files(
    store: Store, kind: Kind, files: Sequence[FilePin], columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """The events in a kind's files, batch by batch in stored order, in bounded memory. Raises UsageError, Damaged."""
    wanted = _columns(kind, columns).names
    paths = paths_of(store, kind.name, files)
    return _batches(paths, kind, files, wanted) if paths else iter(())


def odd_column(kind: Kind, schema: pa.Schema) -> str | None:
    """A column that is not the kind's, if any. Columns may be missing: they are younger than the file."""
    known = kind.schema
    for name, type_ in zip(schema.names, schema.types, strict=True):
        if name not in known.names or known.field(name).type != type_:
            return f"its column {name!r} is not one of {kind.name}"
    lacking = [field.name for field in known if not field.nullable and field.name not in schema.names]
    return f"its column {lacking[0]!r} is missing" if lacking else None


def _batches(paths: list[str], kind: Kind, files: Sequence[FilePin], columns: list[str]) -> Iterator[pa.RecordBatch]:
    # It loads pandas where there is one, which takes longer than all else at the start; most commands read with DuckDB.
    ds = importlib.import_module("pyarrow.dataset")
    options = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    parquet = ds.ParquetFileFormat(default_fragment_scan_options=options)
    try:
        dataset = ds.dataset(paths, format=parquet, schema=kind.schema)
        # No checksum is of the footer, and what has no name there would be read as nulls.
        for fragment, file in zip(dataset.get_fragments(), files, strict=True):
            rows = fragment.metadata.num_rows
            if odd := odd_column(kind, fragment.physical_schema):
                raise Damaged(f"tables/{kind.name}/{file.path}: {odd}", VERIFY)
            if rows != file.rows:
                raise Damaged(f"tables/{kind.name}/{file.path}: {rows} rows where {file.rows} were written", VERIFY)
        yield from dataset.to_batches(columns=columns, batch_size=BATCH_ROWS, batch_readahead=2, fragment_readahead=1)
    except (OSError, pa.ArrowException, ValueError) as error:
        first = str(error).partition("\n")[0]
        raise Damaged(f"tables/{kind.name}: {first}", VERIFY) from None


def _columns(kind: Kind, columns: Sequence[str] | None) -> pa.Schema:
    schema = kind.schema
    if columns is None:
        return schema
    unknown = [name for name in columns if name not in schema.names]
    if unknown:
        raise UsageError(f"{kind.name} has no column {unknown[0]!r}", f"its columns are {', '.join(schema.names)}")
    return pa.schema([schema.field(name) for name in columns])


def manifest_of(tables: dict[str, TablePin]) -> bytes:
    """The canonical bytes of a manifest: JSON, keys sorted, one final line feed."""
    return msgspec.json.encode(Manifest(1, tables), order="deterministic") + b"\n"


def _problem(store: Store, name: str, file: FilePin, *, deep: bool) -> str | None:
    try:
        size = store.size(name)
    except FileNotFoundError:
        return f"{name}: missing"
    if size != file.size:
        return f"{name}: {size} bytes instead of {file.size}"
    if deep and store.sha256(name) != file.sha256:
        return f"{name}: its bytes are not those that were written"
    return None
