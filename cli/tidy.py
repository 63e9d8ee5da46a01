"""The commands that tidy a lake: compact, vacuum."""

from datetime import timedelta
from typing import Annotated, Any

import typer

from cli.options import DEFAULT_LAKE as HERE
from cli.options import DryRun, Form, LakeUri
from cli.output import Format, Meter, amount, counted, say, show
from lake import Lake
from lake.compact import MIB, Round, Sizes, compact, plan
from lake.vacuum import KEEP, Freed, size_of
from lake.vacuum import plan as plan_vacuum
from lake.vacuum import vacuum as free

Table = Annotated[str | None, typer.Option("--table", metavar="NAME", help="Only this table.")]


def register(parent: typer.Typer) -> None:
    """Add the commands to the `lake` command."""
    parent.command("compact")(compact_)
    parent.command()(vacuum)


def compact_(
    lake: LakeUri = HERE,
    table: Table = None,
    target: Annotated[
        int,
        typer.Option(
            "--target", min=1, max=1 << 20, metavar="MIB", help="Make files of about so much data, uncompressed."
        ),
    ] = Sizes.target // MIB,
    small: Annotated[
        int, typer.Option("--small", min=1, max=1 << 20, metavar="MIB", help="Leave files of as much data alone.")
    ] = Sizes.small // MIB,
    memory: Annotated[
        int,
        typer.Option(
            "--memory", min=1, max=1 << 20, metavar="MIB", help="Take so much data at a time; it needs four times that."
        ),
    ] = Sizes.memory // MIB,
    fewest: Annotated[
        int, typer.Option("--fewest", min=2, metavar="N", help="Leave fewer small files than this alone.")
    ] = Sizes.fewest,
    dry_run: DryRun = False,
    form: Form = Format.table,
) -> None:
    """Put small files together into large ones.

    The events stay the same, which is proved before each commit; look-ups and scans open fewer files. Old versions and
    snapshots keep their own files. Writers, readers and other compactors may go on meanwhile.

    Example: lake compact --dry-run
    """
    door = Lake.open(lake)
    sizes = Sizes(target * MIB, small * MIB, memory * MIB, fewest)
    kinds = None if table is None else [table]
    if dry_run:
        planned = list(plan(door, kinds, sizes))
        show(map(_told, planned), form)
        _sum_up("would become", planned)
        return
    total = sum(each.size_before for each in plan(door, kinds, sizes))
    done: list[Round] = []
    with Meter("compacting", "B") as meter:
        for each in compact(door, kinds, sizes):
            done.append(each)
            meter(sum(earlier.size_before for earlier in done), total, f"compacting {each.kind}")
    show(map(_told, done), form)
    _sum_up("became", done)


def vacuum(
    lake: LakeUri = HERE,
    keep_days: Annotated[
        int,
        typer.Option(
            "--keep-days", min=0, max=36_500, metavar="N", help="Keep what a version of the last N days needs."
        ),
    ] = KEEP.days,
    delete: Annotated[
        bool, typer.Option("--delete", help="Do it; without this it only says what it would do.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Keep fewer than 7 days: nobody reads a state that is not pinned.")
    ] = False,
    form: Form = Format.table,
) -> None:
    """Free what compaction replaced and nothing needs any more.

    What a snapshot needs is kept, however old it is, and so is what a version of the last days needs; every snapshot is
    proved whole afterwards. Without --delete nothing is freed.

    Example: lake vacuum --keep-days 90
    """
    door = Lake.open(lake)
    keep = timedelta(days=keep_days)
    freed = free(door, keep, force=force) if delete else plan_vacuum(door, keep)
    show([_kept(each) for each in freed if each.files or each.pinned or each.recent], form)
    files = sum(each.files for each in freed)
    size = amount(sum(each.size for each in freed), "B")
    if delete:
        say(f"freed {counted(files, 'file')}, {size}; every snapshot is whole")
    else:
        say(f"would free {counted(files, 'file')}, {size}" + ("; --delete does it" if files else ""))


def _told(done: Round) -> dict[str, Any]:
    return {
        "table": done.kind,
        "version": done.version,
        "rows": done.rows,
        "files": done.files_before,
        "files_after": done.files_after,
        "bytes": done.size_before,
        "bytes_after": done.size_after,
    }


def _sum_up(verb: str, rounds: list[Round]) -> None:
    if not rounds:
        say("nothing to do")
        return
    before, after = sum(each.files_before for each in rounds), sum(each.files_after for each in rounds)
    say(f"{counted(before, 'file')} {verb} {after:,}")


def _kept(freed: Freed) -> dict[str, Any]:
    return {
        "table": freed.kind,
        "freed_files": freed.files,
        "freed_bytes": freed.size,
        "kept_by_snapshots": len(freed.pinned),
        "kept_by_snapshots_bytes": size_of(freed.pinned),
        "kept_by_days": len(freed.recent),
        "kept_by_days_bytes": size_of(freed.recent),
    }
