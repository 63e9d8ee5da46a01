"""JSON lines as blocks: a line is a row."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from ingest.blocks import BOM, PEEK, RAW_KEPT, WINDOW, Block, Cursor, Refusal, Sizes, Variety, cut
from ingest.rows import Decoder, too_much
from ingest.sources import Limits, Stream


def blocks(stream: Stream, cursor: Cursor, sizes: Sizes, limits: Limits) -> Iterator[Block]:
    """The lines that are left, as blocks."""
    variety = Variety(stream, limits)
    held = b""
    while True:
        # What is held goes in front again, so that a block is put together once.
        stream.unread(held)
        wanted = len(held) + sizes.block
        data = stream.read(wanted)
        done = data.rfind(b"\n") + 1
        for block in _of_lines(data, done, cursor, sizes.rows):
            yield block
            if problem := variety.seen(data[start:end] for start, end in pairwise(block.offsets.tolist())):
                yield Block(cursor.mark(), refusals=[cut(cursor.line + 1, b"", problem)])
                return
        held = data[done:]
        if len(data) < wanted:
            break
        if len(held) > sizes.row:
            refusal, is_cut = _endless(stream, held, cursor)
            yield Block(cursor.mark(), refusals=[refusal])
            if is_cut:
                return
            held = b""
    if held.strip() or stream.failure is not None:
        yield _tail(stream, held, cursor)


def _of_lines(data: bytes, done: int, cursor: Cursor, limit: int) -> Iterator[Block]:
    """The whole lines of some data, as blocks of so many lines at most."""
    start = 0
    for ends in _line_ends(data, done, limit):
        offsets = np.concatenate([np.array([start], np.int64), ends])
        if cursor.offset == 0 and data.startswith(BOM):
            offsets[0] = len(BOM)
        lines = np.arange(cursor.line + 1, cursor.line + len(offsets), dtype=np.int64)
        end = int(ends[-1])
        cursor.advance(memoryview(data)[start:end])
        cursor.line += len(lines)
        yield Block(cursor.mark(), data, offsets, lines)
        start = end


def _line_ends(data: bytes, done: int, limit: int) -> Iterator[np.ndarray]:
    """Where the lines of some data end, so many at a time: a window at a time, for it may be all line feeds."""
    octets = np.frombuffer(data, np.uint8, done)
    ends = np.empty(0, np.int64)
    for at in range(0, done, WINDOW):
        ends = np.concatenate([ends, np.flatnonzero(octets[at : at + WINDOW] == ord("\n")) + (at + 1)])
        while len(ends) >= limit:
            yield ends[:limit]
            ends = ends[limit:]
    if len(ends):
        yield ends


def _endless(stream: Stream, held: bytes, cursor: Cursor) -> tuple[Refusal, bool]:
    """Passes over a line that is longer than a row may be. Also says whether the source is cut off within it."""
    raw, size, end = held[:RAW_KEPT], 0, 0
    while held:
        end = held.find(b"\n") + 1
        if end:
            stream.unread(held[end:])
            held = held[:end]
        cursor.advance(held)
        size += len(held)
        held = b"" if end else stream.read(PEEK)
    cursor.line += 1
    failure = None if end else stream.failure
    problem = failure or too_much("too_long", f"the line has {size:,} bytes")
    return Refusal(cursor.line, raw, size, problem), failure is not None


def _tail(stream: Stream, held: bytes, cursor: Cursor) -> Block:
    """The last line, where no line feed ends it. The mark stays before it: its writer may not be done with it."""
    mark, line = cursor.mark(), cursor.line + 1
    raw = held.removeprefix(BOM) if cursor.offset == 0 else held
    whole = stream.failure is None
    if stream.failure is not None:
        decoded = Decoder().decode(raw)
        whole = decoded.values is not None and not decoded.problems
    refusals = [] if stream.failure is None else [cut(line, b"" if whole else raw, stream.failure)]
    if not whole:
        return Block(mark, refusals=refusals)
    return Block(mark, raw, np.array([0, len(raw)], np.int64), np.array([line], np.int64), refusals=refusals)
