"""Conversions lose nothing."""

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporters.convert import FILES, Options, convert
from exporters.formats import FORMATS
from tests.exporters.row_files import ASSISTANT, USER, got, put

HOLDS_ALL = [form for form in (*FILES, "hf") if form != "csv"]

texts = st.text(st.characters(codec="utf-8"), max_size=8)

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts

values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)

# Now and then all rows are alike, as those of a training set are.
alike = st.fixed_dictionaries(
    {
        "id": st.integers(-(2**63), 2**63 - 1),
        "messages": st.lists(st.fixed_dictionaries({"role": texts, "content": st.none() | texts}), max_size=3),
        "score": st.none() | st.floats(allow_nan=False, allow_infinity=False),
    },
    optional={"label": st.booleans(), "note": st.none() | texts},
)

json_rows = st.lists(st.dictionaries(texts, values, min_size=1, max_size=4), min_size=1, max_size=5) | st.lists(
    alike, min_size=1, max_size=5
)


def through(source: Path, form: str) -> Path:
    """Convert to a format and back to JSON lines."""
    there = source.parent / ("there" if form == "hf" else f"there.{form}")
    convert(source, there)
    back = source.parent / "back.jsonl"
    convert(there, back)
    return back


@pytest.mark.parametrize("form", HOLDS_ALL)
@settings(max_examples=40, deadline=None)
@given(rows=json_rows)
@example(rows=[{"a": 1}, {"a": None}, {"b": 2**64}])
@example(rows=[{"m": [{"r": "", "c": None}]}, {"m": []}, {"m": [{"r": "x", "c": None}] * 2}])
@example(rows=[{"a": []}, {"a": [{}]}, {"": 2**63}])
@example(rows=[{"a": 1}, {"a": 2.5}, {"a": -(2**53) - 1}])
@example(rows=[{"a": "\u2028\u0085\x00", "b": {"c": None}}, {"a": "\ud7ff", "b": None}])
def test_rows_come_back_as_they_were(form, rows):
    """Whatever JSON holds comes back through every format: what is missing, what is null, and every digit."""
    with tempfile.TemporaryDirectory() as folder:
        back = got(through(put(Path(folder, "rows.jsonl"), rows), form))
    assert back == rows
    assert [list(map(type, flat(row))) for row in back] == [
        [
            float if other is float else mine
            for mine, other in zip(map(type, flat(row)), map(type, flat(again)), strict=True)
        ]
        for row, again in zip(rows, back, strict=True)
    ]


def flat(value: object) -> list[object]:
    """The values within a value, in the order of the names."""
    if isinstance(value, dict):
        return [inner for name in sorted(value) for inner in flat(value[name])]
    return [inner for item in value for inner in flat(item)] if isinstance(value, list) else [value]


columns = st.fixed_dictionaries(
    {
        "n": st.none() | st.integers(-(2**59), 2**59),
        "x": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "b": st.none() | st.booleans(),
        "text": st.none() | texts,
    }
)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(columns, min_size=1, max_size=6))
@example(rows=[{"n": 1, "x": -0.0, "b": None, "text": '""\r\n,'}, {"n": None, "x": None, "b": None, "text": None}])
@example(rows=[{"n": None, "x": 1e300, "b": True, "text": "12"}, {"n": 7, "x": None, "b": False, "text": "true"}])
def test_a_csv_keeps_numbers_texts_and_nothing(rows):
    """Columns of plain values come back from a CSV with their types; an empty text is not a missing one."""
    with tempfile.TemporaryDirectory() as folder:
        back = got(through(put(Path(folder, "rows.jsonl"), rows), "csv"))
    assert back == rows
    assert [repr(row["x"]) for row in back] == [repr(row["x"]) for row in rows]


def test_a_single_column_of_a_csv_may_be_empty(tmp_path):
    """A row of nothing in the only column is a row."""
    rows = [{"text": None}, {"text": "x"}, {"text": ""}, {"text": None}]
    assert got(through(put(tmp_path / "rows.jsonl", rows), "csv")) == rows


