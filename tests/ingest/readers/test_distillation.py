"""The reader of distillation trees."""

import json

import pytest

from ingest.readers import distillation
from ingest.rows import Place, Refused
from ingest.run import Options, ingest

PROVENANCE = {
    "source_file": "data/_kb/scrum_reviews.jsonl",
    "line_offset": 12,
    "sig_hash": "ab" * 32,
    "recorded_at": "2026-04-01T00:00:00Z",
}
EVIDENCE = {
    "run_id": "run-1",
    "task_id": "task-1",
    "timestamp": "2026-03-31T12:00:00Z",
    "schema_version": 1,
    "provenance": PROVENANCE,
    "model_role": "reviewer",
    "model_name": "m",
    "text": "looks good",
    "source_files": ["a.rs"],
    "markers": ["accepted"],
    "observer_verdict": "accept",
    "tokens": {"in": 3},
    "metadata": {"attempt": 2},
}
SCORED = {
    "schema_version": 1,
    "evidence_run_id": "run-1",
    "evidence_task_id": "task-1",
    "category": "partially_accepted",
    "reasons": ["accepted on attempt 2"],
    "scored_at": "2026-04-02T00:00:00Z",
    "scorer_version": "v1.0.0",
    "sub_scores": {"cargo_green": True, "anchor_grounding": 0.5, "observer_verdict": "accept"},
    "provenance": PROVENANCE,
}


def read(row, kind="evidence", line=5, file="evidence/2026/04/01/x.jsonl"):
    (event,) = distillation.read(row, Place(file, line, "", kind, "jsonl"))
    return event


def reasons(row, kind="evidence"):
    with pytest.raises(Refused) as refused:
        read(row, kind)
    return [problem.reason for problem in refused.value.problems]


def without(row, name):
    return {key: value for key, value in row.items() if key != name}


def test_a_tree_moves_over(tmp_path, lake):
    """Evidence and scored runs become events; what has no column is in `extra`, the provenance with it."""
    for folder, row in (("evidence", EVIDENCE), ("scored-runs", SCORED)):
        path = tmp_path / folder / "2026" / "04" / "01" / "scrum_reviews.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(row) + "\n")
    options = Options(reader="distillation")
    assert ingest(lake, "evidence", [str(tmp_path / "evidence")], options).added == 1
    assert ingest(lake, "scores", [str(tmp_path / "scored-runs")], options).added == 1
    (event,) = lake.read("evidence").to_pylist()
    assert [event[name] for name in ("run_id", "role", "model", "stream", "kind")] == [
        *("run-1", "reviewer", "m", "scrum_reviews", "completion"),
    ]
    assert event["recorded_at"].isoformat() == "2026-03-31T12:00:00+00:00"
    assert json.loads(event["extra"]) == {
        name: EVIDENCE[name] for name in ("markers", "metadata", "observer_verdict", "provenance", "tokens")
    }
    (score,) = lake.read("scores").to_pylist()
    assert [score[name] for name in ("run_id", "task_id", "scorer", "scorer_version", "category", "reasons")] == [
        *("run-1", "task-1", "distillation", "v1.0.0", "partially_accepted", ["accepted on attempt 2"]),
    ]
    assert json.loads(score["sub_scores"]) == SCORED["sub_scores"]


def test_a_run_of_a_stream_is_numbered():
    """Where the run is the stream's, each row is a run of its own, by its index."""
    row = without(EVIDENCE, "run_id") | {"stream_run_id": "s"}
    assert read({**row, "row_index": 3})["run_id"] == "s:3"
    assert read(row)["run_id"] == "s:12"
    row["provenance"] = without(PROVENANCE, "line_offset")
    assert read(row, line=5)["run_id"] == "s:4"


def test_the_stream_is_the_stem_of_the_first_file():
    """The stream is named by the file that the row first came from, and given ones stay."""
    assert read(EVIDENCE)["stream"] == "scrum_reviews"
    assert read({**EVIDENCE, "stream": "other"})["stream"] == "other"


@pytest.mark.parametrize("name", ["run_id", "task_id", "timestamp", "schema_version", "provenance"])
def test_what_is_required_of_evidence_is(name):
    """A row without one of the required fields is refused."""
    assert reasons(without(EVIDENCE, name)) == ["missing_field"]


@pytest.mark.parametrize(
    "name",
    ["evidence_run_id", "evidence_task_id", "category", "reasons", "scored_at", "scorer_version", "provenance"],
)
def test_what_is_required_of_a_scored_run_is(name):
    """A scored run without one of the required fields is refused."""
    assert reasons(without(SCORED, name), "scores") == ["missing_field"]


@pytest.mark.parametrize(
    ("change", "kind", "reason"),
    [
        ({"schema_version": 2}, "evidence", "unknown_schema_version"),
        ({"schema_version": True}, "evidence", "unknown_schema_version"),
        ({"run_id": " "}, "evidence", "blank_field"),
        ({"provenance": "x"}, "evidence", "wrong_type"),
        ({"provenance": without(PROVENANCE, "sig_hash")}, "evidence", "missing_field"),
        ({"provenance": {**PROVENANCE, "line_offset": -1}}, "evidence", "wrong_type"),
        ({"reasons": []}, "scores", "missing_field"),
        ({"reasons": [" "]}, "scores", "missing_field"),
        ({"sub_scores": {"anchor_grounding": 1.5}}, "scores", "unknown_value"),
        ({"sub_scores": {"observer_verdict": "maybe"}}, "scores", "unknown_value"),
    ],
)
def test_what_breaks_a_rule_is_refused(change, kind, reason):
    """Each rule of the shape is checked."""
    assert reasons((EVIDENCE if kind == "evidence" else SCORED) | change, kind) == [reason]
