import gzip
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from exporters.encoders import settled, value_bytes
from exporters.formats import FORMATS, LINE, File, Writer, data_files, library_versions, sliced
from lake.errors import UsageError

NAMES = {form: f"data/{{}}-{{:05d}}-of-{{:05d}}.{form}" for form in FORMATS}
NAMES["hf"] = "{}/data-{:05d}-of-{:05d}.arrow"
TEXT = pa.schema([("text", pa.string())])
TEXTS = ["plain", "", "\u2028 and \u0085", "\x00", "\U0001f600"]


def rows(texts: list[str | None]) -> pa.RecordBatch:
    """Rows of a text, with the line that JSON formats write."""
    lines = [json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts]
    return pa.record_batch({"text": pa.array(texts, pa.string()), LINE: pa.array(lines, pa.string())})


def write(
    folder: Path | None, form: str, batches: list[pa.RecordBatch], schema: pa.Schema = TEXT, **more: int
) -> tuple[File, ...]:
    """Write batches as an export does."""
    if folder is not None:
        folder.mkdir()
    with Writer(folder, form, schema, **more) as writer:
        for part in sliced(batches):
            writer.write(part)
        return writer.finish()


def read(path: Path) -> list[object]:
    """The texts of a file, by the plainest reader there is."""
    data = path.read_bytes()
    if path.suffix == ".arrow":
        return pa.ipc.open_stream(data).read_all().column("text").to_pylist()
    if path.suffix == ".parquet":
        return pq.read_table(io.BytesIO(data)).column("text").to_pylist()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    if path.suffix == ".zst":
        data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return [json.loads(line)["text"] for line in data.decode().splitlines()]


