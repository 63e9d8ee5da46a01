"""Looks at a run before it begins: whether what must hold does.

The checks run on the very shards, plan and model of the run; each says what must hold, and where it does not. Nothing
is trained, and nothing is written but shards that are not there yet.

Not here: who does what in a run (`pipeline`), and the tests of all this on made-up data, which are beside the project.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from exporters.packing import IGNORED
from lake.errors import LakeError
from trainers import adapters, causal, guards, run
from trainers.batches import padded, trained_tokens
from trainers.encoding import Encoder
from trainers.loop import Job, vocabulary_of
from trainers.pipeline import Boundary, map_of
from trainers.plan import Laid
from trainers.rewards import TASK
from trainers.spec import RunSpec

# How many steps and rows are looked at one by one; what is known without looking at each is known of all.
STEPS, ROWS = 8, 64
_WORLDS = (1, 2, 4)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What must hold of a boundary, and what was found: `pass`; `fail`, and `where`; or `skip`, and why."""

    boundary: str
    must: str
    result: str
    where: str = ""


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of a run."""

    boundaries: tuple[Boundary, ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing that must hold fails."""
        return all(one.result != "fail" for one in self.findings)


@dataclass
class Scene:
    """A run that is looked at: its settings, and what they give, made when it is asked for."""

    spec: RunSpec

    @cached_property
    def job(self) -> Job:
        """What it trains on, and in which order."""
        return run.prepare(self.spec, resume=None)

    @cached_property
    def trainer(self) -> Any:
        """Its trainer, with its model, guarded and probed."""
        return run.trainer_of(self.job)

    @cached_property
    def steps(self) -> list[int]:
        """Some of its steps: the first and the last of each stage, and some between."""
        plan = self.job.plan
        ends = [step for laid in plan.stages for step in (laid.first, laid.first + laid.steps - 1)]
        between = np.linspace(0, plan.steps - 1, STEPS).astype(int).tolist()
        return sorted({*ends, *between})


Faults = Iterator[str]
Check = Callable[[Scene], Faults]


class _NotHere(Exception):
    """A check that has nothing to look at in this run; its text says why."""


_CHECKS: list[tuple[str, str, Check]] = []


def _must(boundary: str, what: str) -> Callable[[Check], Check]:
    def kept(check: Check) -> Check:
        _CHECKS.append((boundary, what, check))
        return check

    return kept


def audit(spec: RunSpec, progress: Callable[[int, int | None], None] | None = None) -> Audit:
    """Look at a run. `progress` is told the checks done. Raises LakeError where its settings give no run at all."""
    scene = Scene(spec)
    _ = scene.job
    findings = []
    out = Path(spec.out)
    new = not out.exists()
    for number, (boundary, what, check) in enumerate(_CHECKS):
        findings.append(_found(scene, boundary, what, check))
        if progress is not None:
            progress(number + 1, len(_CHECKS))
    if new and out.exists():
        out.rmdir()  # a trainer makes its folder as soon as it is there
    return Audit(boundaries=tuple(map_of(spec)), findings=tuple(findings))


def _found(scene: Scene, boundary: str, what: str, check: Check) -> Finding:
    try:
        faults = list(islice(check(scene), 3))
    except _NotHere as why:
        return Finding(boundary=boundary, must=what, result="skip", where=str(why))
    except LakeError as error:
        faults = [error.message]
    return Finding(boundary=boundary, must=what, result="fail" if faults else "pass", where="; ".join(faults))


@_must("ingestion and validation", "every row that was offered is kept, or counted with what became of it")
def _accounts(scene: Scene) -> Faults:
    counts = scene.job.shards.description.counts
    if "offered" not in counts:
        raise _NotHere("these shards were built elsewhere and say nothing of it")
    lost = sum(count for name, count in counts.items() if name.startswith(("dropped", "untrained")))
    if counts["offered"] != counts["kept"] + lost:
        yield f"{counts['offered']} offered, {counts['kept']} kept and {lost} dropped: {scene.job.shards.folder}"
    if counts["kept"] != scene.job.shards.description.rows:
        yield f"{counts['kept']} kept, and {scene.job.shards.description.rows} there: {scene.job.shards.folder}"


@_must("ingestion and validation", "shards have the bytes that were written")
def _bytes(scene: Scene) -> Faults:
    scene.job.shards.prove()
    return iter(())


@_must("ingestion and validation", "nothing that is held out is trained on")
def _apart(scene: Scene) -> Faults:
    if scene.job.validation is None:
        raise _NotHere("nothing is held out")
    both = np.intersect1d(scene.job.shards.keys, scene.job.validation.keys)
    if len(both):
        yield f"{len(both)} rows are on both sides: {scene.job.validation.folder}"


