"""Retrieval: runs that may be looked up and quoted, with the category of their verdict."""

from collections.abc import Iterator

import pyarrow as pa

from exporters import runs
from exporters.dataset import Dataset, Fault, Rows, Shape
from exporters.faults import blank
from views.policy import Policy

# This only ever grows. A policy chooses among what it leaves.
NEVER = frozenset({"rejected"})


def allowed(policy: Policy) -> frozenset[str]:
    """The categories that a row may have. What it may never have is taken off, whatever was asked for."""
    known = ("accepted", "partially_accepted", *(("needs_human_review",) * policy.include_review))
    return frozenset(known) - NEVER


def _faults(rows: Rows, batch: pa.RecordBatch) -> Iterator[Fault]:
    yield from runs.faults(batch, "rag", allowed(rows.policy) - NEVER, "source_category")
    yield from blank(batch, *rows.training)


DATASET = Dataset(
    name="rag",
    one_row="One row is one run that may be looked up and quoted, with the category of its verdict.",
    shapes={"document": Shape({"content": "content", "source_category": "source_category"})},
    provenance=tuple(name for name in runs.PROVENANCE if name != "category"),
    record=runs.RECORD,
    claims=runs.claims("source_category"),
    faults=_faults,
    said="content",
)
