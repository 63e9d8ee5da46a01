"""The commands that look after a lake: verify, repair."""

from datetime import timedelta
from typing import Annotated, Any

import msgspec
import typer

from cli.options import DEFAULT_LAKE as HERE
from cli.options import DryRun, Form, LakeUri
from cli.output import Format, Meter, counted, say, show
from lake import Lake
from lake.errors import Damaged
from lake.findings import Finding, Report
from lake.kinds import KINDS
from lake.log import Log
from lake.repair import MENDABLE, SAFE_AGE, Act, Did
from lake.repair import repair as mend
from lake.stores import store_at
from lake.verify import examine

COLUMNS = ("severity", "code", "table", "version", "file", "message", "hint", "snapshots", "exports")


def register(parent: typer.Typer) -> None:
    """Add the commands to the `lake` command."""
    parent.command()(verify)
    parent.command()(repair)


def verify(
    lake: LakeUri = HERE,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every file in full: sha256, page checksums, rows, ids.")
    ] = False,
    form: Form = Format.table,
) -> None:
    """Prove that everything stored is what was written.

    Tables, commits, checkpoints, data files, snapshots, and the exports that are still where they were written. Exits
    with 1 if anything is wrong, and prints what, which snapshots and exports it touches, and what to type next. Notes
    are no faults: they are in the data formats, and counted here.

    Example: lake verify --deep
    """
    with Meter("verifying", "B" if deep else "commits") as meter:
        report = _report(lake, deep, meter)
    if form is not Format.table:
        show((_row(one) for one in report.findings), form, columns=COLUMNS)
    else:
        for one in report.faults:
            _print(one)
    _sum_up(lake, report, deep)
    if report.faults:
        raise typer.Exit(1)


def repair(
    lake: LakeUri = HERE,
    dry_run: DryRun = False,
    remove_orphans: Annotated[
        bool, typer.Option("--remove-orphans", help="Take away old files that nothing needs.")
    ] = False,
    older_than: Annotated[
        float, typer.Option("--older-than", metavar="HOURS", help="How old such files must be: an hour at least.")
    ] = SAFE_AGE / timedelta(hours=1),
    form: Form = Format.table,
) -> None:
    """Mend what can be mended from the log alone.

    A bad checkpoint or hint is made anew from the commits. A torn last commit that was never acknowledged is put aside,
    so that it is sent again. Nothing is deleted: what is replaced is kept under aside/. Anything else is refused, with
    what to do, and the exit code is 1.

    Example: lake repair --dry-run
    """
    with Meter("verifying", "commits") as meter:
        acts = mend(
            Lake.open(lake),
            dry_run=dry_run,
            remove_orphans=remove_orphans,
            older_than=timedelta(hours=older_than),
            progress=meter,
        )
    if form is not Format.table:
        show(map(msgspec.to_builtins, acts), form, columns=("did", "file", "why", "to", "hint"))
    else:
        for act in acts:
            _print_act(act, dry_run)
    _sum_up_repair(lake, acts, dry_run)
    if any(act.did is Did.REFUSED for act in acts):
        raise typer.Exit(1)


def _report(uri: str, deep: bool, meter: Meter) -> Report:
    """What is wrong; also with a lake that cannot be opened."""
    try:
        door = Lake.open(uri)
        store, logs = door.store, door.logs
    except Damaged:
        store = store_at(uri)
        logs = {name: Log(store, kind) for name, kind in KINDS.items()}
    return examine(store, logs, deep=deep, progress=meter)


def _row(one: Finding) -> dict[str, Any]:
    said = {"severity": "fault" if one.is_fault else "note", **msgspec.to_builtins(one)}
    return {name: said[name] for name in COLUMNS}


def _print(one: Finding) -> None:
    """One fault: what is wrong and where; what it touches; what to do. On stdout, as it is the answer."""
    print(f"{one.code}: {one}")
    if one.snapshots:
        told = [", ".join(pin.names) or pin.id[:12] for pin in one.snapshots]
        print(f"    touches {counted(len(told), 'snapshot')}: {_first(told)}")
    if one.exports:
        told = [f"{export.folder} ({export.dataset})" for export in one.exports]
        print(f"    touches {counted(len(told), 'export')}: {_first(told)}")
    if one.hint:
        print(f"    to do: {one.hint}")


def _print_act(act: Act, dry_run: bool) -> None:
    would = "would be " if dry_run and act.changes else ""
    print(f"{would}{act.did}: {act.file}: {act.why}")
    if act.to:
        print(f"    it {'would be' if dry_run else 'is'} in {act.to}")
    if act.hint:
        print(f"    to do: {act.hint}")


def _first(told: list[str], most: int = 5) -> str:
    return ", ".join(told[:most]) + (f" and {len(told) - most} more" if len(told) > most else "")


def _sum_up(uri: str, report: Report, deep: bool) -> None:
    notes = len(report.findings) - len(report.faults)
    more = f"; {counted(notes, 'note')}, see --format jsonl" if notes else ""
    if not report.faults:
        how = "every file read in full" if deep else "sizes compared; --deep reads the contents too"
        what = f"{counted(len(report.snapshots), 'snapshot')} and {counted(len(report.exports), 'export')}"
        say(f"{uri}: all is as it was written, with {what} ({how}){more}")
        return
    say(
        f"{counted(len(report.faults), 'fault')}; untouched are"
        f" {len(report.snapshots) - len(report.touched_snapshots)} of {counted(len(report.snapshots), 'snapshot')} and"
        f" {len(report.exports) - len(report.touched_exports)} of {counted(len(report.exports), 'export')}{more}"
    )
    if MENDABLE.isdisjoint(one.code for one in report.faults):
        say("hint: do what is named above, then run 'lake verify' again; what is whole can be read meanwhile")
    else:
        say("hint: run 'lake repair --dry-run' to see what can be mended; what is whole can be read meanwhile")


def _sum_up_repair(uri: str, acts: list[Act], dry_run: bool) -> None:
    changes = sum(act.changes for act in acts)
    refused = sum(act.did is Did.REFUSED for act in acts)
    if not changes and not refused:
        say(f"{uri}: there is nothing to repair")
    if changes:
        say(f"{counted(changes, 'change')}{', in a dry run: nothing was written' if dry_run else ''}")
    if refused:
        say(f"{counted(refused, 'fault')} cannot be mended without inventing something; each says what to do")
