"""DPO and IPO: the losses of their papers, a reference that is the policy before its first step, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("trl")

import torch.nn.functional as F  # noqa: E402, N812

from lake.errors import LakeError, UsageError  # noqa: E402
from tests.trainers.toys import (  # noqa: E402
    PAD,
    PAIR,
    config,
    done,
    each_token,
    interrupted,
    logged,
    metrics,
    moved,
    pairs,
    same,
    settings,
    toy,
    trained,
    weights,
    write_shards,
)
from trainers import answers, prefer  # noqa: E402
from trainers.run import prepare  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model, and shards of pairs."""
    made = toy(tmp_path_factory.mktemp("prefer"), attention_dropout=0.3)
    write_shards(made / "shards", PAIR, pairs())
    return made


@pytest.mark.parametrize("method", ["dpo", "ipo"])
def test_a_loss_is_that_of_its_paper(folder, method):
    """The loss of a step's part is the formula's mean over its pairs, each taken alone and without padding."""
    job = prepare(settings(folder, method, "formula", preference={"beta": 0.3}))
    trainer = prefer.trainer(job)
    moved(trainer.model)
    expected = []
    for row in job.rows(0, 0):
        prompt, *answers = (job.shards.fields[name].row(job.plan.stages[0].document[row])[0] for name in PAIR)
        by_policy, by_reference = (
            [each_token(model, prompt, answer).sum() for answer in answers]
            for model in (trainer.model, trainer.ref_model)
        )
        ratios = [one - other for one, other in zip(by_policy, by_reference, strict=True)]
        if method == "dpo":
            expected.append(-F.logsigmoid(0.3 * (ratios[0] - ratios[1])))
        else:
            each = [ratio / len(answer) for ratio, answer in zip(ratios, answers, strict=True)]
            expected.append((each[0] - each[1] - 1 / (2 * 0.3)) ** 2)
    batch = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(trainer.model, batch)
    assert loss.item() == pytest.approx(torch.stack(expected).mean().item(), abs=2e-6)


def test_the_reference_is_the_policy_in_memory(folder, monkeypatch):
    """What a config says that its weights were loaded from is not looked at, and training leaves a reference alone."""
    elsewhere = folder / "elsewhere"
    drawn = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(folder))
    drawn.save_pretrained(elsewhere)
    load = answers.load_policy

    def tuned(job):
        model = moved(load(job), seed=3)
        model.config._name_or_path = str(elsewhere)
        return model

    monkeypatch.setattr(answers, "load_policy", tuned)
    trainer = prefer.trainer(prepare(settings(folder, "dpo", "reference", steps=2)))
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    assert same(trainer.ref_model.state_dict(), before)
    trainer.train()
    assert same(trainer.ref_model.state_dict(), before)
    assert not same(trainer.model.state_dict(), before)
    assert logged(trainer)[0] == pytest.approx(np.log(2), abs=1e-6)


def test_the_reference_of_adapters_is_the_model_without_them(folder):
    """The first loss is that of a policy that is its reference; the weights below the adapters never change."""
    trainer = prefer.trainer(prepare(settings(folder, "dpo", "adapters", lora={"r": 4})))
    kept = {name: value.clone() for name, value in trainer.model.state_dict().items() if "lora" not in name}
    trainer.train()
    first, *_, last = logged(trainer)
    assert first == pytest.approx(np.log(2), abs=1e-6)
    assert last < 0.95 * first
    assert trainer.ref_model is None
    assert set(trainer.model.peft_config) == {"default"}
    assert same({name: trainer.model.state_dict()[name] for name in kept}, kept)


@pytest.mark.parametrize("method", ["dpo", "reward"])
def test_adapters_go_on_as_they_would_have(folder, method):
    """In bfloat16 and without keeping activations, too, an interrupted run ends with the adapters of a straight one."""
    model = {"dtype": "bfloat16", "gradient_checkpointing": True}
    straight, broken = (
        settings(folder, method, f"{method}-adapters-{way}", steps=4, model=model, lora={"r": 4})
        for way in ("straight", "broken")
    )
    done(straight)
    interrupted(broken, 3)
    done(broken, resume=True)
    assert weights(straight.out) == weights(broken.out)


def test_each_step_is_without_dropout(folder):
    """A model whose attention drops some of what it sees is trained as if it did not."""
    trainer = prefer.trainer(prepare(settings(folder, "dpo", "dropout")))
    trainer.model.train()
    batch = next(iter(trainer.get_train_dataloader()))
    assert len({trainer.compute_loss(trainer.model, dict(batch)).item() for _ in range(3)}) == 1
    with pytest.raises(UsageError, match="without dropout"):
        prefer.trainer(prepare(settings(folder, "dpo", "dropout", lora={"dropout": 0.1})))


