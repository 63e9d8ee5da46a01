"""The loss on pairs that were held out: of all of them, however many are read at a time."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
from trainers import run, shards  # noqa: E402
from trainers.shards import TRAIN, VALIDATION  # noqa: E402

# TRL calls what a model has of this by its old names.
pytestmark = pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing.*deprecated:FutureWarning")

PAIR = ("prompt", "chosen", "rejected")


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
