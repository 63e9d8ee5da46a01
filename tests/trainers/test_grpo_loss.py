"""GRPO's loss is that of its papers, worked out here answer by answer."""

from types import SimpleNamespace
from typing import get_args

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("trl")

from lake.errors import UsageError  # noqa: E402
from tests.trainers.programs import ASK, of_grpo, writes_programs  # noqa: E402
from tests.trainers.toys import each_token, moved  # noqa: E402
from trainers import grpo, spec  # noqa: E402
from trainers.run import prepare  # noqa: E402

TOKENS, TEMPERATURE, CLIP = 3, 0.7, 0.2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model whose tokens are lines of programs, and tasks."""
    return writes_programs(tmp_path_factory.mktemp("loss"))


def learner(folder, loss, beta=0.0):
    """A trainer that has not begun, of a round that two steps learn from, so that policies of two ages meet."""
    said = {"loss": loss, "beta": beta, "temperature": TEMPERATURE, "iterations": 2}
    trainer = grpo.trainer(prepare(of_grpo(folder, "loss", steps=2, parts=1, tokens=TOKENS, grpo=said)))
    trainer.current_gradient_accumulation_steps = 1  # which a trainer says once it trains
    trainer.model.train()
    return trainer


@pytest.fixture(scope="module")
def answered(folder):
    """Answers to a round of prompts, what TRL makes of them for a step, and what policy and reference say of them."""
    trainer, told = learner(folder, "grpo", 0.3), []
    moved(trainer.ref_model, seed=1)
    trainer.rollouts = SimpleNamespace(append=told.extend)
    inputs = trainer._prepare_inputs(trainer.samples(0))
    return told, inputs, probabilities(trainer.model, told), probabilities(trainer.ref_model, told)


def probabilities(trained, told):
    """The log-probability of each token of each answer, the answer alone and without padding, by a plain model."""
    model = transformers.AutoModelForCausalLM.from_config(trained.config)
    model.load_state_dict(trained.state_dict())
    prompts = [[ASK] * (int(one.task_id.removeprefix("task-")) + 1) for one in told]
    return [
        each_token(model, prompt, one.completion_ids, TEMPERATURE) for prompt, one in zip(prompts, told, strict=True)
    ]


def advantages(told):
    """How much better each answer is than the others to its prompt, in deviations of them."""
    for one in told:
        group = torch.tensor([other.reward for other in told if other.task_id == one.task_id])
        yield (one.reward - group.mean()) / (group.std() + 1e-4)


def clipped(ratio, advantage, now):
    """Schulman et al., arXiv 1707.06347, equation 7."""
    return torch.minimum(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage)


def weighed(ratio, advantage, now):
    """Likelihood, weighed by a ratio of at most 5: CISPO, as in Khatri et al., arXiv 2510.13786."""
    return ratio.clamp(max=5.0) * advantage * now


def gated(ratio, advantage, now):
    """A gate that closes gently: Gao et al., arXiv 2511.20347."""
    steepness = 1.0 if advantage > 0 else 1.05
    return torch.sigmoid(steepness * (ratio - 1)) * 4 / steepness * advantage


def over_answers(each):
    """A mean over the answers of means over their tokens: Shao et al., arXiv 2402.03300, equation 3."""
    return torch.stack([tokens.mean() for tokens in each]).mean()


def over_tokens(each):
    """The mean over the tokens of all answers: Yu et al., arXiv 2503.14476, equation 8."""
    return torch.cat(each).mean()


def over_room(each):
    """As if all answers were as long as they may be: Liu et al., arXiv 2503.20783."""
    return torch.cat(each).sum() / (len(each) * TOKENS)


# By name: what a token gains, and the mean that is taken.
LOSSES = {
    "grpo": (clipped, over_answers),
    "dapo": (clipped, over_tokens),
    "bnpo": (clipped, over_tokens),
    "dr_grpo": (clipped, over_room),
    "cispo": (weighed, over_tokens),
    "sapo": (gated, over_answers),
}


@pytest.mark.parametrize(("loss", "beta"), [*((loss, 0.0) for loss in LOSSES), ("grpo", 0.3), ("dapo", 0.3)])
def test_a_loss_is_that_of_its_paper(folder, answered, loss, beta):
    """By ratios to the policy that answered, advantages within a prompt, and the divergence from the reference."""
    told, inputs, drew, reference = answered
    assert len({len(one.completion_ids) for one in told}) > 1
    trainer = learner(folder, loss, beta)
    moved(trainer.model, seed=2, by=0.1)
    gain, mean = LOSSES[loss]
    each, ratios = [], []
    for now, then, held, advantage in zip(
        probabilities(trainer.model, told), drew, reference, advantages(told), strict=True
    ):
        ratio = (now - then).exp()
        # Schulman's k3, weighed by the ratio: DeepSeek-AI, arXiv 2512.02556.
        divergence = ratio * ((held - now).exp() - (held - now) - 1)
        each.append(beta * divergence - gain(ratio, advantage, now))
        ratios.append(ratio)
    assert 0 < ((torch.cat(ratios) - 1).abs() > CLIP).float().mean() < 1
    assert trainer.compute_loss(trainer.model, inputs).item() == pytest.approx(mean(each).item(), abs=1e-5)


def test_every_loss_that_can_be_named_is_one(folder, answered):
    """Each name that settings take means something in the installed TRL; another is refused as they are read."""
    assert {*LOSSES, "vespo"} == set(get_args(spec.Loss))
    trainer = learner(folder, "vespo")
    trainer.compute_loss(trainer.model, answered[1]).backward()
    assert any(parameter.grad.abs().max() > 0 for parameter in trainer.model.parameters())
    with pytest.raises(UsageError, match=r"grpo\.loss"):
        of_grpo(folder, "loss", grpo={"loss": "ppo"})
