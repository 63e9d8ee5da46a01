"""Rows of one shape become those of another, or are refused by row and field."""

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exporters.convert import Lossy, Options, convert
from exporters.validate import validate
from lake import LakeError
from lake.errors import UsageError
from tests.exporters.row_files import ASSISTANT, USER, got, put


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
        ({"conversations": [{"from": "gpt", "value": "x", "tool_calls": []}]}, "messages", "beside 'from' and 'value'"),
        (
            {"conversations": [{"from": "function_call", "value": '{"name": "f", "arguments": {}}', "tool_calls": []}]},
            "messages",
            "beside 'from' and 'value'",
        ),
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
            {"prompt": "Human: a Assistant:", "chosen": " b", "rejected": " c Assistant: d"},
            "preference-implicit",
            "must end with the only 'Assistant:'",
        ),
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
