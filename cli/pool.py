"""`lake pool`: a prompt pool from a configuration: write one, look it over, build it, show what was built."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_LAKE as HERE
from cli.options import At, DryRun, Form, LakeUri
from cli.output import Format, Meter, counted, say, show
from ingest.prompts import config as configuration
from ingest.prompts.pool import Options, Short
from ingest.prompts.pool import build as fill
from ingest.prompts.pools import Pool, pool_named, pools
from lake import Lake

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
    """Check a configuration and print the quota of each domain.

    Needs no lake.

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
    say(f"{config}: {plan.config.target_size:,} prompts of {counted(len(rows), 'domain')}, seed {plan.config.seed}")


@app.command()
def build(
    config: Config,
    lake: LakeUri = HERE,
    name: Annotated[
        str | None,
        typer.Option("--name", help="A name for the snapshot that has the pool. [default: the pool's id]"),
    ] = None,
    at: At = None,
    allow_short: Annotated[
        bool, typer.Option("--allow-short", help="Take what there is where a domain has too few prompts.")
    ] = False,
    dry_run: DryRun = False,
    form: Form = Format.table,
) -> None:
    """Fill a pool with the lake's prompts; name the snapshot with it.

    The same configuration over the same prompts is the same pool. Refused, unless --allow-short, where a domain has
    fewer prompts than its quota; what was passed over is printed either way, with its reasons.

    Example: lake pool build pool.toml --name rollouts-1
    """
    door = Lake.open(lake)
    options = Options(name=name, at=at, allow_short=allow_short, dry_run=dry_run)
    try:
        with Meter("filling the pool", "prompts") as meter:
            made = fill(door, configuration.read(config), options, meter)
    except Short as short:
        show(_outcomes(short.pool), form)
        raise
    show(_outcomes(made), form)
    told = f"{made.pool}: {counted(made.taken, 'prompt')}"
    if dry_run:
        say(f"{told}; nothing was recorded (a dry run)")
    elif made.is_new:
        say(f"{told}; snapshot {made.snapshot}, named {made.name}")
    else:
        say(f"{told}; it is there already, as {made.name}")


@app.command("show")
def show_(
    pool: Annotated[
        str | None, typer.Argument(metavar="POOL", help="A pool's id or name. [default: list all]", show_default=False)
    ] = None,
    lake: LakeUri = HERE,
    form: Form = Format.table,
) -> None:
    """List the pools, or what became of each domain of one.

    Example: lake pool show rollouts-1
    """
    door = Lake.open(lake)
    if pool is not None:
        show(_outcomes(pool_named(door, pool)), form)
        return
    rows = (
        {
            "pool": one.pool,
            "name": one.name,
            "prompts": one.taken,
            "target": one.target,
            "domains": len(one.domains),
            "short": one.is_short,
            "snapshot": one.snapshot,
        }
        for one in pools(door)
    )
    show(rows, form, columns=("pool", "name", "prompts", "target", "domains", "short", "snapshot"))


def _outcomes(pool: Pool) -> list[dict[str, object]]:
    """A row for each domain and outcome, those first that a pool has."""
    rows: list[dict[str, object]] = []
    for domain in pool.domains:
        rows.append({"domain": domain.name, "outcome": "taken", "prompts": domain.taken, "quota": domain.quota})
        rows += [
            {"domain": domain.name, "outcome": reason, "prompts": count, "quota": None}
            for reason, count in domain.refused.items()
        ]
    return rows + [
        {"domain": one.domain, "outcome": one.reason, "prompts": one.prompts, "quota": None} for one in pool.elsewhere
    ]
