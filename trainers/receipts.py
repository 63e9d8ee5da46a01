"""A run's folder into the lake, and back: what a checkpoint was trained on, and which checkpoints saw a row.

A run comes in as four things: its record and its ledger as objects of the lake, under their sha256; its reports as
events of the kind `metrics`; the answers of a policy and what they were worth as evidence and scores; and at last a
receipt, which names all of these. It may come in while it goes on, when it ends, after it was resumed, from a folder
that was copied from another machine, and as often as one likes: what the lake has is not stored again.

This room needs a lake. Not here: what a record and a ledger say (`record`, `ledger`), and past training as replay
(`replayed`).
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from itertools import groupby, islice
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pyarrow as pa

from ingest.scoring import version_of
from lake import Lake
from lake.errors import LakeError, SequenceTooLow, UnknownRef
from trainers import curves, ledger, rollouts
from trainers.curves import Point
from trainers.record import NAME, Run, Trained, decode, encode, read, trained
from trainers.rollouts import Rollout
from views import connect, needed

STAGE = "train-"
PRODUCER = "runs"
BATCH_REPORTS = 20_000
BATCH_ROLLOUTS = 500

Row = dict[str, Any]
Some = TypeVar("Some")


class Brought(msgspec.Struct, frozen=True, kw_only=True):
    """What came into the lake of a run, events that it had not. `receipt` is false where it knew the record already."""

    run: str
    method: str
    state: str
    steps: int
    metrics: int
    rollouts: int
    receipt: bool


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A run as its newest receipt tells of it. `record` and `ledger` are the sha256 of what the lake keeps of it.

    `checkpoints` are the step and the folder of each; `folder` is where the run was when it came in.
    """

    run: str
    method: str
    state: str
    steps: int
    planned: int
    dataset: str | None
    snapshot: str | None
    loss: float | None
    seconds: float | None
    at: datetime | None
    folder: str
    checkpoints: tuple[tuple[int, str], ...]
    record: str
    ledger: str
    event_id: str


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """That a run took a row: at which of its steps, and how many of these each of its checkpoints has behind it."""

    kept: Kept
    steps: list[int]
    checkpoints: list[tuple[str, int]]


def record(lake: Lake, folder: str | Path) -> Brought:
    """Bring a run's folder into the lake. Raises LakeError where it is of no run, Damaged where it is broken."""
    folder = Path(folder)
    run = read(folder)
    digests = {"record": lake.put_object(encode(run)), "ledger": lake.put_object(_ledger_in(folder, run))}
    points = curves.read(folder)
    metrics = sum(
        _append(lake, "metrics", [_report(run.run, point) for point in some]) for some in _some(points, BATCH_REPORTS)
    )
    answers = _rollouts(lake, folder, run.run)
    before = next((one for one in runs(lake) if one.run == run.run), None)
    is_new = before is None or before.record != digests["record"]
    if is_new:
        lake.record("receipts", _receipt(run, folder.absolute(), digests, points))
    return Brought(
        run=run.run,
        method=run.method,
        state=run.state,
        steps=run.steps,
        metrics=metrics,
        rollouts=answers,
        receipt=is_new,
    )


def runs(lake: Lake) -> list[Kept]:
    """The runs that the lake knows, as the newest receipt of each tells of it; what came in last is first."""
    found: dict[str, Kept] = {}
    rows = [row for row in lake.read("receipts").to_pylist() if row["stage"].startswith(STAGE)]
    # In the order of the log: which of two receipts is newer is no question for clocks.
    for row in sorted(rows, key=lambda row: int(row["batch"].rpartition("@")[2])):
        kept = _kept(row)
        found.pop(kept.run, None)
        found[kept.run] = kept
    return list(reversed(found.values()))


def run_named(lake: Lake, ref: str) -> Kept:
    """The run that a user calls so: by its id, or how it begins. Raises UnknownRef."""
    known = runs(lake)
    found = [one for one in known if one.run == ref] or [one for one in known if one.run.startswith(ref)]
    if len(found) != 1:
        what = f"the ids of {len(found)} runs begin with {ref!r}" if found else f"this lake knows no run {ref!r}"
        hint = "write more of it" if found else "'lake runs list' has those it knows, 'lake runs record' brings one in"
        raise UnknownRef(what, hint)
    return found[0]


