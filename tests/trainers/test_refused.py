"""What is refused before a run's first step: it would learn nothing, or other than was meant, and not say so."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("trl")

from cli.sample import sums  # noqa: E402
from lake import Lake  # noqa: E402
from lake.errors import UsageError  # noqa: E402
from tests.replay.conftest import section  # noqa: E402
from tests.trainers import toys  # noqa: E402
from tests.trainers.made_runs import filled  # noqa: E402
from tests.trainers.programs import of_grpo, writes_programs  # noqa: E402
from trainers import answers, causal, curves, run, spec, toy  # noqa: E402
from trainers.adapters import NotReached  # noqa: E402
from trainers.shards import writing  # noqa: E402

# transformers 5.23 renames it, and TRL and PEFT call it by the old name.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:`(is_)?gradient_checkpointing\w*` is deprecated and will be removed in v6:FutureWarning"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny models, rows for each kind of method, and a lake of conversations beside a model of its own."""
    made = toys.toy(tmp_path_factory.mktemp("refused"))
    toys.write_shards(made / "pairs", toys.PAIR, toys.pairs(8))
    toys.write_shards(made / "answers", toys.ANSWER, toys.judged(4))
    toys.write_texts(made / "texts")
    (made / "programs").mkdir()
    writes_programs(made / "programs")
    toy.make(made / "chats", list(sums.problems(20)))
    lake = filled(Lake.create(str(made / "lake")))
    past = [section(f"### Q\nRecall {number}.\n### A\nIt was so.", "instruction") for number in range(9)]
    lake.append("replay", past, producer="past", sequence=1)
    lake.name(lake.pin(), "first")
    (made / "policy.json").write_text('{"replay": {"retention": 0.0}}')
    return made


def of_chats(folder: Path, out: str, model: str = "chats", **data: Any) -> spec.RunSpec:
    """The settings of a run on conversations, of the lake if nothing else is said."""
    data = data if "built" in data else {"built": None, "lake": "lake", "snapshot": "first", **data}
    said = {"config": "chats/config.json", "tokenizer": model}
    return toys.settings(folder, "sft", out, data=data, model=said, stages=[{"rows": 2, "length": 256}])


def test_a_step_with_nothing_to_learn(folder: Path, tmp_path: Path) -> None:
    """Where a step would divide by no tokens at all, the run does not begin; a step with one example more does."""
    with writing(tmp_path / "some", ["text"]) as writer:
        for row in range(8):
            writer.add({"id": f"row-{row}"}, {"text": (np.arange(16) + 2, np.full(16, row != 3))})
        writer.finish({"dataset": "made up"}, {"offered": 8, "kept": 8})
    data = {"built": str(tmp_path / "some")}
    one, two = (
        toys.settings(folder, "sft", out, data=data, stages=[{"rows": rows, "length": 16}], parts=1)
        for out, rows in (("nothing", 1), ("little", 2))
    )
    job = run.prepare(one)
    step = int(np.flatnonzero(job.plan.stages[0].document == 3)[0])
    with pytest.raises(UsageError, match=f"step {step + 1} would have no token to learn"):
        run.train(job)
    assert not (Path(job.spec.out) / "run.json").exists()
    toys.done(two)
    assert np.isfinite([point.loss for point in curves.read(Path(two.out))]).all()


@pytest.mark.parametrize("method", ["sft", "dpo", "kto", "reward", "grpo"])
def test_an_adapter_that_no_loss_reaches(method: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the method, each adapter is shown to learn before the first step; one that is passed by is named."""
    honest = answers.adapt

    def bypassed(model: Any, lora: spec.Lora) -> Any:
        adapted = honest(model, lora)
        layer = adapted.get_base_model().get_submodule("model.layers.1.self_attn.v_proj")
        layer.forward = layer.get_base_layer().forward
        return adapted

    lora = {"r": 2}
    if method == "grpo":
        said = of_grpo(folder / "programs", "bypassed", lora=lora)
    elif method == "sft":
        stages = [{"rows": 4, "length": 64}]
        said = toys.settings(folder, method, "bypassed", data={"built": "texts"}, stages=stages, lora=lora)
    else:
        data = {"built": "answers" if method == "kto" else "pairs"}
        said = toys.settings(folder, method, f"bypassed-{method}", data=data, lora=lora)
    job = run.prepare(said)
    assert run.trainer_of(job)
    for room in (answers, causal):
        monkeypatch.setattr(room, "adapt", bypassed)
    with pytest.raises(NotReached, match=r"layers\.\*\.self_attn\.v_proj: no gradient"):
        run.trainer_of(job)


@pytest.mark.parametrize("mixed", [{}, {"replay": 0.2, "policy": "policy.json"}])
def test_conversations_of_another_template(mixed: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    """Shards go with the template that they were written by, past rows among them or not; it is saved with a model."""
    job = run.prepare(of_chats(folder, "whole", shards=str(tmp_path / "made"), **mixed))
    sections = job.shards.rows(["section_id"])["section_id"].to_pylist()
    assert any(sections) == bool(mixed)
    built = str(job.shards.folder.parent)
    assert run.prepare(of_chats(folder, "elsewhere", built=built)).plan.digest == job.plan.digest
    own = str(job.tokenizer.chat_template)
    for name, template in (("other", own.replace("message.content", "message.content | trim")), ("none", None)):
        job.tokenizer.chat_template = template
        job.tokenizer.save_pretrained(folder / name)
    with pytest.raises(UsageError, match="another chat template wrote its conversations"):
        run.prepare(of_chats(folder, "drifted", "other", built=built))
    run.prepare(of_chats(folder, "base", "none", built=built))
    (tmp_path / "own.jinja").write_text(own)
    said = of_chats(folder, f"named-{bool(mixed)}", "other", built=built, template=str(tmp_path / "own.jinja"))
    toys.done(said)
    saved = transformers.AutoTokenizer.from_pretrained(Path(said.out) / "model")
    assert saved.chat_template == own
