"""The rows of a Parquet file, which is read in a process of its own that can do nothing else.

A Parquet file is a program for its reader: footers of a million entries, pages that unpack to anything, lengths that
lie, and readers with errors of their own. So `parquet_child` reads it in the sandbox, with limits on memory and time,
and what it tells is taken for what it is: the words of a stranger, validated in full before it is used. Whatever
happens in there, a crash or no answer, ends the file with a reject and leaves the ingest alone.

Not here: the sandbox itself (`sandbox`), what the values of a column look like as JSON (`rows`).
"""

import hashlib
import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from ingest import sandbox
from ingest.blocks import CELL, Block, Cells, Cursor, Mark, Refusal, Sizes, Variety
from ingest.listener import Ended, Listener, Silent
from ingest.rows import Problem, Refused, speakable, too_much
from ingest.sources import Cut, Limits

MAGIC = b"PAR1"
_CHILD = Path(__file__).with_name("parquet_child.py")
_PACKAGES = str(Path(pa.__file__).parents[1])
_MEMORY = 256 << 20  # bytes of address space: what the libraries take, and their work
_ROWS_IN_MEMORY = 8  # copies of one row that there may be beyond that
_CPU_SECONDS = 60  # and one for each MiB of the file
_FOREVER = 1e7  # seconds; who waits is this side, by the frame
_FRAME = 64 << 20  # bytes of a frame, beyond those of a row


def sha256(file: BinaryIO) -> str:
    """The sha256 of all of a file, in hexadecimal."""
    file.seek(0)
    digest = hashlib.sha256()
    while data := file.read(4 << 20):
        digest.update(data)
    return digest.hexdigest()


def blocks(file: BinaryIO, cursor: Cursor, sizes: Sizes, digest: str, limits: Limits) -> Iterator[Block]:
    """The rows of a Parquet file after the cursor's line. A mark is a number of rows, and the digest of the file.

    Raises LakeError where the sandbox cannot be had.
    """
    reading = _Reading(file, cursor.line, sizes, limits)
    cells: list[Cells] = []
    size = 0
    problem: Problem | None = None
    try:
        for columns in reading.batches():
            if isinstance(columns, int):
                cursor.line += 1
                long = too_much("too_long", f"the row has {columns:,} bytes")
                yield Block(
                    Mark(0, cursor.line, digest), cells=cells, refusals=[Refusal(cursor.line, b"", columns, long)]
                )
                cells, size = [], 0
                continue
            made = list(_rows_of(columns, cursor))
            cells += made
            size += max(columns.nbytes, CELL * (1 + columns.num_columns) * len(made))
            problem = reading.variety.seen(repr(row.values).encode() for row in made)
            if problem is not None:
                break
            if size >= sizes.block or len(cells) >= sizes.rows:
                yield Block(Mark(0, cursor.line, digest), cells=cells)
                cells, size = [], 0
    except Cut as cut:
        problem = cut.problem
    finally:
        reading.close()
    refusals = [] if problem is None else [Refusal(cursor.line + 1, b"", 0, problem)]
    yield Block(Mark(0, cursor.line, digest), cells=cells, refusals=refusals)


