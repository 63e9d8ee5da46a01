"""The commands about shards: what a run trains on, as tokens.

Only when shards are built is anything imported that needs torch.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.options import DEFAULT_LAKE as HERE
from cli.options import Form, LakeUri
from cli.output import Format, Meter, counted, say, show
from cli.train import placed, room
from lake.errors import UsageError
from trainers import reading
from trainers.shards import Shards, opened

app = typer.Typer(
    help="Training sets as tokens: build them, look at them.", no_args_is_help=True, rich_markup_mode=None
)


def register(parent: typer.Typer) -> None:
    """Add the commands to the `lake` command."""
    parent.add_typer(app, name="shards")


@app.command()
def build(
    config: Annotated[Path, typer.Argument(metavar="RUN.toml", help="A run's settings, as for 'lake train'.")],
    lake: LakeUri = HERE,
    form: Form = Format.table,
) -> None:
    """Build what a run trains on, unless it is there.

    Shards are kept under a key, the hash of all that their tokens depend on, in the folder that the settings name as
    data.shards. Copy the folder of the key to a machine without a lake, and name it there as data.built.

    Example: lake shards build sft.toml
    """
    said = placed(reading.read(config), lake, None)
    if said.data.built is not None:
        raise UsageError(f"{config}: data.built names shards that are there", "lake shards show looks at them")
    load_tokenizer, for_run = room("loading").load_tokenizer, room("build").for_run
    with Meter("building shards", "rows") as meter:
        found = for_run(said, load_tokenizer(said.model), meter)
    _tell(found, form)


@app.command("show")
def show_shards(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a key, or of one of its splits.")],
    prove: Annotated[bool, typer.Option("--prove", help="Read every file, and compare its sha256.")] = False,
    form: Form = Format.table,
) -> None:
    """Show what shards hold, and what became of the rows.

    Example: lake shards show shards/2f1c9b --prove
    """
    found = opened(folder)
    if prove:
        for shards in found.values():
            shards.prove()
    _tell(found, form)
    if prove:
        say("every file has the bytes that were written")


def _tell(found: dict[str, Shards], form: Format) -> None:
    rows = [_told(shards, form) for shards in found.values()]
    show(rows, form)
    for shards in found.values():
        said = shards.description
        lost = {name: number for name, number in said.counts.items() if number and name not in {"offered", "kept"}}
        offered = said.counts.get("offered", said.rows)
        more = "".join(f"; {name} {number:,}" for name, number in sorted(lost.items()))
        say(f"{said.split}: {said.rows:,} of {counted(offered, 'row')} offered{more}; {shards.folder}")


def _told(shards: Shards, form: Format) -> dict[str, Any]:
    """A row for each split: in a table the tokens by field, for programs the whole description."""
    said = shards.description
    if form is not Format.table:
        return {
            "folder": str(shards.folder),
            "split": said.split,
            "key": said.key,
            "rows": said.rows,
            "tokens": said.tokens,
            "trained": said.trained,
            "counts": said.counts,
            "made_from": said.made_from,
        }
    made_from = said.made_from
    return {
        "split": said.split,
        "dataset": made_from.get("dataset"),
        "snapshot": str(made_from.get("snapshot"))[:12],
        "rows": said.rows,
        **{f"{name}_tokens": number for name, number in said.tokens.items()},
        "trained": sum(said.trained.values()),
        "bytes": sum(file.bytes for file in said.files.values()),
        "key": said.key,
    }
