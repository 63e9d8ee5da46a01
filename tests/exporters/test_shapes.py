"""What is a row of each shape, and what is said of one that is not."""

import json
import re
from pathlib import Path

import pytest

from exporters.shapes import SHAPES
from exporters.validate import Options, validate
from lake.errors import UsageError
from tests.exporters.row_files import ASSISTANT, KTO, PAIR, USER, found, found_as, written

MORE = {"role": "user", "content": "ask on"}


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
        ("preference", {"prompt": "Human: a", "chosen": "You said: Human: a", "rejected": "b"}),
        (
            "preference",
            {
                "prompt": [USER, ASSISTANT, {**USER, "content": "b"}],
                "chosen": [USER, ASSISTANT],
                "rejected": [ASSISTANT],
            },
        ),
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


CALL = {"type": "function", "id": "c1", "function": {"name": "run", "arguments": {"x": 1}}}

STEP = {"role": "assistant", "content": None, "tool_calls": [CALL]}

SEEN = {"role": "tool", "tool_call_id": "c1", "content": "ok"}

MUTATION = {"buggy_code": "a - b", "error_message": "1 != 3", "fixed_code": "a + b", "repo": "r", "file": "f.py"}

TASK = {"description": "Add.", "starter_code": "", "tests": "assert add(1, 2) == 3"}


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
        (
            {"chosen": [ASSISTANT], "rejected": [{**ASSISTANT, "content": "no"}]},
            "rejected[0]",
            "the prompts differ: not turn 0 of 'chosen'",
        ),
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
