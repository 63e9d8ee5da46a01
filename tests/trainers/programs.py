"""A policy that writes programs, tiny: each token is a line of one, and some of them are what its tasks ask for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.trainers.toys import config, settings, words
from trainers import spec
from trainers.prompts import PROMPT
from trainers.rollouts import NAME, Rollout, read
from trainers.shards import Shards, writing

ASK = 2
WORDS = ["<pad>", "<end>", "?", "    pass", "    return", *(f"    return {number}" for number in range(5))]
TASKS = 5
RIGHT = 3  # what every task wants returned
ROWS, TIMES, STEPS = 2, 4, 4


def write_tasks(folder: Path, tasks: int = TASKS, **others: Any) -> Shards:
    """Tasks that ask, each with a prompt of its own length, for a function that returns RIGHT."""
    with writing(folder, [PROMPT]) as writer:
        for number in range(tasks):
            task = {
                "id": f"grpo-{number}",
                "task_id": f"task-{number}",
                "event_id": f"event-{number}",
                "language": "python",
                "starter_code": "def f():\n",
                "tests": f"def check(candidate):\n    assert candidate() == {RIGHT}\n",
                "entry_point": "f",
            }
            prompt = [ASK] * (number + 1)
            writer.add(task | others, {PROMPT: (prompt, [False] * len(prompt))})
        writer.finish({"dataset": "grpo"}, {"offered": tasks})
    return Shards.open(folder)


def writes_programs(folder: Path) -> Path:
    """A folder with the configuration of such a policy, its tokenizer, and tasks."""
    words(folder / "tokenizer", WORDS[ASK:])
    config(folder, vocab_size=len(WORDS), max_position_embeddings=16)
    write_tasks(folder / "shards")
    return folder


def of_grpo(folder: Path, out: str, *, tokens: int = 1, **tables: Any) -> spec.RunSpec:
    """The settings of a run that learns from tests, with whatever a test changes."""
    grpo = {"generations": TIMES, "temperature": 1.0, "max_new_tokens": tokens, "timeout": 20.0, "workers": 2}
    grpo |= tables.pop("grpo", {})
    # Adam makes whole steps of what is but rounding, where it divides by next to nothing.
    optimizer = {"learning_rate": 0.06, "schedule": "constant", "epsilon": 0.001, **tables.pop("optimizer", {})}
    usual = {"rows": ROWS, "steps": STEPS, "seed": 4, "optimizer": optimizer, "grpo": grpo}
    return settings(folder, "grpo", out, **usual | tables)


def rollouts(out: str | Path) -> list[Rollout]:
    """The answers of a run, line for line."""
    return list(read(Path(out, NAME).read_bytes().splitlines()))


def drawn(out: str | Path) -> list[Sequence[Any]]:
    """Of each answer of a run, what does not depend on its run's name and on clocks."""
    return [
        (one.step, one.task_id, one.sample, one.seed, one.completion_ids, one.reward, one.outcome)
        for one in rollouts(out)
    ]
