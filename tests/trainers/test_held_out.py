"""What was held out: a model that cannot take it is refused at once, and its loss is one number of all of it."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
from lake.errors import LakeError, UsageError  # noqa: E402
from tests.trainers.toys import ANSWER, PAIR  # noqa: E402
from trainers import record, run, shards  # noqa: E402
from trainers.shards import TRAIN, VALIDATION  # noqa: E402

# TRL calls what a model has of this by its old names.
pytestmark = pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing.*deprecated:FutureWarning")

FIELDS = {"sft": ("text",), "dpo": PAIR, "reward": PAIR, "kto": ANSWER}


def built(folder, rows=7):
    """Pairs of very unequal lengths, for both splits."""
    chance = np.random.default_rng(0)
    for split in (TRAIN, VALIDATION):
        with shards.writing(folder / split, PAIR) as writer:
            for row in range(rows):
                ids = {name: chance.integers(2, 60, 4 + 6 * (row % 5)) for name in PAIR}
                made = {name: (each, np.full(len(each), name != "prompt")) for name, each in ids.items()}
                writer.add({"id": f"row-{row}"}, made)
            writer.finish({"dataset": "made up"}, {"offered": rows}, split)
    return str(folder)


@pytest.mark.parametrize("method", ["dpo", "reward"])
def test_the_loss_on_pairs_does_not_depend_on_how_many_are_read_at_a_time(method, settings, ground, tmp_path):
    """It is the mean over pairs, not over batches, of which the last has fewer."""
    data = {"built": built(tmp_path / "built")}
    model = {"config": str(ground / "still"), "tokenizer": str(ground / "words")}
    found = []
    for rows in (1, 2, 3, 16):
        stages, evaluation = [{"rows": 2, "steps": 1}], {"rows": rows}
        said = settings(f"in-{rows}", method=method, data=data, model=model, stages=stages, evaluation=evaluation)
        trainer = run.trainer_of(run.prepare(said))
        if method == "dpo":  # a policy that is its reference has the same loss on every pair
            torch.manual_seed(0)
            with torch.no_grad():
                for weights in trainer.model.parameters():
                    weights.add_(torch.randn_like(weights), alpha=0.05)
        found.append(trainer.evaluate()["eval_loss"])
    assert np.allclose(found, found[0], rtol=1e-5), found


def split(folder: Path, fields, sizes, *, highest=40, learned=True) -> str:
    """Rows to train on of eight tokens a field, and held-out ones of `sizes`, up to the id `highest`."""
    for name, rows, most in ((TRAIN, [[8] * len(fields)] * 8, 40), (VALIDATION, sizes, highest)):
        with shards.writing(folder / name, fields) as writer:
            for row, lengths in enumerate(rows):
                ids = {field: np.linspace(2, most, size) for field, size in zip(fields, lengths, strict=True)}
                counted = {field: field != "prompt" and (learned or name == TRAIN) for field in fields}
                made = {field: (each, np.full(len(each), counted[field])) for field, each in ids.items()}
                writer.add({"id": f"row-{row}", "label": row % 2 == 0}, made)
            writer.finish({"dataset": "made up"}, {"offered": len(rows)}, name)
    return str(folder)


@pytest.fixture
def holding_out(settings, ground):
    """Settings of a run of two steps, one of which is saved, on the shards in a folder."""

    def made(method: str, built: str):
        stages = [{"rows": 2, "steps": 2, **({"length": 64} if method == "sft" else {})}]
        model = {"config": str(ground / "still"), "tokenizer": str(ground / "words")}
        return settings("run", method=method, data={"built": built}, model=model, stages=stages)

    return made


@pytest.mark.parametrize("method", FIELDS)
def test_a_held_out_token_that_the_model_does_not_know_is_refused(method, holding_out, tmp_path):
    """It is found before the first step, as one that is trained on would be, and not by an evaluation hours later."""
    fields = FIELDS[method]
    said = holding_out(method, split(tmp_path / "built", fields, [[8] * len(fields)] * 3, highest=99))
    with pytest.raises(LakeError, match=rf"{VALIDATION}: \w+ has the token id 99, and the model has 64"):
        run.train(run.prepare(said))
    assert not Path(said.out, record.NAME).exists()


def test_held_out_answers_that_are_too_long_for_the_prompts_of_others_are_refused(holding_out, tmp_path):
    """A prompt and an answer may each have room beside their own, and none beside those of the row before."""
    said = holding_out("kto", split(tmp_path / "built", ANSWER, [[200, 20], [20, 200]]))
    with pytest.raises(UsageError, match=rf"{VALIDATION}: a prompt and the answer to another row's have 400 tokens"):
        run.train(run.prepare(said))


def test_one_held_out_answer_is_none_beside_those_of_others(holding_out, tmp_path):
    """A held-out row that is alone has no other's answer to be set beside, as little as one that is trained on."""
    said = holding_out("kto", split(tmp_path / "built", ANSWER, [[8, 8]]))
    with pytest.raises(UsageError, match=rf"{VALIDATION}: kto sets prompts beside the answers of others"):
        run.train(run.prepare(said))


def test_held_out_rows_without_a_token_to_measure_are_refused(holding_out, tmp_path):
    """Of nothing there is no mean, and a run that was to be measured would end without a word of it."""
    said = holding_out("sft", split(tmp_path / "built", ["text"], [[20], [30]], learned=False))
    with pytest.raises(UsageError, match=rf"{VALIDATION}: no token of what was held out is one that a loss counts"):
        run.train(run.prepare(said))
