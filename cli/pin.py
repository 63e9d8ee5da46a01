"""`lake snapshot`: pin states, name them, list and compare them."""

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
import typer

from cli.options import DEFAULT_LAKE as HERE
from cli.options import At, Form, LakeUri
from cli.output import Format, say, show
from lake import Lake
from views import lineage

app = typer.Typer(help="Pin a state of the lake, name it, compare two.", no_args_is_help=True, rich_markup_mode=None)
Ref = Annotated[str, typer.Argument(metavar="REF", help="A snapshot's id or name, a time, or versions.")]


def register(parent: typer.Typer) -> None:
    """Add the commands to the `lake` command."""
    parent.add_typer(app, name="snapshot")


@app.command()
def create(
    lake: LakeUri = HERE,
    name: Annotated[str | None, typer.Option("--name", help="A name for it; an older snapshot loses it.")] = None,
    note: Annotated[str | None, typer.Option("--note", help="Why it was made.")] = None,
    at: At = None,
) -> None:
    """Pin a state for good, and print its id.

    Whatever is appended later, it can be read, asked and exported again.

    Example: lake snapshot create --name before-judge-v2
    """
    door = Lake.open(lake)
    snapshot = door.pin(at)
    if name is not None or note is not None:
        door.name(snapshot, name, note)
    print(snapshot.id)
    say(f"pinned {snapshot.vector}")


@app.command("list")
def list_(lake: LakeUri = HERE, form: Form = Format.table) -> None:
    """List the pinned snapshots, the last named one first.

    Example: lake snapshot list
    """
    door = Lake.open(lake)
    names: dict[str, list[str]] = {}
    for name, snapshot_id in door.names().items():
        names.setdefault(snapshot_id, []).append(name)
    told = {row["snapshot_id"]: row for row in door.read("snapshots").sort_by("event_id").to_pylist()}
    ids = sorted(door.snapshots(), key=lambda item: told[item]["event_id"] if item in told else "", reverse=True)
    rows = []
    for snapshot_id in ids:
        snapshot = door.snapshot(snapshot_id)
        event = told.get(snapshot_id, {})
        rows.append(
            {
                "snapshot": snapshot_id,
                "names": ", ".join(sorted(names.get(snapshot_id, []))) or None,
                "note": event.get("note"),
                "named_at": event.get("recorded_at"),
                **{kind: snapshot.rows(kind) for kind in ("evidence", "scores", "tasks", "retractions", "rejects")},
            }
        )
    show(rows, form)


@app.command("show")
def show_(ref: Ref, lake: LakeUri = HERE, form: Form = Format.table) -> None:
    """Show what a snapshot pins, table by table.

    Example: lake snapshot show before-judge-v2
    """
    snapshot = Lake.open(lake).snapshot(ref)
    say(f"snapshot {snapshot.id}")
    rows = (
        {
            "table": kind,
            "version": pin.version,
            "rows": pin.rows,
            "files": len(pin.files),
            "bytes": sum(file.size for file in pin.files),
            "head": pin.head,
        }
        for kind, pin in snapshot.tables.items()
    )
    show(rows, form)


@app.command()
def diff(
    old: Annotated[str, typer.Argument(metavar="OLD", help="The earlier state.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The later state.")],
    lake: LakeUri = HERE,
    dataset: Annotated[
        str | None, typer.Option("--dataset", metavar="NAME", help="Only this dataset: sft, rag or preference.")
    ] = None,
    form: Form = Format.table,
) -> None:
    """Show which rows entered, left or changed, and by which event.

    Example: lake snapshot diff before-judge-v2 now-named-after
    """
    door = Lake.open(lake)
    show_changes(lineage.diff(door.snapshot(old), door.snapshot(new), dataset), form)


def show_changes(changes: Iterable[lineage.Change], form: Format) -> None:
    """Print what changed between two states: as a table what a person asks, as data everything."""
    if form is Format.table:
        show((_told(change) for change in changes), form)
    else:
        show(map(msgspec.structs.asdict, changes), form)


def _told(change: lineage.Change) -> dict[str, Any]:
    run = change.run_id if change.rejected_run_id is None else f"{change.run_id} over {change.rejected_run_id}"
    names = ("dataset", "change", "id")
    return {**{name: getattr(change, name) for name in names}, "run": run, "by": change.cause, "detail": change.detail}
