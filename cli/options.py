"""The arguments and options that several commands share."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.output import Format
from exporters.receipt import policy_of
from lake.errors import UsageError
from lake.reach import ENDPOINTS, option_named
from views.policy import Policy

DEFAULT_LAKE = "./lakehouse"

LakeUri = Annotated[
    str,
    typer.Option(
        "--lake",
        envvar="LAKE_URI",
        metavar="URI",
        help="Where the lake is: a folder, or s3://BUCKET/PREFIX.",
        show_envvar=True,
    ),
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
    typer.Option(
        "--policy",
        metavar="FILE",
        help="A JSON file with the parameters of the views, or an export's receipt.json.",
        show_default=False,
    ),
]


def policy_in(file: Path | None) -> Policy:
    """The policy in a file, or that of the receipt that the file is, or the default one. Raises UsageError."""
    if file is None:
        return Policy()
    data = content("--policy", file)
    return Policy.from_json(policy_of(data) or data)


def content(option: str, file: Path) -> bytes:
    """The bytes of a file that an option names. Raises UsageError."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}", f"name a file with {option}") from None


def moment(option: str, text: str | None) -> datetime | None:
    """The time that an option says, UTC unless it says otherwise. Raises UsageError."""
    if text is None:
        return None
    try:
        said = datetime.fromisoformat(text)
        said = (said if said.tzinfo else said.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(f"{option}: {text!r} is no time", "write for example 2026-04-23T18:42:11Z") from None
    if said.year < 1970:
        raise UsageError(f"{option}: {text!r} is before 1970", "a lake knows of no time before that")
    return said


def reach(said: list[str] | None) -> list[str]:
    """Take storage options into this process's environment, where a bucket looks for what it is not told.

    So they hold for all that a command opens, in its child processes too. Raises UsageError, without the value.
    """
    for one in said or ():
        name, given, value = one.partition("=")
        if not given or not value:
            raise UsageError("a storage option is written NAME=VALUE", "for example AWS_REGION=eu-central-1")
        known = option_named(name)
        if known == "AWS_ENDPOINT_URL":
            for other in ENDPOINTS:
                os.environ.pop(other, None)
        os.environ[known] = value
    return said or []


StorageOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--storage-option",
        metavar="NAME=VALUE",
        help="How to reach a bucket, where the environment does not say it: AWS_ENDPOINT_URL=…, AWS_REGION=… "
        "(repeatable).",
        show_default=False,
        callback=reach,
    ),
]


def add_storage_options(command: Any) -> None:
    """Give each command that may open a bucket the option `--storage-option`, which none of them needs to know of."""
    for child in getattr(command, "commands", {}).values():
        add_storage_options(child)
    names = [parameter.name for parameter in command.params]
    if place := {"lake": "lake", "validate": "folder"}.get("lake" if "lake" in names else command.name or ""):
        option = next(iter(typer.main.get_command(_carrier).params))
        option.expose_value = False
        command.params.insert(names.index(place) + 1, option)


_carrier = typer.Typer(add_completion=False)


@_carrier.command()
def _carry(storage_option: StorageOptions = None) -> None:
    """Exists for the sake of its option."""
