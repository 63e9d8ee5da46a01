"""Reward models: the loss of Bradley and Terry, read at the last token of an answer."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("trl")

from lake.errors import UsageError  # noqa: E402
from tests.trainers.toys import (  # noqa: E402
    PAD,
    PAIR,
    done,
    interrupted,
    logged,
    metrics,
    moved,
    pairs,
    settings,
    toy,
    trained,
    weights,
    write_shards,
)
from trainers import reward  # noqa: E402
from trainers.run import prepare  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model, and shards of pairs."""
    made = toy(tmp_path_factory.mktemp("reward"))
    write_shards(made / "shards", PAIR, pairs())
    return made


def scored(model, prompt, answer):
    """What a model gives for an answer: its output at the last token, by hand."""
    ids = torch.tensor([[*prompt, *answer]])
    with torch.no_grad():
        return model.score(model.model(ids).last_hidden_state[0, -1]).item()


@pytest.mark.parametrize("center", [0.0, 0.1])
def test_a_loss_is_that_of_its_paper(folder, center):
    """The loss of a step's part is the formula's mean over its pairs, each answer scored alone and without padding."""
    job = prepare(settings(folder, "reward", "formula", preference={"center": center}))
    trainer = reward.trainer(job)
    moved(trainer.model)
    [laid] = job.plan.stages
    expected = []
    for row in job.rows(0, 0):
        prompt, chosen, rejected = (job.shards.fields[name].row(int(laid.document[row]))[0] for name in PAIR)
        these = scored(trainer.model, prompt, chosen), scored(trainer.model, prompt, rejected)
        expected.append(np.log1p(np.exp(these[1] - these[0])) + center * (these[0] + these[1]) ** 2)
    batch = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(trainer.model, batch)
    assert loss.item() == pytest.approx(np.mean(expected), abs=2e-6)


def test_a_run_that_goes_on_ends_where_it_would_have(folder):
    """Its loss falls, it tells answers apart, its result loads as one output, and resuming changes no weight."""
    straight = done(settings(folder, "reward", "straight"))
    lines = metrics(folder / "straight")
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    assert lines[-1]["accuracy"] == 1
    assert lines[-1]["margin"] > lines[0]["margin"]
    broken = settings(folder, "reward", "broken")
    interrupted(broken, 3)
    assert done(broken, resume=True).plan.digest == straight.plan.digest
    assert weights(folder / "broken") == weights(folder / "straight")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder / "straight" / "model")
    assert (model.config.num_labels, model.config.pad_token_id) == (1, PAD)
    [(_, prompt, chosen, rejected)] = pairs(1, seed=7)
    assert scored(model, prompt, chosen) > scored(model, prompt, rejected)


def test_parts_of_a_step_add_up(folder):
    """A step that is taken in two parts gives the losses of one that is taken whole."""
    whole, halves = (logged(trained(settings(folder, "reward", f"in-{parts}", parts=parts))) for parts in (1, 2))
    assert halves == pytest.approx(whole, abs=1e-6)


def test_the_output_is_trained_with_adapters(folder):
    """With adapters the new output is trained too, and all else that is the model's own stays as it was."""
    trainer = reward.trainer(prepare(settings(folder, "reward", "adapters", lora={"r": 4})))
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    changed = {name for name, value in trainer.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all("lora" in name or "score" in name for name in changed)
    assert any("score" in name for name in changed)
    first, *_, last = logged(trainer)
    assert last < first


def test_a_reward_begins_from_a_language_model(folder):
    """The layers are those of the weights that are named; the output is drawn from the seed, the same each time."""
    base = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(folder))
    base.save_pretrained(folder / "base")
    said = settings(folder, "reward", "from-base", model={"path": "base", "config": None})
    these, those = (reward.trainer(prepare(said)).model.state_dict() for _ in range(2))
    assert all(torch.equal(these[name], those[name]) for name in these)
    kept = base.state_dict()
    assert all(torch.equal(these[name], kept[name]) for name in these if name.startswith("model."))


def test_what_was_held_out_is_measured(folder):
    """The loss on pairs that are not trained on is told, and falls."""
    held = write_shards(folder / "held-out", PAIR, pairs(12, seed=9))
    job = prepare(settings(folder, "reward", "held", evaluation={"every": 3, "rows": 5}))
    trainer = reward.trainer(replace(job, validation=held))
    trainer.train()
    first, last = (line["eval_loss"] for line in trainer.state.log_history if "eval_loss" in line)
    assert last < first


def test_an_answer_that_ends_like_padding_is_refused(folder, tmp_path):
    """Where the last token of an answer is the one that fills up rows, a reward would be read before it."""
    write_shards(tmp_path / "bad", PAIR, [*pairs(8), ({}, [2], [3, PAD], [4])])
    with pytest.raises(UsageError, match="end with the token 0"):
        reward.trainer(prepare(settings(folder, "reward", "bad", data={"built": str(tmp_path / "bad")})))
