"""Ctrl-C ends any command with one line and the usual exit code, from the first moment on."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAID = "error: interrupted\nhint: what was committed is safe; run it again to go on\n"
SECONDS = 60

# Waits for a query on stdin, so that it never ends by itself. Python tells of each module that has been loaded.
WAITS = (sys.executable, "-X", "importtime", "-m", "cli.app", "sql", "-")


# What has just been loaded as somebody thinks better of it, and for how many seconds. At last the command is at work.
@pytest.mark.parametrize(
    ("moment", "later"),
    [
        ("typing", 0),
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
