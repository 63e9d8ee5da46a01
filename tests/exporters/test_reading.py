"""Files of every format, whole and damaged, as a check reads them."""

import gzip
import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporters.formats import Writer
from exporters.validate import Options, validate
from lake.errors import UsageError
from tests.exporters.row_files import ASSISTANT, KTO, PAIR, USER, found, written


@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.gz", "train.jsonl.zst"])
def test_compressed_lines_are_read(tmp_path, name):
    """Lines are counted in the plain text, also across blank ones, in each compression."""
    folder = written(tmp_path / "set", PAIR, b"\n", {**PAIR, "prompt": " "}, name=name)
    assert found(folder) == [(3, "prompt", "empty after stripping")]
    assert validate(folder).rows == 2


def test_frames_one_after_the_other_are_one_file(tmp_path):
    """A zstd file of several frames is read through all of them."""
    folder = tmp_path / "set"
    folder.mkdir()
    frame = zstandard.ZstdCompressor().compress(json.dumps(PAIR).encode() + b"\n")
    (folder / "train.jsonl.zst").write_bytes(frame * 3)
    assert validate(folder).rows == 3


@pytest.mark.parametrize("name", ["train.jsonl.gz", "train.jsonl.zst", "train.parquet"])
@pytest.mark.parametrize("left", [0.6, 0.02])
def test_a_cut_file_is_told(tmp_path, name, left):
    """A file that ends too early is a problem of the file, not a success and not a crash."""
    rows = [{**PAIR, "prompt": f"{number} {hash(str(number))}"} for number in range(5000)]
    folder = written(tmp_path / "set", *rows, name=name)
    path = folder / name
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * left)])
    [problem] = [one for one in validate(folder).problems if one.row is None]
    assert problem.problem.startswith("cannot be read beyond row")


@pytest.mark.parametrize("line", [b"{\n", b"\xff\xfe\n", b"NaN\n", b"[" * 100_000 + b"\n", b'{"a": 1} x\n', b"\x00\n"])
def test_what_is_no_json_is_told_and_the_rest_is_read(tmp_path, line):
    """A line that is no JSON is a problem of that line; those after it are checked."""
    folder = written(tmp_path / "set", PAIR, line, {**PAIR, "chosen": ""})
    (first, _, said), (second, _, _) = found(folder)
    assert (first, second) == (2, 3)
    assert said.startswith("not JSON")


def test_a_line_without_end_is_given_up(tmp_path, monkeypatch):
    """A line beyond all measure is not read into memory."""
    monkeypatch.setattr("exporters.json_texts.LINE_BYTES", 1000)
    folder = written(tmp_path / "set", PAIR, {"text": "x" * 2000})
    [(row, _, said)] = found(folder)
    assert row is None
    assert "line 2 is longer" in said


def test_a_bomb_is_read_in_bounded_pieces(tmp_path):
    """A small file that unpacks to far more without a line end is given up at the longest line allowed."""
    folder = tmp_path / "set"
    folder.mkdir()
    compressor = zstandard.ZstdCompressor().compressobj()
    with (folder / "bomb.jsonl.zst").open("wb") as file:
        for _ in range(100):
            file.write(compressor.compress(bytes(1 << 20)))
        file.write(compressor.flush())
    [(row, _, said)] = found(folder)
    assert row is None
    assert "longer than" in said


def test_a_flipped_bit_in_a_page_is_no_other_text(tmp_path):
    """Where a Parquet file has checksums of its pages, what does not fit them is not taken for rows."""
    path = tmp_path / "a.parquet"
    plain = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    pq.write_table(pa.table({"text": ["lake"]}), path, write_page_checksum=True, **plain)
    assert found(tmp_path) == []
    path.write_bytes(path.read_bytes().replace(b"lake", b"bake", 1))
    [(row, _, said)] = found(tmp_path)
    assert row is None
    assert said.startswith("cannot be read beyond row 0")


def test_parquet_columns_are_rows(tmp_path):
    """Nested columns and columns of JSON are checked as the rows that a trainer sees."""
    folder = tmp_path / "set"
    folder.mkdir()
    good, bad = json.dumps([USER, ASSISTANT]), json.dumps([USER])
    typed = pa.ExtensionArray.from_storage(pa.json_(pa.string()), pa.array([good, bad, "{", None]))
    pq.write_table(pa.table({"messages": typed}), folder / "a.parquet")
    pq.write_table(pa.table({"messages": [[USER, ASSISTANT], [USER]]}), folder / "b.parquet")
    assert [(problem.file, problem.row, problem.problem) for problem in validate(folder).problems] == [
        ("a.parquet", 2, "must be assistant in the last turn"),
        ("a.parquet", 3, "must be a list"),
        ("a.parquet", 4, "missing field"),
        ("b.parquet", 2, "must be assistant in the last turn"),
    ]


def packed(folder, name, rows, kind=np.int32):
    """A file of rows of token ids, in a format of columns, of NumPy or of lines."""
    folder.mkdir(exist_ok=True)
    if name.endswith(".npy"):
        np.save(folder / name, np.array(rows, kind))
    elif name.endswith(".jsonl"):
        written(folder, *({"input_ids": row} for row in rows), name=name)
    else:
        table = pa.table({"input_ids": pa.array(rows, pa.list_(pa.from_numpy_dtype(np.dtype(kind))))})
        if name.endswith(".parquet"):
            pq.write_table(table, folder / name)
        else:
            with pa.ipc.new_file(folder / name, table.schema) as file:
                file.write_table(table)
    return folder


