"""Everything at once for as long as one likes: writers, readers of pins, compaction, vacuum, verify, and random kills.

    python -m tests.faults.soak --seconds 3600 --seed 1

prints a line on how it stands, and in the end a table and what was found. Each process has a fault under its store
(killed at the n-th call, before or after it; for writers also an error or a lost answer) and is killed from outside at
random moments, then started again. All of it is drawn from the seed; what the machine makes of it is not, so the same
seed tries the same faults, not the same moments. The lake stays where it is when something was found.
"""

import argparse
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lake import Lake
from tests.faults.checker import check, orphans, pinned_digest, read_table
from tests.faults.injector import NONE, Fault
from tests.faults.processes import WORKERS
from tests.faults.victims import (
    acknowledged,
    compacting,
    pinned,
    reading,
    soaked,
    vacuuming,
    verifying,
    writing,
)

JOBS: dict[str, Callable[..., None]] = {
    **{f"writer{number}": writing for number in range(4)},
    **{f"reader{number}": reading for number in range(2)},
    "compactor": compacting,
    "vacuum": vacuuming,
    "verify": verifying,
}
KILLS = ("kill", "kill after")
FAULTS = (*KILLS, "fail", "lost", "late")
LIVE = 10.0  # seconds between two lines where nobody watches


@dataclass
class Soak:
    """One run: where it is, what was drawn, and what happened so far."""

    folder: Path
    seed: int
    kills: int = 0
    starts: int = 0
    ends: dict[str, int] = field(default_factory=dict)
    workers: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin with an empty lake."""
        self.root = str(self.folder / "lake")
        self.chance = random.Random(self.seed)
        Lake.create(self.root)

    def run(self, seconds: float, say: Callable[[str], None]) -> None:
        """Let everything happen for so long."""
        began = time.monotonic()
        next_line = next_kill = 0.0
        while (now := time.monotonic() - began) < seconds:
            for name in JOBS:
                self._keep_alive(name)
            if now >= next_kill:
                victim = self.chance.choice(list(JOBS))
                if now:
                    self.workers[victim].kill()
                next_kill = now + self.chance.uniform(0.1, 1.5)
            if now >= next_line:
                say(self.line(now))
                next_line = now + (1.0 if sys.stdout.isatty() else LIVE)
            time.sleep(0.05)
        for worker in self.workers.values():
            worker.kill()
            worker.join()

    def line(self, now: float) -> str:
        """How it stands."""
        log = Path(self.root, "tables", "evidence", "_delta_log")
        commits = sum(1 for entry in os.scandir(log) if entry.name.endswith(".json"))
        acks = sum(path.read_bytes().count(b"\n") for path in self.folder.glob("*.acks"))
        pins = len(list(pinned(self.folder)))
        found = len(list(self.folder.glob("*.findings")))
        return (
            f"{now // 60:3.0f}:{now % 60:02.0f}  {commits:,} commits, {acks:,} acknowledged, {pins} pins,"
            f" {self.kills} kills, {found} findings"
        )

    def findings(self) -> list[str]:
        """All that is wrong in the end, by the independent reader and by the lake itself."""
        told = dict(pinned(self.folder))
        found = [path.read_text() for path in sorted(self.folder.glob("*.findings"))]
        found += check(self.root, (batch for batch, _ in acknowledged(self.folder)), told)
        found += [f"pin {pin} reads otherwise" for pin, read in told.items() if pinned_digest(self.root, pin) != read]
        lake = Lake.open(self.root)
        found += [str(finding) for finding in lake.verify(deep=True)]
        if sorted(lake.read("evidence")["event_id"].to_pylist()) != sorted(read_table(self.root).ids):
            found.append("the lake reads other events than its files hold")
        return found

    def table(self) -> list[tuple[str, str]]:
        """What happened, for the end."""
        commits = read_table(self.root).commits
        seconds = sorted(took for _, took in acknowledged(self.folder))
        done = [info["operation"] for info in commits]
        return [
            ("seed", str(self.seed)),
            ("commits of evidence", f"{len(commits):,}"),
            ("acknowledged batches", f"{len(seconds):,}"),
            (
                "append, median and 95 %",
                "{:.0f} and {:.0f} ms".format(*_of(seconds, 9, 18)) if len(seconds) > 1 else "-",
            ),
            ("compactions", f"{done.count('OPTIMIZE')}"),
            ("vacuums that freed something", f"{done.count('VACUUM END')}"),
            ("pins, each read again", f"{len(dict(pinned(self.folder)))}"),
            ("kills, and processes started", f"{self.kills} and {self.starts}"),
            ("orphan data files", f"{len([name for name in orphans(self.root) if not name.startswith('.')])}"),
        ]

    def _keep_alive(self, name: str) -> None:
        worker = self.workers.get(name)
        if worker is not None and worker.is_alive():
            return
        if worker is not None:
            self.kills += worker.exitcode == -9
        self.starts += 1
        modes = FAULTS if JOBS[name] is writing else KILLS
        fault = Fault(self.chance.randint(1, 2000), self.chance.choice(modes)) if self.chance.random() < 0.7 else NONE
        given = (JOBS[name], self.root, str(self.folder), name, (fault, self.chance.getrandbits(32)))
        self.workers[name] = WORKERS.Process(target=soaked, args=given)
        self.workers[name].start()


def _of(seconds: list[float], *cuts: int) -> list[float]:
    """Quantiles in milliseconds, of twenty."""
    found = statistics.quantiles(seconds, n=20)
    return [found[cut] * 1000 for cut in cuts]


def main() -> int:
    """As the module's docstring says."""
    parser = argparse.ArgumentParser(description="Writers, readers, compaction, vacuum, verify and random kills.")
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="lake-soak-"))
    print(f"Soaking {folder}/lake for {given.seconds:.0f} s; again: python -m tests.faults.soak --seed {given.seed}")
    soak = Soak(folder, given.seed)
    soak.run(given.seconds, lambda line: print(line, flush=True))
    print("Checking what is there, file by file", flush=True)
    found = soak.findings()
    for name, value in soak.table():
        print(f"{name:32}{value}")
    for finding in found:
        print(f"FOUND: {finding}")
    print(f"{len(found)} findings" + (f"; the lake is in {folder}" if found else ""))
    if not found:
        shutil.rmtree(folder)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
