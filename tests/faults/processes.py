"""Processes that are started by the hundred, each fresh, to be killed or raced."""

from collections.abc import Callable

from tests.lake.writers import WORKERS

# They are forks of a server that has imported all of this and used none of it.
WORKERS.set_forkserver_preload(["pytest", "tests.lake.writers", "tests.faults.operations", "tests.faults.victims"])

__all__ = ["WORKERS", "together"]


def together(target: Callable[..., None], *given: tuple[object, ...], timeout: float = 60) -> list[int | None]:
    """Run a function in a new process for each tuple of arguments, a barrier before these; their exit codes."""
    barrier = WORKERS.Barrier(len(given))
    workers = [WORKERS.Process(target=target, args=(barrier, *arguments)) for arguments in given]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout)
        if worker.is_alive():
            worker.kill()
    return [worker.exitcode for worker in workers]
