"""Checks a folder of training rows, ours or anybody's: every row of every file, and the receipt where there is one.

Which shape a folder has, its receipt says, or whoever asks, or else its first row; every other row must keep to it.

Not here: what a row of a shape is (`shapes`), how files are read (`reading`), whether the rows are those of a snapshot
(`export.verify` rebuilds them), nor any mending.
"""

import zlib
from array import array
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import zstandard

from exporters import receipt
from exporters.export import files_of, mismatches
from exporters.places import fetched
from exporters.reading import BATCH_ROWS, COLUMNAR, DataFile, Unreadable, batches, data_files, objects, rows, schema_of
from exporters.shapes import FAMILIES, SHAPES, Found, Limits, row_problem, shape_of, shapes_named
from lake.errors import LakeError, UsageError

__all__ = ["SHAPES", "SHOWN", "Checked", "Options", "Problem", "ValidateReport", "row_problem", "validate"]

SHOWN = 100

# All that a check looks at; what else a file has is not read where it need not be.
_LOOKED_AT = frozenset(
    {"id", "prompt", "labels", "attention_mask", "position_ids", "starter_code"}.union(
        *(shape.fields for shape in SHAPES.values())
    )
)
_UNREADABLE = (OSError, EOFError, zlib.error, zstandard.ZstdError, pa.ArrowException, UnicodeDecodeError)

Progress = Callable[[int, int | None], None]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a set is held to: the name of a shape or of a dataset, and the size of the vocabulary of its token ids."""

    shape: str | None = None
    vocabulary: int | None = None


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


def validate(folder: str | Path, progress: Progress | None = None, options: Options | None = None) -> ValidateReport:
    """Check every row of a folder's files, or of one file. `progress` is called with the rows read so far and None.

    Raises UsageError where there is nothing to check, or no such shape.
    """
    options = options or Options()
    among = () if options.shape is None else shapes_named(options.shape)
    with fetched(folder) as root:
        return _validate(root, str(folder), among, options.vocabulary, progress)


def vocabulary_of(tokenizer: Path) -> int:
    """How many ids a `tokenizer.json` of Hugging Face's has, added tokens among them. Raises UsageError."""
    path = tokenizer / "tokenizer.json" if tokenizer.is_dir() else tokenizer
    try:
        said = msgspec.json.decode(path.read_bytes(), type=_Tokenizer)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", "name a tokenizer.json, or say --vocab-size N") from None
    except msgspec.DecodeError as error:
        raise UsageError(f"{path}: {error}", "name a tokenizer.json, or say --vocab-size N") from None
    vocabulary = said.model.vocab
    ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else list(range(len(vocabulary)))
    return max([*ids, *(token.id for token in said.added_tokens), -1]) + 1


class _Model(msgspec.Struct):
    vocab: dict[str, int] | list[tuple[str, float]] = msgspec.field(default_factory=dict)


class _Added(msgspec.Struct):
    id: int


class _Tokenizer(msgspec.Struct):
    model: _Model
    added_tokens: list[_Added] = []


def _validate(
    root: Path, called: str, among: tuple[str, ...], vocabulary: int | None, progress: Progress | None
) -> ValidateReport:
    sealed = (root / receipt.NAME).is_file()
    if not sealed and (inner := sorted(path.parent.name for path in root.glob(f"*/{receipt.NAME}"))):
        raise UsageError(f"{called}: a folder of exports, each with rows of its own", f"name one: {', '.join(inner)}")
    said = _told(root) if sealed else None
    if vocabulary is None and said is not None and said.packing is not None:
        vocabulary = said.packing.tokenizer.vocabulary
    check = _Check(among or _meant(said), vocabulary, progress)
    checked = []
    for file in data_files(root, called):
        done, found = check.rows, check.found
        check.file(file)
        checked.append(Checked(file.name, check.rows - done, check.found - found))
    check.ids()
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


def _told(root: Path) -> receipt.Receipt | None:
    """The receipt; None where it cannot be read, of which `_Check.receipt` tells."""
    with suppress(LakeError):
        return receipt.read(root)
    return None


def _meant(said: receipt.Receipt | None) -> tuple[str, ...]:
    """The shapes that a receipt leaves, by its dataset; none where it says none."""
    if said is None:
        return ()
    return FAMILIES.get(said.dataset, (said.dataset,) if said.dataset in SHAPES else ())


