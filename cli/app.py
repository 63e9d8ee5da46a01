"""Where `lake` begins: Ctrl-C ends it with one line from its first moment to its last.

All that it can do takes about a second to load, in which somebody may think better of it. So nothing that takes time
is loaded here before the signal is seen to.

Not here: the commands (`commands`).
"""

import importlib
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

INTERRUPTED = 130
_COMMANDS = "cli.commands"
_SAID = b"error: interrupted\nhint: what was committed is safe; run it again to go on\n"


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    usual = signal.getsignal(signal.SIGINT)
    # Elsewhere somebody has said what a signal does: nohup that it does nothing.
    if usual is signal.default_int_handler and _COMMANDS not in sys.modules:
        signal.signal(signal.SIGINT, _leave)
    try:
        run: Callable[[list[str] | None], int] = importlib.import_module(_COMMANDS).run
        if signal.getsignal(signal.SIGINT) is _leave:
            signal.signal(signal.SIGINT, usual)
        return run(arguments)
    except KeyboardInterrupt:
        os.write(2, _SAID)
        return INTERRUPTED


def _leave(_signal: int, _frame: FrameType | None) -> None:
    """End at once. Nothing has begun, and an exception would end in whatever is being loaded, which may swallow it."""
    os.write(2, _SAID)
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
