"""The sandbox, with programs that try to get out, and that use up what they are given."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from ingest import sandbox, sandbox_child
from ingest.sandbox import Limits, Program
from lake.errors import LakeError, UsageError

linux = pytest.mark.skipif(sys.platform != "linux", reason="the layers are those of Linux")


def python(code: str, *arguments: str, **program: object) -> Program:
    return Program(argv=(sys.executable, "-I", "-S", "-c", code, *arguments), **program)


def brief(**limits: object) -> Limits:
    return Limits(**{"wall_seconds": 5, **limits})


def test_a_program_runs_and_says_how_it_ended():
    """Exit code, output and duration come back."""
    outcome = sandbox.run(python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"))
    assert (outcome.exit_code, outcome.signal, outcome.stdout, outcome.stderr) == (3, None, "out\n", "err\n")
    assert outcome.started
    assert not outcome.ok
    assert 0 < outcome.duration < 10
    assert outcome.max_memory_bytes > 1 << 20


def test_a_program_that_exits_with_zero_is_ok():
    """The usual good end."""
    assert sandbox.run(Program(argv=("true",))).ok


def test_a_fatal_signal_is_named():
    """A program that crashes has no exit code but a signal."""
    outcome = sandbox.run(python("import os; os.abort()"))
    assert (outcome.exit_code, outcome.signal) == (None, "SIGABRT")


def test_files_are_its_own_and_gone_afterwards():
    """A program finds the files it was given in its folder, may write there, and leaves nothing behind."""
    code = (
        "import os; print(open('given').read()); open('made', 'w').write('x'); print(sorted(os.listdir()), os.getcwd())"
    )
    outcome = sandbox.run(python(code, files={"given": b"hello"}))
    given, listed = outcome.stdout.splitlines()
    names, folder = listed.rsplit(" ", 1)
    assert (given, names) == ("hello", "['given', 'made']")
    assert not Path(folder).exists()


def test_environment_and_stdin_are_empty():
    """Nothing of the parent's environment reaches a program, and nothing can be read from stdin."""
    os.environ["SANDBOX_SECRET"] = "1"
    try:
        outcome = sandbox.run(python("import os, sys; print(set(os.environ) - {'LC_CTYPE'}, repr(sys.stdin.read()))"))
    finally:
        del os.environ["SANDBOX_SECRET"]
    assert outcome.stdout == "set() ''\n"


@pytest.mark.parametrize("without", [(), pytest.param(("user",), marks=linux)])
def test_the_clock_ends_a_program(without):
    """A program that goes on is killed when its time is up, with or without namespaces."""
    outcome = sandbox.run(python("while True: pass"), brief(wall_seconds=0.5, without=without))
    assert outcome.timed_out
    assert outcome.exit_code is None
    assert outcome.duration < 4


def test_processor_time_is_limited():
    """A program ends at its limit of processor time, if that comes before the clock."""
    outcome = sandbox.run(python("while True: pass"), brief(cpu_seconds=1))
    # A machine that stands still for a second lets it past the first limit, and the second one kills.
    assert outcome.signal in {"SIGXCPU", "SIGKILL"}
    assert not outcome.timed_out


@linux
def test_memory_is_limited():
    """More memory than allowed is refused to a program."""
    outcome = sandbox.run(python("bytearray(1 << 30)"), brief(memory_bytes=256 << 20))
    assert "MemoryError" in outcome.stderr


def test_files_are_limited_in_size():
    """One file cannot grow beyond its limit."""
    outcome = sandbox.run(python("open('big', 'wb').write(bytes(1 << 20))"), brief(file_bytes=1 << 16))
    assert "File too large" in outcome.stderr


@linux
def test_files_are_limited_in_sum():
    """All files together cannot fill the disk, nor can their number."""
    code = "import sys\nfor i in range(99): open(str(i), 'wb').write(bytes(1 << 20))"
    outcome = sandbox.run(python(code), brief(disk_bytes=4 << 20))
    if "mounts" not in outcome.layers:
        pytest.skip("this kernel gives no namespace for mounts")
    assert "No space left" in outcome.stderr


def test_a_flood_of_output_ends_a_program():
    """What is written beyond the budget kills the program and fills no memory; the last of it is kept."""
    outcome = sandbox.run(python("while True: print('x' * 9999)"), brief(output_bytes=1 << 18))
    assert outcome.flooded
    assert not outcome.timed_out
    assert len(outcome.stdout) <= sandbox.TAIL_BYTES


