"""Evidence and scored runs of a distillation tree, by its own field names.

Evidence has run_id, task_id, timestamp, schema_version 1 and provenance {source_file, line_offset?, sig_hash,
recorded_at}; a scored run has evidence_run_id, evidence_task_id, category, reasons, scored_at, scorer_version,
sub_scores and provenance. The provenance stays in `extra` beside everything that has no column, so `source` says where
the lake read the row and `extra` where the row itself says it came from.

A row that names only its stream's run, `stream_run_id`, becomes `<stream_run_id>:<row_index>`.
"""

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from ingest.rows import Place, Problem, Refused
from lake.kinds import SCHEMA_VERSION

SCORER = "distillation"
OBSERVER_VERDICTS = ("accept", "reject", "cycle")

Row = dict[str, Any]


def read(row: Row, place: Place) -> Iterable[Mapping[str, Any]]:
    """One event a row: evidence, or the scores of a scored run."""
    problems = [*_version(row), *_provenance(row)]
    event = _evidence(row, place, problems) if place.kind == "evidence" else _score(row, problems)
    if problems:
        raise Refused(problems)
    return [event]


def _evidence(row: Row, place: Place, problems: list[Problem]) -> Row:
    event = _without(row, "schema_version", "timestamp", "stream_run_id", "row_index", "model_role", "model_name")
    event["recorded_at"] = _needed(row, "timestamp", problems)
    event["role"] = row.get("role") or row.get("model_role") or "executor"
    event["model"] = row.get("model") or row.get("model_name")
    event["kind"] = row.get("kind") or "completion"
    event["stream"] = row.get("stream") or _stream(row, place)
    if row.get("run_id") is None and row.get("stream_run_id") is not None:
        event["run_id"] = f"{row['stream_run_id']}:{_index(row, place)}"
    _needed(event, "run_id", problems)
    _needed(event, "task_id", problems)
    return event


def _score(row: Row, problems: list[Problem]) -> Row:
    event = _without(row, "schema_version", "evidence_run_id", "evidence_task_id", "scored_at")
    event["run_id"] = _needed(row, "evidence_run_id", problems)
    event["task_id"] = _needed(row, "evidence_task_id", problems)
    event["recorded_at"] = _needed(row, "scored_at", problems)
    event["scorer"] = row.get("scorer") or SCORER
    _needed(row, "category", problems)
    _needed(row, "scorer_version", problems)
    reasons = _needed(row, "reasons", problems)
    if isinstance(reasons, list) and not any(isinstance(reason, str) and reason.strip() for reason in reasons):
        problems.append(Problem("missing_field", "reasons: a scored run needs at least one"))
    if isinstance(row.get("sub_scores"), dict):
        problems += _sub_scores(row["sub_scores"])
    return event


def _version(row: Row) -> Iterable[Problem]:
    version = row.get("schema_version")
    if version is None:
        yield Problem("missing_field", "schema_version: is missing")
    elif version != SCHEMA_VERSION or isinstance(version, bool):
        yield Problem("unknown_schema_version", f"schema_version: {version!r:.60} is not {SCHEMA_VERSION}")


def _provenance(row: Row) -> Iterable[Problem]:
    provenance = row.get("provenance")
    if provenance is None:
        yield Problem("missing_field", "provenance: is missing")
        return
    if not isinstance(provenance, dict):
        yield Problem("wrong_type", "provenance: must be an object")
        return
    for name in ("source_file", "sig_hash", "recorded_at"):
        value = provenance.get(name)
        if not isinstance(value, str) or not value.strip():
            yield Problem("missing_field", f"provenance.{name}: is missing or no text")
    offset = provenance.get("line_offset")
    if offset is not None and (isinstance(offset, bool) or not isinstance(offset, int) or offset < 0):
        yield Problem("wrong_type", "provenance.line_offset: must be a whole number, not below 0")


def _sub_scores(scores: Row) -> Iterable[Problem]:
    grounding = scores.get("anchor_grounding")
    if grounding is not None and not (
        isinstance(grounding, int | float) and not isinstance(grounding, bool) and 0 <= grounding <= 1
    ):
        yield Problem("unknown_value", "sub_scores.anchor_grounding: must be a number from 0 to 1")
    verdict = scores.get("observer_verdict")
    if verdict is not None and verdict not in OBSERVER_VERDICTS:
        yield Problem(
            "unknown_value",
            f"sub_scores.observer_verdict: {verdict!r:.60} is not one of {', '.join(OBSERVER_VERDICTS)}",
        )


def _needed(row: Row, name: str, problems: list[Problem]) -> Any:
    value = row.get(name)
    if value is None:
        problems.append(Problem("missing_field", f"{name}: is missing"))
    elif isinstance(value, str) and not value.strip():
        problems.append(Problem("blank_field", f"{name}: is blank"))
    return value


def _stream(row: Row, place: Place) -> str:
    """The stem of the file that the row first came from, which names its stream."""
    provenance = row.get("provenance")
    first = provenance.get("source_file") if isinstance(provenance, dict) else None
    file = first if isinstance(first, str) and first.strip() else place.file
    return PurePosixPath(file).name.split(".")[0]


def _index(row: Row, place: Place) -> object:
    if row.get("row_index") is not None:
        return row["row_index"]
    provenance = row.get("provenance")
    offset = provenance.get("line_offset") if isinstance(provenance, dict) else None
    return offset if offset is not None else place.line - 1


def _without(row: Row, *names: str) -> Row:
    return {name: value for name, value in row.items() if name not in names}
