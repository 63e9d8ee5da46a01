"""The commands that look after a lake: verify."""

from typing import Annotated

import typer

from cli.options import DEFAULT_LAKE as HERE
from cli.options import Form, LakeUri
from cli.output import Format, counted, say, show
from lake import Lake


def register(parent: typer.Typer) -> None:
    """Add the commands to the `lake` command."""
    parent.command()(verify)


def verify(
    lake: LakeUri = HERE,
    deep: Annotated[bool, typer.Option("--deep", help="Read every file and compare its sha256.")] = False,
    form: Form = Format.table,
) -> None:
    """Prove that everything stored is what was written.

    Tables, commits and files, for the newest state and every snapshot. Exits with 1 if anything is wrong, and prints
    what.

    Example: lake verify --deep
    """
    door = Lake.open(lake)
    problems = [{"problem": problem} for problem in door.verify(deep=deep)]
    if problems:
        show(problems, form)
        say(f"{counted(len(problems), 'problem')}; what is not named above is whole")
        raise typer.Exit(1)
    how = "every file read and its sha256 compared" if deep else "sizes compared; --deep reads the contents too"
    say(f"{lake}: all is as it was written, and so are {counted(len(door.snapshots()), 'snapshot')} ({how})")
    if form is not Format.table:
        show([], form)
