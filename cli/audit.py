"""The command that looks at a run before it begins."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from cli.options import DEFAULT_LAKE as HERE
from cli.options import Form, LakeUri
from cli.output import Format, Meter, Row, counted, say, show
from cli.train import placed, room
from lake import LakeError
from trainers import reading


def register(parent: typer.Typer) -> None:
    """Add the command to the `lake` command."""
    parent.command()(audit)


def audit(
    config: Annotated[Path, typer.Option("--config", metavar="FILE", help="The run's settings, as TOML.")],
    lake: LakeUri = HERE,
    the_map: Annotated[
        bool, typer.Option("--map", help="Print who owns what, and which settings decide it, instead of what holds.")
    ] = False,
    form: Form = Format.table,
) -> None:
    """Look at a run before it begins, whether what must hold does.

    On the run's own shards, order and model. Exit code 1 if something does not. Nothing is trained.

    Example: lake audit --config sft.toml
    """
    said = placed(reading.read(config), lake, None)
    with Meter("looking", "checks") as meter:
        found = room("audit").audit(said, meter)
    if form is Format.json:
        show([msgspec.to_builtins(found)], form)
    elif the_map:
        show(_map(found), form)
    else:
        show((msgspec.to_builtins(one) for one in found.findings), form)
    failed = sum(one.result == "fail" for one in found.findings)
    if failed:
        raise LakeError(f"{config}: {counted(failed, 'check')} failed", "mend what the lines above name")
    passed = sum(one.result == "pass" for one in found.findings)
    say(f"{counted(passed, 'check')} passed, {len(found.findings) - passed} had nothing to look at")


def _map(found: object) -> Iterator[Row]:
    for boundary in msgspec.to_builtins(found)["boundaries"]:
        for owner in boundary["owners"]:
            yield {"boundary": boundary["name"], "what": "code", "name": owner, "value": None}
        for key, value in boundary["settings"].items():
            yield {"boundary": boundary["name"], "what": "setting", "name": key, "value": value}
