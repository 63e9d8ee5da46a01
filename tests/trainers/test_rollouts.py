"""What a policy answered: lines that are whole and there once, and events that the lake takes as its own."""

import hashlib
import json
from contextlib import closing
from datetime import UTC, datetime

import msgspec
import pytest

from ingest.scorers.task_tests import Options, TaskTests
from ingest.scoring import score, version_of
from lake.errors import Damaged, LakeError
from trainers.rewards import RewardByTests
from trainers.rollouts import NAME, STDERR_CHARACTERS, Rollout, Rollouts, Scorer, events, figures, read
from trainers.spec import Grpo
from views import connect

MOMENT = datetime(2026, 11, 21, 12, tzinfo=UTC)
TASK = {
    "task_id": "twice",
    "language": "python",
    "starter_code": "def twice(n):\n",
    "tests": "def check(candidate):\n    assert candidate(2) == 4\n",
    "entry_point": "twice",
}
ANSWERS = (
    "    return 2 * n\n",
    "    return n\n",
    "    return (\n",
    "import numpy_not_here\ndef twice(n): return 4\n",
    "",
)


@pytest.fixture(scope="module")
def tried():
    """A trial of each answer, by tests that ran."""
    reward = RewardByTests(Grpo(timeout=8.0, workers=2))
    reward(completions=ANSWERS, **{name: [value] * len(ANSWERS) for name, value in TASK.items()})
    return reward


def rollout(tried, place, step=0, **others):
    """An answer, as a trainer tells of it."""
    tests = tried.tests
    said = {
        "step": step,
        "task_id": "twice",
        "task": None,
        "seed": 7 + place,
        "prompt": "Twice?",
        "completion": ANSWERS[place],
        "completion_ids": (3, 1),
        "reward": tried.value(tried.trials[place]),
        "scorer": Scorer(tests.name, tests.version, tests.digest),
        "recorded_at": MOMENT,
    }
    return Rollout(**(said | figures(tried.trials[place]) | others))


@pytest.fixture
def written(tried, tmp_path):
    """Two steps of a run's answers."""
    file = Rollouts(tmp_path, "run-1")
    for step in range(2):
        file.append([rollout(tried, place, step) for place in range(len(ANSWERS))])
    return file


def test_lines_come_back(written, tried):
    """Each is one line of JSON that says who answered what and what came of it, and reads as what was told."""
    lines = written.path.read_bytes().splitlines()
    said = list(read(lines))
    assert len(lines) == len(said) == 2 * len(ANSWERS)
    for place, one in enumerate(said):
        step, answer = divmod(place, len(ANSWERS))
        named = {"run": "run-1", "policy": f"run-1@{step}", "sample": answer}
        assert one == rollout(tried, answer, step, **named)
    assert [one.outcome for one in said[:5]] == ["passed", "failed", "broken", "unproven", "broken"]
    assert [(one.tests_run, one.tests_passed) for one in said[:5]] == [(1, 1), (1, 0), (0, 0), (0, 0), (0, 0)]
    assert [one.exit_code for one in said[:5]] == [0, 0, 0, 0, None]
    assert {"run", "step", "task_id", "sample", "prompt", "completion", "completion_ids", "reward", "outcome"} < set(
        json.loads(lines[0])
    )


def test_what_code_writes_to_stderr_is_kept(tried):
    """The end of it, so much that a line stays a line."""
    reward = RewardByTests(Grpo(timeout=8.0, workers=1))
    code = "import os\nos.write(2, b'x' * 9000 + b'the end')\ndef twice(n): return 2 * n\n"
    reward(completions=[code], **{name: [value] for name, value in TASK.items()})
    said = figures(reward.trials[0])["stderr"]
    assert said.endswith("the end")
    assert len(said) == STDERR_CHARACTERS


def test_answers_to_one_task_are_numbered(tried, tmp_path):
    """Within a step, in the order in which they come; so no two have the same id."""
    file = Rollouts(tmp_path, "r")
    file.append([rollout(tried, 0, task_id=name) for name in "aabab"])
    said = list(read(file.path.read_bytes().splitlines()))
    assert [one.run_id for one in said] == ["r:0:a:0", "r:0:a:1", "r:0:b:0", "r:0:a:2", "r:0:b:1"]


