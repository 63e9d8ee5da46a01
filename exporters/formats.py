"""Files of rows: JSONL, plain, gzip or zstd, and Parquet, written in a stream and byte for byte the same every time.

Rows arrive as Arrow batches of any size and are cut again into slices of `SLICE_ROWS`, so that neither the engine's
threads nor its batch sizes can be seen in a file. A slice is the unit of everything: of a compressor's calls, of a
Parquet row group, of the decision to begin the next file. What is held at a time is a few slices, or one row group.

Not here: what a row is (`datasets`), and where the files end up (`export`).
"""

import gzip
import hashlib
import io
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self, cast

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import zstandard

from lake.errors import UsageError

FORMATS = ("jsonl", "jsonl.gz", "jsonl.zst", "parquet")
LINE = "line"
SLICE_ROWS = 2048
ROW_GROUP_ROWS = 131_072
ROW_GROUP_BYTES = 64 << 20
FILE_BYTES = 1 << 30

# Columns of few distinct values; all others are texts or ids, for which a dictionary only costs time.
_DICTIONARY = ["task_id", "category", "source_category", "role", "model", "schema_version"]
_GZIP_LEVEL = 6
_ZSTD_LEVEL = 3
_PARQUET_ZSTD_LEVEL = 1
# Legal in a JSON string, but line ends to str.splitlines and to some editors, so they are written as escapes.
_LINE_ENDS = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"), (b"\xc2\x85", b"\\u0085"))
_PENDING_SLICES = 8


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of an export: its path in the folder, bytes, sha256, and rows where it holds rows."""

    path: str
    bytes: int
    sha256: str
    rows: int | None = None


class _Encoder(Protocol):
    def write(self, part: pa.RecordBatch) -> None: ...

    def close(self) -> None: ...


class _Hashed(io.RawIOBase):
    """A new file that knows the size and sha256 of what was written to it; without a path, only those."""

    def __init__(self, path: Path | None) -> None:
        super().__init__()
        # Named before it is opened: a file that cannot be opened is closed, too.
        self._file: io.FileIO | None = None
        if path is not None:
            self._file = path.open("xb", buffering=0)
        self._sha256 = hashlib.sha256()
        self._size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, data: "bytes | memoryview | pa.Buffer") -> int:
        view = memoryview(data).cast("B")
        self._sha256.update(view)
        self._size += len(view)
        rest = view
        while self._file is not None and len(rest) > 0:
            rest = rest[self._file.write(rest) :]
        return len(view)

    def seal(self, name: str, rows: int) -> File:
        """Bring the bytes to the disk, close, and say what the file is."""
        if self._file is not None:
            os.fsync(self._file.fileno())
        self.close()
        return File(name, self._size, self._sha256.hexdigest(), rows)

    def close(self) -> None:
        if self._file is not None and not self._file.closed:
            self._file.close()
        super().close()


class _Lines:
    """JSON lines, as the column `line` has them, into a file or a compressor."""

    def __init__(self, sink: "_Hashed | gzip.GzipFile | zstandard.ZstdCompressionWriter") -> None:
        self._sink = sink

    def write(self, part: pa.RecordBatch) -> None:
        data = _line_bytes(part.column(LINE))
        for raw, escaped in _LINE_ENDS:
            if raw in data:
                data = data.replace(raw, escaped)
        self._sink.write(data)

    def close(self) -> None:
        if not isinstance(self._sink, _Hashed):
            self._sink.close()


class _Parquet:
    """Parquet with page checksums, in row groups of whole slices."""

    def __init__(self, sink: _Hashed, schema: pa.Schema) -> None:
        names = [name for name in schema.names if name in _DICTIONARY]
        self._writer = pq.ParquetWriter(
            pa.PythonFile(sink, mode="w"),
            schema,
            compression="zstd",
            compression_level=_PARQUET_ZSTD_LEVEL,
            use_dictionary=names or False,
            write_statistics=names,
            write_page_checksum=True,
        )
        self._parts: list[pa.RecordBatch] = []
        self._bytes = 0

    def write(self, part: pa.RecordBatch) -> None:
        self._parts.append(part)
        self._bytes += text_bytes(part)
        if self._bytes >= ROW_GROUP_BYTES or sum(map(len, self._parts)) >= ROW_GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        if self._parts:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        table = pa.Table.from_batches(self._parts)
        self._writer.write_table(table, row_group_size=len(table))
        self._parts, self._bytes = [], 0


class Writer:
    """Writes rows to `data/<split>-<i>-of-<n>.<format>` under a folder, in the order given.

    JSON formats take a column `line`, whole JSON lines with their line feeds; Parquet takes the columns of `schema`.
    A file is closed at the first slice after `file_bytes` of text. Without a folder nothing is written, and the files
    are those that would have been. Use as a context: leaving it early stops the thread that writes.
    """

    def __init__(
        self, folder: Path | None, form: str, schema: pa.Schema, *, split: str = "train", file_bytes: int = FILE_BYTES
    ) -> None:
        if form not in FORMATS:
            raise UsageError(f"there is no format {form!r}", f"the formats are {', '.join(FORMATS)}")
        self._folder = folder
        self._form = form
        self._schema = schema if form == "parquet" else pa.schema([(LINE, pa.string())])
        self._split = split
        self._limit = file_bytes
        self._thread = ThreadPoolExecutor(1, "export-writer")
        self._ahead: deque[Future[None]] = deque()
        self._sink: _Hashed | None = None
        self._encoder: _Encoder | None = None
        self._file_rows = self._file_bytes = 0
        self._done: list[File] = []
        if folder is not None:
            (folder / "data").mkdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._thread.shutdown(cancel_futures=True)
        if self._sink is not None:
            self._sink.close()

    def write(self, part: pa.RecordBatch) -> None:
        """Write one slice, as `sliced` cuts them; returns when all but a few are on the disk's way."""
        self._submit(self._put, pa.record_batch([self._stored(part, field) for field in self._schema], self._schema))

    def finish(self) -> tuple[File, ...]:
        """Close the last file, give all their names, and say what they are. No rows are one empty file."""
        self._submit(self._end)
        while self._ahead:
            self._ahead.popleft().result()
        count = len(self._done)
        return tuple(self._named(file, number, count) for number, file in enumerate(self._done))

    @staticmethod
    def _stored(part: pa.RecordBatch, field: pa.Field) -> pa.Array:
        column = part.column(field.name)
        return field.type.wrap_array(column) if isinstance(field.type, pa.BaseExtensionType) else column

    def _submit(self, work: Callable[..., None], *given: pa.RecordBatch) -> None:
        self._ahead.append(self._thread.submit(work, *given))
        while len(self._ahead) > _PENDING_SLICES:
            self._ahead.popleft().result()

    def _put(self, part: pa.RecordBatch) -> None:
        if self._encoder is not None and self._file_bytes >= self._limit:
            self._seal()
        if self._encoder is None:
            self._open()
        assert self._encoder is not None
        self._encoder.write(part)
        self._file_rows += len(part)
        self._file_bytes += text_bytes(part)

    def _end(self) -> None:
        if self._encoder is None:
            self._open()
        self._seal()

    def _open(self) -> None:
        path = None if self._folder is None else self._folder / self._part(len(self._done))
        sink = self._sink = _Hashed(path)
        self._encoder = (
            _Parquet(sink, self._schema) if self._form == "parquet" else _Lines(_compressed(sink, self._form))
        )
        self._file_rows = self._file_bytes = 0

    def _seal(self) -> None:
        assert self._encoder is not None
        assert self._sink is not None
        self._encoder.close()
        self._done.append(self._sink.seal(self._part(len(self._done)), self._file_rows))
        self._encoder = self._sink = None

    def _part(self, number: int) -> str:
        return f"data/{self._split}-{number:05d}.part"

    def _named(self, file: File, number: int, count: int) -> File:
        name = f"data/{self._split}-{number:05d}-of-{count:05d}.{self._form}"
        if self._folder is not None:
            os.rename(self._folder / file.path, self._folder / name)
        return msgspec.structs.replace(file, path=name)


