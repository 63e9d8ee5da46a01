"""`lake replay`: sections of what models were trained on, to be trained on again."""

from collections.abc import Iterable
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from cli.options import DEFAULT_LAKE as HERE
from cli.options import At, DryRun, Form, LakeUri, PolicyFile, moment, policy_in
from cli.output import Format, Meter, counted, say, show
from ingest.replay import add as adding
from lake import Lake, LakeError
from lake.errors import UsageError
from lake.kinds import SECTION_TYPES
from views import connect, needed, sampling
from views.policy import Policy, Replay

REJECTED = 3
LISTED = ("section_id", "section_type", "state", "last_seen", "sightings", "weight", "bytes", "begins")

app = typer.Typer(
    help="Keep what models were trained on, and draw of it again.", no_args_is_help=True, rich_markup_mode=None
)


class Scheme(StrEnum):
    """How likely a section is drawn."""

    recency = "recency"
    uniform = "uniform"


class State(StrEnum):
    """What becomes of a section."""

    active = "active"
    reserved = "reserved"
    excluded = "excluded"
    evicted = "evicted"


class Shown(StrEnum):
    """What a draw prints."""

    sections = "sections"
    rows = "rows"
    ids = "ids"


Run = Annotated[
    str | None, typer.Option("--run", metavar="NAME", help="The training run that saw it.", show_default=False)
]
SeenAt = Annotated[
    str | None,
    typer.Option("--seen-at", metavar="TIME", help="When it was seen. [default: now]", show_default=False),
]
MaxBytes = Annotated[
    int | None,
    typer.Option("--max-bytes", metavar="BYTES", min=0, help="What all active sections may have.", show_default=False),
]
Type = Annotated[
    list[str] | None,
    typer.Option("--type", metavar="TYPE", help="Only prose, instruction or preference (repeatable)."),
]


def register(parent: typer.Typer) -> None:
    """Add the commands to the `lake` command."""
    parent.add_typer(app, name="replay")


@app.command()
def add(
    files: Annotated[
        list[str] | None, typer.Argument(metavar="FILE...", help="Markdown documents, globs or folders.")
    ] = None,
    lake: LakeUri = HERE,
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="FOLDER", help="What was exported and trained on.", show_default=False),
    ] = None,
    run: Run = None,
    seen_at: SeenAt = None,
    weight: Annotated[
        float | None,
        typer.Option("--weight", help="How likely these are drawn; 0 is never. [default: 1]", show_default=False),
    ] = None,
    dry_run: DryRun = False,
    form: Form = Format.table,
) -> None:
    """Append the sections of documents, or of the rows of an export.

    The same document twice adds nothing; a section that is seen again by another run counts as recent again. A section
    that breaks its grammar becomes a reject, with its line, and the exit code is 3.

    Example: lake replay add notes/*.md --run sft-2026-04
    """
    if (export is None) == (not files):
        raise UsageError("name documents, or one export with --export", "for example: lake replay add notes.md")
    options = adding.Options(run=run, seen_at=moment("--seen-at", seen_at), weight=weight, dry_run=dry_run)
    door = Lake.open(lake)
    with Meter("reading sections", "sections") as meter:
        if export is not None:
            done = adding.add_export(door, str(export), options, meter)
        else:
            done = adding.add_documents(door, files or [], options, meter)
    _report(done, form, dry_run=dry_run)


@app.command("import")
def import_(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS", help="A corpus.zst: zstd frames of CBOR.")],
    index: Annotated[str, typer.Argument(metavar="INDEX", help="Its index.json.")],
    lake: LakeUri = HERE,
    dry_run: DryRun = False,
    form: Form = Format.table,
) -> None:
    """Append the sections of a corpus that an older system kept.

    Times, runs and weights come along. A frame that cannot be read becomes a reject, with its byte offset, the others
    come in, and the exit code is 3.

    Example: lake replay import replay/corpus.zst replay/index.json
    """
    with Meter("reading frames", "frames") as meter:
        done = adding.import_corpus(Lake.open(lake), corpus, index, adding.Options(dry_run=dry_run), meter)
    _report(done, form, dry_run=dry_run)


@app.command("list")
def list_(
    lake: LakeUri = HERE,
    at: At = None,
    types: Type = None,
    state: Annotated[
        State | None,
        typer.Option(
            "--state", metavar="STATE", help="Only active, reserved, excluded or evicted.", show_default=False
        ),
    ] = None,
    max_bytes: MaxBytes = None,
    policy: PolicyFile = None,
    form: Form = Format.table,
) -> None:
    """List the sections, last seen first, and what becomes of each.

    active: may be drawn. reserved: kept for evaluation. excluded: of weight 0, or mined where such are not wanted.
    evicted: the budget has no room for it.

    Example: lake replay list --type instruction
    """
    rows = _asked(lake, at, _policy(policy, max_bytes=max_bytes), _LIST, [_types(types), *2 * [state and state.value]])
    show(rows, form, columns=LISTED)


@app.command("show")
def show_(
    section: Annotated[str, typer.Argument(metavar="ID", help="A section's id, or how it begins.")],
    lake: LakeUri = HERE,
    at: At = None,
    form: Form = Format.table,
) -> None:
    """Show a section: its sightings, its judge, and what it says.

    Example: lake replay show 5d41402abc4b2a76
    """
    found = _asked(lake, at, Policy(), _SHOW, [section])
    if len(found) != 1:
        what = "no section's id begins" if not found else f"{len(found)} sections' ids begin"
        raise LakeError(f"{what} with {section!r}", "look for it: lake replay list")
    if form is not Format.table:
        show(found, form)
        return
    content = found[0].pop("content")
    show(({"fact": name, "value": value} for name, value in found[0].items()), form)
    print(content)


