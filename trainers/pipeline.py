"""Who does what between a snapshot and a checkpoint, and which settings decide it.

The code that owns a boundary is looked up where it stands, and every setting of a run's file belongs to one of them:
the map cannot name what is not there.

Not here: whether it does it right (`audit`).
"""

import importlib
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from trainers.spec import RunSpec


class Boundary(msgspec.Struct, frozen=True, kw_only=True):
    """A step between a snapshot and a checkpoint: the code that owns it, as FILE:LINE NAME, and what decides it."""

    name: str
    owners: tuple[str, ...]
    settings: dict[str, Any]


class _Place(NamedTuple):
    owners: tuple[str, ...]
    settings: tuple[str, ...]


# Owners are names in modules, settings are keys of the file, a table standing for all that is in it.
BOUNDARIES: Mapping[str, _Place] = {
    "ingestion and validation": _Place(
        (
            "trainers.reading.parse",
            "trainers.sources.of_snapshot",
            "trainers.sources.of_export",
            "exporters.export.parts",
        ),
        (
            "data.lake",
            "data.snapshot",
            "data.dataset",
            "data.export",
            "data.built",
            "data.policy",
            "data.val",
            "data.split_seed",
            "data.replay",
        ),
    ),
    "template and tokens": _Place(
        ("trainers.rendering.Renderer", "trainers.encoding.Encoder", "trainers.build.built"),
        ("model.tokenizer", "data.template", "data.longest", "data.overlong", "data.shards"),
    ),
    "order, packing and masks": _Place(
        ("trainers.plan.plan", "exporters.packing.plan", "trainers.batches.packed", "trainers.guards.guard"),
        ("seed", "stages", "optimizer.parts", "model.attention"),
    ),
    "loss and optimizer": _Place(
        ("trainers.causal.trainer", "trainers.prefer.trainer", "trainers.kto.trainer", "trainers.reward.trainer"),
        (
            "method",
            "model.path",
            "model.config",
            "model.revision",
            "model.dtype",
            "model.gradient_checkpointing",
            "optimizer",
            "preference",
            "lora",
        ),
    ),
    "evaluation and metrics": _Place(
        ("trainers.loop.HeldOut", "trainers.metrics.Reporter", "trainers.curves.Curve"),
        ("evaluation", "report"),
    ),
    "checkpoints and artifacts": _Place(
        ("trainers.run.train", "trainers.recorder.Record", "trainers.ledger.write", "trainers.receipts.record"),
        ("out", "checkpoints"),
    ),
    "rollouts and rewards": _Place(
        ("trainers.grpo.trainer", "trainers.rewards.RewardByTests", "trainers.rollouts.Rollouts"),
        ("grpo",),
    ),
}


def map_of(spec: RunSpec) -> Iterator[Boundary]:
    """Each boundary of a run, in the order in which rows come to it."""
    said = msgspec.to_builtins(spec)
    for name, place in BOUNDARIES.items():
        owners = tuple(map(_stands, place.owners))
        yield Boundary(name=name, owners=owners, settings={key: _value(said, key) for key in place.settings})


def _stands(name: str) -> str:
    """Where something is defined, by its dotted name."""
    room, _, thing = name.rpartition(".")
    found = getattr(importlib.import_module(room), thing)
    file = Path(str(inspect.getsourcefile(found)))
    _, line = inspect.getsourcelines(found)
    return f"{file.parent.name}/{file.name}:{line} {thing}"


def _value(said: Mapping[str, Any], key: str) -> Any:
    found: Any = said
    for part in key.split("."):
        found = found[part]
    return found
