"""`lake demo --train`: a toy model learns from what the lake accepted, and the lake judges it before and after.

Each step is a sentence and a command that the reader can type. The model, its tokenizer and the problems are made on
the spot, so nothing is fetched.
"""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from cli.output import INTERRUPTED, say
from cli.sample import sums
from cli.train import room
from ingest.readers.gsm8k import task_id
from lake import LakeError

PROBLEMS, HELD_OUT = 1200, 100

_HOW_MANY = (
    "lake sql \"select model, count(*) filter (category = 'accepted') as right, count(*) as answers "
    "from runs where model like '%trained' group by all order by all\""
)

# (what happens, the command). {} is the demo's folder, seen from where the demo was started.
STORY = (
    ("Create a lake.", "lake init"),
    (
        "Append 1,200 small word problems to learn from, and 100 to be measured with.",
        "lake ingest tasks {}/input/train.jsonl {}/input/test.jsonl --reader gsm8k",
    ),
    (
        "Append what two invented models answered to the first: one is right in 40 of 100, the other in 80.",
        "lake ingest evidence {}/input/attempts.jsonl",
    ),
    ("Judge the answers by the number that they end with.", "lake score final-answer"),
    (
        "Make a tokenizer and a model of 400,000 random weights. Elsewhere a folder from the hub would stand here.",
        "python -m trainers.toy make {}/toy {}/input/train.jsonl",
    ),
    (
        "What does it answer now?",
        "python -m trainers.toy answer {}/toy {}/input/test.jsonl {}/untrained.jsonl --name untrained",
    ),
    (
        "Pin the state. This is what will be trained on, whatever comes later.",
        "lake snapshot create --name lessons",
    ),
    ("See what a run would do.", "lake train sft --config {}/sft.toml --dry-run"),
    ("Train on the accepted answers.", "lake train sft --config {}/sft.toml"),
    (
        "What does the trained model answer to problems that it never saw?",
        "python -m trainers.toy answer {}/run/model {}/input/test.jsonl {}/trained.jsonl --name trained",
    ),
    ("Append both and judge them, as any evidence.", "lake ingest evidence {}/untrained.jsonl {}/trained.jsonl"),
    ("", "lake score final-answer"),
    (
        "How many of 100 are right?",
        _HOW_MANY,
    ),
    ("The run says what it was trained on, and how that went.", "lake runs show {}/run"),
    ("A row knows the checkpoints that saw it.", "lake why {row}"),
)

_SETTINGS = """\
# Made by `lake demo --train`. `lake train sft --init` prints every key that there is.
method = "sft"
out = "run"

[data]
snapshot = "lessons"
overlong = "drop"

[model]
config = "toy/config.json"
tokenizer = "toy"

[[stages]]                  # short rows first, then longer ones: a step has as many tokens
rows = 16
length = 64
steps = 100

[[stages]]
rows = 8
length = 128
steps = 300

[optimizer]
learning_rate = 0.003
weight_decay = 0.1
warmup_steps = 20

[checkpoints]
every = 200
"""


def tell(folder: Path, run: Callable[..., object]) -> None:
    """Tell the story in a new folder; `run` is the `lake` command's main. Raises LakeError where a step fails."""
    room("toy")  # says what is missing before anything is written
    inputs = folder / "input"
    inputs.mkdir(parents=True, exist_ok=True)
    problems = list(sums.problems(PROBLEMS + HELD_OUT))
    lessons, held_out = problems[:PROBLEMS], problems[PROBLEMS:]
    answered = [_evidence(one) for one in sums.attempts(lessons)]
    for name, rows in (("train", lessons), ("test", held_out), ("attempts", answered)):
        (inputs / f"{name}.jsonl").write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    (folder / "sft.toml").write_text(_SETTINGS)
    os.environ["LAKE_URI"] = str(folder / "lake")
    began = time.monotonic()
    for sentence, command in STORY:
        row = answered[1]["run_id"]
        _step(run, sentence, command.replace("{row}", row).replace("{}", folder.as_posix()))
    look_next(
        began,
        f"export LAKE_URI={folder.as_posix()}/lake",
        f"lake why {folder.as_posix()}/run/model       # the rows that this model has seen",
        f"lake train --replay-run {folder.as_posix()}/run/run.json   # the same again, to the last bit",
        f"ls {folder.as_posix()}/run                   # plot.svg shows how it went",
        "lake train dpo --init",
    )


def look_next(began: float, *commands: str) -> None:
    """Say how long a story took since `began`, and what the reader can type next."""
    say(f"\nThat took {time.monotonic() - began:.0f} s. What to look at next:\n")
    if shutil.which("lake") is None:
        say(f"  source {os.path.relpath(sys.prefix)}/bin/activate")
    for command in commands:
        say(f"  {command}")


def _evidence(made: dict[str, str]) -> dict[str, str]:
    task = task_id(made["question"])
    return {
        "run_id": f"{made['model']}:{task}",
        "task_id": task,
        "kind": "completion",
        "role": "executor",
        "model": made["model"],
        "prompt": made["question"],
        "text": made["answer"],
    }


def _step(run: Callable[..., object], sentence: str, command: str) -> None:
    if sentence:
        print(f"\n# {sentence}")
    print(f"$ {command}", flush=True)
    program, *arguments = shlex.split(command)
    if program == "lake":
        code = run(arguments, prog_name="lake", standalone_mode=False) or 0
    else:
        # Of a group of its own: Ctrl-C is for this process, which ends the other, and that has nothing to say.
        code = subprocess.run([sys.executable, *arguments], check=False, process_group=0).returncode
    sys.stdout.flush()
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        raise LakeError(f"'{command}' ended with exit code {code}")
