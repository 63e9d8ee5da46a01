"""The command that finds things out about events: annotate."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_LAKE as HERE
from cli.options import At, DryRun, Form, LakeUri, PolicyFile, policy_in
from cli.output import Format, Meter, counted, say, show
from ingest.annotating import NothingToCompare, Options, Summary
from ingest.annotating import annotate as look
from ingest.annotators import registry
from lake import Lake
from lake.errors import UsageError

EVERY = "all"


def register(parent: typer.Typer) -> None:
    """Add the command to the `lake` command."""
    parent.command()(annotate)


def annotate(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="contamination, near-duplicate, pii or language; or all."),
    ],
    lake: LakeUri = HERE,
    at: At = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="The annotator's settings, TOML or JSON.", show_default=False),
    ] = None,
    policy: PolicyFile = None,
    dry_run: DryRun = False,
    form: Form = Format.table,
) -> None:
    """Find copies, leaked tests, personal data and languages.

    Each event is looked at once by each version of an annotator, and what is found is recorded.

    Nothing is barred from training by that alone: an export's gates are shut with --gate or in a policy.

    contamination compares with the registered eval tasks, which are those of the split eval or test, and again once
    there are others; near-duplicate with what came before.

    Example: lake annotate contamination
    """
    if name == EVERY and config is not None:
        raise UsageError("one configuration is for one annotator", f"name one of {', '.join(registry.NAMES)}")
    door = Lake.open(lake)
    options = Options(at=at, policy=policy_in(policy), dry_run=dry_run)
    rows: list[dict[str, object]] = []
    said: list[str] = []
    for one in registry.NAMES if name == EVERY else (name,):
        annotator = registry.find(one, config)
        try:
            with Meter(f"looking for {one}", "events") as meter:
                summary = look(door, annotator, options, meter)
        except NothingToCompare as nothing:
            if name != EVERY:
                raise
            said.append(f"{one}: {nothing.message}")
            continue
        rows += [{"annotator": one, "found": what, "events": count} for what, count in summary.found.items()]
        said.append(_told(summary, dry_run=dry_run))
    show(rows, form, columns=("annotator", "found", "events"))
    for line in said:
        say(line)


def _told(summary: Summary, *, dry_run: bool) -> str:
    against = f" against eval tasks {summary.against}" if summary.against else ""
    done = "none stored (a dry run)" if dry_run else f"{counted(summary.added, 'finding')} appended"
    return (
        f"{summary.annotator} version {summary.version}{against}: {counted(summary.considered, 'event')} looked at, "
        f"{done} in {summary.duration:.1f} s"
    )
