"""Runs from a file of settings to a checkpoint, on a model that is small enough to train here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
import numpy as np  # noqa: E402

from lake.errors import LakeError, UsageError  # noqa: E402
from tests.trainers.toys import done, interrupted, losses, weights  # noqa: E402
from trainers import again, record, run, spec  # noqa: E402

Settings = Callable[..., spec.RunSpec]

EIGHT = [{"rows": 4, "length": 64, "steps": 8}]


@pytest.mark.parametrize(
    "changes",
    [
        {"stages": [{"rows": 4, "length": 64, "steps": 4}, {"rows": 2, "length": 128, "steps": 4}]},
        {"method": "pretrain", "stages": [{"rows": 4, "length": 32, "steps": 8}]},
        {"method": "lora", "stages": EIGHT, "lora": {"r": 2, "dropout": 0.1}, "model": {"dtype": "bfloat16"}},
    ],
    ids=["sft", "pretrain", "lora"],
)
def test_a_run_that_was_interrupted_ends_as_one_that_was_not(changes: dict[str, Any], settings: Settings) -> None:
    """What goes on from a checkpoint reports the same losses and ends with the same weights, dropout included."""
    straight, broken = (settings(out, **changes, checkpoints={"every": 3}) for out in ("straight", "broken"))
    done(straight)
    interrupted(broken, 5)
    assert record.read(broken.out).state == "stopped"
    resumed = done(broken, resume=True)
    assert weights(broken.out) == weights(straight.out)
    assert losses(broken.out) == losses(straight.out)
    assert [one.first_step for one in resumed.sessions] == [0, 3]
    assert resumed.apart is not None
    assert resumed.apart["influence"] == 0.0
    assert (resumed.adapter is None) == ("lora" not in changes)


@pytest.mark.parametrize("method", ["pretrain", "sft", "lora"])
def test_shares_of_a_step_add_up_to_the_step(method: str, settings: Settings, ground: Path) -> None:
    """Micro-batches give the losses of the step as a whole, however unequal their counts of tokens are."""
    changes: dict[str, Any] = {"stages": [{"rows": 8, "length": 64, "epochs": 2}]}
    if method == "lora":
        changes["lora"] = {"r": 4}
    told = []
    for parts in (1, 4):
        model = {"config": str(ground / "still")}
        said = settings(f"in-{parts}", method, model=model, optimizer={"parts": parts}, **changes)
        done(said)
        told.append(losses(said.out))
    assert len(told[0]) > 3
    assert np.allclose(*told, atol=1e-5)


def test_a_run_repeats(settings: Settings, tmp_path: Path) -> None:
    """A run that is done again from its record has the same order, losses and weights."""
    said = settings("first")
    done(said)
    found = again.repeat(Path(said.out), tmp_path / "second")
    assert found.ok
    assert found.same.keys() >= {"order of rows", "loss at each step", "weights"}


def test_what_cannot_be_is_refused_before_a_file_is_written(settings: Settings, ground: Path, tmp_path: Path) -> None:
    """A folder that is taken, nothing to resume, no such model: each is refused, and no folder is left."""
    gone = str(tmp_path / "gone")
    with pytest.raises(UsageError, match="no whole checkpoint"):
        run.prepare(settings("none"), resume=True)
    with pytest.raises(UsageError, match=r"model\.config"):
        done(settings("none", model={"config": gone}))
    with pytest.raises(UsageError, match=r"model\.path"):
        done(settings("none", model={"path": gone, "config": None}))
    with pytest.raises(UsageError, match=r"model\.tokenizer"):
        done(settings("none", model={"tokenizer": str(ground / "config")}))
    for changes, near in (
        ({"optimizer": {"name": "adamw_torsh"}}, "adamw_torch"),
        ({"optimizer": {"schedule": "cosin"}}, "cosine"),
        ({"report": {"to": ["wandbb"]}}, "wandb"),
    ):
        with pytest.raises(UsageError, match="transformers knows no") as caught:
            done(settings("none", **changes))
        assert near in str(caught.value.hint)
    with pytest.raises(UsageError, match="256 positions"):
        done(settings("none", stages=[{"rows": 1, "length": 512}]))
    assert not (tmp_path / "none").exists()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(UsageError, match="something here already"):
        run.prepare(settings("taken"))


def test_too_little_memory_is_told(settings: Settings) -> None:
    """A device that has not enough ends the run with a line that says what to do; the record says that it failed."""

    class Small(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    said = settings("large")
    with pytest.raises(LakeError, match="too little memory") as caught:
        done(said, callbacks=[Small()])
    assert "optimizer.parts" in str(caught.value.hint)
    assert record.read(said.out).state == "failed"
