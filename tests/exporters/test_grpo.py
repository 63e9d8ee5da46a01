"""The datasets of tasks: `grpo`, which is trained on, and `eval`, which is measured with."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from exporters.export import export
from exporters.faults import FirewallBreach
from exporters.plan import Options
from exporters.validate import validate
from ingest.run import Options as IngestOptions
from ingest.run import ingest
from ingest.scorers.task_tests import TaskTests
from lake import Lake
from lake.errors import LakeError
from views import connect, needed, sources
from views.connect import dumps
from views.gates import Quality
from views.policy import Policy

TESTS = "def check(candidate):\n    assert candidate(2) == 4\n"
STARTER = "def twice(n):\n"
DOCUMENTED = STARTER + '    """\n    Twice\n    n.\n    """\n'


def task(task_id: str, **more: object) -> dict[str, object]:
    """One task, as it is ingested from a file."""
    return {
        "task_id": task_id,
        "language": "python",
        "description": f"Twice n, as {task_id} has it.",
        "starter_code": STARTER,
        "tests": TESTS,
        "entry_point": "twice",
        "split": "train",
        "source": {"file": "tasks.jsonl", "line": 1, "sha256": hashlib.sha256(task_id.encode()).hexdigest()},
        **more,
    }


FATES = {
    "good": (task("good"), ""),
    "unsplit": (task("unsplit", split=None, language=None, starter_code=None), ""),
    "documented": (task("documented", description="Twice  n.", starter_code=DOCUMENTED), ""),
    "untested": (task("untested", tests=" \n"), "missing_tests"),
    "answered": (task("answered", tests=None, answer="4"), "missing_tests"),
    "silent": (task("silent", description=None, starter_code="  "), "empty_content"),
    "unsourced": (task("unsourced", source=None), "missing_provenance"),
    "measured": (task("measured", split="test"), "eval_task"),
    "measured-too": (task("measured-too", split="eval", tests=None, answer="4"), "eval_task"),
    "unmeasurable": (task("unmeasurable", split="eval", tests=None), "eval_task"),
}


DEFECTIVE = {"untested", "silent", "unsourced", "unmeasurable"}  # whichever set they were for


@pytest.fixture
def tasks(lake: Lake) -> Lake:
    """A lake with a task of every fate."""
    lake.append("tasks", [row for row, _ in FATES.values()], producer="test", sequence=1)
    return lake


def rows(folder: Path) -> dict[str, dict[str, object]]:
    [file] = folder.glob("data/*.jsonl")
    return {row["task_id"]: row for row in map(json.loads, file.read_text("utf-8").splitlines())}


def refused(lake: Lake, dataset: str) -> dict[str, str]:
    with connect(lake.snapshot(), sql=needed("quarantine")) as connection:
        found = connection.execute("select record_id, reason from quarantine where dataset = ?", [dataset]).fetchall()
    return dict(found)


def test_tasks_with_tests_are_trained_on_and_the_others_say_why_not(tasks, tmp_path):
    """Every task is in one of grpo and its quarantine, with what a reward function needs to run its tests."""
    counts = export(tasks, "grpo", tmp_path / "grpo").counts
    assert (counts.considered, counts.exported) == (len(FATES), 3)
    assert refused(tasks, "grpo") == {name: reason for name, (_, reason) in FATES.items() if reason}
    row = rows(tmp_path / "grpo")["good"]
    assert row["prompt"] == [{"role": "user", "content": f"{row['description']}\n\n{STARTER}"}]
    assert (row["tests"], row["entry_point"], row["starter_code"]) == (TESTS, "twice", STARTER)
    assert rows(tmp_path / "grpo")["documented"]["prompt"][0]["content"] == DOCUMENTED
    other = rows(tmp_path / "grpo")["unsplit"]
    assert (other["language"], other["starter_code"]) == ("python", "")


def test_the_plain_shape_has_its_prompt_as_text(tasks, tmp_path):
    """The same rows, for a trainer without a chat template."""
    export(tasks, "grpo", tmp_path / "grpo", Options(shape="plain", provenance=False, format="jsonl"))
    [file] = (tmp_path / "grpo").glob("data/*.jsonl")
    for row in map(json.loads, file.read_text().splitlines()):
        assert row["prompt"].startswith((row["description"], row["starter_code"]))
        assert set(row) == {"id", "prompt", "description", "starter_code", "tests", "entry_point", "language"}


def test_tests_that_are_exported_can_be_run(tasks, tmp_path):
    """A reward from an exported row alone: right code passes its tests and wrong code fails them."""
    export(tasks, "grpo", tmp_path / "grpo")
    row, scorer = rows(tmp_path / "grpo")["good"], TaskTests()
    verdicts = [scorer({"text": f"    return {code}\n"}, row) for code in ("2 * n", "n")]
    assert [verdict.category for verdict in verdicts] == ["accepted", "rejected"]
    assert all(verdict.sub_scores["total"] == 1 for verdict in verdicts)


def test_a_task_is_measured_with_or_trained_on_and_never_both(tasks, tmp_path):
    """Whatever splits the policy names for measuring, no task is in both sets."""
    for splits in (("eval", "test"), ("train",), ()):
        policy = Policy(quality=Quality(eval_splits=splits))
        with connect(tasks.snapshot(), policy, sql=needed("grpo eval")) as connection:
            trained, measured = (
                {name for (name,) in connection.sql(f"select task_id from {dataset}").fetchall()}
                for dataset in ("grpo", "eval")
            )
        assert not trained & measured
        assert measured == {
            name for name, (row, _) in FATES.items() if row["split"] in splits and name not in DEFECTIVE
        }


def test_an_eval_task_has_tests_or_an_answer(tasks, tmp_path):
    """One that an answer cannot be checked by is quarantined."""
    counts = export(tasks, "eval", tmp_path / "eval").counts
    assert (counts.considered, counts.exported, counts.quarantined) == (3, 2, 1)
    assert refused(tasks, "eval") == {"unmeasurable": "missing_tests"}
    assert rows(tmp_path / "eval")["measured-too"]["answer"] == "4"
    assert validate(tmp_path / "eval").problems == ()


def test_the_newest_event_of_a_task_counts(tasks, tmp_path):
    """A task that became one to measure with leaves the training set."""
    tasks.record("tasks", task("good", split="eval"))
    assert export(tasks, "grpo", tmp_path / "grpo").counts.exported == 2
    assert refused(tasks, "grpo")["good"] == "eval_task"


@pytest.mark.parametrize(
    ("dataset", "old", "new"),
    [
        ("grpo", "where not is_eval and errors = ''", "where is_eval and tests <> ''"),
        ("grpo", "where not is_eval and errors = ''", "where task_id = 'untested'"),
        ("eval", "where is_eval and errors = ''", "where task_id = 'unmeasurable'"),
    ],
)
def test_the_second_layer_holds_alone(tasks, tmp_path, dataset, old, new):
    """A view that lets an eval task into training, or a task without tests anywhere, writes nothing."""
    broken = dict(sources())
    assert old in broken[dataset]
    broken[dataset] = broken[dataset].replace(old, new)
    with pytest.raises(LakeError) as caught:
        export(tasks, dataset, tmp_path / "out", Options(views=tasks.put_object(dumps(broken))))
    assert isinstance(caught.value, FirewallBreach), caught.value
    assert not (tmp_path / "out").exists()


def test_human_eval_is_measured_with_unless_the_policy_says_otherwise(lake, public_data, tmp_path):
    """Its tasks, Python and Rust, are eval tasks; under a policy that registers none they are trained on by reward."""
    for reader, file in (("humaneval", "HumanEval.jsonl.gz"), ("humaneval-x", "humaneval_rust.jsonl.gz")):
        ingest(lake, "tasks", [str(public_data / "humaneval" / file)], IngestOptions(reader=reader))
    assert export(lake, "eval", tmp_path / "eval").counts.exported == 328
    assert export(lake, "grpo", tmp_path / "none").counts.quarantined == 328
    policy = Policy(quality=Quality(eval_splits=()))
    receipt = export(lake, "grpo", tmp_path / "grpo", Options(policy=policy, val=0.1))
    assert receipt.counts.exported == 328
    assert receipt.counts.splits["validation"] > 0


def test_trl_reads_the_rows(tasks, tmp_path):
    """`datasets.load_dataset` gives what GRPOTrainer takes: a prompt, and what its reward function needs."""
    datasets = pytest.importorskip("datasets")
    export(tasks, "grpo", tmp_path / "grpo", Options(format="parquet"))
    loaded = datasets.load_dataset(str(tmp_path / "grpo"), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.num_rows == 3
    assert loaded[0]["prompt"][-1]["role"] == "user"


def test_the_reward_of_the_manual_runs_the_tests():
    """It rewards right code with 1, and code that ends at once, or prints what a test would, with nothing."""
    page = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text("utf-8")
    [example] = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    exec(example, names)
    answers = ["    return 2 * n\n", [{"role": "assistant", "content": "    return 0\n"}], "import os; os._exit(0)", ""]
    columns = {"tests": TESTS, "entry_point": "twice", "starter_code": STARTER, "language": "python", "id": "x"}
    given = names["reward"](answers, **{name: [value] * len(answers) for name, value in columns.items()})
    assert given == [1.0, 0.0, 0.0, 0.0]
