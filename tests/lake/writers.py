"""What other processes do to a lake while a test looks on. Light to import, as each of them does."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.synchronize import Barrier

from lake import Lake
from lake.events import to_table
from lake.files import Folder
from lake.kinds import KINDS
from lake.log import Appended, Log
from tests.lake.rows import evidence, much_evidence, scores

KIND = KINDS["evidence"]
SAME = 100_000
BATCH = 5_000

# Each worker is a fork of a server that has imported all of this and used none of it: fresh, and started at once.
WORKERS = multiprocessing.get_context("forkserver")
WORKERS.set_forkserver_preload(["pytest", "tests.lake.writers"])


def in_processes(target: Callable[..., None], *arguments: tuple[object, ...], timeout: float = 60) -> list[int | None]:
    """Run a function in one new process for each tuple of arguments, all at once; their exit codes."""
    barrier = WORKERS.Barrier(len(arguments))
    workers = [WORKERS.Process(target=target, args=(barrier, *given)) for given in arguments]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout)
    return [worker.exitcode for worker in workers]


def opened(root: str) -> Log:
    return Log(Folder(root), KIND)


def send(log: Log, rows: object, producer: str = "p", sequence: int = 1, note: object = None) -> Appended:
    return log.append(to_table(KIND, rows), producer, sequence, note)


def append_own(barrier: Barrier, root: str, name: str, count: int) -> None:
    log = opened(root)
    barrier.wait()
    for number in range(count):
        send(log, evidence(f"{name}-{number}", f"shared-{number}"), name, number)


def append_same(barrier: Barrier, root: str) -> None:
    log = opened(root)
    for number in range(15):
        barrier.wait()
        send(log, evidence(f"r{number}"), "p", number)


def create_at_once(barrier: Barrier, root: str, name: str) -> None:
    log = opened(root)
    barrier.wait()
    log.create()
    send(log, evidence(name), name, 1)


def append_all(barrier: Barrier | None, root: str, producer: str) -> None:
    """Send the same events as everybody else, from where this producer was."""
    log = opened(root)
    position = log.head().position(producer)
    if barrier is not None:
        barrier.wait()
    for start in range(position.note["next"] if position else 0, SAME, BATCH):
        rows = to_table(KIND, much_evidence(start, start + BATCH))
        log.append(rows, producer, start // BATCH, {"next": start + BATCH})


def append_until_killed(root: str, start: int) -> None:
    log = opened(root)
    while True:
        send(log, evidence(*(f"{start}-{i}" for i in range(start % 7 + 1))), "victim", start)
        start += 1


def create_one(barrier: Barrier, root: str, name: str) -> None:
    barrier.wait()
    lake = Lake.create(root, exist_ok=True)
    for kind, rows in (("evidence", evidence(name)), ("scores", scores(name))):
        lake.append(kind, rows, producer=name, sequence=1)


def record_some(barrier: Barrier, root: str, name: str) -> None:
    """Record ten receipts."""
    lake = Lake.open(root)
    barrier.wait()
    for number in range(10):
        lake.record("receipts", {"stage": f"{name}{number}"})


def write_pairs(root: str, count: int) -> None:
    """Append evidence and then its score, one by one."""
    lake = Lake.open(root)
    for number in range(count):
        lake.append("evidence", evidence(f"r{number}"), producer="w", sequence=number)
        lake.append("scores", scores(f"r{number}"), producer="w", sequence=number)
