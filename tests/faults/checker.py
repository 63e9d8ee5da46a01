"""A second opinion: reads a lake's commits and Parquet files by itself, and says what does not add up.

It shares no code with the lake, so that a mistake in the one is not a mistake in the other. What should be there it
learns from the rows themselves: each is called `producer:sequence:i/n`, the i-th of a batch of n (`batch_runs`).
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

Batch = tuple[str, int]


def batch_runs(producer: str, sequence: int) -> list[str]:
    """The run ids of a batch: one to seven of them, so that a part of it is seen to be one."""
    count = sequence % 7 + 1
    return [f"{producer}:{sequence}:{number}/{count}" for number in range(count)]


@dataclass
class Table:
    """What the commits of one kind's table come to. `rows` are the run ids of the newest version, with repetitions.

    `live` are its files, `kept` those of any version that are still there.
    """

    commits: list[dict[str, Any]] = field(default_factory=list)
    live: dict[str, dict[str, Any]] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    rows: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def story(self) -> list[tuple[Any, ...]]:
        """What was committed, in order, without what differs between two runs of the same: times and hashes."""
        names = ("operation", "lake.producer", "lake.sequence", "lake.rows")
        return [tuple(info.get(name) for name in names) for info in self.commits]

    @property
    def sequences(self) -> dict[str, list[int]]:
        """Each producer's sequences in the order of the log."""
        found: dict[str, list[int]] = {}
        for info in self.commits:
            if "lake.sequence" in info:
                found.setdefault(info["lake.producer"], []).append(info["lake.sequence"])
        return found


def read_table(root: str | Path, kind: str = "evidence") -> Table:
    """A table, and what is wrong with it."""
    folder = Path(root, "tables", kind)
    table = Table()
    table.problems += _fold(folder, table)
    column = "run_id" if kind in {"evidence", "scores"} else "event_id"
    for name, add in table.live.items():
        data = (folder / name).read_bytes() if (folder / name).is_file() else None
        if data is None:
            table.problems.append(f"{kind}: {name} is gone")
            continue
        if len(data) != add["size"] or hashlib.sha256(data).hexdigest() != name[:64]:
            table.problems.append(f"{kind}: {name} has other bytes")
            continue
        rows = pq.read_table(folder / name, columns=list({"event_id", column}))
        if len(rows) != json.loads(add["stats"])["numRecords"]:
            table.problems.append(f"{kind}: {name} has {len(rows)} rows")
        table.ids += rows["event_id"].to_pylist()
        table.rows += rows[column].to_pylist()
    twice = [event for event, times in Counter(table.ids).items() if times > 1]
    table.problems += [f"{kind}: {len(twice)} events twice"] if twice else []
    if len(table.ids) != sum(info.get("lake.rows", 0) for info in table.commits):
        table.problems.append(f"{kind}: {len(table.ids)} rows, where the commits have other growth")
    return table


def check(root: str | Path, acknowledged: Iterable[Batch] = (), told: Iterable[str] | None = None) -> list[str]:
    """What is wrong with evidence that is batches of `batch_runs`, of which these were acknowledged; and with pins."""
    table = read_table(root)
    return [*table.problems, *_batches(table, acknowledged), *pins(root, told)]


def pinned_digest(root: str | Path, pin: str) -> str:
    """What a pin's evidence comes to, read from its manifest alone."""
    files = json.loads(Path(root, "snapshots", f"{pin}.json").read_bytes())["tables"]["evidence"]["files"]
    folder = Path(root, "tables", "evidence")
    return digest_of_ids(
        event for file in files for event in pq.read_table(folder / file["path"], columns=["event_id"])[0].to_pylist()
    )