def record_of(lake: Lake, kept: Kept) -> Run:
    """The record of a run that the lake knows. Raises Damaged."""
    return decode(lake.get_object(kept.record), f"the record of {kept.run}")


def reports_of(lake: Lake, run: str) -> list[Point]:
    """What a run that the lake knows has measured, each step once."""
    sql, files = needed("metrics"), {"metrics": lake.paths("metrics")}
    with closing(connect(lake.snapshot(), sql=sql, ledgers=files)) as con:
        rows = con.sql(_REPORTS, params=[run]).to_arrow_table().to_pylist()
    return [_point(row) for row in rows]


def seen(lake: Lake, ids: Sequence[str]) -> list[Seen]:
    """Which runs took a row of any of these ids, and which of their checkpoints have seen it."""
    return [found for kept in runs(lake) if (found := _seen(lake, kept, ids)) is not None]


def ids_of(ref: str, runs: Iterable[str] = (), tasks: Iterable[str] = ()) -> list[str]:
    """The ids under which datasets have what is called so: a row, or a run or a task whose rows are named by a hash.

    `runs` and `tasks` are those that are known to be meant.
    """
    if _ROW.fullmatch(ref):
        return [ref]
    found = [f"{dataset}-{_digits(run)}" for run in dict.fromkeys(runs) for dataset in _BY_RUN]
    return [ref, *found, *(f"{dataset}-{_digits(task)}" for task in dict.fromkeys(tasks) for dataset in _BY_TASK)]


def trained_on(folder: str | Path, lake: Lake | None = None) -> tuple[Trained, pa.Table] | None:
    """What a checkpoint, or a run as far as it has come, has seen: its place, and rows as `ledger.rows_of` has them.

    None where the folder is neither. The ledger is that of the run's folder or, where the checkpoint was copied
    elsewhere, that of the lake. Raises LakeError.
    """
    folder = Path(folder).absolute()
    if (folder / NAME).is_file():
        run = read(folder)
        said, beside = Trained(run.run, run.steps, run.plan.digest), folder / ledger.NAME
    elif (mark := trained(folder)) is not None:
        said, beside = mark, folder.parent / ledger.NAME
    else:
        return None
    if beside.is_file() and ledger.plan_of(beside) == said.plan:
        return said, ledger.rows_of(beside, said.step)
    if lake is None:
        raise LakeError(f"{beside}: there is no ledger of {said.run} here", "copy the whole run, or name its lake")
    return said, ledger.rows_of(lake.get_object(run_named(lake, said.run).ledger), said.step)


def _ledger_in(folder: Path, run: Run) -> bytes:
    path = folder / ledger.NAME
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LakeError(f"{path}: {error.strerror or error}", "copy the whole folder of the run") from None
    if ledger.plan_of(path) != run.plan.digest:
        raise LakeError(f"{path}: this is the ledger of another plan", "copy the whole folder of the run again")
    return data


def _append(lake: Lake, kind: str, rows: list[Row]) -> int:
    """Append rows; how many of them are new. What the lake has, it knows by its content."""
    while rows:
        last = lake.position(kind, PRODUCER)
        try:
            return lake.append(kind, rows, producer=PRODUCER, sequence=last.sequence + 1 if last else 0).added
        except SequenceTooLow:
            continue  # another process has brought something in in the meantime
    return 0


def _report(run: str, point: Point) -> Row:
    said = msgspec.structs.asdict(point)
    more = said.pop("more")
    return {"recorded_at": said.pop("at"), "run": run, **said, "extra": _json(more) if more else None}


def _point(row: Row) -> Point:
    own = {name: row[name] for name in Point.__struct_fields__ if row.get(name) is not None}
    return Point(at=row["recorded_at"], more=msgspec.json.decode(row["extra"] or "{}"), **own)


def _rollouts(lake: Lake, folder: Path, run: str) -> int:
    """Append the answers of a policy and what they were worth; how many of them are new."""
    path = folder / rollouts.NAME
    if not path.is_file():
        return 0
    added = line = 0
    with path.open("rb") as lines, closing(connect(lake.snapshot(), sql={})) as con:
        # A line that is being written, or was when the machine went down, is none yet.
        whole = rollouts.read((one for one in lines if one.endswith(b"\n")), str(path))
        versions: dict[rollouts.Scorer, str] = {}
        for some in _some(whole, BATCH_ROLLOUTS):
            for scorer, group in groupby(some, key=lambda one: one.scorer):
                answers = list(group)
                if scorer not in versions:
                    versions[scorer] = _version(con, scorer, answers[0])
                evidence, scores = rollouts.events(answers, versions[scorer], f"{run}/{rollouts.NAME}")
                added += _append(lake, "evidence", [_placed(row, line) for row in evidence])
                _append(lake, "scores", scores)
                line += len(answers)
    return added


