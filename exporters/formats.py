"""Files of rows in a folder: which file a row goes to, what the file is called, byte for byte the same every time.

Rows arrive as Arrow batches of any size and are cut again into slices of `SLICE_ROWS`, so that neither the engine's
threads nor its batch sizes can be seen in a file. A slice is the unit of everything: of a compressor's calls, of a
Parquet row group, of the decision to begin the next file. What is held at a time is a few slices, or one row group of
each split.

Not here: what a row is (`dataset`), how it becomes bytes (`encoders`), and where the files end up (`export`).
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import pyarrow as pa

from exporters import hugging_face
from exporters.encoders import LINE, TEXT_FORMS, Encoder, encoder, library_versions, value_bytes
from exporters.hashed import File, Hashed
from lake.errors import UsageError

__all__ = [
    "FILE_BYTES",
    "FORMATS",
    "LINE",
    "SLICE_ROWS",
    "File",
    "Writer",
    "data_files",
    "library_versions",
    "sliced",
    "takes_lines",
]

FORMATS = ("jsonl", "jsonl.gz", "jsonl.zst", "parquet", "arrow", "hf")
SLICE_ROWS = 2048
FILE_BYTES = 1 << 30

_PENDING_SLICES = 8


def takes_lines(form: str) -> bool:
    """Whether a format is written from a column `line` of JSON texts rather than from the columns themselves."""
    return form in TEXT_FORMS


def data_files(form: str, split: str) -> str:
    """The pattern of the paths of a split's rows in the folder, for `data_files` in a card."""
    return f"{split}/data-*.arrow" if form == "hf" else f"data/{split}-*"


