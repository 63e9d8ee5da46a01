"""Draws tokens so that an answer depends on its own seed alone.

Sampling as libraries have it takes from one stream of numbers for all rows of a batch, so an answer depends on which
others are drawn beside it, by how many processes, and on all that was drawn before. Here each answer has a seed that is
counted from its step's, and its n-th token takes the n-th number of that seed.

Not here: what is drawn from (a model's `generate`), and what answers are worth (`rewards`).
"""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from transformers import LogitsProcessor, LogitsProcessorList, TopPLogitsWarper

from lake.errors import LakeError
from trainers.order import splitmix64

_STEP = 1000003
_MASK = 0x7FFFFFFF


def seed_of(seed: int, step: int) -> int:
    """What the seeds of a step's answers are counted from, below 2^31."""
    return (seed + step * _STEP) & _MASK


class Draw(LogitsProcessor):
    """Draws each row's next token with the row's own seed, and leaves no other one possible.

    A token is where the cumulated probabilities, at this temperature and of the likeliest tokens of a mass of `top_p`,
    pass a number between 0 and 1: splitmix64 of the seed and of how many tokens were drawn, in 53 bits.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, top_p: float = 1.0) -> None:
        self._keys = splitmix64(np.array(seeds, np.uint64))
        self._temperature = temperature
        self._top = TopPLogitsWarper(top_p) if top_p < 1 else None
        self._drawn = 0

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Logits of shape (rows, vocabulary): 0 for the token that was drawn, minus infinity for all others.

        Raises LakeError where a row's logits are no numbers, or leave no token possible.
        """
        mixed = splitmix64(self._keys ^ np.uint64(self._drawn)) >> np.uint64(11)
        uniform = torch.from_numpy(mixed.astype(np.float64) * 2.0**-53).to(scores.device)
        self._drawn += 1
        logits: Any = scores.double() / self._temperature
        if self._top is not None:
            logits = self._top(input_ids, logits)
        passed = logits.softmax(-1).cumsum(-1)
        # A single nan or infinity is in every sum of its row, and the place of a number among them would mean nothing.
        if not passed[:, -1].isfinite().all():
            raise LakeError(
                f"the policy's logits for token {self._drawn} of an answer are no numbers that one can be drawn from",
                "lower learning_rate or max_grad_norm, or begin with more warmup_steps; then resume a checkpoint",
            )
        drawn = torch.searchsorted(passed, uniform[:, None] * passed[:, -1:], right=True)
        only: Any = torch.full_like(scores, -torch.inf)
        return only.scatter_(1, drawn.clamp_(max=scores.shape[1] - 1), 0.0)


@contextmanager
def drawing(model: Any, draw: Draw) -> Iterator[None]:
    """Have `model.generate` draw so, until the end of the context."""
    model.generate = functools.partial(model.generate, logits_processor=LogitsProcessorList([draw]))
    try:
        yield
    finally:
        del model.generate
