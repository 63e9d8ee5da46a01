"""Next-token prediction on packed rows: pre-training, supervised fine-tuning, and adapters.

Documents that share a row never see each other: the model is made to look at where they begin, and shown to do so,
before the first step. The loss is the mean over all trained tokens of a step, whichever process has them.

Not here: which rows a step takes (`plan`), which tokens count (`shards`), and where adapters go (`adapters`).
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec
import transformers
from peft import PeftModel

from lake.errors import UsageError
from trainers import batches, guards
from trainers.adapters import adapt
from trainers.loading import load, refuse_foreign_ids, vocabulary_of
from trainers.loop import FromPlan, HeldOut, Job, arguments
from trainers.order import Places
from trainers.plan import Laid, Stage
from trainers.shards import Shards

FIELD = "text"


class Packed(FromPlan, transformers.Trainer):
    """A trainer of packed rows. `apart` says how their documents are kept apart, and what the probe saw of it."""

    apart: Mapping[str, Any]


def trainer(job: Job) -> transformers.Trainer:
    """A trainer of packed rows, ready to train. Raises LakeError where a model cannot keep documents apart."""
    spec = job.spec
    model: transformers.PreTrainedModel | PeftModel
    model = load(transformers.AutoModelForCausalLM, spec.model, seed=spec.seed, frozen=spec.lora is not None)
    # A configuration that TRL has saved may ask for a mixture's own loss, which no accumulation of parts adds up.
    if getattr(model.config, "output_router_logits", False):
        model.config.output_router_logits = False
    refuse_foreign_ids(job.splits, model)
    for step in batches.unlearned(job.plan, job.shards.fields[FIELD]):
        raise UsageError(
            f"{job.shards.folder}: step {step + 1} would have no token to learn, and a loss that is no number",
            "let a step have more rows, or leave out what has nothing to learn (data.overlong)",
        )
    longest = max(stage.length or 0 for stage in spec.stages)
    room = getattr(model.config, "max_position_embeddings", None)
    if room is not None and longest > room:
        raise UsageError(f"stages: rows of {longest} tokens, and the model has {room} positions", "take shorter rows")
    if spec.lora is not None:
        transformers.set_seed(spec.seed)
        model = adapt(model, spec.lora)
    guarded = guards.guard(model)
    made = Packed(
        model,
        transformers.TrainingArguments(**arguments(job, prediction_loss_only=True)),
        eval_dataset=_held_out(job),
        processing_class=job.tokenizer,
        job=job,
        make=partial(batch, job.shards, job.pad),
    )
    with made.accelerator.autocast():
        probed = guards.probe(model, vocabulary_of(model))
    made.apart = {**msgspec.to_builtins(guarded), **msgspec.to_builtins(probed)}
    return made


def batch(shards: Shards, pad: int, laid: Laid, rows: Places) -> dict[str, batches.Array]:
    """The arrays of packed rows."""
    return batches.packed(laid, rows, shards.fields[FIELD], pad)


def _held_out(job: Job) -> HeldOut | None:
    if job.validation is None:
        return None
    stage = Stage(rows=job.spec.evaluation.rows, length=job.spec.stages[-1].length)
    lengths = job.validation.fields[FIELD].lengths
    make = partial(batch, job.validation, job.pad)
    whole = job.spec.method != "pretrain"
    return HeldOut(job.validation, lengths, stage, make, whole=whole, weigh=batches.trained_tokens)
