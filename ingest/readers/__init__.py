"""Readers: how a row of somebody's format becomes events. One file a format, one line each in `READERS`.

A reader is a function from one row (a dict) and its `Place` to the events of the kind asked for (dicts, by the kind's
columns and `recorded_at`; other keys go to `extra`). It is pure: no clock, no file, no state. What it cannot read it
refuses with `ingest.rows.Refused`; any other exception becomes a reject with the exception's text, too.
"""

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ingest.readers import (
    distillation,
    gsm8k,
    gsm8k_solutions,
    humaneval,
    humaneval_x,
    native,
    openai_chat,
    prompts,
    swe_agent,
)
from ingest.rows import Place
from lake.errors import UsageError

Read = Callable[[dict[str, Any], Place], Iterable[Mapping[str, Any]]]
KINDS = ("evidence", "scores", "tasks", "prompts", "replay", "annotations")


class Reader(NamedTuple):
    """A reader, the name it is asked for by, and the kinds of event that it can make."""

    name: str
    read: Read
    kinds: tuple[str, ...]


READERS = {
    reader.name: reader
    for reader in (
        Reader("native", native.read, KINDS),
        Reader("distillation", distillation.read, ("evidence", "scores")),
        Reader("openai-chat", openai_chat.read, ("evidence",)),
        Reader("gsm8k", gsm8k.read, ("tasks", "prompts")),
        Reader("gsm8k-solutions", gsm8k_solutions.read, ("evidence", "scores", "tasks")),
        Reader("humaneval", humaneval.read, ("evidence", "tasks")),
        Reader("humaneval-x", humaneval_x.read, ("evidence", "tasks")),
        Reader("swe-agent", swe_agent.read, ("evidence",)),
        Reader("question", prompts.read_question, ("prompts",)),
        Reader("turns", prompts.read_turns, ("prompts",)),
        Reader("opening", prompts.read_opening, ("prompts",)),
    )
}


def reader_named(name: str, kind: str) -> Reader:
    """The reader of this name, or a user's own, `package.module:function`. Raises UsageError."""
    if kind not in KINDS:
        raise UsageError(f"{kind!r} is no kind that is ingested", f"the kinds are {', '.join(KINDS)}")
    reader = _own(name) if ":" in name else READERS.get(name)
    if reader is None:
        raise UsageError(
            f"there is no reader named {name!r}",
            f"the readers are {', '.join(READERS)}; your own is written package.module:function",
        )
    if kind not in reader.kinds:
        able = ", ".join(other.name for other in READERS.values() if kind in other.kinds)
        raise UsageError(
            f"the reader {name!r} makes {' and '.join(reader.kinds)}, not {kind}", f"{kind} can be read by {able}"
        )
    return reader


def _own(name: str) -> Reader:
    module_name, _, function_name = name.partition(":")
    # As for `python -m`: a module in the current folder can be named.
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except Exception as error:
        # Importing runs whatever the module does.
        raise UsageError(
            f"the reader {name!r} cannot be loaded: {type(error).__name__}: {error}",
            "write package.module:function, with a module that Python can import from here",
        ) from error
    finally:
        sys.path.remove(here)
    if not callable(function):
        raise UsageError(f"the reader {name!r} is no function", "write package.module:function")
    return Reader(name, function, KINDS)