@_must("template and tokens", "shards were made by this tokenizer")
def _tokenizer(scene: Scene) -> Faults:
    told = scene.job.shards.description.made_from.get("tokenizer")
    if told is None:
        raise _NotHere("these shards say nothing of their tokenizer")
    here = Encoder(scene.job.tokenizer).identity
    if told != here:
        yield f"{scene.job.shards.folder}: made by {told}, and this is {here}"


@_must("template and tokens", "every token id is below the size of the vocabulary")
def _vocabulary(scene: Scene) -> Faults:
    known = vocabulary_of(scene.trainer.model)
    for name, field in scene.job.shards.fields.items():
        lowest, highest = int(field.tokens.min(initial=0)), int(field.tokens.max(initial=0))
        if lowest < 0 or highest >= known:
            yield f"{name}: ids from {lowest} to {highest}, and the model knows {known}"


@_must("template and tokens", "every row has something to learn")
def _teaches(scene: Scene) -> Faults:
    for name, field in scene.job.shards.fields.items():
        if name == "prompt":
            continue
        learned = np.add.reduceat(field.trained, field.offsets[:-1], dtype=np.int64)
        for row in np.flatnonzero((learned == 0) | (field.lengths == 0)):
            yield f"{name} of row {row} has no token to learn"


@_must("order, packing and masks", "the order is a function of the rows and the settings")
def _order(scene: Scene) -> Faults:
    job = scene.job
    again = run.plan_of(job.spec, job.shards)
    if again.digest != job.plan.digest:
        yield f"the plan made again is {again.digest[:12]}, not {job.plan.digest[:12]}"


@_must("order, packing and masks", "what is laid out of a row is all of it")
def _whole(scene: Scene) -> Faults:
    lengths = scene.job.shards.lengths
    for number, laid in enumerate(scene.job.plan.stages):
        ends = laid.offset + laid.lengths
        if (laid.offset < 0).any() or (ends > lengths[laid.document]).any():
            yield f"stages[{number}]: a piece reaches past its document"
        # Whatever is laid out of a document is all of it, as often as it is laid out.
        taken = np.bincount(laid.document, weights=laid.lengths, minlength=len(lengths)).astype(np.int64)
        cut = taken % np.maximum(lengths, 1) != 0
        if cut.any():
            yield f"stages[{number}]: row {int(np.argmax(cut))} is not laid out as a whole"


@_must("order, packing and masks", "however many processes take part, a step has the same rows, each once")
def _worlds(scene: Scene) -> Faults:
    plan = scene.job.plan
    for step in scene.steps:
        whole = plan.rows(step)
        for world in _WORLDS:
            if plan.stage_at(step).stage.rows % world:
                continue
            parts = np.concatenate([plan.rows(step, 0, 1, rank, world) for rank in range(world)])
            if not np.array_equal(parts, whole):
                yield f"step {step}: {world} processes take other rows than one"


@_must("order, packing and masks", "ids, positions and labels stand at the same places, and say what the shards do")
def _aligned(scene: Scene) -> Faults:
    for step, laid, batch in _batches(scene):
        shapes = {array.shape for array in batch.values()}
        if len(shapes) != 1:
            yield f"step {step}: arrays of {shapes}"
            continue
        labels, ids, positions = batch["labels"], batch["input_ids"], batch["position_ids"]
        counted = labels != IGNORED
        if (labels[counted] != ids[counted]).any():
            yield f"step {step}: a label is not the id at its place"
        if counted[positions == 0].any():
            yield f"step {step}: the first token of a document would be learned from the one before"
        pieces = np.concatenate(
            [np.arange(*laid.pieces(row).indices(len(laid.document))) for row in _rows(scene, step)]
        )
        if int((positions == 0).sum()) < len(pieces):
            yield f"step {step}: {len(pieces)} pieces, and fewer beginnings"


@_must("order, packing and masks", "every step has something to learn")
def _learns(scene: Scene) -> Faults:
    for step, _, batch in _batches(scene):
        if not trained_tokens(batch):
            yield f"step {step}: no token of it is learned"


@_must("order, packing and masks", "documents that share a row do not see each other, on this very model")
def _kept_apart(scene: Scene) -> Faults:
    if not scene.spec.packed:
        raise _NotHere("no rows are shared")
    trainer = scene.trainer
    with trainer.accelerator.autocast():
        guards.probe(trainer.model, vocabulary_of(trainer.model), trainer.args.device)
    return iter(())


@_must("loss and optimizer", "the loss of packed rows is the mean over the tokens of their documents alone")
def _same_loss(scene: Scene) -> Faults:
    if not scene.spec.packed:
        raise _NotHere("no rows are shared")
    model, job = scene.trainer.model, scene.job
    step, laid, batch = next(_batches(scene))
    one = {name: array[:1] for name, array in batch.items()}
    pieces = range(*laid.pieces(int(_rows(scene, step)[0])).indices(len(laid.document)))
    field = job.shards.fields[causal.FIELD]
    total, count = 0.0, 0
    with _still(model):
        together = float(model(**_tensors(one, model)).loss)
        for piece in pieces:
            alone = padded(np.zeros(1, np.int64), [_Piece(field, laid, piece)], job.pad)
            learned = trained_tokens(alone)
            if learned:
                total += float(model(**_tensors(alone, model)).loss) * learned
                count += learned
    apart = total / max(count, 1)
    if count and abs(together - apart) > _tolerance(model) * max(1.0, abs(apart)):
        yield f"step {step}, row 0: {together:.6f} packed, {apart:.6f} one by one"


