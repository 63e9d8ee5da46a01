"""A run from its settings to its checkpoint: shards, plan, trainer, record, one after the other.

What can be refused is refused before anything is written. The record is there before the first step, and says at the
end how it ended, whatever ended it. A run that was interrupted goes on from its newest whole checkpoint; what it then
gives is what it would have given.

Not here: how a method trains (its own room), and how a record gets into a lake (`receipts`).
"""

import importlib
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import accelerate
import huggingface_hub
import huggingface_hub.errors
import msgspec
import torch
import transformers
from accelerate.utils import broadcast_object_list
from peft import PeftModel

from lake.errors import LakeError, UsageError
from trainers import metrics, record, resuming
from trainers.adapters import prove_gradients, verify_expert_lora
from trainers.loading import load_tokenizer, vocabulary_of
from trainers.loop import Job, parts_of
from trainers.plan import Plan, plan
from trainers.record import Run
from trainers.recorder import Record
from trainers.rendering import refuse_unfit
from trainers.shards import TRAIN, VALIDATION, Shards, opened
from trainers.spec import Model, RunSpec
from trainers.templates import template_in
from trainers.waiting import first

RESULT = "model"

_ROOMS = {
    "pretrain": "causal",
    "sft": "causal",
    "lora": "causal",
    "dpo": "prefer",
    "ipo": "prefer",
    "kto": "kto",
    "reward": "reward",
    "grpo": "grpo",
}
# What of a hub's repository a run can need: never code, and weights in one format alone.
_WANTED = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]

Progress = Callable[[int, int | None], None]


def prepare(
    spec: RunSpec, *, resume: bool | None = False, progress: Progress | None = None, views: str | None = None
) -> Job:
    """All of a run but its model: what it trains on, in which order. Raises LakeError for whatever can be refused.

    `resume` says whether the run's folder has to have a checkpoint, or nothing; with None it may have anything.
    `progress` is told the rows that have become shards. `views` is the digest of the SQL that the lake keeps for an
    older run; without it rows are those of the installed views.
    """
    out = Path(spec.out)
    if resume and resuming.newest(out) is None:
        raise UsageError(f"{out}: there is no whole checkpoint to go on from", "begin again, in another folder")
    if resume is False and out.exists() and any(out.iterdir()):
        raise UsageError(
            f"{out}: there is something here already", "--resume goes on with a run; else name another out"
        )
    _quiet()
    state = accelerate.PartialState(cpu=not torch.cuda.is_available())
    if state.num_processes == 1 and torch.cuda.device_count() > 1:
        raise UsageError(
            f"there are {torch.cuda.device_count()} GPUs, and one process",
            "torchrun --nproc-per-node N -m trainers FILE takes N of them; CUDA_VISIBLE_DEVICES=0 one",
        )
    parts_of(spec, state.num_processes)
    # Resolved first and loaded by what was resolved: what the record names is what was trained.
    spec = msgspec.structs.replace(spec, model=_resolved(spec.model))
    tokenizer = load_tokenizer(spec.model)
    if spec.data.template is not None:
        # It goes with the weights: whoever asks the model writes as it was taught.
        tokenizer.chat_template = template_in(Path(spec.data.template))
    with first():
        splits = shards_of(spec, tokenizer, progress, views)
    return Job(
        spec=spec,
        shards=splits[TRAIN],
        plan=plan_of(spec, splits[TRAIN]),
        tokenizer=tokenizer,
        validation=splits.get(VALIDATION),
        rank=state.process_index,
        processes=state.num_processes,
    )


def train(job: Job, *, resume: bool = False, callbacks: Iterable[Any] = ()) -> Run:
    """Do what was prepared, and return the record. `callbacks` are transformers' own. Raises LakeError."""
    before = resuming.newest(job.out) if resume else None
    with _memory_told():
        trainer = trainer_of(job)
    [run] = broadcast_object_list([record.new_id(job.spec.method)])
    kept: Record | None = None
    try:
        with first():
            kept = _record(job, trainer, run, before)
        reporter = metrics.attach(trainer, job, kept)
        for callback in callbacks:
            trainer.add_callback(callback)
        with _memory_told():
            trainer.train(resume_from_checkpoint=None if before is None else str(before))
        if trainer.is_fsdp_enabled:
            # Shares of weights, as FSDP keeps them by default, are no model that others can load.
            trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
        trainer.save_model(str(job.out / RESULT))
        kept.finish(trainer.state.global_step, model=job.out / RESULT, metrics=reporter.final)
        if job.spec.checkpoints.keep is not None:
            # A run that was killed between a checkpoint and this has left older ones, and has no later one to come.
            kept.keep(job.spec.checkpoints.keep)
    except BaseException as error:
        if kept is not None:
            kept.fail(error, trainer.state.global_step)
        raise
    return kept.run