TYPED = pa.table(
    {
        "id": pa.array([2**62, None], pa.int64()),
        "small": pa.array([1, -1], pa.int8()),
        "half": pa.array([0.5, None], pa.float32()),
        "ids": pa.array([[1, 2], [3, 4]], pa.list_(pa.int32(), 2)),
        "when": pa.array([datetime(2026, 3, 1, 1, 2, 3, 4, UTC), None], pa.timestamp("us", "UTC")),
        "bytes": pa.array([b"\xff", None]),
        "source": pa.array([{"file": "f", "line": 1}, None]),
        "extra": pa.ExtensionArray.from_storage(pa.json_(pa.string()), pa.array(['{"a": 1.10}', None])),
        "nothing": pa.nulls(2),
    }
)


@pytest.mark.parametrize("form", ["parquet", "arrow", "hf"])
def test_columns_keep_their_types(tmp_path, form):
    """Between formats that have columns, types stay to the bit, and so does what the schema says besides."""
    table = TYPED.replace_schema_metadata({"about": "this"})
    pq.write_table(table, tmp_path / "in.parquet")
    out = tmp_path / ("out" if form == "hf" else f"out.{form}")
    convert(tmp_path / "in.parquet", out)
    convert(out, tmp_path / "back.parquet")
    back = pq.read_table(tmp_path / "back.parquet")
    assert back.equals(table)
    assert back.schema.metadata[b"about"] == b"this"


def test_times_and_json_columns_become_text_and_objects(tmp_path):
    """In JSON a time is a text with all of its digits, a column of JSON is what it says, to the letter."""
    table = TYPED.drop_columns(["bytes"])
    pq.write_table(table, tmp_path / "in.parquet")
    convert(tmp_path / "in.parquet", tmp_path / "out.jsonl")
    first, second = got(tmp_path / "out.jsonl")
    assert first["when"] == "2026-03-01T01:02:03.000004Z"
    assert '"extra":{"a": 1.10}' in (tmp_path / "out.jsonl").read_text()
    assert (first["id"], first["source"]) == (2**62, {"file": "f", "line": 1})
    assert set(second) == set(table.column_names)
    assert second["when"] is None


def test_a_time_of_any_zone_is_told_in_one(tmp_path):
    """In JSON a time with a zone is the same moment in UTC, and one without has no zone."""
    moments = [datetime(2026, 7, 1, 12, tzinfo=UTC), None]
    table = pa.table(
        {"at": pa.array(moments, pa.timestamp("ms", "Europe/Berlin")), "then": pa.array([0, 1], pa.timestamp("ms"))}
    )
    pq.write_table(table, tmp_path / "in.parquet")
    convert(tmp_path / "in.parquet", tmp_path / "out.jsonl")
    first, second = got(tmp_path / "out.jsonl")
    assert (first["at"], first["then"]) == ("2026-07-01T12:00:00.000Z", "1970-01-01T00:00:00.000")
    assert second["at"] is None


def test_objects_without_fields_are_counted(tmp_path):
    """Objects that have nothing in them are as many as they were, in a column and in lists."""
    columns = [pa.array([{}, {}], pa.struct([])), pa.array([[{}], [{}, {}]], pa.list_(pa.struct([])))]
    table = pa.table(columns, names=["one", "some"])
    with pa.ipc.new_stream(tmp_path / "in.arrow", table.schema) as file:
        file.write_table(table)
    convert(tmp_path / "in.arrow", tmp_path / "out.arrow")
    with pa.ipc.open_stream(tmp_path / "out.arrow") as file:
        assert file.read_all().to_pylist() == table.to_pylist()


@pytest.mark.parametrize("form", FORMATS)
def test_splits_stay_apart(tmp_path, form):
    """A folder's splits are splits of what is made of it, in the order of the rows."""
    (tmp_path / "in").mkdir()
    for name, first in (("train", 0), ("validation", 100)):
        put(tmp_path / "in" / f"{name}.jsonl", [{"n": first + number} for number in range(9)])
    made = convert(tmp_path / "in", tmp_path / "out", Options(format=form))
    assert made.rows == {"train": 9, "validation": 9}
    convert(tmp_path / "out", tmp_path / "back.jsonl", Options(split="validation"))
    assert [row["n"] for row in got(tmp_path / "back.jsonl")] == list(range(100, 109))


