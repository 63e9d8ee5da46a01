"""Prompts and answers to them: rows as arrays, and what all trainers of preferences have in common.

Rows reach a model as the shards hold them: text is not tokenised again, nothing merges where an answer follows its
prompt, nothing is cut. What cannot be learned from as it is, is refused before the first step.

A reference is the policy as it is before the first step: a copy in memory or, where adapters are trained, the weights
without them. It is never loaded by the name that a model's config happens to have. A run that goes on makes it anew
from the weights that the run began with.

Not here: the losses, each of which is in the room of its method.
"""

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import datasets
import numpy as np
import transformers
from torch import nn

from exporters.packing import IGNORED
from lake.errors import UsageError
from trainers import batches
from trainers.adapters import adapt
from trainers.loading import load, refuse_foreign_ids
from trainers.loop import FromPlan, HeldOut, Job, Make, arguments
from trainers.order import Places
from trainers.plan import Laid, Stage
from trainers.shards import Shards

PROMPT, CHOSEN, REJECTED = "prompt", "chosen", "rejected"
PAIR = (CHOSEN, REJECTED)


class AsTheyAre(FromPlan):
    """Keeps a TRL trainer from making rows anew, from writing a card about itself, and from telling anyone of a run."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: what a run was is in its record."""

    def _send_telemetry(self) -> None:
        pass


def paired(shards: Shards, pad: int, laid: Laid, rows: Places) -> dict[str, batches.Array]:
    """The preferred answers to the prompts of some rows, then the others, int64 of shape (2 rows, longest of them).

    `input_ids`, `attention_mask` and `labels`, which are the ids of what is trained on.
    """
    prompt = shards.fields[PROMPT]
    halves = [batches.padded(laid.document[rows], (prompt, shards.fields[name]), pad) for name in PAIR]
    filling = {"input_ids": pad, "attention_mask": 0, "labels": IGNORED}
    width = max(half["input_ids"].shape[1] for half in halves)

    def widened(array: batches.Array, fill: int) -> batches.Array:
        return np.pad(array, ((0, 0), (0, width - array.shape[1])), constant_values=fill)

    return {name: np.concatenate([widened(half[name], fill) for half in halves]) for name, fill in filling.items()}


def masked(batch: dict[str, batches.Array]) -> dict[str, batches.Array]:
    """The same with `completion_mask`, 1 where a token is trained on, in place of `labels`."""
    mask = (batch["labels"] != IGNORED).astype(np.int64)
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "completion_mask": mask}


def load_policy(job: Job) -> Any:
    """The model that is trained, with adapters where the settings ask for some."""
    model = load(
        transformers.AutoModelForCausalLM, job.spec.model, seed=job.spec.seed, frozen=job.spec.lora is not None
    )
    refuse_foreign_ids(job.splits, model)
    return adapted(job, model)


def adapted(job: Job, model: Any) -> Any:
    """A model without dropout, with adapters where the settings ask for some. Raises UsageError."""
    lora = job.spec.lora
    if lora is not None and lora.dropout:
        raise UsageError(f"lora.dropout: {job.spec.method} is trained without dropout", "leave it out")
    without_dropout(model)
    if lora is None:
        return model
    transformers.set_seed(job.spec.seed)
    return adapt(model, lora)


def without_dropout(model: nn.Module) -> None:
    """Take all chance out of a model, so that it says the same of a row each time.

    TRL sees to the modules of that name. Attention and others keep theirs as a number and drop out by themselves, and
    so do routers with their noise.
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in list(vars(module).items()):
            if ("drop" in name or "jitter" in name) and isinstance(value, float):
                setattr(module, name, 0.0)


def reference(job: Job, policy: Any) -> Any:
    """A copy of the policy as it is now; None where that is the policy without its adapters."""
    return copy.deepcopy(policy) if job.spec.lora is None else None


def without_second_adapter(model: Any) -> None:
    """Take away the copy of a new adapter that TRL keeps for a reference.

    A new adapter adds nothing, so that the weights without any are the same, and checkpoints have one adapter.
    """
    if "ref" in getattr(model, "peft_config", {}):
        model.delete_adapter("ref")


def arguments_of(job: Job) -> dict[str, Any]:
    """What the arguments of all preference trainers say beyond the common ones."""
    # TRL calls what a model has of this by its old names.
    warnings.filterwarnings("ignore", "`(is_)?gradient_checkpointing(_enable|_disable)?` is deprecated", FutureWarning)
    return arguments(job, max_length=None, disable_dropout=True, prediction_loss_only=True)


def held_out(job: Job, answers: Sequence[str], made: Callable[[Shards, int], Make]) -> HeldOut | None:
    """What was held out, as `made` makes it of shards and a padding id. None where nothing was."""
    shards = job.validation
    if shards is None:
        return None
    stage = Stage(rows=job.spec.evaluation.rows)
    return HeldOut(shards, lengths(shards, answers), stage, made(shards, job.pad))


def placeholder() -> datasets.Dataset:
    """A dataset of one row that nobody trains on: TRL wants to look at one before it begins."""
    return datasets.Dataset.from_list([{"prompt": "", "label": True}])


def lengths(shards: Shards, answers: Sequence[str]) -> Places:
    """How many tokens each row has at most: its prompt and the longest of its answers, int64."""
    longest = np.max([shards.fields[name].lengths for name in answers], axis=0)
    return np.asarray(shards.fields[PROMPT].lengths + longest, np.int64)


def refuse_unfit(job: Job, model: Any, answers: Sequence[str]) -> None:
    """Raises UsageError where a row cannot be learned from as it is, or the model has no room for it."""
    room = getattr(model.config, "max_position_embeddings", None)
    for shards in job.splits:
        prompt, longest = shards.fields[PROMPT], lengths(shards, answers)
        _refuse(shards, prompt.lengths == 0, "has no prompt", "an answer's first token needs one before it")
        _refuse(shards, prompt.counted > 0, "would be trained to say its prompt", "build the shards again")
        for name in answers:
            what = f"has no token in {name} that a loss counts"
            _refuse(shards, shards.fields[name].counted == 0, what, "look for an empty answer in the export")
        if room is not None:
            what = f"is longer than the {room} positions of the model"
            _refuse(shards, longest > room, what, f"say longest = {room} and an overlong policy in [data]")


def _refuse(shards: Shards, bad: Any, what: str, hint: str) -> None:
    places = np.flatnonzero(bad)
    if len(places):
        name = shards.rows(["id"]).column("id")[int(places[0])].as_py()
        others = f" (and {len(places) - 1} others)" if len(places) > 1 else ""
        raise UsageError(f"{shards.folder}: row {name}{others} {what}", hint)
