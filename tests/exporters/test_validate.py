import gzip
import json
import re
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.export import export, verify
from exporters.formats import Writer
from exporters.plan import Options as Exporting
from exporters.shapes import SHAPES
from exporters.validate import SHOWN, Options, validate, vocabulary_of
from lake.errors import UsageError

USER = {"role": "user", "content": "ask"}
ASSISTANT = {"role": "assistant", "content": "answer"}
PAIR = {"prompt": "ask", "chosen": "good", "rejected": "bad"}


def written(folder, *rows, name="train.jsonl"):
    """A folder with one file of rows; a row of bytes is written as it is."""
    folder.mkdir(exist_ok=True)
    data = b"".join(row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows)
    if name.endswith(".gz"):
        data = gzip.compress(data)
    if name.endswith(".zst"):
        data = zstandard.ZstdCompressor(write_checksum=True).compress(data)
    (folder / name).write_bytes(data)
    return folder


def found(folder):
    """Row, field and text of each problem."""
    return [(problem.row, problem.field, problem.problem) for problem in validate(folder).problems]


@pytest.mark.parametrize(
    ("shape", "row"),
    [
        ("messages", {"messages": [USER, ASSISTANT]}),
        ("messages", {"messages": [{"role": "system", "content": "be"}, USER, ASSISTANT], "prompt": "ignored"}),
        ("messages", {"messages": [USER, {"role": "assistant", "tool_calls": [{"id": "1"}]}]}),
        ("messages", {"messages": [USER, {"role": "assistant", "content": [{"type": "text", "text": "x"}]}]}),
        ("prompt-completion", {"prompt": "ask", "completion": "answer"}),
        ("prompt-completion", {"prompt": [USER], "completion": [ASSISTANT]}),
        ("preference", PAIR),
        ("preference", {"prompt": [USER], "chosen": [ASSISTANT], "rejected": [{**ASSISTANT, "content": "other"}]}),
        ("instruction", {"instruction": "i", "context": "", "response": "r"}),
        ("document", {"id": "rag-1", "content": "known"}),
        ("text", {"text": "running text"}),
    ],
)
def test_every_shape_is_known_and_passes(tmp_path, shape, row):
    """A row of each shape that trainers take is recognised, and nothing is wrong with it."""
    report = validate(written(tmp_path / "set", row))
    assert (report.shape, report.rows, report.problems) == (shape, 1, ())
    assert report.ok
    assert not report.receipt


@pytest.mark.parametrize(
    ("row", "field", "problem"),
    [
        ({"messages": None}, "messages", "missing field"),
        ({"messages": "ask"}, "messages", "must be a list"),
        ({"messages": []}, "messages", "must be a list of at least one turn"),
        ({"messages": ["ask"]}, "messages[0]", "must be an object"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "missing field"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing field"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content", "must be a string or a list"),
        ({"messages": [USER]}, "messages[0].role", "must be assistant in the last turn"),
        ({"messages": [USER, {**ASSISTANT, "content": "\u00a0"}]}, "messages[1].content", "empty after stripping"),
        ({"messages": [USER, {**ASSISTANT, "content": []}]}, "messages[1].content", "empty after stripping"),
        ({"prompt": "ask", "chosen": "good"}, "rejected", "missing field"),
        (
            {"chosen": "good", "rejected": "bad"},
            "prompt",
            "missing field, and 'chosen' and 'rejected' do not begin alike",
        ),
        ({"prompt": None, "chosen": "good", "rejected": "bad"}, "prompt", "missing field"),
        ({**PAIR, "chosen": [ASSISTANT]}, "chosen", "must be a string, as 'prompt' is"),
        ({**PAIR, "prompt": [USER]}, "chosen", "must be a list, as 'prompt' is"),
        ({**PAIR, "chosen": 3}, "chosen", "must be a string or a list"),
        ({**PAIR, "rejected": " "}, "rejected", "empty after stripping"),
        ({**PAIR, "rejected": "good\n"}, "rejected", "the same text as 'chosen' after stripping"),
        (
            {"prompt": [USER], "chosen": [ASSISTANT], "rejected": [{"content": "answer ", "role": "assistant"}]},
            "rejected",
            "the same text as 'chosen' after stripping",
        ),
        ({"prompt": "", "completion": "x"}, "prompt", "empty after stripping"),
        ({"prompt": "x", "completion": []}, "completion", "must be a list of at least one turn"),
        ({"instruction": "i", "response": " "}, "response", "empty after stripping"),
        ({"content": ["known"]}, "content", "must be a string"),
        ({"text": ""}, "text", "empty after stripping"),
        ({"ids": [1]}, None, "no column that a trainer reads, only ids"),
        ({}, None, "no column that a trainer reads, only none"),
        (["a"], None, "a row must be an object"),
    ],
)
def test_every_fault_has_its_text(tmp_path, row, field, problem):
    """What is wrong is told with the field and in words that say what it should be."""
    [(number, where, said)] = found(written(tmp_path / "set", row))
    assert (number, where) == (1, field)
    assert said == problem