def test_what_was_written_is_told(tmp_path):
    """The outcome is one line: how many rows in which format, and of each split where there are several."""
    for name in ("train", "test"):
        put(tmp_path / f"{name}.jsonl", [{"a": name}] * 1500)
    made = convert(tmp_path, tmp_path / "out")
    assert made.summary == "3,000 rows as hf: train 1,500, test 1,500"
    assert convert(tmp_path, tmp_path / "out.json", Options(split="test")).summary == "1,500 rows as json"


def test_columns_that_some_rows_lack_are_lacking_again(tmp_path):
    """A change of shape from columns sees the row as it was: without what it does not have."""
    rows = [
        {"instruction": "a", "output": "b", "n": 1},
        {"instruction": "a", "output": "b", "input": "c", "system": "s"},
    ]
    put(tmp_path / "in.jsonl", rows)
    convert(tmp_path / "in.jsonl", tmp_path / "there.parquet")
    convert(tmp_path / "in.jsonl", tmp_path / "one.jsonl", Options(shape="messages"))
    convert(tmp_path / "there.parquet", tmp_path / "two.jsonl", Options(shape="messages"))
    assert got(tmp_path / "one.jsonl") == got(tmp_path / "two.jsonl")
    assert ["n" in row for row in got(tmp_path / "two.jsonl")] == [True, False]


def test_dictionaries_and_times_within_objects_are_values(tmp_path):
    """What is stored as a dictionary is its values, and a time within an object is a text too."""
    when = pa.array([{"at": datetime(2026, 1, 2, 3, 4, 5, 600, UTC)}, None])
    role, day = pa.array(["user", None]).dictionary_encode(), pa.array([1, None], pa.date32())
    table = pa.table({"role": role, "when": when, "day": day})
    pq.write_table(table, tmp_path / "in.parquet")
    convert(tmp_path / "in.parquet", tmp_path / "out.jsonl")
    assert got(tmp_path / "out.jsonl") == [
        {"role": "user", "when": {"at": "2026-01-02T03:04:05.000600Z"}, "day": "1970-01-02"},
        {"role": None, "when": None, "day": None},
    ]
    flat_table = table.drop_columns(["when"])
    pq.write_table(flat_table, tmp_path / "flat.parquet")
    convert(tmp_path / "flat.parquet", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == '"role","day"\n"user","1970-01-02"\n,\n'


def test_several_files_are_one_in_order(tmp_path):
    """The files of a split follow one another by name, and numbers in a refusal are those of the file."""
    (tmp_path / "in").mkdir()
    for number in range(3):
        put(tmp_path / "in" / f"train-{number:05d}-of-00003.jsonl.gz", [{"n": number}])
    convert(tmp_path / "in", tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_many_rows_take_little_memory(tmp_path):
    """Chunks of rows follow one another: what Arrow holds at a time does not grow with the rows."""
    peaks = []
    for count in (20_000, 80_000):
        source = put(tmp_path / f"{count}.jsonl", ({"n": n, "text": "x" * 200} for n in range(count)))
        before = pa.default_memory_pool().bytes_allocated()
        peak = 0

        def seen(done: int, total: int | None, before: int = before) -> None:
            nonlocal peak
            peak = max(peak, pa.default_memory_pool().bytes_allocated() - before)

        convert(source, tmp_path / f"{count}.arrow", progress=seen)
        peaks.append(peak)
    assert peaks[1] < peaks[0] * 1.5


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        " [ ] ",
        "[{}]",
        '\ufeff[{"a": 1},\n {"a": "]"}]\n',
        '[{"a":\n 1.10}]',
        '[{"a": "' + "é" * 1_500_000 + '"}, {}]',
    ],
)
def test_arrays_are_read_as_they_are_written(tmp_path, text):
    """Space, marks of byte order, brackets in texts and elements longer than a chunk are read."""
    (tmp_path / "in.json").write_text(text, "utf-8")
    convert(tmp_path / "in.json", tmp_path / "out.jsonl")
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    elements = json.loads(text.removeprefix("\ufeff"), parse_int=str)
    assert [json.loads(line, parse_int=str) for line in lines] == elements


