"""Writes the record of a run while it goes on: before the first step, at each checkpoint, and when it ends.

Not here: what a record says (`record`), and whether a run may go on (`resuming`).
"""

import platform
import shutil
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from lake.errors import UsageError
from trainers import ledger, resuming
from trainers.plan import Plan
from trainers.record import (
    FORMAT,
    NAME,
    TRAINED,
    Checkpoint,
    Files,
    Order,
    Part,
    Run,
    Session,
    State,
    Trained,
    Used,
    checkpoints,
    digest_of,
    encode,
    files_of,
    new_id,
    now,
    read,
    settle,
    trained,
    write_whole,
)
from trainers.shards import Shards
from trainers.surroundings import code_of, launch, versions


class Record:
    """The record of a run that is going on. Only the process of rank 0 writes; the others may call all the same."""

    def __init__(self, out: Path, run: Run, *, writes: bool) -> None:
        self.out = out
        self.run = run
        self._writes = writes
        self._since = time.monotonic()
        # Reading gigabytes back for their sha256 is nothing that the next steps should wait for.
        self._reader = ThreadPoolExecutor(1, "checkpoint") if writes else None
        self._read: list[Future[Checkpoint]] = []

    @classmethod
    def begin(
        cls,
        out: str | Path,
        spec: Any,
        *,
        shards: Mapping[str, Shards],
        plan: Plan,
        model: Files | None = None,
        tokenizer: Files | None = None,
        adapter: Mapping[str, Any] | None = None,
        apart: Mapping[str, Any] | None = None,
        device: str = "cpu",
        world: int = 1,
        rank: int = 0,
        run: str | None = None,
    ) -> "Record":
        """Write down a run before its first step, and the ledger of its plan. Raises UsageError where one is recorded.

        `spec` is the resolved configuration, a struct or a mapping with `method`. `shards` has those that the plan is
        of as `train`, and any others by their use. `run` is the id that it gets, a new one unless given: all processes
        have to agree on it.
        """
        out = Path(out)
        if rank == 0 and (out / NAME).exists():
            raise UsageError(f"{out}: a run is recorded here already", "resume it, or name another folder")
        said = _configuration(spec)
        source = shards["train"].description.made_from
        method = str(said["method"])
        made = Run(
            format=FORMAT,
            run=run or new_id(method),
            method=method,
            state="started",
            snapshot=source.get("snapshot"),
            tables=source.get("tables"),
            dataset=source.get("dataset"),
            policy=source.get("policy"),
            views=source.get("views"),
            shards={name: _used(each) for name, each in shards.items()},
            plan=_order(plan),
            configuration=said,
            configuration_sha256=digest_of(said),
            seeds=dict(_seeds(said)),
            model=model,
            tokenizer=tokenizer,
            template_sha256=source.get("template"),
            adapter=None if adapter is None else dict(adapter),
            apart=None if apart is None else dict(apart),
            sessions=(_session(said, 0, device, world),),
        )
        record = cls(out, made, writes=rank == 0)
        if record._writes:
            out.mkdir(parents=True, exist_ok=True)
            ledger.write(out / ledger.NAME, plan, shards["train"])
        record._write()
        return record

    @classmethod
    def resume(
        cls,
        out: str | Path,
        spec: Any,
        *,
        shards: Mapping[str, Shards],
        plan: Plan,
        step: int,
        model: Files | None = None,
        tokenizer: Files | None = None,
        device: str = "cpu",
        world: int = 1,
        rank: int = 0,
    ) -> "Record":
        """Go on with a run from the state at `step`.

        Raises UsageError where it would not be the same run: with another method, plan or setting, other shards, or
        other files of the model or the tokenizer than it began with; Damaged where the checkpoint is not as it was
        saved.
        """
        out = Path(out)
        before = read(out)
        said = _configuration(spec)
        resuming.refuse_another(out, before, said, shards=shards, plan=plan, begun=(model, tokenizer))
        if rank == 0:
            resuming.prove(out, before, step)
        made = msgspec.structs.replace(
            before,
            state="started",
            error=None,
            configuration=said,
            configuration_sha256=digest_of(said),
            sessions=(*_ended(before.sessions, step), _session(said, step, device, world)),
            steps=step,
            checkpoints=tuple(one for one in before.checkpoints if one.step <= step),
        )
        record = cls(out, made, writes=rank == 0)
        if record._reader is not None:
            # A run that was killed may not have come to read what it had saved.
            known = {one.folder for one in made.checkpoints}
            for folder in checkpoints(out).values():
                mark = trained(folder)
                if mark is not None and mark.run == before.run and mark.step <= step and folder.name not in known:
                    record._read.append(record._reader.submit(_checkpoint, out, mark.step, folder))
        record._write()
        return record

    @property
    def session(self) -> int:
        """Which session of the run this is, from 1."""
        return len(self.run.sessions)

    def note(self, counters: Mapping[str, int]) -> None:
        """Write down what was counted."""
        self._change(counters={**self.run.counters, **counters})

    def checkpoint(self, step: int, folder: str | Path) -> None:
        """Write down that the state after `step` steps was saved in a folder, and say so in the folder itself.

        The sha256 of its files is in the record by the next checkpoint, or by the end of the run.
        """
        if self._reader is None:
            return
        folder = Path(folder)
        said = Trained(self.run.run, step, self.run.plan.digest)
        for path in folder.rglob("*"):
            settle(path)  # or a machine that goes down could leave the mark, and not what it marks
        write_whole(folder / TRAINED, msgspec.json.encode(said) + b"\n")
        self._come_to_know()
        self._change(steps=max(step, self.run.steps))
        self._read.append(self._reader.submit(_checkpoint, self.out, step, folder))

    def keep(self, count: int) -> None:
        """Take away all but the newest `count` whole checkpoints. What is in the record of the others stays there.

        One that is being taken away is not whole from the first moment on, so that no run goes on from half of one.
        """
        if self._reader is None:
            return
        found = checkpoints(self.out)
        whole = [step for step, folder in found.items() if trained(folder) is not None]
        gone = [folder for step, folder in found.items() if step not in whole[-count:]]
        # All but the newest have been read: `checkpoint` waits for that.
        for folder in gone:
            (folder / TRAINED).unlink(missing_ok=True)
        for folder in gone:
            shutil.rmtree(folder)

    def finish(self, step: int, *, model: str | Path | None = None, metrics: Mapping[str, float] | None = None) -> None:
        """Complete the record after `step` steps: finished where the plan has no more, stopped where it has.

        `model` is the folder that the result was saved in, if it was.
        """
        if model is not None:
            self.checkpoint(step, model)
        self._come_to_know()
        self._end(
            step,
            state="finished" if step >= self.run.plan.steps else "stopped",
            metrics={**self.run.metrics, **(metrics or {})},
        )

    def fail(self, error: BaseException, step: int | None = None) -> None:
        """Complete the record of a run that an error ended, after `step` steps if that is known.

        Whoever interrupts a run stops it, which is no failure. A run that goes on has the steps that it has had, also
        where it ends before it has loaded them.
        """
        state: State = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
        said = f"{type(error).__name__}: {error}".removesuffix(": ")
        while self._read:
            with suppress(OSError):  # what ended the run is to be written down all the same
                self._come_to_know()
        self._end(max(step or 0, self.run.steps), state=state, error=said)

    def _end(self, step: int, **changes: Any) -> None:
        last = msgspec.structs.replace(
            self.run.sessions[-1],
            last_step=step,
            ended_at=now(),
            seconds=round(time.monotonic() - self._since, 3),
        )
        self._change(steps=step, sessions=(*self.run.sessions[:-1], last), **changes)

    def _come_to_know(self) -> None:
        """Take in the checkpoints that were being read; of two in one folder the newer one.

        Raises OSError for the first that cannot be read, which is not asked for again.
        """
        found = {one.folder: one for one in self.run.checkpoints}
        while self._read:
            wait(self._read[:1])  # whoever interrupts this finds it where it was
            read_back = self._read.pop(0).result()
            found[read_back.folder] = read_back
            self.run = msgspec.structs.replace(self.run, checkpoints=tuple(found.values()))

    def _change(self, **changes: Any) -> None:
        self.run = msgspec.structs.replace(self.run, **changes)
        self._write()

    def _write(self) -> None:
        if self._writes:
            write_whole(self.out / NAME, encode(self.run))


