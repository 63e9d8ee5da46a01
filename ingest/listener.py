"""What a program in the sandbox tells, waited for no longer than it may take, whatever it does instead of telling.

Not here: what is told (`parquet`, `scorers.function`), and how the program is kept in (`sandbox`).
"""

import os
import select
import time

from ingest import sandbox
from lake.errors import LakeError

_ENDING_SECONDS = 2.0  # for a program that has closed its pipe to end


class Silent(Exception):
    """Nothing came in time."""


class Ended(Exception):
    """The program ended before it had told what was asked for, and how."""

    def __init__(self, outcome: sandbox.Outcome) -> None:
        super().__init__()
        self.outcome = outcome

    @property
    def how(self) -> str:
        """Its signal, or its exit code and its last words."""
        if self.outcome.signal:
            return self.outcome.signal
        said = (self.outcome.stderr.strip().splitlines() or ["no message"])[-1]
        return f"exit code {self.outcome.exit_code}: {said}"


class Listener:
    """Reads what a program writes to a pipe, and drains what else it writes. Owns both; close it."""

    def __init__(self, program: sandbox.Program, limits: sandbox.Limits, pipe: int) -> None:
        self._pipe = pipe
        try:
            self._running: sandbox.Running | None = sandbox.start(program, limits)
        except BaseException:
            os.close(pipe)
            raise
        self._channels = self._running.channels()

    def exactly(self, size: int, seconds: float) -> bytes:
        """So many bytes. `seconds` is how long each part of them may take.

        Raises Silent or Ended, and after either the program is no more; LakeError if it never began.
        """
        parts = []
        while size:
            part = self._part(min(size, 1 << 20), seconds)
            if not part:
                raise self._ended()
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _part(self, size: int, seconds: float) -> bytes:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and self._running is not None:
            ready = select.select([self._pipe, *self._channels], [], [], left)[0]
            for channel in ready:
                if channel != self._pipe:
                    self._drain(self._running, channel)
            if self._pipe in ready:
                return os.read(self._pipe, size)
        self.close()
        raise Silent

    def _drain(self, running: sandbox.Running, channel: int) -> None:
        data = os.read(channel, 1 << 16)
        if data:
            running.take(self._channels[channel], data)
        else:
            del self._channels[channel]

    def _ended(self) -> Ended:
        running, self._running = self._running, None
        if running is None:
            raise LakeError("a program in the sandbox was asked for more after its end")
        running.hurry(_ENDING_SECONDS)
        (outcome,) = sandbox.together(running)
        self.close()
        if not outcome.started:
            raise LakeError(
                f"the sandbox cannot start a program: {(outcome.stderr.strip() or 'no message').splitlines()[-1]}",
                "see docs/scoring.md for what it needs of the system",
            )
        return Ended(outcome)

    def close(self) -> None:
        """End the program, if it has not ended, and let go of what is held."""
        running, self._running = self._running, None
        if running is not None:
            running.finish()
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
