"""Which rows each step of a run consumes: a pure function of the rows' keys and lengths, and of the run's settings.

A plan is made of stages. A stage has rows of one length, or, where examples are not packed, one example a row; it takes
the documents that follow, in the order of the epoch and on into the next one, until it has what its steps need. A step
consumes `rows` rows whatever the number of processes, and each process can say at once which of them are its own:
nothing is iterated, so beginning at step a million costs what beginning at step 0 does.

Not here: what the tokens are (`shards`), and the arrays that a model takes (`batches`).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from exporters import packing
from lake.errors import UsageError
from trainers.order import Keys, Places, shuffled


class Stage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Some steps of a run: the length of their rows in tokens, None where a row is one example; rows a step; how many.

    `steps` None is as many as `epochs` of all the documents give; a row that would be left over is joined by the first
    rows of its stage once more, so that every step is full.
    """

    rows: int
    length: int | None = None
    steps: int | None = None
    epochs: int = 1

    def __post_init__(self) -> None:
        if self.rows < 1 or self.epochs < 1 or (self.steps is not None and self.steps < 1):
            raise UsageError("a stage needs at least one row a step, one step and one epoch")
        if self.length is not None:
            packing.check_length(self.length)


@dataclass(frozen=True)
class Laid:
    """The rows of one stage: `row_offsets` (rows + 1,) into the pieces; each `lengths` tokens of `document` from
    `offset` on, int64. `first` is the step at which it begins, `repeated` how many rows fill up its last step.
    """

    stage: Stage
    first: int
    steps: int
    row_offsets: Places
    document: Places
    offset: Places
    lengths: Places
    repeated: int

    @property
    def count(self) -> int:
        """How many rows are laid out, the repeated ones not counted."""
        return len(self.row_offsets) - 1

    @property
    def skipped(self) -> int:
        """How many rows no step takes, because the stage ends before."""
        return max(0, self.count - self.steps * self.stage.rows)

    def pieces(self, row: int) -> slice:
        """Which pieces a row holds."""
        return slice(int(self.row_offsets[row]), int(self.row_offsets[row + 1]))


@dataclass(frozen=True)
class Plan:
    """The stages of a run, one after the other, and a digest of all that decides which row comes when."""

    stages: tuple[Laid, ...]
    seed: int
    digest: str

    @property
    def steps(self) -> int:
        """How many steps the run has."""
        return sum(laid.steps for laid in self.stages)

    def stage_at(self, step: int) -> Laid:
        """The stage that a step, from 0, belongs to. Raises IndexError past the end."""
        for laid in self.stages:
            if laid.first <= step < laid.first + laid.steps:
                return laid
        raise IndexError(f"step {step} of a plan of {self.steps}")

    def rows(self, step: int, micro: int = 0, micros: int = 1, rank: int = 0, world: int = 1) -> Places:
        """The rows of its stage that one process takes at one of the `micros` parts of a step, int64.

        All processes and parts together take the rows of the step, each once; which they are does not depend on how
        many there are. Raises UsageError where the rows of a step cannot be shared out evenly.
        """
        laid = self.stage_at(step)
        share, rest = divmod(laid.stage.rows, micros * world)
        if rest:
            raise UsageError(
                f"{laid.stage.rows} rows a step cannot be shared by {world} processes in {micros} parts each",
                "choose a number of rows that is a multiple of processes times parts",
            )
        start = (step - laid.first) * laid.stage.rows + (micro * world + rank) * share
        return np.arange(start, start + share, dtype=np.int64) % laid.count


def plan(keys: Keys, lengths: Places, stages: Sequence[Stage], seed: int, *, whole: bool = False) -> Plan:
    """Lay out documents of these keys and token counts, both of shape (n,), in stages.

    `whole` documents are never cut: none may be longer than the rows. Raises UsageError where there is nothing to lay
    out, or a whole document does not fit.
    """
    usable = np.flatnonzero(lengths > 0)
    if not len(usable):
        raise UsageError("there is nothing to train on: no row has a token", "look at the export's quarantine")
    stream = _Stream(keys[usable], usable, lengths, seed)
    laid: list[Laid] = []
    first = 0
    for stage in stages:
        if whole and stage.length is not None and lengths.max() > stage.length:
            raise UsageError(
                f"a document has {int(lengths.max())} tokens, and rows of {stage.length} cannot hold it whole",
                "choose longer rows, or a policy for what is overlong",
            )
        laid.append(_lay(stage, stream, first, whole=whole))
        first += laid[-1].steps
    return Plan(tuple(laid), seed, _digest(laid, keys, lengths, seed))