class _Check:
    """The state of one validation: counts, the first problems, and the ids seen."""

    def __init__(self, among: tuple[str, ...], vocabulary: int | None, progress: Progress | None) -> None:
        self.shape: str | None = among[0] if len(among) == 1 and among[0] != "preference" else None
        self.rows = self.found = 0
        self.problems: list[Problem] = []
        self._among = among
        self._limits = Limits(vocabulary)
        self._progress = progress
        self._told = 0
        self._split: str | None = None
        self._keys = array("q")

    def file(self, file: DataFile) -> None:
        """Look at every row of a file. Packed rows are of one length within a split."""
        number = 0
        if file.split != self._split:
            self._split, self._limits.length = file.split, None
        try:
            if file.form in COLUMNAR:
                for batch in batches(file, _columns(file)):
                    self._batch(file.name, number, batch)
                    number += len(batch)
            else:
                for number, row in rows(file):
                    self._row(file.name, number, row)
        except _UNREADABLE as error:
            self._add(file.name, None, None, f"cannot be read beyond row {number}: {error}")
        except UsageError as error:
            self._add(file.name, None, None, error.message.removeprefix(f"{file.path}: "))

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
        present = files_of(root, said)
        found = dict.fromkeys(named - present, "missing, and the receipt names it")
        found |= dict.fromkeys(present - named - {receipt.NAME}, "not in the receipt")
        found |= dict.fromkeys(mismatches(root, said), "not the bytes that the receipt names")
        for path in sorted(found):
            self._add(path, None, None, found[path])

    def _add(self, file: str, row: int | None, field: str | None, problem: str) -> None:
        self.found += 1
        if len(self.problems) < SHOWN:
            self.problems.append(Problem(file, row, field, problem))

    def _batch(self, name: str, before: int, batch: pa.RecordBatch) -> None:
        if self._is_packed(batch):
            self._count(len(batch))
            return
        for number, row in enumerate(objects(batch), before + 1):
            self._row(name, number, row if not name.endswith(".csv") else _typed(row))

    def _is_packed(self, batch: pa.RecordBatch) -> bool:
        """Whether all rows are packed ids in order, seen at once; what is wrong with them the rows themselves tell."""
        if batch.schema.names != ["input_ids"] or not len(batch) or self.shape not in {None, "pretrain"}:
            return False
        ids = batch.column(0)
        if not _is_list(ids.type) or not pa.types.is_integer(ids.type.value_type):
            return False
        flat = ids.flatten()
        lengths = pc.min_max(pc.list_value_length(ids)).as_py()
        if ids.null_count or flat.null_count or not len(flat) or lengths["min"] != lengths["max"]:
            return False
        length = self._limits.length or lengths["min"]
        bounds = pc.min_max(flat).as_py()
        if lengths["min"] != length or bounds["min"] < 0 or bounds["max"] >= (self._limits.vocabulary or 1 << 31):
            return False
        self.shape, self._limits.length = "pretrain", length
        return True

    def _count(self, count: int) -> None:
        self.rows += count
        if self._progress is not None and self.rows - self._told >= BATCH_ROWS:
            self._told = self.rows
            self._progress(self.rows, None)

    def _row(self, name: str, number: int, row: object) -> None:
        self._count(1)
        if found := self._problem(row):
            self._add(name, number, *found)

    def _problem(self, row: object) -> Found | None:
        if isinstance(row, Unreadable):
            return None, row.why
        if not isinstance(row, dict):
            return None, "a row must be an object"
        if self.shape is None:
            self.shape = shape_of(row, self._among) or (self._among[0] if self._among else None)
        if self.shape is None:
            return None, f"no column that a trainer reads, only {', '.join(map(str, row)) or 'none'}"
        if isinstance(row.get("id"), str):
            self._keys.append(hash(row["id"]))
        return row_problem(row, self.shape, self._limits)


def _columns(file: DataFile) -> list[str] | None:
    """The columns that a check looks at; all where it would be none, to be able to say which there are."""
    names = schema_of(file).names
    return [name for name in names if name in _LOOKED_AT] or None


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _typed(row: dict[str, object]) -> dict[str, object]:
    """A row of a CSV, which holds texts, with what no trainer reads as one: a label and a margin."""
    label, margin = row.get("label"), row.get("margin")
    if isinstance(label, str):
        row["label"] = {"true": True, "false": False}.get(label.lower(), label)
    if isinstance(margin, str):
        with suppress(ValueError):
            row["margin"] = float(margin)
    return row
