"""Packed rows as files: documents come in as text, rows of one length or of several go out.

Every length is made of the same documents, in the same order and the same splits: `train_512`, `validation_512`,
`train_1024`, …. Texts are encoded as they come, and their ids kept in a file without a name until the last document is
there, so memory does not grow with the text. Then each length is planned from the documents' lengths alone, and its
rows are written a block at a time.

As NumPy files, a block of rows is `data/train_512-00000-of-00001.npy`, int32 of shape (rows, length), and beside it
lies `….pieces`, a NumPy file too: one record a piece, with its row in that file, `start` and `length` there, and the
document and the `offset` in it. In the other formats a row has columns for all of that.

Not here: how documents are placed (`packing`), and how text becomes ids (`tokenizing`).
"""

import re
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import msgspec
import numpy as np
import pyarrow as pa

from exporters import packing
from exporters.formats import FILE_BYTES, LINE, File, Writer, takes_lines
from exporters.hashed import Hashed
from exporters.packing import Documents, Plan
from exporters.tokenizing import NO_TOKEN, Identity, Specials, Tokenizer, load, revived
from lake import Lake
from lake.errors import UsageError

NPY = "npy"
PIECES = "pieces"
LONGEST_RECOMMENDED = 65_536
# A block of rows holds about so many tokens: a dozen MiB in three columns.
BLOCK_TOKENS = 1 << 20

_PERCENTILES = (50, 75, 90, 95, 99, 100)
_LIMITS = tuple(2048 << step for step in range(6))
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ENCODER = msgspec.json.Encoder()