def test_an_unknown_role_names_those_there_are(tmp_path):
    """A role that no template knows is refused with the list of those that are known."""
    [(_, where, said)] = found(written(tmp_path / "set", {"messages": [{"role": "robot", "content": "x"}, ASSISTANT]}))
    assert where == "messages[0].role"
    assert all(role in said for role in ("system", "user", "assistant", "tool", "developer"))


def test_every_row_is_checked(tmp_path):
    """A fault in the last of many rows is found, with its number."""
    folder = written(tmp_path / "set", *[PAIR] * 5000, {**PAIR, "chosen": ""})
    assert found(folder) == [(5001, "chosen", "empty after stripping")]


def test_the_first_row_says_the_shape(tmp_path):
    """A row of another shape than the first is a fault, in the same file or the next."""
    folder = written(tmp_path / "set", PAIR, {"messages": [USER, ASSISTANT]})
    written(folder, {"text": "x"}, name="more.jsonl")
    assert {(problem.file, problem.row) for problem in validate(folder).problems} == {
        ("train.jsonl", 1),
        ("train.jsonl", 2),
    }


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


def test_repeated_ids_are_told(tmp_path):
    """An id that comes twice, in whichever files, is a problem of the set."""
    folder = written(tmp_path / "set", {**PAIR, "id": "a"}, {**PAIR, "id": "b"})
    written(folder, {**PAIR, "id": "a"}, name="more.jsonl")
    assert found(folder) == [(None, "id", "1 rows repeat the id of another")]


def test_many_problems_are_counted_and_some_shown(tmp_path):
    """The report holds the first problems and the count of all."""
    report = validate(written(tmp_path / "set", PAIR, *[{**PAIR, "chosen": ""}] * 500))
    assert (report.found, len(report.problems)) == (500, SHOWN)
    assert report.files[0].problems == 500
    assert f"500 problems, the first {SHOWN} shown" in report.summary


def test_a_single_file_can_be_checked(tmp_path):
    """Naming a file checks that file alone."""
    folder = written(tmp_path / "set", PAIR)
    written(folder, {"text": ""}, name="other.jsonl")
    report = validate(folder / "train.jsonl")
    assert [file.file for file in report.files] == ["train.jsonl"]
    assert report.ok


def test_progress_is_told(tmp_path):
    """Progress is told the rows read so far."""
    seen = []
    validate(written(tmp_path / "set", *[PAIR] * 3000), lambda done, total: seen.append((done, total)))
    assert seen == [(1024, None), (2048, None)]


@pytest.mark.parametrize("name", ["nothing", "text.txt"])
def test_nothing_to_validate_is_a_wrong_use(tmp_path, name):
    """A folder without rows, a file of another kind, or no folder at all is refused, with what would do."""
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises(UsageError) as refusal:
        validate(tmp_path / name)
    assert ".jsonl" in refusal.value.hint


@pytest.mark.parametrize(
    ("dataset", "options"),
    [
        ("sft", Exporting()),
        ("sft", Exporting(shape="prompt-completion", format="parquet")),
        ("sft", Exporting(shape="instruction", format="jsonl.gz")),
        ("rag", Exporting(format="jsonl.zst")),
        ("preference", Exporting(format="parquet")),
        ("preference", Exporting(format="hf")),
        ("sft", Exporting(format="hf", val=0.3)),
        ("rag", Exporting(format="arrow", val=0.3)),
        ("preference", Exporting(shape="plain", provenance=False)),
    ],
)
def test_what_the_lake_exports_is_valid(filled, tmp_path, dataset, options):
    """An export passes, in every shape and format, and so does its receipt."""
    made = export(filled, dataset, tmp_path / "out", options)
    report = validate(tmp_path / "out")
    assert report.ok, report.problems
    assert report.receipt
    assert report.rows == made.rows
    assert "its receipt: nothing wrong" in report.summary


