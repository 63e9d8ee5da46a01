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
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingest.rows import Decoder, Problem, Refused, Values, refuse, speakable
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


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How large a block is, and how long a row may be, in bytes.

    A block makes two files, which the lake encodes side by side.
    """

    block: int = 40 << 20
    row: int = 64 << 20


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


def _lines(stream: Stream, cursor: Cursor, sizes: Sizes) -> Iterator[Block]:
    held = b""
    while True:
        # What is held goes in front again, so that a block is put together once.
        stream.unread(held)
        wanted = len(held) + sizes.block
        data = stream.read(wanted)
        done = data.rfind(b"\n") + 1
        if done:
            yield _of_lines(data, done, cursor)
        held = data[done:]
        if len(data) < wanted:
            break
        if len(held) > sizes.row:
            yield _endless(stream, held, cursor)
            held = b""
    if held.strip() or stream.failure is not None:
        yield _tail(stream, held, cursor)


def _of_lines(data: bytes, done: int, cursor: Cursor) -> Block:
    """The whole lines of some data, as a block."""
    ends = np.flatnonzero(np.frombuffer(data, np.uint8, done) == ord("\n")) + 1
    offsets = np.concatenate([np.zeros(1, np.int64), ends])
    if cursor.offset == 0 and data.startswith(BOM):
        offsets[0] = len(BOM)
    lines = np.arange(cursor.line + 1, cursor.line + len(offsets), dtype=np.int64)
    cursor.advance(memoryview(data)[:done])
    cursor.line += len(lines)
    return Block(cursor.mark(), data, offsets, lines)


def _endless(stream: Stream, held: bytes, cursor: Cursor) -> Block:
    """Passes over a line that is longer than a row may be."""
    raw, size = held[:RAW_KEPT], 0
    while held:
        end = held.find(b"\n") + 1
        if end:
            stream.unread(held[end:])
            held = held[:end]
        cursor.advance(held)
        size += len(held)
        held = b"" if end else stream.read(PEEK)
    cursor.line += 1
    problem = Problem("too_long", f"the line has {size:,} bytes, more than a row may have")
    return Block(cursor.mark(), refusals=[Refusal(cursor.line, raw, size, problem)])


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

    def __init__(self, stream: Stream, cursor: Cursor, sizes: Sizes, *, in_array: bool) -> None:
        self._stream = stream
        self._cursor = cursor
        self._sizes = sizes
        self._in_array = in_array
        self._decode = json.JSONDecoder().raw_decode

    def blocks(self) -> Iterator[Block]:
        data = b""
        finished = False
        while not finished:
            # An element that is larger than what was read is read in growing steps.
            wanted = max(self._sizes.block, len(data))
            fresh = self._stream.read(wanted)
            ended = len(fresh) < wanted
            data += fresh
            found, done, finished = self._elements(data, ended)
            refusals = []
            rest = data[done:]
            if not finished and ended:
                refusals = self._unfinished(rest, len(found))
                finished = True
            elif not finished and len(rest) > self._sizes.row:
                problem = Problem("too_long", "an element is larger than a row may be; what follows it is not read")
                refusals = [_cut(self._cursor.line + len(found) + 1, rest, problem)]
                finished = True
            elif finished and self._in_array:
                refusals = self._after_array(rest, len(found))
            if found or refusals or done:
                yield self._block(data, done, found, refusals)
            data = rest

    def _block(self, data: bytes, done: int, found: list[tuple[int, int]], refusals: list[Refusal]) -> Block:
        self._cursor.advance(memoryview(data)[:done])
        offsets = np.concatenate([[0], np.cumsum([end - start for start, end in found], dtype=np.int64)])
        lines = np.arange(self._cursor.line + 1, self._cursor.line + len(found) + 1, dtype=np.int64)
        self._cursor.line += len(found)
        joined = b"".join(data[start:end] for start, end in found)
        return Block(self._cursor.mark(), joined, offsets.astype(np.int64), lines, refusals=refusals)

    def _elements(self, data: bytes, ended: bool) -> tuple[list[tuple[int, int]], int, bool]:
        """Where the whole elements of some data are, up to where it is done with, and whether the array ends there."""
        # Each byte is a character here: what is looked for is ASCII, and UTF-8 is left to whoever decodes the element.
        text = data.decode("latin-1")
        found: list[tuple[int, int]] = []
        done = 0
        at = self._begin(text)
        while True:
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

    def _begin(self, text: str) -> int:
        if self._cursor.offset or self._cursor.line:
            return 0
        at = _skip_blank(text, len(BOM) if text.startswith(BOM.decode("latin-1")) else 0)
        return at + 1 if self._in_array and text[at : at + 1] == "[" else at

    def _end(self, text: str, at: int, ended: bool) -> int | None:
        """Where the element that begins here ends, or None if that cannot be seen yet."""
        try:
            _, end = self._decode(text, at)
        except (ValueError, RecursionError):
            return self._scan(text, at)
        if not self._in_array:
            return end
        after = _skip_blank(text, end)
        if after == len(text):
            return end if ended else None
        # Something stands between this value and the next comma: it is all one element, and none.
        return end if text[after] in ",]" else self._scan(text, at)

    def _scan(self, text: str, at: int) -> int | None:
        """The same for what is no JSON: where its brackets are closed, strings left out. Stray ones are passed over."""
        if not self._in_array and text[at] not in "{[":
            end = text.find("\n", at)
            return end if end >= 0 else None
        opened: list[str] = []
        for token in _TOKEN.finditer(text, at):
            mark = token[0]
            if mark == '"':
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


def _csv(stream: Stream, cursor: Cursor, sizes: Sizes, names: list[str], delimiter: str) -> Iterator[Block]:
    """The records of a CSV file after its header. An empty cell is no value."""
    csv.field_size_limit(max(csv.field_size_limit(), sizes.row))
    lines = _Physical(stream, sizes.row)
    records = csv.reader(lines, delimiter=delimiter, strict=True)
    held: tuple[list[str] | Problem, bytes] | None = None
    cells: list[Cells] = []
    size = 0
    while (record := _record(records)) is not None:
        if held is not None:
            cells += _cells(held[0], held[1], names, cursor)
            size += len(held[1])
            if size >= sizes.block:
                yield Block(cursor.mark(), cells=cells)
                cells, size = [], 0
        held = record, lines.take()
    if held is None:
        tail = b""
    elif not held[1].endswith(b"\n") or (stream.failure is not None and isinstance(held[0], Problem)):
        tail = held[1]
    else:
        cells += _cells(held[0], held[1], names, cursor)
        tail = b""
    if cells:
        yield Block(cursor.mark(), cells=cells)
    if stream.failure is not None:
        yield Block(cursor.mark(), refusals=[_cut(cursor.line + 1, tail, stream.failure)])
    elif tail and held is not None:
        # No line feed ends it: the mark stays before it.
        mark = cursor.mark()
        yield Block(mark, cells=_cells(held[0], tail, names, cursor))


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
            return _csv(self.stream, self._cursor, sizes, self._names, _DELIMITERS[self.form])
        if self.form == "jsonl":
            return _lines(self.stream, self._cursor, sizes)
        return _Elements(self.stream, self._cursor, sizes, in_array=self.form == "array").blocks()


_DELIMITERS = {"csv": ",", "tsv": "\t"}
