"""What other processes read of a lake for a test: an epoch of a snapshot in parts, and a lake by all means."""

import multiprocessing
import random
import sys
from collections.abc import Iterator

from lake import Lake, LakeError
from lake.snapshots import Snapshot

WORKERS = 4


def share(snapshot: Snapshot, seed: int, epoch: int, worker: int, start: int = 0) -> Iterator[str]:
    """One worker's runs of an epoch, in its order, from a place on."""
    runs = sorted(snapshot.read("evidence", ["run_id"]).column(0).to_pylist())
    random.Random(f"{seed} {epoch}").shuffle(runs)
    yield from runs[worker + start * WORKERS :: WORKERS]


def work(given: tuple[Snapshot, int, int, int, int]) -> list[str]:
    """A share as a list, for a pool."""
    return list(share(*given))


def epoch(method: str, snapshot: Snapshot, seed: int, number: int, start: int = 0) -> list[str]:
    """The runs of an epoch as several processes read them, in the order in which a loader would take turns."""
    with multiprocessing.get_context(method).Pool(WORKERS) as pool:
        parts = pool.map(work, [(snapshot, seed, number, worker, start) for worker in range(WORKERS)], chunksize=1)
    return [run for turn in range(max(map(len, parts))) for part in parts for run in part[turn : turn + 1]]


def by_all_means(uri: str) -> None:
    """Read whatever a lake at an address says, by every door that reads."""
    try:
        lake = Lake.open(uri)
    except LakeError as error:
        print(error.message)
        return
    doors = [lake.versions, lake.names, lambda: lake.read("evidence"), lambda: list(lake.verify(deep=True))]
    doors += [lambda: list(lake.commits("evidence")), lambda: lake.position("evidence", "p")]
    doors += [lambda: lake.snapshot().read("evidence"), lambda: lake.snapshot("evidence=1").read("evidence")]
    doors += [lambda at=at: lake.snapshot(at).read("evidence") for at in lake.snapshots()]
    for door in doors:
        try:
            door()
        except LakeError as error:
            print(error.message)


if __name__ == "__main__":
    by_all_means(sys.argv[1])
