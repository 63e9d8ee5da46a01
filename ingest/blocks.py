"""Bytes as rows: JSON lines, JSON arrays and objects, CSV and Parquet, a block at a time.

A block is as many rows as fit into some megabytes, and the `Mark` up to which the source is done with once they are
stored. What cannot be told apart into rows (a line without end, a cut-off file) comes as a `Refusal`, with all rows
around it kept.

Not here: whether a row is good (`rows`), and where a mark is kept (`bookmarks`).
"""

import csv
import hashlib
import json
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, BinaryIO, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingest.rows import MAX_DEPTH, Decoder, Problem, Refused, Values, marks_in, max_marks, refuse, speakable
from ingest.sources import Cut, Limits, Stream

BOM = b"\xef\xbb\xbf"
PEEK = 1 << 20  # bytes that are looked at to tell a format
PARQUET_MAGIC = b"PAR1"
PARQUET_ROWS = 1024  # rows that are unpacked in one go
RAW_KEPT = 1 << 16  # bytes of a row without end that its reject keeps

# Files that are not what is asked for, and what they are; by their first bytes.
_FOREIGN = (
    (b"PK\x03\x04", "a zip archive"),
    (b"BZh", "compressed by bzip2"),
    (b"\xfd7zXZ", "compressed by xz"),
    (b"\x04\x22\x4d\x18", "compressed by lz4"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
    (b"SQLite format 3", "an SQLite database"),
    (b"%PDF", "a PDF document"),
    (b"\x7fELF", "a program"),
    (b"ARROW1", "an Arrow file"),
    (b"Obj\x01", "an Avro file"),
)
_BLANK = re.compile(r"[ \t\r\n]*")
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{},"]', re.DOTALL)
_CLOSES = {"}": "{", "]": "["}
_WINDOW = 4 << 20  # bytes that are looked at in one go where each may make an object
_NEAR = 16  # characters before the end of a window within which what is cut off there shows
_TOKENS = 1 << 21  # brackets, commas and strings after which the end of what is no JSON is not looked for
_VARIED = 10  # of this many bytes of rows, one at least is in a row unlike the others
_CELL = 100  # bytes that a cell takes, at least


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How large a block is, and how long a row may be, in bytes; and how many rows a block has at most.

    A block makes two files, which the lake encodes side by side.
    """

    block: int = 40 << 20
    row: int = 16 << 20
    rows: int = 100_000


class Mark(NamedTuple):
    """How far a source is done with: bytes, their sha256, and the number of the last row (or line) before it."""

    offset: int
    line: int
    digest: str


class Cells(NamedTuple):
    """A row that came as cells rather than as JSON. `raw` shows it in a reject."""

    line: int
    values: Values
    raw: bytes
    problems: list[Problem]


class Refusal(NamedTuple):
    """Bytes that are no row. `size` is how many they are, of which `raw` may be the first."""

    line: int
    raw: bytes
    size: int
    problem: Problem


@dataclass(frozen=True)
class Block:
    """Some rows of a source, of JSON (`data`, `offsets`, `lines`) or of cells, and how far it is done with after them.

    Row i is `data[offsets[i]:offsets[i + 1]]`, its number `lines[i]`; shapes (n + 1,) and (n,), int64.
    """

    mark: Mark
    data: bytes = b""
    offsets: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))
    lines: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    cells: list[Cells] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)


class Cursor:
    """Counts what a source is done with."""

    def __init__(self) -> None:
        self.offset = 0
        self.line = 0
        self._digest = hashlib.sha256()

    def advance(self, data: bytes | memoryview) -> None:
        """The source is done with these bytes."""
        self._digest.update(data)
        self.offset += len(data)

    def skip(self, stream: Stream, offset: int) -> None:
        """Read on to an offset, or to the end."""
        while self.offset < offset:
            data = stream.read(min(offset - self.offset, 4 << 20))
            if not data:
                return
            self.advance(data)
            stream.settle()  # it was looked at when it was read first

    def mark(self) -> Mark:
        """Where the source is done with now."""
        return Mark(self.offset, self.line, self._digest.copy().hexdigest())


def recognise(stream: Stream, forced: str | None = None) -> str:
    """The format of a source: `jsonl`, `array`, `documents`, `csv`, `tsv` or `parquet`. Raises Refused.

    What the bytes say counts; the name decides where they could be several things.
    """
    head = stream.peek(PEEK)
    promised = forced or stream.source.suffixes[0]
    if head.startswith(PARQUET_MAGIC):
        return "parquet"
    for magic, what in _FOREIGN:
        if head.startswith(magic):
            raise refuse("unknown_format", f"this is {what}, which is not read; unpack or convert it first")
    text = head.removeprefix(BOM).lstrip(b" \t\r\n")
    if not text and stream.failure is None:
        return "jsonl"
    if promised == "parquet":
        raise refuse("unknown_format", "this is no Parquet file, although its name says so")
    first = text[:1]
    if b"\0" in head[:4096] and first not in (b"{", b"["):
        raise refuse("unknown_format", "this is a binary file")
    if promised in ("jsonl", "csv", "tsv"):
        return promised
    if first == b"[":
        return "array"
    if first == b"{":
        return "jsonl" if _is_lines(text) else "documents"
    if promised == "json" or not text:
        return "jsonl"
    raise refuse("unknown_format", "this is neither JSON nor Parquet, and CSV is known by its name: *.csv or *.tsv")


def _is_lines(text: bytes) -> bool:
    """Whether text that begins with an object is one object a line, or one object over many lines."""
    lines = text.split(b"\n", 2)
    if len(lines) == 1 or _is_json(lines[0]):
        return True
    # One bad line does not make its file a document; but a document's second line may be JSON, after an opening one.
    return not lines[0].rstrip().endswith((b"{", b"[", b",", b":")) and lines[1].startswith(b"{") and _is_json(lines[1])


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


class _Variety:
    """Watches what a compressed source unpacks to: rows that differ are fine, however many; the same ones are not."""

    def __init__(self, stream: Stream, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits
        self._rows = 0
        self._bytes = 0

    def seen(self, rows: Iterable[bytes]) -> Problem | None:
        """Take these rows into account. A problem if no more should be read."""
        if self._stream.strained:
            all_rows = list(rows)
            size = sum(map(len, all_rows))
            if sum(map(len, set(all_rows))) * _VARIED < size:
                self._rows += len(all_rows)
                self._bytes += size
                if self._rows <= self._limits.repeated_rows and self._bytes <= self._limits.repeated_bytes:
                    return None
                ratio = self._limits.ratio
                return Problem(
                    "decompression_bomb",
                    f"it unpacks to more than {ratio} times the compressed bytes, and to the same rows over and over",
                )
        self._stream.settle()
        self._rows = self._bytes = 0
        return None


def _lines(stream: Stream, cursor: Cursor, sizes: Sizes, limits: Limits) -> Iterator[Block]:
    variety = _Variety(stream, limits)
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
                yield Block(cursor.mark(), refusals=[_cut(cursor.line + 1, b"", problem)])
                return
        held = data[done:]
        if len(data) < wanted:
            break
        if len(held) > sizes.row:
            refusal, cut = _endless(stream, held, cursor)
            yield Block(cursor.mark(), refusals=[refusal])
            if cut:
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
    for at in range(0, done, _WINDOW):
        ends = np.concatenate([ends, np.flatnonzero(octets[at : at + _WINDOW] == ord("\n")) + (at + 1)])
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
    cut = None if end else stream.failure
    problem = cut or Problem("too_long", f"the line has {size:,} bytes, more than a row may have")
    return Refusal(cursor.line, raw, size, problem), cut is not None


def _tail(stream: Stream, held: bytes, cursor: Cursor) -> Block:
    """The last line, where no line feed ends it. The mark stays before it: its writer may not be done with it."""
    mark, line = cursor.mark(), cursor.line + 1
    raw = held.removeprefix(BOM) if cursor.offset == 0 else held
    whole = stream.failure is None
    if stream.failure is not None:
        decoded = Decoder().decode(raw)
        whole = decoded.values is not None and not decoded.problems
    refusals = [] if stream.failure is None else [_cut(line, b"" if whole else raw, stream.failure)]
    if not whole:
        return Block(mark, refusals=refusals)
    return Block(mark, raw, np.array([0, len(raw)], np.int64), np.array([line], np.int64), refusals=refusals)


def _cut(line: int, raw: bytes, problem: Problem) -> Refusal:
    return Refusal(line, raw[:RAW_KEPT], len(raw), problem)


class _Elements:
    """The elements of an array, or objects that follow one another, whatever the line breaks in between.

    The mark is after the last element, before the comma or bracket: so an array that is written anew with more elements
    is read on from there.
    """

    def __init__(self, stream: Stream, cursor: Cursor, sizes: Sizes, limits: Limits, *, in_array: bool) -> None:
        self._stream = stream
        self._cursor = cursor
        self._sizes = sizes
        self._variety = _Variety(stream, limits)
        self._in_array = in_array
        self._decode = json.JSONDecoder().raw_decode
        self._window = ""
        self._window_at = 0
        self._hopeless: Problem | None = None

    def blocks(self) -> Iterator[Block]:
        data = b""
        while True:
            # An element that is larger than what was read is read in growing steps.
            wanted = max(self._sizes.block, len(data))
            fresh = self._stream.read(wanted)
            ended = len(fresh) < wanted
            data += fresh
            # Each byte is a character here: what is looked for is ASCII, and UTF-8 is left to whoever decodes.
            text = data.decode("latin-1")
            self._window = ""
            done, full = 0, True
            while full:
                start = done
                found, done, finished = self._elements(text, start, ended)
                full = len(found) == self._sizes.rows and not finished
                refusals = [] if full else self._refusals(data[done:], len(found), ended=ended, finished=finished)
                if found or refusals or done > start:
                    yield self._block(data, start, done, found, refusals)
                if finished or refusals:
                    return
                if problem := self._variety.seen(data[begin:end] for begin, end in found) if found else None:
                    yield Block(self._cursor.mark(), refusals=[_cut(self._cursor.line + 1, b"", problem)])
                    return
            data = data[done:]

    def _refusals(self, rest: bytes, found: int, *, ended: bool, finished: bool) -> list[Refusal]:
        """What is wrong with what follows the elements that were found, if that is the end of them."""
        if finished:
            return self._after_array(rest, found) if self._in_array else []
        if self._hopeless is not None:
            return [_cut(self._cursor.line + found + 1, rest, self._hopeless)]
        if ended:
            return self._unfinished(rest, found)
        if len(rest) > self._sizes.row:
            problem = Problem("too_long", "an element is larger than a row may be; what follows it is not read")
            return [_cut(self._cursor.line + found + 1, rest, problem)]
        return []

    def _block(
        self, data: bytes, start: int, done: int, found: list[tuple[int, int]], refusals: list[Refusal]
    ) -> Block:
        self._cursor.advance(memoryview(data)[start:done])
        offsets = np.concatenate([[0], np.cumsum([end - begin for begin, end in found], dtype=np.int64)])
        lines = np.arange(self._cursor.line + 1, self._cursor.line + len(found) + 1, dtype=np.int64)
        self._cursor.line += len(found)
        joined = b"".join(data[begin:end] for begin, end in found)
        return Block(self._cursor.mark(), joined, offsets.astype(np.int64), lines, refusals=refusals)

    def _elements(self, text: str, start: int, ended: bool) -> tuple[list[tuple[int, int]], int, bool]:
        """Where the whole elements from `start` are, up to where it is done with, and whether the array ends there.

        At most as many elements as a block has rows.
        """
        found: list[tuple[int, int]] = []
        done = start
        at = start or self._begin(text)
        while len(found) < self._sizes.rows:
            at = _skip_blank(text, at)
            if self._in_array and at < len(text) and text[at] == "]":
                return found, done, True
            if self._in_array and (found or self._cursor.line) and at < len(text) and text[at] == ",":
                at = _skip_blank(text, at + 1)
            if at >= len(text):
                return found, done, ended and not self._in_array
            end = self._end(text, at, ended)
            if end is None:
                return found, done, False
            found.append((at, end))
            done = at = end
        return found, done, False

    def _begin(self, text: str) -> int:
        if self._cursor.offset or self._cursor.line:
            return 0
        at = _skip_blank(text, len(BOM) if text.startswith(BOM.decode("latin-1")) else 0)
        return at + 1 if self._in_array and text[at : at + 1] == "[" else at

    def _end(self, text: str, at: int, ended: bool) -> int | None:
        """Where the element that begins here ends, or None if that cannot be seen yet."""
        try:
            end = self._decoded_end(text, at)
        except (ValueError, RecursionError):
            return self._scan(text, at)
        if end is None or not self._in_array:
            return end
        after = _skip_blank(text, end)
        if after == len(text):
            return end if ended else None
        # Something stands between this value and the next comma: it is all one element, and none.
        return end if text[after] in ",]" else self._scan(text, at)

    def _decoded_end(self, text: str, at: int) -> int | None:
        """Where the JSON value that begins here ends; None if it has too many values to be read.

        The parser makes twenty bytes of one, so it sees a window of the text, which grows while a value does not end
        in it and has not too many values so far. Raises ValueError, RecursionError.
        """
        if not self._window_at <= at < self._window_at + len(self._window):
            self._see(text, at, _WINDOW)
        while True:
            whole = self._window_at + len(self._window) == len(text)
            try:
                end = self._window_at + self._decode(self._window, at - self._window_at)[1]
            except json.JSONDecodeError as error:
                near = error.msg.startswith("Unterminated") or error.pos > len(self._window) - _NEAR
                if whole or not near:
                    raise
            else:
                # A number may go on behind the window.
                if whole or end < self._window_at + len(self._window):
                    return end
            if self._window_at == at and marks_in(self._window) > max_marks(self._sizes.row):
                self._hopeless = Problem(
                    "too_many_values", "an element has more values than a row may have; what follows it is not read"
                )
                return None
            self._see(text, at, _WINDOW if self._window_at < at else 4 * len(self._window))

    def _see(self, text: str, at: int, size: int) -> None:
        self._window, self._window_at = text[at : at + size], at

    def _scan(self, text: str, at: int) -> int | None:
        """The same for what is no JSON: where its brackets are closed, strings left out. Stray ones are passed over."""
        if not self._in_array and text[at] not in "{[":
            end = text.find("\n", at)
            return end if end >= 0 else None
        opened: list[str] = []
        for number, token in enumerate(_TOKEN.finditer(text, at)):
            mark = token[0]
            if mark == '"':
                return None
            if number > _TOKENS:
                self._hopeless = Problem(
                    "too_deep" if len(opened) > MAX_DEPTH else "too_many_values",
                    "an element that is no JSON has no end in sight; what follows it is not read",
                )
                return None
            if mark in "{[":
                opened.append(mark)
            elif mark in ",]}" and not opened:
                if self._in_array and mark != "}":
                    return token.start()
            elif mark in "]}" and _CLOSES[mark] == opened[-1]:
                opened.pop()
                if not opened and not self._in_array:
                    return token.end()
        return None

    def _unfinished(self, rest: bytes, found: int) -> list[Refusal]:
        problem = self._stream.failure
        if problem is None:
            what = "the array is not closed" if self._in_array else "the last object is not closed"
            problem = Problem("truncated", f"{what}: this file is cut off")
        raw = rest.lstrip(b" \t\r\n,") if self._cursor.line or found else rest
        return [_cut(self._cursor.line + found + 1, raw, problem)]

    def _after_array(self, rest: bytes, found: int) -> list[Refusal]:
        after = rest.lstrip(b" \t\r\n,").removeprefix(b"]") if self._cursor.line or found else rest.partition(b"]")[2]
        after = (after + self._stream.read(PEEK)).strip(b" \t\r\n")
        if not after and self._stream.failure is None:
            return []
        problem = self._stream.failure or Problem("not_json", "something follows the end of the array")
        return [_cut(self._cursor.line + found + 1, after, problem)]


def _skip_blank(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    assert match is not None
    return match.end()


class _TooLong(Exception):
    """A record of a CSV file that does not end."""


class _Physical:
    """The lines of a CSV file for its parser, and the bytes of those that it took for the record at hand."""

    def __init__(self, stream: Stream, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._data = b""
        self._at = 0
        self._taken: list[bytes] = []
        self._size = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while not (end := self._data.find(b"\n", self._at) + 1):
            fresh = self._stream.read(PEEK)
            self._data, self._at = self._data[self._at :] + fresh, 0
            if not fresh or len(self._data) > self._limit:
                end = len(self._data)
                break
        line = self._data[self._at : end]
        self._at = end
        if not line:
            raise StopIteration
        self._taken.append(line)
        self._size += len(line)
        if self._size > self._limit:
            raise _TooLong
        return line.decode("utf-8", "surrogateescape")

    def take(self) -> bytes:
        """The bytes of the record at hand."""
        raw = b"".join(self._taken)
        self._taken.clear()
        self._size = 0
        return raw

    def pass_over(self) -> Iterator[bytes]:
        """Go on to the end of the line at hand, which is given in pieces."""
        while True:
            piece, self._data, self._at = self._data[self._at :], b"", 0
            piece = piece or self._stream.read(PEEK)
            end = piece.find(b"\n") + 1
            if end:
                self._data, piece = piece[end:], piece[:end]
            if piece:
                yield piece
            if end or not piece:
                return

    def unread(self) -> None:
        """Give what was not taken back to the stream."""
        self._stream.unread(self._data[self._at :])


def _header(stream: Stream, cursor: Cursor, delimiter: str) -> list[str]:
    """The names of a CSV file's columns. Raises Refused."""
    lines = _Physical(stream, PEEK)
    try:
        cells = next(csv.reader(lines, delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        raise refuse("csv_shape", f"the first record does not name columns: {error}") from None
    except _TooLong:
        raise refuse("csv_shape", "the first record does not name columns: it does not end") from None
    cursor.advance(lines.take())
    lines.unread()
    names = [cell.removeprefix("\udcef\udcbb\udcbf").removeprefix("\ufeff").strip() for cell in cells]
    if "" in names or len(set(names)) < len(names):
        raise refuse("csv_shape", "the first record must name each column, and each by a name of its own")
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        raise refuse("invalid_utf8", "the names of the columns are not UTF-8") from None
    return names


class _Records:
    """The records of a CSV file after its header. An empty cell is no value."""

    def __init__(self, stream: Stream, cursor: Cursor, sizes: Sizes, names: list[str], delimiter: str) -> None:
        csv.field_size_limit(max(csv.field_size_limit(), sizes.row))
        self._stream = stream
        self._cursor = cursor
        self._sizes = sizes
        self._names = names
        self._lines = _Physical(stream, sizes.row)
        self._records = csv.reader(self._lines, delimiter=delimiter, strict=True)
        self._cells: list[Cells] = []
        self._size = 0

    def blocks(self, variety: _Variety) -> Iterator[Block]:
        """All of them. Each is held until the next one is seen: the last one may be cut off."""
        held: tuple[list[str] | Problem, bytes] | None = None
        while (record := _record(self._records)) is not None:
            self._add(held)
            held = record, self._lines.take()
            too_long = isinstance(record, Problem) and record.reason == "too_long"
            if too_long or self._size >= self._sizes.block or len(self._cells) >= self._sizes.rows:
                problem = variety.seen(cells.raw for cells in self._cells) if self._cells else None
                if self._cells:
                    yield self._block()
                if problem is not None:
                    yield Block(self._cursor.mark(), refusals=[_cut(self._cursor.line + 1, b"", problem)])
                    return
            if isinstance(record, Problem) and too_long:
                refusal = self._endless(held[1], record)
                yield Block(self._cursor.mark(), refusals=[refusal])
                held = None
        yield from self._ending(held)

    def _ending(self, held: tuple[list[str] | Problem, bytes] | None) -> Iterator[Block]:
        """What is left when the stream has ended."""
        failure, tail = self._stream.failure, b""
        if held is not None:
            if not held[1].endswith(b"\n") or (failure is not None and isinstance(held[0], Problem)):
                tail = held[1]
            else:
                self._add(held)
        if self._cells:
            yield self._block()
        if failure is not None:
            yield Block(self._cursor.mark(), refusals=[_cut(self._cursor.line + 1, tail, failure)])
        elif tail and held is not None:
            # No line feed ends it: the mark stays before it.
            mark = self._cursor.mark()
            self._add(held)
            yield Block(mark, cells=self._cells)

    def _add(self, held: tuple[list[str] | Problem, bytes] | None) -> None:
        if held is None:
            return
        made = _cells(held[0], held[1], self._names, self._cursor)
        self._cells += made
        self._size += max(len(held[1]), sum(_CELL * len(cells.values) for cells in made))

    def _block(self) -> Block:
        block = Block(self._cursor.mark(), cells=self._cells)
        self._cells, self._size = [], 0
        return block

    def _endless(self, raw: bytes, problem: Problem) -> Refusal:
        """Passes over a record that is longer than a row may be, up to the end of the line at hand."""
        self._cursor.advance(raw)
        size = len(raw)
        for piece in self._lines.pass_over():
            self._cursor.advance(piece)
            size += len(piece)
        self._cursor.line += 1
        return Refusal(self._cursor.line, raw[:RAW_KEPT], size, problem)


def _record(records: Iterator[list[str]]) -> list[str] | Problem | None:
    """The next record, what is wrong with it, or None at the end."""
    try:
        return next(records, None)
    except csv.Error as error:
        return Problem("csv_shape", f"not CSV: {error}")
    except _TooLong:
        return Problem("too_long", "the record is longer than a row may be; a quote may be missing")


def _cells(record: list[str] | Problem, raw: bytes, names: list[str], cursor: Cursor) -> list[Cells]:
    cursor.advance(raw)
    if not record:
        return []
    cursor.line += 1
    raw = raw.rstrip(b"\r\n")
    if isinstance(record, Problem):
        return [Cells(cursor.line, {}, raw, [record])]
    problems = []
    if len(record) != len(names):
        problems.append(Problem("csv_shape", f"{len(record)} cells for {len(names)} columns"))
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        problems.append(Problem("invalid_utf8", f"not UTF-8: byte {error.start + 1} of the record"))
    values = {name: cell for name, cell in zip(names, record, strict=False) if cell} if not problems else {}
    return [Cells(cursor.line, values, raw, problems)]


def _seekable(stream: Stream) -> BinaryIO:
    """A Parquet file as one that can be read from its end: itself, or unpacked into a temporary one."""
    if stream.regular and stream.compression is None:
        return stream.file
    file: BinaryIO = stream.closing.enter_context(tempfile.TemporaryFile(prefix="lake-"))  # noqa: SIM115 -- the stack closes it
    while data := stream.read(4 << 20):
        file.write(data)
    if stream.failure is not None:
        raise Refused([stream.failure])
    return file


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while data := file.read(4 << 20):
        digest.update(data)
    return digest.hexdigest()


def _parquet(file: BinaryIO, cursor: Cursor, sizes: Sizes, digest: str, limits: Limits) -> Iterator[Block]:
    """The rows of a Parquet file. Its mark is a number of rows, and the digest that of the whole file."""
    size = file.seek(0, 2)
    unpacked = 0
    cells: list[Cells] = []
    held = 0
    skipped = cursor.line
    cursor.line = 0
    try:
        for batch in pq.ParquetFile(file, page_checksum_verification=True).iter_batches(PARQUET_ROWS):
            columns = [_plain(column) for column in batch.columns]
            fresh_bytes = sum(column.nbytes for column in columns)
            unpacked += fresh_bytes
            if unpacked > limits.free_bytes and unpacked > limits.ratio * size:
                raise Cut(
                    "decompression_bomb", f"{size:,} bytes of Parquet unpack to more than {limits.ratio} times as many"
                )
            if cursor.line + len(batch) <= skipped:
                cursor.line += len(batch)
                continue
            cells += [row for row in _rows_of(batch.schema.names, columns, cursor) if row.line > skipped]
            held += fresh_bytes
            if held >= sizes.block:
                yield Block(Mark(0, cursor.line, digest), cells=cells)
                cells, held = [], 0
    except Cut as cut:
        problem = cut.problem
    except (pa.ArrowException, OSError, ValueError) as error:
        problem = Problem("corrupt", f"the Parquet file is damaged: {str(error).partition(chr(10))[0]}")
    else:
        yield Block(Mark(0, cursor.line, digest), cells=cells)
        return
    refusals = [Refusal(cursor.line + 1, b"", 0, problem)]
    yield Block(Mark(0, cursor.line, digest), cells=cells, refusals=refusals)


def _plain(column: pa.Array) -> pa.Array:
    """A column without a dictionary, which hides how large its values are."""
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _rows_of(names: list[str], columns: list[pa.Array], cursor: Cursor) -> Iterator[Cells]:
    for values in zip(*(_listed(column) for column in columns), strict=True):
        cursor.line += 1
        row = list(zip(names, values, strict=True))
        problems = []
        if len(set(names)) < len(names):
            problems.append(Problem("duplicate_key", "two columns have the same name"))
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


class Input:
    """A source whose format is known. Raises Refused where nothing can be read from it."""

    def __init__(self, stream: Stream, limits: Limits, forced: str | None = None) -> None:
        self.form = recognise(stream, forced)
        self.stream = stream
        self._limits = limits
        self._cursor = Cursor()
        self._names: list[str] = []
        self._file: BinaryIO | None = None
        self._digest = ""
        if self.form in _DELIMITERS:
            self._names = _header(stream, self._cursor, _DELIMITERS[self.form])
        elif self.form == "parquet":
            self._file = _seekable(stream)
            self._file.seek(0)
            self._digest = _sha256(self._file)

    @property
    def format(self) -> str:
        """The format by its usual name."""
        return {"array": "json", "documents": "json", "tsv": "csv"}.get(self.form, self.form)

    def resume(self, mark: Mark) -> bool:
        """Go on from a mark. False if what is before it is not what it was; then nothing can be read any more."""
        if self.form == "parquet":
            self._cursor.line = mark.line
            return mark.digest == self._digest
        self._cursor.skip(self.stream, mark.offset)
        self._cursor.line = mark.line
        return self._cursor.mark() == mark

    def mark(self) -> Mark:
        """Where the source stands now."""
        return Mark(0, self._cursor.line, self._digest) if self.form == "parquet" else self._cursor.mark()

    def blocks(self, sizes: Sizes) -> Iterator[Block]:
        """The rows that are left, in order."""
        if self._file is not None:
            return _parquet(self._file, self._cursor, sizes, self._digest, self._limits)
        if self.form in _DELIMITERS:
            records = _Records(self.stream, self._cursor, sizes, self._names, _DELIMITERS[self.form])
            return records.blocks(_Variety(self.stream, self._limits))
        if self.form == "jsonl":
            return _lines(self.stream, self._cursor, sizes, self._limits)
        return _Elements(self.stream, self._cursor, sizes, self._limits, in_array=self.form == "array").blocks()


_DELIMITERS = {"csv": ",", "tsv": "\t"}