def test_a_receipt_is_held_against_the_files(filled, tmp_path):
    """Beside a receipt, files that changed, are gone or were added are problems; a broken receipt is one itself."""
    out = tmp_path / "out"
    export(filled, "rag", out)
    (out / "README.md").unlink()
    (out / "data" / "more.jsonl").write_text('{"content": "x"}\n')
    [path] = out.glob("data/train-*")
    path.write_bytes(path.read_bytes() + b"\n")
    assert {(problem.file, problem.problem) for problem in validate(out).problems} == {
        ("README.md", "missing, and the receipt names it"),
        ("data/more.jsonl", "not in the receipt"),
        (path.relative_to(out).as_posix(), "not the bytes that the receipt names"),
    }
    (out / "receipt.json").write_text("{}")
    [problem] = validate(out).problems
    assert problem.file == "receipt.json"


CALL = {"type": "function", "id": "c1", "function": {"name": "run", "arguments": {"x": 1}}}
STEP = {"role": "assistant", "content": None, "tool_calls": [CALL]}
SEEN = {"role": "tool", "tool_call_id": "c1", "content": "ok"}
MUTATION = {"buggy_code": "a - b", "error_message": "1 != 3", "fixed_code": "a + b", "repo": "r", "file": "f.py"}
TASK = {"description": "Add.", "starter_code": "", "tests": "assert add(1, 2) == 3"}
KTO = {"prompt": "ask", "completion": "answer", "label": True}
WHOLE = {"chosen": [USER, ASSISTANT], "rejected": [USER, {**ASSISTANT, "content": "no"}]}
HUMAN = "\n\nHuman: a\n\nAssistant:"


@pytest.mark.parametrize(
    ("shape", "row"),
    [
        ("kto", KTO),
        ("kto", {**KTO, "prompt": [USER], "completion": [ASSISTANT], "label": False}),
        ("ipo", {**PAIR, "margin": 0.5}),
        ("preference-implicit", WHOLE),
        ("preference-implicit", {**WHOLE, "margin": 1}),
        ("preference-implicit", {"chosen": f"{HUMAN} b", "rejected": f"{HUMAN} c"}),
        ("preference-implicit", {"chosen": "The sky is blue.", "rejected": "The sky is green."}),
        ("pretrain", {"input_ids": [0, 2**31 - 1]}),
        ("pretrain", {"input_ids": [5, 6], "labels": [-100, 6], "attention_mask": [1, 1]}),
        ("mutations", MUTATION),
        ("grpo", TASK),
        ("grpo", {**TASK, "tests": ["assert True"], "prompt": [USER]}),
        ("eval", {"description": "Add.", "tests": "assert True"}),
        ("eval", {"description": "1 + 1?", "starter_code": "", "tests": None, "answer": "2"}),
        ("alpaca", {"instruction": "i", "input": "", "output": "o"}),
        ("prompts", {"prompt": [USER]}),
        ("text", {"text": "a film", "label": 1}),
    ],
)
def test_more_shapes_are_known(tmp_path, shape, row):
    """Each other shape is recognised by its columns, and a row of it passes."""
    report = validate(written(tmp_path / "set", row))
    assert (report.shape, report.problems) == (shape, ())


