"""One side of `benchmarks.gpu`, in a process of its own: trains, and writes down what that took.

`python -m benchmarks.gpu_side ORDER.json MEASURED.json` is what `benchmarks.gpu` starts; the first says what to do.
"""

import dataclasses
import importlib
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import tokenizers
import torch
import transformers
from tokenizers import models
from transformers.trainer_utils import SaveStrategy

from benchmarks.gpu import MODELS, OURS, TRL_APART, Measured, Order, floating_point_operations, peak_of
from trainers import batches, causal
from trainers.adapters import adapt
from trainers.loading import load
from trainers.loop import Job, arguments
from trainers.reading import parse
from trainers.run import prepare
from trainers.spec import RunSpec

__all__ = ["Clock", "main", "run"]

_NAMES = ["<unk>", "<pad>", "<eos>"]


def main() -> None:
    """Do what the order says, and write down what it took."""
    asked, told = map(Path, sys.argv[1:])
    order = msgspec.json.decode(asked.read_bytes(), type=Order)
    told.write_bytes(msgspec.json.encode(run(order)))


def run(order: Order) -> list[Measured]:
    """Train as one side does, and say what each stage took."""
    transformers.logging.disable_progress_bar()
    spec = _spec(order)
    _weights(order, Path(order.folder) / "model")
    job = prepare(spec)
    if order.side == OURS:
        trainer: Any = causal.trainer(job)
        waited: Callable[[], float] = lambda: trainer.waited  # noqa: E731  there is nothing else to it
    else:
        trainer, waited = _by_trl(job, apart=order.side == TRL_APART)
    trainer.args.save_strategy = SaveStrategy.NO
    trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
    if order.compiled:
        trainer.model.compile()
    clock = Clock(job, order.warm, waited)
    trainer.add_callback(clock)
    trainer.train()
    return [_measured(order, job, trainer, clock, number) for number in range(len(job.plan.stages))]


class Clock(transformers.TrainerCallback):
    """Looks at the time where what is measured of a stage begins and ends, with the device's work done."""

    def __init__(self, job: Job, warm: int, waited: Callable[[], float]) -> None:
        self._job, self._warm, self._waited = job, warm, waited
        self.begun: list[tuple[float, float]] = []
        self.ended: list[tuple[float, float]] = []
        self.peaks: list[int] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **_others: Any) -> None:  # noqa: ARG002  as asked
        """No step is done."""
        self._begin(0, args.device)

    def on_step_end(self, args: Any, state: Any, control: Any, **_others: Any) -> None:  # noqa: ARG002  as asked
        """A step is done: it may be the last of its stage, and the next one the first that is measured."""
        laid = self._job.plan.stage_at(state.global_step - 1)
        if state.global_step == laid.first + laid.steps:
            self.ended.append(self._now(args.device))
            self.peaks.append(_peak(args.device))
        if state.global_step < self._job.plan.steps:
            self._begin(state.global_step, args.device)

    def _begin(self, step: int, device: torch.device) -> None:
        if step == self._job.plan.stage_at(step).first + self._warm:
            self.begun.append(self._now(device))
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()

    def _now(self, device: torch.device) -> tuple[float, float]:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter(), self._waited()


def _measured(order: Order, job: Job, trainer: Any, clock: Clock, number: int) -> Measured:
    laid = job.plan.stages[number]
    assert laid.stage.length is not None
    steps = range(laid.first + order.warm, laid.first + laid.steps)
    (since, waited_before), (until, waited_after) = clock.begun[number], clock.ended[number]
    seconds, tokens = until - since, len(steps) * laid.stage.rows * laid.stage.length
    field, device = job.shards.fields[causal.FIELD], _device()
    trained = sum(batches.trained_tokens(batches.packed(laid, job.plan.rows(step), field, job.pad)) for step in steps)
    operations, peak = _operations(order, trainer.model, laid.stage.length), peak_of(device)
    return Measured(
        case=order.case.name,
        side=order.side,
        length=laid.stage.length,
        seconds=seconds,
        tokens_per_second=tokens / seconds,
        trained_per_second=trained / seconds,
        wait=(waited_after - waited_before) / seconds,
        peak=clock.peaks[number],
        loss=[line["loss"] for line in trainer.state.log_history if "loss" in line][laid.first + laid.steps - 1],
        device=device,
        mfu=None if peak is None else tokens / seconds * operations / peak,
    )


def _operations(order: Order, model: torch.nn.Module, length: int) -> float:
    """Floating-point operations that a token takes."""
    embedded: Any = model.get_input_embeddings()  # type: ignore[operator]  # of both transformers' and PEFT's models
    weights = sum(parameter.numel() for parameter in model.parameters()) - embedded.weight.numel()
    adapters = sum(parameter.numel() for name, parameter in model.named_parameters() if "lora_" in name)
    return floating_point_operations(MODELS[order.case.model], weights, adapters, length)


