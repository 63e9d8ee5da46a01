"""Tells how a run goes while it goes: a line of `metrics.jsonl` a report, a line on the terminal, a record of each
checkpoint. A loss that is no number ends the run.

Before a checkpoint there is always a line, so that no state is kept whose loss nobody has looked at, and so that a run
that goes on from there reports the same steps together as one that was never interrupted.

Not here: what a line is (`curves`), and what the record holds (`record`).
"""

# ruff: noqa: ARG002  transformers calls every event with the same arguments

import math
import shutil
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import transformers
from accelerate import PartialState
from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from lake.errors import LakeError
from trainers import curves, ledger
from trainers.curves import Curve, Point, finite
from trainers.loop import Job
from trainers.recorder import Record
from trainers.waiting import first

_SHOWN_EVERY = 0.25  # seconds
_SHOWN_AFTER = 1.0
# What the libraries report that is said better here, or that counts the plan as one epoch.
_LEFT_OUT = frozenset({"loss", "learning_rate", "grad_norm", "epoch", "step", "total_flos", "num_tokens"})
_EVALUATION = "eval_"
_TIMINGS = ("runtime", "samples_per_second", "steps_per_second")


class Diverged(LakeError):
    """A loss or a gradient is no number: nothing that the run does from there on means anything."""


def attach(trainer: transformers.Trainer, job: Job, record: Record) -> "Reporter":
    """Let a trainer report into a run's folder, instead of printing its own dictionaries and bars."""
    # Of answers that are still to be made, only the trainer knows how many tokens they have; nothing waits for them.
    known = set(job.shards.fields) != {"prompt"}
    waited = (lambda: float(trainer.waited)) if known and hasattr(trainer, "waited") else None
    counted = (lambda step: ledger.tokens_at(job.plan, job.shards, step)) if known else None
    reporter = Reporter(record, counted, waited, job.spec.checkpoints.keep)
    for shown in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(shown)
    trainer.add_callback(reporter)
    return reporter


