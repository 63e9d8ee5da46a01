"""Prompts: those of a pool, for a model to answer."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from exporters.dataset import Dataset, Fault, Rows, Shape
from exporters.faults import blank, not_in, provenance, turns
from exporters.runs import conversation, conversation_json, only_turns, turn

_ASKED = turn("user", "prompt")


def _faults(rows: Rows, batch: pa.RecordBatch) -> Iterator[Fault]:
    yield from blank(batch, "id", "prompt_id", "pool", "domain", "language")
    pool = batch.column("pool")
    if rows.policy.pool is not None:
        yield not_in(pool, frozenset({rows.policy.pool})), "it is of another pool"
    is_held = pc.fill_null(pc.equal(batch.column("split"), "eval"), False)
    yield pc.and_(is_held, pc.invert(pc.match_substring(pool, "/"))), "it is kept for evaluation"
    yield from provenance(batch.column("provenance"), "provenance")
    if rows.shape == "conversational":
        yield from turns(batch.column("prompt"), "prompt", None)
    else:
        yield from blank(batch, "prompt")


DATASET = Dataset(
    name="prompts",
    view="pool_prompts",
    one_row="One row is one prompt of a pool, with its domain and language, for a model to answer.",
    shapes={
        "conversational": Shape(
            {
                "prompt": conversation(_ASKED),
                "domain": "domain",
                "language": "language",
            },
            fits=only_turns("pool_prompts", tools=False),
            otherwise="free-form",
        ),
        "plain": Shape({"prompt": "prompt", "domain": "domain", "language": "language"}),
        "free-form": Shape(
            {
                "prompt": conversation_json(_ASKED),
                "domain": "domain",
                "language": "language",
            },
            json=("prompt",),
            offered=False,
        ),
    },
    provenance=("prompt_id", "pool", "split", "words", "provenance", "event_id"),
    record="hash('prompt', event_id)",
    claims={
        "claim": (
            "hash(event_id, prompt_id, pool)",
            "select hash(event_id, prompt_id, pool) as key from events.prompts where pool is not null",
        )
    },
    faults=_faults,
    said="prompt",
    group="id",
)
