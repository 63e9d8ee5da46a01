"""Rows become shards: tokenised once, kept under a key, found again by it.

The key is the hash of all that the tokens depend on: the snapshot, the dataset and its shape, the rules and how rows
were chosen, the tokenizer, the chat template, the length that is allowed and what becomes of a longer row. Under the
key lies a folder with the shards of each split, `train` and, where rows are held out, `validation`. It appears whole or
not at all; of two that build it at once, one is kept.

Every row that is offered is kept, cut, or counted among those that were dropped, and why.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from exporters.places import appearing
from exporters.plan import Options
from lake import Lake
from lake.errors import LakeError, UsageError
from trainers.encoding import Marked
from trainers.rendering import Renderer
from trainers.shards import TRAIN, VALIDATION, Shards, ShardWriter, key_of, opened, writing
from trainers.sources import Source, of_export, of_snapshot, policy_in
from trainers.spec import FIELDS, KINDS, Kind, Overlong, RunSpec
from trainers.templates import template_in
from views.policy import Policy

Progress = Callable[[int, int | None], None]

# What a shard's key says of this room: another number where the same rows become other tokens.
FORMAT = 1

HERE = "./lakehouse"  # where a lake is that nobody names

# What travels with the tokens of a row, where the dataset has it.
_ALWAYS = {name: pa.string() for name in ("id", "task_id", "domain", "event_id", "section_id")}
_COLUMNS: Mapping[Kind, Mapping[str, pa.DataType]] = {
    "text": {},
    "pair": {name: pa.string() for name in ("chosen_event_id", "rejected_event_id")},
    "answer": {"label": pa.bool_()},
    "prompt": {name: pa.string() for name in ("description", "starter_code", "tests", "entry_point", "language")},
}


@dataclass(frozen=True)
class Limits:
    """How many tokens an example may have, None for any number, and what becomes of one that has more.

    One that is cut keeps its beginning: of a prompt and its answer, the answer is cut. A prompt alone is never cut.
    An example with nothing to learn from is refused with the same word as one that is too long: unless it is `error`,
    it is dropped and counted.
    """

    length: int | None = None
    overlong: Overlong = "error"


def key(source: Source, renderer: Renderer, limits: Limits) -> dict[str, Any]:
    """All that the shards depend on; `shards.key_of` makes the key of it."""
    told = {"length": limits.length, "overlong": limits.overlong if limits.length is not None else None}
    return {"build": FORMAT, "kind": renderer.kind, **source.said, **renderer.identity, **told}


def for_run(
    spec: RunSpec, tokenizer: PreTrainedTokenizerBase, progress: Progress | None = None, *, views: str | None = None
) -> dict[str, Shards]:
    """The shards that a run trains on, by their split; found under their key, or built now. Raises LakeError.

    `views` are the rules of an older run, by the digest in its record.
    """
    source, rows = _asked(spec, tokenizer, views)
    return built(source, rows.renderer, rows.limits, Path(spec.data.shards), progress)


def anew(
    spec: RunSpec, tokenizer: PreTrainedTokenizerBase, count: int
) -> Iterator[tuple[str, str, Mapping[str, Marked]]]:
    """The first rows that a run trains on, made once more: the split of each, its id, its fields. Raises LakeError."""
    source, rows = _asked(spec, tokenizer, None)
    made = (
        (part.split, str(row["id"]), fields) for part in source.read() for row, fields in rows.kept(part.rows[:count])
    )
    yield from islice(made, count)


def _asked(spec: RunSpec, tokenizer: PreTrainedTokenizerBase, views: str | None) -> "tuple[Source, _Rows]":
    """Where a run's rows come from, and what makes tokens of them."""
    data, kind = spec.data, KINDS[spec.method]
    source: Source
    if data.export is not None:
        source = of_export(Path(data.export), kind)
    else:
        lake = Lake.open(data.lake or os.environ.get("LAKE_URI") or HERE)
        options = Options(
            policy=Policy() if data.policy is None else policy_in(Path(data.policy)),
            val=data.val,
            seed=data.split_seed,
            replay=data.replay,
            views=views,
        )
        source = of_snapshot(lake, data.snapshot, spec.dataset, kind, options)
    template = None if data.template is None else template_in(Path(data.template))
    renderer = Renderer(tokenizer, kind, chat=source.chat, template=template, date=source.date)
    return source, _Rows(renderer, Limits(spec.longest, data.overlong))


def built(
    source: Source, renderer: Renderer, limits: Limits, into: Path, progress: Progress | None = None
) -> dict[str, Shards]:
    """The shards of each split, as they are under their key in `into`, or built there now.

    `progress` is called with the rows done so far and None. Raises LakeError; then there is nothing new in `into`.
    """
    made_from = key(source, renderer, limits)
    folder = into / key_of(made_from)
    if not folder.exists():
        try:
            with appearing(folder) as scratch:
                _write(made_from, source, _Target(renderer, limits, scratch), progress)
        except UsageError:
            # Somebody else may have built the same in the meantime, which is as good.
            if not folder.exists():
                raise
    return opened(folder)


