"""What is measured of rows that were held out, which does not depend on how they are divided among batches."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from trainers import run, spec  # noqa: E402
from trainers.shards import writing  # noqa: E402

Settings = Callable[..., spec.RunSpec]


def texts(folder: Path, split: str, sizes: list[int], learned: Callable[[int], Any]) -> Path:
    """A split of texts of these sizes, of which tokens are learned as it says of each."""
    with writing(folder / split, ["text"]) as writer:
        for row, size in enumerate(sizes):
            ids = (np.arange(size) * (row + 3)) % 40 + 2
            writer.add({"id": f"{split}-{row}"}, {"text": (ids, np.broadcast_to(learned(row), size))})
        writer.finish({"dataset": "made up"}, {"offered": len(sizes), "kept": len(sizes)}, split)
    return folder


@pytest.mark.parametrize("method", ["sft", "pretrain"])
def test_a_loss_of_held_out_rows_is_the_mean_over_their_tokens(method: str, settings: Settings, tmp_path: Path) -> None:
    """However many rows are looked at together, and whatever is learned of each, it is the same, and no other."""
    # Of some of the rows nothing is learned, of others little.
    built = texts(tmp_path / "split", "train", [20] * 8, lambda _: True)
    texts(tmp_path / "split", "validation", [64, 60, 61, 30, 17, 64, 5], lambda row: row % 3 != 0)
    losses = []
    for rows in (1, 2, 7):
        said = settings(f"by-{rows}", method=method, data={"built": str(built)}, evaluation={"rows": rows})
        job = run.prepare(said)
        trainer = run.trainer_of(job)
        losses.append(trainer.evaluate()["eval_loss"])
    assert job.validation is not None
    field = job.validation.fields["text"]
    total, count = 0.0, 0
    with torch.no_grad():
        for row in range(job.validation.description.rows):
            ids, counted = (torch.from_numpy(array.copy()) for array in field.row(row))
            logits = trainer.model(ids.long()[None]).logits[0]
            each = torch.nn.functional.cross_entropy(logits[:-1], ids[1:].long(), reduction="none")
            total += float(each[counted[1:]].sum())
            count += int(counted[1:].sum())
    assert losses == pytest.approx([total / count] * 3, rel=1e-5)
