"""What somebody sends to do harm: bombs of every format, and SQL that wants out. In processes of their own."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import zstandard

from lake import Lake
from tests.faults.bombs import BOMBS, MIB, SHORT

ROOT = Path(__file__).parents[2]
MEMORY = 512 * MIB
SECONDS = 5

linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux'")


class Ran(NamedTuple):
    """How a command ended. `memory` is the largest resident size of all its processes together, in bytes."""

    code: int
    said: str
    memory: int
    cpu_seconds: float
    seconds: float


def family(process: int) -> Iterator[int]:
    """A process and all that came of it."""
    yield process
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            yield from family(int(child))


def resident(process: int) -> int:
    """The resident size of a process, nothing if it has ended."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, IndexError):
        return 0


def run(folder: Path, *arguments: str) -> Ran:
    """Run the command in a folder and watch its memory."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    with (folder / "said").open("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.app", *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        memory = 0
        while process.poll() is None:
            memory = max(memory, sum(map(resident, family(process.pid))))
            time.sleep(0.01)
        seconds = time.monotonic() - began
        said.seek(0)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Ran(process.returncode, said.read(), memory, used, seconds)


def sized(name: str) -> object:
    """A bomb of the normal tests, or one for the long run."""
    return name if name in SHORT else pytest.param(name, marks=pytest.mark.long)


@linux
@pytest.mark.parametrize("name", [sized(name) for name in BOMBS])
def test_a_bomb_is_refused_in_no_time_and_little_memory(name, tmp_path, report):
    """Whatever a file would grow to, it is refused with a reason, within 512 MiB and 5 seconds of processor time."""
    BOMBS[name](tmp_path / name)
    Lake.create(str(tmp_path / "lake"))
    ran = run(tmp_path, "ingest", "evidence", name, "--lake", "lake")
    assert ran.code == 3, ran.said
    assert "Traceback" not in ran.said
    assert "rejected:" in ran.said
    assert ran.memory < MEMORY
    assert ran.cpu_seconds < SECONDS
    reason = re.findall(r"rejected: (.*)", ran.said)[0]
    size = (tmp_path / name).stat().st_size
    report(f"{name}, {size:,} bytes", 1, reason, f"{ran.memory / MIB:.0f} MiB, {ran.seconds:.1f} s")


@linux
@pytest.mark.parametrize("rows", [10_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_rows_that_pack_well_go_in(rows, tmp_path, report):
    """A file that unpacks to a thousand times its size is no bomb, where its rows differ."""
    path = tmp_path / "f.jsonl.zst"
    packer = zstandard.ZstdCompressor().compressobj()
    prompt = "You are a helpful assistant. " * 400
    size = 0
    with path.open("wb") as file:
        for number in range(rows):
            row = json.dumps({"run_id": f"r{number}", "task_id": "t", "prompt": prompt, "text": "yes"}).encode()
            size += len(row)
            file.write(packer.compress(row + b"\n"))
        file.write(packer.flush())
    ratio = size / path.stat().st_size
    assert ratio > 1000
    Lake.create(str(tmp_path / "lake"))
    ran = run(tmp_path, "ingest", "evidence", path.name, "--lake", "lake")
    assert ran.code == 0, ran.said
    assert f"{rows:,} events added" in ran.said
    report(f"{size:,} bytes of rows, packed {ratio:,.0f}-fold", 1, "all there", f"{ran.seconds:.1f} s")


PROBES = """
import sys
from lake import Lake, LakeError
from tests.views.hostile import ESCAPES, HOSTILE
from views import connect, query
folder, lake = sys.argv[1:]
con = connect(Lake.open(lake).snapshot())
data = Lake.open(lake).snapshot().paths("evidence")[0]
refused = 0
print("begin", flush=True)
for text in (*HOSTILE, *ESCAPES):
    filled = text.format(out=folder + "/out", folder=folder, folder_name="x", data=data, lake=lake)
    try:
        query(con, filled).read_all()
    except LakeError:
        refused += 1
print("refused", refused, len(HOSTILE) + len(ESCAPES))
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="there is no strace")
def test_hostile_sql_calls_nobody_and_opens_nothing(tmp_path, report):
    """While a hundred statements that want out are run, the kernel is asked for no connection and no foreign file."""
    lake = Lake.create(str(tmp_path / "lake"))
    lake.append(
        "evidence",
        [{"run_id": "r", "task_id": "t", "kind": "completion", "role": "executor", "text": "x"}],
        producer="p",
        sequence=1,
    )
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "secret.csv").write_text("a\n1\n")
    trace = tmp_path / "trace"
    done = subprocess.run(
        [
            *("strace", "-f", "-qq", "-s", "300", "-e", "trace=connect,open,openat,creat,unlink,rename,write"),
            *("-o", str(trace), sys.executable, "-c", PROBES, str(folder), str(tmp_path / "lake")),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if "ptrace" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    _, refused, asked = done.stdout.split("\n")[1].split()
    assert refused == asked
    calls = trace.read_text(errors="replace").partition('"begin')[2].split("\n")
    assert [call for call in calls if "connect(" in call and "AF_UNIX" not in call] == []
    opened = [call for call in calls if re.search(r"\b(open|openat|creat)\(", call) and "= -1" not in call]
    assert [call for call in opened if re.search(r"passwd|environ|secret|evil|/etc/(?!localtime)", call)] == []
    writing = [call for call in opened if re.search(r"O_WRONLY|O_RDWR|O_CREAT", call)]
    assert [call for call in writing if str(tmp_path) in call] == []
    assert [path.name for path in folder.iterdir()] == ["secret.csv"]
    report("hostile SQL under strace", int(asked), "0 connections, 0 foreign files opened, all refused")