@pytest.mark.parametrize("name", ["a.npy", "a.parquet", "a.arrow", "a.jsonl"])
def test_token_ids_are_checked_in_every_format(tmp_path, name):
    """An id beyond the vocabulary is found in any row of any format, and passes where the vocabulary is larger."""
    rows = [[number % 50, 1, 2] for number in range(3000)]
    rows[2999][1] = 60
    folder = packed(tmp_path / "set", name, rows)
    assert validate(folder, options=Options(vocabulary=61)).ok
    report = validate(folder, options=Options(vocabulary=60))
    assert [(one.row, one.field, one.problem) for one in report.problems] == [
        (3000, "input_ids[1]", "token id 60 out of vocabulary: it has 60")
    ]
    assert (report.shape, report.rows) == ("pretrain", 3000)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.jsonl"])
def test_rows_of_token_ids_are_of_one_length(tmp_path, name):
    """Packed rows are as long as the first, across files too."""
    folder = packed(tmp_path / "set", name, [[1, 2, 3]] * 2000 + [[1, 2]])
    [problem] = validate(folder).problems
    assert (problem.row, problem.problem) == (2001, "must be 3 token ids as in the first row, not 2")
    packed(folder, f"b{name[1:]}", [[1, 2]])
    assert [(one.file[0], one.row) for one in validate(folder).problems] == [("a", 2001), ("b", 1)]


def test_each_split_has_a_length_of_its_own(tmp_path):
    """The splits of a curriculum are packed to different lengths."""
    packed(tmp_path, "train_3-00000-of-00001.npy", [[1, 2, 3]])
    packed(tmp_path, "train_2-00000-of-00001.npy", [[1, 2]])
    assert validate(tmp_path).ok


@pytest.mark.parametrize("array", [np.zeros((2, 3)), np.zeros(3, np.int32), np.array([["x"]], object)])
def test_an_array_of_something_else_is_told(tmp_path, array):
    """An array that is no table of integers is a problem of its file."""
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    [problem] = validate(tmp_path).problems
    assert problem.row is None


def test_an_array_that_is_cut_short_is_told(tmp_path):
    """An array with less in it than it says is a problem of its file."""
    packed(tmp_path, "a.npy", [[1, 2, 3]] * 100)
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-100])
    assert [problem.row for problem in validate(tmp_path).problems] == [None]


@given(
    st.lists(st.lists(st.integers(-1, 70) | st.none(), max_size=4) | st.none(), min_size=1, max_size=6),
    st.sampled_from([None, 60]),
)
@example([[1, -1], [1, 2]], None)
@settings(max_examples=60, deadline=None)
def test_columns_at_once_find_what_rows_find(rows, vocabulary):
    """Token ids that are looked at column by column are told the same as row by row."""
    with tempfile.TemporaryDirectory() as folder:
        packed(Path(folder, "columns"), "a.parquet", rows)
        packed(Path(folder, "rows"), "a.jsonl", rows)
        reports = [
            validate(Path(folder, name), options=Options(shape="pretrain", vocabulary=vocabulary))
            for name in ("columns", "rows")
        ]
    assert len({tuple((one.row, one.field, one.problem) for one in report.problems) for report in reports}) == 1


@pytest.mark.parametrize("name", ["a.json", "a.json.gz", "a.csv", "a.arrow", "a.feather", "a.ndjson"])
def test_other_formats_are_read(tmp_path, name):
    """JSON arrays, CSV and Arrow of both kinds are checked like lines, with the numbers of their rows."""
    rows = [KTO, {**KTO, "label": False}, {**KTO, "completion": " "}]
    table = pa.Table.from_pylist(rows)
    if ".json" in name:
        data = json.dumps(rows, indent=1).encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    elif name == "a.csv":
        (tmp_path / name).write_text("prompt,completion,label\nask,answer,True\nask,answer,True\nask, ,False\n")
    elif name == "a.arrow":
        with pa.ipc.new_stream(tmp_path / name, table.schema) as file:
            file.write_table(table)
    elif name == "a.feather":
        with pa.ipc.new_file(tmp_path / name, table.schema) as file:
            file.write_table(table)
    else:
        written(tmp_path, *rows, name=name)
    report = validate(tmp_path)
    assert report.shape == "kto"
    assert [(one.row, one.field, one.problem) for one in report.problems] == [
        (3, "completion", "empty after stripping")
    ]


def test_a_csv_says_labels_and_margins_as_texts(tmp_path):
    """In a CSV true and false and numbers are texts, and are taken for what they say; others are problems."""
    (tmp_path / "a.csv").write_text('prompt,completion,label\na,b,true\na,b,FALSE\na,b,yes\n"a, b",,true\n')
    assert found(tmp_path) == [(3, "label", "must be true or false"), (4, "completion", "missing field")]
    (tmp_path / "a.csv").write_text("prompt,chosen,rejected,margin\na,b,c,0.5\na,b,c,high\na,b,c,nan\n")
    assert found(tmp_path) == [(2, "margin", "must be a number"), (3, "margin", "must be a number")]


def test_datasets_on_disk_are_read_as_they_name_their_files(tmp_path):
    """A dataset of Hugging Face's is checked split by split; a file that it names and that is gone is told."""
    with Writer(tmp_path, "hf", pa.schema([("text", pa.string())]), splits=("train", "validation")) as writer:
        writer.write(pa.record_batch({"text": ["x", "y"]}))
        writer.write(pa.record_batch({"text": ["x", " "]}), "validation")
        writer.finish()
    report = validate(tmp_path)
    assert [(one.file, one.row) for one in report.problems] == [("validation/data-00000-of-00001.arrow", 2)]
    assert [file.rows for file in report.files] == [2, 2]
    (tmp_path / "train" / "data-00000-of-00001.arrow").unlink()
    with pytest.raises(UsageError, match="missing, and state"):
        validate(tmp_path)
    (tmp_path / "train" / "state.json").write_text("{}")
    with pytest.raises(UsageError, match="_data_files"):
        validate(tmp_path)
