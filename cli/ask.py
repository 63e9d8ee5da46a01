"""The commands that ask: sql, shell, catalog, quarantine, health, log, why."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import typer

from cli.options import DEFAULT_LAKE as HERE
from cli.options import At, Form, LakeUri, PolicyFile, policy_in
from cli.output import Format, counted, say, show
from lake import KINDS, Commit, Lake, LakeError
from lake.errors import NotALake, UnknownRef
from lake.kinds import LEDGERS, PIN_ORDER
from lake.stores import is_bucket
from trainers import receipts
from trainers.record import NAME, TRAINED, Trained
from views import catalog as catalogs
from views import connect, lineage, needed
from views.query import query

Limit = Annotated[int, typer.Option("--limit", min=1, help="Print at most so many rows.")]


# From what came in to what came out, as a funnel.
_HEALTH = """
from health
order by
    list_position(['rejected input', 'evidence', 'run', 'exported', 'quarantined', 'task without a pair'], stage),
    dataset, source, category, records desc, reason
"""


def register(parent: typer.Typer) -> None:
    """Add the commands to the `lake` command."""
    for command in (sql, shell, catalog, quarantine, health, log, why):
        parent.command()(command)


def sql(
    statement: Annotated[str, typer.Argument(metavar="QUERY", help="One SELECT, or - to read it from stdin.")],
    lake: LakeUri = HERE,
    at: At = None,
    policy: PolicyFile = None,
    form: Form = Format.table,
) -> None:
    """Ask a question in DuckDB's SQL.

    It only reads: SELECT, FROM, WITH, VALUES, DESCRIBE, SUMMARIZE, SHOW, and EXPLAIN of these.

    The relations are evidence, scores, tasks, retractions, rejects; verdicts, runs, accepted, partially_accepted,
    rejected, needs_review, unscored; sft, rag, preference; quarantine, considered, health. events.NAME is a table as
    it was stored, retracted events included. metrics has the reports of training runs, events.receipts what the lake
    did; both are as they are now, whatever --at says.

    Example: lake sql "select category, count(*) as runs from verdicts group by category"
    """
    text = sys.stdin.read() if statement == "-" else statement
    door, rules = Lake.open(lake), policy_in(policy)
    ledgers = {kind: door.paths(kind) for kind in LEDGERS if kind in text.lower()}
    sources = needed(text) or None
    with connect(door.snapshot(at), rules, sql=sources, ledgers=ledgers, as_far_as_whole=True) as connection:
        show(query(connection, text), form)


def shell(lake: LakeUri = HERE, at: At = None, policy: PolicyFile = None) -> None:
    """Open a DuckDB shell on the views.

    Example: lake shell --at before-judge-v2
    """
    beside = os.path.dirname(sys.executable)
    program = shutil.which("duckdb", path=os.pathsep.join([beside, os.environ.get("PATH", "")]))
    if program is None:
        raise LakeError("there is no DuckDB shell on this machine", "run 'pip install duckdb-cli'")
    door = Lake.open(lake)
    snapshot, ledgers = door.snapshot(at), {kind: door.paths(kind) for kind in LEDGERS}
    with tempfile.TemporaryDirectory(prefix="lake-") as folder:
        file = os.path.join(folder, "lake.duckdb")
        catalogs.write(file, snapshot, policy_in(policy), ledgers=ledgers)
        say(f"{snapshot.vector}; '.tables' lists the relations, '.quit' leaves")
        first = os.path.join(folder, "first.sql")
        files = [path for kind in PIN_ORDER for path in snapshot.paths(kind)]
        Path(first).write_text(_walls([*files, *chain.from_iterable(ledgers.values())]), "utf-8")
        ended = subprocess.run([program, "-readonly", "-init", first, file], check=False)
    raise typer.Exit(ended.returncode)


def _walls(files: Iterable[str]) -> str:
    """What a shell does first: what is typed as SQL there reads these files and nothing else.

    The shell's own commands, such as .shell and .output, are the user's; so are the settings in ~/.duckdbrc.
    """
    own = Path.home() / ".duckdbrc"
    paths = ", ".join("'{}'".format(path.replace("'", "''")) for path in files)
    read_own = [f".read {own}"] if own.is_file() else []
    walls = [f"set allowed_paths = [{paths}];", "set enable_external_access = false;"]
    return "\n".join((*read_own, *walls, ""))


def catalog(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The DuckDB file to write.")],
    lake: LakeUri = HERE,
    at: At = None,
    policy: PolicyFile = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write the views as a file for any DuckDB shell or program.

    The state is pinned, so the file stays true, but for the ledgers (metrics of training runs, receipts), which are
    those of now. It holds no data: the lake must stay where it is. Of a lake in a bucket
    it holds the files' URLs, which DuckDB reads once it has been told the credentials: CREATE SECRET (TYPE s3, …).

    Example: lake catalog lake.duckdb && duckdb lake.duckdb "from health"
    """
    door = Lake.open(lake)
    snapshot, remote, ledgers = door.pin(at), None, None
    if is_bucket(snapshot.root):
        remote = {kind: (snapshot if kind in PIN_ORDER else door).urls(kind) for kind in (*PIN_ORDER, *LEDGERS)}
    else:
        ledgers = {kind: door.paths(kind) for kind in LEDGERS}
    catalogs.write(str(file), snapshot, policy_in(policy), ledgers=ledgers, remote=remote, replace=force)
    say(f"{file}: the views at snapshot {snapshot.id}")