@pytest.mark.parametrize(
    ("row", "field", "problem"),
    [
        ({**KTO, "label": 1}, "label", "must be true or false"),
        ({**KTO, "label": "true"}, "label", "must be true or false"),
        ({**KTO, "completion": ""}, "completion", "empty after stripping"),
        ({**KTO, "completion": [ASSISTANT]}, "completion", "must be a string, as 'prompt' is"),
        ({**PAIR, "margin": "0.5"}, "margin", "must be a number"),
        ({**PAIR, "margin": True}, "margin", "must be a number"),
        ({**PAIR, "margin": 1, "rejected": "good"}, "rejected", "the same text as 'chosen' after stripping"),
        ({**WHOLE, "chosen": []}, "chosen", "must be a list of at least one turn"),
        ({**WHOLE, "chosen": "x"}, "rejected", "must be of the type that 'chosen' is"),
        ({**WHOLE, "chosen": WHOLE["rejected"]}, "rejected", "the same text as 'chosen' after stripping"),
        (
            {**WHOLE, "chosen": [{**USER, "content": "other"}, ASSISTANT]},
            "rejected[0]",
            "the prompts differ: not turn 0 of 'chosen'",
        ),
        (
            {
                "chosen": [{"role": "system", "content": "be"}, *WHOLE["chosen"]],
                "rejected": [{"role": "system", "content": "be"}, {**USER, "content": "other"}, ASSISTANT],
            },
            "rejected[1]",
            "the prompts differ: not turn 1 of 'chosen'",
        ),
        (
            {**WHOLE, "rejected": [USER, ASSISTANT, {**USER, "content": "more"}, ASSISTANT]},
            "chosen",
            "has nothing after what both begin with",
        ),
        (
            {"chosen": f"{HUMAN} b", "rejected": "\n\nHuman: z\n\nAssistant: c"},
            "rejected",
            "the prompts differ: up to the last 'Assistant:' not as 'chosen'",
        ),
        (
            {"prompt": [USER], "chosen": [USER, ASSISTANT], "rejected": [{**ASSISTANT, "content": "no"}]},
            "chosen",
            "repeats the prompt",
        ),
        ({"prompt": HUMAN, "chosen": " b", "rejected": f"{HUMAN} c"}, "rejected", "repeats the prompt"),
        (
            {
                "prompt": "<|start|>user<|message|>a<|end|>",
                "chosen": "b",
                "rejected": "<|start|>user<|message|>a<|end|>c",
            },
            "rejected",
            "repeats the prompt",
        ),
        ({"input_ids": 5}, "input_ids", "must be a list"),
        ({"input_ids": []}, "input_ids", "must be a list of at least one token id"),
        ({"input_ids": [1, 2.0]}, "input_ids[1]", "must be an integer"),
        ({"input_ids": [True, 1]}, "input_ids[0]", "must be an integer"),
        ({"input_ids": [1, -1]}, "input_ids[1]", "token id -1 out of range: 0 to 2147483647"),
        ({"input_ids": [2**31, 1]}, "input_ids[0]", "token id 2147483648 out of range: 0 to 2147483647"),
        ({"input_ids": [1, 2], "labels": [1]}, "labels", "must be a list of 2, one for each of input_ids"),
        ({"input_ids": [1, 2], "labels": [-100, 3]}, "labels[1]", "must be the token id, or -100"),
        ({**MUTATION, "file": None}, "file", "missing field"),
        ({**MUTATION, "repo": " "}, "repo", "empty after stripping"),
        ({**MUTATION, "fixed_code": "a - b\n"}, "fixed_code", "the same text as 'buggy_code' after stripping"),
        ({**TASK, "tests": []}, "tests", "empty after stripping"),
        ({**TASK, "tests": "\n"}, "tests", "empty after stripping"),
        ({**TASK, "tests": ["assert True", 3]}, "tests[1]", "must be a string"),
        ({**TASK, "tests": {"a": 1}}, "tests", "must be a string or a list"),
        ({**TASK, "starter_code": 1}, "starter_code", "must be a string"),
        ({**TASK, "prompt": []}, "prompt", "must be a list of at least one turn"),
        ({"description": "", "tests": "x"}, "description", "empty after stripping"),
        ({"description": "d", "answer": " "}, "answer", "empty after stripping"),
        ({"description": "d", "tests": None}, "tests", "missing field, and so is 'answer'"),
        ({"description": "d", "tests": " ", "answer": "2"}, "tests", "empty after stripping"),
        ({"description": "d", "tests": "", "answer": ""}, "tests", "empty after stripping"),
        ({"prompt": ""}, "prompt", "empty after stripping"),
        ({"instruction": "i"}, "output", "missing field"),
    ],
)
def test_every_fault_of_more_shapes_has_its_text(tmp_path, row, field, problem):
    """What is wrong with a row of the other shapes is told with its place and why."""
    assert found(written(tmp_path / "set", row)) == [(1, field, problem)]


@pytest.mark.parametrize(
    ("turns", "field", "problem"),
    [
        ([USER, STEP, SEEN, ASSISTANT], None, None),
        ([USER, {**STEP, "tool_calls": [{"name": "run", "arguments": '{"x": 1}'}]}], None, None),
        ([USER, {**STEP, "tool_calls": 5}], "messages[1].tool_calls", "must be a list"),
        ([USER, {**STEP, "tool_calls": ["x"]}], "messages[1].tool_calls[0]", "must be an object"),
        ([USER, {**STEP, "tool_calls": [{"function": 1}]}], "messages[1].tool_calls[0].function", "must be an object"),
        (
            [USER, {**STEP, "tool_calls": [{"function": {}}]}],
            "messages[1].tool_calls[0].function.name",
            "missing field",
        ),
        ([USER, {**STEP, "tool_calls": [{"name": " "}]}], "messages[1].tool_calls[0].name", "empty after stripping"),
        ([USER, {**STEP, "tool_calls": [{"name": "f"}]}], "messages[1].tool_calls[0].arguments", "missing field"),
        (
            [USER, {**STEP, "tool_calls": [{"name": "f", "arguments": "x"}]}],
            "messages[1].tool_calls[0].arguments",
            "must be an object, or the JSON text of one",
        ),
        (
            [USER, {**STEP, "tool_calls": [{"name": "f", "arguments": [1]}]}],
            "messages[1].tool_calls[0].arguments",
            "must be an object, or the JSON text of one",
        ),
        ([USER, SEEN], "messages[1].tool_call_id", "'c1' answers no call before it"),
        ([], "messages", "must be a list of at least one turn"),
    ],
)
def test_calls_of_a_trajectory_are_looked_at(tmp_path, turns, field, problem):
    """Where trajectories are meant, each call has a name and arguments, and each answer a call before it."""
    report = validate(written(tmp_path / "set", {"messages": turns}), options=Options(shape="trajectories"))
    assert [(one.field, one.problem) for one in report.problems] == ([] if field is None else [(field, problem)])


