"""The record of a run: what went in, on what it ran, what came of it, in one file beside its checkpoints.

A run's folder has `run.json`, which is there before the first step and completed when the run ends; `ledger.parquet`,
which rows each step takes (`ledger`); `metrics.jsonl`; and `checkpoint-N/`, each with a `trained.json` that names the
run, so that a checkpoint that was copied elsewhere still says what it was trained on. Whatever decides numbers is named
by a sha256: shards, tokenizer, template, the files of the model that training began from, the checkpoints. A run that
is interrupted and goes on has one session more, with the versions and the device of that one.

`state` is `started` until the run ends; a run that was killed still says so. It is `finished` where all steps of the
plan were taken, `stopped` where fewer were, `failed` where an error ended it.

Nothing but msgspec, numpy and pyarrow is needed here: a machine with GPUs has no lake. Not here: what a run runs on
(`surroundings`), and how its record gets into a lake (`receipts`).
"""

import hashlib
import os
import platform
import secrets
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from lake.errors import Damaged, LakeError, UsageError
from trainers import ledger
from trainers.plan import Plan
from trainers.shards import Shards, Stored
from trainers.surroundings import Code, code_of, launch, versions

NAME = "run.json"
TRAINED = "trained.json"
FORMAT = 1

State = Literal["started", "finished", "stopped", "failed"]