def test_a_mixture_of_experts_has_the_losses_of_its_answers_alone(folder):
    """No noise of a router and no loss of its own come to it: the first loss is that of the formula, each time."""
    config(folder / "experts", "mixtral", num_local_experts=4, router_jitter_noise=0.3)
    trainer = prefer.trainer(prepare(settings(folder, "dpo", "mixture", model={"config": "experts/config.json"})))
    trainer.model.train()
    batch = next(iter(trainer.get_train_dataloader()))
    for _ in range(3):
        assert trainer.compute_loss(trainer.model, dict(batch)).item() == pytest.approx(np.log(2), abs=1e-6)


@pytest.mark.parametrize("method", ["dpo", "ipo"])
def test_a_run_that_goes_on_ends_where_it_would_have(folder, method):
    """Its loss falls, the trackers' numbers are in its metrics, and its weights are those of an uninterrupted run."""
    straight = done(settings(folder, method, f"{method}-straight"))
    lines = metrics(folder / f"{method}-straight")
    assert lines[-1]["loss"] < 0.8 * lines[0]["loss"]
    assert lines[-1]["rewards/accuracies"] == 1
    assert lines[-1]["rewards/margins"] > lines[0]["rewards/margins"] == 0
    broken = settings(folder, method, f"{method}-broken")
    interrupted(broken, 3)
    assert done(broken, resume=True).plan.digest == straight.plan.digest
    assert weights(folder / f"{method}-broken") == weights(folder / f"{method}-straight")


def test_parts_of_a_step_add_up(folder):
    """A step that is taken in two parts gives the losses of one that is taken whole."""
    whole, halves = (logged(trained(settings(folder, "ipo", f"in-{parts}", parts=parts))) for parts in (1, 2))
    assert halves == pytest.approx(whole, abs=1e-6, rel=1e-6)


def test_rows_reach_the_model_as_they_are(folder):
    """Every token of every row is in a batch once an epoch, however long it is, and only answers are counted."""
    rows = [*pairs(14, seed=5), ({}, [2] * 700, [3] * 900, [4] * 10), ({}, [5], [2] * 1500, [3] * 2000)]
    shards = write_shards(folder / "long-rows", PAIR, rows)
    made = prefer.compared(shards, PAD)
    job = prepare(settings(folder, "dpo", "long", steps=2, data={"built": "long-rows"}))
    [laid] = job.plan.stages
    found = []
    for step in range(2):
        for part in range(job.parts):
            batch = made(laid, job.rows(step, part))
            for place, row in enumerate(np.tile(laid.document[job.rows(step, part)], 2)):
                length = batch["attention_mask"][place].sum()
                ids = batch["input_ids"][place, :length].tolist()
                prompt = len(rows[row][1])
                assert batch["attention_mask"][place, :length].all()
                assert batch["completion_mask"][place].nonzero()[0].tolist() == list(range(prompt, length))
                found.append((int(row), ids[:prompt], ids[prompt:]))
    assert sorted(found) == sorted((n, p, a) for n, (_, p, *answers) in enumerate(rows) for a in answers)
    with pytest.raises(UsageError, match="positions of the model"):
        prefer.trainer(job)


@pytest.mark.parametrize(
    ("row", "match"),
    [
        (({}, [], [2], [3]), "has no prompt"),
        (({}, [2], [], [3]), "no token in chosen"),
        (({}, [2], [3], [99]), "99"),
    ],
)
def test_rows_that_cannot_be_learned_from_are_refused(folder, tmp_path, row, match):
    """A row without a prompt or without an answer is named; so is an id that the model has no embedding for."""
    write_shards(tmp_path / "bad", PAIR, [*pairs(8), row])
    with pytest.raises(LakeError, match=match):
        prefer.trainer(prepare(settings(folder, "dpo", "bad", data={"built": str(tmp_path / "bad")})))


def test_what_was_held_out_is_measured(folder):
    """The loss on pairs that are not trained on is told beside the others, and falls too."""
    said = settings(folder, "dpo", "held", evaluation={"every": 3, "rows": 5})
    held = write_shards(folder / "held-out", PAIR, pairs(12, seed=9))
    trainer = prefer.trainer(replace(prepare(said), validation=held))
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    told = [line for line in trainer.state.log_history if "eval_loss" in line]
    assert before == pytest.approx(np.log(2), abs=1e-6)
    assert [line["step"] for line in told] == [3, 6]
    assert told[1]["eval_loss"] < told[0]["eval_loss"] < before
    assert told[-1]["eval_rewards/accuracies"] > 0.9