class _Stream:
    """Documents in their order, epoch after epoch, without an end; each stage takes what follows."""

    def __init__(self, keys: Keys, documents: Places, lengths: Places, seed: int) -> None:
        self._keys = keys
        self._documents = documents
        self._lengths = lengths
        self._seed = seed
        self._epoch = 0
        self._rest = np.empty(0, np.int64)

    def epochs(self, count: int) -> Places:
        """What is left of an epoch that has begun, or the next one, and the `count` - 1 after it."""
        parts = [self._rest] if len(self._rest) else []
        parts += [self._next() for _ in range(count - len(parts))]
        self._rest = self._rest[:0]
        return np.concatenate(parts)

    def tokens(self, wanted: int) -> Places:
        """Documents of at least so many tokens together, as few as that takes."""
        return self._until(self._lengths, wanted)

    def documents(self, wanted: int) -> Places:
        """So many documents."""
        return self._until(np.ones_like(self._lengths), wanted)

    def put_back(self, documents: Places) -> None:
        """Let these, which were taken last, come next."""
        self._rest = np.concatenate([documents, self._rest])

    def _until(self, sizes: Places, wanted: int) -> Places:
        parts: list[Places] = []
        while wanted > 0:
            if not len(self._rest):
                self._rest = self._next()
            ends = np.cumsum(sizes[self._rest])
            taken = int(np.searchsorted(ends, wanted)) + 1
            parts.append(self._rest[:taken])
            wanted -= int(ends[min(taken, len(ends)) - 1])
            self._rest = self._rest[taken:]
        return np.concatenate(parts)

    def _next(self) -> Places:
        order = self._documents[shuffled(self._keys, self._seed, self._epoch)]
        self._epoch += 1
        return order

    def lengths_of(self, documents: Places) -> Places:
        """How many tokens each has."""
        return self._lengths[documents]


def _lay(stage: Stage, stream: _Stream, first: int, *, whole: bool) -> Laid:
    if stage.steps is None:
        taken = stream.epochs(stage.epochs)
    elif stage.length is None:
        taken = stream.documents(stage.steps * stage.rows)
    else:
        taken = stream.tokens(stage.steps * stage.rows * stage.length)
    lengths = stream.lengths_of(taken)
    if stage.length is None:
        places = np.arange(len(taken), dtype=np.int64)
        row_offsets, offset = np.arange(len(taken) + 1, dtype=np.int64), np.zeros_like(taken)
    else:
        packed = packing.plan(lengths, stage.length, fill=0.0 if whole else packing.FILL)
        places, row_offsets, offset, lengths = packed.document, packed.row_offsets, packed.offset, packed.lengths
    count = len(row_offsets) - 1
    steps = -(-count // stage.rows)
    if stage.steps is not None and steps > stage.steps:
        steps = stage.steps
        # Documents do not fill rows, so there are more than the steps take. What none of them has begun comes next.
        begun = places[: row_offsets[steps * stage.rows]]
        stream.put_back(np.delete(taken, begun))
    repeated = max(0, steps * stage.rows - count)
    return Laid(stage, first, steps, row_offsets, taken[places], offset, lengths, repeated)


def _digest(laid: Sequence[Laid], keys: Keys, lengths: Places, seed: int) -> str:
    """The sha256 of everything that decides the rows of each step, in bytes that no platform changes."""
    made = hashlib.sha256(f"plan 1\n{seed}\n".encode())
    made.update(keys.astype("<u8").tobytes())
    made.update(lengths.astype("<i8").tobytes())
    for one in laid:
        made.update(msgspec.json.encode(one.stage, order="deterministic"))
        for column in (one.row_offsets, one.document, one.offset, one.lengths):
            made.update(column.astype("<i8").tobytes())
    return made.hexdigest()
