"""What a step takes, as arrays: a plan says which rows, shards have their tokens.

Packed rows have shape (rows, length). Position ids begin at 0 with each document and once more with the padding, which
is what tells attention where documents end; `labels` are the ids at their own places (models shift them), -100 where
nothing is to be learned: padding, the first token of a document, and whatever the shards say is not trained on.

Not here: moving arrays to a device, and what a trainer makes of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

from exporters.packing import IGNORED
from trainers.order import Places
from trainers.plan import Laid, Plan
from trainers.shards import Field

Array = npt.NDArray[np.int64]

# From how many tokens a piece on, on average, copying piece by piece is faster than gathering token by token.
_LONG = 128


class Rows(Protocol):
    """What has the token ids of a row and knows which of them a loss may count, as `shards.Field` does."""

    def row(self, number: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """Those of one row."""


def packed(laid: Laid, rows: Places, field: Field, pad: int) -> dict[str, Array]:
    """Packed rows: `input_ids`, `position_ids` and `labels`, int64 of shape (rows, length).

    There is no mask of attention: one of two dimensions says nothing of where a document ends, and keeps models from
    looking at the position ids that do.
    """
    assert laid.stage.length is not None
    shape = len(rows), laid.stage.length
    pieces, last = _pieces(laid, rows)
    # Views without the class that memory maps have, which costs more than a small copy whenever it is asked for a part.
    tokens, trained, offsets = np.asarray(field.tokens), np.asarray(field.trained), np.asarray(field.offsets)
    sizes = laid.lengths[pieces]
    used = sizes.cumsum()[last]
    used[1:] -= used[:-1].copy()
    # The last piece of each row is taken to reach to its end, and what is behind it is overwritten below.
    widths = sizes.copy()
    widths[last] += shape[1] - used
    starts = widths.cumsum() - widths
    source = offsets[laid.document[pieces]] + laid.offset[pieces]
    places = _places(shape[0] * shape[1])
    positions = places - starts.repeat(widths)
    # Tokens are taken in the four bytes that they have on disk, and widened at the end.
    if len(starts) * _LONG < len(places):
        ids, counted = np.empty(len(places), np.int32), np.empty(len(places), np.bool_)
        for start, first, size in zip(starts.tolist(), source.tolist(), sizes.tolist(), strict=True):
            ids[start : start + size] = tokens[first : first + size]
            counted[start : start + size] = trained[first : first + size]
    else:
        index = source.repeat(widths) + positions
        ids, counted = tokens.take(index, mode="clip"), trained.take(index, mode="clip")
    # Products take no branch, which masks of many short spans would make the processor mispredict.
    labels = ids - np.int32(IGNORED)
    labels *= counted
    labels += np.int32(IGNORED)
    labels[starts] = IGNORED
    made = {"input_ids": ids.astype(np.int64), "position_ids": positions, "labels": labels.astype(np.int64)}
    made = {name: array.reshape(shape) for name, array in made.items()}
    for row in np.flatnonzero(used < shape[1]).tolist():
        empty = slice(int(used[row]), None)
        made["input_ids"][row, empty] = pad
        made["position_ids"][row, empty] = places[: shape[1] - int(used[row])]
        made["labels"][row, empty] = IGNORED
    return made


def _pieces(laid: Laid, rows: Places) -> tuple[slice | Places, Places]:
    """The pieces of some rows, one row after the other, and which of them is the last of each row."""
    begin, end = laid.row_offsets[rows], laid.row_offsets[rows + 1]
    last = (end - begin).cumsum() - 1
    if (begin[1:] == end[:-1]).all():
        return slice(int(begin[0]), int(end[-1])), last
    return np.concatenate([np.arange(*row) for row in zip(begin.tolist(), end.tolist(), strict=True)]), last


@cache
def _places(count: int) -> Array:
    """0, 1, 2 and so on: the same for every batch of a stage."""
    made = np.arange(count)
    made.flags.writeable = False
    return made


def padded(rows: Places, parts: Sequence[Rows], pad: int) -> dict[str, Array]:
    """One example a row, its parts one after the other: `input_ids`, `attention_mask` and `labels`, int64.

    The shape is (rows, longest of them); padding is at the end.
    """
    whole = [[field.row(int(row)) for field in parts] for row in rows]
    lengths = [sum(len(tokens) for tokens, _ in one) for one in whole]
    shape = len(whole), max(lengths)
    input_ids, labels = np.full(shape, pad, np.int64), np.full(shape, IGNORED, np.int64)
    attention_mask = np.zeros(shape, np.int64)
    for place, (one, length) in enumerate(zip(whole, lengths, strict=True)):
        tokens = np.concatenate([tokens for tokens, _ in one]).astype(np.int64)
        trained = np.concatenate([trained for _, trained in one])
        input_ids[place, :length] = tokens
        attention_mask[place, :length] = 1
        labels[place, :length] = np.where(trained, tokens, IGNORED)
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


def unlearned(plan: Plan, field: Field) -> Iterator[int]:
    """The steps of packed rows of which a loss counts no token, so that it would be no number.

    Of each step as much is looked at as it takes to find one; nobody learns to say the first token of a piece.
    """
    trained, begins = np.asarray(field.trained), np.asarray(field.offsets)
    for laid in plan.stages:
        starts = begins[laid.document] + laid.offset
        ends = starts + laid.lengths
        for step in range(laid.first, laid.first + laid.steps):
            rows = plan.rows(step).tolist()
            pieces = (piece for row in rows for piece in range(laid.row_offsets[row], laid.row_offsets[row + 1]))
            if not any(trained[starts[piece] + 1 : ends[piece]].any() for piece in pieces):
                yield step


def trained_tokens(batch: Mapping[str, Array]) -> int:
    """How many tokens of a batch a loss counts: labels are shifted, so the first place of a row is none of them."""
    return int((batch["labels"][:, 1:] != IGNORED).sum())
