"""Supervised fine-tuning: what was asked, and a response that the verdict accepts."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from exporters import runs
from exporters.dataset import Dataset, Fault, Rows, Shape
from exporters.faults import blank, free_form, turns
from exporters.runs import UNBROKEN, conversation, conversation_json, exchange, only_turns
from views.policy import Policy

# This only ever grows. A policy chooses among what it leaves.
NEVER = frozenset({"rejected", "needs_human_review"})

ASKED = "concat(instruction, case when trim(context) <> '' then chr(10) || chr(10) || context end)"
_CHAT = exchange(ASKED, "response")


def allowed(policy: Policy) -> frozenset[str]:
    """The categories that a row may have. What it may never have is taken off, whatever was asked for."""
    return frozenset({"accepted", *(("partially_accepted",) * policy.include_partial)}) - NEVER


def _faults(rows: Rows, batch: pa.RecordBatch) -> Iterator[Fault]:
    yield from runs.faults(batch, "sft", allowed(rows.policy) - NEVER)
    if rows.shape == "free-form":
        yield from free_form(batch.column("messages"))
    elif rows.shape == "conversational":
        yield from turns(batch.column("messages"), "messages", "assistant")
    else:
        yield from blank(batch, *(name for name in rows.training if name != "context"))
        if "context" in rows.training:
            yield pc.is_null(batch.column("context")), "context is missing"


DATASET = Dataset(
    name="sft",
    one_row="One row is one run that may be imitated: what was asked, and a response that the verdict accepts.",
    shapes={
        "conversational": Shape(
            {"messages": conversation(_CHAT)},
            fits=only_turns("sft"),
            otherwise="free-form",
        ),
        "prompt-completion": Shape({"prompt": ASKED, "completion": "response"}),
        "instruction": Shape({"instruction": "instruction", "context": "context", "response": "response"}),
        "free-form": Shape(
            {
                "messages": conversation_json(_CHAT),
                "tools": UNBROKEN.format("tools"),
            },
            json=("messages", "tools"),
            offered=False,
        ),
    },
    provenance=runs.PROVENANCE,
    record=runs.RECORD,
    claims=runs.claims(),
    faults=_faults,
    said="instruction",
)
