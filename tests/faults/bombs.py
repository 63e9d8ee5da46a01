"""Files that are small, or look harmless, and want all the memory or time there is: one function each makes one.

Each is made in a second or two, and is refused in less. `SHORT` are those that the normal tests use.
"""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

MIB = 1 << 20
ROW = b'{"run_id":"r","task_id":"t","text":"'
SHORT = ("spaces.jsonl.zst", "newlines.jsonl.zst", "spaces.jsonl.gz", "rows.parquet", "deep.json", "endless.csv")


def _zstd(path: Path, *parts: tuple[bytes, int], size: int = -1, window: int = 0) -> None:
    """Write parts, each so many times, as one frame; `size` is what the frame says it unpacks to."""
    parameters = zstandard.ZstdCompressionParameters(window_log=window) if window else None
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj(size=size)
    with path.open("wb") as file:
        for part, times in parts:
            for _ in range(times):
                file.write(packer.compress(part))
        file.write(packer.flush())


def _gzip(path: Path, part: bytes, times: int) -> None:
    with gzip.open(path, "wb", 6) as file:
        for _ in range(times):
            file.write(part)


def _plain(path: Path, *parts: bytes) -> None:
    path.write_bytes(b"".join(parts))


def _rows(path: Path) -> None:
    """20 million rows of a kilobyte in two megabytes: a dictionary of one value."""
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * MIB, pa.int32()), pa.array(["x" * 1000]))
    table = pa.table({"run_id": texts})
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        for _ in range(20):
            writer.write_table(table)


def _values(path: Path) -> None:
    """2,000 rows of ten megabytes in less than a kilobyte."""
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), pa.array(["x" * 10_000_000]))
    pq.write_table(pa.table({"run_id": texts}), path, compression="zstd")


def _groups(path: Path, groups: int = 1_000_000) -> None:
    """A footer that lists a million row groups."""
    table = pa.table({"run_id": ["a"]})
    with pq.ParquetWriter(
        path, table.schema, compression="none", use_dictionary=False, write_statistics=False
    ) as writer:
        for _ in range(groups):
            writer.write_table(table)


def _footer(path: Path) -> None:
    """A footer that says it has 90 megabytes, and has them."""
    path.write_bytes(b"PAR1" + bytes(90 * MIB) + struct.pack("<I", 90 * MIB) + b"PAR1")


def _columns(path: Path) -> None:
    pq.write_table(pa.table({f"column_{number}": pa.array([1]) for number in range(20_000)}), path)


def _nulls(path: Path) -> None:
    """A hundred million rows of nothing."""
    pq.write_table(pa.table({"run_id": pa.nulls(100_000_000)}), path)


BOMBS: dict[str, Callable[[Path], None]] = {
    "spaces.jsonl.zst": lambda path: _zstd(path, (b" " * MIB, 1024)),
    "declared.jsonl.zst": lambda path: _zstd(path, (b" " * MIB, 1024), size=1 << 30),
    "zeros.jsonl.zst": lambda path: _zstd(path, (bytes(MIB), 1024)),
    "newlines.jsonl.zst": lambda path: _zstd(path, (b"\n" * MIB, 1024)),
    "braces.jsonl.zst": lambda path: _zstd(path, (b"{}\n" * (MIB // 3), 1024)),
    "same.jsonl.zst": lambda path: _zstd(path, ((ROW + b'x"}\n') * 25_000, 1024)),
    "string.jsonl.zst": lambda path: _zstd(path, (ROW, 1), (b"x" * MIB, 1024), (b'"}\n', 1)),
    "frames.jsonl.zst": lambda path: _plain(path, zstandard.compress(b" " * (1 << 17)) * 8192),
    "window.jsonl.zst": lambda path: _zstd(path, ((ROW + b'x"}\n') * 1000, 1), window=30),
    "spaces.jsonl.gz": lambda path: _gzip(path, b" " * MIB, 1024),
    "braces.jsonl.gz": lambda path: _gzip(path, b"{}\n" * (MIB // 3), 256),
    "array.json.zst": lambda path: _zstd(path, (b"[", 1), (b"{}," * (MIB // 3), 1024)),
    "spaces.json.zst": lambda path: _zstd(path, (b"[", 1), (b" " * MIB, 1024)),
    "field.csv.zst": lambda path: _zstd(path, (b'run_id,task_id,text\na,t,"', 1), (b"x" * MIB, 1024)),
    "same.csv.zst": lambda path: _zstd(
        path, (b"run_id,task_id,text\n", 1), ((b",t," + b"x" * 60 + b"\n") * (MIB // 64), 1024)
    ),
    "rows.parquet": _rows,
    "values.parquet": _values,
    "groups.parquet": _groups,
    "footer.parquet": _footer,
    "columns.parquet": _columns,
    "nulls.parquet": _nulls,
    "value.parquet": lambda path: pq.write_table(pa.table({"run_id": ["x" * 400_000_000]}), path, compression="zstd"),
    "deep.jsonl": lambda path: _plain(path, b'{"a":' * 100_000, b"}" * 100_000, b"\n"),
    "deep.json": lambda path: _plain(path, b"[" * 100_000, b"]" * 100_000),
    "deeper.json": lambda path: _plain(path, b"[" * (60 * MIB)),
    "line.jsonl": lambda path: _plain(path, ROW, b"x" * (300 * MIB), b'"}\n'),
    "element.json": lambda path: _plain(path, b"[", ROW, b"x" * (300 * MIB), b'"}]'),
    "lists.jsonl": lambda path: _plain(path, b'{"run_id":"r","task_id":"t","a":[', b"[]," * (5 * MIB), b"[]]}\n"),
    "lists.json": lambda path: _plain(path, b'[{"run_id":"r","task_id":"t","a":[', b"[]," * (20 * MIB), b"[]]}]"),
    "keys.jsonl": lambda path: _plain(path, b"{", b",".join(b'"%d":0' % key for key in range(MIB)), b"}\n"),
    "twice.jsonl": lambda path: _plain(path, b"{", b'"a":0,' * (2 * MIB), b'"a":0}\n'),
    "endless.csv": lambda path: _plain(path, b'run_id,task_id,text\na,t,"', b"x" * (300 * MIB)),
    "header.csv": lambda path: _plain(path, b"a" * (300 * MIB)),
    "wide.csv": lambda path: _plain(
        path, b",".join(b"c%d" % n for n in range(100_000)), b"\n", (b"1," * 99_999 + b"\n") * 100
    ),
}
