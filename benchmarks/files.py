"""What does a table of very many files cost? Opening it and appending to it, in time and memory.

`python benchmarks/files.py --files 50000`. The files are tiny, and all in a few commits: their number is what counts.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import pyarrow as pa

from benchmarks.commits import events
from benchmarks.generate import DATA
from benchmarks.measure import in_process, print_ratio, scratch, timed
from lake import Lake
from lake.datafiles import write
from lake.events import to_table, with_ids
from lake.kinds import KINDS

__all__ = ["append", "main", "newest"]

TIMES = 3
PER_COMMIT = 2_500  # files
APPENDS = 10
OPEN_BAR, APPEND_BAR, MEMORY_BAR = 0.3, 0.4, 400 << 20  # seconds, seconds, bytes


def make(folder: str, count: int) -> None:
    """A lake with so many files of one event each."""
    lake = Lake.create(folder)
    log = lake.logs["evidence"]
    table = with_ids(KINDS["evidence"], to_table(KINDS["evidence"], events(0, count)), "made@0")
    for start in range(0, count, PER_COMMIT):
        rows = [table.slice(at, 1) for at in range(start, min(start + PER_COMMIT, count))]
        files = [write(_Unsynced(lake), log.folder, pa.table(row)) for row in rows]  # type: ignore[arg-type]
        if not log.commit_after(log.head(), {"lake.rows": len(rows)}, adds=files):
            raise SystemExit("another process writes to this lake")
    log.checkpoint(log.head().version)


class _Unsynced:
    """A lake's store that does not wait for the disk: there is nothing to lose here."""

    def __init__(self, lake: Lake) -> None:
        self._root = Path(lake.uri)

    def write_new(self, name: str, data: bytes) -> bool:
        """Put a file there."""
        (self._root / name).write_bytes(data)
        return True


def newest(folder: str) -> float:
    """Open the table at its newest version, and list its files."""
    lake = Lake.open(folder)
    return timed(lambda: lake.logs["evidence"].head().files)


def append(folder: str, number: int) -> float:
    """The middle one of some appends of a small batch; the first opens the table."""
    lake = Lake.open(folder)
    taken = []
    for turn in range(APPENDS):
        rows = events(10**9 + number * APPENDS + turn, 10)
        taken.append(timed(partial(lake.append, "evidence", rows, producer=f"p{number}", sequence=turn)))
    return median(taken)


def main() -> None:
    """Make a table of many files and one of few, and measure both."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--data", type=Path, default=DATA, help="where the lakes are written for a while")
    options = parser.parse_args()
    with scratch(options.data) as folder:
        sizes = {"few": 10, "many": options.files}
        for name, count in sizes.items():
            make(str(folder / name), count)
        print(f"\n{options.files:,} live files, load {os.getloadavg()[0]:.1f}", flush=True)
        opened = {name: _middle(newest, [folder / name]) for name in sizes}
        appended = {name: _middle(append, [folder / name], turns=True) for name in sizes}
    for name, count in sizes.items():
        (open_s, _), (append_s, peak) = opened[name], appended[name]
        print(
            f"  {count:>6,} files: open {open_s * 1000:.1f} ms, append {append_s * 1000:.1f} ms, peak {peak >> 20} MiB"
        )
    print_ratio("open, of 300 ms", opened["many"][0] / OPEN_BAR, 1.0)
    print_ratio("append, of 400 ms", appended["many"][0] / APPEND_BAR, 1.0)
    print_ratio("memory, of 400 MiB", appended["many"][1] / MEMORY_BAR, 1.0)


def _middle(side: Callable[..., float], arguments: list[object], *, turns: bool = False) -> tuple[float, int]:
    taken = [in_process(side, [*arguments, turn] if turns else arguments) for turn in range(TIMES)]
    return median(seconds for seconds, _ in taken), max(peak for _, peak in taken)


if __name__ == "__main__":
    main()
