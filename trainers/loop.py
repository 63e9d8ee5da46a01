"""What connects a plan to a trainer of transformers or TRL: its batches and its arguments.

The loop, the optimizer, checkpoints and distribution are the library's. A trainer that mixes in `FromPlan` takes what
the plan says for its process: a step's micro-batches are the same whatever the number of processes, and a run that goes
on begins at the step of its checkpoint without reading what came before.

Not here: what a batch holds (the method's room), the weights that a run begins with (`loading`), and what becomes of a
run (`run`).
"""

import dataclasses
import difflib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch.utils.data import DataLoader, IterableDataset
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from lake.errors import UsageError
from trainers.batches import Array
from trainers.order import Places
from trainers.plan import Laid, Plan, Stage, plan
from trainers.shards import Shards
from trainers.spec import RunSpec

_AHEAD = 4  # batches that are ready before they are asked for, where there is a device to wait for

# What transformers 5.23 calls otherwise than 5.17 did.
_CHECKPOINTING = next(
    name
    for name in ("activation_checkpointing", "gradient_checkpointing")
    if name in {field.name for field in dataclasses.fields(transformers.TrainingArguments)}
)

Arrays = Mapping[str, Array]
Make = Callable[[Laid, Places], Arrays]
"""What a method makes of the rows of a stage: arrays by name, the first dimension being rows."""


@dataclass(frozen=True)
class Job:
    """A run that is about to begin: what was asked for, what it is trained on, in which order, and by how many.

    `processes` take part, and this is number `rank`. `validation` are the shards of what was held out, if any was.
    """

    spec: RunSpec
    shards: Shards
    plan: Plan
    tokenizer: transformers.PreTrainedTokenizerBase
    validation: Shards | None = None
    rank: int = 0
    processes: int = 1

    @property
    def out(self) -> Path:
        """The run's folder."""
        return Path(self.spec.out)

    @property
    def splits(self) -> tuple[Shards, ...]:
        """The shards that it is trained on, and those of what was held out, if any was: the model has to take both."""
        return (self.shards,) if self.validation is None else (self.shards, self.validation)

    @property
    def pad(self) -> int:
        """The id that fills up a row. No loss counts it, so the end of a text will do where there is none."""
        for token in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if token is not None:
                return int(token)
        raise UsageError("the tokenizer has neither a padding token nor an end of text", "name one in its config")

    @property
    def parts(self) -> int:
        """How many of a step's micro-batches each process takes."""
        return parts_of(self.spec, self.processes)

    def rows(self, step: int, part: int) -> Places:
        """The rows that this process takes as its `part` of a step."""
        return self.plan.rows(step, part, self.parts, self.rank, self.processes)


def parts_of(spec: RunSpec, processes: int) -> int:
    """How many of a step's micro-batches each process takes. Raises UsageError where they cannot be shared out."""
    each, rest = divmod(spec.optimizer.parts, processes)
    if rest:
        raise UsageError(
            f"optimizer.parts: {spec.optimizer.parts} parts cannot be shared by {processes} processes",
            f"let parts be a multiple of {processes}: the numbers of a run do not depend on how many share it",
        )
    return each


