"""How rows become bytes: JSON lines, a JSON array, CSV, Parquet and Arrow, each as a stream of batches into one file.

An encoder's bytes depend on the values, on their order and on where batches end, and on nothing else: no time, no
name, no thread, and none of the memory that Arrow leaves undefined under a null.

Not here: which file a batch goes to, and what it is called (`formats`).
"""

import gzip
import zlib
from typing import IO, Protocol, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import zstandard

from exporters.hashed import Hashed

LINE = "line"
TEXT_FORMS = ("jsonl", "jsonl.gz", "jsonl.zst", "json")
ROW_GROUP_ROWS = 131_072
ROW_GROUP_BYTES = 64 << 20

# Columns of few distinct values; all others are texts or ids, for which a dictionary only costs time.
_DICTIONARY = ["task_id", "category", "source_category", "role", "model", "schema_version"]
_GZIP_LEVEL = 6
_ZSTD_LEVEL = 3
_PARQUET_ZSTD_LEVEL = 1
# Legal in a JSON string, but line ends to str.splitlines and to some editors, so they are written as escapes.
_LINE_ENDS = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"), (b"\xc2\x85", b"\\u0085"))


class Encoder(Protocol):
    """Takes batches, and ends the file."""

    def write(self, part: pa.RecordBatch) -> None:
        """Encode one batch."""
        ...

    def close(self) -> None:
        """Encode what is left and write the file's end; the sink stays open."""
        ...


def encoder(form: str, sink: Hashed, schema: pa.Schema) -> Encoder:
    """The encoder of a format. The JSON ones take a column `line`, whole JSON texts with a line feed each."""
    if form == "parquet":
        return _Parquet(sink, schema)
    if form in {"arrow", "hf"}:
        return _Arrow(sink, schema)
    if form == "csv":
        return _Csv(sink, schema)
    return _Array(sink) if form == "json" else _Lines(_compressed(sink, form))


def library_versions(form: str) -> dict[str, str]:
    """The libraries, other than the engine, whose version can change the bytes of a format."""
    if form in {"parquet", "arrow", "hf", "csv"}:
        return {"pyarrow": pa.__version__}
    if form == "jsonl.zst":
        return {"zstandard": zstandard.__version__, "libzstd": ".".join(map(str, zstandard.ZSTD_VERSION))}
    return {"zlib": zlib.ZLIB_RUNTIME_VERSION} if form == "jsonl.gz" else {}


def value_bytes(part: pa.RecordBatch) -> int:
    """How many bytes of text and of lists of numbers the columns hold.

    The size depends on the values alone, not on how they are stored.
    """
    return sum(_value_bytes(column) for column in part.columns)


def settled(column: pa.Array) -> pa.Array:
    """The same values in memory of which every bit is determined by them: zero under a null, and past the end."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return kind.wrap_array(settled(column.storage))
    nulls = column.is_null() if column.null_count else None
    if pa.types.is_struct(kind):
        if not kind.num_fields:
            nulls = column.is_null()  # what tells how many there are
        # `flatten` gives a child the nulls of its parent.
        return pa.StructArray.from_arrays([settled(child) for child in column.flatten()], fields=list(kind), mask=nulls)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        counts = np.asarray(pc.fill_null(pc.list_value_length(column), 0), np.int64)
        wide = pa.types.is_large_list(kind)
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int64() if wide else pa.int32())
        made = pa.LargeListArray if wide else pa.ListArray
        return made.from_arrays(offsets, settled(column.flatten()), type=kind, mask=nulls)
    if pa.types.is_fixed_size_list(kind) and nulls is None:
        return pa.FixedSizeListArray.from_arrays(settled(column.flatten()), type=kind)
    # A slice that begins at 0 would be written with some of what follows it.
    return column.take(pa.array(np.arange(len(column))))


class _Lines:
    """JSON lines, as the column `line` has them, into a file or a compressor."""

    def __init__(self, sink: "Hashed | gzip.GzipFile | zstandard.ZstdCompressionWriter") -> None:
        self._sink = sink

    def write(self, part: pa.RecordBatch) -> None:
        self._sink.write(_escaped(_line_bytes(part.column(LINE))))

    def close(self) -> None:
        if not isinstance(self._sink, Hashed):
            self._sink.close()


class _Array:
    """One JSON array, an element a line."""

    def __init__(self, sink: Hashed) -> None:
        self._sink = sink
        self._begun = False

    def write(self, part: pa.RecordBatch) -> None:
        if len(part):
            rows = _escaped(_line_bytes(part.column(LINE))).rstrip(b"\n").replace(b"\n", b",\n")
            self._sink.write((b",\n" if self._begun else b"[\n") + rows)
            self._begun = True

    def close(self) -> None:
        self._sink.write(b"\n]\n" if self._begun else b"[]\n")


class _Csv:
    """CSV with a header. Every text is quoted, so that an empty one and a missing one differ."""

    def __init__(self, sink: Hashed, schema: pa.Schema) -> None:
        self._writer = pa_csv.CSVWriter(pa.PythonFile(sink, mode="w"), schema)

    def write(self, part: pa.RecordBatch) -> None:
        self._writer.write_batch(part)

    def close(self) -> None:
        self._writer.close()


class _Parquet:
    """Parquet with page checksums, in row groups of whole slices."""

    def __init__(self, sink: Hashed, schema: pa.Schema) -> None:
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
        self._bytes += value_bytes(part)
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


class _Arrow:
    """An Arrow IPC stream, uncompressed, so that a loader maps it into memory instead of reading it."""

    def __init__(self, sink: Hashed, schema: pa.Schema) -> None:
        self._schema = schema
        self._writer = pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), schema)

    def write(self, part: pa.RecordBatch) -> None:
        self._writer.write_batch(pa.record_batch([settled(column) for column in part.columns], self._schema))

    def close(self) -> None:
        self._writer.close()


def _escaped(lines: bytes) -> bytes:
    for raw, escaped in _LINE_ENDS:
        if raw in lines:
            lines = lines.replace(raw, escaped)
    return lines


def _value_bytes(column: pa.Array) -> int:
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return _value_bytes(column.storage)
    if pa.types.is_struct(kind):
        return sum(_value_bytes(field) for field in column.flatten())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        items = column.flatten()
        return len(items) * kind.value_type.byte_width if _is_number(kind.value_type) else _value_bytes(items)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pc.sum(pc.binary_length(column), min_count=0).as_py()
    return 0


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _line_bytes(column: pa.Array) -> bytes:
    """The text of a column without nulls, one value after the other."""
    wide = pa.types.is_large_string(column.type)
    offsets = np.frombuffer(column.buffers()[1], np.int64 if wide else np.int32)
    first, last = int(offsets[column.offset]), int(offsets[column.offset + len(column)])
    data = column.buffers()[2]
    return b"" if data is None else data.slice(first, last - first).to_pybytes()


def _compressed(sink: Hashed, form: str) -> "Hashed | gzip.GzipFile | zstandard.ZstdCompressionWriter":
    if form == "jsonl.gz":
        # Neither a name nor a time in the header: the same rows are the same bytes.
        return gzip.GzipFile(filename="", mode="wb", compresslevel=_GZIP_LEVEL, fileobj=sink, mtime=0)
    if form == "jsonl.zst":
        compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True)
        return compressor.stream_writer(cast("IO[bytes]", sink), closefd=False)
    return sink
