"""Training rows from one format to another, and from one shape to another, with nothing lost and nothing guessed.

What goes in is a file or a folder of any format that `reading` knows; what comes out is one file, whose name tells the
format, or a folder with files for each split. Rows keep their order, columns that nobody knows stay, and types are
those of the values: an int64 stays one, text stays text, a row without a column does not become one with null. What the
other format cannot hold is refused, with the file, the row and the field; then nothing is written.

Rows are read in a stream, and twice where their types have to be found out first. Nothing of what is written can be
seen before all of it is.

Not here: what is wrong with a row (`validate`); how rows of one shape become those of another (`reshape`); what columns
hold them (`row_sources`).
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa

from exporters.encoders import LINE, encoder
from exporters.formats import FORMATS, Writer, takes_lines
from exporters.hashed import Hashed
from exporters.places import appearing, appearing_file, refuse_taken
from exporters.plain_rows import CannotHold, csv_batch, csv_schema, lines, refuse_for_lines
from exporters.reading import COLUMNAR, DataFile, data_files, form_of
from exporters.reshape import Reshape, reshaping
from exporters.row_sources import ColumnRows, JsonRows, Lossy, line_parts, lossy
from exporters.shapes import shape_of
from lake.errors import UsageError
from lake.stores import is_bucket

__all__ = ["FILES", "Converted", "Lossy", "Options", "convert"]

FILES = ("jsonl", "jsonl.gz", "jsonl.zst", "json", "csv", "parquet", "arrow")

_LINES = pa.schema([(LINE, pa.string())])

Progress = Callable[[int, int | None], None]
_Splits = dict[str, list[DataFile]]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What to make: the format of a folder (by default `hf`), the shape (by default as it is), of one split or all."""

    format: str | None = None
    shape: str | None = None
    split: str | None = None


class Converted(msgspec.Struct, frozen=True, kw_only=True):
    """What was written: rows by split, the shape that they had (where another was asked for), and the format."""

    rows: dict[str, int]
    source: str | None
    format: str

    @property
    def summary(self) -> str:
        """The outcome in one line."""
        each = ", ".join(f"{split} {rows:,}" for split, rows in self.rows.items())
        return f"{sum(self.rows.values()):,} rows as {self.format}" + (f": {each}" if len(self.rows) > 1 else "")


def convert(
    source: str | Path, out: str | Path, options: Options | None = None, progress: Progress | None = None
) -> Converted:
    """Write the rows of a file or folder to `out`, where there is nothing yet.

    `out` is a file if its name ends as one of FILES does, else a folder. `progress` is called with the rows written so
    far and None. Raises UsageError, and Lossy for a row that cannot be kept; after either there is nothing at `out`.
    """
    options = options or Options()
    for place in (source, out):
        if is_bucket(str(place)):
            raise UsageError(f"{place}: only files of this machine are converted", "copy it here, or from here")
    splits = _splits(Path(source), options.split)
    form = _form(Path(out), options.format, splits)
    made = _Conversion(splits, form, options.shape, progress)
    try:
        if _is_file(Path(out)):
            with appearing_file(Path(out)) as path:
                made.into_file(path)
        else:
            refuse_taken(out)
            with appearing(out) as folder:
                made.into_folder(folder)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        # What its readers and writers cannot do is found out by letting them try.
        why = " ".join(str(error).split())
        raise Lossy(f"{source}: cannot be written as {form}: {why}", "another format may hold it") from error
    return Converted(rows=made.rows, source=made.shape, format=form)


def _splits(source: Path, wanted: str | None) -> _Splits:
    splits: _Splits = {}
    for file in data_files(source, str(source)):
        splits.setdefault(file.split, []).append(file)
    if wanted is None:
        return splits
    if wanted not in splits:
        raise UsageError(f"{source}: there is no split {wanted!r}", f"there are {', '.join(splits)}")
    return {wanted: splits[wanted]}


def _is_file(out: Path) -> bool:
    return form_of(out) is not None


