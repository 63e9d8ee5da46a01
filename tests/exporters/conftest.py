"""A lake with one run of every fate, for the tests of exports."""

import hashlib
from datetime import UTC, datetime

import pytest

from lake import Lake

NASTY = (
    'line\u2028para\u2029next\u0085nul\x00 tab\t feed\n\r "quotes" \\ '
    "\U0001f600 \u05e9\u05dc\u05d5\u05dd \u202e/ \x1f\x7f"
)


def run(run_id: str, task_id: str, text: str | None, **more: object) -> dict[str, object]:
    """One row of evidence."""
    return {
        "run_id": run_id,
        "task_id": task_id,
        "kind": "completion",
        "role": "executor",
        "prompt": f"Do {task_id}.",
        "text": text,
        "source": {"file": "runs.jsonl", "line": 1, "sha256": hashlib.sha256(run_id.encode()).hexdigest()},
        "recorded_at": datetime(2026, 3, 1, 12, tzinfo=UTC),
        **more,
    }


def verdict(run_id: str, task_id: str, category: str, **more: object) -> dict[str, object]:
    """One score."""
    return {
        "run_id": run_id,
        "task_id": task_id,
        "scorer": "tests",
        "scorer_version": "1",
        "category": category,
        "score": 0.5,
        "reasons": ["as the tests say"],
        **more,
    }


def fill(lake: Lake) -> None:
    """Append runs of every fate: two tasks with pairs, one without."""
    fates = {
        "good-1": ("t1", "the first answer", "accepted"),
        "good-2": ("t1", NASTY, "accepted"),
        "bad-1": ("t1", "a wrong answer", "rejected"),
        "half-1": ("t1", "half an answer", "partially_accepted"),
        "open-1": ("t1", "an answer to look at", "needs_human_review"),
        "good-3": ("t2", "another answer", "accepted"),
        "bad-2": ("t2", "another wrong answer", "rejected"),
        "blank": ("t2", " \n", "accepted"),
        "alone": ("t3", "an answer on its own", "accepted"),
    }
    evidence = [run(run_id, task_id, text) for run_id, (task_id, text, _) in fates.items()]
    evidence.append(run("unscored", "t3", "not judged yet"))
    scores = [verdict(run_id, task_id, category) for run_id, (task_id, _, category) in fates.items()]
    scores.append(verdict("never-seen", "t3", "accepted"))
    lake.append("evidence", evidence, producer="test", sequence=1)
    lake.append("scores", scores, producer="test", sequence=1)


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake of every fate that no test appends evidence to."""
    lake = Lake.create(str(tmp_path_factory.mktemp("filled") / "lake"))
    fill(lake)
    return lake


@pytest.fixture
def own(lake: Lake) -> Lake:
    """The same lake, for one test alone."""
    fill(lake)
    return lake
