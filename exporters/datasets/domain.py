"""Domain: runs that may be imitated, by the domain that they are of, for an adapter of each."""

from collections.abc import Iterator

import pyarrow as pa

from exporters import runs
from exporters.dataset import Dataset, Fault, Rows, Shape
from exporters.datasets.sft import NEVER, allowed
from exporters.faults import blank, free_form, not_in, turns
from exporters.runs import UNBROKEN, conversation, conversation_json, exchange, only_turns

_CHAT = exchange("instruction", "response")
_TEXT = "case when is_document then response else concat(instruction, chr(10), chr(10), response) end"


def _faults(rows: Rows, batch: pa.RecordBatch) -> Iterator[Fault]:
    yield from runs.faults(batch, "domain", allowed(rows.policy) - NEVER)
    yield from blank(batch, "domain")
    if rows.policy.domain is not None:
        yield not_in(batch.column("domain"), frozenset({rows.policy.domain})), "it is of another domain"
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
                "messages": conversation(_CHAT),
                "domain": "domain",
            },
            fits=only_turns("domain"),
            otherwise="free-form",
        ),
        "text": Shape({"text": _TEXT, "domain": "domain"}),
        "free-form": Shape(
            {
                "messages": conversation_json(_CHAT),
                "tools": UNBROKEN.format("tools"),
                "domain": "domain",
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
