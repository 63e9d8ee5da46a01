"""Checks a folder of training rows, ours or anybody's: every row of every file, and the receipt where there is one.

The shapes are those that trainers take: `messages`; `prompt`, `chosen`, `rejected`; `prompt`, `completion`;
`instruction`, `response`; `content`; `text`. A side of a prompt or a pair is a text or a list of turns. Which shape a
folder has, its first row says; every other row must keep to it.

Not here: whether the rows are those of a snapshot (`export.verify` rebuilds them), nor any mending.
"""

import gzip
import io
import zlib
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from exporters import receipt
from exporters.datasets import ROLES
from exporters.export import mismatches
from exporters.places import fetched
from lake.errors import LakeError, UsageError

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")
SHAPES: dict[str, tuple[str, ...]] = {
    "preference": ("prompt", "chosen", "rejected"),
    "messages": ("messages",),
    "prompt-completion": ("prompt", "completion"),
    "instruction": ("instruction", "response"),
    "document": ("content",),
    "text": ("text",),
}
SHOWN = 100
LINE_BYTES = 64 << 20

_BATCH_ROWS = 1024
_WINDOW_BYTES = 1 << 27
# At most 128 KiB come out of four bytes, so this many give 32 MiB at once.
_ZSTD_BYTES = 1 << 10

if TYPE_CHECKING:
    from typing_extensions import Buffer

Progress = Callable[[int, int | None], None]


class Problem(msgspec.Struct, frozen=True):
    """What is wrong in one place. `row` counts from 1, in JSON lines it is the line; None is the file as a whole.

    `field` is the place within the row, None for the row as a whole.
    """

    file: str
    row: int | None
    field: str | None
    problem: str


class Checked(msgspec.Struct, frozen=True):
    """One file that was read to its end, or as far as it could be."""

    file: str
    rows: int
    problems: int


class ValidateReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. `problems` are the first SHOWN of `found`; `shape` is None where no row told it.

    `receipt` says whether there is one; what is not as it says is among the problems.
    """

    shape: str | None
    files: tuple[Checked, ...]
    rows: int
    problems: tuple[Problem, ...]
    found: int
    receipt: bool

    @property
    def ok(self) -> bool:
        """Whether every row can be trained on, and the files are those of the receipt if there is one."""
        return self.found == 0

    @property
    def summary(self) -> str:
        """The outcome in one line."""
        wrong = f"{self.found:,} problems" if self.found else "nothing wrong"
        more = f", the first {len(self.problems)} shown" if self.found > len(self.problems) else ""
        seal = " and its receipt" if self.receipt else ""
        return f"{self.rows:,} rows of {self.shape or 'no known shape'} in {len(self.files)} files{seal}: {wrong}{more}"


def validate(folder: str | Path, progress: Progress | None = None) -> ValidateReport:
    """Check every row of a folder's files, or of one file. `progress` is called with the rows read so far and None.

    Raises UsageError where there is nothing to check.
    """
    with fetched(folder) as root:
        return _validate(root, str(folder), progress)


def _validate(root: Path, called: str, progress: Progress | None) -> ValidateReport:
    paths = _files(root, called)
    check = _Check(progress)
    checked = []
    for path in paths:
        name = path.relative_to(root).as_posix() if path != root else path.name
        rows, found = check.rows, check.found
        check.file(name, path)
        checked.append(Checked(name, check.rows - rows, check.found - found))
    check.ids()
    sealed = (root / receipt.NAME).is_file()
    if sealed:
        check.receipt(root)
    return ValidateReport(
        shape=check.shape,
        files=tuple(checked),
        rows=check.rows,
        problems=tuple(check.problems),
        found=check.found,
        receipt=sealed,
    )


_Found = tuple[str | None, str]


def row_problem(row: object, shape: str) -> tuple[str | None, str] | None:
    """The place, and why, a row is not one of a shape of SHAPES; None if it is."""
    if not isinstance(row, dict):
        return None, "a row must be an object"
    for name in SHAPES[shape]:
        if row.get(name) is None:
            return name, "missing field"
        if found := _value_problem(row[name], name, shape):
            return found
    if shape == "preference" and _said(row["chosen"]) == _said(row["rejected"]):
        return "rejected", "the same text as 'chosen' after stripping"
    return None


def _value_problem(value: object, name: str, shape: str) -> _Found | None:
    sides = shape in ("preference", "prompt-completion")
    if name == "messages" or (sides and isinstance(value, list)):
        return _turns_problem(value, name)
    if not isinstance(value, str):
        return name, "must be a string or a list" if sides else "must be a string"
    return None if value.strip() else (name, "empty after stripping")


def _turns_problem(turns: object, name: str) -> _Found | None:
    if not isinstance(turns, list):
        return name, "must be a list"
    if not turns:
        return name, "must be a list of at least one turn"
    for number, turn in enumerate(turns):
        if found := _turn_problem(turn, f"{name}[{number}]"):
            return found
    last = turns[-1]
    # A prompt may end with a user, with what a tool said, or be a system's alone.
    if name != "prompt" and last["role"] != "assistant":
        return f"{name}[{len(turns) - 1}].role", "must be assistant in the last turn"
    content = last.get("content")
    if not (content.strip() if isinstance(content, str) else content) and not last.get("tool_calls"):
        return f"{name}[{len(turns) - 1}].content", "empty after stripping"
    return None


def _turn_problem(turn: object, place: str) -> _Found | None:
    if not isinstance(turn, dict):
        return place, "must be an object"
    role, content = turn.get("role"), turn.get("content")
    if role is None:
        return f"{place}.role", "missing field"
    if role not in ROLES:
        return f"{place}.role", f"must be one of {', '.join(ROLES)}"
    if content is None and not turn.get("tool_calls"):
        return f"{place}.content", "missing field"
    if not isinstance(content, str | list | None):
        return f"{place}.content", "must be a string or a list"
    return None


def _said(side: object) -> object:
    """What two sides are compared by: a text, and likewise the turns of a list, without the space around it."""
    if isinstance(side, str):
        return side.strip()
    if isinstance(side, list):
        return [_said(part) for part in side]
    return {name: _said(value) for name, value in side.items()} if isinstance(side, dict) else side


class _Check:
    """The state of one validation: counts, the first problems, and the ids seen."""

    def __init__(self, progress: Progress | None) -> None:
        self.shape: str | None = None
        self.rows = self.found = 0
        self.problems: list[Problem] = []
        self._progress = progress
        self._keys = array("q")

    def file(self, name: str, path: Path) -> None:
        number = 0
        try:
            for number, row in _rows(path):
                self.rows += 1
                if found := self._row(row):
                    self._add(name, number, *found)
                if self._progress is not None and self.rows % _BATCH_ROWS == 0:
                    self._progress(self.rows, None)
        except (OSError, EOFError, zlib.error, zstandard.ZstdError, pa.ArrowException) as error:
            self._add(name, None, None, f"cannot be read beyond row {number}: {error}")

    def ids(self) -> None:
        """Tell of ids that come more than once. Only 64-bit keys are kept, so which ones is not known any more."""
        keys = np.array(self._keys)
        if repeated := len(keys) - len(np.unique(keys)):
            self._add("*", None, "id", f"{repeated} rows repeat the id of another")

    def receipt(self, root: Path) -> None:
        """Tell of files that are not as the receipt says."""
        try:
            said = receipt.read(root)
        except LakeError as error:
            self._add(receipt.NAME, None, None, error.message)
            return
        named = {file.path for file in said.files}
        present = {path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir()}
        found = dict.fromkeys(named - present, "missing, and the receipt names it")
        found |= dict.fromkeys(present - named - {receipt.NAME}, "not in the receipt")
        found |= dict.fromkeys(mismatches(root, said), "not the bytes that the receipt names")
        for path in sorted(found):
            self._add(path, None, None, found[path])

    def _add(self, file: str, row: int | None, field: str | None, problem: str) -> None:
        self.found += 1
        if len(self.problems) < SHOWN:
            self.problems.append(Problem(file, row, field, problem))

    def _row(self, row: object) -> _Found | None:
        if isinstance(row, _Unreadable):
            return None, row.why
        if not isinstance(row, dict):
            return None, "a row must be an object"
        if self.shape is None:
            self.shape = _shape_of(row)
        if self.shape is None:
            return None, f"no column that a trainer reads, only {', '.join(map(str, row)) or 'none'}"
        if isinstance(row.get("id"), str):
            self._keys.append(hash(row["id"]))
        return row_problem(row, self.shape)


class _Unreadable(msgspec.Struct, frozen=True):
    why: str


def _shape_of(row: dict[str, object]) -> str | None:
    for shape, names in SHAPES.items():
        # A prompt alone says nothing: several shapes have one.
        if any(name in row for name in names if name != "prompt"):
            return shape
    return None


def _files(root: Path, called: str) -> list[Path]:
    if root.is_file() and root.name.endswith(SUFFIXES):
        return [root]
    found = sorted(path for path in root.rglob("*") if path.is_file() and path.name.endswith(SUFFIXES))
    if not found:
        raise UsageError(
            f"{called}: nothing to validate", f"name a folder with files that end in {', '.join(SUFFIXES)}"
        )
    return found


def _rows(path: Path) -> Iterator[tuple[int, object]]:
    if path.suffix == ".parquet":
        return _parquet_rows(path)
    return _json_rows(path)


def _json_rows(path: Path) -> Iterator[tuple[int, object]]:
    decode = msgspec.json.Decoder().decode
    with path.open("rb") as raw, _plain(raw, path.suffix) as lines:
        number = 0
        while line := lines.readline(LINE_BYTES + 1):
            number += 1
            if len(line) > LINE_BYTES:
                raise EOFError(f"line {number} is longer than {LINE_BYTES >> 20} MiB")
            if not line.strip():
                continue
            try:
                yield number, decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                yield number, _Unreadable(f"not JSON: {error}")


def _plain(raw: io.BufferedReader, suffix: str) -> io.BufferedIOBase:
    if suffix == ".gz":
        return gzip.GzipFile(fileobj=raw, mode="rb")
    return io.BufferedReader(_Zstd(raw)) if suffix == ".zst" else raw


class _Zstd(io.RawIOBase):
    """The bytes of zstd frames. It takes in little at a time, which bounds what comes out, and notices a cut end."""

    def __init__(self, raw: io.BufferedReader) -> None:
        super().__init__()
        self._raw = raw
        self._context = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES)
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._out = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "Buffer") -> int:
        into = memoryview(buffer).cast("B")
        while not self._out:
            data = self._raw.read(_ZSTD_BYTES)
            if not data and self._frame is not None:
                raise EOFError("the zstd stream is cut short")
            if not data:
                return 0
            self._out = memoryview(self._decompressed(data))
        taken = min(len(into), len(self._out))
        into[:taken] = self._out[:taken]
        self._out = self._out[taken:]
        return taken

    def _decompressed(self, data: bytes) -> bytes:
        parts = []
        while data:
            if self._frame is None:
                self._frame = self._context.decompressobj()
            parts.append(self._frame.decompress(data))
            data = b""
            if self._frame.eof:
                data, self._frame = self._frame.unused_data, None
        return b"".join(parts)


def _parquet_rows(path: Path) -> Iterator[tuple[int, object]]:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        json = [field.name for field in file.schema_arrow if isinstance(field.type, pa.JsonType)]
        number = 0
        for batch in file.iter_batches(batch_size=_BATCH_ROWS):
            for row in batch.to_pylist():
                number += 1
                yield number, {**row, **{name: _decoded(row[name]) for name in json}}


def _decoded(text: str | None) -> object:
    try:
        return None if text is None else msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text
