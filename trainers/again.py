"""A run once more, from its record, and whether it gives the same.

What decides it is compared in the order in which it is decided: the rows and their order, the files that it begins
from, the loss at each step, and the weights. Where the first three are the same, and the same libraries run on the same
kind of device, the others are the same to the last bit.

Not here: training (`run`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from lake.errors import Damaged, UsageError
from trainers import curves, record
from trainers.record import Run
from trainers.run import RESULT, prepare, train
from trainers.spec import RunSpec

_WEIGHTS = ".safetensors"


@dataclass(frozen=True)
class Compared:
    """What became of a repetition at `out`: what is the same, and the versions that are others now, as (was, is)."""

    out: Path
    same: Mapping[str, bool]
    versions: Mapping[str, tuple[str | None, str | None]]

    @property
    def ok(self) -> bool:
        """Whether everything is the same."""
        return all(self.same.values())


def repeat(recorded: Path, out: Path | None = None) -> Compared:
    """Do a recorded run again, by default beside it, and compare. Raises LakeError where it cannot be done."""
    folder = recorded if recorded.is_dir() else recorded.parent
    before = record.read(folder)
    if before.state != "finished":
        raise UsageError(f"{folder}: this run is {before.state}, not finished", "lake train --resume goes on with it")
    try:
        said = msgspec.convert(before.configuration, RunSpec)
    except msgspec.ValidationError as error:
        raise Damaged(f"{folder / record.NAME}: configuration: {error}", "was it written by another version?") from None
    again = out or folder.with_name(f"{folder.name}-again")
    if again.exists():
        raise UsageError(f"{again}: there is something here already", "remove it, or name a new folder with --out")
    job = prepare(msgspec.structs.replace(said, out=str(again.absolute())), views=before.views)
    after = train(job)
    same = {
        "rows": _rows(after) == _rows(before),
        "order of rows": after.plan.digest == before.plan.digest,
        "files that it begins from": not list(_changed(before, after)),
    }
    same["loss at each step"] = _losses(folder) == _losses(again)
    same["weights"] = _weights(before) == _weights(after)
    was, now = before.sessions[-1].versions, after.sessions[-1].versions
    others = {name: (was.get(name), now.get(name)) for name in sorted(was.keys() | now.keys())}
    return Compared(again, same, {name: pair for name, pair in others.items() if pair[0] != pair[1]})


def _rows(run: Run) -> dict[str, str]:
    return {split: used.key for split, used in run.shards.items()}


def _changed(before: Run, after: Run) -> Iterator[str]:
    for was, now in ((before.model, after.model), (before.tokenizer, after.tokenizer)):
        if was is not None and now is not None:
            yield from was.changed(now)


def _losses(folder: Path) -> list[tuple[int, float | None]]:
    return [(point.step, point.loss) for point in curves.read(folder) if point.what == "training"]


def _weights(run: Run) -> dict[str, str]:
    [result] = [one for one in run.checkpoints if one.folder == RESULT]
    return {name: file.sha256 for name, file in result.files.items() if name.endswith(_WEIGHTS)}