def test_the_shape_that_is_meant_can_be_said(tmp_path):
    """A shape or a dataset that is named holds for every row, whatever the first one looks like."""
    folder = written(tmp_path / "set", {"prompt": "a", "completion": "b"}, KTO)
    assert validate(folder).ok
    [problem] = validate(folder, options=Options(shape="kto")).problems
    assert (problem.row, problem.field, problem.problem) == (1, "label", "missing field")
    assert validate(folder, options=Options(shape="sft")).shape == "prompt-completion"
    with pytest.raises(UsageError) as refusal:
        validate(folder, options=Options(shape="poems"))
    assert "kto" in refusal.value.hint
    assert "pretrain" in refusal.value.hint


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_wants_all_of_its_fields(tmp_path, shape):
    """A row with null for one of the fields of a shape is told which one is missing."""
    for name in SHAPES[shape].fields:
        row = {other: "x" for other in SHAPES[shape].fields if other != name} | {name: None}
        assert (name, "missing field") in {(field, why) for _, field, why in found_as(tmp_path, shape, row)}


def found_as(folder, shape, *rows):
    """Row, field and text of each problem of rows that are meant to be of a shape."""
    report = validate(written(folder / "as", *rows), options=Options(shape=shape))
    return [(problem.row, problem.field, problem.problem) for problem in report.problems]


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


def test_a_tokenizer_says_its_size(tmp_path):
    """The vocabulary of a tokenizer.json counts the tokens that were added, of either kind of model."""
    said = {"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": [{"id": 5, "content": "<end>"}]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(said))
    assert vocabulary_of(tmp_path) == vocabulary_of(tmp_path / "tokenizer.json") == 6
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": [["a", -1.0], ["b", -2.0]]}}))
    assert vocabulary_of(tmp_path) == 2
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UsageError):
        vocabulary_of(tmp_path)
    with pytest.raises(UsageError, match="No such file"):
        vocabulary_of(tmp_path / "nothing")


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


def test_what_the_library_leaves_beside_the_rows_is_no_fault(filled, tmp_path):
    """Working on a dataset on disk leaves caches in its folder, which are neither rows nor missing in the receipt."""
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    export(filled, "sft", tmp_path / "out", Exporting(format="hf"))
    rows = validate(tmp_path / "out").rows
    datasets.load_from_disk(str(tmp_path / "out"))["train"].map(lambda row: {"more": 1})
    assert list((tmp_path / "out" / "train").glob("cache-*.arrow"))
    assert validate(tmp_path / "out").ok
    assert validate(tmp_path / "out").rows == rows
    assert verify(filled, tmp_path / "out").ok
    assert len(datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))) == rows


def test_a_folder_of_exports_is_checked_one_by_one(tmp_path):
    """Exports side by side have rows of their own, so which one is asked."""
    for name in ("sft", "kto"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "receipt.json").write_text("{}")
    with pytest.raises(UsageError, match="a folder of exports") as refusal:
        validate(tmp_path)
    assert refusal.value.hint == "name one: kto, sft"


def test_the_receipt_says_what_the_rows_should_be(filled, tmp_path):
    """In an export of the lake's the rows have to be those of its dataset, whatever the first one looks like."""
    out = tmp_path / "out"
    export(filled, "preference", out)
    [path] = out.glob("data/train-*")
    path.write_text('{"text": "x"}\n' + path.read_text())
    assert ("prompt", "missing field") in {(one.field, one.problem) for one in validate(out).problems}


def test_the_page_shows_a_row_of_every_shape(tmp_path):
    """Each shape stands in the documentation with a row that is one, and is recognised as it."""
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text("utf-8")
    shown = re.findall(r"^### (\S+)\n\n```json\n(.*)\n```$", page, re.MULTILINE)
    assert sorted(name for name, _ in shown) == sorted(SHAPES)
    for name, row in shown:
        report = validate(written(tmp_path / name, json.loads(row)), options=Options(shape=name))
        assert report.ok, report.problems
        if name != "trajectory":
            assert validate(tmp_path / name).shape == name
