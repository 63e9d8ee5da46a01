"""IPO: preference pairs with a margin, the difference of the two scores.

In Harmony, `prompt` ends with `<|start|>assistant` and each side is what follows there, up to the end of an answer: the
prompt is in no side again, and a side behind the prompt is a whole conversation.
"""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from exporters import harmony
from exporters.dataset import Dataset, Fault, Rows, Shape
from exporters.datasets import preference
from exporters.datasets.trajectories import no_harmony, system_message, texts
from exporters.faults import row_faults

_SIDES = ("chosen", "rejected")


def _rendered(rows: Rows, batch: pa.RecordBatch) -> pa.RecordBatch:
    system = system_message(rows)

    def prompt(text: str) -> str:
        return harmony.render(harmony.Chat((harmony.Turn("user", text),)), "prompt", system)

    made = texts(batch, "prompt", prompt)
    for side in _SIDES:
        made = texts(made, side, harmony.completion)
    return made


def _faults(rows: Rows, batch: pa.RecordBatch) -> Iterator[Fault]:
    yield from preference.pair_faults(rows, batch)
    margin = batch.column("margin")
    yield pc.invert(pc.fill_null(pc.is_finite(margin), False)), "margin is missing"
    if rows.shape == "harmony":
        prompts = batch.column("prompt").to_pylist()
        yield from row_faults(prompts, _no_prompt)
        for side in _SIDES:
            both = zip(prompts, batch.column(side).to_pylist(), strict=True)
            yield from row_faults([f"{prompt}{answer}" for prompt, answer in both], no_harmony)


def _no_prompt(text: str | None) -> str | None:
    return None if (text or "").endswith("<|start|>assistant") else "prompt does not end with <|start|>assistant"


DATASET = Dataset(
    name="ipo",
    one_row="One row is one pair of runs of the same task, and by how much the score of `chosen` exceeds the other.",
    shapes={
        **{
            name: Shape({**preference.DATASET.shapes[name].columns, "margin": "margin"})
            for name in ("conversational", "plain")
        },
        "harmony": Shape(
            {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected", "margin": "margin"}, render=_rendered
        ),
    },
    provenance=preference.DATASET.provenance,
    record="hash('pair', id)",
    claims=preference.CLAIMS,
    faults=_faults,
    said="prompt",
    pairs=True,
    block_bytes=1 << 28,
)
