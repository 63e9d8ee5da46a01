"""Runs a program that nobody vouches for, in a child process that can do little but compute.

    outcome = sandbox.run(Program(argv=("/usr/bin/true",)), Limits(wall_seconds=5))

What holds on Linux, each layer where the kernel allows it (`sandbox_child` takes them, `Outcome.layers` names them):
own session and process group, own namespaces for users, network, processes, mounts and IPC; no capability; every file
system read-only but a fresh folder in memory; reading limited to the system's folders and those named; no socket; no
second process; limits on processor time, address space, file sizes and open files; wall clock; empty environment;
stdin from /dev/null; output read up to a budget; nothing left running afterwards, double forks included.

What is not covered: a fault in the kernel; reading what the system folders hold (/usr, /etc, the interpreter's);
timing. On macOS there are the limits, the clock and the process group, and `Outcome` says of the rest that it is
missing. A second process is refused by a filter of system calls, because RLIMIT_NPROC neither binds root nor counts
one program's own; where that filter cannot be had (`processes_limited` false) a fork bomb ends with the wall clock.
"""

import contextlib
import functools
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import msgspec

from lake.errors import LakeError, UsageError

LAYERS = ("user", "mounts", "landlock", "seccomp")
TAIL_BYTES = 16 * 1024

_CHILD = Path(__file__).with_name("sandbox_child.py")
# -I without -E: no folder of the user's on the path and no user packages, but the one variable that makes the order
# of a set the same in every run. -S: no site-packages.
_INTERPRETER = (sys.executable, "-P", "-s", "-S", "-X", "utf8")
_START = f"import sys; sys.path.append({str(_CHILD.parent)!r}); import {_CHILD.stem} as c; sys.path.pop(); c.main()"
_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/etc", "/opt", "/dev/zero", "/dev/urandom")
_GRACE_SECONDS = 2.0  # for a supervisor to report, after the program's time is up
_ENDING_SECONDS = 0.3  # for the others to end by themselves, after the first has


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a program may use. Seconds and bytes.

    `output_bytes` counts stdout and stderr together; a program that writes more is killed. `disk_bytes` is what all
    its files may hold, `file_bytes` one of them. `processes` is 1, or more where a program may start others; only with
    1 does the limit hold for root as well. `without` leaves layers out.
    """

    wall_seconds: float = 10.0
    cpu_seconds: int | None = None
    memory_bytes: int = 512 << 20
    file_bytes: int = 16 << 20
    disk_bytes: int = 64 << 20
    output_bytes: int = 4 << 20
    open_files: int = 64
    processes: int = 1
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("wall_seconds", "memory_bytes", "file_bytes", "disk_bytes", "output_bytes", "processes"):
            if getattr(self, name) <= 0:
                raise UsageError(f"the sandbox's {name} is {getattr(self, name)}", "give a number above zero")
        for layer in self.without:
            if layer not in LAYERS:
                raise UsageError(f"the sandbox has no layer {layer!r}", f"the layers are {', '.join(LAYERS)}")


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """What to run: a command, or the function `main` of a module in a fresh interpreter.

    `argv[0]` is looked up on the usual path. `entry` is a path to a Python file; it saves the start of a second
    interpreter, in which `packages` are folders to import from, after the standard library's. `environment` is all
    there is of it. `files` (name -> content) are put in the program's folder, which is its working directory.
    `pass_fds` stay open in it under the same numbers. `readable` are folders that it may read beside the system's and
    the packages'.
    """

    argv: tuple[str, ...] = ()
    entry: Path | None = None
    packages: tuple[str, ...] = ()
    environment: Mapping[str, str] = {}
    files: Mapping[str, bytes] = {}
    pass_fds: tuple[int, ...] = ()
    readable: tuple[str, ...] = ()


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How it ended. Exactly one of `exit_code` and `signal` is set, neither when the ending was not seen.

    `started` is false when the sandbox could not be set up; `stderr` then says why. `flooded` means killed for
    writing more than the budget. `stdout` and `stderr` are the last 16 KiB of each. `max_memory_bytes` is the largest
    resident size, a hint. `duration` and `cpu_seconds` are in seconds.
    """

    exit_code: int | None
    signal: str | None
    started: bool
    timed_out: bool
    flooded: bool
    stdout: str
    stderr: str
    max_memory_bytes: int
    cpu_seconds: float
    duration: float
    layers: tuple[str, ...]
    network_isolated: bool
    processes_limited: bool

    @property
    def ok(self) -> bool:
        """Whether the program ended by itself, with exit code 0."""
        return self.exit_code == 0 and not self.timed_out and not self.flooded


