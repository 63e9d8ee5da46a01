"""Blocks of rows: what every format comes to.

A block is as many rows as fit into some megabytes, and the `Mark` up to which the source is done with once they are
stored. What cannot be told apart into rows (a line without end, a cut-off file) comes as a `Refusal`, with all rows
around it kept.

Not here: how each format comes to blocks (`lines`, `elements`, `records`, `parquet`), which one a source has
(`formats`), whether a row is good (`rows`), and where a mark is kept (`bookmarks`).
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import msgspec
import numpy as np

from ingest.rows import Problem, Values
from ingest.sources import Limits, Stream

BOM = b"\xef\xbb\xbf"
PEEK = 1 << 20  # bytes that are looked at to tell a format
RAW_KEPT = 1 << 16  # bytes of a row without end that its reject keeps
WINDOW = 4 << 20  # bytes that are looked at in one go where each may make an object
COLUMNS = 10_000  # that a table has, at most
CELL = 100  # bytes that a cell takes, at least

_REMEMBERED = 100_000  # rows that the next ones are compared with
_VARIED = 10  # of this many bytes of rows, one at least is in a row unlike the others


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How large a block is, and how long a row may be, in bytes; and how many rows a block has at most.

    A block makes two files, which the lake encodes side by side.
    """

    block: int = 40 << 20
    row: int = 16 << 20
    rows: int = 50_000


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


class Growing(Protocol):
    """What unpacks to more than it is."""

    @property
    def strained(self) -> bool:
        """Whether that is more than the ratio allows."""
        ...

    def settle(self) -> None:
        """What came so far came to rows that differ."""
        ...


class Variety:
    """Watches what a source unpacks to: rows that differ are fine, however many; the same ones are not."""

    def __init__(self, source: Growing, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._rows = 0
        self._bytes = 0
        self._known: set[int] = set()

    def seen(self, rows: Iterable[bytes]) -> Problem | None:
        """Take these rows into account. A problem if no more should be read."""
        if self._source.strained and self._new_part(all_rows := list(rows)) < 1 / _VARIED:
            self._rows += len(all_rows)
            self._bytes += sum(map(len, all_rows))
            if self._rows < self._limits.repeated_rows and self._bytes < self._limits.repeated_bytes:
                return None
            said = f"it unpacks to more than {self._limits.ratio} times its bytes, and to the same rows over and over"
            return Problem("decompression_bomb", said)
        self._source.settle()
        self._rows = self._bytes = 0
        return None

    def _new_part(self, rows: list[bytes]) -> float:
        """The part of the bytes of these rows that is in rows which were not seen before."""
        if len(self._known) > _REMEMBERED:
            self._known.clear()
        size = new = 0
        for row in rows:
            digest = hash(row)
            size += len(row)
            new += 0 if digest in self._known else len(row)
            self._known.add(digest)
        return new / size if size else 1.0


def cut(line: int, raw: bytes, problem: Problem) -> Refusal:
    """The refusal of bytes, of which it keeps the first."""
    return Refusal(line, raw[:RAW_KEPT], len(raw), problem)
