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
    """Let the first process do this before the others do. Raises LakeError in these where the first one has failed."""
    leads = PartialState().is_main_process
    if not leads:
        _wait()
    yield
    if leads:
        _wait()


def _wait() -> None:
    if PartialState().num_processes == 1:
        return
    try:
        dist.barrier(group=_patient())
    except RuntimeError:
        raise LakeError("the first process of the run has ended", "what it says tells why") from None


@cache
def _patient() -> Any:
    """All processes, as a group that has a limit of its own beside that of steps; gloo needs no device."""
    return dist.new_group(timeout=_LONG, backend="gloo")
