"""The rows of an export that a run trained on: of its training files, one by one, with the place of each.

JSONL and Parquet as ingest reads them anywhere, Arrow and Hugging Face's folders by pyarrow. What was held out for
validation was not trained on, and is left alone. Of a receipt, only what names the export is read; a folder without one
may come from anywhere.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from ingest.blocks import Sizes
from ingest.formats import Input
from ingest.rows import Decoder, Problem, Refused, sha256, too_much
from ingest.sources import FORMATS, Limits, Source, Stream, promised
from lake.errors import LakeError, UsageError

RECEIPT = "receipt.json"
TRAIN = "train"


class Receipt(msgspec.Struct, frozen=True):
    """What a receipt says of which export it is of."""

    dataset: str
    snapshot: str


class Given(NamedTuple):
    """A row as a file has it: the file's path in the folder, the 1-based line, the row, or what is wrong with it."""

    file: str
    line: int
    sha256: str
    values: dict[str, Any] | None
    raw: bytes
    problems: list[Problem]


def name_of(folder: Path) -> str:
    """What an export is called as the place that a section was found in: its dataset and snapshot, or its path."""
    path = folder / RECEIPT
    if not path.is_file():
        return folder.as_posix()
    try:
        said = msgspec.json.decode(path.read_bytes(), type=Receipt)
    except msgspec.DecodeError as error:
        raise LakeError(f"{path}: this is no receipt: {error}", "name a folder that 'lake export' wrote") from None
    return f"{said.dataset}@{said.snapshot}"


def training_files(folder: Path) -> list[Path]:
    """The files that hold the rows that are trained on, in order. Raises UsageError."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder", "name a folder that 'lake export' wrote")
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and _is_training(path.relative_to(folder))]
    if not files:
        raise UsageError(
            f"{folder}: there are no files of training rows here",
            f"they are data/{TRAIN}-*.jsonl, .parquet or .arrow, or {TRAIN}/*.arrow",
        )
    return files


def _is_training(path: Path) -> bool:
    if path.suffix == ".arrow" and path.parent.as_posix() == TRAIN:
        return True
    known = path.suffix == ".arrow" or promised(path.name)[0] in FORMATS.values()
    return known and path.name.startswith((f"{TRAIN}-", f"{TRAIN}."))


def rows(folder: Path, path: Path) -> Iterator[Given]:
    """The rows of a file of an export, in order."""
    name = path.relative_to(folder).as_posix()
    if path.suffix == ".arrow":
        yield from _arrow(name, path)
        return
    decoder, sizes = Decoder(), Sizes()
    with Stream(Source(name, path), Limits()) as stream:
        try:
            given = Input(stream, Limits())
        except Refused as refused:
            yield Given(name, 0, hashlib.sha256(b"").hexdigest(), None, b"", refused.problems)
            return
        for block in given.blocks(sizes):
            for number, line in enumerate(block.lines.tolist()):
                raw = block.data[int(block.offsets[number]) : int(block.offsets[number + 1])].rstrip(b"\r\n")
                if len(raw) > sizes.row:
                    problem = too_much("too_long", f"the row has {len(raw):,} bytes")
                    yield Given(name, line, hashlib.sha256(raw).hexdigest(), None, raw[:65536], [problem])
                elif raw.strip():
                    decoded = decoder.decode(raw)
                    yield Given(name, line, decoded.sha256, decoded.values, raw, decoded.problems)
            for cells in block.cells:
                yield from_values(name, cells.line, cells.values, cells.problems)
            for refusal in block.refusals:
                digest = hashlib.sha256(refusal.raw).hexdigest()
                yield Given(name, refusal.line, digest, None, refusal.raw, [refusal.problem])


def _arrow(name: str, path: Path) -> Iterator[Given]:
    line = 0
    try:
        with pa.memory_map(str(path)) as file:
            reader = pa.ipc.open_file(file) if file.read(6) == b"ARROW1" else _stream(file)
            batches = (
                map(reader.get_batch, range(reader.num_record_batches)) if hasattr(reader, "get_batch") else reader
            )
            for batch in batches:
                for values in batch.to_pylist():
                    line += 1
                    yield from_values(name, line, values, [])
    except pa.ArrowException as error:
        problem = Problem("unknown_format", f"this is no Arrow file: {error}".split("\n")[0])
        yield Given(name, line + 1, hashlib.sha256(b"").hexdigest(), None, b"", [problem])


def _stream(file: Any) -> Any:
    file.seek(0)
    return pa.ipc.open_stream(file)


def from_values(name: str, line: int, values: dict[str, Any], problems: Sequence[Problem] = ()) -> Given:
    """A row that stands at this place; where it has no bytes of its own, those of how it shows are taken."""
    shown = repr(values).encode(errors="backslashreplace")
    try:
        digest = sha256(values)
    except (TypeError, ValueError):
        # A time, or a number that JSON has not: what it shows as is as good a name for it.
        digest = hashlib.sha256(shown).hexdigest()
    return Given(name, line, digest, values, shown, list(problems))