class Reporter(TrainerCallback):
    """Reports a run. `counted` gives the tokens of a step and those trained on, `waited` the seconds waited so far.

    Without `counted`, tokens are what the trainer itself has counted; without `waited` nothing is said of waiting.
    `keep` is how many checkpoints stay, None for all.
    """

    def __init__(
        self,
        record: Record,
        counted: Callable[[int], tuple[int, int]] | None,
        waited: Callable[[], float] | None = None,
        keep: int | None = None,
    ) -> None:
        self.last: Point | None = None
        self._record = record
        self._counted = counted
        self._waited = waited
        self._keep = keep
        self._curve = Curve(record.out)
        self._line = _Line(record.run.method, record.run.plan.steps)
        self._tokens = self._trained = 0
        self._seen = 0
        self._before = 0.0
        self._since = self._mark = 0.0
        self._paused = 0.0

    @property
    def final(self) -> dict[str, float]:
        """Where the run stands: its last losses, what the method measures by itself, the speed of all its sessions."""
        points = curves.read(self._record.out)
        trained = [one for one in points if one.what == "training" and one.seconds and one.tokens]
        seconds, tokens = (sum(getattr(one, name) for one in trained) for name in ("seconds", "tokens"))
        said = {
            "loss": next((one.loss for one in reversed(points) if one.what == "training"), None),
            "evaluation_loss": next((one.loss for one in reversed(points) if one.what == "evaluation"), None),
            "tokens_per_second": round(tokens / seconds, 1) if seconds else None,
        }
        more = {} if self.last is None else self.last.more
        return {**{name: value for name, value in said.items() if value is not None}, **more}

    @property
    def counters(self) -> dict[str, int]:
        """The tokens of all sessions of the run, and those of them that the loss has counted, where these are known."""
        points = [one for one in curves.read(self._record.out) if one.what == "training"]
        sums = {name: [getattr(one, name) for one in points] for name in ("tokens", "trained_tokens")}
        return {name: sum(counts) for name, counts in sums.items() if counts and None not in counts}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Cut what a run that goes on will report again, and start the clock."""
        if state.is_world_process_zero:
            self._curve.cut(state.global_step)
        self._line.begin(state.global_step)
        self._begin(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Count the step; one that will be saved is reported first."""
        if self._counted is not None and state.is_world_process_zero:
            tokens, trained = self._counted(state.global_step - 1)
            self._tokens += tokens
            self._trained += trained
        if control.should_save:
            control.should_log = True
        self._mark = time.perf_counter()
        if state.is_world_process_zero:
            self._line.show(state.global_step, self.last)
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Write down what the trainer measured. Raises Diverged where the loss or the gradient is no number."""
        logs = logs or {}
        if any(name.startswith(_EVALUATION) for name in logs):
            self._write(state, control, self._evaluated(state, logs))
        elif "loss" in logs:
            point = self._measured(state, logs)
            self._check(state.global_step, "loss", logs["loss"])
            self._check(state.global_step, "norm of the gradient", logs.get("grad_norm", 0.0))
            self.last = point
            self._write(state, control, point)
            self._begin(state)

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Leave the time of an evaluation out."""
        self._pause()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write the checkpoint into the record once every process has saved its part, and leave its time out.

        Only then are older ones taken away.
        """
        PartialState().wait_for_everyone()
        with first():
            self._record.checkpoint(state.global_step, Path(args.output_dir) / f"checkpoint-{state.global_step}")
            if self._keep is not None:
                self._record.keep(self._keep)
        self._pause()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take the line off the terminal, and write down how many tokens there were."""
        self._line.clear()
        if state.is_world_process_zero:
            self._record.note(self.counters)

    def _begin(self, state: Any) -> None:
        self._tokens = self._trained = 0
        self._seen = state.num_input_tokens_seen
        self._before = self._waited() if self._waited is not None else 0.0
        self._since = self._mark = time.perf_counter()
        self._paused = 0.0

    def _pause(self) -> None:
        now = time.perf_counter()
        self._paused += now - self._mark
        self._mark = now

    def _measured(self, state: Any, logs: dict[str, Any]) -> Point:
        now = time.perf_counter()
        seconds = now - self._since - self._paused
        tokens = self._tokens if self._counted is not None else state.num_input_tokens_seen - self._seen
        waited = None if self._waited is None else (self._waited() - self._before) / seconds
        return Point(
            step=state.global_step,
            at=_now(),
            session=self._record.session,
            loss=logs["loss"],
            learning_rate=logs.get("learning_rate"),
            grad_norm=logs.get("grad_norm"),
            seconds=round(seconds, 6),
            tokens=tokens or None,
            trained_tokens=self._trained if self._counted is not None else None,
            tokens_per_second=round(tokens / seconds, 1) if tokens else None,
            data_wait=None if waited is None else round(min(waited, 1.0), 6),
            more={name: value for name, value in logs.items() if name not in _LEFT_OUT and finite(value)},
        )

    def _evaluated(self, state: Any, logs: dict[str, Any]) -> Point:
        said = {name.removeprefix(_EVALUATION): value for name, value in logs.items() if finite(value)}
        more = {name: value for name, value in said.items() if name not in {*_LEFT_OUT, *_TIMINGS}}
        seconds = said.get("runtime")
        return Point(
            step=state.global_step,
            what="evaluation",
            at=_now(),
            session=self._record.session,
            loss=said.get("loss"),
            seconds=seconds,
            more=more,
        )

    def _write(self, state: Any, control: Any, point: Point) -> None:
        if state.is_world_process_zero:
            self._curve.add(point, durably=control.should_save)
            self._mark = time.perf_counter()

    def _check(self, step: int, what: str, value: Any) -> None:
        if not math.isfinite(value):
            self._line.clear()
            raise Diverged(
                f"step {step}: the {what} is {value}",
                "lower learning_rate or max_grad_norm, or begin with more warmup_steps; then resume a checkpoint",
            )


class _Line:
    """How far the run has come, on stderr if that is a terminal: rate, loss, and how long yet."""

    def __init__(self, what: str, steps: int) -> None:
        self._what = what
        self._steps = steps
        self._first = 0
        self._since = self._shown = 0.0
        self._is_there = False

    def begin(self, step: int) -> None:
        """Say at which step the clock starts."""
        self._first = step
        self._since = self._shown = time.monotonic()

    def show(self, step: int, last: Point | None) -> None:
        """Say that so many steps are done."""
        now = time.monotonic()
        if not sys.stderr.isatty() or now - self._since < _SHOWN_AFTER or now - self._shown < _SHOWN_EVERY:
            return
        self._shown = now
        text = told(self._what, step, self._steps, (step - self._first) / (now - self._since), last)
        self._write(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}")
        self._is_there = True

    def clear(self) -> None:
        """Leave the terminal as it was."""
        if self._is_there:
            self._write("\r\x1b[K")
            self._is_there = False

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


def told(what: str, step: int, steps: int, rate: float, last: Point | None) -> str:
    """A line about a run of so many steps a second."""
    parts = [f"{what}  {step:,} of {steps:,} steps", f"{rate:,.1f} steps/s" if rate >= 1 else f"{1 / rate:,.1f} s/step"]
    if last is not None and last.tokens_per_second is not None:
        parts.append(f"{last.tokens_per_second:,.0f} tokens/s")
    if last is not None and last.loss is not None:
        parts.append(f"loss {last.loss:.4g}")
    left = int((steps - step) / rate)
    parts.append(f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left")
    return ", ".join(parts)


def _now() -> datetime:
    return datetime.now(UTC)
