"""Prompts come in as events: the shapes that are read, their ids, their domains, and what is refused."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.checks import Checker
from ingest.readers import native
from ingest.readers.prompts import prompt, prompt_id
from ingest.rows import Problem, Refused
from ingest.run import Options, ingest
from lake import KINDS, Lake
from lake.errors import UsageError
from lake.events import to_table


def write(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return str(path)


def prompts(lake: Lake) -> list[dict[str, object]]:
    rows = lake.read("prompts").to_pylist()
    return sorted(rows, key=lambda row: (row["source"]["file"], row["source"]["line"]))


@pytest.mark.parametrize(
    ("reader", "row", "said"),
    [
        ("native", {"text": "Why is the sky blue?"}, ("Why is the sky blue?", None)),
        (
            "native",
            {"messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Why?"}]},
            ("Why?", [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Why?"}]),
        ),
        ("question", {"question": "中国有多少个省？", "class": "qa"}, ("中国有多少个省？", None)),
        ("question", {"prompt": "def f():\n    pass\n"}, ("def f():\n    pass\n", None)),
        ("question", {"instruction": "Translate.", "input": "Guten Tag"}, ("Translate.\n\nGuten Tag", None)),
        ("question", {"prompt": "\n/* Add. */\n", "declaration": "\nfn add(\n"}, ("/* Add. */\n\nfn add(", None)),
        ("turns", {"turns": ["One?"]}, ("One?", None)),
        ("opening", {"turns": ["One?", "Two?"], "category": "maths"}, ("One?", None)),
        (
            "turns",
            {"turns": ["One?", "Two?"]},
            ("One?\n\nTwo?", [{"role": "user", "content": "One?"}, {"role": "user", "content": "Two?"}]),
        ),
        ("turns", {"conversations": [{"from": "human", "value": "A?"}, {"from": "gpt", "value": "B"}]}, ("A?", None)),
        (
            "opening",
            {
                "history": [
                    {"role": "system", "content": "You fix code."},
                    {"role": "user", "content": [{"type": "text", "text": "Fix it."}]},
                    {"role": "assistant", "content": "Done.", "tool_calls": []},
                ]
            },
            (
                "Fix it.",
                [
                    {"role": "system", "content": "You fix code."},
                    {"role": "user", "content": [{"type": "text", "text": "Fix it."}]},
                ],
            ),
        ),
    ],
)
def test_a_row_of_each_shape_is_a_prompt(tmp_path, lake, reader, row, said):
    """What the user says is the text; a conversation is kept beside it, without any answer."""
    text, messages = said
    summary = ingest(lake, "prompts", [write(tmp_path / "p.jsonl", row)], Options(reader=reader))
    assert (summary.added, summary.rejected) == (1, {})
    [event] = prompts(lake)
    assert event["text"] == text
    assert (json.loads(event["messages"]) if event["messages"] else None) == messages
    assert event["prompt_id"] == prompt_id(text, messages)


@pytest.mark.parametrize(
    ("reader", "row", "reason"),
    [
        ("native", {"text": None, "messages": '[{"role":"user","content":7}]'}, "wrong_type"),
        ("native", {"domain": "math"}, "missing_field"),
        ("native", {"text": "  "}, "blank_field"),
        ("native", {"text": 7}, "wrong_type"),
        ("native", {"messages": [{"role": "assistant", "content": "Hello"}]}, "blank_field"),
        ("question", {"answer": "42"}, "missing_field"),
        ("question", {"question": ["a"]}, "wrong_type"),
        ("question", {"question": " \n"}, "blank_field"),
        ("turns", {"turns": []}, "wrong_type"),
        ("turns", {"turns": ["a", 3]}, "wrong_type"),
        ("turns", {}, "missing_field"),
        ("opening", {"messages": [{"role": "assistant", "content": "Hello"}]}, "blank_field"),
        ("opening", {"messages": [{"role": "narrator", "content": "x"}]}, "unknown_value"),
        ("opening", {"messages": ["x"]}, "wrong_type"),
        ("opening", {"messages": [{"role": "user", "content": 5}]}, "wrong_type"),
        ("opening", {"messages": "x"}, "wrong_type"),
    ],
)
def test_what_is_no_prompt_is_a_reject_with_its_reason(tmp_path, lake, reader, row, reason):
    """A row without anything asked is kept as it is, with why it was refused."""
    summary = ingest(lake, "prompts", [write(tmp_path / "p.jsonl", row)], Options(reader=reader))
    assert summary.rejected == {reason: 1}
    [reject] = lake.read("rejects").to_pylist()
    assert (reject["kind"], reject["reader"], reject["reason"]) == ("prompts", reader, reason)
    assert json.loads(reject["raw"]) == row


def test_a_domain_is_given_to_rows_that_name_none_and_held_against_those_that_do(tmp_path, lake):
    """A prompt of another domain than the one that is read is refused, and never relabelled."""
    file = write(
        tmp_path / "p.jsonl",
        {"text": "Two and two?", "domain": "math"},
        {"text": "Three and three?"},
        {"text": "Say hello.", "domain": "chat"},
    )
    summary = ingest(lake, "prompts", [file], Options(domain="math"))
    assert summary.rejected == {"wrong_domain": 1}
    assert {row["text"]: row["domain"] for row in prompts(lake)} == {"Two and two?": "math", "Three and three?": "math"}


def test_a_file_is_read_once_for_each_domain(tmp_path, lake):
    """What was read for one domain is read again for another, and not again for the same."""
    file = write(tmp_path / "p.jsonl", {"turns": ["One?", "Two?"]})
    added = [
        ingest(lake, "prompts", [file], Options(reader="turns", domain=domain)).added
        for domain in ("chat", "multi-turn", "chat")
    ]
    assert added == [1, 1, 0]
    first, second = prompts(lake)
    assert first["prompt_id"] == second["prompt_id"]


@pytest.mark.parametrize(("kind", "domain"), [("evidence", "math"), ("prompts", " "), ("prompts", "a\nb")])
def test_only_prompts_have_a_domain(tmp_path, lake, kind, domain):
    """A domain for anything else, or one without a name, is refused before a file is read."""
    with pytest.raises(UsageError, match="domain"):
        ingest(lake, kind, [write(tmp_path / "p.jsonl")], Options(domain=domain))


def test_an_id_of_ones_own_is_kept(tmp_path, lake):
    """What rows were named before stays their name; where they have none, it is made of what they say."""
    ingest(lake, "prompts", [write(tmp_path / "p.jsonl", {"prompt_id": "mine-1", "text": "Why?"}, {"text": "Why?"})])
    assert [row["prompt_id"] for row in prompts(lake)] == ["mine-1", prompt_id("Why?")]


texts = st.text(min_size=1).filter(str.strip)
turns = st.lists(texts, min_size=1, max_size=3)


@given(turns, turns)
def test_prompts_have_one_id_if_and_only_if_they_say_the_same(one, other):
    """Neither where turns are cut, nor how many there are, is lost in an id."""
    made = [prompt(None, [{"role": "user", "content": turn} for turn in said]) for said in (one, other)]
    assert (made[0]["prompt_id"] == made[1]["prompt_id"]) == (one == other)


def test_questions_of_tasks_are_prompts_that_name_their_task(tmp_path, lake):
    """The same file is tasks, or prompts without the answers."""
    file = write(tmp_path / "train.jsonl", {"question": "One plus one?", "answer": "It is 2.\n#### 2"})
    ingest(lake, "tasks", [file], Options(reader="gsm8k"))
    ingest(lake, "prompts", [file], Options(reader="gsm8k", domain="math"))
    [task], [event] = lake.read("tasks").to_pylist(), prompts(lake)
    assert json.loads(event["extra"]) == {"task_id": task["task_id"]}
    assert (event["text"], event["split"], event["domain"]) == ("One plus one?", "train", "math")


REPLAY = {"section_id": "s1", "section_type": "prose", "content": "Once."}
FINDING = {"target": "e1", "annotator": "language", "annotator_version": "1"}


@pytest.mark.parametrize(
    ("kind", "row", "reason"),
    [
        ("replay", REPLAY | {"mined_run_id": 7, "auto_mined": True, "weight": 0.5, "mined_at": "2026-01-02"}, None),
        ("replay", REPLAY | {"mined_run_id": 7.5}, "wrong_type"),
        ("replay", REPLAY | {"mined_run_id": True}, "wrong_type"),
        ("replay", REPLAY | {"mined_run_id": 1 << 63}, "number_out_of_range"),
        ("replay", REPLAY | {"auto_mined": "yes"}, "wrong_type"),
        ("replay", REPLAY | {"mined_at": "lately"}, "bad_time"),
        ("replay", REPLAY | {"section_type": "essay"}, "unknown_value"),
        ("replay", {"section_type": "prose", "content": "Once."}, "missing_field"),
        ("annotations", FINDING | {"spans": [[0, 4]], "value": 0.5, "against": "v1"}, None),
        ("annotations", FINDING | {"spans": {"a": 1}}, "wrong_type"),
        ("annotations", FINDING | {"target": ""}, "blank_field"),
    ],
)
def test_rows_of_the_other_kinds_are_checked_too(kind, row, reason):
    """Whole numbers, truth values and times are checked exactly, and refused with a reason."""
    problems: list[Problem] = []
    event = Checker(KINDS[kind]).check(row, problems)
    assert [problem.reason for problem in problems] == ([reason] if reason else [])
    assert event is None or to_table(KINDS[kind], [event]).num_rows == 1


def test_annotations_are_ingested(tmp_path, lake):
    """A row of each kind that has a table of its own can be read from a file."""
    summary = ingest(lake, "annotations", [write(tmp_path / "a.jsonl", FINDING, {"target": "e1"})])
    assert (summary.added, summary.rejected) == (1, {"missing_field": 1})


@pytest.mark.parametrize(
    ("cells", "made"),
    [
        ({"mined_run_id": "7", "auto_mined": "TRUE"}, {"mined_run_id": 7, "auto_mined": True}),
        ({"mined_run_id": "7.5"}, None),
        ({"mined_run_id": "true"}, None),
        ({"auto_mined": "1"}, None),
        ({"auto_mined": "perhaps"}, None),
    ],
)
def test_cells_of_csv_become_what_their_columns_hold(cells, made):
    """A table says numbers and truth values as text; what is none of them is refused."""
    if made is not None:
        assert native._from_text(cells, "replay") == made
        return
    with pytest.raises(Refused, match="must be"):
        native._from_text(cells, "replay")