@pytest.mark.parametrize("torn", [b"", b'{"run": "run-1", "st', b'{"run": "run-1", "step": 0}'])
def test_what_will_be_answered_again_is_cut(written, torn):
    """Lines of the step that a run goes on from and of later ones, and one that was being written, are gone."""
    lines = written.path.read_bytes().splitlines(keepends=True)
    with written.path.open("ab") as file:
        file.write(torn)
    written.cut(1)
    assert written.path.read_bytes() == b"".join(lines[: len(ANSWERS)])
    written.cut(1)
    assert written.path.read_bytes() == b"".join(lines[: len(ANSWERS)])
    written.cut(0)
    assert written.path.read_bytes() == b""


def test_nothing_is_cut_that_is_not_understood(written, tmp_path):
    """A line in the middle that is no rollout, or of another run, is an error, and the file is as it was."""
    Rollouts(tmp_path / "elsewhere", "run-1").cut(0)
    before = written.path.read_bytes()
    with pytest.raises(LakeError, match="it is of the run run-1"):
        Rollouts(tmp_path, "run-2").cut(0)
    lines = before.splitlines(keepends=True)
    broken = b"".join([lines[0], b"?\n", *lines[1:]])
    written.path.write_bytes(broken)
    with pytest.raises(Damaged, match="line 2"):
        written.cut(9)
    with pytest.raises(Damaged, match="line 2"):
        list(read(broken.splitlines()))
    assert written.path.read_bytes() == broken


def test_the_lake_takes_them_as_its_own(written, tried, lake):
    """As evidence and verdicts that `lake score tests` has nothing to add to; told again, they add nothing."""
    lake.append("tasks", [TASK | {"description": "Twice.", "split": "train"}], producer="test", sequence=1)
    [task] = lake.read("tasks").column("event_id").to_pylist()
    said = [msgspec.structs.replace(one, task=task) for one in read(written.path.read_bytes().splitlines())]
    with closing(connect(lake.snapshot(), sql={})) as con:
        version = version_of(con, said[0].scorer)
    for sequence in (1, 2):
        evidence, scores = events(said, version, "run-1/rollouts.jsonl")
        lake.append("evidence", evidence, producer="runs", sequence=sequence)
        lake.append("scores", scores, producer="runs", sequence=sequence)
    rows = lake.read("evidence").to_pylist()
    assert sorted(row["run_id"] for row in rows) == sorted(f"run-1:{s}:twice:{n}" for s in range(2) for n in range(5))
    assert {row["model"] for row in rows} == {"run-1@0", "run-1@1"}
    assert {json.loads(row["extra"])["seed"] for row in rows} == {7, 8, 9, 10, 11}
    for row in rows:
        assert row["source"]["file"] == "run-1/rollouts.jsonl"
        assert row["text"] == said[row["source"]["line"] - 1].completion
        assert (
            row["source"]["sha256"] == hashlib.sha256(msgspec.json.encode(said[row["source"]["line"] - 1])).hexdigest()
        )
    with closing(connect(lake.snapshot())) as con:
        verdicts = dict(con.sql("select run_id, category from verdicts").fetchall())
        accepted = con.sql("select run_id from accepted order by 1").fetchall()
    wanted = ("accepted", "rejected", "rejected", "needs_human_review", "rejected")
    assert verdicts == {f"run-1:{step}:twice:{n}": category for step in range(2) for n, category in enumerate(wanted)}
    assert accepted == [("run-1:0:twice:0",), ("run-1:1:twice:0",)]
    summary = score(lake, TaskTests(Options(wall_seconds=8.0)))
    assert (summary.version, summary.considered) == (version, 0)


def test_no_answer_is_no_event():
    """A run that has answered nothing yet tells nothing."""
    assert events([], "1") == ([], [])
    assert NAME == "rollouts.jsonl"
