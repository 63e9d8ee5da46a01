"""Ctrl-C ends a run with one line and the usual exit code, whatever is going on."""

import pytest

from tests.trainers.launching import ROOT, python

RUN = """
method = "sft"
out = "run"
[data]
built = "{built}"
[model]
config = "{config}"
tokenizer = "{words}"
[[stages]]
rows = 4
length = 64
epochs = 500
[optimizer]
learning_rate = 0.01
[checkpoints]
every = {every}
"""

# What sends itself the signal that a terminal sends, in place of a library that is slow to load.
SLOW = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"

# The same at a step of a run.
STEP = """
import os, signal, sys
import transformers

class Stops(transformers.TrainerCallback):
    def on_step_begin(self, args, state, control, **_):
        if state.global_step == 3:
            os.kill(os.getpid(), signal.SIGINT)

from trainers import run
train = run.train
run.train = lambda job, **more: train(job, callbacks=[Stops()], **more)
from cli.app import main
sys.exit(main(["train", "sft", "--config", "run.toml"]))
"""


@pytest.mark.parametrize("command", [("cli.app", "train", "sft", "--config"), ("trainers",)])
def test_while_libraries_load(command, tmp_path):
    """A run that is interrupted before it has begun says so, and nothing of where it was."""
    (tmp_path / "run.toml").write_text(RUN.format(built="built", config="config.json", words="words", every=5))
    (tmp_path / "slow" / "torch").mkdir(parents=True)
    (tmp_path / "slow" / "torch" / "__init__.py").write_text(SLOW)
    path = {"PYTHONPATH": f"{tmp_path / 'slow'}:{ROOT}"}
    said = python("-m", *command, "run.toml", folder=tmp_path, environment=path, code=130)
    assert said.err.startswith("error: interrupted\nhint: ")
    assert said.err.count("\n") == 2


@pytest.mark.parametrize(("every", "hint"), [(2, "with --resume it goes on"), (9, "no checkpoint was due yet: remove")])
def test_while_it_trains(every, hint, ground, tmp_path):
    """What to do next depends on whether there is a checkpoint."""
    places = {"built": ground / "built", "config": ground / "config", "words": ground / "words"}
    (tmp_path / "run.toml").write_text(RUN.format(**places, every=every))
    said = python("-c", STEP, folder=tmp_path, code=130)
    assert "Traceback" not in said.err
    assert f"error: interrupted\nhint: {hint}" in said.err
