"""GRPO: tasks that a policy answers and whose own tests reward the answers.

TRL hands every column but `prompt` to the reward function, so `tests`, `entry_point`, `starter_code` and `language` are
there for one that really runs them. A task that models are measured with is in the dataset `eval`, and never here.
"""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from exporters.dataset import Dataset, Fault, Rows, Shape
from exporters.faults import blank, not_in, provenance, turns
from exporters.runs import turn

_REWARD = {name: name for name in ("description", "starter_code", "tests", "entry_point", "language")}


def _faults(rows: Rows, batch: pa.RecordBatch) -> Iterator[Fault]:
    yield from blank(batch, "id", "task_id", "event_id", "tests", "language")
    yield from provenance(batch.column("provenance"), "provenance")
    measured = frozenset(rows.policy.quality.eval_splits)
    yield pc.invert(not_in(batch.column("split"), measured)), "an eval task may not be trained on"
    if rows.shape == "conversational":
        yield from turns(batch.column("prompt"), "prompt", "user")
    else:
        yield from blank(batch, "prompt")


DATASET = Dataset(
    name="grpo",
    one_row="One row is one task with the tests that reward an answer to it.",
    shapes={
        "conversational": Shape({"prompt": turn("user", "prompt"), **_REWARD}),
        "plain": Shape({"prompt": "prompt", **_REWARD}),
    },
    provenance=("task_id", "split", "created_at", "provenance", "event_id"),
    record="hash('task', task_id)",
    faults=_faults,
    said="prompt",
)
