"""Files of rows, ours or anybody's, read in a stream: JSON lines, JSON arrays, CSV, Parquet, Arrow, NumPy.

Which files a folder has, which split each belongs to, and what is in them: as Arrow batches where the file has columns,
as JSON texts where it has rows, and as Python objects for whoever looks at rows one by one. What is held at a time is a
batch, or the longest row.

Not here: what a row should be (`shapes`), nor the receipt of an export (`receipt`).
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from exporters import hugging_face
from exporters.json_texts import said, texts
from lake.errors import UsageError

# By the longest suffix that a name ends in.
SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".jsonl.gz": "jsonl.gz",
    ".jsonl.zst": "jsonl.zst",
    ".json": "json",
    ".json.gz": "json.gz",
    ".json.zst": "json.zst",
    ".csv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".npy": "npy",
}
COLUMNAR = ("csv", "parquet", "arrow", "npy")
BATCH_ROWS = 1024

_CSV_BLOCK = 16 << 20
# What lies beside rows and is none: of exports, of Hugging Face's datasets, models and tokenizers.
_BESIDE = frozenset(
    {
        "receipt.json",
        *("state.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json"),
        *("config.json", "generation_config.json", "package.json"),
        *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "added_tokens.json"),
    }
)
_SHARD = re.compile(r"(?P<split>[\w.]+)-\d{5}-of-\d{5}$")
_SPLITS = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
}
_SPLITS |= {"test": "test", "eval": "test"}


class DataFile(NamedTuple):
    """A file of rows: where it is, what it is called in its folder, its format and its split."""

    path: Path
    name: str
    form: str
    split: str


class Unreadable(msgspec.Struct, frozen=True):
    """A row that cannot be read, and why."""

    why: str


def data_files(root: Path, called: str) -> list[DataFile]:
    """The files of a folder that hold rows, split by split, or the one file named. Raises UsageError if there are none.

    A split is told by the folder of a dataset of Hugging Face's, by `<split>-00000-of-00001`, or by a file that is
    called `train`, `validation`, `test` or as some call these; without any of it, it is `train`.
    """
    if root.is_file():
        found = [_file(root, root.parent, None)] if form_of(root) is not None else []
    else:
        found = _of_datasets(root) or [
            _file(path, root, None) for path in sorted(root.rglob("*")) if path.is_file() and _holds_rows(path)
        ]
    if not found:
        why = "no rows here" if root.exists() else "there is nothing of this name"
        raise UsageError(f"{called}: {why}", f"name a folder with files that end in {', '.join(SUFFIXES)}")
    order = ("train", "validation", "test")
    return sorted(found, key=lambda file: (order.index(file.split) if file.split in order else 3, file.split))


def form_of(path: Path) -> str | None:
    """The format that a file's name tells."""
    name = path.name.lower()
    fitting = [suffix for suffix in SUFFIXES if name.endswith(suffix)]
    return SUFFIXES[max(fitting, key=len)] if fitting else None


def _holds_rows(path: Path) -> bool:
    return form_of(path) is not None and path.name not in _BESIDE and not path.name.startswith(".")


def _file(path: Path, root: Path, split: str | None) -> DataFile:
    form = form_of(path)
    assert form is not None
    stem = path.name[: len(path.name) - max(len(s) for s in SUFFIXES if path.name.lower().endswith(s))]
    shard = _SHARD.match(stem)
    told = shard["split"] if shard is not None else stem
    known = _SPLITS.get(told.lower()) or (told if shard is not None and told != "data" else "train")
    return DataFile(path, path.relative_to(root).as_posix(), form, split or known)


def _of_datasets(root: Path) -> list[DataFile]:
    """The files of a dataset that `save_to_disk` wrote, or of several, in the order in which it names them."""
    found = []
    for state in sorted(root.rglob(hugging_face.STATE)):
        split = "train" if state.parent == root else state.parent.name
        for name in _named(state):
            path = state.parent / name
            if not path.is_file():
                raise UsageError(f"{path}: missing, and {hugging_face.STATE} names it", "copy the folder again")
            found.append(_file(path, root, split))
    return found


class _Named(msgspec.Struct):
    filename: str


class _State(msgspec.Struct):
    files: list[_Named] = msgspec.field(name="_data_files")


def _named(state: Path) -> list[str]:
    try:
        return [file.filename for file in msgspec.json.decode(state.read_bytes(), type=_State).files]
    except msgspec.DecodeError as error:
        raise UsageError(f"{state}: {error}", "this is not what datasets' save_to_disk writes") from None


