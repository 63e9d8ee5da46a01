"""What must hold of a run before it begins, each with the code that looks whether it does.

A check looks at what a run is about to use, not at how it came about: it goes another way than the code that made it,
or looks where two rooms meet. What is a function of its arguments alone is shown by the tests beside the project. Steps
are counted from 1, as refusals and metrics count them.

Not here: the run that is looked at (`scene`), running the checks, and what is told of them (`audit`).
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np
import torch

from exporters.packing import IGNORED
from trainers import adapters, build, causal, guards
from trainers.batches import trained_tokens, unlearned
from trainers.loading import vocabulary_of
from trainers.loop import HeldOut
from trainers.order import keys_of
from trainers.rewards import TASK
from trainers.scene import ROWS, NotHere, Scene
from trainers.spec import KINDS
from trainers.targets import detect

Faults = Iterator[str]


class Check(NamedTuple):
    """What must hold of a boundary, and what tells where it does not, by NotHere or a LakeError too."""

    boundary: str
    must: str
    faults: Callable[[Scene], Faults]


CHECKS: list[Check] = []


def _must(boundary: str, what: str) -> Callable[[Callable[[Scene], Faults]], Callable[[Scene], Faults]]:
    def kept(faults: Callable[[Scene], Faults]) -> Callable[[Scene], Faults]:
        CHECKS.append(Check(boundary, what, faults))
        return faults

    return kept


@_must("loss and optimizer", "its trainer can be made")
def _makes(scene: Scene) -> Faults:
    _ = scene.trainer  # first of all, so that what refuses it is said of nothing else
    yield from ()


@_must("ingestion and validation", "every row that was offered is kept, or counted with what became of it")
def _accounts(scene: Scene) -> Faults:
    for shards in scene.splits.values():
        counts = shards.description.counts
        if not {"offered", "kept"} <= counts.keys():
            raise NotHere("these shards were built elsewhere and say nothing of it")
        lost = sum(count for name, count in counts.items() if name.startswith(("dropped", "untrained")))
        if counts["offered"] != counts["kept"] + lost:
            yield f"{counts['offered']} offered, {counts['kept']} kept and {lost} dropped: {shards.folder}"
        if counts["kept"] != shards.description.rows:
            yield f"{counts['kept']} kept, and {shards.description.rows} there: {shards.folder}"


@_must("ingestion and validation", "shards have the bytes that were written")
def _bytes(scene: Scene) -> Faults:
    for shards in scene.splits.values():
        shards.prove()
    yield from ()


@_must("ingestion and validation", "nothing that is held out is trained on: no row, nor another of its task")
def _apart(scene: Scene) -> Faults:
    if scene.job.validation is None:
        raise NotHere("nothing is held out")
    names = ["id", "task_id"]
    trained, held_out = (shards.rows(names) for shards in (scene.job.shards, scene.job.validation))
    for name in names:
        # Documents are held out one by one.
        if name in trained.column_names and (name == "id" or scene.spec.method != "pretrain"):
            both = {*trained[name].to_pylist()} & {*held_out[name].to_pylist()} - {None}
            yield from (f"{name} {value} is on both sides" for value in sorted(both))


@_must("template and tokens", "the first rows, rendered once more, have the tokens and the marks of the shards")
def _rendered(scene: Scene) -> Faults:
    if scene.spec.data.built is not None:
        raise NotHere("the rows that these shards were built of are elsewhere")
    for split, row, fields in build.anew(scene.job.spec, scene.job.tokenizer, ROWS):
        shards = scene.splits[split]
        [*places] = np.flatnonzero(shards.keys == keys_of([row])[0])
        if not places:
            yield f"{row} is not in {shards.folder}"
        for place, (name, made) in ((place, one) for place in places for one in fields.items()):
            tokens, trained = shards.fields[name].row(int(place))
            if not np.array_equal(tokens, made.tokens):
                yield f"{name} of {row} has other tokens"
            elif not np.array_equal(trained, made.trained):
                yield f"{name} of {row} has other tokens to learn"


@_must("template and tokens", "every row has something to learn")
def _teaches(scene: Scene) -> Faults:
    for split, shards in scene.splits.items():
        for name, field in shards.fields.items():
            if name == "prompt":
                continue
            learned = field.counted
            if scene.spec.packed:  # nobody learns to say the first token of a text
                full = np.flatnonzero(field.lengths)
                learned[full] -= field.trained[field.offsets[:-1][full]]
            for row in np.flatnonzero(learned == 0):
                yield f"{split}: {name} of row {row} has no token to learn"


@_must("order, packing and masks", "the order is drawn from the rows' own ids, and each of them is there once")
def _order(scene: Scene) -> Faults:
    for split, shards in scene.splits.items():
        keys = keys_of(shards.rows(["id"]).column("id").to_pylist())
        if not np.array_equal(keys, shards.keys):
            yield f"{split}: {shards.folder} has keys that are not those of its rows' ids"
        again = len(keys) - len(np.unique(keys))
        if again:
            yield f"{split}: {again} rows are there more than once"


@_must("order, packing and masks", "what is laid out of a row is all of it, in one piece where examples stay whole")
def _whole(scene: Scene) -> Faults:
    lengths = scene.job.shards.lengths
    for number, laid in enumerate(scene.job.plan.stages):
        ends = laid.offset + laid.lengths
        if (laid.offset < 0).any() or (ends > lengths[laid.document]).any():
            yield f"stages[{number}]: a piece reaches past its document"
        if scene.spec.packed and scene.spec.method != "pretrain" and (laid.lengths != lengths[laid.document]).any():
            yield f"stages[{number}]: an example is cut"
        # Whatever is laid out of a document is all of it, as often as it is laid out.
        taken = np.bincount(laid.document, weights=laid.lengths, minlength=len(lengths)).astype(np.int64)
        cut = taken % np.maximum(lengths, 1) != 0
        if cut.any():
            yield f"stages[{number}]: row {int(np.argmax(cut))} is not laid out as a whole"


@_must("order, packing and masks", "ids, positions and labels of packed rows are those of the shards, piece by piece")
def _aligned(scene: Scene) -> Faults:
    for step, laid, batch in scene.batches():
        for place, row in enumerate(scene.rows(step)):
            expected = scene.row_of(laid, int(row))
            for name, wanted in expected.items():
                if not np.array_equal(batch[name][place], wanted):
                    at = int(np.argmax(batch[name][place] != wanted))
                    yield f"step {step + 1}, row {place}: {name} are others from place {at} on"


@_must("order, packing and masks", "every step has something to learn")
def _learns(scene: Scene) -> Faults:
    scene.only_packed()
    for step in unlearned(scene.job.plan, scene.job.shards.fields[causal.FIELD]):
        yield f"step {step + 1}: no token of it is learned"


@_must("order, packing and masks", "documents that share a row do not see each other, on this very model")
def _kept_apart(scene: Scene) -> Faults:
    scene.only_packed()
    with scene.trainer.accelerator.autocast():
        guards.probe(scene.model, vocabulary_of(scene.model))
    yield from ()


@_must("loss and optimizer", "the loss of packed rows is the mean over the tokens of their documents alone")
def _same_loss(scene: Scene) -> Faults:
    step, laid, batch = next(scene.batches())
    model = scene.model
    one = {name: array[:1] for name, array in batch.items()}
    pieces = range(*laid.pieces(int(scene.rows(step)[0])).indices(len(laid.document)))
    total, count = 0.0, 0
    with _still(model):
        together = float(model(**_tensors(one, scene.device)).loss)
        for piece in pieces:
            ids, trained = scene.piece(laid, piece)
            made = {"input_ids": ids, "labels": np.where(trained, ids, IGNORED)}
            alone = {name: array[None].astype(np.int64) for name, array in made.items()}
            learned = trained_tokens(alone)
            if learned:
                total += float(model(**_tensors(alone, scene.device)).loss) * learned
                count += learned
    if not count:
        raise NotHere("nothing is learned of the first row of the first step")
    apart = total / count
    if not abs(together - apart) <= _tolerance(model) * max(1.0, abs(apart)):
        yield f"step {step + 1}, row 0: {together:.6f} packed, {apart:.6f} one by one"


@_must("loss and optimizer", "a loss is a number, and reaches every weight that is to be trained")
def _gradients(scene: Scene) -> Faults:
    if not scene.spec.packed:
        raise NotHere("the trainer's own loss needs its own batches")
    model = scene.model
    _, _, batch = next(scene.batches())
    batch = {name: array[:1] for name, array in batch.items()}
    with torch.random.fork_rng(), scene.trainer.accelerator.autocast():
        loss = model(**_tensors(batch, scene.device)).loss
        loss.backward()
    if not torch.isfinite(loss):
        yield f"the loss of the first step is {float(loss.detach())}"
    # No token of a row may have gone to an expert of its own weights.
    alone = {target.parameter for target in detect(model).of("expert") if not target.stacked}
    learning = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    missed = [name for name, weight in learning.items() if weight.grad is None and name not in alone]
    model.zero_grad()
    if missed:
        yield f"no gradient reaches {', '.join(missed[:3])}{' and others' * (len(missed) > 3)}"


@_must("loss and optimizer", "adapters are on all that they are meant for, and a loss reaches each")
def _adapted(scene: Scene) -> Faults:
    lora = scene.spec.lora
    if lora is None:
        raise NotHere("whole weights are trained")
    adapters.verify_expert_lora(scene.model, experts=lora.experts)
    with scene.trainer.accelerator.autocast():
        adapters.prove_gradients(scene.model, vocabulary_of(scene.model))
    yield from ()


@_must("loss and optimizer", "the reference is the policy as it is before the first step")
def _reference(scene: Scene) -> Faults:
    reference = getattr(scene.trainer, "ref_model", None)
    if reference is None:
        raise NotHere("there is none, or it is the policy without its adapters")
    own = dict(scene.model.named_parameters())
    for name, weight in reference.named_parameters():
        if name not in own or not torch.equal(weight, own[name]):
            yield f"{name} is another one"


@_must("evaluation and metrics", "all that is held out is measured, and each row once")
def _measured(scene: Scene) -> Faults:
    held_out, shards = getattr(scene.trainer, "eval_dataset", None), scene.job.validation
    if shards is None:
        raise NotHere("nothing is held out")
    if not isinstance(held_out, HeldOut):
        raise NotHere("what is held out is answered, and its answers are rewarded")
    rows = shards.description.rows
    if scene.spec.packed:
        # What is not padding is told by the sum of all ids.
        field = shards.fields[causal.FIELD]
        ids = [batch["input_ids"] for batch in held_out]
        padding = sum(one.numel() for one in ids) - len(field.tokens)
        found = sum(int(one.sum()) for one in ids) - padding * scene.job.pad
        wanted = int(field.tokens.sum(dtype=np.int64))
    else:
        found = sum(len(next(iter(batch.values()))) for batch in held_out)
        wanted = rows * (2 if KINDS[scene.spec.method] == "pair" else 1)
    if found != wanted:
        yield f"{shards.folder}: what is measured is not its {rows} rows, each once"


@_must("rollouts and rewards", "an answer that ends before its tests do earns nothing, nor does an empty one")
def _rewards(scene: Scene) -> Faults:
    if scene.spec.method != "grpo":
        raise NotHere("nothing is rewarded")
    rows = scene.job.shards.rows().slice(0, 1).to_pylist()
    columns = {name: [row[name] for row in rows] * 2 for name in TASK}
    reward = scene.trainer.reward
    values = reward(completions=["", "```python\nimport os\nos._exit(0)\n```"], **columns)
    for trial, value in zip(reward.trials, values, strict=True):
        if trial.ending in {"passed", "failed"} or value >= reward.values.passed:
            yield f"task {rows[0]['task_id']}: {trial.ending}, worth {value}"


@_must("checkpoints and artifacts", "the run's folder is one that can be written to, or can be made")
def _folder(scene: Scene) -> Faults:
    there = next(path for path in (scene.job.out, *scene.job.out.parents) if path.exists())
    if not there.is_dir():
        yield f"{there} is no folder"
    elif not os.access(there, os.W_OK):
        yield f"{there} cannot be written to"


def _tensors(batch: Mapping[str, Any], device: torch.device) -> dict[str, torch.Tensor]:
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
