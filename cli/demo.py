"""`lake demo`: the whole story, told with the real commands on sample data that ships with the lake.

Each step is a sentence and a command that the reader can type. Nothing is staged: verdicts come from running the tests.
"""

import os
import shlex
import sys
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from cli import demo_train
from cli.events import REJECTED
from cli.output import INTERRUPTED
from lake import LakeError

SAMPLE = ("tasks.jsonl", "attempts.jsonl", "attempts-from-a-crashed-worker.jsonl", "rescored.jsonl", "known-files.txt")

# (what happens, the command). {} is the demo's folder, seen from where the demo was started.
STORY = (
    ("Create a lake: a folder of append-only Delta tables.", "init"),
    ("Append 38 small programming tasks, with their tests.", "ingest tasks {}/input/tasks.jsonl"),
    ("Append 200 attempts that models made at them.", "ingest evidence {}/input/attempts.jsonl"),
    (
        "A worker crashed while writing this file. What cannot be read becomes a reject; nothing stops.",
        "ingest evidence {}/input/attempts-from-a-crashed-worker.jsonl",
    ),
    (
        "Each reject keeps the raw line and all of its errors.",
        'sql "select source.line, reason, errors[1] as error from rejects order by 1 limit 5"',
    ),
    ("Send a file again: the lake knows it, and adds nothing.", "ingest evidence {}/input/attempts.jsonl"),
    ("Judge the attempts by really running the tasks' tests, each in a process of its own.", "score tests"),
    (
        "Ask in SQL. The views are derived from the events.",
        'sql "select model, category, count(*) as runs from runs group by all order by all"',
    ),
    (
        "Pin the state. A snapshot is a vector of table versions, and its id is the hash of what it holds.",
        "snapshot create --name before",
    ),
    (
        "Export the training sets. Every row that was considered is exported or quarantined, with a reason.",
        "export all {}/sets-before --at before",
    ),
    ("Why was something refused?", "quarantine --at before --dataset sft --limit 6"),
    (
        "A person looks closer: two accepted attempts look their answers up in a table. A correction is a new event.",
        "ingest scores {}/input/rescored.jsonl",
    ),
    ("Pin the new state, and ask what changed and which event did it.", "snapshot create --name after"),
    ("", "snapshot diff before after --dataset sft"),
    ("The old snapshot still gives the same bytes.", "export --verify {}/sets-before/sft"),
    ("Every row can say where it comes from, down to file and line.", "why attempt-0175"),
    ("Where did everything go?", "health"),
    ("Prove that nothing was lost or changed.", "verify --deep"),
)


def register(parent: typer.Typer) -> None:
    """Add the command to the `lake` command."""
    parent.command()(demo)


def demo(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder for it.")] = Path("lake-demo"),
    train: Annotated[
        bool, typer.Option("--train", help="Tell another one: a toy model that learns from a lake. Needs torch.")
    ] = False,
) -> None:
    """Tell the whole story on sample data.

    Ingest, judge, ask, pin, export, change a verdict, compare, verify: each step is a command that you can type.

    Example: lake demo /tmp/lake-demo
    """
    if folder.exists() and any(folder.iterdir()):
        raise LakeError(f"{folder}: this folder is not empty", f"remove it, or name another: lake demo {folder}-2")
    run = context.find_root().command.main
    if train:
        demo_train.tell(folder, run)
        return
    inputs = folder / "input"
    inputs.mkdir(parents=True, exist_ok=True)
    for name in SAMPLE:
        (inputs / name).write_bytes((resources.files("cli.sample") / name).read_bytes())
    os.environ["LAKE_URI"] = str(folder / "lake")
    began = time.monotonic()
    for sentence, command in STORY:
        _step(run, sentence, command.format(folder.as_posix()))
    demo_train.look_next(
        began,
        f"export LAKE_URI={folder.as_posix()}/lake",
        f"head -n 1 {folder.as_posix()}/sets-before/preference/data/*.jsonl",
        f"cat {folder.as_posix()}/sets-before/sft/README.md",
        'lake sql "from preference select prompt, chosen_run_id, rejected_run_id limit 3"',
        "lake shell            # the same views in a DuckDB shell",
        "lake --help",
    )


def _step(run: Callable[..., object], sentence: str, command: str) -> None:
    if sentence:
        print(f"\n# {sentence}")
    print(f"$ lake {command}", flush=True)
    code = run(shlex.split(command), prog_name="lake", standalone_mode=False) or 0
    sys.stdout.flush()
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code not in (0, REJECTED):
        raise LakeError(f"'lake {command}' ended with exit code {code}")