def _spec(order: Order) -> RunSpec:
    """The settings that all sides share."""
    case, folder = order.case, Path(order.folder)
    said: dict[str, Any] = {
        "method": case.method,
        "out": str(folder / f"out-{order.side}"),
        "data": {"built": str(folder / "shards")},
        "model": {"path": str(folder / "model"), "dtype": "bfloat16", "attention": order.attention},
        "stages": [{"rows": stage.rows, "length": stage.length, "steps": order.steps} for stage in case.stages],
        "optimizer": {"learning_rate": 1e-4, "parts": case.parts},
        "lora": {"r": 16},
    }
    if torch.cuda.is_available():
        said["optimizer"]["name"] = "adamw_torch_fused"
    if case.method != "lora":
        del said["lora"]
    return parse(said, "benchmarks.gpu", folder)


def _weights(order: Order, folder: Path) -> None:
    """Random weights and a tokenizer, written once for all sides of a case."""
    if (folder / "config.json").exists():
        return
    auto: Any = transformers.AutoModelForCausalLM
    config = transformers.AutoConfig.for_model(**MODELS[order.case.model])
    transformers.set_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = auto.from_config(config, dtype=torch.bfloat16)
    words = tokenizers.Tokenizer(models.WordLevel({name: number for number, name in enumerate(_NAMES)}, "<unk>"))
    named = dict(zip(("unk_token", "pad_token", "eos_token"), _NAMES, strict=True))
    fast: Any = transformers.PreTrainedTokenizerFast
    fast(tokenizer_object=words, **named).save_pretrained(folder)
    model.save_pretrained(folder)
    del model
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _by_trl(job: Job, *, apart: bool) -> tuple[Any, Callable[[], float]]:
    """TRL's trainer with the rows of the plan in their order, and what it says of the seconds that it made batches."""
    # Here and not above: where they are not installed, the other side runs all the same.
    datasets, trl = importlib.import_module("datasets"), importlib.import_module("trl")
    datasets.disable_progress_bars()
    model: Any = load(transformers.AutoModelForCausalLM, job.spec.model, seed=0, frozen=job.spec.lora is not None)
    if job.spec.lora is not None:
        transformers.set_seed(0)
        model = adapt(model, job.spec.lora)
    said = arguments(job, padding_free=apart, max_length=None, dataset_kwargs={"skip_prepare_dataset": True})
    if "train_sampling_strategy" in {field.name for field in dataclasses.fields(trl.SFTConfig)}:
        said["train_sampling_strategy"] = "sequential"
    config = trl.SFTConfig(**said | {"gradient_checkpointing": job.spec.model.gradient_checkpointing})
    rows = datasets.Dataset.from_list([row for step in range(job.plan.steps) for row in _rows(job, step)])
    trainer = trl.SFTTrainer(model, config, train_dataset=rows, processing_class=job.tokenizer)
    waits = _Waits(trainer.train_dataset, trainer.data_collator)
    trainer.train_dataset, trainer.data_collator = waits, waits.collate
    return trainer, lambda: waits.seconds


def _rows(job: Job, step: int) -> list[Mapping[str, list[int]]]:
    """The rows of a step as TRL has them, each with the lengths of its documents."""
    made = batches.packed(job.plan.stage_at(step), job.plan.rows(step), job.shards.fields[causal.FIELD], job.pad)
    begins = [np.flatnonzero(positions == 0) for positions in made["position_ids"]]
    lengths = [np.diff([*begin.tolist(), made["input_ids"].shape[1]]).tolist() for begin in begins]
    return [
        {"input_ids": ids.tolist(), "labels": labels.tolist(), "seq_lengths": each}
        for ids, labels, each in zip(made["input_ids"], made["labels"], lengths, strict=True)
    ]


class _Waits:
    """A data set and a collator that count the seconds that they take."""

    def __init__(self, rows: Any, collator: Callable[[Any], Any]) -> None:
        self._rows, self._collator = rows, collator
        self.seconds = 0.0

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, places: list[int]) -> Any:
        return self._counted(self._rows.__getitems__, places)

    def collate(self, rows: Any) -> Any:
        """Rows as a batch."""
        return self._counted(self._collator, rows)

    def _counted(self, function: Callable[[Any], Any], given: Any) -> Any:
        since = time.perf_counter()
        made = function(given)
        self.seconds += time.perf_counter() - since
        return made


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _peak(device: torch.device) -> int:
    """The most memory: of the device, or of this process where there is none."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