def tree(folder: Path) -> set[str]:
    """The paths of all files of a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_written_is_read_back(tmp_path, form):
    """Each format gives back the texts it was given, whatever characters they hold."""
    file, *_ = write(tmp_path / "out", form, [rows(TEXTS)])
    assert file.path == NAMES[form].format("train", 0, 1)
    assert read(tmp_path / "out" / file.path) == TEXTS
    assert file.rows == len(TEXTS)


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_is_described_as_it_is(tmp_path, form):
    """Size and sha256 are those of the bytes on the disk, and the same where nothing is written."""
    files = write(tmp_path / "out", form, [rows(TEXTS * 1000)])
    for file in files:
        data = (tmp_path / "out" / file.path).read_bytes()
        assert (file.bytes, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert {file.path for file in files} == tree(tmp_path / "out")
    assert write(None, form, [rows(TEXTS * 1000)]) == files


@pytest.mark.parametrize("form", FORMATS)
def test_batches_do_not_show_in_the_bytes(form):
    """However the engine cuts its rows into batches, the bytes are the same."""
    whole = rows([f"text {number}" * 9 for number in range(9000)])
    cut = [whole.slice(0, 1), whole.slice(1, 4500), whole.slice(4501, 0), whole.slice(4501)]
    assert write(None, form, cut) == write(None, form, [whole])


@pytest.mark.parametrize("form", FORMATS)
def test_no_rows_are_one_empty_file(tmp_path, form):
    """An empty dataset is a file without rows, not a folder without files."""
    file, *_ = write(tmp_path / "out", form, [])
    assert file.rows == 0
    assert read(tmp_path / "out" / file.path) == []


@pytest.mark.parametrize("form", FORMATS)
def test_large_exports_are_several_files(tmp_path, form):
    """A new file begins once one holds its share of text, and together they hold all rows in order."""
    texts = [f"text {number:06d}" for number in range(10_000)]
    files = [file for file in write(tmp_path / "out", form, [rows(texts)], file_bytes=50_000) if file.rows is not None]
    assert [file.path for file in files] == [
        NAMES[form].format("train", number, len(files)) for number in range(len(files))
    ]
    assert len(files) > 1
    assert [text for file in files for text in read(tmp_path / "out" / file.path)] == texts
    assert sum(file.rows for file in files) == len(texts)


@pytest.mark.parametrize("form", FORMATS)
def test_splits_have_files_of_their_own(tmp_path, form):
    """Rows of several splits, as they come, end in the files of their split, in order; an empty one is there too."""
    with Writer(tmp_path, form, pa.schema([("text", pa.string())]), splits=("train", "validation", "train_512")) as to:
        for number in range(9):
            to.write(rows([f"text {number}"]), "validation" if number % 3 == 0 else None)
        files = {file.path: file.rows for file in to.finish()}
    of = {split: NAMES[form].format(split, 0, 1) for split in ("train", "validation", "train_512")}
    assert {split: files[path] for split, path in of.items()} == {"train": 6, "validation": 3, "train_512": 0}
    assert read(tmp_path / of["validation"]) == ["text 0", "text 3", "text 6"]
    assert read(tmp_path / of["train"])[:2] == ["text 1", "text 2"]
    for split, path in of.items():
        assert [found.relative_to(tmp_path).as_posix() for found in tmp_path.glob(data_files(form, split))] == [path]


def nested(garbage: int) -> pa.RecordBatch:
    """Rows with nulls in every place, over memory that differs under them."""
    bits = pa.py_buffer(bytes([0b101 | garbage << 3 & 0xF8]))
    numbers = pa.Array.from_buffers(pa.int64(), 3, [bits, pa.py_buffer(np.array([1, garbage, 3]).tobytes())])
    flags = pa.Array.from_buffers(pa.bool_(), 3, [None, pa.py_buffer(bytes([0b110 | garbage << 3 & 0xF8]))])
    ends = pa.py_buffer(np.array([0, 1, 2, 3], np.int32).tobytes())
    texts = pa.Array.from_buffers(pa.string(), 3, [bits, ends, pa.py_buffer(b"a%cc" % garbage)])
    turns = pa.StructArray.from_arrays([texts, numbers], names=["role", "n"], mask=pa.array([False, True, False]))
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), turns, mask=pa.array([False, False, True]))
    fixed = pa.FixedSizeListArray.from_arrays(numbers, 1)
    return pa.record_batch({"numbers": numbers, "flags": flags, "texts": texts, "turns": lists, "fixed": fixed})


@pytest.mark.parametrize("form", ["arrow", "hf"])
def test_memory_under_a_null_does_not_show(form):
    """What lies in memory where there is no value is not in the file."""
    files = [write(None, form, [nested(garbage)], schema=nested(1).schema) for garbage in (7, 31)]
    assert nested(7).to_pylist() == nested(31).to_pylist()
    assert files[0] == files[1]


def test_settling_keeps_the_values():
    """Columns with nulls in every place, also cut out of longer ones, have the same values once settled."""
    batch = pa.concat_batches([nested(7), nested(9)] * 4)
    for part in (batch, batch.slice(1, 5), batch.slice(3, 0)):
        for column in part.columns:
            again = settled(column)
            again.validate(full=True)
            assert (again.type, again.to_pylist()) == (column.type, column.to_pylist())


def test_row_groups_are_bounded(monkeypatch, tmp_path):
    """A row group is closed at its share of text, so that no reader has to hold more."""
    monkeypatch.setattr("exporters.encoders.ROW_GROUP_BYTES", 100_000)
    [file] = write(tmp_path / "out", "parquet", [rows(["x" * 100] * 10_000)])
    metadata = pq.ParquetFile(tmp_path / "out" / file.path).metadata
    sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    assert len(sizes) > 1
    assert sum(sizes) == 10_000


def test_lines_are_lines_to_every_reader(tmp_path):
    """Characters that some readers take for a line end are escaped, and come back as they were."""
    [file] = write(tmp_path / "out", "jsonl", [rows(["a\u2028b\u2029c\u0085d"])])
    data = (tmp_path / "out" / file.path).read_bytes()
    assert data.count(b"\n") == len(data.decode().splitlines()) == 1


def test_json_columns_are_json_in_parquet(tmp_path):
    """A column of JSON text says in the file that it is JSON."""
    schema = pa.schema([("value", pa.json_(pa.string()))])
    with Writer(tmp_path, "parquet", schema) as writer:
        writer.write(pa.record_batch({"value": pa.array(['{"a": 1}', None])}))
        [file] = writer.finish()
    assert pq.read_schema(tmp_path / file.path).field("value").type == pa.json_(pa.string())


def test_an_unknown_format_is_refused():
    """A format that there is none of is an error that names those there are."""
    with pytest.raises(UsageError) as refusal:
        Writer(None, "xml", pa.schema([]))
    assert all(form in refusal.value.hint for form in FORMATS)


def test_a_writer_that_is_left_early_closes_its_file(tmp_path):
    """Leaving before the end stops the writing thread and leaves no open file."""
    with Writer(tmp_path, "jsonl", pa.schema([])) as writer:
        for part in sliced([rows(["a"] * 50_000)]):
            writer.write(part)
    assert all(split._sink.closed for split in writer._splits.values())


def test_what_the_thread_meets_is_raised(tmp_path):
    """An error on the writing thread reaches the caller."""
    with Writer(tmp_path, "jsonl", pa.schema([])) as writer:
        (tmp_path / "data").rmdir()
        writer.write(rows(["a"]))
        with pytest.raises(FileNotFoundError):
            writer.finish()


def test_versions_that_matter_are_named():
    """Each compressed or encoded format names the library whose version its bytes depend on; plain text has none."""
    assert {form: sorted(library_versions(form)) for form in FORMATS} == {
        "jsonl": [],
        "jsonl.gz": ["zlib"],
        "jsonl.zst": ["libzstd", "zstandard"],
        "parquet": ["pyarrow"],
        "arrow": ["pyarrow"],
        "hf": ["pyarrow"],
    }


@given(st.lists(st.integers(0, 50), max_size=20), st.integers(1, 30))
def test_slices_hold_the_same_rows(sizes, rows_each):
    """Slices have the wanted size, all but the last, and together the rows in their order."""
    start, batches = 0, []
    for size in sizes:
        batches.append(pa.record_batch({"n": pa.array(range(start, start + size), pa.int64())}))
        start += size
    parts = list(sliced(batches, rows_each))
    assert [value for part in parts for value in part.column("n").to_pylist()] == list(range(start))
    assert all(len(part) == rows_each for part in parts[:-1])
    assert all(0 < len(part) <= rows_each for part in parts)


@given(st.lists(st.lists(st.fixed_dictionaries({"role": st.text(), "n": st.integers(0, 9)}), max_size=3), max_size=9))
def test_size_depends_on_values_alone(values):
    """The size of rows counts their text, however it is nested, stored or sliced."""
    kind = pa.list_(pa.struct([("role", pa.string()), ("n", pa.int64())]))
    texts = [turn["role"] for turns in values for turn in turns]
    expected = sum(len(text.encode()) for text in texts)
    padded = pa.record_batch({"v": pa.array([[{"role": "pad", "n": 1}], *values, None], kind)})
    assert value_bytes(padded.slice(1, len(values))) == expected