class Used(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A shard folder that a run read: all that its description says but its files.

    `counts` says what became of the rows that were offered, `tokens` and `trained` count by field.
    """

    key: str
    made_from: dict[str, Any]
    rows: int
    tokens: dict[str, int]
    trained: dict[str, int]
    counts: dict[str, int]


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A stage of the plan: what was asked for, the step at which it begins and how many it has.

    `repeated` rows fill up its last step, `skipped` ones no step takes. `tokens` are those that its rows hold, and
    `fill` is the share of their places that these are, None where rows have no length of their own.
    """

    rows: int
    length: int | None
    first: int
    steps: int
    repeated: int
    skipped: int
    tokens: int
    fill: float | None


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The plan: the digest of all that decides which row comes when, and what it was made with."""

    digest: str
    seed: int
    steps: int
    stages: tuple[Part, ...]


class Files(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A folder of files that the run began from, each with its size and sha256."""

    path: str
    files: dict[str, Stored]


class Session(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One uninterrupted part of a run, from `first_step` on. `last_step` and `seconds` are None while it goes on."""

    began_at: datetime
    first_step: int
    last_step: int | None = None
    ended_at: datetime | None = None
    seconds: float | None = None
    configuration_sha256: str
    python: str
    platform: str
    device: str
    world: int
    versions: dict[str, str]
    launch: dict[str, str]
    code: Code | None


class Checkpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a step was saved as: a folder within the run's. It has seen the rows of all steps before `step`.

    There are no `files` where it was taken away for a newer one before they had been read.
    """

    step: int
    folder: str
    files: dict[str, Stored]


class Run(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that is known about a run.

    `snapshot`, `tables`, `dataset`, `policy` and `views` are those of the rows that it was trained on, as far as these
    say so. `counters` add up over a run; `metrics` are measurements at its end.
    """

    format: int
    run: str
    method: str
    state: State
    error: str | None = None
    snapshot: str | None
    tables: dict[str, int] | None
    dataset: str | None
    policy: dict[str, Any] | None
    views: str | None
    shards: dict[str, Used]
    plan: Order
    configuration: dict[str, Any]
    configuration_sha256: str
    seeds: dict[str, int]
    model: Files | None
    tokenizer: Files | None
    template_sha256: str | None
    adapter: dict[str, Any] | None
    sessions: tuple[Session, ...]
    steps: int = 0
    counters: dict[str, int] = {}
    metrics: dict[str, float] = {}
    checkpoints: tuple[Checkpoint, ...] = ()

    @property
    def seconds(self) -> float | None:
        """How long it took in all; None where no session of it has come to an end."""
        told = [one.seconds for one in self.sessions if one.seconds is not None]
        return sum(told) if told else None


class Trained(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a checkpoint says of itself: the run, the step that it is the state at, and the digest of the plan."""

    run: str
    step: int
    plan: str


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
        template: str | None = None,
        adapter: Mapping[str, Any] | None = None,
        device: str = "cpu",
        world: int = 1,
        rank: int = 0,
        run: str | None = None,
    ) -> "Record":
        """Write down a run before its first step, and the ledger of its plan. Raises UsageError where one is recorded.

        `spec` is the resolved configuration, a struct or a mapping with `method`. `shards` has those that the plan is
        of as `train`, and any others by their use. `template` is the text of the chat template, by default that which
        the shards name. `run` is the id that it gets, a new one unless given: all processes have to agree on it.
        """
        out = Path(out)
        if (out / NAME).exists():
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
            seeds={name: value for name, value in said.items() if name.endswith("seed") and isinstance(value, int)},
            model=model,
            tokenizer=tokenizer,
            template_sha256=_sha256(template) if template is not None else source.get("template"),
            adapter=None if adapter is None else dict(adapter),
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
        plan: Plan,
        step: int,
        device: str = "cpu",
        world: int = 1,
        rank: int = 0,
    ) -> "Record":
        """Go on with a run from the state at `step`. Raises UsageError if another plan or method is configured now."""
        out = Path(out)
        before = read(out)
        said = _configuration(spec)
        if before.plan.digest != plan.digest:
            raise UsageError(
                f"{out}: its plan is {before.plan.digest[:12]}, and what is configured now gives {plan.digest[:12]}",
                "resume with the data, seed and stages that the run began with, or begin another run",
            )
        if before.method != said["method"]:
            raise UsageError(f"{out}: this is a run of {before.method}, not of {said['method']}", "name another folder")
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
            for folder in sorted(out.glob("checkpoint-*")):
                mark = trained(folder)
                if mark is not None and mark.run == before.run and mark.step <= step and folder.name not in known:
                    record._read.append(record._reader.submit(_checkpoint, out, mark.step, folder))
        record._write()
        return record

    @property
    def session(self) -> int:
        """Which session of the run this is, from 1."""
        return len(self.run.sessions)

    def note(self, *, adapter: Mapping[str, Any] | None = None, counters: Mapping[str, int] | None = None) -> None:
        """Write down what is known only after the beginning: an adapter, counters."""
        self._change(
            adapter=dict(adapter) if adapter is not None else self.run.adapter,
            counters={**self.run.counters, **(counters or {})},
        )

    def checkpoint(self, step: int, folder: str | Path) -> None:
        """Write down that the state after `step` steps was saved in a folder, and say so in the folder itself.

        The sha256 of its files is in the record by the next checkpoint, or by the end of the run.
        """
        if self._reader is None:
            return
        folder = Path(folder)
        said = Trained(self.run.run, step, self.run.plan.digest)
        write_whole(folder / TRAINED, msgspec.json.encode(said) + b"\n")
        self._change(steps=max(step, self.run.steps), checkpoints=self._saved())
        self._read.append(self._reader.submit(_checkpoint, self.out, step, folder))

    def finish(
        self,
        step: int,
        *,
        model: str | Path | None = None,
        metrics: Mapping[str, float] | None = None,
        counters: Mapping[str, int] | None = None,
    ) -> None:
        """Complete the record after `step` steps: finished where the plan has no more, stopped where it has.

        `model` is the folder that the result was saved in, if it was.
        """
        if model is not None:
            self.checkpoint(step, model)
        self._end(
            step,
            state="finished" if step >= self.run.plan.steps else "stopped",
            metrics={**self.run.metrics, **(metrics or {})},
            counters={**self.run.counters, **(counters or {})},
        )

    def fail(self, error: BaseException, step: int | None = None) -> None:
        """Complete the record of a run that an error ended, after `step` steps if that is known.

        Whoever interrupts a run stops it, which is no failure.
        """
        state: State = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
        said = f"{type(error).__name__}: {error}".removesuffix(": ")
        self._end(self.run.steps if step is None else step, state=state, error=said)

    def _end(self, step: int, **changes: Any) -> None:
        last = msgspec.structs.replace(
            self.run.sessions[-1],
            last_step=step,
            ended_at=_now(),
            seconds=round(time.monotonic() - self._since, 3),
        )
        self._change(steps=step, sessions=(*self.run.sessions[:-1], last), checkpoints=self._saved(), **changes)

    def _saved(self) -> tuple[Checkpoint, ...]:
        """The checkpoints, those too that were being read; of two in one folder the newer one."""
        found = {one.folder: one for one in (*self.run.checkpoints, *(each.result() for each in self._read))}
        self._read.clear()
        return tuple(found.values())

    def _change(self, **changes: Any) -> None:
        self.run = msgspec.structs.replace(self.run, **changes)
        self._write()

    def _write(self) -> None:
        if self._writes:
            write_whole(self.out / NAME, encode(self.run))


def read(folder: str | Path) -> Run:
    """The record in a run's folder. Raises LakeError if there is none, Damaged if it is none of ours."""
    path = Path(folder) / NAME
    try:
        return decode(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise LakeError(f"{path}: there is no record of a run here", "name a folder that 'lake train' wrote") from None
    except OSError as error:
        raise LakeError(f"{path}: {error.strerror}", "name a folder that 'lake train' wrote") from None


def trained(folder: str | Path) -> Trained | None:
    """What a checkpoint says of itself; None where the folder says nothing. Raises Damaged."""
    path = Path(folder) / TRAINED
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Trained)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Damaged(f"{path}: {error}", "copy the checkpoint again") from None


def encode(run: Run) -> bytes:
    """A record as it is written: JSON with sorted keys, two spaces deep, one final line feed."""
    return msgspec.json.format(msgspec.json.encode(run, order="sorted"), indent=2) + b"\n"


def decode(data: bytes, called: str) -> Run:
    """The record that `encode` wrote, from what a user calls so. Raises Damaged, and UsageError for a newer one."""
    try:
        run = msgspec.json.decode(data, type=Run)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Damaged(f"{called}: {error}", "was it written by another version?") from None
    if run.format != FORMAT:
        raise UsageError(f"{called}: this record has format {run.format}, and this version reads {FORMAT}")
    return run


def new_id(method: str) -> str:
    """An id for a run that begins now, such as `sft-20260423T184211-3f9a1c0b`."""
    return f"{method}-{_now():%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def digest_of(said: Mapping[str, Any]) -> str:
    """The sha256 of a configuration's canonical JSON."""
    return hashlib.sha256(msgspec.json.encode(dict(said), order="sorted")).hexdigest()


def folder_files(path: str | Path, folder: str | Path) -> Files:
    """What stands in a folder that is loaded from, which was configured as `path`; hash first, then load."""
    return Files(path=str(path), files=files_of(folder))


def files_of(folder: str | Path) -> dict[str, Stored]:
    """Each file of a folder by its path in it, in name order, with its size and sha256."""
    folder = Path(folder)
    found: dict[str, Stored] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as data:
                digest = hashlib.file_digest(data, "sha256").hexdigest()
                found[path.relative_to(folder).as_posix()] = Stored(data.tell(), digest)
    return found


def write_whole(path: Path, data: bytes) -> None:
    """Put bytes under a name at once and durably: whoever reads it sees what was there before, or all of these."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with scratch.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        scratch.unlink(missing_ok=True)


def _checkpoint(out: Path, step: int, folder: Path) -> Checkpoint:
    named = folder.relative_to(out) if folder.is_relative_to(out) else folder.absolute()
    try:
        files = files_of(folder)
    except FileNotFoundError:
        files = {}  # it has been taken away for a newer one
    return Checkpoint(step=step, folder=named.as_posix(), files=files)


def _session(said: Mapping[str, Any], step: int, device: str, world: int) -> Session:
    return Session(
        began_at=_now(),
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


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
