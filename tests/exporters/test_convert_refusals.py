"""What a conversion cannot keep, read or mean is refused, and nothing is left behind."""

import errno
import json
import math
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exporters.convert import Lossy, Options, convert
from lake import LakeError
from lake.errors import UsageError
from tests.exporters.row_files import put


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    """A file in place of a folder is an error of one line."""
    put(tmp_path / "in.jsonl", [{"a": 1}])
    (tmp_path / "file").write_text("x")
    with pytest.raises(LakeError, match="File exists") as refusal:
        convert(tmp_path / "in.jsonl", tmp_path / "file" / "out.jsonl")
    assert refusal.value.hint == "choose a folder that can be written to"


def test_a_disk_without_room_is_told(tmp_path, monkeypatch):
    """What the disk says while rows are written is an error of one line, and nothing is left."""
    put(tmp_path / "in.jsonl", [{"a": 1}])

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LakeError, match="No space left"):
        convert(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize(
    ("rows", "out", "said"),
    [
        ([{"a": 1}, {"a": [1]}], "out.csv", "row 1, field a: a CSV cannot hold JSON"),
        ([{"a": None}, {"a": [1]}], "out.csv", "row 2, field a: a CSV cannot hold a list"),
        ([{"a": None}, {"a": None}, {"a": {"b": 1}}], "out.csv", "row 3, field a: a CSV cannot hold an object"),
        ([{}], "out.parquet", "the rows have no columns"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(tmp_path, rows, out, said):
    """A value without a place in the format is refused by row and field."""
    put(tmp_path / "in.jsonl", rows)
    with pytest.raises(LakeError) as refusal:
        convert(tmp_path / "in.jsonl", tmp_path / out)
    assert said in refusal.value.message
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pa.array([0.5, math.nan]), "row 2, field x: JSON has no NaN"),
        (pa.array([[1.0], [math.inf]]), "row 2, field x: JSON has no NaN"),
        (pa.array([{"a": 1.0}, {"a": -math.inf}]), "row 2, field x: JSON has no NaN"),
        (pa.array([b"x", b"y"]), "column 'x': JSON has no binary"),
        (pa.array([[b"x"], []]), "column 'x': JSON has no binary"),
        (pa.array([{"a": b"x"}, None]), "column 'x': JSON has no binary"),
        (pa.ExtensionArray.from_storage(pa.json_(pa.string()), pa.array(["1", "{"])), "row 2, field x: not the JSON"),
    ],
)
def test_what_json_has_no_text_for_is_refused(tmp_path, column, said):
    """Not a number, bytes, and JSON that is none are not written as something else."""
    pq.write_table(pa.table({"x": column}), tmp_path / "in.parquet")
    with pytest.raises(LakeError) as refusal:
        convert(tmp_path / "in.parquet", tmp_path / "out.jsonl")
    assert said in refusal.value.message
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]


@pytest.mark.parametrize("line", ["{", "NaN", '{"a": 1e999}', '{"a": "\\ud800"}', "[1]", '{"a": 1} x'])
@pytest.mark.parametrize("out", ["out.jsonl", "out.parquet"])
def test_what_is_no_row_is_refused(tmp_path, line, out):
    """A line that is no JSON object is refused by its number, also where lines are only handed on."""
    (tmp_path / "in.jsonl").write_text('{"a": 1}\n\n' + line + "\n")
    with pytest.raises(Lossy, match=r"in.jsonl: row 3"):
        convert(tmp_path / "in.jsonl", tmp_path / out)
    assert not (tmp_path / out).exists()


@pytest.mark.parametrize("text", ["[1", "[{}", "[{},", '[{"a": 1}]x', '[{"a": 1} {"a": 2}]', "[,]", "[" * 100_000])
def test_an_array_that_goes_wrong_is_refused(tmp_path, text):
    """A JSON array that ends too early or is none is not half converted."""
    (tmp_path / "in.json").write_text(text)
    with pytest.raises(Lossy, match=r"in.json: "):
        convert(tmp_path / "in.json", tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_columns_that_are_not_alike_are_refused(tmp_path):
    """Files of columns are one table only where the columns are the same; rows and columns do not mix."""
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"a": [1]}), tmp_path / "in" / "a.parquet")
    pq.write_table(pa.table({"a": ["x"]}), tmp_path / "in" / "b.parquet")
    with pytest.raises(UsageError, match="not the columns of"):
        convert(tmp_path / "in", tmp_path / "out")
    put(tmp_path / "in" / "c.jsonl", [{"a": 1}])
    with pytest.raises(UsageError, match="not of the kind of"):
        convert(tmp_path / "in", tmp_path / "out")
    (tmp_path / "twice.csv").write_text("a,a\n1,2\n")
    with pytest.raises(UsageError, match="two columns are called 'a'"):
        convert(tmp_path / "twice.csv", tmp_path / "out")


