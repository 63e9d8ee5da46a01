"""One sighting of a section: what an event of the kind `replay` says, checked before it may be one.

A section that breaks its grammar, a mined pair that does not say where it comes from, a weight that is none: each is
refused with all that is wrong with it. So whatever door it came in by, a section in the lake has rows.
"""

import math
from collections.abc import Mapping
from typing import Any

from ingest.replay.provenance import FIELDS, BadProvenance, provenance
from ingest.replay.sections import Malformed, normalised, rows_of, section_id
from ingest.rows import Problem, Refused

Row = dict[str, Any]


class RefusedSection(Refused):
    """A section that cannot be a sighting. `line` is where in its document that shows first."""

    def __init__(self, problems: list[Problem], line: int) -> None:
        super().__init__(problems)
        self.line = line


def sighting(section_type: str, content: str, said: Mapping[str, Any], *, line: int = 1) -> Row:
    """The columns of a sighting that follow from a section, which begins on a `line`. Raises RefusedSection.

    `said` may have `weight`, `auto_mined` and what `provenance.FIELDS` lists.
    """
    problems: list[Problem] = []
    at = line
    try:
        rows_of(section_type, content)
    except Malformed as error:
        at = line + error.line - 1
        problems.append(Problem(error.reason, f"line {at}: {error.message}"))
    mined: Mapping[str, object] = {}
    try:
        mined = provenance(said, section_type)
    except BadProvenance as error:
        problems.append(Problem("bad_provenance", f"{error.message}: {error.hint}" if error.hint else error.message))
    weight = said.get("weight")
    if weight is not None and not is_weight(weight):
        problems.append(Problem("bad_weight", f"weight is a finite number of at least 0, not {weight!r:.60}"))
    if problems:
        raise RefusedSection(problems, at)
    text = normalised(content)
    return {
        "section_id": section_id(section_type, text),
        "section_type": section_type,
        "content": text,
        "content_bytes": len(text.encode()),
        "weight": None if weight is None else float(weight),
        **mined,
    }


def is_weight(value: object) -> bool:
    """Whether this can be a section's weight: a finite number of at least 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def from_row(row: Row) -> Row:
    """A sighting as a row of the lake's own shape says it: `section_type` and `content`, the id is made.

    What else is in the row stays. An id that is given must be the one that the content has. Raises Refused.
    """
    section_type, content = row.get("section_type"), row.get("content")
    if not isinstance(section_type, str) or not isinstance(content, str):
        raise Refused([Problem("missing_field", "a section has a section_type and a content, texts both")])
    made = sighting(section_type, content, row)
    if row.get("section_id") not in (None, made["section_id"]):
        message = f"section_id: {row['section_id']!r:.60} is not {made['section_id']}, which this content has"
        raise Refused([Problem("wrong_id", message)])
    times = {name: row[name] for name in ("mined_at",) if isinstance(row.get(name), str)}
    return {**{name: value for name, value in row.items() if name not in FIELDS}, **made, **times}
