"""Each method on rows of a real lake: it learns, and what it learns from depends on the snapshot alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("trl")
from safetensors.torch import load_file

from cli.app import main
from cli.sample import sums
from ingest.run import Options, ingest
from lake import Lake
from lake.compact import compact
from tests.trainers import toys
from tests.trainers.answered import filled
from trainers import curves, receipts, run, spec, toy
from trainers.record import read

# transformers 5.23 renames it, and TRL and PEFT call it by the old name.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:`(is_)?gradient_checkpointing\w*` is deprecated and will be removed in v6:FutureWarning"
)
Settings = Callable[..., spec.RunSpec]
SMALL = {"vocab_size": 512, "eos_token_id": 2, "pad_token_id": 3}  # as the tokenizer of `toy` has them
MIXTURE = {**SMALL, "head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2}
LEARNED = ("sft", "lora", "dpo", "ipo", "kto", "reward")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake of answers to word problems, pinned as `lessons`, and a toy model beside it."""
    folder = tmp_path_factory.mktemp("lessons")
    problems = list(sums.problems(20))
    made = Lake.create(str(folder / "lake"))
    filled(made, problems)
    made.name(made.pin(), "lessons")
    toy.make(folder / "toy", problems)
    toys.config(folder / "toy", **SMALL)
    return made


@pytest.fixture
def settings(lake: Lake, tmp_path: Path) -> Settings:
    """Settings of a short run of a method on that lake, or another."""
    model = str(Path(lake.uri).with_name("toy"))

    def made(method: str, out: str, *, of: Lake = lake, **changes: Any) -> spec.RunSpec:
        packed = method in spec.PACKED
        data = {"lake": of.uri, "snapshot": "lessons", "shards": "shards", "overlong": "drop", "built": None}
        said: dict[str, Any] = {
            "data": data | ({} if packed else {"longest": 256}) | ({"dataset": "sft"} if method == "lora" else {}),
            "model": {"config": model, "tokenizer": model},
            "stages": [{"rows": 8, "length": 256, "steps": 10} if packed else {"rows": 5, "steps": 10}],
            "optimizer": {"learning_rate": 0.003, "schedule": "constant"},
            "every": None,
            "parts": 1,
            "seed": 0,
        }
        if method == "kto":  # what a step costs depends on how many of its answers were wanted
            said["stages"] = [{"rows": 10, "steps": 10}]
        if method == "lora":
            said["lora"] = {"r": 4}
        return toys.settings(tmp_path, method, out, **toys.merged(said, changes))

    return made


def learns(said: spec.RunSpec) -> None:
    """See the loss of a run fall: on average, as single steps are of few rows."""
    seen = toys.losses(said.out)
    half = len(seen) // 2
    assert sum(seen[half:]) < sum(seen[:half])


@pytest.mark.parametrize("method", ["pretrain", *LEARNED])
def test_a_method_learns_from_a_snapshot(method: str, settings: Settings, lake: Lake) -> None:
    """The loss of a few steps falls, and the lake knows the run and its snapshot."""
    said = settings(method, method)
    toys.done(said)
    learns(said)
    receipts.record(lake, Path(said.out))
    record = json.loads((Path(said.out) / "run.json").read_text())
    assert record["snapshot"] == lake.snapshot("lessons").id
    assert record["state"] == "finished"
    assert record["run"] in {one.run for one in receipts.runs(lake)}


@pytest.mark.parametrize("method", LEARNED)
def test_a_method_learns_from_public_answers(method: str, settings: Settings, public_answers: Lake, lake: Lake) -> None:
    """The same on solutions of grade-school problems that people have published."""
    said = settings(method, method, of=public_answers)
    toys.done(said)
    learns(said)


def test_adapters_of_experts_learn_from_a_snapshot(settings: Settings, lake: Lake) -> None:
    """`lake train lora` on a mixture of experts: each expert's adapter is verified, trained and kept."""
    mixture = toys.config(Path(lake.uri).with_name("mixture"), "gpt_oss", **MIXTURE)
    said = settings("lora", "experts", model={"config": str(mixture), "attention": "eager"})
    assert main(["train", "lora", "--config", f"{said.out}.toml"]) == 0
    learns(said)
    adapter = read(said.out).adapter
    assert adapter is not None
    # Two stacks of experts a layer, and four projections of its attention.
    assert (adapter["expert_layers"], adapter["expert_weights"], adapter["weights"]) == (2, 4, 12)
    kept = load_file(Path(said.out) / "model" / "adapter_model.safetensors")
    assert sum(weights.numel() for weights in kept.values()) == adapter["trainable"]
    # What is drawn is A; B begins as 0, with columns of its own for each expert.
    stacks = [weights for name, weights in kept.items() if "experts" in name and "lora_B" in name]
    assert len(stacks) == 4
    assert all((stack.abs().sum(0) > 0).all() for stack in stacks)
    assert read(said.out).run in {one.run for one in receipts.runs(lake)}


@pytest.fixture(scope="module")
def public_answers(public_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake of a few published solutions with their verdicts: so few that steps see them again."""
    folder = tmp_path_factory.mktemp("published")
    whole = (public_data / "gsm8k" / "example_model_solutions.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "some.jsonl").write_bytes(b"".join(whole[:30]))
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
    assert set(measured) >= {4, 8}
    assert (measured[8] or 9.0) < (measured[4] or 0.0)


@pytest.mark.parametrize("commits", [20, pytest.param(1000, marks=pytest.mark.long)])
def test_what_comes_later_changes_nothing(commits: int, settings: Settings, tmp_path: Path) -> None:
    """After many more commits and a compaction the snapshot gives the same shards, order, losses and weights."""
    problems = list(sums.problems(40))
    lake = Lake.create(str(tmp_path / "lake"))
    filled(lake, problems)
    lake.name(lake.pin(), "lessons")
    first = settings("sft", "before", of=lake)
    before = run.prepare(first)
    run.train(before)
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
    second = settings("sft", "after", of=lake, data={"shards": "elsewhere"})
    after = run.prepare(second)
    run.train(after)
    assert after.shards.folder != before.shards.folder
    assert after.shards.description == before.shards.description
    assert after.plan.digest == before.plan.digest
    assert toys.losses(second.out) == toys.losses(first.out)
    assert toys.weights(second.out) == toys.weights(first.out)
