"""Tokenised rows in files that are mapped into memory: what a run trains on, built once and readable anywhere.

A shard folder holds, for each field of a row (`text`; or `prompt`, `chosen`, `rejected`), three arrays in NumPy's own
format: `<field>.tokens.npy`, int32, the token ids of all rows one after the other; `<field>.offsets.npy`, int64, where
each row begins, and one more; `<field>.trained.npy`, bool, which tokens a loss may count. `keys.npy`, uint64, puts the
rows in order (`order.keys_of` of their ids), `rows.parquet` has their ids and what else travels with them, row for row.
The description, `shards.json`, is written last and names each file with its sha256: a folder that reads is whole.
Where rows were held out, the shards of both splits lie side by side in one folder, as `train` and `validation`.

Nothing but numpy, pyarrow and msgspec is needed to read one; a machine with GPUs needs no lake.

Not here: how text becomes tokens, and in which order rows are trained on (`plan`).
"""

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from lake.errors import Damaged, LakeError, UsageError
from trainers.order import Keys, Places, keys_of

NAME = "shards.json"
FORMAT = 2  # another one wherever a description has other keys, or a file another form
TRAIN, VALIDATION = "train", "validation"

_KEYS, _ROWS = "keys.npy", "rows.parquet"
_BUFFER_ROWS = 4096


class Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of a shard folder."""

    bytes: int
    sha256: str


class Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a shard folder holds. `made_from` is what its `key` is the hash of: the snapshot, dataset, tokenizer, …

    `tokens` and `trained` count by field. `counts` says what became of the rows that were offered: all of them are
    `kept`, `dropped_overlong` or `untrained`, which are those with nothing to learn; of the kept some are `truncated`,
    and `tokens_lost` were in those that were dropped or cut. In `literal_specials` a text spells a special token out.
    `highest` is the highest token id of each field, -1 where it has no token.
    """

    format: int
    key: str
    made_from: dict[str, Any]
    rows: int
    tokens: dict[str, int]
    trained: dict[str, int]
    counts: dict[str, int]
    files: dict[str, Stored]
    highest: dict[str, int]
    split: str = TRAIN


class _Format(msgspec.Struct, frozen=True):
    """What is read of a description before all else: another version's may have other keys."""

    format: int


def key_of(made_from: Mapping[str, Any]) -> str:
    """The name of what is made from this: the first 32 digits of the sha256 of its canonical JSON."""
    return hashlib.sha256(msgspec.json.encode(dict(made_from), order="sorted")).hexdigest()[:32]