class Packing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How documents were packed: by which tokenizer, and into rows of which lengths."""

    tokenizer: Identity
    lengths: tuple[int, ...]

    @property
    def words(self) -> list[str]:
        """What to type to pack so again, where the lake keeps the tokenizer."""
        specials = self.tokenizer.specials
        said = {"tokenizer": self.tokenizer.sha256, "eos": specials.eos, "pad": specials.pad}
        named = [f"--{name} {shlex.quote(value)}" for name, value in said.items()]
        return [*named, f"--bos {shlex.quote(specials.bos or NO_TOKEN)}", *(f"--length {one}" for one in self.lengths)]


class PackedCounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What became of the documents of a split in rows of one length.

    `cut` are the documents that stand in more than one place, `padding` the places without a token, and `fill` the
    share of those that have one.
    """

    documents: int
    tokens: int
    pieces: int
    cut: int
    rows: int
    padding: int
    fill: float


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long the documents are, in tokens, those around a text included.

    `percentiles` are lengths that documents have: p99 is the smallest that 99 of 100 do not exceed. `longer` says how
    many documents exceed a length. `recommended` is the power of two at or above p99, at most LONGEST_RECOMMENDED; None
    where there is no document. `unknown` are the tokens that stand for what the vocabulary cannot say.
    """

    documents: int
    tokens: int
    unknown: int
    percentiles: dict[str, int]
    longer: dict[str, int]
    recommended: int | None


def profile(lengths: np.ndarray, unknown: int = 0) -> Profile:
    """The profile of documents of so many tokens each."""
    ordered = np.sort(lengths)
    count = len(ordered)
    said = {f"p{percent}": int(ordered[-(-percent * count // 100) - 1]) if count else 0 for percent in _PERCENTILES}
    longer = {str(limit): count - int(np.searchsorted(ordered, limit, "right")) for limit in _LIMITS}
    fitting = 1 << (max(said["p99"], packing.MIN_LENGTH) - 1).bit_length()
    recommended = min(fitting, LONGEST_RECOMMENDED) if count else None
    return Profile(count, int(ordered.sum()), unknown, said, longer, recommended)


def checked_lengths(lengths: Sequence[int]) -> tuple[int, ...]:
    """The lengths, shortest first. Raises UsageError if there are none, or one is twice there or cannot be."""
    if not lengths:
        raise UsageError("packed rows of which length?", "say --length 2048, once for each length")
    for length in lengths:
        packing.check_length(length)
    if len(set(lengths)) < len(lengths):
        raise UsageError("a length is named twice", "name each length once")
    return tuple(sorted(lengths))


def tokenizer_named(
    lake: Lake, name: str, *, eos: str | None = None, bos: str | None = None, pad: str | None = None
) -> Tokenizer:
    """The tokenizer at a path, as `tokenizing.load` says, or the one that the lake keeps under this sha256.

    One that is kept has its tokens in the receipt of who used it, so they must be named. Raises UsageError.
    """
    if Path(name).exists() or not _DIGEST.fullmatch(name):
        return load(Path(name), eos=eos, bos=bos, pad=pad)
    if eos is None or pad is None:
        raise UsageError("which tokens are eos and pad?", "say --eos and --pad as the receipt has them")
    return revived(lake.get_object(name), Specials(eos=eos, pad=pad, bos=None if bos == NO_TOKEN else bos))


def split_named(split: str, length: int) -> str:
    """What the rows of a split and a length are called."""
    return f"{split}_{length}"


class PackedWriter:
    """Takes documents, slice by slice, and writes their packed rows at the end. Used like `formats.Writer`.

    `provenance` adds, to each row, which documents its pieces are of and where in them they begin; the pieces of NumPy
    files always say so. Without a folder nothing is written, and the files are those that would have been.
    """

    def __init__(
        self,
        folder: Path | None,
        form: str,
        tokenizer: Tokenizer,
        lengths: Sequence[int],
        *,
        splits: Sequence[str] = ("train",),
        provenance: bool = True,
        file_bytes: int = FILE_BYTES,
    ) -> None:
        self._folder = folder
        self._form = form
        self._tokenizer = tokenizer
        self._lengths = checked_lengths(lengths)
        self._file_bytes = file_bytes
        self.schema = _schema(provenance)
        self._rows = (
            None
            if form == NPY
            else Writer(folder, form, self.schema, splits=self.splits(splits), file_bytes=file_bytes)
        )
        self._spools = {split: _Spool(folder) for split in splits}
        self.counts: dict[str, PackedCounts] = {}
        self._unknown = 0
        if form == NPY and folder is not None:
            (folder / "data").mkdir(exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for spool in self._spools.values():
            spool.close()
        if self._rows is not None:
            self._rows.__exit__(kind, error, at)

    def splits(self, splits: Sequence[str]) -> tuple[str, ...]:
        """The names of all splits of rows, in their order."""
        return tuple(split_named(split, length) for length in self._lengths for split in splits)

    @property
    def versions(self) -> dict[str, str]:
        """The libraries, beside those of the format, whose version can change the bytes."""
        return {"numpy": np.__version__, **self._tokenizer.versions}

    @property
    def profile(self) -> Profile:
        """How long the documents are that came so far, of all splits together."""
        return profile(np.concatenate([spool.lengths for spool in self._spools.values()]), self._unknown)

    def write(self, part: pa.RecordBatch, split: str | None = None) -> None:
        """Take the documents of a slice, its columns `id` and `text`, into a split, by default the first."""
        documents = self._tokenizer.encode(part.column("text").to_pylist())
        self._unknown += self._tokenizer.unknown(documents.tokens)
        self._spools[split or next(iter(self._spools))].put(documents, part.column("id").to_pylist())

    def finish(self) -> tuple[File, ...]:
        """Write the rows of all lengths, and say what the files are, split by split."""
        files: list[File] = []
        for length in self._lengths:
            for split, spool in self._spools.items():
                documents = spool.documents()
                made = packing.plan(documents.lengths, length)
                name = split_named(split, length)
                self.counts[name] = _counts(made, len(documents.lengths))
                if self._rows is None:
                    files += self._write_npy(name, made, documents, spool.ids)
                else:
                    self._write_rows(self._rows, name, made, documents, spool.ids)
        return tuple(files) if self._rows is None else self._rows.finish()

    def _write_rows(self, writer: Writer, name: str, made: Plan, documents: Documents, ids: "np.ndarray") -> None:
        for part in _blocks(made):
            rows = packing.fill(part, documents, self._tokenizer.pad)
            writer.write(self._batch(part, rows, ids), name)

    def _batch(self, made: Plan, rows: packing.Tokens, ids: "np.ndarray") -> pa.RecordBatch:
        wide = np.arange(made.rows + 1) * made.length
        columns = {
            "input_ids": _lists(wide, rows.reshape(-1)),
            "labels": _lists(wide, packing.labels(made, rows).reshape(-1)),
            "position_ids": _lists(wide, packing.position_ids(made).reshape(-1)),
            "seq_lengths": _segments(made),
            "document_ids": _lists(made.row_offsets, np.char.decode(ids[made.document], "utf-8").astype(object)),
            "document_offsets": _lists(made.row_offsets, made.offset),
        }
        batch = pa.record_batch([columns[field.name] for field in self.schema], self.schema)
        if not takes_lines(self._form):
            return batch
        lines = [_ENCODER.encode(row).decode() + "\n" for row in batch.to_pylist()]
        return pa.record_batch({LINE: pa.array(lines, pa.string())})

    def _write_npy(self, name: str, made: Plan, documents: Documents, ids: "np.ndarray") -> Iterator[File]:
        each = max(1, self._file_bytes // (4 * made.length))
        count = max(1, -(-made.rows // each))
        for number in range(count):
            part = made.part(number * each, min((number + 1) * each, made.rows))
            place = f"data/{name}-{number:05d}-of-{count:05d}"
            blocks = (packing.fill(block, documents, self._tokenizer.pad) for block in _blocks(part))
            yield self._array(f"{place}.{NPY}", np.dtype("<i4"), (part.rows, part.length), blocks, part.rows)
            pieces = _pieces(part, ids)
            yield self._array(f"{place}.{PIECES}", pieces.dtype, pieces.shape, iter([pieces]), None)

    def _array(
        self, name: str, kind: np.dtype, shape: tuple[int, ...], blocks: "Iterator[np.ndarray]", rows: int | None
    ) -> File:
        """Write one array as NumPy's format 1.0, of which `numpy.load` can map the values into memory."""
        sink = Hashed(None if self._folder is None else self._folder / name)
        try:
            said = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(sink, said)
            for block in blocks:
                sink.write(np.ascontiguousarray(block, kind).tobytes())
            return sink.seal(name, rows)
        finally:
            sink.close()


