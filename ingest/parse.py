"""Blocks of rows as events and rejects: the plain rows together, every other row by itself.

No row is dropped: it becomes the events that its reader makes of it, or one reject with everything that is wrong with
it.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest.blocks import RAW_KEPT, Block, Cells
from ingest.checks import Checker
from ingest.columns import KINDS_READ, PlainRows
from ingest.readers import READERS, Reader
from ingest.rows import (
    Decoded,
    Decoder,
    Place,
    Problem,
    Refused,
    Values,
    canonical,
    json_text,
    max_marks,
    sha256,
    too_much,
    unspeakable,
)
from lake import KINDS
from lake.kinds import SOURCE

_REJECTS = KINDS["rejects"]


@dataclass(frozen=True)
class Parsed:
    """What a block came to. `events` and `rejects` have the columns of their kinds, with `recorded_at` and `source`."""

    rows: int
    events: pa.Table
    rejects: pa.Table
    reasons: Counter[str]


class Parser:
    """Parses the blocks of one kind with one reader. Not to be shared by threads. Close it."""

    def __init__(self, kind: str, reader: Reader, row_limit: int) -> None:
        self._kind = KINDS[kind]
        self._reader = reader
        self._row_limit = row_limit
        self._decoder = Decoder(max_marks(row_limit))
        self._checker = Checker(self._kind)
        # The rows of other people's shapes mean what their readers say.
        self._plain = PlainRows(kind) if reader == READERS["native"] and kind in KINDS_READ else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what is held."""
        if self._plain is not None:
            self._plain.close()

    def parse(self, block: Block, file: str, form: str) -> Parsed:
        """The events and rejects of a block of a file, in the order of its rows. `form` is the format's usual name."""
        plain, left = self._plain_rows(block, file)
        singles = _Singles(self._checker.names)
        rejects = _Rejects(self._kind.name, self._reader.name, file)
        rows = len(plain)
        for line, decoded, raw in self._decoded(block, left):
            rows += 1
            place = Place(file, line, decoded.sha256, self._kind.name, form)
            made, problems = self._events(decoded, place)
            if problems:
                shown = raw[:RAW_KEPT] if problems[0].reason == "too_long" else raw
                rejects.add(line, decoded.sha256, shown, problems, len(raw))
            else:
                singles.add(made, place)
        for refusal in block.refusals:
            rows += 1
            digest = hashlib.sha256(refusal.raw).hexdigest()
            rejects.add(refusal.line, digest, refusal.raw, [refusal.problem], refusal.size)
        events = _merged(plain, singles.table(self._checker, file))
        return Parsed(rows, events, rejects.table(), rejects.reasons)

    def _plain_rows(self, block: Block, file: str) -> tuple[pa.Table, np.ndarray]:
        """The events of the plain rows of a block, and the places of its other rows."""
        count = len(block.lines)
        everything = np.arange(count)
        if self._plain is None or not count:
            return _no_rows(self._checker), everything
        read = self._plain.read(block.data, block.offsets)
        numbers = read.column("number").to_numpy()
        short = np.diff(block.offsets)[numbers] <= self._row_limit
        if not short.all():
            read, numbers = read.filter(pa.array(short)), numbers[short]
        source = _sources(file, block.lines[numbers], read.column("sha256").combine_chunks())
        columns = {name: read.column(name) for name in read.column_names if name not in ("number", "sha256")}
        left = np.ones(count, bool)
        left[numbers] = False
        return _table(self._checker, columns | {"source": source}, len(read)), everything[left]

    def _decoded(self, block: Block, left: np.ndarray) -> Iterator[tuple[int, Decoded, bytes]]:
        """Line, content and bytes of the rows that are taken one by one."""
        for number in left.tolist():
            start, end = int(block.offsets[number]), int(block.offsets[number + 1])
            line = int(block.lines[number])
            raw = block.data[start:end].rstrip(b"\r\n")
            if end - start > self._row_limit:
                problem = too_much("too_long", f"the row has {len(raw):,} bytes")
                yield line, Decoded(None, hashlib.sha256(raw).hexdigest(), [problem]), raw
            elif raw.strip(b" \t\r\n"):
                yield line, self._decoder.decode(raw), raw
        for cells in block.cells:
            yield cells.line, _of_cells(cells), cells.raw or _shown(cells.values)

    def _events(self, decoded: Decoded, place: Place) -> tuple[list[Values], list[Problem]]:
        """The events that a row means, or everything that is wrong with it."""
        problems = list(decoded.problems)
        if decoded.values is None:
            return [], problems
        try:
            meant = list(self._reader.read(decoded.values, place))
        except Refused as refused:
            return [], problems + refused.problems
        except Exception as error:  # noqa: BLE001 -- a reader of somebody's own may raise anything
            return [], [*problems, Problem("reader_error", f"{type(error).__name__}: {error}")]
        events = [self._event(given, problems) for given in meant]
        if not events:
            problems.append(Problem("no_event", f"the reader makes no {self._kind.name} of this row"))
        return [event for event in events if event is not None], problems

    def _event(self, given: Any, problems: list[Problem]) -> Values | None:
        if not isinstance(given, Mapping):
            problems.append(Problem("reader_error", f"the reader gives {type(given).__name__}, not a dict"))
            return None
        event = self._checker.check(given, problems)
        if event is not None and self._reader.name not in READERS and not _is_encodable(event):
            problems.append(Problem("lone_surrogate", "the reader gives half of a surrogate pair"))
        return event