def _form(out: Path, asked: str | None, splits: _Splits) -> str:
    if not _is_file(out):
        form = asked or "hf"
        if form not in FORMATS:
            raise UsageError(f"a folder cannot be of {form}", f"the formats are {', '.join(FORMATS)}")
        return form
    form = form_of(out) or ""
    # A file of this name has a footer, which a stream has not.
    told = "feather" if out.suffix.lower() == ".feather" else form
    if told not in FILES:
        raise UsageError(f"{out}: {told} is not written", f"a file's name ends in .{', .'.join(FILES)}")
    if asked not in {None, form}:
        raise UsageError(f"{out}: the name says {form}, --format says {asked}", "leave out --format, or name a folder")
    if len(splits) > 1:
        raise UsageError(
            f"{out}: one file cannot hold the splits {', '.join(splits)}", "name a folder, or one split with --split"
        )
    return form


class _Conversion:
    """One conversion: where its rows come from, the columns that hold them, and how many there were."""

    def __init__(self, splits: _Splits, form: str, target: str | None, progress: Progress | None) -> None:
        self.rows = dict.fromkeys(splits, 0)
        self.shape: str | None = None
        self._splits = splits
        self._form = form
        self._progress = progress
        files = [file for files in splits.values() for file in files]
        kind = _kind(files)
        step: Reshape | None = None
        if target is not None:
            self.shape = _shape(kind(files).first())
            step = reshaping(self.shape, target)
        self._source = kind(files, step)

    def into_folder(self, folder: Path) -> None:
        """Write every split to files of its own."""
        with Writer(folder, self._form, self._schema(), splits=tuple(self._splits)) as writer:
            for split in self._splits:
                for part in self._parts(split):
                    writer.write(part, split)
            writer.finish()

    def into_file(self, path: Path) -> None:
        """Write the one split to one file."""
        [split] = self._splits
        schema = self._schema()
        with Hashed(path) as sink:
            to = encoder(self._form, sink, csv_schema(schema) if self._form == "csv" else schema)
            for part in self._parts(split):
                to.write(part)
            to.close()
            sink.seal(path.name)

    def _schema(self) -> pa.Schema:
        if takes_lines(self._form) and isinstance(self._source, JsonRows):
            return _LINES
        schema = self._source.schema()
        if takes_lines(self._form):
            refuse_for_lines(schema)
        return schema

    def _parts(self, split: str) -> Iterator[pa.RecordBatch]:
        """The rows of a split as the format takes them."""
        for file in self._splits[split]:
            for part in self._encoded(file):
                yield part
                self.rows[split] += len(part)
                if self._progress is not None:
                    self._progress(sum(self.rows.values()), None)

    def _encoded(self, file: DataFile) -> Iterator[pa.RecordBatch]:
        if takes_lines(self._form) and isinstance(self._source, JsonRows):
            yield from line_parts(self._source.lines(file))
            return
        for part, numbers in self._source.parts(file):
            try:
                if takes_lines(self._form):
                    yield from line_parts(lines(part))
                else:
                    yield csv_batch(part) if self._form == "csv" else part
            except CannotHold as error:
                where = "parquet, arrow and hf hold it"
                raise lossy(file, numbers[error.row], error.field, error.why, where) from None


def _kind(files: list[DataFile]) -> type[JsonRows] | type[ColumnRows]:
    columnar = [file.form in COLUMNAR for file in files]
    if any(columnar) and not all(columnar):
        odd = files[columnar.index(not columnar[0])]
        raise UsageError(f"{odd.name}: not of the kind of {files[0].name}", "convert the files one by one")
    return ColumnRows if columnar[0] else JsonRows


def _shape(columns: Sequence[str]) -> str:
    found = "sharegpt" if "conversations" in columns else shape_of(dict.fromkeys(columns))
    if found is None:
        known = f"only {', '.join(columns)}" if columns else "there is no row"
        raise UsageError(f"no shape that is known: {known}", "leave out --to to keep the rows as they are")
    return found