class _Target(NamedTuple):
    renderer: Renderer
    limits: Limits
    folder: Path


def _write(made_from: Mapping[str, Any], source: Source, target: _Target, progress: Progress | None) -> None:
    renderer, limits, folder = target
    splits = (TRAIN, VALIDATION) if source.said["val"] else (TRAIN,)
    columns = pa.schema(list((_ALWAYS | dict(_COLUMNS[renderer.kind])).items()))
    done = 0
    with ExitStack() as stack:
        made = {
            split: _Split(
                stack.enter_context(writing(folder / split, FIELDS[renderer.kind], columns)), _Rows(renderer, limits)
            )
            for split in splits
        }
        for part in source.read():
            if part.split not in made:
                raise UsageError(f"the rows have a split {part.split!r}", f"the splits are {', '.join(made)}")
            made[part.split].add(part.rows)
            done += len(part.rows)
            if progress is not None:
                progress(done, None)
        if not done:
            raise UsageError(
                f"{source.said['dataset']} has no row at this snapshot",
                f"'lake health' and 'lake quarantine {source.said['dataset']}' tell what became of its records",
            )
        for split, one in made.items():
            one.writer.finish(made_from, one.rows.counts, split)


class _Split(NamedTuple):
    """The shards of one split while they are written."""

    writer: ShardWriter
    rows: "_Rows"

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Render rows, and keep what may be kept of them."""
        for row, fields in self.rows.kept(rows):
            self.writer.add(self._beside(row), fields)

    def _beside(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What travels with a row's tokens."""
        kept = {name: row.get(name) for name in (*_ALWAYS, *_COLUMNS[self.rows.renderer.kind])}
        if replayed := row.get("_replay"):
            kept["section_id"] = replayed["section_id"]
        return kept


@dataclass
class _Rows:
    """Makes tokens of rows, and counts what becomes of each."""

    renderer: Renderer
    limits: Limits
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("offered", "kept", "dropped_overlong", "truncated", "untrained", "tokens_lost", "literal_specials"), 0
        )
    )

    def kept(self, rows: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Marked]]]:
        """Of these rows those that are kept, with their fields. Raises LakeError."""
        spelt = self.renderer.literal_rows
        made = self.renderer.rows(rows)
        self.counts["literal_specials"] += self.renderer.literal_rows - spelt
        for row, fields in zip(rows, made, strict=True):
            self.counts["offered"] += 1
            kept = self._kept(row, fields)
            if kept is not None:
                self.counts["kept"] += 1
                yield row, kept

    def _kept(self, row: Mapping[str, Any], fields: dict[str, Marked]) -> dict[str, Marked] | None:
        """The fields as they are kept, None where the row is dropped; both are counted."""
        before, limit = _tokens(fields), self.limits.length
        longest = _longest(fields)
        if limit is not None and longest > limit:
            if self.limits.overlong == "error":
                raise LakeError(
                    f"{row['id']}: it has {longest} tokens, and {limit} are allowed",
                    'choose longer rows (stages.length, data.longest), or data.overlong = "drop", or "truncate"',
                )
            if self.limits.overlong == "drop" or self.renderer.kind == "prompt":
                self.counts["dropped_overlong"] += 1
                self.counts["tokens_lost"] += before
                return None
            fields = _cut(fields, limit)
        if self.renderer.kind != "prompt" and not _teaches(fields):
            if self.limits.overlong == "error":
                raise LakeError(
                    f"{row['id']}: there is nothing in it to learn from", 'data.overlong = "drop" leaves it out'
                )
            self.counts["untrained"] += 1
            self.counts["tokens_lost"] += before
            return None
        after = _tokens(fields)
        self.counts["truncated"] += after < before
        self.counts["tokens_lost"] += before - after
        return fields


def _tokens(fields: Mapping[str, Marked]) -> int:
    return sum(len(one.tokens) for one in fields.values())


def _longest(fields: Mapping[str, Marked]) -> int:
    """How many tokens an example has: of a pair, the prompt and the longer answer."""
    first, *others = (len(one.tokens) for one in fields.values())
    return first + max(others, default=0)


def _cut(fields: Mapping[str, Marked], limit: int) -> dict[str, Marked]:
    (first, begin), *others = fields.items()
    if not others:
        return {first: _beginning(begin, limit)}
    left = max(0, limit - len(begin.tokens))
    return {first: begin, **{name: _beginning(one, left) for name, one in others}}


def _beginning(one: Marked, limit: int) -> Marked:
    return Marked(one.tokens[:limit], one.trained[:limit])


def _teaches(fields: Mapping[str, Marked]) -> bool:
    """Whether each text that is to be learned from has a token to learn; nobody can learn to say a first one."""
    (_, first), *others = fields.items()
    return bool(all(one.trained.any() for _, one in others) if others else first.trained[1:].any())