def schema_of(file: DataFile) -> pa.Schema:
    """The columns of a file that has columns. A CSV's are texts."""
    if file.form == "parquet":
        return pq.read_schema(file.path)
    if file.form == "csv":
        return pa.schema([(name, pa.string()) for name in _csv_names(file.path)])
    if file.form == "npy":
        return pa.schema([("input_ids", pa.list_(pa.from_numpy_dtype(_array(file.path).dtype)))])
    with pa.OSFile(str(file.path)) as source:
        return _arrow_reader(source)[0]


def batches(file: DataFile, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a file that has columns, all of these or those named."""
    if file.form == "parquet":
        with pq.ParquetFile(file.path, page_checksum_verification=True) as parquet:
            yield from parquet.iter_batches(batch_size=BATCH_ROWS, columns=columns)
    elif file.form == "arrow":
        with pa.OSFile(str(file.path)) as source:
            for batch in _arrow_reader(source)[1]:
                for start in range(0, len(batch), BATCH_ROWS):
                    part = batch.slice(start, BATCH_ROWS)
                    yield part if columns is None else part.select(columns)
    elif file.form == "csv":
        for part in _csv(file.path):
            yield part if columns is None else part.select(columns)
    else:
        yield from _npy(file.path)


def rows(file: DataFile) -> Iterator[tuple[int, object]]:
    """The rows of a file of JSON as Python objects, with their numbers from 1; in lines a number is the line's.

    A row that cannot be read is an Unreadable; a file that cannot be gone on with raises.
    """
    for number, text in texts(file.path, file.form):
        try:
            yield number, said(text)
        except ValueError as error:
            yield number, Unreadable(str(error))


def objects(batch: pa.RecordBatch) -> list[dict[str, object]]:
    """The rows of a batch as Python objects; columns of JSON as what they say."""
    json = [field.name for field in batch.schema if isinstance(field.type, pa.JsonType)]
    found: list[dict[str, object]] = batch.to_pylist()
    for name in json:
        for row in found:
            row[name] = _decoded(row[name])
    return found


def _decoded(text: object) -> object:
    try:
        return msgspec.json.decode(text) if isinstance(text, str) else text
    except (msgspec.DecodeError, RecursionError):
        return text


def _arrow_reader(source: pa.NativeFile) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """An Arrow file of either kind: a stream, as datasets writes it, or one with a footer."""
    try:
        stream = pa.ipc.open_stream(source)
    except pa.ArrowInvalid:
        footed = pa.ipc.open_file(source)
        return footed.schema, (footed.get_batch(number) for number in range(footed.num_record_batches))
    return stream.schema, iter(stream)


def _csv_names(path: Path) -> list[str]:
    with _csv_reader(path, None) as reader:
        names = reader.schema.names
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"{path}: two columns are called {twice!r}", "give each column a name of its own")
    return names


def _csv(path: Path) -> Iterator[pa.RecordBatch]:
    with _csv_reader(path, _csv_names(path)) as reader:
        for batch in reader:
            for start in range(0, len(batch), BATCH_ROWS):
                yield batch.slice(start, BATCH_ROWS)


def _csv_reader(path: Path, names: list[str] | None) -> pa_csv.CSVStreamingReader:
    """All columns as texts: an empty one that is quoted is a text, one that is not is none."""
    return pa_csv.open_csv(
        path,
        # Without names only the header is wanted; types then do not matter.
        read_options=pa_csv.ReadOptions(block_size=_CSV_BLOCK, use_threads=False),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=names is None or len(names) > 1),
        convert_options=pa_csv.ConvertOptions(
            column_types=None if names is None else dict.fromkeys(names, pa.string()),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        ),
    )


def _npy(path: Path) -> Iterator[pa.RecordBatch]:
    array = _array(path)
    count, length = array.shape
    for start in range(0, count, BATCH_ROWS):
        part = np.ascontiguousarray(array[start : start + BATCH_ROWS])
        offsets = np.arange(0, part.size + 1, length, dtype=np.int32) if length else np.zeros(len(part) + 1, np.int32)
        ids = pa.ListArray.from_arrays(pa.array(offsets), pa.array(part.reshape(-1)))
        yield pa.record_batch({"input_ids": ids})


def _array(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        # Of anything else the library says that it might be unpickled.
        if file.read(len(np.lib.format.MAGIC_PREFIX)) != np.lib.format.MAGIC_PREFIX:
            raise UsageError(f"{path}: this is no .npy file", "an .npy file of token ids is wanted")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UsageError(f"{path}: {error}", "an .npy file of token ids is wanted") from None
    if array.ndim != 2 or array.dtype.kind not in "iu":
        raise UsageError(
            f"{path}: {array.dtype} of shape {array.shape}", "token ids are integers of shape (rows, length)"
        )
    return array
