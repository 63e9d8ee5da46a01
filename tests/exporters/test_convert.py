"""Conversions lose nothing, refuse what they would lose, and leave nothing behind where they refuse."""

import errno
import gzip
import json
import math
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporters.convert import FILES, Lossy, Options, convert
from exporters.formats import FORMATS
from exporters.validate import validate
from lake import LakeError
from lake.errors import UsageError

USER, ASSISTANT = {"role": "user", "content": "ask"}, {"role": "assistant", "content": "answer"}
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


def put(path: Path, rows: object) -> Path:
    """Rows as JSON lines, compressed as the name says."""
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    if path.suffix == ".gz":
        data = gzip.compress(data)
    path.write_bytes(zstandard.compress(data) if path.suffix == ".zst" else data)
    return path


def got(path: Path) -> list[object]:
    """The rows of JSON lines."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


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


def test_pairs_of_turns_become_whole_conversations(tmp_path):
    """Explicit pairs, those with a margin too, become implicit ones and come back."""
    row = {"prompt": [USER], "chosen": [ASSISTANT], "rejected": [{**ASSISTANT, "content": "no"}], "margin": 0.5}
    put(tmp_path / "in.jsonl", [row])
    convert(tmp_path / "in.jsonl", tmp_path / "there.arrow", Options(shape="preference-implicit"))
    convert(tmp_path / "there.arrow", tmp_path / "back.jsonl", Options(shape="preference"))
    assert got(tmp_path / "back.jsonl") == [row]


@pytest.mark.parametrize(
    ("table", "target", "said"),
    [
        (pa.table({"messages": [[USER, ASSISTANT]], "prompt": ["x"]}), "prompt-completion", "would be overwritten"),
        (pa.table({"content": ["x"]}), "messages", "rows of document do not become messages"),
        (pa.table({"chosen": ["x"], "rejected": ["y"]}), "messages", "rows of preference-implicit do not become"),
        (pa.table([["x"], ["y"]], names=["a", "a"]), None, "two columns are called 'a'"),
        (pa.table({"a": pa.array([[datetime(2026, 1, 1, tzinfo=UTC)]])}), None, "JSON has no timestamp"),
    ],
)
def test_columns_without_a_way_are_refused(tmp_path, table, target, said):
    """Columns that would be overwritten, shapes without a step between them, names that come twice."""
    pq.write_table(table, tmp_path / "in.parquet")
    with pytest.raises(LakeError) as refusal:
        convert(tmp_path / "in.parquet", tmp_path / "out.jsonl", Options(shape=target))
    assert said in refusal.value.message
    assert refusal.value.hint


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


DIALOGUE = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"
RESHAPED = [
    (
        "sharegpt",
        {
            "conversations": [
                {"from": "human", "value": "ask"},
                {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'},
                {"from": "observation", "value": "seen"},
                {"from": "gpt", "value": "answer", "weight": 1},
            ],
            "system": "be",
            "tools": "[]",
        },
        "messages",
        {
            "messages": [
                {"role": "system", "content": "be"},
                USER,
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}],
                },
                {"role": "tool", "content": "seen"},
                {**ASSISTANT, "weight": 1},
            ],
            "tools": "[]",
        },
    ),
    (
        "alpaca",
        {"instruction": "ask", "input": "this", "output": "answer", "system": "be", "history": [["a", "b"]], "n": 1},
        "messages",
        {
            "messages": [
                {"role": "system", "content": "be"},
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b"},
                {"role": "user", "content": "ask\nthis"},
                ASSISTANT,
            ],
            "n": 1,
        },
    ),
    (
        "alpaca",
        {"instruction": "ask", "input": "", "output": "answer"},
        "prompt-completion",
        {"prompt": [USER], "completion": [ASSISTANT]},
    ),
    (
        "instruction",
        {"instruction": "ask", "context": None, "response": "answer"},
        "messages",
        {"messages": [USER, ASSISTANT]},
    ),
    ("prompt-completion", {"prompt": "ask", "completion": "answer"}, "messages", {"messages": [USER, ASSISTANT]}),
    ("prompt-completion", {"prompt": [USER], "completion": [ASSISTANT]}, "messages", {"messages": [USER, ASSISTANT]}),
    (
        "messages",
        {"messages": [{"role": "system", "content": "be"}, USER, ASSISTANT]},
        "sharegpt",
        {
            "conversations": [
                {"from": "system", "value": "be"},
                {"from": "human", "value": "ask"},
                {"from": "gpt", "value": "answer"},
            ]
        },
    ),
    (
        "preference-implicit",
        {"chosen": [USER, ASSISTANT], "rejected": [USER, {**ASSISTANT, "content": "no"}], "margin": 1},
        "preference",
        {"prompt": [USER], "chosen": [ASSISTANT], "rejected": [{**ASSISTANT, "content": "no"}], "margin": 1},
    ),
    (
        "preference-implicit",
        {"chosen": f"{DIALOGUE} d", "rejected": f"{DIALOGUE} e"},
        "preference",
        {"prompt": DIALOGUE, "chosen": " d", "rejected": " e"},
    ),
]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize("case", RESHAPED)
def test_shapes_become_one_another(tmp_path, form, case):
    """Each row becomes the same row of the other shape, whether it comes from JSON or from columns."""
    source, row, target, expected = case
    path = put(tmp_path / "in.jsonl", [row])
    if form == "parquet":
        path = tmp_path / "in.parquet"
        convert(tmp_path / "in.jsonl", path)
    made = convert(path, tmp_path / "out.jsonl", Options(shape=target))
    assert got(tmp_path / "out.jsonl") == [expected]
    assert made.source == source
    if target != "sharegpt":
        assert validate(tmp_path / "out.jsonl").ok


@pytest.mark.parametrize(
    ("there", "back"),
    [("prompt-completion", "messages"), ("sharegpt", "messages"), ("preference", "preference-implicit")],
)
def test_shapes_come_back(tmp_path, there, back):
    """What went from turns to another shape, or from whole dialogues to pairs, comes back as it was."""
    row = {"chosen": f"{DIALOGUE} d", "rejected": f"{DIALOGUE} e"}
    if there != "preference":
        row = {"messages": [USER, ASSISTANT, USER, ASSISTANT]}
    put(tmp_path / "in.jsonl", [row])
    convert(tmp_path / "in.jsonl", tmp_path / "there.parquet", Options(shape=there))
    convert(tmp_path / "there.parquet", tmp_path / "back.jsonl", Options(shape=back))
    assert got(tmp_path / "back.jsonl") == [row]


def test_a_shape_that_it_has_already_is_left(tmp_path):
    """Rows of the shape that is asked for stay to the letter."""
    (tmp_path / "in.jsonl").write_text('{"text": "a",  "n": 1.10}\n')
    with pytest.raises(UsageError, match="nothing becomes"):
        convert(tmp_path / "in.jsonl", tmp_path / "out.jsonl", Options(shape="text"))
    (tmp_path / "in.jsonl").write_text('{"prompt": "a",  "completion": "b", "n": 1.10}\n')
    convert(tmp_path / "in.jsonl", tmp_path / "out.jsonl", Options(shape="prompt-completion"))
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "in.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("row", "target", "said"),
    [
        (
            {"conversations": [{"from": "robot", "value": "x"}]},
            "messages",
            "field conversations[0].from: must be one of",
        ),
        ({"conversations": []}, "messages", "field conversations: must be a list of at least one turn"),
        ({"conversations": ["x"]}, "messages", "field conversations[0]: must be an object"),
        (
            {"conversations": [{"from": "gpt", "value": 1}]},
            "messages",
            "field conversations[0].value: must be a string",
        ),
        ({"conversations": [{"from": "function_call", "value": "x"}]}, "messages", "JSON text of a call"),
        ({"conversations": [{"from": "function_call", "value": "[1]"}]}, "messages", "JSON text of a call"),
        ({"conversations": [{"from": "gpt", "value": "x", "role": "user"}]}, "messages", "beside 'from' and 'value'"),
        (
            {"conversations": [{"from": "system", "value": "x"}], "system": "y"},
            "messages",
            "begins with one of its own",
        ),
        ({"conversations": [{"from": "gpt", "value": "x"}], "messages": []}, "messages", "would be overwritten"),
        ({"instruction": "x", "output": 3}, "messages", "field output: must be a string"),
        ({"instruction": None, "output": "x"}, "messages", "field instruction: missing field"),
        ({"instruction": "x", "output": "y", "history": "z"}, "messages", "field history: must be a list"),
        ({"instruction": "x", "output": "y", "history": [["z"]]}, "messages", "field history[0]: must be two texts"),
        ({"messages": [USER]}, "prompt-completion", "must end with a turn of the assistant"),
        ({"messages": [USER, ASSISTANT], "prompt": "p"}, "prompt-completion", "field prompt: is there already"),
        ({"messages": "x"}, "prompt-completion", "field messages: must be a list of turns"),
        ({"messages": [{"role": "user"}]}, "sharegpt", "must have a role and a content"),
        ({"messages": [{**ASSISTANT, "tool_calls": []}]}, "sharegpt", "says more than a role and a text"),
        ({"messages": [{"role": "developer", "content": "x"}]}, "sharegpt", "must be a text of"),
        ({"chosen": [USER, ASSISTANT], "rejected": [ASSISTANT]}, "preference", "the prompts differ"),
        ({"chosen": "Human: a Assistant: b", "rejected": "Human: z Assistant: c"}, "preference", "the prompts differ"),
        ({"chosen": "The sky is", "rejected": "The sea is"}, "preference", "no 'Assistant:'"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "preference-implicit", "must end with the only 'Assistant:'"),
        (
            {"prompt": [USER], "chosen": [ASSISTANT, {**ASSISTANT, "content": "x"}], "rejected": [ASSISTANT]},
            "preference-implicit",
            "say something else",
        ),
        (
            {"chosen": [{**USER, "content": "ask "}, ASSISTANT], "rejected": [USER, {**ASSISTANT, "content": "no"}]},
            "preference",
            "the space around a text",
        ),
    ],
)
def test_what_would_be_lost_is_refused(tmp_path, row, target, said):
    """A row with no place in the other shape is refused by file, row and field, and nothing is written."""
    put(tmp_path / "in.jsonl", [row])
    with pytest.raises(Lossy) as refusal:
        convert(tmp_path / "in.jsonl", tmp_path / "out.jsonl", Options(shape=target))
    assert refusal.value.message.startswith("in.jsonl: row 1, field ")
    assert said in refusal.value.message
    assert refusal.value.exit_code == 1
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


def test_texts_of_a_csv_that_look_like_something_else_stay(tmp_path):
    """What is no plain number stays text, and so does every column that trainers read as text."""
    (tmp_path / "in.csv").write_text(
        'prompt,label,zip,score,n,mixed,empty\n72,True,01234,0.5,1,1,\n73,False,99999,1,2,"a, b",\n', "utf-8"
    )
    convert(tmp_path / "in.csv", tmp_path / "out.jsonl")
    assert got(tmp_path / "out.jsonl") == [
        {"prompt": "72", "label": True, "zip": "01234", "score": 0.5, "n": 1, "mixed": "1", "empty": None},
        {"prompt": "73", "label": False, "zip": "99999", "score": 1.0, "n": 2, "mixed": "a, b", "empty": None},
    ]


def test_token_ids_of_numpy_become_rows(tmp_path):
    """An array of token ids is a column of lists of the same integers."""
    ids = np.arange(12, dtype=np.uint16).reshape(3, 4)
    np.save(tmp_path / "in.npy", ids)
    convert(tmp_path / "in.npy", tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema.field("input_ids").type.value_type == pa.uint16()
    assert table.column("input_ids").to_pylist() == ids.tolist()


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


def test_a_damaged_file_is_refused(tmp_path):
    """A file that is cut short is not converted as far as it goes."""
    path = put(tmp_path / "in.jsonl.zst", [{"a": str(number)} for number in range(5000)])
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(Lossy, match="cannot be read to its end"):
        convert(path, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


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