def sliced(batches: Iterable[pa.RecordBatch], rows: int = SLICE_ROWS) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of exactly `rows`, the last one shorter, each in memory of its own."""
    pending: list[pa.RecordBatch] = []
    held = 0
    for batch in batches:
        start = 0
        while held + len(batch) - start >= rows:
            taken = rows - held
            pending.append(batch.slice(start, taken))
            yield _joined(pending)
            start, held, pending = start + taken, 0, []
        if start < len(batch):
            pending.append(batch.slice(start))
            held += len(batch) - start
    if pending:
        yield _joined(pending)


def text_bytes(part: pa.RecordBatch) -> int:
    """How many bytes of text the columns hold: a size that depends on the values alone, not on how they are stored."""
    return sum(_text_bytes(column) for column in part.columns)


def library_versions(form: str) -> dict[str, str]:
    """The libraries, other than the engine, whose version can change the bytes of a format."""
    if form == "parquet":
        return {"pyarrow": pa.__version__}
    if form == "jsonl.zst":
        return {"zstandard": zstandard.__version__, "libzstd": ".".join(map(str, zstandard.ZSTD_VERSION))}
    return {"zlib": zlib.ZLIB_RUNTIME_VERSION} if form == "jsonl.gz" else {}


def _joined(parts: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    return parts[0] if len(parts) == 1 else pa.concat_batches(parts)


def _text_bytes(column: pa.Array) -> int:
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return _text_bytes(column.storage)
    if pa.types.is_struct(kind):
        return sum(_text_bytes(field) for field in column.flatten())
    if pa.types.is_list(kind):
        return _text_bytes(column.flatten())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pc.sum(pc.binary_length(column), min_count=0).as_py()
    return 0


def _line_bytes(column: pa.Array) -> bytes:
    """The text of a column without nulls, one value after the other."""
    wide = pa.types.is_large_string(column.type)
    offsets = np.frombuffer(column.buffers()[1], np.int64 if wide else np.int32)
    first, last = int(offsets[column.offset]), int(offsets[column.offset + len(column)])
    data = column.buffers()[2]
    return b"" if data is None else data.slice(first, last - first).to_pybytes()


def _compressed(sink: _Hashed, form: str) -> "_Hashed | gzip.GzipFile | zstandard.ZstdCompressionWriter":
    if form == "jsonl.gz":
        # Neither a name nor a time in the header: the same rows are the same bytes.
        return gzip.GzipFile(filename="", mode="wb", compresslevel=_GZIP_LEVEL, fileobj=sink, mtime=0)
    if form == "jsonl.zst":
        compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True)
        return compressor.stream_writer(cast("IO[bytes]", sink), closefd=False)
    return sink