def _placed(row: Row, before: int) -> Row:
    """A row of one part of a file, with its line in the whole of it."""
    source: dict[str, Any] = row["source"]
    return {**row, "source": {**source, "line": source["line"] + before}}


def _version(con: Any, scorer: rollouts.Scorer, first: Rollout) -> str:
    """What the lake calls the scorer: as it did when this run came in before, else as it would today."""
    told = con.execute(_SCORED, [scorer.name, first.run_id]).fetchone()
    return told[0] if told is not None else version_of(con, scorer)  # type: ignore[arg-type]


def _receipt(run: Run, folder: Path, digests: dict[str, str], points: Sequence[Point]) -> Row:
    said = msgspec.to_builtins(run)
    names = ("run", "snapshot", "tables", "dataset", "policy", "views", "configuration_sha256", "template_sha256")
    shards = {name: {"key": used.key, "counts": used.counts} for name, used in run.shards.items()}
    loss = next((point.loss for point in reversed(points) if point.what == "training"), None)
    inputs = {name: said[name] for name in names}
    inputs |= {"shards": shards, "plan": run.plan.digest, "model": said["model"], "tokenizer": said["tokenizer"]}
    last = run.sessions[-1]
    return {
        # Of the run, not of today: told again, it is the same event.
        "recorded_at": last.ended_at or last.began_at,
        "stage": f"{STAGE}{run.method}",
        "inputs": _json(inputs),
        "outputs": _json({"folder": str(folder), **digests, "checkpoints": said["checkpoints"]}),
        "counts": _json({"steps": run.steps, "planned": run.plan.steps, **run.counters}),
        "versions": _json(last.versions),
        "duration_s": run.seconds,
        "passed": {"finished": True, "failed": False}.get(run.state),
        "extra": _json({"state": run.state, "error": run.error, "loss": loss, "metrics": run.metrics}),
    }


def _kept(row: Row) -> Kept:
    inputs, outputs, counts, extra = (
        msgspec.json.decode(row[name]) for name in ("inputs", "outputs", "counts", "extra")
    )
    return Kept(
        run=inputs["run"],
        method=row["stage"].removeprefix(STAGE),
        state=extra["state"],
        steps=counts["steps"],
        planned=counts["planned"],
        dataset=inputs["dataset"],
        snapshot=inputs["snapshot"],
        loss=extra["loss"],
        seconds=row["duration_s"],
        at=row["recorded_at"],
        folder=outputs["folder"],
        checkpoints=tuple((one["step"], one["folder"]) for one in outputs["checkpoints"]),
        record=outputs["record"],
        ledger=outputs["ledger"],
        event_id=row["event_id"],
    )


def _seen(lake: Lake, kept: Kept, ids: Sequence[str]) -> Seen | None:
    steps = ledger.steps_of(lake.get_object(kept.ledger), ids, kept.steps)
    if not steps:
        return None
    behind = ((folder, sum(one < step for one in steps)) for step, folder in kept.checkpoints)
    return Seen(kept=kept, steps=steps, checkpoints=[(folder, times) for folder, times in behind if times])


def _some(items: Iterable[Some], count: int) -> Iterator[list[Some]]:
    iterator = iter(items)
    while some := list(islice(iterator, count)):
        yield some


def _digits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _json(value: object) -> str:
    return msgspec.json.encode(value, order="sorted").decode()


_BY_RUN = ("sft", "kto", "domain", "pretrain", "trajectories", "mutations", "rag")
_BY_TASK = ("grpo", "eval")
_ROW = re.compile(r"(?:[a-z]+-[0-9a-f]{16}|replay-[0-9a-f]+-\d+)")

_REPORTS = "from metrics where run = ? order by step, what desc"
_SCORED = "select scorer_version from events.scores where scorer = ? and run_id = ? limit 1"