class Field:
    """One field of all rows: `tokens` int32 (total,), `offsets` int64 (rows + 1,), `trained` bool (total,)."""

    def __init__(self, folder: Path, name: str) -> None:
        self.tokens: npt.NDArray[np.int32] = np.load(folder / f"{name}.tokens.npy", mmap_mode="r")
        self.offsets: Places = np.load(folder / f"{name}.offsets.npy", mmap_mode="r")
        self.trained: npt.NDArray[np.bool_] = np.load(folder / f"{name}.trained.npy", mmap_mode="r")

    @property
    def lengths(self) -> Places:
        """How many tokens each row has, int64."""
        return np.diff(self.offsets)

    @property
    def counted(self) -> Places:
        """How many tokens of each row a loss may count, int64. Reads the marks of all."""
        counts = np.zeros(len(self.offsets) - 1, np.int64)
        full = np.flatnonzero(self.lengths)
        if len(full):
            counts[full] = np.add.reduceat(self.trained, self.offsets[:-1][full], dtype=np.int64)
        return counts

    def row(self, number: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """The token ids of one row, and which of them a loss may count."""
        within = slice(int(self.offsets[number]), int(self.offsets[number + 1]))
        return self.tokens[within], self.trained[within]


class Shards:
    """An open shard folder."""

    def __init__(self, folder: Path, description: Description) -> None:
        self.folder = folder
        self.description = description
        self.keys: Keys = np.load(folder / _KEYS, mmap_mode="r")
        self.fields: Mapping[str, Field] = MappingProxyType({name: Field(folder, name) for name in description.tokens})

    @classmethod
    def open(cls, folder: str | Path) -> "Shards":
        """Open a shard folder: every file is there with its size. Raises UsageError, Damaged."""
        folder = Path(folder)
        try:
            text = (folder / NAME).read_bytes()
        except FileNotFoundError:
            raise UsageError(f"{folder}: no shards here", "build them with 'lake shards build'") from None
        try:
            found = msgspec.json.decode(text, type=_Format).format
            if found != FORMAT:
                newer = "install the version that built them, or build them with this one, in another folder"
                older = "build them again, in another folder (data.shards)"
                raise UsageError(
                    f"{folder}: these shards have format {found}, and this version reads {FORMAT}",
                    newer if found > FORMAT else older,
                )
            said = msgspec.json.decode(text, type=Description)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Damaged(f"{folder / NAME}: {error}", "build the shards again") from None
        for name, file in said.files.items():
            size = (folder / name).stat().st_size if (folder / name).is_file() else None
            if size != file.bytes:
                what = "is gone" if size is None else f"has {size} bytes, not {file.bytes}"
                raise Damaged(f"{folder / name}: {what}", "copy or build the shards again")
        return cls(folder, said)

    @property
    def lengths(self) -> Places:
        """How many tokens each row has, all fields together, int64."""
        return np.sum([field.lengths for field in self.fields.values()], axis=0)

    def prove(self) -> None:
        """Read every file and compare its sha256. Raises Damaged."""
        for name, file in self.description.files.items():
            with (self.folder / name).open("rb") as data:
                if hashlib.file_digest(data, "sha256").hexdigest() != file.sha256:
                    raise Damaged(
                        f"{self.folder / name}: its bytes are not those that were written",
                        "copy or build the shards again",
                    )

    def rows(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The ids of the rows and what else travels with them, row for row."""
        return pq.read_table(self.folder / _ROWS, columns=columns, page_checksum_verification=True)


def opened(folder: str | Path) -> dict[str, Shards]:
    """The shards in a folder, by split: of all splits, or of the one that it is. Raises as `Shards.open`."""
    folder = Path(folder)
    places = [folder] if (folder / NAME).exists() else [folder / split for split in (TRAIN, VALIDATION)]
    found = [Shards.open(place) for place in places if (place / NAME).exists()]
    if not found:
        return {TRAIN: Shards.open(folder)}
    return {shards.description.split: shards for shards in found}


class ShardWriter:
    """Writes rows one after the other into a folder that appears whole, as `writing` hands it out."""

    def __init__(self, folder: Path, fields: Sequence[str], columns: pa.Schema | None = None) -> None:
        self._folder = folder
        self._tokens = {name: _Column(folder / f"{name}.tokens.npy", np.int32) for name in fields}
        self._trained = {name: _Column(folder / f"{name}.trained.npy", np.bool_) for name in fields}
        self._offsets = {name: _Column(folder / f"{name}.offsets.npy", np.int64) for name in fields}
        self._ends: dict[str, list[int]] = {name: [0] for name in fields}  # those that are not written yet
        self._counted = dict.fromkeys(fields, 0)
        self._highest = dict.fromkeys(fields, -1)
        self._columns = columns
        self._others: list[dict[str, Any]] = []
        self._rows: pq.ParquetWriter | None = None
        self._keys = _Column(folder / _KEYS, np.uint64)
        self.count = 0

    def add(self, row: Mapping[str, Any], fields: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]]) -> None:
        """Add a row: `row` has its `id` and what else is kept, `fields` each field's ids and which of them count."""
        for name, (tokens, trained) in fields.items():
            ids, counted = np.asarray(tokens, np.int32), np.asarray(trained, np.bool_)
            if ids.shape != counted.shape or ids.ndim != 1:
                raise ValueError(f"{name}: {ids.shape} ids and {counted.shape} that say which count")
            # As numbers without a sign, those below 0 are the highest of all.
            highest = int(ids.view(np.uint32).max()) if len(ids) else -1
            if highest >= 1 << 31:
                raise ValueError(f"{name}: a token id is below 0, or beyond 31 bits")
            self._tokens[name].write(ids)
            self._trained[name].write(counted)
            self._ends[name].append(self._tokens[name].length)
            self._counted[name] += int(counted.sum())
            self._highest[name] = max(self._highest[name], highest)
        self._others.append(dict(row))
        self.count += 1
        if len(self._others) >= _BUFFER_ROWS:
            self._flush()

    def finish(self, made_from: Mapping[str, Any], counts: Mapping[str, int], split: str = TRAIN) -> Description:
        """Close every file, and write the description. Raises UsageError where there is no row."""
        if not self.count:
            what = "there is nothing to train on" if split == TRAIN else f"there is nothing in the split {split}"
            raise UsageError(f"{what}: no row is left", f"what became of them: {dict(counts)}")
        self._flush()
        assert self._rows is not None
        self._rows.close()
        for column in self._arrays():
            column.close()
        said = Description(
            format=FORMAT,
            key=key_of(made_from),
            made_from=dict(made_from),
            rows=self.count,
            tokens={name: column.length for name, column in self._tokens.items()},
            trained=dict(self._counted),
            counts=dict(counts),
            files={path.name: _stored(path) for path in sorted(self._folder.iterdir())},
            split=split,
            highest=dict(self._highest),
        )
        with (self._folder / NAME).open("xb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(said, order="sorted"), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return said

    def abandon(self) -> None:
        """Close what is open."""
        for column in self._arrays():
            column.abandon()
        if self._rows is not None:
            self._rows.close()

    def _arrays(self) -> "list[_Column]":
        return [*self._tokens.values(), *self._trained.values(), *self._offsets.values(), self._keys]

    def _flush(self) -> None:
        if not self._others:
            return
        table = pa.Table.from_pylist(self._others, schema=self._columns)
        if self._rows is None:
            self._columns = table.schema
            self._rows = pq.ParquetWriter(
                self._folder / _ROWS, table.schema, compression="zstd", write_page_checksum=True
            )
        self._rows.write_table(table)
        self._keys.write(keys_of(table.column("id").to_pylist()))
        for name, ends in self._ends.items():
            self._offsets[name].write(np.array(ends, np.int64))
            ends.clear()
        self._others = []


@contextmanager
def writing(folder: str | Path, fields: Sequence[str], columns: pa.Schema | None = None) -> Iterator[ShardWriter]:
    """A writer of the shards that are to appear at `folder`, once it has finished. Raises LakeError if they are there.

    `columns` are those of the rows, `id` among them; by default what the first rows have.

    Left without `finish`, or by an error, it leaves nothing.
    """
    folder = Path(folder)
    if folder.exists():
        raise LakeError(f"{folder}: there is something here already", "name a new folder")
    scratch = folder.parent / f".{folder.name}.{os.getpid()}.tmp"
    scratch.mkdir(parents=True)
    writer = ShardWriter(scratch, fields, columns)
    try:
        yield writer
        if (scratch / NAME).exists():
            os.rename(scratch, folder)
    finally:
        writer.abandon()
        shutil.rmtree(scratch, ignore_errors=True)


class _Column:
    """A one-dimensional array in NumPy's format that grows while it is written."""

    def __init__(self, path: Path, dtype: npt.DTypeLike) -> None:
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._file: BinaryIO = path.open("xb")
        self.length = 0
        self._begin = self._header()

    def write(self, values: npt.NDArray[Any]) -> None:
        self._file.write(np.ascontiguousarray(values, self._dtype).data)
        self.length += len(values)

    def close(self) -> None:
        self._file.seek(0)
        # NumPy leaves room in the header for the length to grow.
        assert self._header() == self._begin
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def abandon(self) -> None:
        self._file.close()

    def _header(self) -> int:
        said = {"descr": self._dtype.str, "fortran_order": False, "shape": (self.length,)}
        np.lib.format.write_array_header_1_0(self._file, said)
        return self._file.tell()


def _stored(path: Path) -> Stored:
    with path.open("rb") as data:
        os.fsync(data.fileno())
        return Stored(path.stat().st_size, hashlib.file_digest(data, "sha256").hexdigest())
