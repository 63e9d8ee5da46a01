"""Sections from the rows of a training set: what a run trained on becomes what it can be trained on again.

What a row is, its columns say: `messages`, or a question and its answer under any of the usual names, is an
instruction; `prompt`, `chosen` and `rejected` a preference; `text` or `content` prose. A `label` that is false marks
what was not to be imitated. A row that was itself replayed says so in `_replay`, and is another sighting of its
section.

Not here: reading files (`exports`).
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from ingest.replay.sections import written
from ingest.rows import refuse

REPLAYED = "_replay"

# A question, what is added to it, and the answer; as trainers' own data formats call them.
_ASKED = (("prompt", None, "completion"), ("instruction", "context", "response"), ("instruction", "input", "output"))
_PROSE = ("text", "content")


class Read(NamedTuple):
    """What a row is: a section to be, or the id of the one that it was made from."""

    section_type: str
    content: str
    replayed: str | None = None


def read(row: Mapping[str, Any]) -> Read | None:
    """The section that a row makes, or None if it is one that was not to be imitated. Raises Refused."""
    # A format that knows no null record gives one of nulls.
    if isinstance(replayed := row.get(REPLAYED), Mapping) and replayed.get("section_id") is not None:
        return Read("", "", str(replayed["section_id"]))
    if row.get("label") is False:
        return None
    if row.get("messages") is not None:
        return Read("instruction", written("instruction", _conversation(row)))
    if all(row.get(name) for name in ("prompt", "chosen", "rejected")):
        triple = {name: _text(name, row[name]) for name in ("prompt", "chosen", "rejected")}
        return Read("preference", written("preference", triple))
    for question, more, answer in _ASKED:
        if row.get(question) and row.get(answer) is not None:
            asked, answered = _text(question, row[question]), _text(answer, row[answer])
            if more is not None and row.get(more):
                asked = f"{asked}\n\n{_text(more, row[more])}"
            turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
            return Read("instruction", written("instruction", {"messages": turns}))
    for name in _PROSE:
        if isinstance(row.get(name), str):
            return Read("prose", written("prose", {"text": row[name]}))
    raise refuse("no_section", f"a row of {', '.join(sorted(map(str, row)))[:120]} is no section")


def _conversation(row: Mapping[str, Any]) -> dict[str, Any]:
    """The turns of a conversation, without keys that say nothing, as Parquet has them for every turn."""
    turns, tools = (_json(name, row.get(name)) for name in ("messages", "tools"))
    if not isinstance(turns, list) or not all(isinstance(turn, Mapping) for turn in turns):
        raise refuse("no_section", "messages: must be a list of turns")
    told = [{name: value for name, value in turn.items() if value is not None} for turn in turns]
    return {"messages": told, "tools": tools} if tools else {"messages": told}


def _json(name: str, value: Any) -> Any:
    """What a column of JSON text says; what is no text is that already."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise refuse("no_section", f"{name}: is text that is no JSON: {error}") from None


def _text(name: str, value: Any) -> str:
    """A text, or the only turn of a conversation."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], Mapping):
        value = value[0].get("content")
    if not isinstance(value, str):
        raise refuse("no_section", f"{name}: a section holds a text here, or one turn")
    return value
