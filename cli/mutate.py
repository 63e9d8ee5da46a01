"""The command that fills the lake with faults and what tests say of them: mutate."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_LAKE as HERE
from cli.options import DryRun, Form, LakeUri
from cli.output import Format, Meter, counted, say, show
from ingest.mutations.cargo import collect, is_results
from ingest.mutations.generate import Options, Summary, generate
from lake import Lake
from lake.errors import UsageError

DEFAULT = Options()


class Extent(StrEnum):
    """What both sides of a fault are."""

    file = "file"
    snippet = "snippet"


def register(parent: typer.Typer) -> None:
    """Add the command to the `lake` command."""
    parent.command()(mutate)


def mutate(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="Python projects with tests, or mutants.out folders.")
    ],
    lake: LakeUri = HERE,
    seed: Annotated[int, typer.Option("--seed", help="Which faults are tried first.")] = DEFAULT.seed,
    limit: Annotated[
        int, typer.Option("--limit", min=1, metavar="N", help="Keep at most so many faults of a project.")
    ] = DEFAULT.limit,
    extent: Annotated[
        Extent, typer.Option("--extent", help="Keep whole files, or the functions around the faults.")
    ] = Extent.file,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="For one run of the tests.")
    ] = DEFAULT.seconds,
    total: Annotated[
        float, typer.Option("--total", min=0.1, metavar="SECONDS", help="For one project.")
    ] = DEFAULT.total_seconds,
    workers: Annotated[
        int,
        typer.Option("--workers", min=0, metavar="N", help="Try so many at once; 0 is as many as this machine can."),
    ] = DEFAULT.workers,
    repo: Annotated[
        str | None,
        typer.Option("--repo", metavar="NAME", help="What the project is called. [default: its folder's name]"),
    ] = None,
    dry_run: DryRun = False,
    form: Form = Format.table,
) -> None:
    """Make faults in Python projects that their own tests find.

    Those that the tests miss are counted and left out.

    Each fault is one small change: another operator or constant, a range one shorter, a lost return value, a removed
    statement, two arguments swapped. The tests run in the sandbox on a copy. A fault that they fail on (caught), or
    that keeps them from loading (unviable), becomes evidence of kind mutation: the faulty code, what the tests said,
    the code as it was. What no test notices is dropped. The same project, seed and tests give the same faults.

    A folder mutants.out that cargo-mutants left in a Rust project is read instead, and nothing is run.

    Example: lake mutate ~/src/my-project --limit 20 --extent snippet
    """
    door = Lake.open(lake)
    if repo is not None and len(folders) > 1:
        raise UsageError("one name for several projects", "leave out --repo, or name one folder")
    options = Options(
        seed=seed,
        limit=limit,
        seconds=timeout,
        total_seconds=total,
        extent=extent.value,
        workers=workers,
        repo=repo,
        dry_run=dry_run,
    )
    summaries = []
    for folder in folders:
        with Meter(f"mutating {folder.name}", "faults") as meter:
            one = collect(door, folder, options) if is_results(folder) else generate(door, folder, options, meter)
            summaries.append(one)
    show(map(_row, summaries), form)
    for one in summaries:
        if one.out_of_time:
            say(f"{one.repo}: the time was up with {counted(one.not_tried, 'fault')} not tried; --total gives more")
    added = counted(sum(one.added for one in summaries), "event")
    say(f"{added} added" if not dry_run else "none stored (a dry run)")


def _row(summary: Summary) -> dict[str, object]:
    counts = {name: summary.outcomes.get(name, 0) for name in ("caught", "unviable", "missed", "timeout")}
    return {"project": summary.repo, "files": summary.files, "possible": summary.found, **counts, "kept": summary.kept}
