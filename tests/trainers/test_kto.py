"""KTO: the loss of its paper, with an estimate of the divergence that is a step's and no device's."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from lake.errors import UsageError  # noqa: E402
from tests.trainers.toys import (  # noqa: E402
    ANSWER,
    END,
    done,
    each_token,
    interrupted,
    judged,
    logged,
    metrics,
    moved,
    same,
    settings,
    toy,
    trained,
    weights,
    write_shards,
)
from trainers import kto  # noqa: E402
from trainers.run import prepare  # noqa: E402

BETA, WANTED, UNWANTED = 0.3, 1.5, 0.5
WEIGHTS = {"beta": BETA, "desirable_weight": WANTED, "undesirable_weight": UNWANTED}
STRONG = {"beta": 1.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model, and shards of answers."""
    made = toy(tmp_path_factory.mktemp("kto"))
    write_shards(made / "shards", ANSWER, judged())
    return made


def loss_of_steps(trainer):
    """The loss of each step, by the weights as they are: the mean over its parts."""
    batches = iter(trainer.get_train_dataloader())
    for _ in range(trainer.job.plan.steps):
        parts, _ = trainer.get_batch_samples(batches, trainer.job.parts, "cpu")
        yield np.mean([trainer.compute_loss(trainer.model, part).item() for part in parts])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(("parts", "other"), [(1, "ref_model"), (2, "ref_model"), (8, "model")])
def test_a_loss_is_that_of_its_paper(folder, parts, other):
    """Each answer counts by its label's weight, against one estimate a step from prompts with the answers to others."""
    job = prepare(settings(folder, "kto", f"formula-{parts}", parts=parts, preference=WEIGHTS))
    trainer = kto.trainer(job)
    moved(getattr(trainer, other))
    [laid] = job.plan.stages
    prompts, completions = (
        [job.shards.fields[name].row(int(document))[0] for document in laid.document] for name in ANSWER
    )
    labels = np.array(job.shards.rows(["label"]).column("label").to_pylist())[laid.document]

    def ratio(prompt, answer):
        there = prompts[prompt], completions[answer]
        return (each_token(trainer.model, *there) - each_token(trainer.ref_model, *there)).sum().item()

    divergences = []
    for step, found in enumerate(loss_of_steps(trainer)):
        rows = range(8 * step, 8 * step + 8)
        # Before the first row of a stage comes its last one.
        divergences.append(max(0.0, np.mean([ratio(row, row - 1) for row in rows])))
        expected = [
            WANTED * (1 - sigmoid(BETA * (ratio(row, row) - divergences[-1])))
            if labels[row]
            else UNWANTED * (1 - sigmoid(BETA * (divergences[-1] - ratio(row, row))))
            for row in rows
        ]
        assert found == pytest.approx(np.mean(expected), abs=2e-6)
    # Seen from these rows, the one is farther from the other than the other from the one.
    assert (max(divergences) > 0.1) == (other == "ref_model")


def test_a_run_that_goes_on_ends_where_it_would_have(folder):
    """Its loss falls, what was wanted gets likelier, and its weights are those of an uninterrupted run."""
    straight = done(settings(folder, "kto", "straight", preference=STRONG))
    lines = metrics(folder / "straight")
    # An answer costs a half as long as the policy is its reference.
    assert lines[0]["loss"] == pytest.approx(0.5, abs=1e-6)
    assert lines[-1]["loss"] < 0.9 * lines[0]["loss"]
    assert lines[-1]["rewards/margins"] > lines[0]["rewards/margins"] == 0
    assert max(line["kl"] for line in lines) > 0
    broken = settings(folder, "kto", "broken", preference=STRONG)
    interrupted(broken, 3)
    assert done(broken, resume=True).plan.digest == straight.plan.digest
    assert weights(folder / "broken") == weights(folder / "straight")


def test_parts_of_a_step_add_up(folder):
    """However many parts a step is taken in, down to one answer at a time, its loss is that of the whole."""
    whole, *others = (logged(trained(settings(folder, "kto", f"in-{parts}", parts=parts))) for parts in (1, 2, 8))
    for told in others:
        assert told == pytest.approx(whole, abs=1e-6)


