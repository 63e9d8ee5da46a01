"""Supervised fine-tuning: what was asked, and a response that the verdict accepts."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from exporters.dataset import Dataset, Fault, Rows, Shape
from exporters.faults import blank, free_form, not_in, provenance, turns
from views.policy import Policy

# This only ever grows. A policy chooses among what it leaves.
NEVER = frozenset({"rejected", "needs_human_review"})

ASKED = "concat(instruction, case when trim(context) <> '' then chr(10) || chr(10) || context end)"
_CHAT = f"[{{'role': 'user', 'content': {ASKED}}}, {{'role': 'assistant', 'content': response}}]"
TURNS = """'[{"role": "VARCHAR", "content": "VARCHAR"}]'"""
# JSON text keeps every key as it was sent; its own line ends can only be white space between tokens.
UNBROKEN = "translate({0}, chr(10) || chr(13), '  ')"

# Whether every conversation is turns of a role and a text and nothing else, so that columns hold it without loss.
_ONLY_TURNS = f"""
select coalesce(bool_and(
    tools is null
    and case when json_valid(messages) then cast(json(messages) as varchar) end
        is not distinct from cast(to_json(from_json(messages, {TURNS})) as varchar)
), true)
from sft
where messages is not null
"""


def allowed(policy: Policy) -> frozenset[str]:
    """The categories that a row may have. What it may never have is taken off, whatever was asked for."""
    return frozenset({"accepted", *(("partially_accepted",) * policy.include_partial)}) - NEVER


def _faults(rows: Rows, batch: pa.RecordBatch) -> Iterator[Fault]:
    yield from blank(batch, "id", "task_id")
    column = batch.column("category")
    bad = pc.or_(not_in(column, allowed(rows.policy)), pc.invert(not_in(column, NEVER)))
    yield bad, lambda place: f"category {column[place].as_py()!r} is not allowed in sft"
    yield from blank(batch, "source_run_id", "event_id", "score_event_id")
    yield from provenance(batch.column("provenance"), "provenance")
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
            {"messages": f"case when messages is null then {_CHAT} else from_json(messages, {TURNS}) end"},
            fits=_ONLY_TURNS,
            otherwise="free-form",
        ),
        "prompt-completion": Shape({"prompt": ASKED, "completion": "response"}),
        "instruction": Shape({"instruction": "instruction", "context": "context", "response": "response"}),
        "free-form": Shape(
            {
                "messages": f"coalesce({UNBROKEN.format('messages')}, cast(to_json({_CHAT}) as varchar))",
                "tools": UNBROKEN.format("tools"),
            },
            json=("messages", "tools"),
            offered=False,
        ),
    },
    provenance=(
        "source_run_id",
        "task_id",
        "category",
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
            "hash(score_event_id, source_run_id, category)",
            "select hash(event_id, run_id, category) as key from events.scores",
        )
    },
    faults=_faults,
    said="instruction",
)
