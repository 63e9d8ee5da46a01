"""What other processes do to a lake while a test races or kills them. Light to import, as each of them does.

A worker writes a line for each batch that was acknowledged into a file of its own. A line that was written outlives the
worker: the file's bytes are the kernel's from then on, and it is machines that lose power, not processes.
"""

import os
import random
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from lake import Lake
from lake.compact import compact
from lake.errors import LakeError
from lake.vacuum import vacuum
from tests.faults.checker import Batch, batch_runs, digest_of_ids
from tests.faults.injector import Fault, injected
from tests.lake.rows import evidence


class Acks:
    """Where a worker writes what was acknowledged: a producer, a sequence, and how many seconds it took."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def add(self, producer: str, sequence: int, seconds: float = 0.0) -> None:
        """One line, whole or not at all."""
        os.write(self._file, f"{producer} {sequence} {seconds:.6f}\n".encode())


def acknowledged(folder: str | Path) -> Iterator[tuple[Batch, float]]:
    """All batches that workers were told are kept, and the seconds that each took."""
    for path in sorted(Path(folder).glob("*.acks")):
        for line in path.read_text().splitlines():
            producer, sequence, seconds = line.split()
            yield (producer, int(sequence)), float(seconds)


def append_own(barrier: Any, root: str, folder: str, producer: str, count: int) -> None:
    """So many batches of one's own, one after the other."""
    lake, acks = Lake.open(root), Acks(f"{folder}/{producer}.acks")
    barrier.wait()
    for sequence in range(count):
        since = time.monotonic()
        lake.append("evidence", evidence(*batch_runs(producer, sequence)), producer=producer, sequence=sequence)
        acks.add(producer, sequence, time.monotonic() - since)


def append_same(barrier: Any, root: str, rounds: int) -> None:
    """The same batch as everybody else, at the same moment, again and again."""
    lake = Lake.open(root)
    for sequence in range(rounds):
        barrier.wait()
        lake.append("evidence", evidence(*batch_runs("p", sequence)), producer="p", sequence=sequence)


def create_same(barrier: Any, folder: str, name: str, rounds: int) -> None:
    """A lake that others create at the same moment, and one batch into it; so many lakes."""
    acks = Acks(f"{folder}/{name}.acks")
    for number in range(rounds):
        barrier.wait()
        lake = Lake.create(f"{folder}/{number}", exist_ok=True)
        lake.append("evidence", evidence(*batch_runs(name, 1)), producer=name, sequence=1)
        acks.add(f"{number}/{name}", 1)


def append_until_killed(root: str, folder: str, producer: str) -> None:
    """Go on where this producer is, as fast as can be."""
    lake, acks = Lake.open(root), Acks(f"{folder}/{producer}.acks")
    position = lake.position("evidence", producer)
    sequence = position.note["next"] if position else 0
    while True:
        rows, note = evidence(*batch_runs(producer, sequence)), {"next": sequence + 1}
        lake.append("evidence", rows, producer=producer, sequence=sequence, note=note)
        acks.add(producer, sequence)
        sequence += 1


def checkpoint_until_killed(root: str, seed: int) -> None:
    """Make checkpoints, far more than a lake would."""
    log, chance = Lake.open(root).logs["evidence"], random.Random(seed)
    while True:
        log.checkpoint(log.head().version, afresh=chance.random() < 0.2)


def compact_until_killed(root: str) -> None:
    """Compact whenever there is something to."""
    lake = Lake.open(root)
    while True:
        done = list(compact(lake, ["evidence"]))
        if not done:
            time.sleep(0.02)


# What a soak runs. Whatever ends in an error that nobody injected is a finding.


def soaked(work: Callable[..., None], root: str, folder: str, name: str, faults: tuple[Fault, int]) -> None:
    """Run one of the below until it is killed, with a fault under it and a seed; write down what should not be."""
    fault, seed = faults
    chance = random.Random(seed)
    try:
        with injected(fault):
            work(Lake.open(root), folder, name, chance)
    except BaseException:
        said = traceback.format_exc()
        if "(injected)" not in said:
            with Path(folder, f"{name}.findings").open("a") as file:
                file.write(f"{name}, seed {seed}, {fault}:\n{said}\n")
        raise


def writing(lake: Lake, folder: str, name: str, chance: random.Random) -> None:
    """Append, batch by batch; what fails is sent again."""
    acks = Acks(f"{folder}/{name}.acks")
    position = lake.position("evidence", name)
    sequence = position.note["next"] if position else 0
    while True:
        rows, note = evidence(*batch_runs(name, sequence)), {"next": sequence + 1}
        since = time.monotonic()
        try:
            lake.append("evidence", rows, producer=name, sequence=sequence, note=note)
        except LakeError as error:
            if "(injected)" not in error.message:
                raise
            continue
        acks.add(name, sequence, time.monotonic() - since)
        sequence += 1
        time.sleep(chance.uniform(0, 0.3))


def reading(lake: Lake, folder: str, name: str, chance: random.Random) -> None:
    """Pin, read, remember; or read again what anybody has pinned, and compare."""
    mine = os.open(f"{folder}/{name}.pins", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while True:
        before = list(pinned(folder))
        if chance.random() < 0.3 or not before:
            snapshot = lake.pin()
            read = digest_of_ids(snapshot.read("evidence", ["event_id"])["event_id"].to_pylist())
            os.write(mine, f"{snapshot.id} {read}\n".encode())
        else:
            pin, read = chance.choice(before)
            again = digest_of_ids(lake.snapshot(pin).read("evidence", ["event_id"])["event_id"].to_pylist())
            assert again == read, f"pin {pin} reads otherwise"
        time.sleep(chance.uniform(0.2, 3))


def pinned(folder: str | Path) -> Iterator[tuple[str, str]]:
    """All pins of which a reader was told, and what it read there."""
    for path in sorted(Path(folder).glob("*.pins")):
        for line in path.read_text().splitlines():
            pin, read = line.split()
            yield pin, read


def compacting(lake: Lake, folder: str, name: str, chance: random.Random) -> None:
    """Compact now and then."""
    while True:
        list(compact(lake))
        time.sleep(chance.uniform(0.5, 5))


def vacuuming(lake: Lake, folder: str, name: str, chance: random.Random) -> None:
    """Free now and then what nothing has needed for a while: a while is what a stalled reader needs here."""
    while True:
        vacuum(lake, timedelta(seconds=20), force=True)
        time.sleep(chance.uniform(1, 8))


def verifying(lake: Lake, folder: str, name: str, chance: random.Random) -> None:
    """Verify now and then; any fault is a finding."""
    while True:
        found = list(lake.verify(deep=chance.random() < 0.3))
        assert found == [], found[:3]
        time.sleep(chance.uniform(2, 15))
