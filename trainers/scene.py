"""A run that is looked at before it begins: its settings, and all that they give, made when it is asked for.

Not here: what must hold of it (`checks`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from exporters.packing import IGNORED
from lake.errors import LakeError
from trainers import causal, run
from trainers.loop import Job
from trainers.plan import Laid
from trainers.shards import Shards
from trainers.spec import RunSpec

# How many steps and rows are looked at one by one.
STEPS, ROWS = 8, 64


class NotHere(Exception):
    """A check that has nothing to look at in this run; its text says why."""


@dataclass
class Scene:
    """A run that is looked at: its settings, and what they give, made when it is asked for."""

    spec: RunSpec
    refused: bool = False

    @cached_property
    def job(self) -> Job:
        """What it trains on, and in which order."""
        return run.prepare(self.spec, resume=None)

    @cached_property
    def trainer(self) -> Any:
        """Its trainer, with its model, guarded and probed. Where it cannot be made, later ones are told NotHere."""
        if self.refused:
            raise NotHere("its trainer cannot be made, as is said above")
        try:
            return run.trainer_of(self.job)
        except (LakeError, OSError):
            self.refused = True
            raise

    @property
    def model(self) -> Any:
        """The model that is trained."""
        return self.trainer.model

    @property
    def device(self) -> torch.device:
        """Where its weights are before a run begins."""
        return torch.device(next(self.model.parameters()).device)

    @property
    def splits(self) -> Mapping[str, Shards]:
        """What is trained on and, where there is some, what is held out."""
        shards, held_out = self.job.shards, self.job.validation
        return {one.description.split: one for one in (shards, held_out) if one is not None}

    @property
    def steps(self) -> list[int]:
        """Some of its steps: the first and the last of each stage, and some between."""
        plan = self.job.plan
        ends = [step for laid in plan.stages for step in (laid.first, laid.first + laid.steps - 1)]
        between = np.linspace(0, plan.steps - 1, STEPS).astype(int).tolist()
        return sorted({*ends, *between})

    def rows(self, step: int) -> Any:
        """Some rows of a step."""
        return self.job.plan.rows(step)[:ROWS]

    def batches(self) -> Iterator[tuple[int, Laid, dict[str, Any]]]:
        """Packed rows of some steps, as a model gets them. Raises NotHere where none are packed."""
        self.only_packed()
        for step in self.steps:
            laid = self.job.plan.stage_at(step)
            yield step, laid, causal.batch(self.job.shards, self.job.pad, laid, self.rows(step))

    def only_packed(self) -> None:
        """Raises NotHere where rows are not packed."""
        if not self.spec.packed:
            raise NotHere("no rows are packed")

    def piece(self, laid: Laid, piece: int) -> tuple[Any, Any]:
        """The ids of one piece of a packed row, and which of them count."""
        field = self.job.shards.fields[causal.FIELD]
        first = int(field.offsets[laid.document[piece]] + laid.offset[piece])
        within = slice(first, first + int(laid.lengths[piece]))
        return field.tokens[within], field.trained[within]

    def row_of(self, laid: Laid, row: int) -> dict[str, Any]:
        """A packed row as a model should get it, put together from the shards piece by piece."""
        length = laid.stage.length or 0
        made = {
            "input_ids": np.full(length, self.job.pad),
            "position_ids": np.zeros(length, np.int64),
            "labels": np.full(length, IGNORED),
        }
        at = 0
        for piece in range(*laid.pieces(row).indices(len(laid.document))):
            tokens, trained = self.piece(laid, piece)
            within = slice(at, at + len(tokens))
            made["input_ids"][within], made["position_ids"][within] = tokens, np.arange(len(tokens))
            made["labels"][within] = np.where(trained, tokens, IGNORED)
            made["labels"][at] = IGNORED
            at += len(tokens)
        made["position_ids"][at:] = np.arange(length - at)
        return made
