"""What the processes of a run wait for: the first one, however long it takes, and not in vain."""

import msgspec
import pytest

pytest.importorskip("torch")
accelerate = pytest.importorskip("accelerate")
from lake.errors import LakeError, UsageError  # noqa: E402
from tests.trainers.launching import TORCHRUN, python  # noqa: E402
from trainers import run, spec  # noqa: E402

# The limit of steps is a second, and what the first process does first takes three. At last it fails.
WAITS = """
import signal, sys, time
from datetime import timedelta
import torch.distributed as dist
from accelerate import PartialState
from lake.errors import LakeError
from trainers.waiting import first

signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which torchrun would send before a word is said
dist.init_process_group("gloo", timeout=timedelta(seconds=1))
number = PartialState(cpu=True).process_index
for _ in range(2):
    with first():
        time.sleep(0 if number else 3)
        print("done by", number, flush=True)
    dist.barrier()
try:
    with first():
        sys.exit(3)
except LakeError as error:
    print(number, "says:", error.message, flush=True)
    sys.exit(3)
"""


def test_processes_wait_for_the_first_beyond_the_limit_of_a_step(tmp_path):
    """What the first process does alone may take longer than a step may, time and again; if it fails, others end."""
    (tmp_path / "waits.py").write_text(WAITS)
    said = python(*TORCHRUN, 2, "waits.py", folder=tmp_path, code=1).out
    assert said.splitlines() == [
        *("done by 0", "done by 1", "done by 0", "done by 1"),
        "1 says: another process of the run has ended",
    ]


# One process ends at once, or none can reach the other; whoever is left says so.
ENDS = """
import os, signal, sys, time
from accelerate import PartialState
from lake.errors import LakeError
from trainers.waiting import first

signal.signal(signal.SIGTERM, signal.SIG_IGN)
number, ends = PartialState(cpu=True).process_index, sys.argv[1]
if ends == "none":
    os.environ["GLOO_SOCKET_IFNAME"] = "nope0"
try:
    with first():
        if str(number) == ends:
            time.sleep(1)
            os._exit(3)
    with first():
        pass
except LakeError as error:
    print(number, "says:", error.message, flush=True)
    assert str(error.__cause__) in f"{error.message} {error.hint}"
    sys.exit(3)
"""


@pytest.mark.parametrize(
    ("ends", "says"),
    [
        ("0", {"1 says: another process of the run has ended"}),
        ("1", {"0 says: another process of the run has ended"}),
        ("none", {f"{number} says: the processes of the run cannot reach each other over gloo: " for number in (0, 1)}),
    ],
)
def test_who_is_left_says_what_ended_the_run(ends, says, tmp_path):
    """Whichever process ends, at the first wait too, the other one does not sit there; what gloo says is told."""
    (tmp_path / "ends.py").write_text(ENDS)
    said = python(*TORCHRUN, 2, "ends.py", ends, folder=tmp_path, code=1, seconds=60).out
    assert {line.partition("[")[0] for line in said.splitlines()} == says


def test_parts_that_processes_cannot_share_are_refused_before_anything_is_read(settings, tmp_path, monkeypatch):
    """The number of parts is looked at before rows are: there need not even be any."""
    state = accelerate.PartialState(cpu=True)
    said = msgspec.structs.replace(settings("run"), data=spec.Data(export=str(tmp_path / "gone")))
    with pytest.raises(LakeError, match="gone"):
        run.prepare(said)
    monkeypatch.setitem(state._shared_state, "num_processes", 2)
    with pytest.raises(UsageError, match=r"optimizer\.parts: 1 parts cannot be shared by 2 processes"):
        run.prepare(said)
