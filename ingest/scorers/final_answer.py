r"""The scorer `final-answer`: the answer after a marker in the run's text equals the task's.

    accepted    it does
    rejected    it does not; also where the text has no marker, or nothing follows it (see `unanswered`)
    not scored  no task, or a task without an answer

The answer is what follows the marker that comes last in the text, to the end of that line; after `\boxed{` to the
closing brace. Two answers are equal when they are after `normalised`, and in no other way: "18" and "18.0" differ.
"""

import re
from collections import deque
from functools import cached_property
from typing import Literal

import msgspec

from ingest.scorers import configuration
from ingest.scorers.scorer import Evidence, NotScored, Task, Verdict, text_of
from lake.errors import UsageError

VERSION = "1"
BOXED = "\\boxed{"


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`markers` are plain text; of those in a run's text the last one counts.

    `unanswered` is the category of a text without a marker, or with nothing after it: most often one that was cut off,
    which is wrong, but in data of other habits one whose answer stands elsewhere, for a person to see.
    """

    markers: tuple[str, ...] = ("A:", "Answer:", "####", BOXED)
    unanswered: Literal["rejected", "needs_human_review"] = "rejected"

    def __post_init__(self) -> None:
        if not self.markers or not all(self.markers):
            raise UsageError("final-answer has no markers, or an empty one", "give at least one, such as 'A:'")


class FinalAnswer:
    """Compares the run's last answer with the task's."""

    name = "final-answer"
    version = VERSION
    uses_task = True
    workers = 1

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or Options()
        self.digest = configuration.digest_of(self.options)

    def __call__(self, evidence: Evidence, task: Task | None) -> Verdict | NotScored:
        """The verdict on one run."""
        expected = normalised((task or {}).get("answer") or "")
        if not expected:
            return NotScored("the task is not known" if task is None else "the task has no answer")
        found = self.last_answer(text_of(evidence))
        if found is None:
            return self.unanswered(f"none of {', '.join(self.options.markers)} is in the text")
        marker, answer = found
        if not answer:
            return self.unanswered(f"nothing follows the last {marker}")
        if answer == expected:
            return Verdict("accepted", (f"the answer is {shown(answer)}",), 1.0)
        return Verdict("rejected", (f"the answer is {shown(answer)}, not {shown(expected)}",), 0.0)

    def unanswered(self, reason: str) -> Verdict:
        """The verdict on a text without an answer."""
        category = self.options.unanswered
        return Verdict(category, (reason,), 0.0 if category == "rejected" else None)

    @cached_property
    def _marker(self) -> re.Pattern[str]:
        longest_first = sorted(self.options.markers, key=len, reverse=True)
        # A marker that begins with a letter is none inside a word: "DNA:".
        alternatives = [(r"(?<!\w)" if marker[0].isalnum() else "") + re.escape(marker) for marker in longest_first]
        return re.compile("|".join(alternatives))

    def last_answer(self, text: str) -> tuple[str, str] | None:
        """The last marker in a text and the normalised answer after it."""
        found = deque(self._marker.finditer(text), maxlen=1)
        if not found:
            return None
        last = found[0]
        rest = text[last.end() :]
        answer = inside_braces(rest) if last[0] == BOXED else rest.partition("\n")[0]
        return last[0], normalised(answer)


def normalised(answer: str) -> str:
    """An answer without what does not change it.

    Surrounding white space goes, then every comma, every dollar sign, one full stop at the end, and surrounding white
    space again. Nothing else: no case, no arithmetic, no units.
    """
    return answer.strip().replace(",", "").replace("$", "").removesuffix(".").strip()


def inside_braces(text: str) -> str:
    """The text up to the brace that closes the one before it; all of the line if none does."""
    depth = 1
    for place, character in enumerate(text):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return text[:place]
    return text.partition("\n")[0]


def shown(answer: str) -> str:
    """An answer for a reason's line, cut to size."""
    return answer if len(answer) <= 80 else answer[:79] + "…"
