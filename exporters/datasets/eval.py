"""Eval: the registered tasks that models are measured with; no training set holds one, or a run of one."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from exporters.dataset import Dataset, Fault, Rows, Shape
from exporters.faults import blank, is_blank, not_in, provenance

_TASK = {name: name for name in ("description", "starter_code", "tests", "entry_point", "answer", "language")}


def _faults(rows: Rows, batch: pa.RecordBatch) -> Iterator[Fault]:
    yield from blank(batch, "id", "task_id", "event_id", "prompt")
    yield from provenance(batch.column("provenance"), "provenance")
    registered = frozenset(rows.policy.quality.eval_splits)
    yield not_in(batch.column("split"), registered), "the task is not registered for measuring"
    nothing = pc.and_(is_blank(batch.column("tests")), is_blank(batch.column("answer")))
    yield nothing, "there is nothing to check an answer by"


DATASET = Dataset(
    name="eval",
    one_row="One row is one registered task, with the tests or the answer that a model is measured by.",
    shapes={"plain": Shape({"prompt": "prompt", **_TASK})},
    provenance=("task_id", "split", "created_at", "provenance", "event_id"),
    record="hash('task', task_id)",
    faults=_faults,
    said="prompt",
)
