"""Whether a run may go on: as the run that it was, and from a checkpoint that is as it was saved.

Not here: going on (`run`), and what is written down of it (`recorder`).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lake.errors import Damaged, UsageError
from trainers.plan import Plan
from trainers.record import NAME, Files, Run, checkpoints, digest_of, files_of, read, trained
from trainers.shards import Shards

# What may be said otherwise when a run goes on: where things are, who is told, and how much stays.
_FREE = frozenset(
    {"out", "data.lake", "data.built", "data.export", "data.shards", "report.to", "model.revision", "checkpoints.keep"}
)
# What these name is known by its sha256: in the record, or among what the shards' key is of. It may lie elsewhere.
_MOVED = frozenset({"model.path", "model.config", "model.tokenizer", "data.template", "data.policy"})


def newest(out: Path) -> Path | None:
    """The newest checkpoint in a run's folder that says of itself what it was trained on, which is written last.

    Raises UsageError where a checkpoint of another run lies there.
    """
    marks = {folder: mark for folder in checkpoints(out).values() if (mark := trained(folder)) is not None}
    if not marks:
        return None
    run = read(out).run
    for folder, mark in marks.items():
        if mark.run != run:
            raise UsageError(f"{folder}: this is a checkpoint of {mark.run}, in the folder of {run}", "move it away")
    return list(marks)[-1]


def refuse_another(
    out: Path,
    before: Run,
    said: Mapping[str, Any],
    *,
    shards: Mapping[str, Shards],
    plan: Plan,
    begun: tuple[Files | None, Files | None],
) -> None:
    """Raises UsageError where what is configured now is another run than the one `before` in the folder `out`.

    `begun` are the files of the model and of the tokenizer, as far as these are known, as they are now.
    """
    if before.plan.digest != plan.digest:
        raise UsageError(
            f"{out}: its plan is {before.plan.digest[:12]}, and what is configured now gives {plan.digest[:12]}",
            "resume with the data, seed and stages that the run began with, or begin another run",
        )
    if before.method != said["method"]:
        raise UsageError(f"{out}: this is a run of {before.method}, not of {said['method']}", "name another folder")
    for name, was in before.shards.items():
        if name in shards and shards[name].description.key != was.key:
            raise UsageError(
                f"{out}: its shards are {was.key[:12]}, and these are {shards[name].description.key[:12]}",
                "resume with the rows, tokenizer and template that the run began with, or begin another run",
            )
    if other := sorted(_changed(before.configuration, said)):
        raise UsageError(
            f"{out}: it began with another {', '.join(other[:3])}",
            "resume with the settings that the run began with: its checkpoint holds them; or begin another run",
        )
    for was_there, is_there in zip((before.model, before.tokenizer), begun, strict=True):
        if was_there is not None and is_there is not None and (others := was_there.changed(is_there)):
            raise UsageError(
                f"{is_there.path}: not as it was when the run began: {', '.join(others[:3])}",
                f"put back what {out / NAME} names by its sha256, or begin another run",
            )


def prove(out: Path, run: Run, step: int) -> None:
    """Raises Damaged where the checkpoint at a step is not what the record says; of some it does not know the files."""
    for saved in run.checkpoints:
        if saved.folder != f"checkpoint-{step}" or not saved.files:
            continue
        now = files_of(out / saved.folder)
        for name, file in saved.files.items():
            if now.get(name) != file:
                what = "is gone" if name not in now else "its bytes are not those that were saved"
                hint = f"copy it again, or remove {saved.folder} to go on from the checkpoint before it"
                raise Damaged(f"{out / saved.folder / name}: {what}", hint)


def _changed(before: Mapping[str, Any], now: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """The dotted keys whose values differ, those aside that are free to, and those that name a file in either."""
    for key in before.keys() | now.keys():
        was, is_now, name = before.get(key), now.get(key), f"{where}{key}"
        if isinstance(was, Mapping) and isinstance(is_now, Mapping):
            yield from _changed(was, is_now, f"{name}.")
        elif name in _FREE or (name in _MOVED and None not in (was, is_now)):
            continue
        elif digest_of({key: was}) != digest_of({key: is_now}):
            yield name