def test_the_reference_of_adapters_is_the_model_without_them(folder):
    """The first loss is that of a policy that is its reference; the weights below the adapters never change."""
    trainer = kto.trainer(prepare(settings(folder, "kto", "adapters", lora={"r": 4})))
    kept = {name: value.clone() for name, value in trainer.model.state_dict().items() if "lora" not in name}
    trainer.train()
    first, *_, last = logged(trainer)
    assert first == pytest.approx(0.5, abs=1e-6)
    assert last < first
    assert trainer.ref_model is None
    assert same({name: trainer.model.state_dict()[name] for name in kept}, kept)


def test_what_was_held_out_is_measured(folder):
    """The loss on answers that are not trained on is told, and falls."""
    held = write_shards(folder / "held-out", ANSWER, judged(6, seed=9))
    job = prepare(settings(folder, "kto", "held", evaluation={"every": 3, "rows": 5}))
    trainer = kto.trainer(replace(job, validation=held))
    trainer.train()
    first, last = (line["eval_loss"] for line in trainer.state.log_history if "eval_loss" in line)
    assert last < first < 0.5


def test_what_was_held_out_has_one_estimate_however_it_is_read(folder):
    """Its loss is that of its paper over all of its rows, however many are read at a time."""
    held = write_shards(folder / "held-whole", ANSWER, judged(7, seed=9))
    found = []
    for rows in (2, 3, 14):
        said = settings(folder, "kto", f"read-{rows}", evaluation={"rows": rows}, preference=WEIGHTS)
        trainer = kto.trainer(replace(prepare(said), validation=held))
        moved(trainer.ref_model)
        found.append(trainer.evaluate()["eval_loss"])
    documents = trainer.eval_dataset.laid.document
    prompts, answers = ([held.fields[name].row(int(row))[0] for row in documents] for name in ANSWER)
    labels = np.array(held.rows(["label"]).column("label").to_pylist())[documents]

    def ratio(row, beside):
        there = prompts[row], answers[beside]
        return (each_token(trainer.model, *there) - each_token(trainer.ref_model, *there)).sum().item()

    divergence = max(0.0, np.mean([ratio(row, row - 1) for row in range(14)]))
    expected = [
        WANTED * (1 - sigmoid(BETA * (ratio(row, row) - divergence)))
        if labels[row]
        else UNWANTED * (1 - sigmoid(BETA * (divergence - ratio(row, row))))
        for row in range(14)
    ]
    assert divergence > 0.01
    assert found == pytest.approx([np.mean(expected)] * 3, rel=1e-5)


def test_rows_that_cannot_be_learned_from_are_refused(folder, tmp_path):
    """A row without a label is refused, and so is one row alone, which has no other answer to set beside."""
    write_shards(tmp_path / "bad", ANSWER, [*judged(8), ({"label": None}, [2], [3, END])])
    with pytest.raises(UsageError, match="label"):
        kto.trainer(prepare(settings(folder, "kto", "bad", data={"built": str(tmp_path / "bad")})))
    write_shards(tmp_path / "alone", ANSWER, list(judged(1))[:1])
    with pytest.raises(UsageError, match="two rows"):
        kto.trainer(prepare(settings(folder, "kto", "alone", data={"built": str(tmp_path / "alone")})))


def test_a_prompt_beside_the_answer_to_another_has_to_fit_too(folder):
    """Rows that fit by themselves are refused where a prompt and its neighbour's answer have no room together."""
    rows = [({"label": number % 2 == 0}, *((400, 100) if number % 2 else (50, 400))) for number in range(8)]
    ids = [(others, np.full(prompt, 3), np.append(np.full(answer - 1, 4), END)) for others, prompt, answer in rows]
    write_shards(folder / "crowded", ANSWER, ids)
    with pytest.raises(UsageError, match="the answer to another"):
        kto.trainer(prepare(settings(folder, "kto", "none", data={"built": "crowded"})))
