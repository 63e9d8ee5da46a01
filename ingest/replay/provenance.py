"""Where a pair comes from that a program mined: which judge preferred what, by how much, in which run.

All five facts or none: a mined pair without them cannot be weighed or withdrawn later, and a pair that a person wrote
has none of them.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from lake.errors import LakeError

FIELDS = ("judge_name", "judge_score_chosen", "judge_score_rejected", "mined_at", "mined_run_id")

_MARKER = re.compile(r"[ \t]*<!--[ \t]*(?:[a-z]+-)?auto-mined:(?P<fields>.*)-->[ \t]*")
_FIELD = re.compile(r'([a-z_]+)="([^"]*)"')


class BadProvenance(LakeError):
    """What is said of a mined pair is not whole, or not what it should be."""


def marked(line: str) -> dict[str, object] | None:
    """What a document's marker line says of the section that follows it; None if the line is no marker.

    `<!-- auto-mined: judge_name="sway" judge_score_chosen="0.8" … -->`, under any prefix such as `dlm-`.
    """
    found = _MARKER.fullmatch(line)
    return {"auto_mined": True, **dict(_FIELD.findall(found["fields"]))} if found else None


def provenance(said: Mapping[str, Any], section_type: str) -> dict[str, object]:
    """The columns `auto_mined` and those of `FIELDS`, as an event has them. Raises BadProvenance.

    `said` has all of `FIELDS` or none (null is none), scores as finite numbers or texts of such, `mined_at` as ISO 8601
    (UTC unless it says otherwise), and may have `auto_mined`. Only preferences are mined.
    """
    given = {name: value for name in FIELDS if (value := said.get(name)) is not None}
    mined = said.get("auto_mined")
    if mined is not None and not isinstance(mined, bool):
        raise BadProvenance(f"auto_mined is true or false, not {mined!r}")
    if not given and not mined:
        return {"auto_mined": False}
    missing = [name for name in FIELDS if name not in given]
    if missing or mined is False:
        what = f"without {', '.join(missing)}" if missing else "that says it is not auto_mined"
        raise BadProvenance(f"a mined pair {what}", f"give all of {', '.join(FIELDS)}, or none")
    if section_type != "preference":
        raise BadProvenance(f"{section_type} cannot be auto_mined", "only a preference section is mined")
    if not isinstance(given["judge_name"], str) or not given["judge_name"].strip():
        raise BadProvenance("judge_name is blank")
    return {
        "auto_mined": True,
        "judge_name": given["judge_name"],
        "judge_score_chosen": _score("judge_score_chosen", given["judge_score_chosen"]),
        "judge_score_rejected": _score("judge_score_rejected", given["judge_score_rejected"]),
        "mined_at": _time(given["mined_at"]),
        "mined_run_id": _run(given["mined_run_id"]),
    }


def _score(name: str, value: object) -> float:
    try:
        score = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        score = math.nan
    if not math.isfinite(score):
        raise BadProvenance(f"{name} is a finite number, not {value!r}")
    return score


def _time(value: object) -> datetime:
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadProvenance(f"mined_at is a time such as 2026-04-23T18:42:11Z, not {value!r}") from None


def _run(value: object) -> int:
    try:
        run = int(value) if isinstance(value, int | str) and not isinstance(value, bool) else 0
    except ValueError:
        run = 0
    if not 1 <= run < 1 << 63:
        raise BadProvenance(f"mined_run_id is a whole number from 1 on, not {value!r}")
    return run
