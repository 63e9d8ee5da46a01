"""What do commits cost as they add up? One writer, from the first commits to the last: appending, opening, snapshots.

`python benchmarks/commits.py --commits 10000`. Each size is opened by processes of its own, so nothing is remembered;
the writer is one process, as a writer is. `--events` says how many events a commit has.
"""

import argparse
import os
import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa

from benchmarks.generate import DATA
from benchmarks.measure import in_process, print_ratio, scratch, timed
from lake import Lake

__all__ = ["any_version", "listed", "main", "newest", "of_snapshot"]

FIRST = 10
BEGAN = 1_767_225_600_000_000  # microseconds since 1970
WINDOW = 100  # commits over which a percentile is taken
TIMES = 5
MS = 1000.0
OPEN_BAR, APPEND_BAR, SNAPSHOT_BAR = 4.0, 4.0, 1.2
MEMORY_BAR = 50 << 20  # bytes by which the writer may grow


def events(commit: int, count: int) -> pa.Table:
    """The events of a commit, one a microsecond."""
    numbers = np.arange(commit * count, (commit + 1) * count)
    said = pa.array(numbers).cast(pa.string())
    same = {"task_id": "t", "kind": "completion", "role": "executor"}
    times = pa.array(BEGAN + numbers).cast(pa.timestamp("us", "UTC"))
    columns = {"recorded_at": times, "run_id": said, "text": said}
    return pa.table({**columns, **{name: pa.repeat(value, count) for name, value in same.items()}})


def newest(folder: str) -> float:
    """Open a table at its newest version: which it is, whether the log stands, how far each producer has come."""
    lake = Lake.open(folder)
    return timed(lambda: lake.logs["evidence"].head().position("p"))


def listed(folder: str) -> float:
    """Open a table at its newest version, and list its files."""
    lake = Lake.open(folder)
    return timed(lambda: lake.logs["evidence"].head().files)


def any_version(folder: str, version: int) -> float:
    """Open a table at a version, and list its files."""
    lake = Lake.open(folder)
    return timed(lambda: lake.logs["evidence"].head(version).files)


def of_snapshot(folder: str, snapshot_id: str) -> float:
    """Open a snapshot by its id."""
    lake = Lake.open(folder)
    return timed(lambda: lake.snapshot(snapshot_id).rows("evidence"))


def main() -> None:
    """Write commits one by one, and measure at 10, at the middle and at the end."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--commits", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=10, help="of each commit")
    parser.add_argument("--data", type=Path, default=DATA, help="where the lake is written for a while")
    options = parser.parse_args()
    stops = sorted({FIRST, min(1000, options.commits), min(3000, options.commits), options.commits})
    with scratch(options.data) as folder:
        _measure(str(folder / "lake"), stops, options.events)


def _measure(folder: str, stops: list[int], count: int) -> None:
    lake = Lake.create(folder)
    taken: list[float] = []
    opened: dict[int, tuple[float, float, float, float]] = {}
    pinned = began = 0
    snapshot_id = ""
    print(f"\n{stops[-1]:,} commits of {count:,} events, one writer, load {os.getloadavg()[0]:.1f}", flush=True)
    for stop in stops:
        for commit in range(len(taken), stop):
            rows = events(commit, count)
            taken.append(timed(partial(lake.append, "evidence", rows, producer="p", sequence=commit)))
        if not snapshot_id:
            snapshot_id, pinned = lake.pin().id, stop
            began = _resident()
        opened[stop] = (
            _median(newest, folder),
            _median(listed, folder),
            max(_median(any_version, folder, at) for at in (1, stop // 2, stop - 1)),
            _median(of_snapshot, folder, snapshot_id),
        )
        last = taken[-WINDOW:]
        print(
            f"  {stop:>6,} commits: append p50 {median(last) * MS:.1f} ms, p95 {np.quantile(last, 0.95) * MS:.1f} ms;"
            f" open the newest {opened[stop][0] * MS:.2f} ms, with its files {opened[stop][1] * MS:.2f} ms,"
            f" any with its files {opened[stop][2] * MS:.1f} ms, snapshot of {pinned} {opened[stop][3] * MS:.2f} ms;"
            f" writer {_resident() >> 20} MiB; load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
    first, end = stops[0], stops[-1]
    print_ratio("append (p50)", median(taken[-WINDOW:]) / median(taken[:WINDOW]), APPEND_BAR)
    print_ratio("open the newest", opened[end][0] / opened[first][0], OPEN_BAR)
    print_ratio("open a snapshot", opened[end][3] / opened[first][3], SNAPSHOT_BAR)
    print_ratio("the writer's growth, of 50 MiB", max(_resident() - began, 0) / MEMORY_BAR, 1.0)


def _median(side: Callable[..., float], *arguments: object) -> float:
    return median(in_process(side, list(arguments))[0] for _ in range(TIMES))


def _resident() -> int:
    """The memory that this process holds, in bytes."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
