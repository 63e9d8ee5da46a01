"""What one does with a lake, each as something to interrupt and do again, and what must come out of it in the end."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from exporters import export as exporting
from lake import Lake
from lake.compact import compact
from lake.errors import LakeError
from lake.repair import repair
from lake.vacuum import vacuum
from tests.faults.checker import batch_runs, pins, read_table
from tests.lake.rows import evidence, scores

LEDGERS = ("snapshots", "receipts")
CHECKPOINT = 20  # the version at which the lake makes one by itself


@dataclass(frozen=True)
class Operation:
    """`prepare` makes the lake that it starts from; `do` may be done again after any interruption."""

    name: str
    prepare: Callable[[str], None]
    do: Callable[[str], None]
    modules: tuple[str, ...] = ("lake.files",)


def append(root: str, producer: str, sequence: int) -> None:
    """Send one batch of the kind that the checker knows."""
    rows = evidence(*batch_runs(producer, sequence))
    Lake.open(root).append("evidence", rows, producer=producer, sequence=sequence, note={"next": sequence + 1})


def state(root: str) -> dict[str, Any]:
    """All that a user of the lake could tell apart, by the independent reader; times are left out.

    A ledger tells what happened when, so doing something again may add a line; what the lines mean is what counts.
    """
    said: dict[str, Any] = {"problems": list(pins(root))}
    for kind in sorted(path.name for path in Path(root, "tables").iterdir()):
        table = read_table(root, kind)
        said["problems"] += table.problems
        if kind not in LEDGERS:
            # A vacuum that was cut short has said what it meant to do, and says it again.
            story = [commit for commit in table.story if not commit[0].startswith("VACUUM")]
            said[kind] = (story, sorted(table.rows if kind in {"evidence", "scores"} else table.ids))
            said[f"files of {kind}"] = len(table.live), len(table.kept)
    lake = Lake.open(root)
    said["problems"] += list(lake.verify(deep=True))
    said["names"] = sorted(lake.names())
    said["stages"] = sorted({*lake.read("receipts")["stage"].to_pylist()} - {"vacuum", "repair"})
    said["pins"] = len(lake.snapshots())
    said["read"] = sorted(lake.read("evidence")["run_id"].to_pylist())
    said["objects"] = sorted(path.name for path in Path(root, "objects").glob("[0-9a-f]*"))
    out = _out(root)
    said["export"] = sorted((str(p.relative_to(out)), _sha256(p)) for p in out.rglob("*") if p.suffix == ".jsonl")
    return said


def left_behind(root: str) -> list[str]:
    """Unfinished files that nobody will finish, anywhere in the lake."""
    return [str(path) for path in Path(root).rglob(".*.tmp")]


def _nothing(_root: str) -> None:
    """Where no lake is yet."""


def _small(root: str) -> None:
    lake = Lake.create(root)
    for sequence in range(3):
        append(root, "before", sequence)
    lake.append("scores", scores(*batch_runs("before", 1)), producer="before", sequence=0)


def _before_checkpoint(root: str) -> None:
    Lake.create(root)
    for sequence in range(CHECKPOINT - 1):
        append(root, "before", sequence)


def _create(root: str) -> None:
    Lake.create(root, exist_ok=True)


def _append(root: str) -> None:
    append(root, "p", 6)


def _pin(root: str) -> None:
    Lake.open(root).pin()


def _name(root: str) -> None:
    lake = Lake.open(root)
    lake.name(lake.snapshot(), "release", note="the first")


def _object(root: str) -> None:
    Lake.open(root).put_object(b"bytes to keep")


def _checkpoint(root: str) -> None:
    Lake.open(root).logs["evidence"].checkpoint(3)


def _compacted(root: str) -> None:
    _small(root)
    lake = Lake.open(root)
    # What is pinned stays; what is not goes.
    lake.pin()
    for sequence in range(3, 6):
        append(root, "before", sequence)
        list(compact(lake))


def _damaged(root: str) -> None:
    """A checkpoint that is cut, a hint that is no JSON, and a torn last commit."""
    _before_checkpoint(root)
    append(root, "before", CHECKPOINT - 1)
    append(root, "before", CHECKPOINT)
    log = Path(root, "tables", "evidence", "_delta_log")
    checkpoint = log / f"{CHECKPOINT:020d}.checkpoint.parquet"
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    (log / "_last_checkpoint").write_text("{")
    (log / f"{CHECKPOINT + 1:020d}.json").write_bytes(b"")


def _repair(root: str) -> None:
    repair(Lake.open(root))


def _compact(root: str) -> None:
    list(compact(Lake.open(root)))


def _vacuum(root: str) -> None:
    vacuum(Lake.open(root), timedelta(0), force=True)


def _export(root: str) -> None:
    lake, out = Lake.open(root), _out(root)
    if (out / "receipt.json").exists():
        # It was published, and only its entry in the lake is missing or its answer was lost.
        assert exporting.verify(lake, out).ok
        lake.record("receipts", {"stage": "export-sft"})
        return
    exporting.export(lake, "sft", out)


def _out(root: str) -> Path:
    return Path(root).with_suffix(".out")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation("create", _nothing, _create),
        Operation("append", _small, _append),
        Operation("append over a checkpoint", _before_checkpoint, _append),
        Operation("pin", _small, _pin),
        Operation("name", _small, _name),
        Operation("keep an object", _small, _object),
        Operation("checkpoint", _small, _checkpoint),
        Operation("compact", _small, _compact),
        Operation("vacuum", _compacted, _vacuum),
        Operation("repair", _damaged, _repair),
        Operation("export", _small, _export, ("lake.files", "exporters.export")),
    )
}


def attempt(operation: Operation, root: str) -> str | None:
    """Do it once; the message if the lake refused. Whatever is no LakeError comes through."""
    try:
        operation.do(root)
    except LakeError as error:
        return error.message
    return None
