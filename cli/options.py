"""The arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from cli.output import Format
from views.policy import Policy

DEFAULT_LAKE = "./lakehouse"

LakeUri = Annotated[
    str,
    typer.Option("--lake", envvar="LAKE_URI", metavar="URI", help="Where the lake is.", show_envvar=True),
]
At = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="REF",
        help="The state to look at: a snapshot's id or name, a time, or versions such as evidence=41,scores=17. "
        "[default: now]",
        show_default=False,
    ),
]
Form = Annotated[Format, typer.Option("--format", help="How rows are printed.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and write nothing.")]
PolicyFile = Annotated[
    Path | None,
    typer.Option("--policy", metavar="FILE", help="A JSON file with the parameters of the views.", show_default=False),
]


def policy_in(file: Path | None) -> Policy:
    """The policy in a file, or the default one. Raises UsageError."""
    return Policy() if file is None else Policy.from_json(file.read_bytes())
