"""What the datasets share whose rows are runs: their provenance, the verdict that a row claims, and conversations.

Not here: what a dataset is (`dataset`), and faults that any row may have (`faults`).
"""

from collections.abc import Iterator

import pyarrow as pa

from exporters.dataset import Fault
from exporters.faults import blank, not_in, provenance

PROVENANCE = (
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
)
RECORD = "hash('event', event_id)"


def claims(category: str = "category") -> dict[str, tuple[str, str]]:
    """The verdict that a row claims, by the name of the column that says it, and those that pinned scores bear out."""
    return {
        "claim": (
            f"hash(score_event_id, source_run_id, {category})",
            "select hash(event_id, run_id, category) as key from events.scores",
        )
    }


def faults(batch: pa.RecordBatch, dataset: str, allowed: frozenset[str], category: str = "category") -> Iterator[Fault]:
    """Faults of any row that is a run: no verdict that is allowed, and what does not say where it comes from."""
    yield from blank(batch, "id", "task_id")
    column = batch.column(category)
    yield not_in(column, allowed), lambda place: f"category {column[place].as_py()!r} is not allowed in {dataset}"
    yield from blank(batch, "source_run_id", "event_id", "score_event_id")
    yield from provenance(batch.column("provenance"), "provenance")


TURNS = """'[{"role": "VARCHAR", "content": "VARCHAR"}]'"""
# JSON text keeps every key as it was sent; its own line ends can only be white space between tokens.
UNBROKEN = "translate({0}, chr(10) || chr(13), '  ')"


def only_turns(relation: str, *, tools: bool = True) -> str:
    """Whether all of a relation's conversations are turns of a role and a text and nothing else, as a query.

    Then columns hold them without loss. Without `tools` the relation has no column of that name.
    """
    return f"""
select coalesce(bool_and(
    {"tools is null and" if tools else ""}
    case when json_valid(messages) then cast(json(messages) as varchar) end
        is not distinct from cast(to_json(from_json(messages, {TURNS})) as varchar)
), true)
from {relation}
where messages is not null
"""


def conversation(exchanged: str) -> str:
    """A run's conversation as a list of turns, as SQL; where it has none, what was asked and answered."""
    return f"case when messages is null then {exchanged} else from_json(messages, {TURNS}) end"


def conversation_json(exchanged: str) -> str:
    """The same as JSON text, with every key as it was sent."""
    return f"coalesce({UNBROKEN.format('messages')}, cast(to_json({exchanged}) as varchar))"


def turn(role: str, content: str) -> str:
    """A list of one turn, as SQL."""
    return f"[{{'role': '{role}', 'content': {content}}}]"


def exchange(asked: str, answered: str) -> str:
    """A list of what a user asked and the assistant's answer, as SQL."""
    return f"[{{'role': 'user', 'content': {asked}}}, {{'role': 'assistant', 'content': {answered}}}]"
