"""The reader of GSM8K's questions."""

import pytest

from ingest.readers import gsm8k
from ingest.rows import Place, Refused
from ingest.run import Options, ingest


def read(row):
    return list(gsm8k.read(row, Place("in/train.jsonl", 1, "", "tasks", "jsonl")))


def test_a_question_is_a_task():
    """The answer is what stands after the mark, the split the file's name; the worked answer is kept."""
    (task,) = read({"question": "How many?", "answer": "2 + 2 = 4\n#### 4", "level": 1})
    assert (task["description"], task["answer"], task["split"], task["level"]) == ("How many?", "4", "train", 1)
    assert task["task_id"] == gsm8k.task_id("How many?")
    assert task["solution"].startswith("2 + 2")


@pytest.mark.parametrize(
    "row",
    [{}, {"question": " ", "answer": "#### 1"}, {"question": 1, "answer": "#### 1"}, {"question": "q", "answer": "1"}],
)
def test_a_row_without_question_and_final_answer_is_refused(row):
    """A task has a question and a final answer."""
    with pytest.raises(Refused):
        read(row)


def test_the_published_questions_are_tasks(public_data, lake):
    """Every question of both splits becomes a task with an answer."""
    files = [str(public_data / "gsm8k" / name) for name in ("train.jsonl", "test.jsonl")]
    summary = ingest(lake, "tasks", files, Options(reader="gsm8k"))
    assert (summary.rows, summary.added, summary.rejected) == (7473 + 1319, 7473 + 1319, {})
    tasks = lake.read("tasks")
    assert tasks.column("split").value_counts().to_pylist() == [
        {"values": "train", "counts": 7473},
        {"values": "test", "counts": 1319},
    ]
