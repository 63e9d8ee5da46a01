"""A copy of a project that can be changed, and its tests run on it in the sandbox, time and again.

The tests can read the copy, the interpreter's folders and the system's; they write in a folder of their own, and have
no network. The project itself is only read.
"""

import json
import re
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from ingest import sandbox
from ingest.mutations import child
from lake.errors import LakeError

LOG_CHARACTERS = 2000
SKIPPED = shutil.ignore_patterns(
    ".git", ".hg", ".venv", "venv", "node_modules", "__pycache__", ".tox", ".*_cache", "*.egg-info", "mutants.out*"
)
_TIMES = re.compile(r" in \d+(?:\.\d+)?s\b(?: \([\d:]+\))?")
_ADDRESSES = re.compile(r"\b0x[0-9a-f]{6,}\b")
_OUTCOMES = {child.PASSED: "missed", child.FAILED: "caught", child.NOT_COLLECTED: "unviable", child.NONE: "untested"}


class Ended(msgspec.Struct, frozen=True):
    """How a run of the tests ended: caught, unviable, missed, timeout or untested; what they said; seconds."""

    outcome: str
    log: str
    seconds: float


class Trial:
    """A copy of a project, removed at the end. A context manager."""

    def __init__(self, project: Path, arguments: tuple[str, ...], memory_bytes: int) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="mutations-")
        self.copy = Path(self.folder.name) / "project"
        self.arguments = arguments
        self.memory_bytes = memory_bytes
        self.plugins = True
        try:
            shutil.copytree(project, self.copy, symlinks=True, ignore=SKIPPED)
        except (OSError, shutil.Error) as error:
            self.folder.cleanup()
            raise LakeError(f"{project} cannot be copied: {error}", "make it readable, or free some disk") from None

    def __enter__(self) -> Self:
        """This copy."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the copy."""
        self.folder.cleanup()

    def changed(self, file: str, text: str, seconds: float) -> Ended:
        """How the tests end with another text in one file."""
        place = self.copy / file
        before = place.read_bytes()
        place.write_bytes(text.encode())
        try:
            return self.run(seconds)
        finally:
            place.write_bytes(before)

    def run(self, seconds: float) -> Ended:
        """How the tests end with the copy as it is. Raises LakeError where the sandbox cannot start."""
        orders = {"project": str(self.copy), "arguments": self.arguments, "plugins": self.plugins}
        program = sandbox.Program(
            entry=Path(child.__file__),
            packages=packages(),
            readable=(str(self.copy),),
            files={"orders": json.dumps(orders).encode()},
        )
        limits = sandbox.Limits(
            wall_seconds=seconds, memory_bytes=self.memory_bytes, open_files=256, processes=64, output_bytes=64 << 20
        )
        outcome = sandbox.run(program, limits)
        if not outcome.started:
            raise LakeError(
                f"the sandbox cannot start: {outcome.stderr.strip() or 'no message'}",
                "see docs/scoring.md for what it needs of the system",
            )
        if outcome.timed_out or outcome.flooded:
            return Ended("timeout", "", outcome.duration)
        known = _OUTCOMES.get(-1 if outcome.exit_code is None else outcome.exit_code, "caught")
        said = self.cleaned("\n".join(filter(None, (outcome.stdout.strip(), outcome.stderr.strip()))))
        return Ended(known, said or f"the tests were ended by {outcome.signal}", outcome.duration)

    def cleaned(self, log: str) -> str:
        """What the tests said, without what differs from run to run, and no longer than its last 2,000 characters."""
        return cut(log.replace(f"{self.copy}/", "").replace(str(self.copy), "."))


def cut(log: str) -> str:
    """The last 2,000 characters of a log, without times and addresses."""
    return _ADDRESSES.sub("0x…", _TIMES.sub("", log))[-LOG_CHARACTERS:].strip()


def packages() -> tuple[str, ...]:
    """The folders of installed packages that the tests may import from."""
    known = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    return tuple(sorted(place for place in known | {one for one in sys.path if one.endswith("-packages")} if place))
