"""The rows that a conversion takes in: files of JSON, or files of columns, in the shape that is wanted.

Both kinds tell the columns that hold their rows exactly, which takes a look at every row where a file does not say it
itself, and give batches of these columns; rows of JSON give their texts too, for who wants no columns. A row that
cannot be kept is refused by file, row and field.

Not here: what is written (`convert`).
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import msgspec
import pyarrow as pa
import zstandard

from exporters import inference
from exporters.encoders import LINE
from exporters.inference import Columns, Texts
from exporters.json_texts import said, texts
from exporters.reading import DataFile, batches, objects, schema_of
from exporters.reshape import Reshape, Unfit, applied
from lake.errors import LakeError, UsageError

Row = dict[str, object]

CHUNK_ROWS = 2048
CHUNK_BYTES = 8 << 20

_UNREADABLE = (OSError, EOFError, zlib.error, zstandard.ZstdError, pa.ArrowException, UnicodeDecodeError)
_MEND = "mend the row; 'lake validate' tells all that is wrong"
_KEEP = "mend the row, or leave out --to to keep it as it is"


class Lossy(LakeError):
    """A row that cannot be read, or that the other format or shape has no place for; nothing was written."""


class Part(NamedTuple):
    """Some rows of a file, and their numbers in it."""

    batch: pa.RecordBatch
    numbers: Sequence[int]


class Source(Protocol):
    """Files of rows, all of one kind."""

    def first(self) -> Sequence[str]:
        """The columns of the first row, before any change of shape; none where there is no row."""
        ...

    def schema(self) -> pa.Schema:
        """The columns that hold every row of every file."""
        ...

    def parts(self, file: DataFile) -> Iterator[Part]:
        """The rows of one of the files, in the columns of `schema`, which has been asked for."""
        ...


def lossy(file: DataFile, number: int, field: str | None, why: str, hint: str) -> Lossy:
    """The refusal of a row."""
    place = f", field {field}" if field else ""
    return Lossy(f"{file.name}: row {number}{place}: {why}", hint)


@contextmanager
def _readable(file: DataFile) -> Iterator[None]:
    """What a damaged file makes its reader raise, as an error that names the file."""
    try:
        yield
    except _UNREADABLE as error:
        why = " ".join(str(error).split())
        raise Lossy(f"{file.name}: cannot be read to its end: {why}", "mend the file, or get it again") from error


class JsonRows:
    """Files of JSON lines, or of arrays."""

    def __init__(self, files: Sequence[DataFile], step: Reshape | None = None) -> None:
        self._files = files
        self._step = step
        self._schema: pa.Schema | None = None

    def first(self) -> Sequence[str]:
        """The columns of the first row."""
        return next((list(row) for file in self._files for _, _, row in _rows(file)), [])

    def lines(self, file: DataFile) -> Iterator[bytes]:
        """The rows as they are written, on a line each; those that keep their shape to the letter."""
        for number, text, row in _rows(file):
            yield (
                _one_line(text) if self._step is None else msgspec.json.encode(_reshaped(self._step, row, file, number))
            )

    def schema(self) -> pa.Schema:
        """The columns that hold every row, by what all of them have in them."""
        columns = Columns()
        for file in self._files:
            for number, _, row in _rows(file):
                columns.note(_reshaped(self._step, row, file, number))
        self._schema = columns.schema()
        if columns.rows and not len(self._schema):
            raise UsageError("the rows have no columns", "there is nothing in them to keep")
        return self._schema

    def parts(self, file: DataFile) -> Iterator[Part]:
        """The rows of a file."""
        assert self._schema is not None
        rows: list[Row] = []
        numbers: list[int] = []
        size = 0
        for number, text, row in _rows(file):
            rows.append(_reshaped(self._step, row, file, number))
            numbers.append(number)
            size += len(text)
            if len(rows) == CHUNK_ROWS or size >= CHUNK_BYTES:
                yield Part(inference.batch(rows, self._schema), numbers)
                rows, numbers, size = [], [], 0
        if rows:
            yield Part(inference.batch(rows, self._schema), numbers)


class ColumnRows:
    """Files that have columns: Parquet, Arrow, CSV, NumPy."""

    def __init__(self, files: Sequence[DataFile], step: Reshape | None = None) -> None:
        self._files = files
        self._step = step
        self._given: pa.Schema | None = None
        self._schema: pa.Schema | None = None

    def first(self) -> Sequence[str]:
        """The columns of the files."""
        names: list[str] = self._stored().names
        return names

    def schema(self) -> pa.Schema:
        """The columns that the files have, those of a CSV with the types of what all of their texts say."""
        self._given = self._schema = self._typed(self._stored())
        if self._step is not None:
            self._schema = self._reshaped_schema(self._step, self._given)
        return self._schema

    def parts(self, file: DataFile) -> Iterator[Part]:
        """The rows of a file."""
        assert self._schema is not None
        for part, numbers in self._batches(file):
            yield Part(part if self._step is None else self._reshaped(self._step, part, file, numbers), numbers)

    def _stored(self) -> pa.Schema:
        schemas = []
        for file in self._files:
            with _readable(file):
                schemas.append(schema_of(file))
        first = schemas[0]
        for file, schema in zip(self._files, schemas, strict=True):
            if twice := next((name for name in schema.names if schema.names.count(name) > 1), None):
                raise UsageError(f"{file.name}: two columns are called {twice!r}", "give each a name of its own")
            if not schema.equals(first):
                raise UsageError(f"{file.name}: not the columns of {self._files[0].name}", "convert them one by one")
        return first

    def _typed(self, stored: pa.Schema) -> pa.Schema:
        if self._files[0].form != "csv":
            return stored
        found = {name: Texts(name) for name in stored.names}
        for file in self._files:
            for part in _parts(file):
                for name, seen in found.items():
                    seen.note(part.column(name))
        return pa.schema([(name, seen.type()) for name, seen in found.items()])

    def _batches(self, file: DataFile) -> Iterator[Part]:
        assert self._given is not None
        done = 0
        for part in _parts(file):
            columns = [inference.typed(part.column(field.name), field.type) for field in self._given]
            yield Part(pa.record_batch(columns, self._given), range(done + 1, done + len(part) + 1))
            done += len(part)

    def _reshaped_schema(self, step: Reshape, given: pa.Schema) -> pa.Schema:
        columns = Columns()
        for file in self._files:
            for part, numbers in self._batches(file):
                for row in self._made(step, part, file, numbers):
                    columns.note(row)
        kept = [field for field in given if field.name not in step.reads]
        for field in kept:
            if field.name in step.makes:
                raise lossy(self._files[0], 1, field.name, "is there already, and would be overwritten", _KEEP)
        return pa.schema([*columns.schema(), *kept])

    def _reshaped(self, step: Reshape, part: pa.RecordBatch, file: DataFile, numbers: Sequence[int]) -> pa.RecordBatch:
        assert self._schema is not None
        made = pa.schema([field for field in self._schema if field.name in step.makes])
        new = inference.batch(list(self._made(step, part, file, numbers)), made)
        columns = [(new if field.name in step.makes else part).column(field.name) for field in self._schema]
        return pa.record_batch(columns, self._schema)

    @staticmethod
    def _made(step: Reshape, part: pa.RecordBatch, file: DataFile, numbers: Sequence[int]) -> Iterator[Row]:
        """What becomes of the columns that the change of shape takes."""
        taken = part.select([name for name in step.reads if name in part.schema.names])
        for number, row in zip(numbers, present(taken), strict=True):
            yield _reshaped(step, row, file, number)


def present(part: pa.RecordBatch) -> list[Row]:
    """The rows of a batch as objects, without the columns that a row does not have."""
    absent = [field.name for field in part.schema if inference.is_absent(field)]
    rows = objects(part)
    for name in absent:
        missing = part.column(name).is_null().to_pylist()
        for row, gone in zip(rows, missing, strict=True):
            if gone:
                del row[name]
    return rows


def line_parts(lines: Iterable[bytes]) -> Iterator[pa.RecordBatch]:
    """Batches of a column `line`, of so many texts that memory holds them."""
    held: list[str] = []
    size = 0
    for line in lines:
        held.append(line.decode() + "\n")
        size += len(line)
        if len(held) == CHUNK_ROWS or size >= CHUNK_BYTES:
            yield _lines(held)
            held, size = [], 0
    if held:
        yield _lines(held)


def _lines(held: list[str]) -> pa.RecordBatch:
    return pa.record_batch([pa.array(held, pa.string())], names=[LINE])


def _rows(file: DataFile) -> Iterator[tuple[int, bytes, Row]]:
    """The rows of a file of JSON: the number, the text, and what it says."""
    with _readable(file):
        for number, text in texts(file.path, file.form):
            try:
                row = said(text)
            except ValueError as error:
                raise lossy(file, number, None, str(error), _MEND) from None
            if not isinstance(row, dict):
                raise lossy(file, number, None, "a row must be an object", _MEND)
            yield number, text, row


def _parts(file: DataFile) -> Iterator[pa.RecordBatch]:
    """The rows of a file that has columns."""
    with _readable(file):
        yield from batches(file)


def _reshaped(step: Reshape | None, row: Row, file: DataFile, number: int) -> Row:
    if step is None:
        return row
    try:
        return applied(step, row)
    except Unfit as error:
        raise lossy(file, number, error.field, error.why, _KEEP) from None


def _one_line(text: bytes) -> bytes:
    return msgspec.json.format(text, indent=-1) if b"\n" in text or b"\r" in text else text
