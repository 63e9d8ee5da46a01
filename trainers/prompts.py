"""What a policy is asked: the prompts of shards as ids, each with its task.

Not here: in which order prompts come (`plan`), and answering them (`grpo`).
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from torch.utils.data import IterableDataset

from lake.errors import UsageError
from trainers.order import Places
from trainers.rewards import TASK
from trainers.shards import Shards

PROMPT = "prompt"

Sample = dict[str, Any]
"""What TRL is given for an answer: the ids of the prompt, the columns of the task, and a place among all answers."""


class Prompts:
    """The prompts of some shards, and the tasks that they ask for."""

    def __init__(self, shards: Shards) -> None:
        self.field = shards.fields[PROMPT]
        self.tasks = tasks_of(shards)

    def samples(self, rows: Places, places: Places) -> list[Sample]:
        """A sample for each of some rows, whose place is given."""
        return [
            {PROMPT: self.field.row(int(row))[0].tolist(), "place": int(place), **task}
            for row, place, task in zip(rows, places, self.tasks.take(rows).to_pylist(), strict=True)
        ]


class HeldOut(IterableDataset[list[Sample]]):
    """What was held out, some prompts at a time, each as often as it is answered."""

    def __init__(self, prompts: Prompts, rows: int, times: int) -> None:
        self._prompts, self._times, self._each = prompts, times, rows * times

    def __len__(self) -> int:
        return math.ceil(self._prompts.tasks.num_rows * self._times / self._each)

    def __iter__(self) -> Iterator[list[Sample]]:
        every = np.arange(self._prompts.tasks.num_rows * self._times)
        for first in range(0, len(every), self._each):
            places = every[first : first + self._each]
            yield self._prompts.samples(places // self._times, places)


def tasks_of(shards: Shards) -> pa.Table:
    """The tasks of some rows: what a trial needs of them, and `event_id` where they have it. Raises UsageError."""
    table = shards.rows()
    if missing := [name for name in TASK if name not in table.column_names]:
        raise UsageError(f"{shards.folder}: its rows have no {', '.join(missing)}", "build them of the dataset grpo")
    return table.select([name for name in (*TASK, "event_id") if name in table.column_names])