@_must("loss and optimizer", "a loss is a number, and reaches every weight that is to be trained")
def _gradients(scene: Scene) -> Faults:
    if not scene.spec.packed:
        raise _NotHere("the trainer's own loss needs its own batches")
    trainer = scene.trainer
    model = trainer.model
    _, _, batch = next(_batches(scene))
    batch = {name: array[:1] for name, array in batch.items()}
    with torch.random.fork_rng(), trainer.accelerator.autocast():
        loss = model(**_tensors(batch, model)).loss
        loss.backward()
    if not torch.isfinite(loss):
        yield f"the loss of the first step is {float(loss)}"
    missed = [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
    model.zero_grad()
    if missed:
        yield f"no gradient reaches {', '.join(missed[:3])}{' and others' * (len(missed) > 3)}"


@_must("loss and optimizer", "adapters are on all that they are meant for, and a loss reaches each")
def _adapted(scene: Scene) -> Faults:
    if scene.spec.lora is None:
        raise _NotHere("whole weights are trained")
    model = scene.trainer.model
    if scene.spec.method == "reward":
        raise _NotHere("a reward model has no loss of tokens; its adapters were counted as they were put on")
    with scene.trainer.accelerator.autocast():
        adapters.prove_gradients(model, vocabulary_of(model), scene.trainer.args.device)
    return iter(())


@_must("loss and optimizer", "the reference is the policy as it is before the first step")
def _reference(scene: Scene) -> Faults:
    reference = getattr(scene.trainer, "ref_model", None)
    if reference is None:
        raise _NotHere("there is none, or it is the policy without its adapters")
    own = dict(scene.trainer.model.named_parameters())
    for name, weight in reference.named_parameters():
        if name not in own or not torch.equal(weight, own[name]):
            yield f"{name} is another one"


@_must("rollouts and rewards", "an answer that ends before its tests do earns nothing, nor does an empty one")
def _rewards(scene: Scene) -> Faults:
    if scene.spec.method != "grpo":
        raise _NotHere("nothing is rewarded")
    rows = scene.job.shards.rows().slice(0, 1).to_pylist()
    columns = {name: [row[name] for row in rows] * 2 for name in TASK}
    reward = scene.trainer.reward
    values = reward(completions=["", "```python\nimport os\nos._exit(0)\n```"], **columns)
    for trial, value in zip(reward.trials, values, strict=True):
        if trial.ending in {"passed", "failed"} or value >= reward.values.passed:
            yield f"task {rows[0]['task_id']}: {trial.ending}, worth {value}"


@_must("checkpoints and artifacts", "nothing is in the way of the run's folder, and one can be written there")
def _folder(scene: Scene) -> Faults:
    there = next(path for path in (scene.job.out, *scene.job.out.parents) if path.exists())
    if not os.access(there, os.W_OK):
        yield f"{there} cannot be written to"


def _batches(scene: Scene) -> Iterator[tuple[int, Laid, dict[str, Any]]]:
    """Batches of some steps. Raises _NotHere where rows are not packed."""
    if not scene.spec.packed:
        raise _NotHere("no rows are packed")
    for step in scene.steps:
        laid = scene.job.plan.stage_at(step)
        yield step, laid, causal.batch(scene.job.shards, scene.job.pad, laid, _rows(scene, step))


def _rows(scene: Scene, step: int) -> Any:
    return scene.job.plan.rows(step)[:ROWS]


@dataclass
class _Piece:
    """One piece of a document, as a field of one row."""

    field: Any
    laid: Laid
    piece: int

    def row(self, _number: int) -> tuple[Any, Any]:
        """Its ids, and which of them count."""
        first = int(self.field.offsets[self.laid.document[self.piece]] + self.laid.offset[self.piece])
        within = slice(first, first + int(self.laid.lengths[self.piece]))
        return self.field.tokens[within], self.field.trained[within]


def _tensors(batch: Mapping[str, Any], model: Any) -> dict[str, torch.Tensor]:
    device = next(model.parameters()).device
    return {name: torch.from_numpy(array).to(device) for name, array in batch.items()}


def _still(model: Any) -> ExitStack:
    """Without dropout and gradients, and as it was afterwards."""
    stack = ExitStack()
    was = model.training
    model.eval()
    stack.enter_context(torch.no_grad())
    stack.callback(model.train, was)
    return stack


def _tolerance(model: Any) -> float:
    return 1e-4 if next(model.parameters()).dtype == torch.float32 else 3e-2
