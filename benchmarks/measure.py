"""How the benchmarks measure: each side in a process of its own, in turns, the middle one of three.

A side is a function of the benchmark's module that takes texts and numbers, does its work and returns how long it
took, in seconds; what it prepares is not counted. Its process ends after it, so its peak memory is its own. Both sides
run on the same machine in the same minutes, so that a ratio means something where a second does not.

`python -m benchmarks.measure MODULE:FUNCTION ARGUMENTS` runs one side, and is what `in_process` starts.
"""

import argparse
import importlib
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import msgspec

from benchmarks.generate import DATA

__all__ = [
    "Measured",
    "Side",
    "alternate",
    "compare",
    "gigabytes",
    "in_process",
    "main",
    "print_ratio",
    "scratch",
    "timed",
]

ROOT = Path(__file__).parents[1]
GIB = 1 << 30


class Measured(msgspec.Struct, frozen=True):
    """What one side took: the middle and all of its times, in seconds, and the most memory, in bytes."""

    seconds: float
    all_seconds: tuple[float, ...]
    peak: int


class Side(msgspec.Struct, frozen=True):
    """One side of a comparison: what it is called, the function, and its arguments for the n-th turn."""

    name: str
    function: Callable[..., float]
    arguments: Callable[[int], list[object]]


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--rows", type=int, default=1_000_000)
    made.add_argument("--times", type=int, default=3, help="how often each side runs")
    made.add_argument("--data", type=Path, default=DATA, help="where the generated files are kept")
    return made


def timed(work: Callable[[], object]) -> float:
    """How many seconds some work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_process(function: Callable[..., float], arguments: list[object]) -> tuple[float, int]:
    """Run one side in a new process: its seconds, and its peak memory in bytes, the processes it starts included."""
    module = Path(function.__code__.co_filename).stem
    command = [sys.executable, "-m", "benchmarks.measure", f"benchmarks.{module}:{function.__name__}"]
    given = [item if isinstance(item, str | int) else str(item) for item in arguments]
    done = subprocess.run(
        [*command, msgspec.json.encode(given).decode()], cwd=ROOT, stdout=subprocess.PIPE, check=False
    )
    if done.returncode:
        raise SystemExit(f"{command[-1]} failed")
    seconds, peak = msgspec.json.decode(done.stdout.splitlines()[-1], type=tuple[float, int])
    return seconds, peak


def alternate(sides: list[Side], times: int = 3) -> list[Measured]:
    """Run the sides in turns, `times` each."""
    taken: list[list[tuple[float, int]]] = [[] for _ in sides]
    for turn in range(times):
        for number, side in enumerate(sides):
            taken[number].append(in_process(side.function, side.arguments(turn)))
    return [
        Measured(median(seconds for seconds, _ in each), tuple(s for s, _ in each), max(peak for _, peak in each))
        for each in taken
    ]


def compare(title: str, sides: list[Side], bar: float, times: int = 3) -> list[Measured]:
    """Measure two sides, and print both, the first one's time by the second's, and the most that this may be."""
    print(f"\n{title}", flush=True)
    ours, theirs = measured = alternate(sides, times)
    for side, each in zip(sides, measured, strict=True):
        turns = " ".join(f"{seconds:.2f}" for seconds in each.all_seconds)
        print(f"  {side.name:<36} {each.seconds:8.2f} s   peak {gigabytes(each.peak)}   ({turns})")
    print_ratio("time", ours.seconds / theirs.seconds, bar)
    return measured


def print_ratio(what: str, ratio: float, bar: float, *, at_least: bool = False) -> None:
    """Print a ratio, the bar that it is held to, and whether it is met."""
    met = ratio >= bar if at_least else ratio <= bar
    print(f"  {what}: {ratio:.3g} ×, bar: at {'least' if at_least else 'most'} {bar:g} ×, {'met' if met else 'MISSED'}")


def gigabytes(size: int) -> str:
    """A size as a reader likes it."""
    return f"{size / GIB:.2f} GiB"


@contextmanager
def scratch(data: Path) -> Iterator[Path]:
    """A folder on the same disk as the data, gone afterwards."""
    data.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="scratch-", dir=data))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def main() -> None:
    """Run one side, and print its seconds and its peak memory as the last line."""
    place, arguments = sys.argv[1:]
    module, _, name = place.partition(":")
    seconds = getattr(importlib.import_module(module), name)(*msgspec.json.decode(arguments))
    print(msgspec.json.encode((seconds, _peak())).decode())


def _peak() -> int:
    """The most memory that this process, or one that it started, has held, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    started = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    status = Path("/proc/self/status")
    if status.exists():
        # Linux counts what the parent held into a child's ru_maxrss, and not into this.
        [high] = re.findall(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
        return max(int(high) * unit, started)
    return max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, started)


if __name__ == "__main__":
    main()