class _Spool:
    """Documents of one split, in a file that has no name and ends with the process; the folder says on which disk."""

    def __init__(self, folder: Path | None) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  closed by `close`
        self._lengths: list[np.ndarray] = []
        self._ids: list[np.ndarray] = []

    def put(self, documents: Documents, ids: list[str]) -> None:
        self._file.write(documents.tokens.tobytes())
        self._lengths.append(documents.lengths)
        self._ids.append(np.array([one.encode() for one in ids]))

    def close(self) -> None:
        self._file.close()

    @property
    def lengths(self) -> packing.Places:
        return np.concatenate([np.empty(0, np.int64), *self._lengths])

    @property
    def ids(self) -> "np.ndarray":
        return np.concatenate([np.empty(0, "S1"), *self._ids])

    def documents(self) -> Documents:
        self._file.flush()
        offsets = np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64)
        # An empty file cannot be mapped.
        tokens = np.memmap(self._file, np.int32, "r") if offsets[-1] else np.empty(0, np.int32)
        return Documents(tokens, offsets)


def _schema(provenance: bool) -> pa.Schema:
    ids = [(name, pa.list_(pa.int32())) for name in ("input_ids", "labels", "position_ids", "seq_lengths")]
    whence = [("document_ids", pa.list_(pa.string())), ("document_offsets", pa.list_(pa.int64()))]
    return pa.schema([*ids, *(whence if provenance else [])])


def _counts(made: Plan, documents: int) -> PackedCounts:
    cut = int((np.unique(made.document, return_counts=True)[1] > 1).sum())
    return PackedCounts(documents, made.tokens, made.pieces, cut, made.rows, made.padding, round(made.fill, 6))


def _blocks(made: Plan) -> Iterator[Plan]:
    each = max(1, BLOCK_TOKENS // made.length)
    for first in range(0, made.rows, each):
        yield made.part(first, min(first + each, made.rows))


def _pieces(made: Plan, ids: "np.ndarray") -> "np.ndarray":
    columns = {"row": made.row, "start": made.start, "length": made.lengths, "offset": made.offset}
    kinds = [("row", "<i8"), ("start", "<i4"), ("length", "<i4"), ("offset", "<i8"), ("document", ids.dtype.str)]
    pieces = np.empty(made.pieces, kinds)
    for name, values in {**columns, "document": ids[made.document]}.items():
        pieces[name] = values
    return pieces


def _segments(made: Plan) -> pa.Array:
    """The lengths of a row's pieces and, if it has any, of its padding: they add up to the row."""
    lengths = np.concatenate([made.lengths, made.length - made.used])
    rows = np.concatenate([made.row, np.arange(made.rows)])
    order = np.argsort(rows, kind="stable")
    order = order[lengths[order] > 0]
    counts = np.bincount(rows[order], minlength=made.rows)
    return _lists(np.concatenate([[0], np.cumsum(counts)]), lengths[order].astype(np.int32))


def _lists(offsets: "np.ndarray", values: "np.ndarray") -> pa.Array:
    kind = pa.string() if values.dtype == object else None
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values, kind))