def test_texts_of_a_csv_that_look_like_something_else_stay(tmp_path):
    """What is no plain number stays text, and so does every column that trainers read as text."""
    (tmp_path / "in.csv").write_text(
        "prompt,label,zip,score,n,mixed,empty,serial\n72,True,01234,0.5,1,1,,9999999999999999999\n"
        '73,False,99999,1,2,"a, b",,1\n',
        "utf-8",
    )
    convert(tmp_path / "in.csv", tmp_path / "out.jsonl")
    assert got(tmp_path / "out.jsonl") == [
        {
            "prompt": "72",
            "label": True,
            "zip": "01234",
            "score": 0.5,
            "n": 1,
            "mixed": "1",
            "empty": None,
            "serial": "9" * 19,
        },
        {
            "prompt": "73",
            "label": False,
            "zip": "99999",
            "score": 1.0,
            "n": 2,
            "mixed": "a, b",
            "empty": None,
            "serial": "1",
        },
    ]


def test_token_ids_of_numpy_become_rows(tmp_path):
    """An array of token ids is a column of lists of the same integers."""
    ids = np.arange(12, dtype=np.uint16).reshape(3, 4)
    np.save(tmp_path / "in.npy", ids)
    convert(tmp_path / "in.npy", tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema.field("input_ids").type.value_type == pa.uint16()
    assert table.column("input_ids").to_pylist() == ids.tolist()


@pytest.mark.parametrize("form", ["parquet", "arrow", "csv"])
def test_the_library_makes_the_same_of_it(tmp_path, form, monkeypatch):
    """Plain rows become the table that Hugging Face's library makes of them."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    rows = [{"id": n, "score": n / 3, "text": f"text {n}\n\u2028", "messages": [USER, ASSISTANT]} for n in range(2500)]
    if form == "csv":
        rows = [{name: value for name, value in row.items() if name != "messages"} for row in rows]
    source = put(tmp_path / "in.jsonl", rows)
    theirs = datasets.load_dataset("json", data_files=str(source), split="train")
    convert(source, tmp_path / f"ours.{form}")
    if form == "csv":
        theirs.to_csv(str(tmp_path / "theirs.csv"))
        lines = pa_csv.ParseOptions(newlines_in_values=True)
        ours, other = (pa_csv.read_csv(tmp_path / f"{who}.csv", parse_options=lines) for who in ("ours", "theirs"))
        assert ours.equals(other)
    else:
        convert(tmp_path / f"ours.{form}", tmp_path / "ours_too.parquet")
        theirs.to_parquet(str(tmp_path / "theirs.parquet"))
        other = pq.read_table(tmp_path / "theirs.parquet").select(list(rows[0]))
        assert pq.read_table(tmp_path / "ours_too.parquet").equals(other)


@pytest.mark.parametrize("form", ["parquet", "hf"])
def test_public_files_come_back_as_they_were(public_data, tmp_path, form):
    """Real files, of lines and of arrays, plain and compressed, come back from columns row by row."""
    sources = [path for path in sorted(public_data.rglob("*")) if path.name.endswith((".jsonl", ".jsonl.gz", ".json"))]
    assert sources
    for number, source in enumerate(sources):
        there, back = tmp_path / f"{number}{'' if form == 'hf' else '.parquet'}", tmp_path / f"{number}.jsonl"
        convert(source, tmp_path / f"{number}-plain.jsonl")
        convert(source, there)
        convert(there, back)
        assert got(back) == got(tmp_path / f"{number}-plain.jsonl")
        assert len(got(back)) > 10
