"""The commands about training sets: export and validate."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from cli.options import DEFAULT_LAKE as HERE
from cli.options import At, DryRun, Form, LakeUri, PolicyFile, policy_in
from cli.output import Format, Meter, say, show
from exporters.export import Options, export_all, verify
from exporters.export import export as write
from exporters.receipt import Receipt
from exporters.validate import validate as check
from lake import Lake
from lake.errors import UsageError
from views import lineage


def register(parent: typer.Typer) -> None:
    """Add the commands to the `lake` command."""
    for command in (export, validate):
        parent.command()(command)


def export(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="sft, rag, preference, or all.")] = "",
    out: Annotated[Path | None, typer.Argument(metavar="OUT", help="A new folder.", show_default=False)] = None,
    lake: LakeUri = HERE,
    at: At = None,
    file_format: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="jsonl, jsonl.gz, jsonl.zst or parquet.")
    ] = "jsonl",
    shape: Annotated[
        str | None,
        typer.Option(
            "--shape",
            metavar="SHAPE",
            help="How a row looks: conversational, or for sft prompt-completion, for preference plain.",
        ),
    ] = None,
    include_partial: Annotated[
        bool, typer.Option("--include-partial", help="Let partially accepted runs into sft.")
    ] = False,
    include_review: Annotated[
        bool, typer.Option("--include-review", help="Let runs that a person has yet to look at into rag.")
    ] = False,
    pairs_per_task: Annotated[
        int | None, typer.Option("--pairs-per-task", metavar="N", help="At most so many pairs a task. [default: 5]")
    ] = None,
    known_files: Annotated[
        Path | None,
        typer.Option("--known-files", metavar="FILE", help="A path a line: evidence that names another is refused."),
    ] = None,
    policy: PolicyFile = None,
    provenance: Annotated[
        bool, typer.Option("--provenance/--no-provenance", help="Columns that say where each row comes from.")
    ] = True,
    dry_run: DryRun = False,
    verify_folder: Annotated[
        Path | None,
        typer.Option("--verify", metavar="FOLDER", help="Rebuild this export from its snapshot and compare the bytes."),
    ] = None,
    diff: Annotated[
        tuple[str, str] | None,
        typer.Option("--diff", metavar="A B", help="Write nothing; show how the dataset differs between two states."),
    ] = None,
) -> None:
    """Write a training set from a snapshot.

    OUT gets data files, a card and a receipt. Every record that was considered is exported or in quarantine, with its
    reason, or nothing is written. Without --at the current state is pinned first.

    Example: lake export sft sets/sft --at before-judge-v2 --format parquet
    """
    door = Lake.open(lake)
    if verify_folder is not None:
        _verify(door, verify_folder)
        return
    if not dataset:
        raise UsageError("which dataset?", "name sft, rag, preference or all")
    if diff is not None:
        old, new = (door.snapshot(ref) for ref in diff)
        differences = lineage.diff(old, new, None if dataset == "all" else dataset)
        show(map(msgspec.structs.asdict, differences), Format.table)
        return
    if out is None:
        raise UsageError("where to?", f"name a new folder: lake export {dataset} OUT")
    rules = policy_in(policy)
    changes: dict[str, Any] = {}
    if include_partial:
        changes["include_partial"] = True
    if include_review:
        changes["include_review"] = True
    if pairs_per_task is not None:
        changes["pairs_per_task"] = pairs_per_task
    if known_files is not None:
        changes["known_files"] = tuple(known_files.read_text("utf-8").split("\n")[:-1])
    try:
        rules = msgspec.structs.replace(rules, **changes)
    except ValueError as error:
        raise UsageError(str(error)) from None
    options = Options(at=at, format=file_format, shape=shape, provenance=provenance, policy=rules, dry_run=dry_run)
    with Meter(f"exporting {dataset}", "rows") as meter:
        if dataset == "all":
            receipts = export_all(door, out, options, meter)
        else:
            receipts = (write(door, dataset, out, options, meter),)
    _tell(receipts, out, dry_run)


def validate(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A training set: ours or anybody's.")],
    form: Form = Format.table,
) -> None:
    """Check every row of a training set, and its receipt if any.

    Fields, types, empty texts, roles, repeated ids; sha256 of the files that a receipt names.

    Exits with 1 if anything is wrong, and prints file, row and reason.

    Example: lake validate sets/sft
    """
    with Meter("checking", "rows") as meter:
        report = check(folder, meter)
    show(map(msgspec.structs.asdict, report.problems), form, columns=("file", "row", "field", "problem"))
    say(report.summary)
    if not report.ok:
        raise typer.Exit(1)


def _tell(receipts: tuple[Receipt, ...], out: Path, dry_run: bool) -> None:
    rows = []
    for receipt in receipts:
        counts = receipt.counts
        rows.append(
            {
                "dataset": receipt.dataset,
                "considered": counts.considered,
                "exported": counts.exported,
                "quarantined": counts.quarantined,
                "by_reason": ", ".join(f"{reason} {count}" for reason, count in counts.reasons.items()) or None,
            }
        )
    show(rows, Format.table)
    for receipt in receipts:
        if receipt.counts.tasks_without_pair is not None:
            say(f"{receipt.counts.tasks_without_pair:,} tasks gave no pair")
    where = "nothing was written" if dry_run else f"written to {out}"
    say(f"snapshot {receipts[0].snapshot}; {where}")


def _verify(door: Lake, folder: Path) -> None:
    with Meter(f"rebuilding {folder}", "rows") as meter:
        report = verify(door, folder, meter)
    problems = [
        {"file": path, "problem": problem}
        for problem, paths in (
            ("is missing", report.missing),
            ("is not in the receipt", report.extra),
            ("is not what the receipt says", report.changed),
            ("comes out differently when it is rebuilt", report.differing),
        )
        for path in paths
    ]
    if not problems:
        say(f"{folder}: {report.files} files, byte for byte what snapshot {report.snapshot} gives")
        return
    show(problems, Format.table)
    for change in report.versions:
        say(f"version changed since: {change}")
    raise typer.Exit(1)