class FromPlan:
    """Mixed into a transformers Trainer, makes it take its batches from the plan of a job.

    `waited` counts the seconds that steps have waited for batches.
    """

    job: Job
    make: Make
    state: Any
    args: Any
    model: Any
    eval_dataset: Any
    waited: float = 0.0
    weighed: list[tuple[torch.Tensor, int]]

    def __init__(self, *args: Any, job: Job, make: Make, **kwargs: Any) -> None:
        self.job, self.make = job, make
        super().__init__(*args, **kwargs)

    def get_train_dataloader(self) -> "DataLoader[Any]":
        """The micro-batches of this process, from the step on that the trainer has reached."""
        return loader(_Parts(self))

    def get_eval_dataloader(self, eval_dataset: Any = None) -> "DataLoader[Any]":
        """What was held out, as `HeldOut` hands it out."""
        return loader(self.eval_dataset if eval_dataset is None else eval_dataset)

    def evaluation_loop(self, dataloader: Any, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> Any:
        """The same, with the mean over all that was held out: of batches, transformers takes the plain one."""
        self.weighed = []
        made: Any = super()
        done = made.evaluation_loop(dataloader, *args, metric_key_prefix=metric_key_prefix, **kwargs)
        if whole := sum(weight for _, weight in self.weighed):
            loss = sum(float(loss) * weight for loss, weight in self.weighed if weight) / whole
            done.metrics[f"{metric_key_prefix}_loss"] = loss
        return done

    def prediction_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The loss of a batch that was held out, which is remembered with what it weighs."""
        made: Any = super()
        loss, *others = made.prediction_step(model, inputs, *args, **kwargs)
        if loss is not None:
            self.weighed.append((loss.detach(), self.weight(inputs)))
        return loss, *others

    def weight(self, inputs: Any) -> int:
        """Over how much the loss of a batch that was held out is a mean: over examples, unless something else is said.

        It is asked once the loss is known.
        """
        return self.eval_dataset.weigh(inputs)

    def _issue_warnings_after_load(self, loaded: Any) -> None:
        """Say nothing of weights that a checkpoint does not repeat, because they are others by another name."""
        above: Any = super()
        missing = [name for name in loaded.missing_keys if name not in self.model.all_tied_weights_keys]
        above._issue_warnings_after_load(loaded._replace(missing_keys=missing))  # noqa: SLF001  its one hook for this

    def stream(self) -> Iterator[dict[str, torch.Tensor]]:
        """The same as an iterator of tensors, worked out ahead where a device is there to wait for."""
        made = self._made()
        if self.args.device.type != "cpu":
            made = _ahead(made)
        while True:
            since = time.perf_counter()
            batch = next(made, None)
            self.waited += time.perf_counter() - since
            if batch is None:
                return
            yield batch

    def _made(self) -> Iterator[dict[str, torch.Tensor]]:
        for step in range(self.state.global_step, self.job.plan.steps):
            laid = self.job.plan.stage_at(step)
            for part in range(self.job.parts):
                arrays = self.make(laid, self.job.rows(step, part))
                yield {name: torch.from_numpy(array) for name, array in arrays.items()}


class _Parts(IterableDataset[dict[str, torch.Tensor]]):
    """The micro-batches of a process. As long as the whole run: transformers counts steps from the first."""

    def __init__(self, trainer: FromPlan) -> None:
        self._trainer = trainer

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        return self._trainer.stream()

    def __len__(self) -> int:
        job = self._trainer.job
        return job.plan.steps * job.parts


def _examples(batch: Mapping[str, Any]) -> int:
    return len(next(iter(batch.values())))


class HeldOut(IterableDataset[dict[str, torch.Tensor]]):
    """What was held out, once, a few rows at a time, in an order that no seed changes.

    `weigh` says over how much the loss of a batch is a mean: over examples, if nothing else is said. `laid` is how the
    rows are laid out. Raises UsageError where no batch weighs anything, so that no loss would be a number.
    """

    def __init__(
        self,
        shards: Shards,
        lengths: Places,
        stage: Stage,
        make: Make,
        *,
        whole: bool = True,
        weigh: Callable[[Mapping[str, Any]], int] = _examples,
    ) -> None:
        [self.laid] = plan(shards.keys, lengths, [stage], seed=0, whole=whole).stages
        self._make = make
        self.weigh = weigh
        if not any(map(weigh, self)):
            raise UsageError(
                f"{shards.folder}: no token of what was held out is one that a loss counts",
                "hold out more rows (data.val), or none",
            )

    def __len__(self) -> int:
        return self.laid.steps

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        rows = self.laid.stage.rows
        for first in range(0, self.laid.count, rows):
            places = np.arange(first, min(first + rows, self.laid.count), dtype=np.int64)
            yield {name: torch.from_numpy(array) for name, array in self._make(self.laid, places).items()}


def loader(batches: Any) -> "DataLoader[Any]":
    """A loader of batches that are made already.

    One without a generator of its own would draw a number from everybody's as it begins, so that what is drawn after an
    interruption, such as dropout, would be other than without one.
    """
    return DataLoader(batches, batch_size=None, num_workers=0, generator=torch.Generator())


def _ahead(batches: Iterator[dict[str, torch.Tensor]]) -> Iterator[dict[str, torch.Tensor]]:
    """The same batches in pinned memory, made by a thread of their own a few at a time."""
    ready: queue.Queue[dict[str, torch.Tensor] | BaseException | None] = queue.Queue(_AHEAD)

    def work() -> None:
        try:
            for batch in batches:
                ready.put({name: tensor.pin_memory() for name, tensor in batch.items()})
            ready.put(None)
        except BaseException as error:  # noqa: BLE001  whatever it is belongs to the thread that asks
            ready.put(error)

    threading.Thread(target=work, daemon=True).start()
    while (batch := ready.get()) is not None:
        if isinstance(batch, BaseException):
            raise batch
        yield batch


def arguments(job: Job, **others: Any) -> dict[str, Any]:
    """What every trainer's arguments say, for transformers' TrainingArguments and TRL's configurations alike."""
    spec = job.spec
    optimizer, checkpoints = spec.optimizer, spec.checkpoints
    steps = job.plan.steps
    evaluated = job.validation is not None
    _refuse_unknown("optimizer.name", optimizer.name, {one.value for one in OptimizerNames})
    _refuse_unknown("optimizer.schedule", optimizer.schedule, {one.value for one in SchedulerType})
    for tracker in spec.report.to:
        _refuse_unknown("report.to", tracker, INTEGRATION_TO_CALLBACK)
    return {
        "output_dir": spec.out,
        "max_steps": steps,
        "per_device_train_batch_size": spec.stages[0].rows // optimizer.parts,
        "gradient_accumulation_steps": job.parts,
        "learning_rate": optimizer.learning_rate,
        "optim": optimizer.name,
        "weight_decay": optimizer.weight_decay,
        "adam_beta1": optimizer.beta1,
        "adam_beta2": optimizer.beta2,
        "adam_epsilon": optimizer.epsilon,
        "lr_scheduler_type": optimizer.schedule,
        "warmup_steps": optimizer.warmup_steps,
        "max_grad_norm": optimizer.max_grad_norm,
        _CHECKPOINTING: spec.model.gradient_checkpointing,
        "bf16": spec.model.dtype == "bfloat16",
        "seed": spec.seed,
        "data_seed": spec.seed,
        "use_cpu": not torch.cuda.is_available(),
        "save_strategy": "steps",
        "save_steps": min(checkpoints.every or steps, steps),
        # The old ones are taken away once a new one is whole (`recorder`), which transformers does before.
        "save_total_limit": None,
        "eval_strategy": "steps" if evaluated else "no",
        "eval_steps": min(spec.evaluation.every or steps, steps) if evaluated else None,
        "per_device_eval_batch_size": spec.evaluation.rows,
        "logging_strategy": "steps",
        "logging_steps": spec.report.every,
        "logging_first_step": True,
        # A loss that is no number stops the run; it is not replaced by the mean of the ones before.
        "logging_nan_inf_filter": False,
        "report_to": list(spec.report.to) or "none",
        "disable_tqdm": True,
        # The loader begins where it should by itself; nothing is read again to be thrown away.
        "ignore_data_skip": True,
        "remove_unused_columns": False,
        "average_tokens_across_devices": True,
        "ddp_find_unused_parameters": False,
        **others,
    }


def _refuse_unknown(key: str, said: str, known: Iterable[str]) -> None:
    """Raises UsageError where transformers knows no such name."""
    if said not in known:
        near = difflib.get_close_matches(said, sorted(known), 1)
        hint = f"did you mean {near[0]}?" if near else f"the names are {', '.join(sorted(known))}"
        raise UsageError(f"{key}: transformers knows no {said!r}", hint)
