"""Preference: pairs of runs of the same task, one accepted and one judged worse."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from exporters.dataset import Dataset, Fault, Rows, Shape
from exporters.faults import blank, last_of, provenance, turns
from exporters.runs import turn


def pair_faults(rows: Rows, batch: pa.RecordBatch) -> Iterator[Fault]:
    """Faults of rows of `prompt`, `chosen` and `rejected`, each a text or a list of turns."""
    yield from blank(batch, "id", "task_id")
    sides = {name: batch.column(name) for name in ("prompt", "chosen", "rejected")}
    if rows.shape == "conversational":
        for name, column in sides.items():
            yield from turns(column, name, "user" if name == "prompt" else "assistant")
        chosen, rejected = (last_of(sides[name], "content") for name in ("chosen", "rejected"))
    else:
        yield from blank(batch, *sides)
        chosen, rejected = sides["chosen"], sides["rejected"]
    same = pc.equal(pc.utf8_trim_whitespace(chosen), pc.utf8_trim_whitespace(rejected))
    yield same, "chosen and rejected are the same text"
    yield from blank(batch, "chosen_run_id", "rejected_run_id", "chosen_event_id", "rejected_event_id")
    yield pc.equal(batch.column("chosen_run_id"), batch.column("rejected_run_id")), "a run is paired with itself"
    for position, name in enumerate(("chosen", "rejected")):
        yield from provenance(batch.column("provenance").field(position), f"provenance.{name}")


CLAIMS = {
    "chosen": ("hash(chosen_run_id)", "select hash(run_id) as key from events.scores where category = 'accepted'"),
    "rejected": (
        "hash(rejected_run_id)",
        "select hash(run_id) as key from events.scores where category in ('rejected', 'partially_accepted')",
    ),
}

DATASET = Dataset(
    name="preference",
    one_row="One row is one pair of runs of the same task: `chosen` was accepted, `rejected` was judged worse.",
    shapes={
        "conversational": Shape(
            {
                "prompt": turn("user", "prompt"),
                "chosen": turn("assistant", "chosen"),
                "rejected": turn("assistant", "rejected"),
            }
        ),
        "plain": Shape({"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}),
    },
    provenance=(
        "schema_version",
        "reason",
        "chosen_run_id",
        "rejected_run_id",
        "task_id",
        "sig_hash",
        "created_at",
        "provenance",
        "chosen_event_id",
        "rejected_event_id",
    ),
    record="hash('pair', id)",
    claims=CLAIMS,
    faults=pair_faults,
    said="prompt",
    pairs=True,
    block_bytes=1 << 28,
)