class Writer:
    """Writes rows to files under a folder, in the order given, each split to files of its own.

    They are `data/<split>-<i>-of-<n>.<format>`, and for `hf` `<split>/data-<i>-of-<n>.arrow` with what belongs beside
    them (`hugging_face`). A split is any name without a slash: `train`, `validation`, `train_512`; one without rows is
    one empty file. JSON formats take a column `line`, whole JSON lines with their line feeds; the others the columns of
    `schema`. A file is closed at the first slice after `file_bytes` of values. Without a folder nothing is written, and
    the files are those that would have been. Use as a context: leaving it early stops the thread that writes.
    """

    def __init__(
        self,
        folder: Path | None,
        form: str,
        schema: pa.Schema,
        *,
        splits: Sequence[str] = ("train",),
        file_bytes: int = FILE_BYTES,
    ) -> None:
        if form not in FORMATS:
            raise UsageError(f"there is no format {form!r}", f"the formats are {', '.join(FORMATS)}")
        self._folder = folder
        self._form = form
        self.schema = schema
        self._schema = pa.schema([(LINE, pa.string())]) if takes_lines(form) else schema
        if form == "hf":
            hugging_face.features(schema)  # what cannot be held is refused before anything is written
        self._thread = ThreadPoolExecutor(1, "export-writer")
        self._ahead: deque[Future[None]] = deque()
        self._splits = {split: _Split(self, split, file_bytes) for split in splits}
        if folder is not None:
            for split in splits:
                (folder / self.place(split)).mkdir(exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._thread.shutdown(cancel_futures=True)
        for split in self._splits.values():
            split.abandon()

    def write(self, part: pa.RecordBatch, split: str | None = None) -> None:
        """Write one slice, as `sliced` cuts them, to a split, by default the first.

        Returns when all but a few are on the disk's way.
        """
        if not len(part):
            return
        stored = pa.record_batch([self._stored(part, field) for field in self._schema], self._schema)
        self._submit(self._splits[split or next(iter(self._splits))].put, stored)

    def finish(self) -> tuple[File, ...]:
        """Close the last files, give all their names, and say what they are, split by split."""
        for one in self._splits.values():
            self._submit(one.end)
        while self._ahead:
            self._ahead.popleft().result()
        files: list[File] = []
        for name, one in self._splits.items():
            rows = one.named()
            files += rows
            if self._form == "hf":
                files += [
                    self._put(f"{name}/{file}", data)
                    for file, data in hugging_face.split_files(self._schema, name, rows).items()
                ]
        if self._form == "hf":
            files.append(self._put(hugging_face.SPLITS, hugging_face.splits_file(self._splits)))
        return tuple(files)

    def place(self, split: str) -> str:
        """The folder, within the folder, of a split's files."""
        return split if self._form == "hf" else "data"

    def name(self, split: str, number: int, count: int) -> str:
        """The path of one of a split's files."""
        if self._form == "hf":
            return f"{split}/{hugging_face.data_file(number, count)}"
        return f"data/{split}-{number:05d}-of-{count:05d}.{self._form}"

    def rename(self, old: str, new: str) -> None:
        """Give a file its name, where there are files."""
        if self._folder is not None:
            os.rename(self._folder / old, self._folder / new)

    def open(self, path: str) -> tuple[Hashed, Encoder]:
        """A new file at a path of the folder, and what writes rows to it."""
        sink = Hashed(None if self._folder is None else self._folder / path)
        return sink, encoder(self._form, sink, self._schema)

    @staticmethod
    def _stored(part: pa.RecordBatch, field: pa.Field) -> pa.Array:
        column = part.column(field.name)
        if isinstance(field.type, pa.BaseExtensionType) and column.type != field.type:
            return field.type.wrap_array(column)
        return column

    def _submit(self, work: Callable[..., None], *given: pa.RecordBatch) -> None:
        self._ahead.append(self._thread.submit(work, *given))
        while len(self._ahead) > _PENDING_SLICES:
            self._ahead.popleft().result()

    def _put(self, path: str, data: bytes) -> File:
        sink = Hashed(None if self._folder is None else self._folder / path)
        sink.write(data)
        return sink.seal(path)


class _Split:
    """The files of one split: the one that is being written, and those that are done."""

    def __init__(self, writer: Writer, name: str, limit: int) -> None:
        self._writer = writer
        self._name = name
        self._limit = limit
        self._sink: Hashed | None = None
        self._encoder: Encoder | None = None
        self._rows = self._bytes = 0
        self._done: list[File] = []

    def put(self, part: pa.RecordBatch) -> None:
        if self._encoder is not None and self._bytes >= self._limit:
            self._seal()
        if self._encoder is None:
            self._open()
        assert self._encoder is not None
        self._encoder.write(part)
        self._rows += len(part)
        self._bytes += value_bytes(part)

    def end(self) -> None:
        if self._encoder is None:
            self._open()
        self._seal()

    def named(self) -> list[File]:
        """The files, which get the names that tell how many there are."""
        files = []
        for number, file in enumerate(self._done):
            path = self._writer.name(self._name, number, len(self._done))
            self._writer.rename(file.path, path)
            files.append(msgspec.structs.replace(file, path=path))
        return files

    def abandon(self) -> None:
        if self._sink is not None:
            self._sink.close()

    def _open(self) -> None:
        self._sink, self._encoder = self._writer.open(self._part())
        self._rows = self._bytes = 0

    def _seal(self) -> None:
        assert self._encoder is not None
        assert self._sink is not None
        self._encoder.close()
        self._done.append(self._sink.seal(self._part(), self._rows))
        self._encoder = self._sink = None

    def _part(self) -> str:
        return f"{self._writer.place(self._name)}/{self._name}-{len(self._done):05d}.part"


def sliced(batches: Iterable[pa.RecordBatch], rows: int = SLICE_ROWS) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of exactly `rows`, the last one shorter, each in memory of its own."""
    pending: list[pa.RecordBatch] = []
    held = 0
    for batch in batches:
        start = 0
        while held + len(batch) - start >= rows:
            taken = rows - held
            pending.append(batch.slice(start, taken))
            yield _joined(pending)
            start, held, pending = start + taken, 0, []
        if start < len(batch):
            pending.append(batch.slice(start))
            held += len(batch) - start
    if pending:
        yield _joined(pending)


def _joined(parts: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    return parts[0] if len(parts) == 1 else pa.concat_batches(parts)
