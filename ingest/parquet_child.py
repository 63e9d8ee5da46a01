"""Reads a Parquet file that nobody vouches for, and tells its rows as Arrow: what runs in the sandbox.

`ingest.parquet` starts this in a process that can do nothing but compute, with the file open under one number and a
pipe under another, and takes what comes over the pipe as frames: a letter, a length of eight bytes, and so many bytes.

* `H` the number of rows that the file says it has, as JSON;
* `B` some rows, an Arrow stream of one batch, none of whose columns is a dictionary;
* `L` a row that is larger than a row may be, and how many bytes it has, as JSON;
* `E` why the rest cannot be read, a reason and a message, as JSON;
* `Z` the end.

A dictionary hides how large its values are, so a batch that is small in the file can be anything in memory. Batches are
made as small as it takes; what does not even fit row by row is told as such.

Not here: what a row means. Nothing of the product may be imported here.
"""

import json
import os
import struct
import sys
from collections.abc import Iterator
from typing import Any

sys.modules["numpy"] = None  # type: ignore[assignment]  # it is not needed, and takes memory and time

import pyarrow as pa  # noqa: E402 -- the line above must come first
import pyarrow.parquet as pq  # noqa: E402

ROWS = (1024, 64, 8, 1)  # rows of a batch, at most: the first, and those that are tried where memory does not suffice
BATCH_BYTES = 4 << 20
BUFFER_BYTES = 16 << 20  # for all columns
SEND_BYTES = 1 << 16
FOOTER_BYTES = 16 << 20
COLUMNS = 10_000
MAGIC = b"PAR1"

Orders = dict[str, Any]


class Unreadable(Exception):
    """Why the file cannot be read: a reason and a message."""


def send(pipe: int, kind: bytes, data: bytes | memoryview) -> None:
    """Write one frame."""
    view = memoryview(kind + struct.pack("<Q", len(data)))
    for part in (view, memoryview(data)):
        while part:
            part = part[os.write(pipe, part[:SEND_BYTES]) :]  # noqa: PLW2901 -- what is left of it


def tell(pipe: int, kind: bytes, value: object) -> None:
    """Write one frame of JSON."""
    send(pipe, kind, json.dumps(value).encode())


def check_footer(number: int) -> None:
    """Raises Unreadable where the file's own description is too large to be read, or is none."""
    size = os.fstat(number).st_size
    tail = os.pread(number, 8, max(0, size - 8))
    if tail[4:] == b"PARE":
        raise Unreadable("unknown_format", "this Parquet file is encrypted, which is not read")
    if size < 12 or tail[4:] != MAGIC:
        raise Unreadable("corrupt", "the Parquet file is damaged: it has no end")
    footer = int.from_bytes(tail[:4], "little")
    if footer > FOOTER_BYTES:
        raise Unreadable(
            "decompression_bomb",
            f"its footer has {footer:,} bytes, and {FOOTER_BYTES:,} are allowed; write it with larger row groups",
        )


def opened(number: int) -> pq.ParquetFile:
    """The file, read in small pieces: neither a whole row group nor a whole column of it at once."""
    with os.fdopen(os.dup(number), "rb", buffering=0) as first:
        columns = pq.read_metadata(pa.PythonFile(first)).num_columns
    if columns > COLUMNS:
        raise Unreadable("too_many_values", f"it has {columns:,} columns; {COLUMNS:,} are the most that are read")
    buffer = max(4096, min(1 << 20, BUFFER_BYTES // max(1, columns)))
    file = pa.PythonFile(os.fdopen(os.dup(number), "rb", buffering=0))
    return pq.ParquetFile(file, pre_buffer=False, buffer_size=buffer, page_checksum_verification=True)


def rows_at_once(metadata: pq.FileMetaData) -> int:
    """How many rows make a batch, by what the file says of its size, which may be far from true."""
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    largest = max((group.total_byte_size // max(1, group.num_rows) for group in groups), default=1)
    return max(1, min(ROWS[0], BATCH_BYTES // max(1, largest)))


def plain(kind: pa.DataType) -> pa.DataType:
    """A type without dictionaries."""
    if pa.types.is_dictionary(kind):
        return plain(kind.value_type)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(plain(field.type)) for field in kind])
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(plain(kind.value_type)))
    if pa.types.is_map(kind):
        return pa.map_(plain(kind.key_type), plain(kind.item_type))
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(plain(kind.value_type)))
    return kind


def unfolded(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch whose columns are no dictionaries, at no depth."""
    wanted = [plain(field.type) for field in batch.schema]
    columns = [
        column if column.type == kind else column.cast(kind) for column, kind in zip(batch.columns, wanted, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def batches(file: pq.ParquetFile, rows: int, skip: int) -> Iterator[pa.RecordBatch]:
    """The rows after the first `skip`."""
    for batch in file.iter_batches(rows, use_threads=False):
        passed = min(skip, len(batch))
        skip -= passed
        if passed < len(batch):
            yield unfolded(batch.slice(passed))


def send_rows(pipe: int, batch: pa.RecordBatch, row_bytes: int) -> int:
    """Write a batch, in parts that are none too large. Returns the number of its rows."""
    size = batch.nbytes
    if size <= min(BATCH_BYTES, row_bytes) or (len(batch) == 1 and size <= row_bytes):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        send(pipe, b"B", memoryview(sink.getvalue()))
    elif len(batch) == 1:
        tell(pipe, b"L", size)
    else:
        half = len(batch) // 2
        send_rows(pipe, batch.slice(0, half), row_bytes)
        send_rows(pipe, batch.slice(half), row_bytes)
    return len(batch)


def read(orders: Orders) -> None:
    """Tell all rows after the first `skip`."""
    pipe, number, done = orders["pipe"], orders["input"], orders["skip"]
    check_footer(number)
    file = opened(number)
    tell(pipe, b"H", file.metadata.num_rows)
    first = rows_at_once(file.metadata)
    for rows in (first, *(fewer for fewer in ROWS if fewer < first)):
        try:
            for batch in batches(file, rows, done):
                done += send_rows(pipe, batch, orders["row_bytes"])
        except MemoryError:
            # ArrowMemoryError is one, too. What was sent stays sent; the rest is read in smaller batches.
            continue
        send(pipe, b"Z", b"")
        return
    raise Unreadable("decompression_bomb", "one of its rows takes more memory than reading may take")


def main() -> None:
    """Carry out the orders, which lie in the working folder."""
    with open("orders.json", "rb") as file:
        orders: Orders = json.load(file)
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    try:
        read(orders)
    except Unreadable as error:
        tell(orders["pipe"], b"E", error.args)
    except MemoryError:
        tell(orders["pipe"], b"E", ("decompression_bomb", "it takes more memory than reading may take"))
    except (pa.ArrowException, OSError, ValueError) as error:
        said = str(error).partition("\n")[0]
        tell(orders["pipe"], b"E", ("corrupt", f"the Parquet file is damaged: {said}"))
