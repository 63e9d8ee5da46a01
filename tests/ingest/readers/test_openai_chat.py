"""The reader of chats."""

import json

import pytest

from ingest.readers import openai_chat
from ingest.rows import Place, Refused
from ingest.run import Options, ingest

USER = {"role": "user", "content": "What is the weather?"}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Köln"}'}}],
}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "rain"}
ANSWER = {"role": "assistant", "content": "It rains."}


def read(row):
    return list(openai_chat.read(row, Place("f.jsonl", 1, "", "evidence", "jsonl")))


def test_a_fine_tuning_row_is_a_run(tmp_path, lake):
    """Tool calls and tools survive unchanged; the text is the last answer, the prompt what came before it."""
    row = {"messages": [USER, CALL, RESULT, ANSWER], "tools": [{"type": "function", "function": {"name": "weather"}}]}
    (tmp_path / "f.jsonl").write_text(json.dumps(row) + "\n")
    ingest(lake, "evidence", [str(tmp_path / "f.jsonl")], Options(reader="openai-chat"))
    (event,) = lake.read("evidence").to_pylist()
    assert json.loads(event["messages"]) == row["messages"]
    assert json.loads(event["extra"]) == {"tools": row["tools"]}
    assert (event["text"], event["kind"], event["role"]) == ("It rains.", "trajectory", "executor")
    assert event["prompt"] == "user: What is the weather?\n\nassistant:\n\ntool: rain"


def test_answers_to_one_conversation_share_a_task():
    """Without ids, a run is named by its content and a task by its conversation."""
    (one,) = read({"messages": [USER, ANSWER]})
    (other,) = read({"messages": [USER, {**ANSWER, "content": "Sun."}]})
    assert one["task_id"] == other["task_id"]
    assert one["run_id"] != other["run_id"]
    assert (one["prompt"], one["kind"]) == ("What is the weather?", "completion")
    assert read({"messages": [USER, ANSWER]}) == [one]


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_logged_completion_is_a_run_for_each_choice(wrapped):
    """A request with its response is the conversation with each answer; ids, model and time are the log's."""
    choices = [{"index": 0, "message": ANSWER, "finish_reason": "stop"}, {"index": 1, "message": CALL}]
    response = {"id": "chat-1", "model": "m", "created": 1767225600, "choices": choices}
    row = (
        {"request": {"messages": [USER]}, "response": {"body": response}}
        if wrapped
        else {"messages": [USER], **response}
    )
    first, second = read(row)
    assert (first["run_id"], second["run_id"]) == ("chat-1:0", "chat-1:1")
    assert (first["messages"], first["text"], first["model"]) == ([USER, ANSWER], "It rains.", "m")
    assert second["text"] is None
    assert first["choice"] == {"index": 0, "finish_reason": "stop"}
    assert first["recorded_at"].isoformat() == "2026-01-01T00:00:00+00:00"


def test_given_ids_and_times_count():
    """What the row names is not named by its content."""
    (event,) = read({"messages": [ANSWER], "run_id": "r", "task_id": "t", "timestamp": "2026-01-01"})
    assert (event["run_id"], event["task_id"], event["recorded_at"], event["prompt"]) == ("r", "t", "2026-01-01", None)


def test_parts_are_read_as_text():
    """Of a message in parts the texts are joined, and what is no text is named."""
    parts = [{"type": "text", "text": "See "}, {"type": "image_url", "image_url": {"url": "x"}}, "!"]
    (event,) = read({"messages": [{"role": "user", "content": parts}, ANSWER]})
    assert event["prompt"] == "See [image_url]!"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "missing_field"),
        ({"messages": []}, "wrong_type"),
        ({"messages": "x"}, "wrong_type"),
        ({"messages": [USER]}, "no_answer"),
        ({"messages": ["x"]}, "wrong_type"),
        ({"messages": [{"content": "x"}]}, "missing_field"),
        ({"messages": [{"role": "user", "content": 3}]}, "wrong_type"),
        ({"messages": [USER], "choices": []}, "wrong_type"),
        ({"messages": [USER], "choices": [{}]}, "wrong_type"),
        ({"messages": [USER, ANSWER], "created": 1e300}, "bad_time"),
    ],
)
def test_what_is_no_chat_is_refused(row, reason):
    """A row that is no chat with an answer says why."""
    with pytest.raises(Refused) as refused:
        read(row)
    assert refused.value.problems[0].reason == reason
