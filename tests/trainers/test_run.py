"""Runs from a file of settings to a checkpoint, on a model that is small enough to train here."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
import msgspec  # noqa: E402
import numpy as np  # noqa: E402

from lake.errors import LakeError, UsageError  # noqa: E402
from trainers import again, curves, reading, record, run, spec  # noqa: E402

ROOT = Path(__file__).parents[2]
Settings = Callable[..., spec.RunSpec]

EIGHT = [{"rows": 4, "length": 64, "steps": 8}]


def trained(said: spec.RunSpec, **options: Any) -> record.Run:
    """A run from beginning to end."""
    return run.train(run.prepare(said), **options)


def weights(made: record.Run) -> dict[str, str]:
    """The sha256 of each file of weights of a run's model."""
    [result] = [one for one in made.checkpoints if one.folder == run.RESULT]
    return {name: file.sha256 for name, file in result.files.items() if name.endswith(".safetensors")}


def losses(said: spec.RunSpec) -> list[float | None]:
    """The loss of each step that a run reports."""
    return [point.loss for point in curves.read(said.out) if point.what == "training"]


class Stops(transformers.TrainerCallback):  # type: ignore[misc]
    """Ends a run after some step, as somebody who kills it does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Fail where the step would begin."""
        if state.global_step == self.step:
            raise KeyboardInterrupt


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
    changes = {**changes, "checkpoints": {"every": 3}}
    model = changes.pop("model", {})

    def said(out: str) -> spec.RunSpec:
        made = settings(out, **changes)
        return msgspec.structs.replace(made, model=msgspec.structs.replace(made.model, **model))

    straight = trained(said("straight"))
    with pytest.raises(KeyboardInterrupt):
        trained(said("broken"), callbacks=[Stops(5)])
    assert record.read(said("broken").out).state == "stopped"
    resumed = run.train(run.prepare(said("broken"), resume=True), resume=True)
    assert weights(resumed) == weights(straight)
    assert losses(said("broken")) == losses(said("straight"))
    assert [one.first_step for one in resumed.sessions] == [0, 3]
    assert resumed.apart is not None
    assert resumed.apart["influence"] == 0.0
    assert (resumed.adapter is None) == ("lora" not in changes)


def test_shares_of_a_step_add_up_to_the_step(settings: Settings, ground: Path) -> None:
    """Micro-batches give the losses of the step as a whole, however unequal their counts of tokens are."""
    model = {"config": str(ground / "still"), "tokenizer": str(ground / "words")}
    changes = {"model": model, "stages": [{"rows": 8, "length": 64, "epochs": 2}]}
    whole = settings("whole", **changes)
    shared = settings("shared", **changes, optimizer={"learning_rate": 0.01, "parts": 4})
    for said in (whole, shared):
        trained(said)
    assert len(losses(whole)) > 3
    assert np.allclose(losses(whole), losses(shared), atol=1e-5)


@pytest.mark.parametrize("shared_out", ["rows", "rows and weights"])
def test_two_processes_train_what_one_does(shared_out: str, ground: Path, tmp_path: Path) -> None:
    """Steps that two processes share have the losses of one, on machines without DuckDB, Delta and typer."""
    text = f"""
method = "sft"
out = "both"
[data]
built = "{ground / "built"}"
[model]
config = "{ground / "still"}"
tokenizer = "{ground / "words"}"
[[stages]]
rows = 4
length = 64
[optimizer]
learning_rate = 0.01
parts = 2
"""
    (tmp_path / "run.toml").write_text(text)
    bare = tmp_path / "bare"
    for name in ("duckdb", "deltalake", "typer", "obstore"):
        (bare / name).mkdir(parents=True)
        (bare / name / "__init__.py").write_text(f"raise ModuleNotFoundError('no {name} here', name='{name}')\n")
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    launch += ["--rdzv-endpoint", "localhost:0"]
    if shared_out != "rows":
        example = (ROOT / "docs" / "examples" / "fsdp.yaml").read_text()
        here = example.replace("num_processes: 8", "num_processes: 2\nuse_cpu: true").replace(": bf16", ': "no"')
        (tmp_path / "fsdp.yaml").write_text(here)
        launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "fsdp.yaml"]
        launch += ["--main_process_port", "0"]
    launch += ["-m", "trainers", "run.toml"]
    environment = {**os.environ, "PYTHONPATH": f"{bare}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(launch, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = record.read(tmp_path / "both")
    assert (made.state, made.sessions[0].world) == ("finished", 2)
    assert made.sessions[0].launch.get("FSDP_VERSION") == (None if shared_out == "rows" else "2")
    alone = reading.parse({**tomllib.loads(text), "out": "alone"}, "run.toml", tmp_path)
    trained(alone)
    both = [point.loss for point in curves.read(tmp_path / "both")]
    assert np.allclose(losses(alone), both, atol=1e-5)


def test_a_run_repeats(settings: Settings, tmp_path: Path) -> None:
    """A run that is done again from its record has the same order, losses and weights."""
    said = settings("first")
    trained(said)
    found = again.repeat(Path(said.out), tmp_path / "second")
    assert found.ok
    assert found.same.keys() == {"order of rows", "loss at each step", "weights"}


def test_what_cannot_be_is_refused_before_a_file_is_written(settings: Settings, ground: Path, tmp_path: Path) -> None:
    """A folder that is taken, nothing to resume, no such model: each is refused, and no folder is left."""
    with pytest.raises(UsageError, match="no whole checkpoint"):
        run.prepare(settings("none"), resume=True)
    with pytest.raises(UsageError, match=r"model\.config"):
        trained(settings("none", model={"config": str(tmp_path / "gone"), "tokenizer": str(ground / "words")}))
    with pytest.raises(UsageError, match=r"model\.path"):
        trained(settings("none", model={"path": str(tmp_path / "gone")}))
    with pytest.raises(UsageError, match=r"model\.tokenizer"):
        trained(settings("none", model={"config": str(ground / "config"), "tokenizer": str(ground / "config")}))
    for changes, near in (
        ({"optimizer": {"learning_rate": 0.01, "name": "adamw_torsh"}}, "adamw_torch"),
        ({"optimizer": {"learning_rate": 0.01, "schedule": "cosin"}}, "cosine"),
        ({"report": {"to": ["wandbb"]}}, "wandb"),
    ):
        with pytest.raises(UsageError, match="transformers knows no") as caught:
            trained(settings("none", **changes))
        assert near in str(caught.value.hint)
    with pytest.raises(UsageError, match="256 positions"):
        trained(settings("none", stages=[{"rows": 1, "length": 512}]))
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
        trained(said, callbacks=[Small()])
    assert "optimizer.parts" in str(caught.value.hint)
    assert record.read(said.out).state == "failed"
