"""`lake pool`: a prompt pool from a configuration: write one, look it over, build it, show what was built."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import Form
from cli.output import Format, say, show
from ingest.prompts import config as configuration

app = typer.Typer(help="Make a pool of prompts: so many of each domain.", no_args_is_help=True, rich_markup_mode=None)
Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="The pool's configuration, a TOML file.")]


def register(parent: typer.Typer) -> None:
    """Add the commands to the `lake` command."""
    parent.add_typer(app, name="pool")


@app.command()
def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")] = Path("pool.toml"),
) -> None:
    """Write a configuration to begin with, with comments.

    Example: lake pool init pool.toml
    """
    configuration.write_template(file)
    say(f"wrote {file}; look it over with 'lake pool check {file}'")


@app.command()
def check(config: Config, form: Form = Format.table) -> None:
    """Look a configuration over and print the quota of each domain. Needs no lake.

    Example: lake pool check pool.toml
    """
    plan = configuration.read(config)
    quotas = plan.config.quotas()
    rows = []
    for domain in plan.config.domain:
        low, high = plan.config.bounds(domain)
        rows.append(
            {
                "domain": domain.name,
                "share": domain.share,
                "quota": quotas[domain.name],
                "language": domain.language or ", ".join(plan.config.languages) or None,
                "words": f"{low} to {high}",
                "sources": ", ".join(domain.sources) or None,
            }
        )
    show(rows, form)
    say(f"{config}: {plan.config.target_size:,} prompts of {len(rows)} domains, seed {plan.config.seed}")