@linux
@pytest.mark.parametrize("without", [(), ("seccomp",), ("user",), ("user", "mounts", "landlock")])
def test_the_network_is_cut(without):
    """No port of this machine is reached, by the namespace and by the filter, each alone."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 2); print('reached')"
        outcome = sandbox.run(python(code, str(server.getsockname()[1])), brief(without=without))
    assert outcome.network_isolated
    assert "reached" not in outcome.stdout
    assert outcome.exit_code == 1


@linux
@pytest.mark.parametrize("without", [(), ("user",)])
def test_no_second_process_is_started(without):
    """Neither fork nor exec of another program works, for root either; threads do."""
    code = (
        "import os, subprocess, threading\n"
        "for attempt in (os.fork, lambda: subprocess.run(['/bin/true'])):\n"
        "    try: attempt()\n"
        "    except OSError as error: print(type(error).__name__)\n"
        "thread = threading.Thread(target=print, args=('thread',)); thread.start(); thread.join()"
    )
    outcome = sandbox.run(python(code), brief(without=without))
    assert outcome.processes_limited
    assert outcome.stdout.split() == ["PermissionError", "PermissionError", "thread"]


def still_running(mark: str) -> bool:
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if os.access(path, os.R_OK)]
    return any(mark.encode() in command for command in commands)


@linux
@pytest.mark.parametrize("without", [(), ("user",)])
@pytest.mark.parametrize("endless", [True, False])
def test_nothing_is_left_running(without, endless):
    """Where forking is allowed, grandchildren with sessions of their own die with the program, however it ends."""
    mark = f"marked-{os.getpid()}-{len(without)}-{endless}"
    code = (
        "import os, sys, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        sleep = 'import time; time.sleep(60)'\n"
        "        os.execv(sys.executable, [sys.executable, '-I', '-S', '-c', sleep, sys.argv[1]])\n"
        "    os._exit(0)\n"
        "time.sleep(0.3)\n" + ("time.sleep(60)" if endless else "print('done')")
    )
    outcome = sandbox.run(python(code, mark), brief(wall_seconds=1.5, processes=8, without=without))
    assert outcome.timed_out == endless, outcome.stderr
    assert not outcome.processes_limited
    deadline = time.monotonic() + 5
    while still_running(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not still_running(mark)


@linux
@pytest.mark.parametrize("without", [("landlock",), ("user",)])
def test_other_files_cannot_be_changed(without, tmp_path):
    """What lies outside a program's folder can be neither written nor removed, by mounts and by Landlock alone."""
    victim = tmp_path / "victim"
    victim.write_text("as it was")
    os.chmod(tmp_path, 0o777)
    code = (
        "import os, sys\n"
        "for attempt in (lambda: open(sys.argv[1], 'w'), lambda: os.unlink(sys.argv[1]),\n"
        "                lambda: os.rename(sys.argv[1], 'mine'), lambda: open(sys.argv[1] + '2', 'w')):\n"
        "    try: attempt(); print('did it')\n"
        "    except OSError: pass"
    )
    outcome = sandbox.run(python(code, str(victim)), brief(without=without))
    if not {"mounts", "landlock"} & set(outcome.layers):
        pytest.skip("this kernel gives neither")
    assert outcome.stdout == ""
    assert victim.read_text() == "as it was"
    assert [path.name for path in tmp_path.iterdir()] == ["victim"]


@linux
def test_other_files_cannot_be_read(tmp_path):
    """With Landlock a program reads the system's folders, those that it was given, and no other."""
    if "landlock" not in sandbox.strength().layers:
        pytest.skip("this kernel has no Landlock")
    secret = tmp_path / "secret"
    secret.write_text("told")
    program = python("import sys; print(open(sys.argv[1]).read())", str(secret))
    assert "PermissionError" in sandbox.run(program).stderr
    allowed = Program(argv=program.argv, readable=(str(tmp_path),))
    assert sandbox.run(allowed).stdout == "told\n"


@linux
@pytest.mark.parametrize("without", [(), ("user",), ("user", "landlock")])
def test_other_processes_are_out_of_reach(without):
    """A program can neither signal nor limit its supervisor, nor anything else."""
    code = (
        "import os, resource\n"
        "attempts = [lambda: os.kill(os.getppid() or 1, 9), lambda: os.kill(-1, 0),\n"
        "            lambda: resource.prlimit(os.getppid() or 1, resource.RLIMIT_CPU, (0, 0))]\n"
        "for attempt in attempts:\n"
        "    try: attempt(); print('did it')\n"
        "    except OSError: pass\n"
        "print('end')"
    )
    outcome = sandbox.run(python(code), brief(without=without))
    assert (outcome.exit_code, outcome.stdout) == (0, "end\n")


