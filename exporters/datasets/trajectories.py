"""Trajectories: what an agent was told, thought, called and got back, from runs that the verdict accepts.

In one shape the messages are those of the evidence, unchanged; the other two are one text a row, Harmony or the older
tags, rendered from the same messages.
"""

from collections.abc import Callable, Iterator

import msgspec
import pyarrow as pa

from exporters import harmony, runs, tags
from exporters.dataset import Dataset, Fault, Rows, Shape
from exporters.datasets.sft import NEVER, allowed
from exporters.faults import FirewallBreach, blank, row_faults
from exporters.runs import UNBROKEN

# One text of both, for a renderer to take apart.
_BOTH = """concat('{"messages":', messages, ',"tools":', coalesce(tools, 'null'), '}')"""


class _Both(msgspec.Struct):
    messages: list[object]
    tools: list[object] | None


_DECODER = msgspec.json.Decoder(_Both)


def texts(batch: pa.RecordBatch, name: str, render: Callable[[str], str]) -> pa.RecordBatch:
    """The batch with every text of a column rendered. Raises FirewallBreach where one cannot be."""
    made = []
    for place, text in enumerate(batch.column(name).to_pylist()):
        try:
            made.append(render(text))
        except (harmony.Unrenderable, msgspec.DecodeError, RecursionError) as error:
            row = batch.column("id")[place]
            raise FirewallBreach(
                f"{row}: it cannot be rendered: {error}; nothing was written",
                "its view let it through; export without --views to use the installed one",
            ) from None
    return batch.set_column(batch.schema.get_field_index(name), name, pa.array(made, pa.string()))


def system_message(rows: Rows) -> harmony.System:
    """What the policy has Harmony's system message say. Raises UsageError."""
    told = rows.policy.harmony
    return harmony.System(effort=told.effort, date=told.date)


def _in_harmony(rows: Rows, batch: pa.RecordBatch) -> pa.RecordBatch:
    system = system_message(rows)
    return texts(batch, "text", lambda text: harmony.render(_chat(text), system=system))


def _in_tags(_: Rows, batch: pa.RecordBatch) -> pa.RecordBatch:
    return texts(batch, "text", lambda text: tags.render(_chat(text)))


def _chat(text: str) -> harmony.Chat:
    both = _DECODER.decode(text)
    return harmony.read_chat(both.messages, both.tools)


def _faults(rows: Rows, batch: pa.RecordBatch) -> Iterator[Fault]:
    yield from runs.faults(batch, "trajectories", allowed(rows.policy) - NEVER)
    if rows.shape == "conversational":
        tools = batch.column("tools").to_pylist()
        yield from row_faults(list(zip(batch.column("messages").to_pylist(), tools, strict=True)), _untold)
    else:
        yield from blank(batch, "text")
        yield from row_faults(batch.column("text").to_pylist(), TEXT_FAULTS[rows.shape])


def _untold(row: tuple[str | None, str | None]) -> str | None:
    messages, tools = row
    try:
        harmony.read_chat(messages or "", tools)
    except harmony.Unrenderable as error:
        return error.message
    return None


def no_harmony(text: str | None) -> str | None:
    """Why a text is no Harmony, None if it is."""
    return next(iter(harmony.problems(text or "")), None)


def _no_tags(text: str | None) -> str | None:
    if text is None or not text.endswith(tags.END):
        return f"text does not end with {tags.END}"
    return None if "<|assistant|>" in text else "text has no turn of the assistant"


TEXT_FAULTS: dict[str, Callable[[str | None], str | None]] = {"harmony": no_harmony, "tags": _no_tags}

DATASET = Dataset(
    name="trajectories",
    one_row="One row is one run of an agent that may be imitated: its conversation, with tool calls and thinking.",
    shapes={
        "conversational": Shape(
            {"messages": UNBROKEN.format("messages"), "tools": UNBROKEN.format("tools")}, json=("messages", "tools")
        ),
        "harmony": Shape({"text": _BOTH}, render=_in_harmony),
        "tags": Shape({"text": _BOTH}, render=_in_tags),
    },
    provenance=runs.PROVENANCE,
    record=runs.RECORD,
    claims=runs.claims(),
    faults=_faults,
    said="instruction",
)