@app.command()
def sample(
    k: Annotated[int, typer.Argument(metavar="K", help="How many sections.")],
    lake: LakeUri = HERE,
    at: At = None,
    seed: Annotated[int | None, typer.Option("--seed", help="What chance comes from. [default: 0]")] = None,
    now: Annotated[
        str | None,
        typer.Option(
            "--now",
            metavar="TIME",
            help="Ages count from here. [default: when the last section was seen]",
            show_default=False,
        ),
    ] = None,
    scheme: Annotated[
        Scheme | None, typer.Option("--scheme", help="Recent ones first, or all alike. [default: recency]")
    ] = None,
    types: Type = None,
    auto_mined: Annotated[
        bool | None, typer.Option("--auto-mined/--no-auto-mined", help="With preferences that a program mined.")
    ] = None,
    max_bytes: MaxBytes = None,
    policy: PolicyFile = None,
    what: Annotated[
        Shown, typer.Option("--show", help="The sections, the rows in them, or ids alone.")
    ] = Shown.sections,
    form: Form = Format.table,
) -> None:
    """Draw sections by weight, without replacement.

    The same snapshot, seed and moment give the same ones.

    Example: lake replay sample 100 --seed 7 --type preference --show rows --format jsonl
    """
    given = {"seed": seed, "now": moment("--now", now), "scheme": scheme and scheme.value, "auto_mined": auto_mined}
    asked = _policy(policy, max_bytes=max_bytes, **given)
    with closing(connect(Lake.open(lake).snapshot(at), asked, sql=needed(f"{sampling.NEEDS} {_SHOWN[what]}"))) as con:
        drawn = sampling.draw(con, k, seed=asked.replay.seed, types=_types(types))
        rows = con.sql(_SHOWN[what], params=[sorted(drawn.ids)]).to_arrow_table().to_pylist()
    show(rows, form)
    say(f"{counted(len(drawn.ids), 'section')} of {drawn.pool:,} that may be drawn")


@app.command()
def evicted(
    lake: LakeUri = HERE,
    at: At = None,
    max_bytes: MaxBytes = None,
    policy: PolicyFile = None,
    form: Form = Format.table,
) -> None:
    """List the sections that a budget has no room for.

    Nothing is deleted: a budget is a question, asked with --max-bytes or a policy, and another one has another answer.

    Example: lake replay evicted --max-bytes 50000000
    """
    asked = _policy(policy, max_bytes=max_bytes)
    if asked.replay.max_bytes is None:
        raise UsageError("there is no budget", "give it with --max-bytes, or in a policy as replay.max_bytes")
    rows = _asked(lake, at, asked, "from replay_evicted order by last_seen, section_id", [])
    show(rows, form, columns=("section_id", "section_type", "last_seen", "bytes"))
    say(f"{counted(len(rows), 'section')}, {sum(row['bytes'] for row in rows):,} bytes")


_LIST = """
select section_id, section_type, state, last_seen, sightings, weight, bytes, left(content, 60) as begins
from replay_sections
where list_contains(?, section_type) and (state = ? or ? is null)
order by last_seen desc, section_id
"""
_SHOW = "from replay_sections where starts_with(section_id, ?) order by section_id"
_SHOWN = {
    Shown.ids: "select unnest(?) as section_id",
    Shown.sections: "from replay_sections where list_contains(?, section_id) order by section_id",
    Shown.rows: """
        select
            concat('replay-', section_id, '-', n) as id, section_type, prose as text, prompt, response, messages, tools,
            chosen, rejected
        from replay_rows
        where list_contains(?, section_id)
        order by section_id, n
    """,
}


def _asked(lake: str, at: str | None, policy: Policy, query: str, given: list[Any]) -> list[dict[str, Any]]:
    with closing(connect(Lake.open(lake).snapshot(at), policy, sql=needed(query))) as con:
        return con.sql(query, params=given or None).to_arrow_table().to_pylist()


def _policy(file: Path | None, **given: Any) -> Policy:
    """The policy in a file, with what is given on the command line in its place."""
    policy = policy_in(file)
    told = {name: value for name, value in given.items() if value is not None}
    replay = Replay(**{**msgspec.structs.asdict(policy.replay), **told})
    return msgspec.structs.replace(policy, replay=replay)


def _types(given: list[str] | None) -> list[str]:
    if unknown := sorted(set(given or ()) - set(SECTION_TYPES)):
        raise UsageError(f"there is no section type {unknown[0]!r}", f"the types are {', '.join(SECTION_TYPES)}")
    return list(given or SECTION_TYPES)


def _report(done: Iterable[adding.Summary], form: Format, *, dry_run: bool) -> None:
    summaries = list(done)
    rows = [{**msgspec.structs.asdict(one), "rejected": sum(one.rejected.values())} for one in summaries]
    show(rows, form)
    added, seen = (sum(getattr(one, name) for one in summaries) for name in ("added", "sightings"))
    stored = "new, none stored (a dry run)" if dry_run else "added"
    say(f"{counted(seen, 'sighting')} read: {added:,} {stored}, {seen - added:,} there already")
    reasons: dict[str, int] = {}
    for one in summaries:
        for reason, count in one.rejected.items():
            reasons[reason] = reasons.get(reason, 0) + count
    if reasons:
        said = ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items()))
        say(f"{counted(sum(reasons.values()), 'section')} rejected: {said}")
        if not dry_run:
            say("hint: lake sql \"select errors from rejects where kind = 'replay'\"")
        raise typer.Exit(REJECTED)
