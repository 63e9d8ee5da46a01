"""The reader of SWE-agent's trajectories."""

import json

import pytest

from ingest.readers import swe_agent
from ingest.rows import Place, Refused
from ingest.run import Options, ingest

SYSTEM = {"role": "system", "content": "You are a programmer.", "agent": "main", "message_type": "system_prompt"}
TASK = {"role": "user", "content": "Mend it.", "agent": "main", "message_type": "observation"}
CALLS = [{"id": "c1", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls"}'}}]
ACTION = {
    "role": "assistant",
    "content": "I look around.",
    "thought": "I look around.",
    "action": "ls",
    "agent": "main",
    "tool_calls": CALLS,
    "thinking_blocks": [{"type": "thinking", "thinking": "Where am I?"}, {"type": "redacted_thinking"}],
}
SEEN = {"role": "tool", "content": "a.py", "agent": "main", "tool_call_ids": ["c1"]}
CONFIG = {"agent": {"model": {"name": "m"}}, "problem_statement": {"id": "org__repo-1"}}
DOCUMENT = {
    "environment": "main",
    "history": [SYSTEM, TASK, ACTION, SEEN],
    "info": {"exit_status": "submitted"},
    "replay_config": CONFIG,
}


def read(document):
    return list(swe_agent.read(document, Place("a.traj", 1, "", "evidence", "json")))


def test_a_document_is_a_run(tmp_path, lake):
    """Its messages have tool calls, their ids and thinking; what has no column is in extra, and nothing is lost."""
    (tmp_path / "a.traj").write_text(json.dumps(DOCUMENT, indent=2))
    assert not ingest(lake, "evidence", [str(tmp_path / "a.traj")], Options(reader="swe-agent")).rejected
    (event,) = lake.read("evidence").to_pylist()
    assert json.loads(event["messages"]) == [
        {"role": "system", "content": "You are a programmer."},
        {"role": "user", "content": "Mend it."},
        {"role": "assistant", "content": "I look around.", "thinking": "Where am I?", "tool_calls": CALLS},
        {"role": "tool", "content": "a.py", "tool_call_id": "c1"},
    ]
    rest = [{"agent": "main", "message_type": "system_prompt"}, {"agent": "main", "message_type": "observation"}]
    rest += [{"agent": "main", "action": "ls", "thinking_blocks": ACTION["thinking_blocks"]}, {"agent": "main"}]
    assert json.loads(event["extra"]) == {**DOCUMENT, "history": rest}
    names = ("kind", "role", "task_id", "model", "prompt", "text")
    assert [event[name] for name in names] == [
        "trajectory",
        "executor",
        "org__repo-1",
        "m",
        "Mend it.",
        "I look around.",
    ]
    assert event["source"]["file"].endswith("a.traj")


def test_a_configuration_may_be_json_text():
    """Newer versions write it so, and it says the same."""
    assert read({**DOCUMENT, "replay_config": json.dumps(CONFIG)})[0]["task_id"] == "org__repo-1"


def test_without_a_configuration_ids_are_made_of_what_was_said():
    """Two runs at one problem belong to one task; a thought that is not the content is kept."""
    (one,) = read({"history": [TASK, {**ACTION, "content": [{"type": "text", "text": "Look."}]}, SEEN]})
    (other,) = read({"history": [TASK, {"role": "assistant", "content": None, "thinking_blocks": None}]})
    assert one["task_id"] == other["task_id"]
    assert one["run_id"] != other["run_id"]
    assert (one["model"], one["text"], other["text"]) == (None, "Look.", None)
    assert one["extra"]["history"][1]["thought"] == "I look around."
    assert [one] == read({"history": [TASK, {**ACTION, "content": [{"type": "text", "text": "Look."}]}, SEEN]})


@pytest.mark.parametrize(
    ("document", "reasons"),
    [
        ({"messages": []}, ["missing_field"]),
        ({"history": {}}, ["wrong_type"]),
        ({"history": []}, ["wrong_type"]),
        ({"history": ["x", {"role": "narrator"}]}, ["wrong_type", "unknown_value"]),
        ({"history": [{**TASK, "content": 3}]}, ["wrong_type"]),
        ({"history": [{**ACTION, "tool_calls": "x", "thinking_blocks": ["x"]}]}, ["wrong_type", "wrong_type"]),
        ({"history": [{**SEEN, "tool_call_ids": "c1"}]}, ["wrong_type"]),
        ({"history": [{**SEEN, "tool_call_ids": ["c1", "c2"]}]}, ["unknown_value"]),
        ({"history": [TASK]}, ["no_answer"]),
        ({"history": [TASK, {**ACTION, "agent": "other"}]}, ["unknown_value"]),
        ({"history": [TASK, ACTION], "replay_config": "{"}, ["not_json"]),
    ],
)
def test_what_is_no_trajectory_is_refused(document, reasons):
    """A document of another shape says all that is wrong with it."""
    with pytest.raises(Refused) as refused:
        read(document)
    assert [problem.reason for problem in refused.value.problems] == reasons


def test_the_published_trajectories_are_read(public_data, lake):
    """Three documents are three runs, each with its tool calls; two of them are of one task."""
    files = sorted(map(str, (public_data / "swe_agent").glob("*.traj")))
    summary = ingest(lake, "evidence", files, Options(reader="swe-agent"))
    assert not summary.rejected
    events = lake.read("evidence").to_pylist()
    assert len({event["run_id"] for event in events}) == len(files) == 3
    assert len({event["task_id"] for event in events}) == 2
    for event in events:
        turns = json.loads(event["messages"])
        called = [call["id"] for turn in turns for call in turn.get("tool_calls", ())]
        assert called == [turn["tool_call_id"] for turn in turns if turn["role"] == "tool"]
        assert called
