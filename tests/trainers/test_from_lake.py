"""Each method on rows of a real lake: it learns, and what it learns from depends on the snapshot alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from cli.sample import sums  # noqa: E402
from ingest.readers.gsm8k import task_id  # noqa: E402
from ingest.run import Options, ingest  # noqa: E402
from lake import Lake  # noqa: E402
from lake.compact import compact  # noqa: E402
from trainers import curves, reading, receipts, run, spec, toy  # noqa: E402

# transformers 5.23 renames it, and TRL and PEFT call it by the old name.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:`(is_)?gradient_checkpointing\w*` is deprecated and will be removed in v6:FutureWarning"
)
Settings = Callable[..., spec.RunSpec]
LEARNED = ("sft", "lora", "dpo", "ipo", "kto", "reward")


def source(line: int) -> dict[str, Any]:
    """Where a row comes from."""
    return {"file": "answers.jsonl", "line": line + 1, "sha256": "0" * 64}


def filled(lake: Lake, problems: list[dict[str, str]]) -> None:
    """Append answers to problems, right and wrong, with the verdicts that they deserve, and one document each."""
    right = {problem["question"]: problem["answer"] for problem in problems}
    told = [(answer, answer["answer"] == right[answer["question"]]) for answer in sums.attempts(problems)]
    evidence: list[dict[str, Any]] = []
    scores = []
    for line, (answer, good) in enumerate(told):
        task = task_id(answer["question"])
        name = {"run_id": f"{answer['model']}:{task}", "task_id": task}
        said = {"kind": "completion", "role": "executor", "model": answer["model"], "source": source(line)}
        evidence.append({**name, **said, "prompt": answer["question"], "text": answer["answer"]})
        category = "accepted" if good else "rejected"
        scores.append({**name, "scorer": "tests", "scorer_version": "1", "category": category, "score": float(good)})
    for line, problem in enumerate(problems, len(told)):
        name = {"run_id": f"document-{line}", "task_id": f"document-{line}"}
        said = {"kind": "document", "role": "other", "source": source(line)}
        evidence.append({**name, **said, "text": f"{problem['question']}\n{problem['answer']}"})
    lake.append("evidence", evidence, producer="test", sequence=1)
    lake.append("scores", scores, producer="test", sequence=1)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake of answers to word problems, pinned as `lessons`, and a toy model beside it."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("lessons")
    problems = list(sums.problems(60))
    made = Lake.create(str(folder / "lake"))
    filled(made, problems)
    made.name(made.pin(), "lessons")
    toy.make(folder / "toy", problems)
    return made


@pytest.fixture
def settings(lake: Lake, tmp_path: Path) -> Settings:
    """Settings of a short run of a method on that lake, or another."""

    def made(method: str, out: str, *, of: Lake = lake, **changes: Any) -> spec.RunSpec:
        packed = method in spec.PACKED
        said: dict[str, Any] = {
            "method": method,
            "out": str(tmp_path / out),
            "data": {"lake": of.uri, "snapshot": "lessons", "shards": str(tmp_path / "shards"), "overlong": "drop"},
            "model": {
                "config": str(Path(lake.uri).with_name("toy")),
                "tokenizer": str(Path(lake.uri).with_name("toy")),
            },
            "stages": [{"rows": 8, "steps": 14, **({"length": 256} if packed else {})}],
            "optimizer": {"learning_rate": 0.001, "schedule": "constant"},
        }
        if method == "kto":  # what a step costs depends on how many of its answers were wanted
            said["stages"] = [{"rows": 40, "steps": 14}]
            said["optimizer"]["learning_rate"] = 0.003
        if method == "lora":
            said["data"]["dataset"] = "sft"
            said["lora"] = {"r": 4}
        if not packed:
            said["data"]["longest"] = 256
        for key, value in changes.items():
            said[key] = {**said.get(key, {}), **value} if isinstance(value, dict) else value
        return reading.parse(said, "run.toml", tmp_path)

    return made


def losses(said: spec.RunSpec) -> list[float]:
    """The loss of each step."""
    return [point.loss for point in curves.read(said.out) if point.what == "training" and point.loss is not None]


def learns(said: spec.RunSpec) -> None:
    """Train, and see the loss fall: on average, as single steps are of few rows."""
    run.train(run.prepare(said))
    seen = losses(said)
    half = len(seen) // 2
    assert sum(seen[half:]) < sum(seen[:half])


@pytest.mark.parametrize("method", ["pretrain", *LEARNED])
def test_a_method_learns_from_a_snapshot(method: str, settings: Settings, lake: Lake) -> None:
    """The loss of a few steps falls, and the lake knows the run and its snapshot."""
    said = settings(method, method)
    learns(said)
    receipts.record(lake, Path(said.out))
    record = json.loads((Path(said.out) / "run.json").read_text())
    assert record["snapshot"] == lake.snapshot("lessons").id
    assert record["state"] == "finished"
    assert record["run"] in {one.run for one in receipts.runs(lake)}


@pytest.mark.parametrize("method", LEARNED)
def test_a_method_learns_from_public_answers(method: str, settings: Settings, public_answers: Lake, lake: Lake) -> None:
    """The same on solutions of grade-school problems that people have published."""
    learns(settings(method, method, of=public_answers))


@pytest.fixture(scope="module")
def public_answers(public_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake of a few published solutions with their verdicts."""
    folder = tmp_path_factory.mktemp("published")
    whole = (public_data / "gsm8k" / "example_model_solutions.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "some.jsonl").write_bytes(b"".join(whole[:150]))
    made = Lake.create(str(folder / "lake"))
    for kind in ("tasks", "evidence", "scores"):
        ingest(made, kind, [str(folder / "some.jsonl")], Options(reader="gsm8k-solutions"))
    made.name(made.pin(), "lessons")
    return made


def test_what_is_held_out_is_measured_and_never_learned_from(settings: Settings) -> None:
    """Held-out rows are in no step; their loss is measured when asked for, and falls too."""
    said = settings("sft", "held", data={"val": 0.2}, evaluation={"every": 4})
    job = run.prepare(said)
    assert job.validation is not None
    assert not set(job.validation.keys.tolist()) & set(job.shards.keys.tolist())
    run.train(job)
    measured = {point.step: point.loss for point in curves.read(said.out) if point.what == "evaluation"}
    assert set(measured) >= {4, 8, 12}
    assert (measured[12] or 9.0) < (measured[4] or 0.0)


@pytest.mark.parametrize("commits", [20, pytest.param(1000, marks=pytest.mark.long)])
def test_what_comes_later_changes_nothing(commits: int, settings: Settings, tmp_path: Path) -> None:
    """After many more commits and a compaction the snapshot gives the same shards, order, losses and weights."""
    problems = list(sums.problems(40))
    lake = Lake.create(str(tmp_path / "lake"))
    filled(lake, problems)
    lake.name(lake.pin(), "lessons")
    before = run.prepare(settings("sft", "before", of=lake))
    first = run.train(before)
    for number in range(commits):
        later = {
            "run_id": f"later-{number}",
            "task_id": "later",
            "kind": "document",
            "role": "other",
            "text": f"later {number}",
        }
        lake.append("evidence", [later], producer="later", sequence=number + 1)
    assert list(compact(lake))
    other = settings("sft", "after", of=lake, data={"shards": str(tmp_path / "elsewhere")})
    after = run.prepare(other)
    second = run.train(after)
    assert after.shards.folder != before.shards.folder
    assert after.shards.description == before.shards.description
    assert after.plan.digest == before.plan.digest
    assert losses(other) == losses(settings("sft", "before", of=lake))
    weights = [
        {name: file.sha256 for name, file in made.checkpoints[-1].files.items() if name.endswith(".safetensors")}
        for made in (first, second)
    ]
    assert weights[0] == weights[1]
