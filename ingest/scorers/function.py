"""A scorer of the user's own: a Python function, named `package.module:function`.

    def terse(evidence, task):
        if len(evidence["text"]) > 2000:
            return {"category": "rejected", "reasons": ["longer than 2,000 characters"]}

It is given a row of `evidence` (with `extra` and `messages` read from JSON) and one of `tasks` or None, and returns a
verdict, as a mapping, a `Verdict` or just a category, or None for none. Its version is its attribute `version`, else
the module's `VERSION`, else told from the digest of the module's text. It must be pure, and is trusted: it runs in this
process.
"""

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ingest.scorers import configuration
from ingest.scorers.scorer import BadVerdict, Evidence, NotScored, Task, Verdict
from lake.errors import UsageError


class Function:
    """Asks a function."""

    uses_task = True
    workers = 1

    def __init__(self, name: str) -> None:
        self.name = name
        module, self.function = _imported(name)
        said = getattr(self.function, "version", None) or getattr(module, "VERSION", None)
        self.version = str(said) if said else None
        self.digest = None if said else configuration.digest(inspect.getsource(module))

    def __call__(self, evidence: Evidence, task: Task | None) -> Verdict | NotScored:
        """The verdict on one run. Raises BadVerdict."""
        try:
            answer = self.function(evidence, task)
        except Exception as error:
            line = traceback.extract_tb(error.__traceback__)[-1]
            raise BadVerdict(
                f"{self.name} on run {evidence['run_id']}: {type(error).__name__}: {error}",
                f"look at {line.filename}:{line.lineno}",
            ) from error
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
                f"{self.name} on run {evidence['run_id']}: {error}",
                "return a mapping with category, and if wanted reasons, score and sub_scores; or None",
            ) from None


def _imported(name: str) -> tuple[Any, Callable[[Evidence, Task | None], Any]]:
    place, _, attribute = name.partition(":")
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(place)
    except Exception as error:
        hint = "give package.module:function, importable from this folder"
        raise UsageError(f"{name}: {type(error).__name__}: {error}", hint) from error
    finally:
        if added:
            sys.path.remove(here)
    function = getattr(module, attribute, None)
    if not callable(function):
        raise UsageError(f"{name}: {place} has no function {attribute!r}", "give package.module:function")
    return module, function
