"""The lake's own rows: the kind's columns by name.

`run_id`, `task_id` and `text` are enough for evidence, `text` for a prompt, `section_type` and `content` for a section
of past training; the ids of these two are functions of what they say. What is missing takes its default
(`checks.DEFAULTS`) or stays unknown; nothing is invented, least of all a time. `schema_version`, if given, must be one
that this version knows.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ingest.readers import prompts
from ingest.replay import sightings
from ingest.rows import Place, refuse
from lake.kinds import KINDS, SCHEMA_VERSION

_WORDS: dict[str, type] = {"int64": int, "bool": bool}
_CALLED: dict[type, str] = {int: "a whole number", bool: "true or false"}


def read(row: dict[str, Any], place: Place) -> Iterable[Mapping[str, Any]]:
    """One event a row."""
    if "schema_version" in row:
        version = row["schema_version"]
        row = {name: value for name, value in row.items() if name != "schema_version"}
        if version not in ((SCHEMA_VERSION, str(SCHEMA_VERSION)) if place.format == "csv" else (SCHEMA_VERSION,)):
            raise refuse("unknown_schema_version", f"schema_version: {version!r:.60} is not {SCHEMA_VERSION}")
    if place.format == "csv":
        row = _from_text(row, place.kind)
    return [_MEANT.get(place.kind, _as_it_is)(row)]


def _as_it_is(row: dict[str, Any]) -> Mapping[str, Any]:
    return row


# What a row of these kinds leaves out follows from what it says.
_MEANT: Mapping[str, Callable[[dict[str, Any]], Mapping[str, Any]]] = {
    "prompts": prompts.read_native,
    "replay": sightings.from_row,
}


def _from_text(row: dict[str, Any], kind: str) -> dict[str, Any]:
    """Cells of a CSV file as what their columns hold: a number, or a list, written in JSON or as its only item."""
    made = dict(row)
    for field in KINDS[kind].columns:
        text = row.get(field.name)
        if not isinstance(text, str):
            continue
        if str(field.type) == "double":
            try:
                made[field.name] = float(text)
            except ValueError:
                raise refuse("wrong_type", f"{field.name}: must be a number, and is {text!r:.60}") from None
        elif str(field.type).startswith("list"):
            made[field.name] = _items(text)
        elif str(field.type) in _WORDS:
            made[field.name] = _word(field.name, text, _WORDS[str(field.type)])
    return made


def _word(name: str, text: str, kind: type) -> Any:
    """A whole number, or true or false, as JSON writes it."""
    try:
        value = json.loads(text.strip().lower())
    except (ValueError, RecursionError):
        value = None
    if type(value) is not kind:
        raise refuse("wrong_type", f"{name}: must be {_CALLED[kind]}, and is {text!r:.60}")
    return value


def _items(text: str) -> list[Any]:
    if text.lstrip().startswith("["):
        try:
            return list(json.loads(text))
        except (ValueError, RecursionError):
            # No JSON after all: a text that begins with a bracket.
            pass
    return [text]