def quarantine(
    lake: LakeUri = HERE,
    at: At = None,
    policy: PolicyFile = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="Only sft, rag or preference.")] = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Only this reason.")] = None,
    limit: Limit = 100,
    form: Form = Format.table,
) -> None:
    """Show which records were refused by which dataset, and why.

    Example: lake quarantine --dataset sft --reason empty_content
    """
    wanted = "($dataset is null or dataset = $dataset) and ($reason is null or reason = $reason)"
    statement = f"""
        select dataset, reason, run_id, task_id, array_to_string(errors, '; ') as errors,
            source.file as source_file, source.line as source_line, record_type, record_id
        from quarantine where {wanted}
        order by dataset, reason, task_id, run_id, record_id limit $limit
    """
    values: dict[str, object] = {"dataset": dataset, "reason": reason}
    with connect(Lake.open(lake).snapshot(at), policy_in(policy), sql=needed("quarantine")) as connection:
        total = connection.sql(f"select count(*) from quarantine where {wanted}", params=values).fetchall()[0][0]
        show(connection.sql(statement, params={**values, "limit": limit}).to_arrow_reader(), form)
    if total > limit:
        say(f"{total:,} in all; --limit {total} prints them")


def health(lake: LakeUri = HERE, at: At = None, policy: PolicyFile = None, form: Form = Format.table) -> None:
    """Count what came in, how it was judged, and where it went.

    Example: lake health --format jsonl
    """
    with connect(Lake.open(lake).snapshot(at), policy_in(policy)) as connection:
        show(connection.sql(_HEALTH).to_arrow_reader(), form)


def why(
    item: Annotated[
        str,
        typer.Argument(metavar="ID", help="A run, task, event, the id of an exported row, or a checkpoint's folder."),
    ],
    lake: LakeUri = HERE,
    at: At = None,
    policy: PolicyFile = None,
    form: Form = Format.table,
) -> None:
    """Show what admitted, refused or paired a row, to file and line.

    Where models were trained on it, the checkpoints that saw it are named too. Of a checkpoint, the rows that it has
    seen are listed: the step, from 0, that took each first and last, how many times, and how many tokens of it.

    Example: lake why attempt-0003
    """
    if os.path.isdir(item):
        there = _if_there(lake)
        if (found := receipts.trained_on(item, there)) is not None:
            _seen_by(*found, form)
            return
        if there is None:
            raise _no_checkpoint(item)
    door = Lake.open(lake)
    steps: list[lineage.Step] = []
    unknown = None
    with connect(door.snapshot(at), policy_in(policy)) as connection:
        try:
            steps = lineage.why(connection, item)
        except UnknownRef as error:
            unknown = error
    steps += _trained(door, item, steps)
    if not steps and unknown is not None:
        raise _no_checkpoint(item) if os.path.isdir(item) else unknown
    if form is Format.table:
        show(map(_told_step, steps), form)
    else:
        show(map(msgspec.structs.asdict, steps), form)


