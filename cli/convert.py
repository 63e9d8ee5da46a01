"""The command that turns training rows of one format or shape into another."""

from typing import Annotated

import typer

from cli.output import Meter, say
from exporters.convert import Options
from exporters.convert import convert as write


def register(parent: typer.Typer) -> None:
    """Add the command to the `lake` command."""
    parent.command()(convert)


def convert(
    source: Annotated[str, typer.Argument(metavar="IN", help="A file of rows, or a folder of them.")],
    out: Annotated[
        str,
        typer.Argument(metavar="OUT", help="A new file, whose name tells the format, or a new folder."),
    ],
    shape: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="SHAPE",
            help="messages, prompt-completion, sharegpt, preference or preference-implicit. [default: as it is]",
            show_default=False,
        ),
    ] = None,
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="What a folder holds: hf, parquet, arrow, jsonl, jsonl.gz or jsonl.zst. [default: hf]",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option("--split", metavar="NAME", help="Only this split. [default: all]", show_default=False),
    ] = None,
) -> None:
    """Write training rows in another format or shape, none lost.

    Reads and writes JSON lines (.jsonl, .jsonl.gz, .jsonl.zst), JSON, CSV, Parquet, Arrow, and datasets of Hugging
    Face's on disk; reads .npy too. Order, types, missing values and unknown columns stay. What the other format cannot
    hold is refused with file, row and field, and nothing is written.

    Example: lake convert sharegpt.json rows.parquet --to messages
    """
    with Meter(f"converting {source}", "rows") as meter:
        made = write(source, out, Options(format=file_format, shape=shape, split=split), meter)
    say(f"{out}: {made.summary}" + (f", {made.source} before" if made.source is not None else ""))
