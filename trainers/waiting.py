"""Waits among the processes of a run that take as long as what is waited for takes.

While the first process makes shards, or reads gigabytes for their sha256, the others have nothing to do. Were they to
wait as for a step, they would be ended after torch's time limit: 10 minutes on GPUs, 30 elsewhere. The limit of steps
stays as it is, because a step that does not end is a fault.

Not here: what is done meanwhile.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any

import torch.distributed as dist
from accelerate import PartialState

from lake.errors import LakeError

_LONG = timedelta(days=365)


@contextmanager
def first() -> Iterator[None]:
    """Let the first process do this before the others do. Raises LakeError in those that wait where one has ended."""
    state = PartialState()
    if state.num_processes == 1:
        yield
        return
    group = _patient()  # by all of them before anything is done: who ends while others make it is never missed
    if not state.is_main_process:
        _wait(group)
    yield
    if state.is_main_process:
        _wait(group)


def _wait(group: Any) -> None:
    try:
        dist.barrier(group=group)
    except RuntimeError as error:
        hint = f"what it says tells why; seen from here: {error}"
        raise LakeError("another process of the run has ended", hint) from error


@cache
def _patient() -> Any:
    """All processes, as a group that has a limit of its own beside that of steps; gloo needs no device."""
    try:
        return dist.new_group(timeout=_LONG, backend="gloo")
    except RuntimeError as error:
        hint = "GLOO_SOCKET_IFNAME names the network interface to take"
        raise LakeError(f"the processes of the run cannot reach each other over gloo: {error}", hint) from error
