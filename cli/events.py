"""The commands that append events: init, ingest, score, retract, review."""

import getpass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_LAKE as HERE
from cli.options import DryRun, Form, LakeUri
from cli.output import Format, Meter, counted, say, show
from ingest.blocks import Sizes
from ingest.run import FileSummary
from ingest.run import Options as IngestOptions
from ingest.run import ingest as read_files
from ingest.scorers import registry
from ingest.scoring import Options as ScoringOptions
from ingest.scoring import score as give_scores
from lake import Lake, LakeError
from views import connect, needed

Actor = Annotated[
    str | None, typer.Option("--actor", metavar="NAME", help="Who says so. [default: you]", show_default=False)
]


REJECTED = 3  # the exit code where all was done but some inputs were rejected


class Target(StrEnum):
    """What a retraction withdraws."""

    event = "event"
    run = "run"
    task = "task"
    source = "source"


class Category(StrEnum):
    """What a person says of a run."""

    accepted = "accepted"
    partially_accepted = "partially_accepted"
    rejected = "rejected"
    needs_human_review = "needs_human_review"


def register(parent: typer.Typer) -> None:
    """Add the commands to the `lake` command."""
    for command in (init, ingest, score, retract, review):
        parent.command()(command)


def init(lake: LakeUri = HERE) -> None:
    """Create a lake: a folder of append-only tables.

    Example: lake init --lake /data/lakehouse
    """
    Lake.create(lake)
    say(f"created a lake in {lake}")


def ingest(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="evidence, scores, tasks, prompts, replay or annotations.")
    ],
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Files, globs, folders, or - for stdin.")],
    lake: LakeUri = HERE,
    reader: Annotated[
        str,
        typer.Option(
            "--reader",
            metavar="NAME",
            help="What a row looks like: native, distillation, openai-chat, gsm8k, gsm8k-solutions, humaneval, "
            "humaneval-x; of prompts native, question, turns, opening, gsm8k; or your own package.module:function.",
        ),
    ] = "native",
    domain: Annotated[
        str | None,
        typer.Option("--domain", metavar="NAME", help="What prompts are of; a row that says another is rejected."),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", metavar="NAME", help="Where the rows come from, instead of the file.")
    ] = None,
    input_format: Annotated[
        str | None,
        typer.Option(
            "--input-format", metavar="FORMAT", help="jsonl, json, csv, tsv or parquet, if it cannot be told."
        ),
    ] = None,
    max_row_bytes: Annotated[
        int, typer.Option("--max-row-bytes", metavar="BYTES", min=1, help="Reject rows that are longer.")
    ] = Sizes().row,
    again: Annotated[bool, typer.Option("--again", help="Read from the start whatever was read before.")] = False,
    dry_run: DryRun = False,
    form: Form = Format.table,
) -> None:
    """Append the events that files hold.

    JSON lines, JSON arrays, CSV and Parquet, each plain, .gz or .zst. What cannot be read becomes a reject, with its
    reasons, and nothing stops: the exit code is then 3. What the lake has already is not stored again; a file that grew
    is read from where it ended.

    Example: lake ingest evidence runs/*.jsonl.zst
    """
    door = Lake.open(lake)
    options = IngestOptions(
        reader=reader,
        domain=domain,
        source=source,
        format=input_format,
        again=again,
        dry_run=dry_run,
        sizes=Sizes(row=max_row_bytes),
    )
    with Meter(f"reading {kind}", "B") as meter:
        summary = read_files(door, kind, files, options, lambda step: meter(step.done, step.total, step.file))
    show(map(_outcome, summary.files), form)
    if len(summary.files) > summary.unchanged:
        done = f"{counted(summary.added, 'event')} added"
        if dry_run:
            done = f"{counted(summary.events, 'event')}, none stored (a dry run)"
        elif summary.held:
            done += f", {summary.held:,} there already"
        say(f"{counted(summary.rows, 'row')} read in {summary.seconds:.1f} s: {done}")
    if summary.unchanged:
        say(f"{summary.unchanged} of {counted(len(summary.files), 'file')} unchanged since then: nothing to do")
    if summary.rejected:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in summary.rejected.items())
        say(f"{counted(sum(summary.rejected.values()), 'row')} rejected: {reasons}")
        if not dry_run:
            say('hint: lake sql "select source.file, source.line, reason, errors, raw from rejects"')
        raise typer.Exit(REJECTED)


