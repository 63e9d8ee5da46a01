"""Processes that are killed, and processes that read the same file at once: each event is there exactly once."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.compute as pc
import pytest

from lake import Lake

ROOT = Path(__file__).parents[2]
EVENTS = 100_000
BAD = 500  # every so many rows one is no JSON

PROGRAM = """
import sys
from ingest.blocks import Sizes
from ingest.run import Options, ingest
from lake import Lake

print("ready", flush=True)
ingest(Lake.open(sys.argv[1]), "evidence", [sys.argv[2]], Options(sizes=Sizes(block=1 << 20)))
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("input") / "f.jsonl"
    with path.open("w") as out:
        for number in range(EVENTS):
            extra = {} if number % 50 else {"tokens": number}
            out.write(
                json.dumps({"run_id": f"r{number}", "task_id": f"t{number % 97}", "text": "x" * 50, **extra}) + "\n"
            )
            if number % BAD == 0:
                out.write(f"bad {number}\n")
    return path


def start(lake: Lake, file: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PROGRAM, lake.uri, str(file)], cwd=ROOT, stdout=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    process.communicate(timeout=300)
    assert process.returncode == 0


def kill_while_it_works(lake: Lake, process: subprocess.Popen[bytes], chance: random.Random) -> None:
    """Kill a process at some moment after it has committed something, if it has not finished by then."""
    before = lake.versions()["evidence"]
    assert process.stdout is not None
    process.stdout.readline()
    while process.poll() is None and lake.versions()["evidence"] == before:
        time.sleep(0.005)
    time.sleep(chance.uniform(0, 0.3))
    process.kill()
    process.communicate()


def check_everything_is_there_once(lake: Lake) -> None:
    events = lake.read("evidence")
    assert len(events) == EVENTS
    assert pc.count_distinct(events.column("run_id")).as_py() == EVENTS
    rejects = lake.read("rejects")
    assert len(rejects) == EVENTS // BAD
    assert pc.count_distinct(pc.struct_field(rejects.column("source"), "line")).as_py() == EVENTS // BAD
    assert list(lake.verify()) == []


def test_a_killed_ingest_goes_on_until_every_event_is_there_once(lake, file):
    """Killed with SIGKILL at random moments and started again, it stores each row once and goes on where it was."""
    chance = random.Random(7)
    for _ in range(4):
        kill_while_it_works(lake, start(lake, file), chance)
    committed = len(lake.read("evidence"))
    finish(start(lake, file))
    assert committed > 0
    check_everything_is_there_once(lake)


def test_two_processes_and_one_of_them_killed(lake, file):
    """Two processes send the same file at once, one is killed and started again: each event is there once."""
    first, second = start(lake, file), start(lake, file)
    kill_while_it_works(lake, first, random.Random(11))
    third = start(lake, file)
    finish(second)
    finish(third)
    check_everything_is_there_once(lake)
