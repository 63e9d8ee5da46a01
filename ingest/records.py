"""CSV as blocks: a record is a row, the first one names the columns."""

import csv
from collections.abc import Iterator

from ingest.blocks import CELL, COLUMNS, PEEK, RAW_KEPT, Block, Cells, Cursor, Refusal, Sizes, Variety, cut
from ingest.rows import Problem, refuse, too_much
from ingest.sources import Stream


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
            end = len(self._data)
            if end - self._at > self._limit or not (fresh := self._stream.read(PEEK)):
                break
            self._data, self._at = self._data[self._at :] + fresh, 0
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


def header(stream: Stream, cursor: Cursor, delimiter: str) -> list[str]:
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
    if len(names) > COLUMNS:
        raise refuse(
            "csv_shape", f"the first record names {len(names):,} columns; {COLUMNS:,} are the most that are read"
        )
    if "" in names or len(set(names)) < len(names):
        raise refuse("csv_shape", "the first record must name each column, and each by a name of its own")
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        raise refuse("invalid_utf8", "the names of the columns are not UTF-8") from None
    return names


class Records:
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

    def blocks(self, variety: Variety) -> Iterator[Block]:
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
                    yield Block(self._cursor.mark(), refusals=[cut(self._cursor.line + 1, b"", problem)])
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
            yield Block(self._cursor.mark(), refusals=[cut(self._cursor.line + 1, tail, failure)])
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
        self._size += max(len(held[1]), sum(CELL * len(cells.values) for cells in made))

    def _block(self) -> Block:
        block = Block(self._cursor.mark(), cells=self._cells)
        self._cells, self._size = [], 0
        return block

    def _endless(self, raw: bytes, problem: Problem) -> Refusal:
        """Passes over a record that is longer than a row may be, up to the end of the line at hand."""
        self._cursor.advance(raw)
        size = len(raw)
        for piece in self._lines.pass_over() if not raw.endswith(b"\n") else ():
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
        return too_much("too_long", "a quote may be missing: the record is long")


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