def trainer_of(job: Job) -> transformers.Trainer:
    """The trainer of the run's method, with its model, ready to train. Raises LakeError."""
    made: transformers.Trainer = importlib.import_module(f"trainers.{_ROOMS[job.spec.method]}").trainer(job)
    if isinstance(model := made.model, PeftModel):
        with made.accelerator.autocast():
            prove_gradients(model, vocabulary_of(model))
    return made


def shards_of(
    spec: RunSpec, tokenizer: Any, progress: Progress | None = None, views: str | None = None
) -> dict[str, Shards]:
    """What a run trains on, by split. Only where they have to be built is a lake needed."""
    if spec.data.built is not None:
        built = opened(spec.data.built)
        if TRAIN not in built:
            raise UsageError(f"data.built: {spec.data.built} is what was held out", "name the folder that it is in")
        for shards in built.values():
            refuse_unfit(shards, spec.method, tokenizer)
        return built
    build = importlib.import_module("trainers.build")  # a machine that trains on built ones has no lake
    found: dict[str, Shards] = build.for_run(spec, tokenizer, progress, views=views)
    return found


def plan_of(spec: RunSpec, shards: Shards) -> Plan:
    """Which rows each step of a run takes."""
    return plan(shards.keys, shards.lengths, spec.stages, spec.seed, whole=spec.method != "pretrain")


@contextmanager
def _memory_told() -> Iterator[None]:
    """Say in a line that a device has too little memory."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise LakeError(
            f"the device has too little memory: {str(error).splitlines()[0]}",
            "raise optimizer.parts, set model.gradient_checkpointing, take shorter rows, or share weights out (FSDP)",
        ) from None


def _record(job: Job, trainer: transformers.Trainer, run: str, before: Path | None) -> Record:
    """The record of a run that begins as `run`, or that goes on from a checkpoint."""
    spec, rank = job.spec, job.rank
    said: dict[str, Any] = {
        "shards": {TRAIN: job.shards} if job.validation is None else {TRAIN: job.shards, VALIDATION: job.validation},
        "plan": job.plan,
        # One process writes the record, and what goes into it.
        "model": _files(spec.model.path or spec.model.config) if rank == 0 else None,
        "tokenizer": _files(spec.model.tokenizer) if rank == 0 else None,
        "device": _device(),
        "world": job.processes,
        "rank": rank,
    }
    if before is not None:
        return Record.resume(spec.out, spec, step=int(before.name.rpartition("-")[2]), **said)
    adapter, apart = _adapter(spec, trainer), getattr(trainer, "apart", None)
    return Record.begin(spec.out, spec, adapter=adapter, apart=apart, run=run, **said)


def _adapter(spec: RunSpec, trainer: transformers.Trainer) -> dict[str, Any] | None:
    """What is adapted, as it is counted in the model."""
    if spec.lora is None:
        return None
    assert isinstance(trainer.model, torch.nn.Module)
    report: dict[str, Any] = msgspec.to_builtins(verify_expert_lora(trainer.model, experts=spec.lora.experts))
    return report


def _files(folder: str | None) -> record.Files | None:
    return None if folder is None else record.files_at(folder)


def _device() -> str:
    device = accelerate.PartialState().device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device.type)


def _resolved(said: Model) -> Model:
    """The same with folders instead of names on the hub. Raises UsageError where there are none."""
    if said.config is not None and not os.path.exists(said.config):
        raise UsageError(f"model.config: there is no {said.config}", "name the config.json of a model")
    changes: dict[str, Any] = {}
    for key in ("path", "tokenizer"):
        named = getattr(said, key)
        if named is None or os.path.isdir(named):
            continue
        if os.path.isabs(named):
            raise UsageError(f"model.{key}: there is no folder {named}", "name one, or a model on the hub")
        revision = said.revision if key == "path" else None
        try:
            changes[key] = huggingface_hub.snapshot_download(named, revision=revision, allow_patterns=_WANTED)
        except (OSError, ValueError, huggingface_hub.errors.HfHubHTTPError) as error:
            what = str(error).strip().splitlines()[0]
            raise UsageError(f"model.{key}: {named}: {what}", "name a folder, or a model that can be fetched") from None
    return msgspec.structs.replace(said, **changes)


def _quiet() -> None:
    """What the libraries remark is not what a run has to say; their warnings are."""
    transformers.utils.logging.set_verbosity_warning()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("torch.distributed").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*pin_memory.*no accelerator.*")
