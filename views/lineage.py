"""Why a row is where it is, and what changed between two snapshots.

`why` tells the life of a run, task, event, pair or exported row as steps: the events that bear on it, withdrawn ones
too, then the decisions that follow from them. `diff` compares a dataset at two snapshots and names, for each row that
entered, left or changed, the event that did it. Both read relations (`bearings`, `outcomes`, `exported_rows`).

Not here: the rules themselves, which are the relations' own.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from lake.errors import UnknownRef, UsageError
from views import engine
from views.connect import Pinned, define, needed, of_dataset, sources
from views.gates import as_they_stand
from views.policy import Policy

# All but `prompts`, whose rows are no runs and no tasks.
DATASETS = (
    "sft",
    "rag",
    "preference",
    "kto",
    "domain",
    "ipo",
    "pretrain",
    "trajectories",
    "mutations",
    "grpo",
    "eval",
)

_COMPARED = "exported_rows bearings"  # what a comparison reads
_EXPORTED = re.compile(r"(?:sft|rag|kto|domain|pretrain|trajectories|mutations)-([0-9a-f]{16})")
_EXPORTED_TASK = re.compile(r"(?:grpo|eval)-([0-9a-f]{16})")
_PAIR = re.compile(r"pref-[0-9a-f]{16}")
# What of a run's life comes before its pairs.
_BEFORE_PAIRS = ("evidence", "score", "task", "retraction", "superseded", "verdict")


class Step(msgspec.Struct, frozen=True):
    """One step of an answer to why: an event or a decision, and where it came from. `step` counts from 1."""

    step: int
    what: str
    detail: str
    run_id: str | None
    task_id: str | None
    event_id: str | None
    source_file: str | None
    source_line: int | None
    recorded_at: datetime | None


class Change(msgspec.Struct, frozen=True):
    """One row that a dataset does not have alike at two snapshots.

    `change` is entered, left or changed. `cause` is the kind of event that did it (evidence, score, task, retraction),
    or rules where no event did.
    """

    dataset: str
    change: str
    id: str
    run_id: str
    rejected_run_id: str | None
    task_id: str
    cause: str
    detail: str | None
    event_id: str | None
    source_file: str | None
    source_line: int | None
    recorded_at: datetime | None


def why(con: duckdb.DuckDBPyConnection, ref: str) -> list[Step]:
    """The steps that admitted, refused or paired what `ref` names, on a connection of `connect`.

    `ref` is the id of a run, task, event, exported row (`sft-…`, `rag-…`, `pretrain-…`), pair (`pref-…`) or reject.
    Raises UnknownRef.
    """
    rows = _rows(con, "event_steps", ref=ref) or _pair(con, ref) or _run(con, ref) or _task(con, ref)
    if not rows:
        raise UnknownRef(f"nothing here is called {ref!r}", "give the id of a run, task, event or exported row")
    return [Step(number, *row) for number, row in enumerate(rows, 1)]


def diff(
    old: Pinned,
    new: Pinned,
    dataset: str | None = None,
    *,
    policy: Policy | None = None,
    sql: tuple[Mapping[str, str], Mapping[str, str]] | None = None,
) -> Iterator[Change]:
    """The rows of a dataset, or of all, that entered, left or changed from `old` to `new`, by task and id.

    Both are seen under one policy and the installed rules; `sql` gives each its own. Raises UsageError.
    """
    if dataset is not None and dataset not in DATASETS:
        raise UsageError(f"there is no dataset {dataset!r}", f"the datasets are {', '.join(DATASETS)}")
    policy = policy or Policy()
    sides = {}
    con = engine.connection()
    try:
        for number, (name, snapshot) in enumerate((("old", old), ("new", new))):
            sides[name] = needed(_COMPARED, as_they_stand(sql[number] if sql else sources(), policy.quality))
            con.execute(f"attach ':memory:' as {name}")
            con.execute(f"use {name}")
            define(con, snapshot, policy, sides[name])
        con.execute(f"create temp table moved as {_question('moved')}")
        for each in DATASETS if dataset is None else (dataset,):
            for name, texts in sides.items():
                con.execute(f"use {name}")
                con.execute(f"create or replace view exported_rows as {of_dataset(texts['exported_rows'], each)}")
            con.execute("set variable dataset = ?", [each])
            con.execute(_question("changes"))
            while rows := con.fetchmany(1000):
                yield from (Change(*row) for row in rows)
    finally:
        con.close()


def _pair(con: duckdb.DuckDBPyConnection, ref: str) -> list[tuple[Any, ...]]:
    """The lives of a pair's two runs up to their verdicts, then the pair."""
    if not _PAIR.fullmatch(ref):
        return []
    for chosen, rejected, task_id in _rows(con, "pair", ref=ref):
        lives = [_rows(con, "run_steps", run_id=run_id, task_id=task_id) for run_id in (chosen, rejected)]
        before = [row for life in lives for row in life if row[0] in _BEFORE_PAIRS]
        return before + [row for row in lives[0] if row[0] == "pair" and row[1].startswith(ref)]
    return []


def _run(con: duckdb.DuckDBPyConnection, ref: str) -> list[tuple[Any, ...]]:
    """The life of the run that goes by this id, or by that of an exported row or event of it."""
    exported = _EXPORTED.fullmatch(ref)
    named = _rows(con, "named_run", ref=ref) or (exported and _rows(con, "exported_run", digits=exported[1]))
    for run_id, task_id in named or ():
        return _rows(con, "run_steps", run_id=run_id, task_id=task_id)
    return []


def _task(con: duckdb.DuckDBPyConnection, ref: str) -> list[tuple[Any, ...]]:
    exported = _EXPORTED_TASK.fullmatch(ref)
    named = _rows(con, "named_task", ref=ref) or (exported and _rows(con, "exported_task", digits=exported[1]))
    for (task_id,) in named or ():
        return _rows(con, "task_steps", task_id=task_id)
    return []


def _rows(con: duckdb.DuckDBPyConnection, question: str, **parameters: str) -> list[tuple[Any, ...]]:
    """What a question gives: its parameters are variables of a cursor of their own."""
    with con.cursor() as cursor:
        for name, value in parameters.items():
            cursor.execute(f"set variable {name} = ?", [value])
        return cursor.execute(_question(question)).fetchall()


@cache
def _question(name: str) -> str:
    return (Path(__file__).parent / "questions" / f"{name}.sql").read_text("utf-8")
