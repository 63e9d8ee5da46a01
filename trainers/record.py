"""The record of a run: what went in, on what it ran, what came of it, in one file beside its checkpoints.

A run's folder has `run.json`, which is there before the first step and completed when the run ends; `ledger.parquet`,
which rows each step takes (`ledger`); `metrics.jsonl`; and `checkpoint-N/`, each with a `trained.json` that names the
run, so that a checkpoint that was copied elsewhere still says what it was trained on. Whatever decides numbers is named
by a sha256: shards, tokenizer, template, the files of the model that training began from, the checkpoints. A run that
is interrupted and goes on has one session more, with the versions and the device of that one.

`state` is `started` until the run ends; a run that was killed still says so. It is `finished` where all steps of the
plan were taken, `stopped` where fewer were, `failed` where an error ended it.

Nothing but msgspec, numpy and pyarrow is needed here: a machine with GPUs has no lake. Not here: who writes it while a
run goes on (`recorder`), what a run runs on (`surroundings`), and how its record gets into a lake (`receipts`).
"""

import hashlib
import os
import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from lake.errors import Damaged, LakeError, UsageError
from trainers.shards import Stored
from trainers.surroundings import Code

NAME = "run.json"
TRAINED = "trained.json"
FORMAT = 1

# What a model or a tokenizer is loaded from; what else a folder holds, or holds below it, decides nothing.
_LOADED = frozenset({".json", ".safetensors", ".bin", ".model", ".jinja", ".txt"})
_PLACES = ("*", "additional_chat_templates/*")

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
    """What a run began from at a path, a folder or one file: each file with its size and sha256."""

    path: str
    files: dict[str, Stored]

    def changed(self, now: "Files") -> list[str]:
        """Which of the files are others now, are gone, or are new."""
        names = sorted(self.files.keys() | now.files.keys())
        return [name for name in names if self.files.get(name) != now.files.get(name)]


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
    say so. `apart` is how documents that share rows are kept apart, and what a probe of that saw. `counters` add up
    over a run; `metrics` are measurements at its end.
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
    apart: dict[str, Any] | None
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
        hint = "copy the checkpoint again, or remove it to go on from the one before it"
        raise Damaged(f"{path}: {error}", hint) from None


def checkpoints(folder: str | Path) -> dict[int, Path]:
    """The folders of checkpoints in a run's, by their step, in order; whole are those that `trained` knows."""
    found = {path.name.partition("-")[2]: path for path in Path(folder).glob("checkpoint-*")}
    return dict(sorted((int(step), path) for step, path in found.items() if step.isdecimal()))


def encode(run: Run) -> bytes:
    """A record as it is written: JSON with sorted keys, two spaces deep, one final line feed."""
    return msgspec.json.format(msgspec.json.encode(run, order="sorted"), indent=2) + b"\n"


def decode(data: bytes, called: str) -> Run:
    """The record that `encode` wrote, from what a user calls so. Raises Damaged, and UsageError for a newer one."""
    try:
        run = msgspec.json.decode(data, type=Run)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Damaged(f"{called}: {error}", "copy it again, or read it with the version that wrote it") from None
    if run.format != FORMAT:
        raise UsageError(f"{called}: this record has format {run.format}, and this version reads {FORMAT}")
    return run


def new_id(method: str) -> str:
    """An id for a run that begins now, such as `sft-20260423T184211-3f9a1c0b`."""
    return f"{method}-{now():%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def digest_of(said: Mapping[str, Any]) -> str:
    """The sha256 of a configuration's canonical JSON."""
    return hashlib.sha256(msgspec.json.encode(dict(said), order="sorted")).hexdigest()


def files_at(path: str | Path) -> Files:
    """What a run is about to be loaded from: one file, or those of a folder that are loaded from it."""
    path = Path(path)
    if path.is_file():
        return Files(path=str(path), files={path.name: _stored(path)})
    found = (file for place in _PLACES for file in path.glob(place) if file.suffix in _LOADED)
    return Files(path=str(path), files=_by_name(path, found))


def files_of(folder: str | Path) -> dict[str, Stored]:
    """Each file of a folder by its path in it, in name order, with its size and sha256."""
    return _by_name(Path(folder), Path(folder).rglob("*"))


def _by_name(folder: Path, paths: Iterable[Path]) -> dict[str, Stored]:
    return {path.relative_to(folder).as_posix(): _stored(path) for path in sorted(paths) if path.is_file()}


def _stored(path: Path) -> Stored:
    with path.open("rb") as data:
        digest = hashlib.file_digest(data, "sha256").hexdigest()
        return Stored(data.tell(), digest)


def write_whole(path: Path, data: bytes) -> None:
    """Put bytes under a name at once and durably: whoever reads it sees what was there before, or all of these."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        scratch.write_bytes(data)
        settle(scratch)
        os.replace(scratch, path)
        settle(path.parent)
    finally:
        scratch.unlink(missing_ok=True)


def settle(path: Path) -> None:
    """See to it that a file, or the names in a folder, are on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def now() -> datetime:
    """The moment, UTC, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)
