"""A scorer of the user's own: a Python function, named `package.module:function`.

    def terse(evidence, task):
        if len(evidence["text"]) > 2000:
            return {"category": "rejected", "reasons": ["longer than 2,000 characters"]}

It is given a row of `evidence` (with `extra` and `messages` read from JSON) and one of `tasks` or None, and returns a
verdict, as a mapping, a `Verdict` or just a category, or None for none. Its version is its attribute `version`, else
the module's `VERSION`, else told from the digest of the module's text.

It must be pure, and is held to it: its module is imported and called in the sandbox alone, where it can read the
working folder, Python's packages and the system, and can neither write, reach a network nor start a program. So what it
does by accident, to the lake or to this process, has no effect: a crash, a hang or too much memory is an error that
names the run.
"""

import json
import socket
import struct
import sys
import weakref
from pathlib import Path
from typing import Any

import msgspec

from ingest import sandbox
from ingest.listener import Ended, Listener, Silent
from ingest.scorers import configuration
from ingest.scorers.scorer import BadVerdict, Evidence, NotScored, Task, Verdict
from lake.errors import UsageError

ANSWER_SECONDS = 60.0
MEMORY_BYTES = 4 << 30  # of address space, of which numerical packages set aside much
ANSWER_BYTES = 16 << 20
_FOREVER = 10**7  # seconds; who waits is this side, by the answer
_CHILD = Path(__file__).with_name("function_child.py")
_LIMITS = sandbox.Limits(
    wall_seconds=_FOREVER,
    cpu_seconds=_FOREVER,
    memory_bytes=MEMORY_BYTES,
    output_bytes=1 << 40,
    open_files=256,
)


class Function:
    """Asks a function. What it runs in ends with this object, or with the process."""

    uses_task = True
    workers = 1

    def __init__(self, name: str, seconds: float = ANSWER_SECONDS) -> None:
        self.name = name
        self._seconds = seconds
        self._socket, self._listener = _started(name)
        weakref.finalize(self, _let_go, self._socket, self._listener)
        said = self._told(f"{name}: importing it")
        if "error" in said:
            raise UsageError(
                f"{name}: {said['error']}",
                "give package.module:function, importable from this folder; see docs/scoring.md",
            )
        self.version = said["version"]
        self.digest = None if self.version else configuration.digest(said["text"])

    def __call__(self, evidence: Evidence, task: Task | None) -> Verdict | NotScored:
        """The verdict on one run. Raises BadVerdict."""
        where = f"{self.name} on run {evidence.get('run_id')}"
        data = msgspec.msgpack.encode((evidence, task))
        self._socket.settimeout(self._seconds)
        try:
            self._socket.sendall(struct.pack("<I", len(data)) + data)
        except OSError as error:
            raise BadVerdict(f"{where}: it takes no more runs: {error}", _advice(self._seconds)) from None
        said = self._told(where)
        if "error" in said:
            raise BadVerdict(f"{where}: {said['error']}", f"look at {said['where']}")
        answer = said["answer"]
        if answer is None:
            return NotScored("the function has nothing to say")
        if isinstance(answer, str):
            answer = {"category": answer}
        if isinstance(answer, dict):
            answer = {"reasons": (f"{self.name} says so",)} | answer
        try:
            return msgspec.convert(answer, Verdict)
        except msgspec.ValidationError as error:
            raise BadVerdict(
                f"{where}: {error}",
                "return a mapping with category, and if wanted reasons, score and sub_scores; or None",
            ) from None

    def _told(self, where: str) -> dict[str, Any]:
        """The next message. Raises BadVerdict where none comes."""
        try:
            (size,) = struct.unpack("<I", self._listener.exactly(4, self._seconds))
            if size > ANSWER_BYTES:
                raise BadVerdict(f"{where}: it answers with {size:,} bytes", "return a verdict and no more")
            return _decoded(self._listener.exactly(size, self._seconds), where)
        except Silent:
            raise BadVerdict(f"{where}: no answer in {self._seconds:g} seconds", _advice(self._seconds)) from None
        except Ended as ended:
            raise BadVerdict(f"{where}: it ended with {ended.how}", _advice(self._seconds)) from None


def _advice(seconds: float) -> str:
    return f"a function has {seconds:g} seconds a run, {MEMORY_BYTES >> 30} GiB, and no network; see docs/scoring.md"


def _started(name: str) -> tuple[socket.socket, Listener]:
    """Start what calls the function."""
    here = str(Path.cwd())
    packages = tuple(dict.fromkeys(place for place in sys.path if place and Path(place).exists()))
    ours, theirs = socket.socketpair()
    with theirs:
        orders = {"name": name, "connection": theirs.fileno(), "folder": here}
        program = sandbox.Program(
            entry=_CHILD,
            packages=packages,
            readable=(here,),
            files={"orders.json": json.dumps(orders).encode()},
            pass_fds=(theirs.fileno(),),
        )
        return ours, Listener(program, _LIMITS, ours.dup().detach())


def _let_go(connection: socket.socket, listener: Listener) -> None:
    listener.close()
    connection.close()


def _decoded(data: bytes, where: str) -> dict[str, Any]:
    try:
        return msgspec.msgpack.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadVerdict(f"{where}: its answer cannot be read: {error}", "return a verdict and no more") from None
