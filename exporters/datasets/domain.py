"""Domain: runs that may be imitated, by the domain that they are of, for an adapter of each."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from exporters.dataset import Dataset, Fault, Rows, Shape
from exporters.datasets.sft import NEVER, TURNS, UNBROKEN, allowed
from exporters.faults import blank, free_form, not_in, provenance, turns

_CHAT = "[{'role': 'user', 'content': instruction}, {'role': 'assistant', 'content': response}]"
_TEXT = "case when is_document then response else concat(instruction, chr(10), chr(10), response) end"

_ONLY_TURNS = f"""
select coalesce(bool_and(
    tools is null
    and case when json_valid(messages) then cast(json(messages) as varchar) end
        is not distinct from cast(to_json(from_json(messages, {TURNS})) as varchar)
), true)
from domain
where messages is not null
"""


def _faults(rows: Rows, batch: pa.RecordBatch) -> Iterator[Fault]:
    yield from blank(batch, "id", "task_id", "domain")
    column = batch.column("category")
    bad = pc.or_(not_in(column, allowed(rows.policy)), pc.invert(not_in(column, NEVER)))
    yield bad, lambda place: f"category {column[place].as_py()!r} is not allowed in domain"
    if rows.policy.domain is not None:
        yield not_in(batch.column("domain"), frozenset({rows.policy.domain})), "it is of another domain"
    yield from blank(batch, "source_run_id", "event_id", "score_event_id")
    yield from provenance(batch.column("provenance"), "provenance")
    if rows.shape == "free-form":
        yield from free_form(batch.column("messages"))
    elif rows.shape == "conversational":
        yield from turns(batch.column("messages"), "messages", "assistant")
    else:
        yield from blank(batch, "text")


DATASET = Dataset(
    name="domain",
    one_row="One row is one run that may be imitated in its domain, as a conversation or as one text.",
    shapes={
        "conversational": Shape(
            {
                "messages": f"case when messages is null then {_CHAT} else from_json(messages, {TURNS}) end",
                "domain": "domain",
            },
            fits=_ONLY_TURNS,
            otherwise="free-form",
        ),
        "text": Shape({"text": _TEXT, "domain": "domain"}),
        "free-form": Shape(
            {
                "messages": f"coalesce({UNBROKEN.format('messages')}, cast(to_json({_CHAT}) as varchar))",
                "tools": UNBROKEN.format("tools"),
                "domain": "domain",
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
