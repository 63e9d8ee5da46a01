"""Runs of every method on rows of a lake, as they should be: nothing that `lake audit` looks at fails."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("trl")

from cli.sample import sums
from lake import Lake
from tests.replay.conftest import section
from tests.trainers import toys
from tests.trainers.answered import filled
from trainers import audit, spec, toy

# transformers 5.23 renames it, and TRL and PEFT call it by the old name.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:`(is_)?gradient_checkpointing\w*` is deprecated and will be removed in v6:FutureWarning"
)
SMALL = {"vocab_size": 512, "eos_token_id": 2, "pad_token_id": 3}  # as the tokenizer of `toy` has them
MIXTURE = {**SMALL, "head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of answers to word problems and of past training, and two toy models."""
    made = tmp_path_factory.mktemp("audited")
    problems = list(sums.problems(30))
    lake = Lake.create(str(made / "lake"))
    filled(lake, problems)
    past = [section(f"### Q\nRecall {number}.\n### A\nIt was so.", "instruction") for number in range(9)]
    lake.append("replay", past, producer="past", sequence=1)
    lake.name(lake.pin(), "lessons")
    (made / "policy.json").write_text('{"replay": {"retention": 0.0}}')
    toy.make(made / "model", problems)
    toys.config(made / "model", **SMALL)
    toys.config(made / "mixture", kind="gpt_oss", **MIXTURE)
    return made


def said_of(folder: Path, method: str, **changes: Any) -> spec.RunSpec:
    """The settings of a run of a method, some of its rows held out."""
    packed = method in spec.PACKED
    data = {"built": None, "lake": "lake", "snapshot": "lessons", "val": 0.2, "overlong": "drop"}
    usual: dict[str, Any] = {
        "data": data | ({} if packed else {"longest": 256}),
        "model": {"config": "model/config.json", "tokenizer": "model"},
        "stages": [{"rows": 8, "steps": 4, **({"length": 256} if packed else {})}],
    }
    return toys.settings(folder, method, f"none-{method}", **toys.merged(usual, changes))


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("pretrain", {}),
        ("pretrain", {"stages": [{"rows": 8, "length": 64, "steps": 3}, {"rows": 4, "length": 128, "steps": 3}]}),
        ("sft", {"data": {"replay": 0.2, "policy": "policy.json"}}),
        ("sft", {"model": {"config": "mixture/config.json", "attention": "eager"}}),
        ("lora", {"data": {"dataset": "sft"}, "lora": {"r": 2}, "model": {"dtype": "bfloat16"}}),
        ("dpo", {}),
        ("ipo", {"lora": {"r": 2}}),
        ("kto", {}),
        ("reward", {"lora": {"r": 2}}),
    ],
)
def test_a_run_that_is_well_fails_nothing(method: str, changes: dict[str, Any], folder: Path) -> None:
    """Rows made anew are those of the shards, no task is on both sides, all that is held out is measured, and more."""
    said = said_of(folder, method, **changes)
    found = {one.must: (one.result, one.where) for one in audit.audit(said).findings}
    assert {must: where for must, (result, where) in found.items() if result == "fail"} == {}
    passed = {must for must, (result, _) in found.items() if result == "pass"}
    assert {
        one for one in found if one.startswith(("the first rows", "nothing that is held out", "all that is"))
    } <= passed
    assert any(one.startswith("adapters are on all") for one in passed) == ("lora" in changes)
