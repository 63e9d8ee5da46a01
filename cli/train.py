"""The command that trains.

Only when a run begins is anything imported that needs torch.
"""

import importlib
import importlib.util
import os
from pathlib import Path
from types import ModuleType
from typing import Annotated

import msgspec
import typer

from cli.options import DEFAULT_LAKE as HERE
from cli.options import LakeUri
from cli.output import Meter, counted, say
from lake import Lake
from lake.errors import LakeError, UsageError
from trainers import curves, reading, receipts, starting
from trainers.record import NAME, Run, checkpoints, read, trained
from trainers.spec import METHODS, RunSpec

PICTURE = "plot.svg"


class Interrupted(LakeError):
    """Somebody ended a run, which has said in its record how far it came."""

    exit_code = 130


def register(parent: typer.Typer) -> None:
    """Add the command to the `lake` command."""
    parent.command()(train)


def train(
    method: Annotated[str, typer.Argument(metavar="METHOD", help=f"How: {', '.join(METHODS)}.")] = "",
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="The run's settings, as TOML.", show_default=False)
    ] = None,
    lake: LakeUri = HERE,
    init: Annotated[bool, typer.Option("--init", help="Print settings to begin with, and do nothing.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's newest checkpoint.")] = False,
    replay_run: Annotated[
        Path | None,
        typer.Option(
            "--replay-run",
            metavar="RUN.json",
            help="Repeat the run that this records, and compare.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Where, instead of what the settings say.", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what the run would take; shards are built, and nothing else.")
    ] = False,
) -> None:
    """Train on a snapshot, as a file of settings says.

    The run's folder gets its record (run.json), what each step consumed (ledger.parquet), measurements
    (metrics.jsonl), checkpoints, and the model. The run is written down in the lake too.

    On several GPUs: torchrun --nproc-per-node 8 -m trainers FILE, then lake runs record FOLDER.

    Example: lake train sft --config sft.toml
    """
    if replay_run is not None:
        _again(replay_run, out)
        return
    if method not in METHODS:
        raise UsageError(reading.no_method(method), reading.instead_of(method))
    if init:
        typer.echo(starting.text(method), nl=False)
        return
    if config is None:
        raise UsageError(
            "which settings?", f"lake train {method} --init > {method}.toml writes some; then say --config"
        )
    said = placed(reading.read(config, method), lake, out)
    run = room("run")
    with Meter("building shards", "rows") as meter:
        job = run.prepare(said, resume=resume, progress=meter)
    shards, plan = job.shards.description, job.plan
    tokens = sum(shards.tokens.values())
    say(f"{counted(shards.rows, 'row')}, {tokens:,} tokens: {counted(plan.steps, 'step')}, order {plan.digest[:12]}")
    if dry_run:
        return
    try:
        done = run.train(job, resume=resume)
    except KeyboardInterrupt:
        saved = any(map(trained, checkpoints(said.out).values()))
        begun = f"no checkpoint was due yet: remove {said.out}, and begin again"
        raise Interrupted(
            "interrupted", "with --resume it goes on from its newest checkpoint" if saved else begun
        ) from None
    finally:
        # However it ended: what is there of it is written down, and a run that goes on adds the rest.
        _keep(said)
    _told(done, said)


def _again(recorded: Path, out: Path | None) -> None:
    """Repeat a run, and say whether it gave the same."""
    if not recorded.exists():
        raise UsageError(f"{recorded}: there is no such file", "name the run.json of a run, or its folder")
    found = room("again").repeat(recorded, out)
    for name, same in found.same.items():
        say(f"{name}: {'the same' if same else 'DIFFERENT'}")
    for name, versions in found.versions.items():
        say(f"{name}: was {versions[0]}, is {versions[1]}")
    if not found.ok:
        raise LakeError(f"{found.out}: this is not what {recorded} records", "the lines above say what differs")


def _keep(said: RunSpec) -> None:
    """Draw the run, where that can be done, and write it down in the lake, if it came from one."""
    out = Path(said.out)
    if not (out / NAME).exists():
        return
    if importlib.util.find_spec("matplotlib") is not None and (points := curves.read(out)):
        recorded = read(out)
        room("plot").draw(out / PICTURE, {recorded.run: (recorded.method, points)})
    if said.data.lake is not None and said.data.snapshot is not None:
        receipts.record(Lake.open(said.data.lake), out)


def _told(done: Run, said: RunSpec) -> None:
    """Say how a run ended."""
    loss = done.metrics.get("loss")
    ended = "" if loss is None else f", loss {loss:.4g}"
    say(f"{done.run}: {done.state} after {counted(done.steps, 'step')}{ended}")
    say(f"next: lake runs show {said.out}; lake why {said.out}/model")


def placed(said: RunSpec, lake: str, out: Path | None) -> RunSpec:
    """The settings with the lake and the folder that the command line says."""
    if said.data.lake is None:
        uri = lake if "://" in lake else os.path.abspath(lake)
        said = msgspec.structs.replace(said, data=msgspec.structs.replace(said.data, lake=uri))
    return said if out is None else msgspec.structs.replace(said, out=str(out.absolute()))


def room(name: str) -> ModuleType:
    """A room of trainers that needs torch. Raises LakeError where it is not installed."""
    try:
        return importlib.import_module(f"trainers.{name}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in {"trainers", "lake", "exporters"}:
            raise
        raise LakeError(
            f"training needs {error.name}, which is not installed", "pip install torch, then 'evidence-lake[train]'"
        ) from None
