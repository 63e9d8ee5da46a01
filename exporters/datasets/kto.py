"""KTO: what was asked, what a run answered, and whether that was wanted, from single verdicts."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from exporters import runs
from exporters.dataset import Dataset, Fault, Rows, Shape
from exporters.faults import blank, free_form, turns
from exporters.runs import TURNS, UNBROKEN, only_turns, turn
from views.policy import Policy

# This only ever grows.
NEVER = frozenset({"needs_human_review"})

_IS_CHAT = "coalesce(json_array_length(messages) > 1, false)"
_PROMPT, _COMPLETION = turn("user", "prompt"), turn("assistant", "completion")
_PART = f"cast(to_json(list_slice(json_extract({UNBROKEN.format('messages')}, '$[*]'), {{0}}, {{1}})) as varchar)"


def labels(policy: Policy) -> dict[str, bool]:
    """The label of each category that a row may have. What it may never have is taken off, whatever was asked for."""
    known = {"accepted": True, "rejected": False}
    if policy.partial_label is not None:
        known["partially_accepted"] = policy.partial_label
    return {category: label for category, label in known.items() if category not in NEVER}


def _faults(rows: Rows, batch: pa.RecordBatch) -> Iterator[Fault]:
    known = labels(rows.policy)
    yield from runs.faults(batch, "kto", frozenset(known))
    expected = [known.get(category) for category in batch.column("category").to_pylist()]
    told = batch.column("label").to_pylist()
    wrong = np.array([said is not wanted for said, wanted in zip(told, expected, strict=True)], bool)
    yield pa.array(wrong), "label is not that of the verdict"
    if rows.shape == "plain":
        yield from blank(batch, "prompt", "completion")
    elif rows.shape == "conversational":
        yield from turns(batch.column("prompt"), "prompt", None)
        yield from turns(batch.column("completion"), "completion", "assistant")
    else:
        yield pc.equal(batch.column("prompt"), "[]"), "prompt must be a list of turns"
        yield from free_form(batch.column("completion"))


DATASET = Dataset(
    name="kto",
    one_row="One row is one run with a verdict: what was asked, what the run answered, and whether that was wanted.",
    shapes={
        "conversational": Shape(
            {
                "prompt": f"case when {_IS_CHAT} then from_json(messages, {TURNS})[:-2] else {_PROMPT} end",
                "completion": f"case when {_IS_CHAT} then from_json(messages, {TURNS})[-1:] else {_COMPLETION} end",
                "label": "label",
            },
            fits=only_turns("kto"),
            otherwise="free-form",
        ),
        "plain": Shape({"prompt": "prompt", "completion": "completion", "label": "label"}),
        "free-form": Shape(
            {
                "prompt": f"case when {_IS_CHAT} then {_PART.format(1, -2)}"
                f" else cast(to_json({_PROMPT}) as varchar) end",
                "completion": f"case when {_IS_CHAT} then {_PART.format(-1, -1)}"
                f" else cast(to_json({_COMPLETION}) as varchar) end",
                "label": "label",
                "tools": UNBROKEN.format("tools"),
            },
            json=("prompt", "completion", "tools"),
            offered=False,
        ),
    },
    provenance=runs.PROVENANCE,
    record=runs.RECORD,
    claims=runs.claims(),
    faults=_faults,
    said="prompt",
)