class Running:
    """A started program. `together` waits for it."""

    def __init__(self, program: Program, limits: Limits) -> None:
        self.limits = limits
        self.began = time.monotonic()
        self.deadline = self.began + limits.wall_seconds + _GRACE_SECONDS
        argv = _resolved(program.argv)
        self.folder = tempfile.mkdtemp(prefix="sandbox-")
        orders = {
            "argv": argv,
            "entry": program.entry.stem if program.entry else "",
            "entry_folder": str(program.entry.parent) if program.entry else "",
            "files": {name: content.decode("latin-1") for name, content in program.files.items()},
            "folder": self.folder,
            "packages": program.packages,
            "environment": dict(program.environment),
            "pass_fds": program.pass_fds,
            "readable": (*_SYSTEM, *_interpreter_folders(), *program.packages, *program.readable),
            "without": limits.without,
            "wall_seconds": limits.wall_seconds,
            "cpu_seconds": limits.cpu_seconds or int(limits.wall_seconds) + 1,
            "memory_bytes": limits.memory_bytes,
            "file_bytes": limits.file_bytes,
            "disk_bytes": limits.disk_bytes,
            "open_files": limits.open_files,
            "processes": limits.processes,
        }
        self.status, theirs = os.pipe()
        try:
            self.process = subprocess.Popen(
                (*_INTERPRETER, "-c", _START, str(theirs)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(theirs, *program.pass_fds),
                env={"PYTHONHASHSEED": "0"},
                cwd="/",
                start_new_session=True,
            )
        except BaseException:
            os.close(self.status)
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        finally:
            os.close(theirs)
        self.said = b""
        self.written = 0
        self.flooded = False
        self.lost = False
        self.tails = {"stdout": b"", "stderr": b""}
        with contextlib.suppress(BrokenPipeError), _pipe(self.process.stdin) as stdin:
            stdin.write(json.dumps(orders).encode())

    def channels(self) -> dict[int, str]:
        """What to read from, by file number."""
        return {
            _pipe(self.process.stdout).fileno(): "stdout",
            _pipe(self.process.stderr).fileno(): "stderr",
            self.status: "status",
        }

    def take(self, channel: str, data: bytes) -> None:
        """Keep what was read: all of the status, the end of the output. Kills the program at its budget."""
        if channel == "status":
            self.said += data
            return
        self.written += len(data)
        self.tails[channel] = (self.tails[channel] + data)[-TAIL_BYTES:]
        if self.written > self.limits.output_bytes and not self.flooded:
            self.flooded = True
            self.stop(signal.SIGTERM)

    @property
    def overdue(self) -> bool:
        """Whether even the supervisor should have ended by now."""
        return time.monotonic() > self.deadline

    def hurry(self, seconds: float) -> None:
        """Leave it no more than so many seconds from now."""
        self.deadline = min(self.deadline, time.monotonic() + seconds)

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the launcher, and with it to the supervisor, whose end is the end of the rest."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def words(self) -> dict[str, list[str]]:
        """What was reported: the rest of each line by its first word."""
        lines = [line.split() for line in self.said.decode("ascii", "replace").splitlines()]
        return {line[0]: line[1:] for line in lines if line}

    def stop_orphan(self) -> None:
        """Kill the program, if its supervisor was killed before it could: without a process namespace it lives on."""
        words = self.words()
        if self.process.poll() is not None and "program" in words and not {"ended", "late"} & words.keys():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(int(words["program"][0]), signal.SIGKILL)

    def finish(self) -> Outcome:
        """Bury the processes, remove the folder, and say how it went."""
        self.stop()
        self.process.wait()
        self.stop_orphan()
        os.close(self.status)
        _pipe(self.process.stdout).close()
        _pipe(self.process.stderr).close()
        shutil.rmtree(self.folder, ignore_errors=True)
        return self._outcome(self.words())

    def _outcome(self, words: dict[str, list[str]]) -> Outcome:
        ending = words.get("ended") or words.get("late")
        status, memory, cpu = (int(ending[0]), int(ending[1]), float(ending[2])) if ending else (None, 0, 0.0)
        by_signal = status is not None and os.WIFSIGNALED(status)
        layers = tuple(words.get("layers", ()))
        duration = time.monotonic() - self.began
        return Outcome(
            exit_code=os.WEXITSTATUS(status) if status is not None and not by_signal else None,
            signal=_signal_name(os.WTERMSIG(status)) if status is not None and by_signal else None,
            started="layers" in words,
            timed_out=not self.flooded and ("late" in words or duration > self.limits.wall_seconds + _GRACE_SECONDS),
            flooded=self.flooded,
            stdout=self.tails["stdout"].decode("utf-8", "replace"),
            stderr=self.tails["stderr"].decode("utf-8", "replace"),
            max_memory_bytes=memory * (1024 if sys.platform == "linux" else 1),
            cpu_seconds=cpu,
            duration=duration,
            layers=layers,
            network_isolated=("network" in layers or "seccomp" in layers),
            processes_limited=self.limits.processes == 1 and "seccomp" in layers,
        )


def start(program: Program, limits: Limits | None = None) -> Running:
    """Start a program; `together` must be called with what comes back."""
    if bool(program.argv) == bool(program.entry):
        raise UsageError("a program is a command or a module, not both and not neither", "give argv or entry")
    return Running(program, limits or Limits())


def together(*running: Running) -> tuple[Outcome, ...]:
    """Wait until the first of these has ended, kill the others after a moment, and say how each went.

    Programs that talk to one another (over `pass_fds`) are waited for in one call, so none of them can block on a full
    pipe. The moment is for those that are just ending, to tell how.
    """
    try:
        _attend(running)
    finally:
        outcomes = tuple(one.finish() for one in running)
    return outcomes


def _attend(running: tuple[Running, ...]) -> None:
    """Read what the programs write until the first of them has ended, and the others have had their moment."""
    leader = running[0]
    open_channels = dict.fromkeys(running, 0)
    deadline = None
    with selectors.DefaultSelector() as selector:
        for one in running:
            for channel, name in one.channels().items():
                selector.register(channel, selectors.EVENT_READ, (one, name))
                open_channels[one] += 1
        while any(open_channels.values()) and (deadline is None or time.monotonic() < deadline):
            if deadline is None and not open_channels[leader]:
                deadline = time.monotonic() + _ENDING_SECONDS
            for key, _ in selector.select(timeout=0.1):
                one, name = key.data
                data = os.read(key.fd, 65536)
                if data:
                    one.take(name, data)
                else:
                    selector.unregister(key.fd)
                    open_channels[one] -= 1
            for one in running:
                if one.overdue:
                    one.stop()
                one.stop_orphan()
            if leader.overdue and leader.process.poll() is not None:
                return  # something that outlived the launcher holds the pipes open


def run(program: Program, limits: Limits | None = None) -> Outcome:
    """Run a program to its end. Nothing that it started is left afterwards."""
    return together(start(program, limits))[0]


class Strength(msgspec.Struct, frozen=True, kw_only=True):
    """What the sandbox is worth on this machine. `network_cut` was tried, the rest is what the child reported."""

    layers: tuple[str, ...]
    network_cut: bool

    @property
    def files_protected(self) -> bool:
        """Whether a program cannot change files outside its folder."""
        return "mounts" in self.layers or "landlock" in self.layers


@functools.cache
def strength(without: tuple[str, ...] = ()) -> Strength:
    """Find out, once, what holds here: a program in the sandbox tries to reach a port that is open on this machine.

    Raises LakeError where the sandbox cannot start at all, or would let a program loose as root.
    """
    attempt = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 2); print('reached')"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        outcome = run(Program(argv=(sys.executable, "-I", "-S", "-c", attempt, port)), Limits(without=without))
    if not outcome.started:
        raise LakeError(
            f"the sandbox cannot start a program: {(outcome.stderr.strip() or 'no message').splitlines()[-1]}",
            "see docs/scoring.md for what it needs of the system",
        )
    found = Strength(layers=outcome.layers, network_cut="reached" not in outcome.stdout)
    if os.geteuid() == 0 and not found.files_protected:
        raise LakeError(
            "this system gives the sandbox nothing to keep a program of root's from the files",
            "run as another user, or allow user namespaces or Landlock (docs/scoring.md)",
        )
    return found


def _signal_name(number: int) -> str:
    """A signal's name; those for real-time use have none."""
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def _resolved(argv: tuple[str, ...]) -> tuple[str, ...]:
    if not argv:
        return ()
    found = shutil.which(argv[0], path="/usr/local/bin:/usr/bin:/bin")
    if found is None:
        raise UsageError(f"there is no program {argv[0]!r} to run", "give its full path")
    return (found, *argv[1:])


@functools.cache
def _interpreter_folders() -> tuple[str, ...]:
    places = {sys.prefix, sys.base_prefix, str(Path(sys.executable).resolve().parent), str(_CHILD.parent)}
    return tuple(sorted(places))


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise LakeError("the sandbox has lost a pipe to its child")
    return stream
