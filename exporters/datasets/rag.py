"""Retrieval: runs that may be looked up and quoted, with the category of their verdict."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from exporters.dataset import Dataset, Fault, Rows, Shape
from exporters.faults import blank, not_in, provenance
from views.policy import Policy

# This only ever grows. A policy chooses among what it leaves.
NEVER = frozenset({"rejected"})


def allowed(policy: Policy) -> frozenset[str]:
    """The categories that a row may have. What it may never have is taken off, whatever was asked for."""
    known = ("accepted", "partially_accepted", *(("needs_human_review",) * policy.include_review))
    return frozenset(known) - NEVER


def _faults(rows: Rows, batch: pa.RecordBatch) -> Iterator[Fault]:
    yield from blank(batch, "id", "task_id")
    column = batch.column("source_category")
    bad = pc.or_(not_in(column, allowed(rows.policy)), pc.invert(not_in(column, NEVER)))
    yield bad, lambda place: f"category {column[place].as_py()!r} is not allowed in rag"
    yield from blank(batch, "source_run_id", "event_id", "score_event_id")
    yield from provenance(batch.column("provenance"), "provenance")
    yield from blank(batch, *rows.training)


DATASET = Dataset(
    name="rag",
    one_row="One row is one run that may be looked up and quoted, with the category of its verdict.",
    shapes={"document": Shape({"content": "content", "source_category": "source_category"})},
    provenance=(
        "source_run_id",
        "task_id",
        "role",
        "model",
        "quality_score",
        "created_at",
        "provenance",
        "event_id",
        "score_event_id",
    ),
    record="hash('event', event_id)",
    claims={
        "claim": (
            "hash(score_event_id, source_run_id, source_category)",
            "select hash(event_id, run_id, category) as key from events.scores",
        )
    },
    faults=_faults,
    said="content",
)