def _checkpoint(out: Path, step: int, folder: Path) -> Checkpoint:
    named = folder.relative_to(out) if folder.is_relative_to(out) else folder.absolute()
    try:
        files = files_of(folder)
    except FileNotFoundError:
        files = {}  # it has been taken away for a newer one
    return Checkpoint(step=step, folder=named.as_posix(), files=files)


def _session(said: Mapping[str, Any], step: int, device: str, world: int) -> Session:
    return Session(
        began_at=now(),
        first_step=step,
        configuration_sha256=digest_of(said),
        python=platform.python_version(),
        platform=platform.platform(),
        device=device,
        world=world,
        versions=versions(),
        launch=launch(),
        code=code_of(),
    )


def _ended(sessions: tuple[Session, ...], step: int) -> tuple[Session, ...]:
    """Sessions that are over: one that was killed said no more than that it began, and came at least this far."""
    return tuple(
        msgspec.structs.replace(one, last_step=max(step, one.first_step)) if one.last_step is None else one
        for one in sessions
    )


def _seeds(said: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, int]]:
    for key, value in said.items():
        if isinstance(value, Mapping):
            yield from _seeds(value, f"{where}{key}.")
        elif key.endswith("seed"):
            yield f"{where}{key}", value


def _configuration(spec: Any) -> dict[str, Any]:
    said = msgspec.to_builtins(spec)
    assert isinstance(said, dict)
    return said


def _used(shards: Shards) -> Used:
    said = shards.description
    return Used(
        key=said.key,
        made_from=said.made_from,
        rows=said.rows,
        tokens=said.tokens,
        trained=said.trained,
        counts=said.counts,
    )


def _order(plan: Plan) -> Order:
    parts = []
    for laid in plan.stages:
        length, tokens = laid.stage.length, int(laid.lengths.sum())
        parts.append(
            Part(
                rows=laid.stage.rows,
                length=length,
                first=laid.first,
                steps=laid.steps,
                repeated=laid.repeated,
                skipped=laid.skipped,
                tokens=tokens,
                fill=None if length is None else tokens / (laid.count * length),
            )
        )
    return Order(digest=plan.digest, seed=plan.seed, steps=plan.steps, stages=tuple(parts))