@pytest.mark.parametrize("out", ["out.jsonl", "out.parquet", "out"])
def test_what_is_there_already_stays(tmp_path, out):
    """Nothing is written over."""
    put(tmp_path / "in.jsonl", [{"a": 1}])
    convert(tmp_path / "in.jsonl", tmp_path / out)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="here already"):
        convert(tmp_path / "in.jsonl", tmp_path / out)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_who_comes_second_leaves_the_first(tmp_path):
    """A file that appears while another is being written stays as it is."""
    put(tmp_path / "in.jsonl", [{"a": 1}])
    out = tmp_path / "out.jsonl"
    with pytest.raises(UsageError, match="here already"):
        convert(tmp_path / "in.jsonl", out, progress=lambda *_: out.write_text("first"))
    assert out.read_text() == "first"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


@pytest.mark.parametrize(
    ("out", "options", "said"),
    [
        ("out.npy", Options(), "npy is not written"),
        ("out.feather", Options(), "feather is not written"),
        ("out", Options(format="csv"), "a folder cannot be of csv"),
        ("out.csv", Options(format="json"), "the name says csv"),
        ("out.jsonl", Options(split="test"), "there is no split 'test'"),
        ("out.jsonl", Options(shape="messages"), "no shape that is known: only a"),
    ],
)
def test_what_cannot_be_meant_is_a_wrong_use(tmp_path, out, options, said):
    """Names, formats, splits and shapes that do not fit are told before anything is read."""
    put(tmp_path / "in.jsonl", [{"a": 1}])
    with pytest.raises(UsageError) as refusal:
        convert(tmp_path / "in.jsonl", tmp_path / out, options)
    assert said in refusal.value.message
    assert refusal.value.hint


def test_two_splits_are_not_one_file(tmp_path):
    """Two splits go into one file only when one of them is named."""
    for name in ("train", "test"):
        put(tmp_path / f"{name}.jsonl", [{"a": name}])
    with pytest.raises(UsageError, match="cannot hold the splits train, test"):
        convert(tmp_path, tmp_path / "out.jsonl")
    convert(tmp_path, tmp_path / "out.json", Options(split="test"))
    assert json.loads((tmp_path / "out.json").read_text()) == [{"a": "test"}]


@pytest.mark.parametrize("out", ["out.jsonl", "out.parquet", "out.csv", "out"])
@pytest.mark.parametrize(
    "name", ["a.parquet", "a.arrow", "a.csv", "a.npy", "a.jsonl", "a.json", "a.jsonl.gz", "a.jsonl.zst"]
)
@pytest.mark.parametrize("shape", [None, "messages"])
def test_what_is_no_such_file_is_named(tmp_path, name, out, shape):
    """A file of something else than its name says is told by its name, whatever it should become."""
    (tmp_path / name).write_bytes(b"\x8a,\n\x01,\xff,\n" * 100)
    with pytest.raises(LakeError) as refusal:
        convert(tmp_path / name, tmp_path / out, Options(shape=shape))
    assert name in refusal.value.message
    assert "\n" not in refusal.value.message
    assert "pickle" not in refusal.value.message
    assert refusal.value.hint.startswith(("mend the file", "mend the row", "an .npy file"))
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("column", "out"),
    [
        (pa.array([{}, None], pa.struct([])), "out.parquet"),
        (pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])]), "out.csv"),
        (pa.array([(1, 2, 3), None], pa.month_day_nano_interval()), "out"),
        (pa.array(["x", None], pa.string_view()), "out.arrow"),
        (
            pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")]),
            "out.jsonl",
        ),
    ],
)
def test_what_a_library_cannot_write_is_told(tmp_path, column, out):
    """A column that the library has no way to write is refused in one line, with the format, and leaves nothing."""
    table = pa.table({"x": column})
    with pa.ipc.new_stream(tmp_path / "in.arrow", table.schema) as file:
        file.write_table(table)
    with pytest.raises(LakeError) as refusal:
        convert(tmp_path / "in.arrow", tmp_path / out, Options(format="parquet" if out == "out" else None))
    assert "cannot be written as" in refusal.value.message
    assert refusal.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["in.arrow"]


def test_half_a_character_is_called_that(tmp_path):
    """An escape of half a surrogate pair is no text cut short."""
    (tmp_path / "in.jsonl").write_text('{"a": "\\ud800"}\n')
    with pytest.raises(Lossy, match="row 1: not JSON: half of a surrogate pair"):
        convert(tmp_path / "in.jsonl", tmp_path / "out.jsonl")


@pytest.mark.parametrize("places", [("s3://b/in.jsonl", "out.jsonl"), ("in.jsonl", "s3://b/out")])
def test_a_bucket_is_not_taken_for_a_folder(tmp_path, monkeypatch, places):
    """An address of a bucket is refused; no folder of its name appears."""
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "in.jsonl", [{"a": 1}])
    with pytest.raises(UsageError, match="only files of this machine"):
        convert(*places)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_damaged_file_is_refused(tmp_path):
    """A file that is cut short is not converted as far as it goes."""
    path = put(tmp_path / "in.jsonl.zst", [{"a": str(number)} for number in range(5000)])
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(Lossy, match="cannot be read to its end"):
        convert(path, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()
