"""A function of a user's own as a scorer: held in, whatever it does by accident or on purpose."""

import hashlib
import socket
import sys
import time
from pathlib import Path

import pytest

from ingest.scorers.function import Function
from ingest.scorers.scorer import BadVerdict, NotScored, Verdict
from ingest.scoring import Options, score
from lake import Lake

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox's layers are Linux'")

MODULE = """
import ctypes, os, shutil, signal, socket, subprocess, sys, tempfile, time

def seen(evidence, task):
    return {"category": "accepted", "reasons": [repr(evidence["recorded_at"]), str(task)]}

def quiet(evidence, task): return None
def prints(evidence, task):
    print("x" * 1_000_000, flush=True)
    return "accepted"
def own_folder(evidence, task):
    with tempfile.TemporaryFile() as file:
        file.write(b"x")
    return "accepted"
def reads_beside(evidence, task):
    return {"category": "accepted", "reasons": [open("beside.txt").read()]}

def writes(evidence, task): open("lake/lake.json", "a").write("x")
def makes(evidence, task): open("made", "w").write("x")
def deletes(evidence, task): os.unlink("lake/lake.json")
def sweeps(evidence, task): shutil.rmtree("lake")
def reads_elsewhere(evidence, task): return open(os.path.expanduser("~/.bashrc")).read()
def calls(evidence, task): socket.create_connection(("127.0.0.1", PORT), 2)
def starts(evidence, task): subprocess.run(["/bin/true"])
def forks(evidence, task): os.fork()
def kills(evidence, task): os.kill(os.getppid(), signal.SIGKILL)
def hoards(evidence, task): return [bytes(1 << 30) for _ in range(100)]
def raises(evidence, task): return evidence["nothing"]
def babbles(evidence, task): return {"category": "accepted", "reasons": ["x" * 50_000_000]}
def mumbles(evidence, task): return object()

def hangs(evidence, task): time.sleep(600)
def goes_round(evidence, task):
    while True: pass
def crashes(evidence, task): ctypes.string_at(0)
def aborts(evidence, task): os.abort()
def leaves(evidence, task): os._exit(0)
def exits(evidence, task): sys.exit(3)
"""
RUN = {"run_id": "r1", "recorded_at": None}


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A working folder with a lake, a file and the user's module."""
    Lake.create(str(tmp_path / "lake"))
    (tmp_path / "beside.txt").write_text("beside")
    with socket.create_server(("127.0.0.1", 0)) as server:
        (tmp_path / "theirs.py").write_text(MODULE + f"\nPORT = {server.getsockname()[1]}\n")
        monkeypatch.chdir(tmp_path)
        yield "theirs"


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_a_function_does_what_a_scorer_does(module):
    """It sees the run and the task, answers or not, prints, reads beside itself, and has a folder of its own."""
    assert Function("theirs:seen")(RUN, {"a": 1}) == Verdict("accepted", ("None", "{'a': 1}"))
    assert Function("theirs:quiet")(RUN, None) == NotScored("the function has nothing to say")
    for name in ("prints", "own_folder"):
        assert Function(f"theirs:{name}")(RUN, None).category == "accepted"
    assert Function("theirs:reads_beside")(RUN, None).reasons == ("beside",)


OUTSIDE = (
    *("writes", "makes", "deletes", "sweeps", "reads_elsewhere", "calls", "starts", "forks", "kills"),
    *("hoards", "raises", "babbles", "mumbles"),
)


def test_what_it_may_not_do_is_an_error_and_has_no_effect(module, tmp_path):
    """Writing, foreign files, the network, processes and memory are refused, in one line that names the run."""
    before = contents(tmp_path)
    for name in OUTSIDE:
        scorer = Function(f"theirs:{name}")
        with pytest.raises(BadVerdict, match=f"theirs:{name} on run r1: ") as refusal:
            scorer(RUN, None)
        assert "\n" not in refusal.value.message
        assert refusal.value.hint
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hangs", "no answer"),
        ("goes_round", "no answer"),
        ("crashes", "SIGSEGV"),
        ("aborts", "SIGABRT"),
        ("leaves", "exit code 0"),
        ("exits", "SystemExit: 3"),
    ],
)
def test_when_it_gives_no_answer_the_run_is_named(name, said, module):
    """A hang, a crash or an exit is an error soon, and what is asked next is one, too."""
    scorer = Function(f"theirs:{name}", seconds=2)
    began = time.monotonic()
    with pytest.raises(BadVerdict, match=f"on run r1: .*{said}"):
        scorer(RUN, None)
    assert time.monotonic() - began < 10
    with pytest.raises(BadVerdict, match="on run r1: "):
        scorer(RUN, None)


def test_its_module_is_never_imported_here(module):
    """Importing runs a module, so that is done in the sandbox as well."""
    Function("theirs:seen")
    assert "theirs" not in sys.modules


def test_what_was_scored_before_a_crash_stays(module, tmp_path):
    """The verdicts that were committed are kept, and the others can be had another day."""
    (tmp_path / "sometimes.py").write_text(
        "import os\ndef f(evidence, task):\n    if evidence['run_id'] == 'r3': os.abort()\n    return 'accepted'\n"
    )
    lake = Lake.open("lake")
    runs = [
        {"run_id": f"r{n}", "task_id": "t", "kind": "completion", "role": "executor", "text": "x"} for n in range(5)
    ]
    lake.append("evidence", runs, producer="p", sequence=1)
    with pytest.raises(BadVerdict, match="on run r3"):
        score(lake, Function("sometimes:f"), Options(batch_rows=1))
    assert set(lake.read("scores")["run_id"].to_pylist()) <= {"r0", "r1", "r2", "r4"}