def score(
    scorer: Annotated[
        str,
        typer.Argument(metavar="SCORER", help="A scorer's name, a .sql file, or a package.module:function."),
    ],
    lake: LakeUri = HERE,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="The scorer's settings, TOML or JSON.", show_default=False),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Stop after so many runs.")] = None,
    dry_run: DryRun = False,
    form: Form = Format.table,
) -> None:
    """Judge the evidence that this scorer has not judged yet.

    A scorer whose version changed judges all of it again; the views say which verdict counts.

    Built in: final-answer, tests, verdict-markers, and the .sql files that come with the lake, such as has-content.

    Example: lake score tests
    """
    door = Lake.open(lake)
    judge = registry.find(scorer, config)
    with Meter(f"scoring with {scorer}", "runs") as meter:
        summary = give_scores(door, judge, ScoringOptions(limit=limit, dry_run=dry_run), meter)
    judged = [{"verdict": category, "runs": count} for category, count in sorted(summary.categories.items())]
    skipped = [{"verdict": f"none: {reason}", "runs": count} for reason, count in sorted(summary.not_scored.items())]
    show([*judged, *skipped], form, columns=("verdict", "runs"))
    given = counted(sum(summary.categories.values()), "verdict")
    say(
        f"{summary.scorer} version {summary.version}: {counted(summary.considered, 'run')} looked at, "
        f"{given} {'found' if dry_run else 'appended'} in {summary.duration:.1f} s"
    )


def retract(
    target_type: Annotated[Target, typer.Argument(help="What is withdrawn.")],
    target: Annotated[str, typer.Argument(metavar="ID", help="An event's, run's or task's id, or a source's file.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept with the retraction.")],
    lake: LakeUri = HERE,
    actor: Actor = None,
    dry_run: DryRun = False,
) -> None:
    """Withdraw the events of a run, task or source, or one event.

    They stay in the tables and in older snapshots, and count nowhere else.

    A retraction holds for every event that it matches, whenever that arrives. Withdraw the retraction itself, by its
    event's id, to let the events back in.

    Example: lake retract source scraped/2026-03.jsonl --reason "eval set leaked into it"
    """
    door = Lake.open(lake)
    matched = _matched(door, target_type, target)
    if not matched:
        raise LakeError(f"no event of this lake has {target_type} {target!r}", "look it up: lake why ID")
    what = ", ".join(f"{count:,} of {kind}" for kind, count in matched.items())
    if dry_run:
        say(f"would withdraw {what}")
        return
    event: dict[str, object] = {"target_type": target_type.value, "target": target, "reason": reason}
    door.record("retractions", {**event, "actor": actor or getpass.getuser()})
    say(f"withdrew {what}")


def review(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")],
    category: Annotated[Category, typer.Argument(help="The verdict.")],
    reason: Annotated[list[str], typer.Option("--reason", help="Why; may be given several times.")],
    lake: LakeUri = HERE,
    actor: Actor = None,
    dry_run: DryRun = False,
) -> None:
    """Record a person's verdict on a run.

    It goes before every scorer's, and the newest one counts.

    Example: lake review attempt-0003 rejected --reason "answers the wrong question"
    """
    door = Lake.open(lake)
    with connect(door.snapshot(), sql=needed("evidence")) as connection:
        found = connection.sql(
            "select any_value(task_id), count(*) from evidence where run_id = $run", params={"run": run}
        ).fetchall()
    task_id, count = found[0]
    if not count:
        raise LakeError(f"there is no evidence of a run {run!r}", 'look for it: lake sql "select run_id from evidence"')
    if dry_run:
        say(f"would record {category} for {run}")
        return
    verdict: dict[str, object] = {"run_id": run, "task_id": task_id, "scorer": "human", "scorer_version": "1"}
    details: dict[str, object] = {"category": category.value, "reasons": reason, "actor": actor or getpass.getuser()}
    door.record("scores", verdict | details)
    say(f"recorded {category} for {run}")


def _outcome(file: FileSummary) -> dict[str, object]:
    state = "unchanged" if file.unchanged else "resumed" if file.resumed else "read"
    return {
        "file": file.file,
        "state": state,
        "rows": file.rows,
        "added": file.added,
        "held": file.held if file.events else 0,
        "rejected": sum(file.rejected.values()),
    }


_MATCHES = {
    Target.event: "event_id = $target",
    Target.run: "run_id = $target",
    Target.task: "task_id = $target",
    Target.source: "source.file = $target",
}
_TABLES = {
    Target.event: ("evidence", "scores", "tasks", "prompts", "replay", "annotations", "rejects", "retractions"),
    Target.run: ("evidence", "scores", "annotations"),
    Target.task: ("evidence", "scores", "tasks", "annotations"),
    Target.source: ("evidence", "scores", "tasks", "prompts", "replay", "annotations", "rejects"),
}


def _matched(door: Lake, target_type: Target, target: str) -> dict[str, int]:
    """How many events of each table a retraction would withdraw."""
    counts = {}
    with connect(door.snapshot(), sql=needed(" ".join(_TABLES[target_type]))) as connection:
        for kind in _TABLES[target_type]:
            statement = f"select count(*) from {kind} where {_MATCHES[target_type]}"
            counts[kind] = connection.sql(statement, params={"target": target}).fetchall()[0][0]
    return {kind: count for kind, count in counts.items() if count}