class _Singles:
    """Events that were made one by one, as columns."""

    def __init__(self, names: list[str]) -> None:
        self._columns: dict[str, list[Any]] = {name: [] for name in names}
        self._lines: list[int] = []
        self._digests: list[str] = []

    def add(self, events: list[Values], place: Place) -> None:
        """Add what one row came to."""
        for event in events:
            for name, values in self._columns.items():
                values.append(event[name])
            self._lines.append(place.line)
            self._digests.append(place.sha256)

    def table(self, checker: Checker, file: str) -> pa.Table:
        """All of them, as a table of the kind."""
        if not self._lines:
            return _no_rows(checker)
        source = _sources(file, np.array(self._lines, np.int64), pa.array(self._digests, pa.string()))
        return _table(checker, {**self._columns, "source": source}, len(self._lines))


class _Rejects:
    """Rejects, as columns, and how many there are for each reason."""

    def __init__(self, kind: str, reader: str, file: str) -> None:
        self._common = {"kind": kind, "reader": reader}
        self._file = file
        self._rows: list[dict[str, Any]] = []
        self.reasons: Counter[str] = Counter()

    def add(self, line: int | None, digest: str, raw: bytes, problems: list[Problem], size: int | None = None) -> None:
        """Add one. `size` is how many bytes there were, if `raw` is not all of them."""
        text, encoding = _text(raw)
        self.reasons[problems[0].reason] += 1
        self._rows.append(
            {
                **self._common,
                "reason": problems[0].reason,
                "errors": [problem.message.encode(errors="backslashreplace").decode() for problem in problems],
                "raw": text,
                "raw_encoding": encoding,
                "extra": json_text({"raw_bytes": size}) if size is not None and size > len(raw) else None,
                "source": {"file": self._file, "line": line, "sha256": digest},
            }
        )

    def table(self) -> pa.Table:
        """All of them, as a table of rejects."""
        names = [field for field in _REJECTS.schema if field.name in _REJECTS.columns.names or field.name == "source"]
        return pa.Table.from_pylist(self._rows, schema=pa.schema(names))


def rejected_file(kind: str, reader: str, file: str, head: bytes, problems: list[Problem]) -> pa.Table:
    """The reject of a file of which nothing can be read. `head` is how it begins."""
    rejects = _Rejects(kind, reader, file)
    rejects.add(None, hashlib.sha256(head).hexdigest(), head, problems)
    return rejects.table()


def _no_rows(checker: Checker) -> pa.Table:
    return _table(checker, {}, 0)


def _table(checker: Checker, columns: Mapping[str, Any], rows: int) -> pa.Table:
    """Columns as the kind's own, with `recorded_at` and `source`; those that are not given are null."""
    fields = [field for field in checker.kind.schema if field.name in checker.names or field.name == "source"]
    arrays = []
    for field in fields:
        values = columns.get(field.name)
        if values is None:
            arrays.append(pa.nulls(rows, field.type))
        elif isinstance(values, list):
            arrays.append(pa.array(values, field.type))
        else:
            arrays.append(values.cast(field.type))
    # What is given may be null where the schema says it never is; the lake's own door says so better.
    return pa.table(arrays, schema=pa.schema([field.with_nullable(True) for field in fields]))


def _sources(file: str, lines: np.ndarray, digests: pa.Array) -> pa.Array:
    files = pa.repeat(pa.scalar(file, pa.string()), len(lines))
    return pa.StructArray.from_arrays([files, pa.array(lines), digests.cast(pa.string())], fields=list(SOURCE))


def _merged(plain: pa.Table, singles: pa.Table) -> pa.Table:
    """Both tables as one, in the order of their lines."""
    if not len(singles) or not len(plain):
        # In one piece, which the lake would otherwise have to make of it while it stores.
        return (plain if len(plain) else singles).combine_chunks()
    both = pa.concat_tables([plain, singles]).combine_chunks()
    lines = pc.struct_field(both.column("source"), "line").to_numpy()
    return both.take(pa.array(np.argsort(lines, kind="stable")))


def _of_cells(cells: Cells) -> Decoded:
    try:
        digest = sha256(cells.values)
    except (UnicodeEncodeError, ValueError):
        # Not finite: the check of the column says so, and nothing else can hold it.
        digest = hashlib.sha256(_shown(cells.values)).hexdigest()
        problems = [*cells.problems, *unspeakable(cells.values)]
        return Decoded(cells.values, digest, problems)
    if cells.problems:
        return Decoded(None, hashlib.sha256(cells.raw).hexdigest(), cells.problems)
    return Decoded(cells.values, digest, [])


def _shown(values: Values) -> bytes:
    """Cells as text, for a reject."""
    try:
        return canonical(values).encode()
    except (UnicodeEncodeError, ValueError):
        return repr(values).encode(errors="backslashreplace")


def _text(raw: bytes) -> tuple[str, str]:
    """Bytes as text that can be turned back into them, and how."""
    try:
        return raw.decode(), "utf-8"
    except UnicodeDecodeError:
        return raw.decode("latin-1"), "latin-1"


def _is_encodable(event: Values) -> bool:
    texts = [value for value in event.values() if isinstance(value, str)]
    texts += [item for value in event.values() if isinstance(value, list) for item in value]
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True
