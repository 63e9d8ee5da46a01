"""All of the `lake` command: parse, call one function, print.

Exit codes: 0 done; 1 the lake refused or failed; 2 wrong usage; 3 done, but some inputs were rejected.

Not here: what becomes of Ctrl-C, which may come before any of this is loaded (`app`).
"""

import os
import sys
from typing import Annotated

import typer

from cli import (
    annotate,
    ask,
    audit,
    convert,
    demo,
    events,
    export,
    keep,
    mutate,
    pin,
    pool,
    replay,
    runs,
    shards,
    tidy,
    train,
)
from cli.options import add_storage_options
from cli.output import INTERRUPTED, ReaderGone, fail, say
from exporters.receipt import lake_version
from lake import LakeError
from views.engine import EngineError

app = typer.Typer(
    help="An append-only lake of model outputs and verdicts; training sets are SQL over a pinned snapshot of it.",
    epilog="Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 done but some inputs were rejected.",
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    lake: Annotated[str, typer.Option("--lake", metavar="URI", help="Where the lake is.", envvar="LAKE_URI")] = "",
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Take the options that come before the command."""
    if show_version:
        sys.stdout.write(f"lake {lake_version()}\n")
        raise typer.Exit
    if lake:
        # Every command has the option too; the one nearer to the command wins.
        os.environ["LAKE_URI"] = lake
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")
        raise typer.Exit


for room in (
    events,
    annotate,
    mutate,
    ask,
    pool,
    pin,
    export,
    convert,
    replay,
    keep,
    tidy,
    shards,
    audit,
    train,
    runs,
    demo,
):
    room.register(app)

command = typer.main.get_command(app)
add_storage_options(command)


def run(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code. Raises KeyboardInterrupt where somebody ends it."""
    environment = dict(os.environ)
    try:
        return _run(arguments)
    finally:
        # What the options said holds for one command.
        os.environ.clear()
        os.environ.update(environment)


def _run(arguments: list[str] | None) -> int:
    try:
        code = command.main(arguments, prog_name="lake", standalone_mode=False)
        sys.stdout.flush()
        if code == INTERRUPTED:
            raise KeyboardInterrupt
    except LakeError as error:
        fail(error.message, error.hint)
        return error.exit_code
    except typer.TyperException as error:
        where = getattr(getattr(error, "ctx", None), "command_path", "lake")
        if error.format_message().startswith("Usage: "):
            # A group of commands that was called without one says what it has.
            say(error.format_message())
            return error.exit_code
        fail(error.format_message(), f"run '{where} --help'")
        return error.exit_code
    except (ReaderGone, BrokenPipeError):
        # Python would complain about what it cannot flush when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except EngineError as error:
        # Memory or disk ran out, or a stored file cannot be read; a query's own mistakes are LakeErrors.
        fail(str(error).splitlines()[0], "ask for less, or make room; 'lake verify' tells whether a file is damaged")
        return 1
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), None)
        return 1
    except typer.Abort:
        raise KeyboardInterrupt from None
    return int(code or 0)
