"""Events written as a lake writes them, for tests that need many small worlds: real ids, real Parquet, no commits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lake.events import to_table, with_ids
from lake.kinds import KINDS, PIN_ORDER

Row = dict[str, Any]
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class World:
    """What the views need of a snapshot, and the events themselves as rows."""

    files: Mapping[str, list[str]]
    events: Mapping[str, list[Row]]

    def paths(self, kind: str) -> list[str]:
        """As a snapshot's."""
        return list(self.files.get(kind, ()))


def make(folder: Path, **rows: Sequence[Row]) -> World:
    """A world of these rows by kind. An event told twice is held once, as in a lake."""
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, list[str]] = {}
    events: dict[str, list[Row]] = {}
    for kind in PIN_ORDER:
        table = told(kind, rows.get(kind, ()))
        files[kind] = []
        if table.num_rows:
            path = folder / f"{kind}.parquet"
            pq.write_table(table, path)
            files[kind] = [str(path)]
        events[kind] = table.to_pylist()
    return World(files, events)


def told(kind: str, rows: Sequence[Row]) -> pa.Table:
    """The table that a lake would hold of these rows."""
    table = with_ids(KINDS[kind], to_table(KINDS[kind], list(rows)), "batch")
    first = {event_id: place for place, event_id in reversed(list(enumerate(table["event_id"].to_pylist())))}
    return table.take(pa.array(sorted(first.values()), pa.int64()))


def at(second: int | None) -> datetime | None:
    """A moment, in seconds from the start; None is unknown."""
    return None if second is None else START + timedelta(seconds=second)


def place(file: str | None, line: int = 1) -> Row | None:
    """A row's place in a file; None is none."""
    return None if file is None else {"file": file, "line": line, "sha256": "0" * 64}


def run(run_id: str = "r1", task_id: str = "t1", text: str | None = "an answer", **more: Any) -> Row:
    """A piece of evidence, sound unless told otherwise."""
    return {
        "run_id": run_id,
        "task_id": task_id,
        "kind": "completion",
        "role": "executor",
        "text": text,
        "source": place("runs.jsonl"),
        **more,
    }


def score(run_id: str = "r1", category: str = "accepted", **more: Any) -> Row:
    """A verdict on a run."""
    return {
        "run_id": run_id,
        "scorer": "judge",
        "scorer_version": "1",
        "category": category,
        "reasons": [f"looks {category}"],
        "source": place("scores.jsonl"),
        **more,
    }


def task(task_id: str = "t1", description: str | None = "Do it.", **more: Any) -> Row:
    """A task."""
    return {"task_id": task_id, "description": description, "source": place("tasks.jsonl"), **more}


def retraction(target_type: str, target: str, **more: Any) -> Row:
    """A withdrawal."""
    return {"target_type": target_type, "target": target, "source": place("retractions.jsonl"), **more}
