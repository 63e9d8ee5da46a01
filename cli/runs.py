"""`lake runs`: what was trained, on what, and how it went."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from cli.options import DEFAULT_LAKE as HERE
from cli.options import DryRun, Form, LakeUri
from cli.output import Format, Meter, counted, say, show
from lake import Lake, LakeError
from lake.errors import UnknownRef
from trainers import curves, receipts, replayed
from trainers.curves import Point
from trainers.record import NAME, Run, read

REJECTED = 3

app = typer.Typer(help="Training runs: list, show, record, plot, replay.", no_args_is_help=True, rich_markup_mode=None)

Ref = Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, its id, or how the id begins.")]


def register(parent: typer.Typer) -> None:
    """Add the commands to the `lake` command."""
    parent.add_typer(app, name="runs")


@app.command("list")
def list_(lake: LakeUri = HERE, form: Form = Format.table) -> None:
    """List the training runs that the lake knows, newest first.

    Example: lake runs list
    """
    show((_line(one) for one in receipts.runs(Lake.open(lake))), form, columns=_LINE)


@app.command("show")
def show_(run: Ref, lake: LakeUri = HERE, form: Form = Format.table) -> None:
    """Show a run: what went in, on what it ran, what came of it.

    Example: lake runs show runs/sft
    """
    said, points = _run(run, lake)
    if form is not Format.table:
        show([msgspec.to_builtins(said)], form)
        return
    show(({"fact": name, "value": value} for name, value in _facts(said, points)), form)


@app.command()
def record(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Folders of runs.")],
    lake: LakeUri = HERE,
    form: Form = Format.table,
) -> None:
    """Bring training runs into the lake.

    What 'lake train' ran beside the lake is there already. Runs of other machines come in from a copy of their folder,
    as often as one likes: nothing is stored twice.

    Example: lake runs record runs/sft
    """
    door = Lake.open(lake)
    done = [receipts.record(door, folder) for folder in folders]
    show(map(msgspec.structs.asdict, done), form)


@app.command()
def plot(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Folders or ids of runs, drawn together.")],
    lake: LakeUri = HERE,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The picture: .svg, .png or .pdf.")] = Path(
        "plot.svg"
    ),
) -> None:
    """Draw loss, learning rate, tokens a second and data wait.

    Example: lake runs plot runs/sft runs/lora --out plot.svg
    """
    drawn = {said.run: (said.method, points) for said, points in (_run(one, lake) for one in runs)}
    # Only here is the library that draws needed, which takes a second to load.
    try:
        room = importlib.import_module("trainers.plot")
    except ModuleNotFoundError as error:
        raise LakeError(f"a plot needs {error.name}, which is not installed", "pip install matplotlib") from None
    room.draw(out, drawn)
    say(f"{out}: {counted(len(drawn), 'run')}")


@app.command()
def replay(run: Ref, lake: LakeUri = HERE, dry_run: DryRun = False, form: Form = Format.table) -> None:
    """Keep what a run was trained on, to be drawn of again.

    The rows that its ledger has taken become sightings of sections, as those of 'lake replay add --export' do.

    Example: lake runs replay sft-20260423
    """
    named = read(run).run if _is_folder(run) else run
    door = Lake.open(lake)
    kept = receipts.run_named(door, named)
    with Meter("reading rows", "rows") as meter:
        done = replayed.replay(door, kept, dry_run=dry_run, progress=meter)
    rejected = sum(done.rejected.values())
    show([{**msgspec.structs.asdict(done), "rejected": rejected}], form)
    if rejected:
        said = ", ".join(f"{reason} {count:,}" for reason, count in sorted(done.rejected.items()))
        say(f"{counted(rejected, 'row')} rejected: {said}")
        raise typer.Exit(REJECTED)


_LINE = ("run", "method", "state", "steps", "loss", "dataset", "snapshot", "minutes", "at", "folder")


def _line(one: receipts.Kept) -> dict[str, Any]:
    return {
        "run": one.run,
        "method": one.method,
        "state": one.state,
        "steps": one.steps if one.steps == one.planned else f"{one.steps} of {one.planned}",
        "loss": None if one.loss is None else _short(one.loss),
        "dataset": one.dataset,
        "snapshot": one.snapshot,
        "minutes": None if one.seconds is None else round(one.seconds / 60, 1),
        "at": one.at,
        "folder": one.folder,
    }


def _short(value: float) -> float:
    """A measurement in six figures; a count as it is."""
    return value if isinstance(value, int) else float(f"{value:.6g}")


def _run(ref: str, lake: str) -> tuple[Run, list[Point]]:
    """The record of a run and what it measured: of its folder, or of the lake."""
    if _is_folder(ref):
        return read(ref), curves.read(ref)
    door = Lake.open(lake)
    kept = receipts.run_named(door, ref)
    return receipts.record_of(door, kept), receipts.reports_of(door, kept.run)


def _is_folder(ref: str) -> bool:
    """Whether a run is named by its folder. Raises UnknownRef for the folder of something else."""
    if not Path(ref).is_dir():
        return False
    if not (Path(ref) / NAME).is_file():
        raise UnknownRef(
            f"{ref}: this folder is no run: there is no {NAME} in it", "name the 'out' of a run, or its id"
        )
    return True


def _facts(said: Run, points: list[Point]) -> Iterator[tuple[str, Any]]:
    """What a person asks of a run, as lines."""
    yield "run", said.run
    yield "state", said.state if said.error is None else f"{said.state}: {said.error}"
    yield "steps", f"{said.steps:,} of {said.plan.steps:,}"
    yield "dataset", f"{said.dataset or '-'} at snapshot {said.snapshot or '-'}"
    for name, used in said.shards.items():
        counts = ", ".join(f"{what} {count:,}" for what, count in used.counts.items() if count)
        yield f"rows, {name}", f"{used.rows:,} rows, {sum(used.tokens.values()):,} tokens ({counts}); {used.key[:16]}"
    for stage in said.plan.stages:
        rows = f"{stage.rows:,} rows" if stage.length is None else f"{stage.rows:,} rows of {stage.length:,} tokens"
        fill = "" if stage.fill is None else f", {stage.fill:.2%} full"
        yield f"from step {stage.first:,}", f"{counted(stage.steps, 'step')} of {rows}{fill}"
    yield "order", f"{said.plan.digest[:16]}, seed {said.plan.seed}"
    yield "settings", said.configuration_sha256[:16]
    if said.model is not None:
        yield "begins with", f"{said.model.path} ({counted(len(said.model.files), 'file')})"
    if said.adapter is not None:
        yield "adapter", said.adapter
    for number, one in enumerate(said.sessions, 1):
        took = "not ended" if one.seconds is None else f"{one.seconds:,.0f} s"
        commit = "" if one.code is None else f", {one.code.commit[:12]}{' and changes' * one.code.dirty}"
        torch = f", torch {one.versions['torch']}" if "torch" in one.versions else ""
        device = f"{one.world} × {one.device}"
        yield f"session {number}", f"from step {one.first_step:,}, {took}, {device}{torch}{commit}"
    for name, value in {**said.counters, **said.metrics}.items():
        yield name, _short(value)
    if not said.metrics and points and points[-1].loss is not None:
        yield "loss", _short(points[-1].loss)
    for saved in said.checkpoints:
        size = sum(file.bytes for file in saved.files.values())
        yield f"step {saved.step:,}", f"{saved.folder}, {counted(len(saved.files), 'file')}, {size / 1e6:,.1f} MB"
