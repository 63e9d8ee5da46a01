"""A lake with some of everything in it, and what damage does to its files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from exporters.export import export
from lake import Lake
from lake.commits import commit_name
from lake.errors import LakeError
from lake.findings import Code, Finding
from lake.kinds import KINDS
from lake.verify import examine
from tests.lake.rows import evidence, scores


def built(folder: Path, commits: int = 45) -> Path:
    """A lake with checkpoints, pins, names, receipts and an export beside it; returns where it is."""
    lake = Lake.create(str(folder / "lake"))
    lake.append("tasks", [{"task_id": "t", "language": "python"}], producer="p", sequence=0)
    for number in range(commits):
        source = {"file": "all.jsonl", "line": number, "sha256": "0" * 64}
        rows = evidence(f"a{number}", f"b{number}", model="m", prompt="why?", source=source)
        lake.append("evidence", rows, producer="p", sequence=number, note={"offset": number * 10})
        if number % 15 == 0:
            lake.append("scores", scores(f"a{number}"), producer="p", sequence=number)
            lake.name(lake.pin(), {0: "first", 15: "half", 30: "late"}[number])
    export(lake, "sft", folder / "sets" / "sft")
    return folder / "lake"


def flip(data: bytes, bit: int) -> bytes:
    """The bytes with one bit the other way."""
    place = bit // 8
    return data[:place] + bytes([data[place] ^ (1 << bit % 8)]) + data[place + 1 :]


def files_of(lake: Lake, kind: str) -> list[Path]:
    """The data files of a table, by name."""
    return sorted(Path(lake.uri, "tables", kind).glob("*.parquet"))


def codes(lake: Lake, *, deep: bool = False) -> list[Code]:
    return [finding.code for finding in lake.verify(deep=deep)]


def notes(lake: Lake) -> list[Finding]:
    return [finding for finding in examine(lake.store, lake.logs).findings if not finding.is_fault]


def log_of(lake: Lake, kind: str = "evidence") -> Path:
    return Path(lake.uri, "tables", kind, "_delta_log")


def commit(lake: Lake, version: int, kind: str = "evidence") -> Path:
    return Path(lake.uri, commit_name(KINDS[kind], version))


def newest(lake: Lake, kind: str = "evidence") -> int:
    return lake.logs[kind].head().version


def with_batch(rows: pa.Table, batch: str) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index("batch"), "batch", pa.repeat(batch, len(rows)))


def everything_read(lake: Lake) -> dict[str, Any]:
    """What every read of the newest state and of every pin gives: rows, or that it fails."""
    said: dict[str, Any] = {}
    for kind in lake.logs:
        said[f"now {kind}"] = _tried(lambda kind=kind: _rows(lake.read(kind)))
        for producer in ("p", "lake"):
            said[f"at {kind} {producer}"] = _tried(lambda kind=kind, producer=producer: lake.position(kind, producer))
    said["names"] = _tried(lake.names)
    for pin in lake.snapshots():
        for kind in ("rejects", "scores", "evidence", "tasks", "retractions"):
            said[f"{pin} {kind}"] = _tried(lambda pin=pin, kind=kind: _rows(lake.snapshot(pin).read(kind)))
    return said


def _rows(table: Any) -> list[dict[str, Any]]:
    return table.sort_by("event_id").to_pylist()


def _tried(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except LakeError:
        return "failed"
