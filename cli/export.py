"""The commands about training sets: export and validate."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from cli.options import DEFAULT_LAKE as HERE
from cli.options import At, DryRun, Form, LakeUri, PolicyFile, content, moment, policy_in
from cli.output import Format, Meter, say, show
from cli.pin import show_changes
from exporters.datasets import DATASETS
from exporters.export import export as write
from exporters.export import export_all, verify
from exporters.packed import tokenizer_named
from exporters.plan import Options
from exporters.receipt import Receipt
from exporters.validate import Options as Checks
from exporters.validate import validate as check
from exporters.validate import vocabulary_of
from ingest.prompts.pools import pool_called, pool_named
from lake import Lake
from lake.errors import UsageError
from views import lineage
from views.gates import Quality
from views.policy import Policy, Replay


class Label(StrEnum):
    """Whether what a run answered was wanted."""

    true = "true"
    false = "false"


def register(parent: typer.Typer) -> None:
    """Add the commands to the `lake` command."""
    for command in (export, validate):
        parent.command()(command)


def export(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="The training set, such as sft, or all.")] = "",
    out: Annotated[
        str | None, typer.Argument(metavar="OUT", help="A new folder, or s3://BUCKET/PREFIX.", show_default=False)
    ] = None,
    lake: LakeUri = HERE,
    at: At = None,
    file_format: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="jsonl, jsonl.gz, jsonl.zst, parquet, arrow, hf or npy.")
    ] = "jsonl",
    shape: Annotated[
        str | None,
        typer.Option(
            "--shape",
            metavar="SHAPE",
            help="How a row looks: conversational, plain, text, harmony, … A wrong one lists those of the dataset.",
        ),
    ] = None,
    include_partial: Annotated[
        bool, typer.Option("--include-partial", help="Let partially accepted runs into sft.")
    ] = False,
    include_review: Annotated[
        bool, typer.Option("--include-review", help="Let runs that a person has yet to look at into rag and pretrain.")
    ] = False,
    include_completions: Annotated[
        bool, typer.Option("--include-completions", help="Let completions that were accepted into pretrain.")
    ] = False,
    pairs_per_task: Annotated[
        int | None, typer.Option("--pairs-per-task", metavar="N", help="At most so many pairs a task. [default: 5]")
    ] = None,
    known_files: Annotated[
        Path | None,
        typer.Option("--known-files", metavar="FILE", help="A path a line: evidence that names another is refused."),
    ] = None,
    partial_label: Annotated[
        Label | None,
        typer.Option("--partial-label", help="The label of partially accepted runs in kto; they are left out without."),
    ] = None,
    domain: Annotated[
        str | None, typer.Option("--domain", metavar="NAME", help="Only this domain, in the dataset domain.")
    ] = None,
    pool: Annotated[
        str | None,
        typer.Option("--pool", metavar="POOL", help="The pool whose prompts are exported: its id or name."),
    ] = None,
    policy: PolicyFile = None,
    provenance: Annotated[
        bool, typer.Option("--provenance/--no-provenance", help="Columns that say where each row comes from.")
    ] = True,
    val: Annotated[
        float, typer.Option("--val", metavar="SHARE", help="Hold out this share of the rows, as a split of its own.")
    ] = 0.0,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="What is held out is drawn by this.")] = 0,
    gate: Annotated[
        list[str] | None,
        typer.Option(
            "--gate",
            metavar="NAME",
            help="Bar what does not pass: contamination, pii, licence, language, length, exact-duplicate, "
            "near-duplicate (repeatable).",
            show_default=False,
        ),
    ] = None,
    replay: Annotated[
        float, typer.Option("--replay", metavar="SHARE", help="This share of all rows is of past training.")
    ] = 0.0,
    replay_seed: Annotated[
        int | None, typer.Option("--replay-seed", metavar="N", help="Replayed sections are drawn by this. [default: 0]")
    ] = None,
    replay_now: Annotated[
        str | None,
        typer.Option("--replay-now", metavar="TIME", help="Their ages count from here. [default: the newest's time]"),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            "--tokenizer",
            metavar="PATH",
            help="Pack documents by this tokenizer.json, or by the one in this folder; the format may then be npy.",
            show_default=False,
        ),
    ] = None,
    length: Annotated[
        list[int] | None,
        typer.Option("--length", metavar="N", help="So many tokens a packed row; say it once for each length."),
    ] = None,
    eos: Annotated[
        str | None, typer.Option("--eos", metavar="TOKEN", help="What ends a document. [default: the tokenizer's]")
    ] = None,
    bos: Annotated[
        str | None, typer.Option("--bos", metavar="TOKEN", help="What begins a document, or none. [default: the same]")
    ] = None,
    pad: Annotated[
        str | None, typer.Option("--pad", metavar="TOKEN", help="What fills up a packed row. [default: the same]")
    ] = None,
    views: Annotated[
        str | None,
        typer.Option("--views", metavar="DIGEST", help="The rules of an older export, by the digest in its receipt."),
    ] = None,
    dry_run: DryRun = False,
    verify_folder: Annotated[
        str | None,
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
    if verify_folder is not None:
        _verify(Lake.open(lake), verify_folder)
    elif not dataset:
        raise UsageError("which dataset?", f"name {', '.join(DATASETS)} or all")
    elif diff is not None:
        _compare(Lake.open(lake), dataset, *diff)
    elif out is None:
        raise UsageError("where to?", f"name a new folder: lake export {dataset} OUT")
    else:
        rules = _policy(
            policy,
            include_partial=include_partial or None,
            include_review=include_review or None,
            include_completions=include_completions or None,
            replay=_drawn(policy, seed=replay_seed, now=moment("--replay-now", replay_now)),
            quality=_gated(policy, gate),
            pairs_per_task=pairs_per_task,
            known_files=_lines(known_files) if known_files is not None else None,
            partial_label=None if partial_label is None else partial_label is Label.true,
            domain=domain,
            pool=_pool(Lake.open(lake), pool) if pool is not None else None,
        )
        options = Options(
            at=at,
            format=file_format,
            shape=shape,
            provenance=provenance,
            policy=rules,
            val=val,
            seed=seed,
            replay=replay,
            lengths=tuple(length or ()),
            views=views,
            dry_run=dry_run,
        )
        door = Lake.open(lake)
        if tokenizer is None and not (eos is bos is pad is None):
            raise UsageError("which tokenizer has these tokens?", "say --tokenizer FOLDER, and --length 2048")
        if tokenizer is not None:
            made = tokenizer_named(door, tokenizer, eos=eos, bos=bos, pad=pad)
            options = msgspec.structs.replace(options, tokenizer=made)
        with Meter(f"exporting {dataset}", "rows") as meter:
            receipts = (
                export_all(door, out, options, meter)
                if dataset == "all"
                else (write(door, dataset, out, options, meter),)
            )
        _tell(receipts, "nothing was written" if dry_run else f"written to {out}")


def validate(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="A training set: ours or anybody's.")],
    shape: Annotated[
        str | None,
        typer.Option(
            "--shape",
            metavar="NAME",
            help="What a row should be: messages, kto, sft, … [default: what the receipt or the first row says]",
            show_default=False,
        ),
    ] = None,
    vocab_size: Annotated[
        int | None, typer.Option("--vocab-size", metavar="N", min=1, help="Token ids are below N.", show_default=False)
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            "--tokenizer",
            metavar="FILE",
            help="Token ids are those of this tokenizer.json, or of one in this folder.",
            show_default=False,
        ),
    ] = None,
    form: Form = Format.table,
) -> None:
    """Check every row of a training set, and its receipt if any.

    Fields, types, empty texts, roles, token ids, repeated ids; sha256 of the files that a receipt names. Reads JSON
    lines, JSON, CSV, Parquet, Arrow, datasets of Hugging Face's on disk, and .npy files of token ids.

    Exits with 1 if anything is wrong, and prints file, row and reason.

    Example: lake validate sets/pretrain --shape pretrain --tokenizer model/tokenizer.json
    """
    if tokenizer is not None and vocab_size is not None:
        raise UsageError("a tokenizer has a size of its own", "leave out --vocab-size, or --tokenizer")
    if tokenizer is not None:
        vocab_size = vocabulary_of(tokenizer)
    with Meter("checking", "rows") as meter:
        report = check(folder, meter, Checks(shape=shape, vocabulary=vocab_size))
    show(map(msgspec.structs.asdict, report.problems), form, columns=("file", "row", "field", "problem"))
    say(report.summary)
    if not report.ok:
        raise typer.Exit(1)


def _policy(file: Path | None, **changes: Any) -> Policy:
    """The policy in a file, or the default one, with what the options say instead."""
    try:
        given = {name: value for name, value in changes.items() if value is not None}
        return msgspec.structs.replace(policy_in(file), **given)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _pool(door: Lake, called: str) -> str:
    """The id of a pool by its id or name; a slash and a name after it mean what it holds back. Raises UnknownRef."""
    if (found := pool_called(door, called)) is not None:
        return found.pool
    base, slash, held = called.rpartition("/")
    return f"{pool_named(door, base if slash else called).pool}/{held}"


def _drawn(file: Path | None, **changes: Any) -> Replay | None:
    """How sections are drawn, as the policy in a file says, with what the options say instead; None if they do not."""
    given = {name: value for name, value in changes.items() if value is not None}
    return msgspec.structs.replace(policy_in(file).replay, **given) if given else None


def _gated(file: Path | None, gates: list[str] | None) -> Quality | None:
    """What the policy in a file says of quality, with more gates shut; None if there are no more."""
    if not gates:
        return None
    said = policy_in(file).quality
    return msgspec.structs.replace(said, gates=tuple(dict.fromkeys((*said.gates, *gates))))


def _lines(file: Path) -> tuple[str, ...]:
    try:
        text = content("--known-files", file).decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: {error}", "--known-files names a file with a path a line") from None
    return tuple(line.removesuffix("\r") for line in text.split("\n") if line.strip())


def _compare(door: Lake, dataset: str, old: str, new: str) -> None:
    changes = lineage.diff(door.snapshot(old), door.snapshot(new), None if dataset == "all" else dataset)
    show_changes(changes, Format.table)


def _tell(receipts: tuple[Receipt, ...], where: str) -> None:
    rows = []
    for receipt in receipts:
        counts = receipt.counts
        rows.append({"dataset": receipt.dataset, "outcome": "exported", "reason": None, "records": counts.exported})
        rows += [
            {"dataset": receipt.dataset, "outcome": "quarantined", "reason": reason, "records": count}
            for reason, count in counts.reasons.items()
        ]
    show(rows, Format.table)
    for receipt in receipts:
        counts = receipt.counts
        pairs = f"; {counts.tasks_without_pair:,} tasks gave no pair" if counts.tasks_without_pair else ""
        say(
            f"{receipt.dataset}: {counts.considered:,} considered = {counts.exported:,} exported"
            f" + {counts.quarantined:,} quarantined{pairs}"
        )
        if (mixed := counts.replay) is not None:
            say(
                f"{receipt.dataset}: and {mixed.exported:,} of {mixed.wanted:,} replayed rows, of {mixed.sections:,} "
                f"sections; passed over: {mixed.leaked:,} that fresh rows say, {mixed.repeated:,} that others say"
            )
        for name, one in (counts.packed or {}).items():
            say(f"{name}: {one.rows:,} rows of {one.documents:,} documents, {one.tokens:,} tokens; {one.fill:.2%} full")
    say(f"snapshot {receipts[0].snapshot}; {where}")


def _verify(door: Lake, folder: str) -> None:
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
