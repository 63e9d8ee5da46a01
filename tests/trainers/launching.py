"""Programs that a test starts: for so long and no longer, and nothing that they started outlives them."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

ROOT = Path(__file__).parents[2]
TAIL = 6000

# As many processes as are said next, on this machine, which meet at a port that is free.
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node")


class Said(NamedTuple):
    """What a program wrote."""

    out: str
    err: str


def python(
    *arguments: object,
    folder: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    seconds: float = 240,
    code: int = 0,
) -> Said:
    """Run Python with these arguments, in a folder, and return what it wrote.

    It finds the packages of this checkout wherever it runs. Fails, with the end of what was written, where it takes
    longer than `seconds` or ends with another exit code.
    """
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    whole = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **(environment or {})}
    command = [sys.executable, *map(str, arguments)]
    # Files and no pipes: whoever holds the other end of a pipe would be waited for.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        # What a shell starts in the background ignores an interruption, and what is started from there would too.
        heeded = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            process = subprocess.Popen(command, cwd=folder, env=whole, stdout=out, stderr=err, start_new_session=True)
        finally:
            signal.signal(signal.SIGINT, heeded)
        ended: int | str
        try:
            ended = process.wait(seconds)
        except subprocess.TimeoutExpired:
            ended = f"nothing after {seconds} seconds"
        finally:
            _end(process)
        said = Said(*(_read(file) for file in (out, err)))
    assert ended == code, f"{' '.join(command)}\nended with {ended}\n{said.out[-TAIL:]}\n{said.err[-TAIL:]}"
    return said


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a program's group, and what it has started in groups of their own, as torchrun does with its workers."""
    family: list[int] = []
    with suppress(OSError):  # where there is no ps, the group alone is ended
        family = [] if process.poll() is not None else _descendants(process.pid)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for one in family:
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


def _descendants(pid: int) -> list[int]:
    """The processes that a process has started, that these have started, and so on."""
    table = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True, timeout=60)
    parents = {int(one): int(parent) for one, parent in map(str.split, table.stdout.splitlines())}
    found, seen = [pid], 0
    while seen < len(found):
        found += [one for one, parent in parents.items() if parent == found[seen]]
        seen += 1
    return found[1:]
