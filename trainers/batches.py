"""What a step takes, as arrays: a plan says which rows, shards have their tokens.

Packed rows have shape (rows, length). Position ids begin at 0 with each document and once more with the padding, which
is what tells attention where documents end; `labels` are the ids at their own places (models shift them), -100 where
nothing is to be learned: padding, the first token of a document, and whatever the shards say is not trained on.

Not here: moving arrays to a device, and what a trainer makes of them.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from exporters.packing import IGNORED
from trainers.order import Places
from trainers.plan import Laid
from trainers.shards import Field

Array = npt.NDArray[np.int64]


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
    input_ids, labels = np.full(shape, pad, np.int64), np.full(shape, IGNORED, np.int64)
    position_ids = np.empty(shape, np.int64)
    for place, row in enumerate(rows.tolist()):
        at = 0
        for piece in range(*laid.pieces(row).indices(len(laid.document))):
            first = int(field.offsets[laid.document[piece]] + laid.offset[piece])
            length = int(laid.lengths[piece])
            within = slice(at, at + length)
            tokens = field.tokens[first : first + length]
            input_ids[place, within] = tokens
            labels[place, within] = np.where(field.trained[first : first + length], tokens, IGNORED)
            labels[place, at] = IGNORED
            position_ids[place, within] = np.arange(length)
            at += length
        position_ids[place, at:] = np.arange(shape[1] - at)
    return {"input_ids": input_ids, "position_ids": position_ids, "labels": labels}


def padded(rows: Places, parts: Sequence[Rows], pad: int, limit: int | None = None) -> dict[str, Array]:
    """One example a row, its parts one after the other: `input_ids`, `attention_mask` and `labels`, int64.

    The shape is (rows, longest of them); padding is at the end. Raises ValueError where one is longer than `limit`.
    """
    whole = [[field.row(int(row)) for field in parts] for row in rows]
    lengths = [sum(len(tokens) for tokens, _ in one) for one in whole]
    if limit is not None and max(lengths) > limit:
        raise ValueError(f"an example has {max(lengths)} tokens, which is more than {limit}")
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


def trained_tokens(batch: Mapping[str, Array]) -> int:
    """How many tokens of a batch a loss counts: labels are shifted, so the first place of a row is none of them."""
    return int((batch["labels"][:, 1:] != IGNORED).sum())