def digest_of_ids(ids: Iterable[str]) -> str:
    """One text for a set of events, whatever their order."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


def pins(root: str | Path, told: Iterable[str] | None = None) -> Iterator[str]:
    """What is wrong with the pins: their bytes, the files that they need, the commits that they stand on.

    Where `told` says of which pins somebody was told, these must be there, and no other is looked at.
    """
    known: dict[Path, str | None] = {}

    def sha256(path: Path) -> str | None:
        if path not in known:
            known[path] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        return known[path]

    folder_of = Path(root, "snapshots")
    for path in sorted(folder_of.glob("*.json") if told is None else (folder_of / f"{pin}.json" for pin in told)):
        data = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(data).hexdigest()[:32] != path.stem:
            yield f"pin {path.stem}: other bytes"
            continue
        for kind, pin in json.loads(data)["tables"].items():
            folder = Path(root, "tables", kind)
            head = folder / "_delta_log" / f"{pin['version']:020d}.json"
            if sha256(head) != pin["head"]:
                yield f"pin {path.stem}: {kind} has no version {pin['version']} like it"
            for file in pin["files"]:
                if sha256(folder / file["path"]) != file["sha256"]:
                    yield f"pin {path.stem}: {kind}/{file['path']} is not what it was"


def orphans(root: str | Path, kind: str = "evidence") -> list[str]:
    """Data files that no commit ever added, and what unfinished writers left."""
    folder = Path(root, "tables", kind)
    said: set[str] = set()
    for path in (folder / "_delta_log").glob("[0-9]*.json"):
        said |= set(re.findall(r'"path":"([^"]+)"', path.read_text(errors="replace")))
    return sorted(path.name for path in folder.glob("*") if path.is_file() and path.name not in said)


def _fold(folder: Path, table: Table) -> Iterator[str]:
    """Follow the commits from the first to the last."""
    found = {int(path.stem): path for path in (folder / "_delta_log").glob("[0-9]*.json") if path.stem.isdigit()}
    previous, time = None, 0
    for version in range(max(found, default=-1) + 1):
        if version not in found:
            yield f"{folder.name}: version {version} is missing"
            return
        data = found[version].read_bytes()
        try:
            actions = [json.loads(line) for line in data.decode().splitlines()]
            info = next(action["commitInfo"] for action in actions if "commitInfo" in action)
        except (ValueError, StopIteration) as error:
            yield f"{folder.name}: version {version} cannot be read: {error}"
            return
        if version and info.get("lake.prev") != previous:
            yield f"{folder.name}: version {version} does not follow the one before"
        if version and info["lake.time"] <= time:
            yield f"{folder.name}: version {version} is older than the one before"
        previous, time = hashlib.sha256(data).hexdigest(), info.get("lake.time", 0)
        table.commits.append(info)
        for action in actions:
            if "remove" in action and table.live.pop(action["remove"]["path"], None) is None:
                yield f"{folder.name}: version {version} removes what is not there"
        for action in actions:
            if "add" in action:
                if action["add"]["path"] in table.live:
                    yield f"{folder.name}: version {version} adds a file twice"
                table.live[action["add"]["path"]] = action["add"]
                if (folder / action["add"]["path"]).exists():
                    table.kept.add(action["add"]["path"])
    if not found:
        yield f"{folder.name}: there is no commit"


def _batches(table: Table, acknowledged: Iterable[Batch]) -> Iterator[str]:
    """What is wrong with the batches: lost, partial, twice, out of order."""
    counted = Counter(table.rows)
    present = {(run.split(":")[0], int(run.split(":")[1])) for run in counted}
    for producer, sequence in sorted(present):
        times = {counted[run] for run in batch_runs(producer, sequence)}
        if times != {1}:
            yield f"batch {producer}@{sequence} is there {sorted(times)} times"
    lost = sorted(set(acknowledged) - present)
    if lost:
        yield f"{len(lost)} acknowledged batches are lost, {lost[0][0]}@{lost[0][1]} first"
    for producer, sequences in table.sequences.items():
        if sequences != sorted(set(sequences)):
            yield f"{producer}'s sequences fall or repeat"