@linux
def test_a_supervisor_that_is_killed_takes_its_program_along():
    """Without namespaces, a program whose supervisor was killed is found by its process group."""
    mark = f"orphan-{os.getpid()}"
    running = sandbox.start(python("import time; time.sleep(60)", mark), brief(wall_seconds=60, without=("user",)))
    deadline = time.monotonic() + 5
    while not still_running(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    running.stop()
    (outcome,) = sandbox.together(running)
    assert (outcome.exit_code, outcome.signal) == (None, None)
    deadline = time.monotonic() + 5
    while still_running(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not still_running(mark)


@linux
def test_the_first_to_end_ends_the_others():
    """Programs that run together are over when the first of them is."""
    slow = sandbox.start(python("import time; time.sleep(60)"), brief(wall_seconds=30))
    quick = sandbox.start(python("print('quick')"))
    first, second = sandbox.together(quick, slow)
    assert first.stdout == "quick\n"
    assert second.exit_code is None
    assert second.duration < 10


def test_what_is_passed_on_can_be_talked_over():
    """A file number that a program is given is open in it."""
    reading, writing = os.pipe()
    with open(reading) as answers:
        outcome = sandbox.run(
            python("import os, sys; os.write(int(sys.argv[1]), b'hello')", str(writing), pass_fds=(writing,))
        )
        os.close(writing)
        assert answers.read() == "hello"
    assert outcome.ok


def test_a_module_runs_without_a_second_interpreter(tmp_path):
    """The function main of a module is a program as well, and its failure is an exit code."""
    module = tmp_path / "sandboxed_module.py"
    module.write_text("def main():\n    print('main ran')\n    raise ValueError('and failed')\n")
    outcome = sandbox.run(Program(entry=module, readable=(str(tmp_path),)))
    assert (outcome.exit_code, outcome.stdout, outcome.stderr) == (1, "main ran\n", "ValueError: and failed\n")


def test_strings_hash_the_same_in_every_run(tmp_path):
    """A set has one order, so that a pure program answers the same each time."""
    module = tmp_path / "hashing_module.py"
    module.write_text("def main():\n    print(hash('a'))\n")
    program = Program(entry=module, readable=(str(tmp_path),))
    assert sandbox.run(program).stdout == sandbox.run(program).stdout


def test_strength_is_found_out_once():
    """What the sandbox is worth here is tried, once."""
    assert sandbox.strength() is sandbox.strength()
    if sys.platform == "linux":
        assert sandbox.strength().network_cut


@linux
@pytest.mark.skipif(os.geteuid() != 0, reason="only root is refused")
def test_root_gets_no_sandbox_that_leaves_files_open():
    """As root, without anything that protects files, nothing is run."""
    with pytest.raises(LakeError, match="from the files"):
        sandbox.strength(("user", "landlock"))


@pytest.mark.parametrize("wrong", [{"wall_seconds": 0}, {"memory_bytes": -1}, {"without": ("sockets",)}])
def test_limits_that_make_no_sense_are_refused(wrong):
    """A limit is above zero, and a layer one that there is."""
    with pytest.raises(UsageError):
        Limits(**wrong)


@pytest.mark.parametrize(
    "wrong", [Program(), Program(argv=("true",), entry=Path("x.py")), Program(argv=("no-such-x",))]
)
def test_a_program_must_be_one(wrong, tmp_path, monkeypatch):
    """Neither nothing, nor two things, nor something that is not there; and nothing is left of the attempt."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(UsageError):
        sandbox.run(wrong)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_start_is_said(tmp_path):
    """A program that cannot be executed ends with the shell's code for it."""
    script = tmp_path / "not-a-program"
    script.write_text("plain text")
    script.chmod(0o755)
    outcome = sandbox.run(Program(argv=(str(script),), readable=(str(tmp_path),)))
    assert outcome.exit_code == 127
    assert "Error" in outcome.stderr


def test_a_sandbox_that_cannot_be_set_up_says_so(tmp_path):
    """Where confining fails nothing is run."""
    outcome = sandbox.run(python("print('ran')", files={"no/such/folder": b""}))
    assert not outcome.started
    assert outcome.exit_code == 126
    assert "no/such/folder" in outcome.stderr
    assert outcome.stdout == ""


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("alone", [True, False])
def test_the_filter_is_a_valid_program(machine, alone):
    """Every jump of the filter lands inside it, and its last instruction is a return."""
    program = sandbox_child.filter_program(machine, alone, 1234)
    steps = [program[start : start + 8] for start in range(0, len(program), 8)]
    for place, step in enumerate(steps):
        code, yes, no = int.from_bytes(step[:2], sys.byteorder), step[2], step[3]
        if code in (0x15, 0x35, 0x45):
            assert place + 1 + max(yes, no) < len(steps)
    assert int.from_bytes(steps[-1][:2], sys.byteorder) == 0x06
    assert all(len(step) == 8 for step in steps)


def test_an_unknown_machine_has_no_filter():
    """Where the numbers of system calls are not known, none is filtered."""
    assert sandbox_child.filter_program("pdp11", True, 1) is None


@linux
@pytest.mark.skipif(
    sys.byteorder != "little" or os.uname().machine not in ("x86_64", "aarch64"), reason="no filter here"
)
def test_signals_to_oneself_are_fine():
    """A filtered program may still raise a signal in itself."""
    outcome = sandbox.run(
        python("import os, signal; signal.signal(10, print); os.kill(os.getpid(), 10); print('alive')")
    )
    assert outcome.stdout.endswith("alive\n")


def test_the_child_imports_nothing_of_the_product():
    """The child's file starts in an interpreter that has the standard library alone."""
    code = f"import sys; sys.path.insert(0, {str(Path(sandbox_child.__file__).parent)!r}); import sandbox_child"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)
