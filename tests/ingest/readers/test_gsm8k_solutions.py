"""The reader of GSM8K's example solutions."""

import pytest

from ingest.readers import gsm8k, gsm8k_solutions
from ingest.rows import Place, Refused
from ingest.run import Options, ingest

ROW = {
    "question": "How many?",
    "ground_truth": "2 + 2 = 4\nA: 4",
    "small": {"solution": "A: 5", "is_correct": False},
    "large": {"solution": "A: 4", "is_correct": True},
}


def read(row, kind):
    return list(gsm8k_solutions.read(row, Place("f.jsonl", 1, "", kind, "jsonl")))


def test_a_row_is_a_task_its_solutions_and_their_verdicts():
    """The kind asked for says what a row is read as; ids are those of the question and the model."""
    (task,) = read(ROW, "tasks")
    assert (task["task_id"], task["answer"]) == (gsm8k.task_id("How many?"), "4")
    evidence, scores = read(ROW, "evidence"), read(ROW, "scores")
    assert [event["run_id"] for event in evidence] == [f"{task['task_id']}:{model}" for model in ("small", "large")]
    assert [(event["model"], event["prompt"], event["text"]) for event in evidence] == [
        ("small", "How many?", "A: 5"),
        ("large", "How many?", "A: 4"),
    ]
    assert [(score["run_id"], score["category"]) for score in scores] == [
        (evidence[0]["run_id"], "rejected"),
        (evidence[1]["run_id"], "accepted"),
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"question": ""},
        {"ground_truth": "4"},
        {"small": "A: 5"},
        {"small": {"solution": 5, "is_correct": True}},
        {"small": {"solution": "A: 5", "is_correct": "no"}},
    ],
)
def test_a_row_of_another_shape_is_refused(change):
    """No part of a row that is not understood is read."""
    with pytest.raises(Refused):
        read(ROW | change, "evidence")


def test_a_row_without_solutions_is_refused():
    """A question that no model answered has nothing to say."""
    with pytest.raises(Refused, match="no model"):
        read({"question": "How many?", "ground_truth": "A: 4"}, "evidence")


def test_the_published_solutions_and_verdicts(public_data, lake):
    """All solutions become evidence, with the published verdicts: 2 001 accepted, 3 275 rejected."""
    file = str(public_data / "gsm8k" / "example_model_solutions.jsonl")
    options = Options(reader="gsm8k-solutions")
    added = {kind: ingest(lake, kind, [file], options).added for kind in ("tasks", "evidence", "scores")}
    assert added == {"tasks": 1319, "evidence": 5276, "scores": 5276}
    counts = {row["values"]: row["counts"] for row in lake.read("scores").column("category").value_counts().to_pylist()}
    assert counts == {"accepted": 2001, "rejected": 3275}
    assert set(lake.read("scores").column("run_id").to_pylist()) == set(
        lake.read("evidence").column("run_id").to_pylist()
    )
