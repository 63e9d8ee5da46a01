"""What tests start ends with them."""

import signal
import subprocess
import time

import pytest

from tests.trainers.launching import ROOT, python

# Starts what sleeps, in a session of its own, as torchrun starts its workers.
STARTS = """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
pathlib.Path("child").write_text(str(child.pid))
print("a word before", flush=True)
time.sleep(600)
"""


def test_what_takes_too_long_is_ended_with_all_that_it_started(tmp_path):
    """After its time a program is gone, and its children too; what it had said is told."""
    with pytest.raises(AssertionError, match=r"nothing after 3 seconds\na word before"):
        python("-c", STARTS, folder=tmp_path, seconds=3)
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        if not alive(child):
            return
        time.sleep(0.05)
    pytest.fail("it is still there")


def alive(pid):
    """Whether a process is there and has not ended: nobody may have asked yet what became of it."""
    told = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return told.stdout.strip()[:1] not in {"", "Z"}


def test_a_program_that_fails_says_why(tmp_path):
    """What it wrote is told with the exit code; another one may be asked for."""
    with pytest.raises(AssertionError, match=r"ended with 3\n[^$]*for no reason"):
        python("-c", "import sys; print('for no reason', file=sys.stderr); sys.exit(3)")
    assert python("-c", "print(__import__('lake').__file__); exit(3)", folder=tmp_path, code=3).out.startswith(
        str(ROOT)
    )


def test_a_program_can_be_interrupted_wherever_its_test_was_started():
    """A program heeds an interruption although the tests that start it ignore theirs, as in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        said = python(
            "-c", "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('still here')", code=-signal.SIGINT
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert said.out == ""
