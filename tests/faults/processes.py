"""Processes that are started by the hundred, each fresh, to be killed or raced."""

from tests.lake.writers import WORKERS

# They are forks of a server that has imported all of this and used none of it.
WORKERS.set_forkserver_preload(["pytest", "tests.lake.writers", "tests.faults.operations", "tests.faults.injector"])

__all__ = ["WORKERS"]