class _Reading:
    """A child that reads a file, and the frames that it tells. Close it."""

    def __init__(self, file: BinaryIO, skip: int, sizes: Sizes, limits: Limits) -> None:
        self._limits = limits
        self._size = os.fstat(file.fileno()).st_size
        self._longest = sizes.row + _FRAME
        self._cpu_seconds = _CPU_SECONDS + (self._size >> 20)
        self._rows = 1
        self._told_rows = 0
        self._told_bytes = 0
        self.variety = Variety(self, limits)
        file.seek(0)
        pipe, theirs = os.pipe()
        orders = {"pipe": theirs, "input": file.fileno(), "skip": skip, "row_bytes": sizes.row}
        program = sandbox.Program(
            entry=_CHILD,
            packages=(_PACKAGES,),
            # The other allocators set aside more address space than there is to be.
            environment={"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"},
            files={"orders.json": json.dumps(orders).encode()},
            pass_fds=(theirs, file.fileno()),
        )
        allowed = sandbox.Limits(
            wall_seconds=_FOREVER,
            cpu_seconds=self._cpu_seconds,
            memory_bytes=_MEMORY + _ROWS_IN_MEMORY * sizes.row,
        )
        try:
            self._listener = Listener(program, allowed, pipe)
        finally:
            os.close(theirs)

    @property
    def strained(self) -> bool:
        """Whether the rows told so far are so large that all of them are more than the ratio allows."""
        whole = self._told_bytes / max(1, self._told_rows) * self._rows
        return whole > self._limits.free_bytes and whole > self._limits.ratio * self._size

    def settle(self) -> None:
        """Nothing is counted from here on alone: the rows told so far say what the others are like."""

    def batches(self) -> Iterator[pa.RecordBatch | int]:
        """Batches of rows, valid in full; for a row that is too long the bytes that it has. Raises Cut."""
        while True:
            kind, data = self._frame()
            if kind == b"B":
                yield self._batch(data)
            elif kind == b"H":
                self._rows = int(_told(data))
            elif kind == b"L":
                yield int(_told(data))
            elif kind == b"E":
                reason, message = _told(data)
                raise Cut(str(reason), str(message))
            elif kind == b"Z":
                return
            else:
                raise Cut("corrupt", "the Parquet file is damaged: reading it gives no rows")

    def _batch(self, data: bytes) -> pa.RecordBatch:
        try:
            with pa.ipc.open_stream(data) as stream:
                batch = _valid(stream.read_next_batch())
        except (pa.ArrowException, StopIteration, OSError, ValueError) as error:
            raise Cut("corrupt", f"the Parquet file is damaged: {str(error).partition(chr(10))[0]}") from None
        self._told_rows += len(batch)
        self._told_bytes += max(batch.nbytes, CELL * len(batch))
        return batch

    def _frame(self) -> tuple[bytes, bytes]:
        head = self._exactly(9)
        (length,) = struct.unpack("<Q", head[1:])
        if length > self._longest:
            raise Cut("corrupt", "the Parquet file is damaged: its rows come in pieces that are too large")
        return head[:1], self._exactly(length)

    def _exactly(self, size: int) -> bytes:
        """So many bytes of what is told. Raises Cut where they do not come."""
        seconds = self._limits.silence_seconds
        try:
            return self._listener.exactly(size, seconds)
        except Silent:
            raise Cut("corrupt", f"reading the Parquet file came to nothing for {seconds:g} seconds") from None
        except Ended as ended:
            if ended.outcome.signal == "SIGXCPU" or ended.outcome.cpu_seconds > self._cpu_seconds:
                raise Cut("decompression_bomb", "reading the Parquet file takes more time than it may take") from None
            hint = "; it may take more memory than there is for it" if ended.outcome.signal else ""
            raise Cut("corrupt", f"the Parquet file is damaged: reading it ended with {ended.how}{hint}") from None

    def close(self) -> None:
        """End the child, if it has not ended."""
        self._listener.close()


def _told(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        raise Cut("corrupt", "the Parquet file is damaged: reading it gives no rows") from None


def _valid(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch that is what it says. Text that is not UTF-8 is given as bytes, so that its own row alone is refused."""
    columns = []
    for column in batch.columns:
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
                raise
            column = column.cast(pa.large_binary() if pa.types.is_large_string(column.type) else pa.binary())  # noqa: PLW2901
            column.validate(full=True)
        columns.append(column)
    made = pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
    made.validate(full=True)
    return made


def _rows_of(batch: pa.RecordBatch, cursor: Cursor) -> Iterator[Cells]:
    names = batch.schema.names
    twice = len(set(names)) < len(names)
    columns = [_listed(column) for column in batch.columns]
    for values in zip(*columns, strict=True) if columns else [()] * len(batch):
        cursor.line += 1
        row = list(zip(names, values, strict=True))
        problems = [Problem("duplicate_key", "two columns have the same name")] if twice else []
        try:
            made = speakable(row)
        except Refused as refused:
            made, problems = {}, [*problems, *refused.problems]
        yield Cells(cursor.line, made, str(dict(row)).encode(errors="replace") if problems else b"", problems)


def _listed(column: pa.Array) -> list[Any]:
    """A column's values. Times finer than microseconds are given as text, which loses nothing."""
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        zone = "Z" if column.type.tz else ""
        text = pc.cast(column.cast(pa.timestamp("ns")), pa.string())
        return [None if value is None else f"{value}{zone}" for value in text.to_pylist()]
    return column.to_pylist()
