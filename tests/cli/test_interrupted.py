"""Ctrl-C ends any command with one line and the usual exit code, from the first moment on."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAID = "error: interrupted\nhint: what was committed is safe; run it again to go on\n"
SECONDS = 60

# Waits for a query on stdin, so that it never ends by itself. Python tells of each module that has been loaded.
WAITS = (sys.executable, "-X", "importtime", "-m", "cli.app", "sql", "-")


@pytest.fixture(autouse=True)
def heeded() -> Iterator[None]:
    """What is started heeds Ctrl-C, also where the tests themselves run in the background, which is passed on."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


# What has just been loaded as somebody thinks better of it, and for how many seconds. At last the command is at work.
@pytest.mark.parametrize(
    ("moment", "later"),
    [
        ("typer", 0),
        ("pyarrow.lib", 0),
        ("duckdb", 0),
        ("cli.options", 0),
        ("cli.tidy", 0),
        ("cli.tidy", 1),
    ],
)
def test_a_command_ends_with_one_line_whenever_it_is_interrupted(moment: str, later: float, tmp_path: Path) -> None:
    """While libraries load and afterwards there is one line, one hint, exit code 130, and no traceback."""
    told = tmp_path / "told"
    with (
        told.open("wb") as err,
        subprocess.Popen(WAITS, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err) as process,
    ):
        try:
            since = time.monotonic()
            while f" {moment}\n" not in told.read_text():
                assert process.poll() is None
                assert time.monotonic() - since < SECONDS
                time.sleep(0.001)
            time.sleep(later)
            process.send_signal(signal.SIGINT)
            assert process.wait(SECONDS) == 130
        finally:
            process.kill()
        assert process.stdout is not None
        assert process.stdout.read() == b""
    lines = [line for line in told.read_text().splitlines(keepends=True) if not line.startswith("import time:")]
    assert "".join(lines) == SAID


def test_a_demo_that_is_interrupted_ends_as_its_steps_do(tmp_path: Path) -> None:
    """Ctrl-C in one of its steps is no failure of the step: exit code 130, and the usual line."""
    command = (sys.executable, "-m", "cli.app", "demo", str(tmp_path / "demo"))
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert any(line.startswith("$ lake ingest evidence") for line in process.stdout)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    assert process.returncode == 130
    assert err.endswith(f"\n{SAID}")
    assert "Traceback" not in err