def _if_there(lake: str) -> Lake | None:
    """The lake, if there is one: a checkpoint within its run's folder needs none."""
    try:
        return Lake.open(lake)
    except NotALake:
        return None


def _no_checkpoint(folder: str) -> UnknownRef:
    run = os.path.dirname(os.path.abspath(folder))
    within = os.path.isfile(os.path.join(run, NAME))
    return UnknownRef(
        f"{folder}: this folder is neither a run, which has a {NAME}, nor a whole checkpoint, which has a {TRAINED}",
        f"of the run that it is in: lake why {os.path.relpath(run)}"
        if within
        else "name the folder of a run or of one of its checkpoints, or the id of a run, task, event or exported row",
    )


def _seen_by(said: Trained, rows: pa.Table, form: Format) -> None:
    """Print what a checkpoint has seen."""
    show(rows.to_reader(), form)
    tokens = pc.sum(rows["tokens"]).as_py() or 0
    say(f"{said.run} at step {said.step:,}: {counted(len(rows), 'row')}, {tokens:,} tokens")


def _trained(door: Lake, item: str, steps: list[lineage.Step]) -> list[lineage.Step]:
    """A step for each training run that took the row, or rows of the run or task, that an answer is about."""
    pairs = [step.detail.partition(" ")[0] for step in steps if step.what == "pair"]
    runs = [step.run_id for step in steps if step.run_id is not None]
    tasks = [step.task_id for step in steps if step.task_id is not None]
    ids = [*receipts.ids_of(item, runs, tasks), *pairs]
    told = [each for one in receipts.seen(door, ids) for each in _told_training(one)]
    return [
        lineage.Step(number, what, detail, None, None, kept.event_id, folder, None, kept.at)
        for number, (what, detail, folder, kept) in enumerate(told, len(steps) + 1)
    ]


def _told_training(one: receipts.Seen) -> Iterator[tuple[str, str, str, receipts.Kept]]:
    """That a run took a row, and which of its checkpoints have it behind them."""
    kept = one.kept
    at = f"{counted(len(one.steps), 'step')} of {kept.steps:,}, first at step {one.steps[0]:,}"
    yield "trained", f"{kept.run}: {at}", kept.folder, kept
    for folder, times in one.checkpoints:
        yield "checkpoint", f"{folder} saw it at {counted(times, 'step')}", os.path.join(kept.folder, folder), kept


def log(
    lake: LakeUri = HERE,
    table: Annotated[str | None, typer.Option("--table", help="Only this table.")] = None,
    limit: Limit = 20,
    form: Form = Format.table,
) -> None:
    """Show what was committed when, newest first.

    Example: lake log --table evidence --limit 5
    """
    door = Lake.open(lake)
    kinds = [table] if table is not None else list(KINDS)
    told = _told(door)
    commits = merge(*(door.commits(kind) for kind in kinds), key=lambda commit: commit.at, reverse=True)
    show([_line(commit, told) for commit in islice(commits, limit)], form)


def _told_step(step: lineage.Step) -> dict[str, Any]:
    place = f"{step.source_file}:{step.source_line}" if step.source_line is not None else step.source_file
    return {"step": step.step, "what": step.what, "run": step.run_id, "detail": step.detail, "from": place}


def _line(commit: Commit, told: dict[str, str]) -> dict[str, Any]:
    batch = f"{commit.producer}@{commit.sequence}"
    return {
        "at": commit.at,
        "table": commit.kind,
        "version": commit.version,
        "rows": commit.rows,
        "what": told.get(batch) or commit.what or commit.producer or commit.operation.lower(),
    }


def _told(door: Lake) -> dict[str, str]:
    """For each batch that holds one event with something to say, what it says."""
    return dict(_sayings(door))


def _sayings(door: Lake) -> Iterator[tuple[str, str]]:
    for row in door.read("receipts").to_pylist():
        yield row["batch"], row["stage"]
    for row in door.read("snapshots").to_pylist():
        yield row["batch"], f"{row['name'] or row['note']} = {row['snapshot_id']}"
    for row in door.read("retractions").to_pylist():
        yield (
            row["batch"],
            f"{row['target_type']} {row['target']} withdrawn" + (f": {row['reason']}" if row["reason"] else ""),
        )
