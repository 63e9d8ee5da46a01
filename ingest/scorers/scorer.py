"""What a scorer is: a name, a version, and what it thinks of one run.

A scorer is pure: the same evidence and task give the same verdict, so a verdict is told once for each version. It reads
no clock, no network and no other verdict. Change what it thinks, and change its version.

Not here: finding what is still to be scored and storing what was said (`ingest.scoring`).
"""

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from lake.errors import LakeError
from lake.kinds import CATEGORIES

Evidence = Mapping[str, Any]  # a row of `evidence`, with `extra` and `messages` read
Task = Mapping[str, Any]  # a row of `tasks`, with `extra` read


class BadVerdict(LakeError):
    """A scorer answered with something that is no verdict."""


class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a scorer thinks of one run: a category and the reasons for it, and figures if it has them."""

    category: str
    reasons: tuple[str, ...] = ()
    score: float | None = None
    sub_scores: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.category not in CATEGORIES:
            raise BadVerdict(f"there is no category {self.category!r}", f"the categories are {', '.join(CATEGORIES)}")
        if not all(reason.strip() for reason in self.reasons) or not self.reasons:
            raise BadVerdict(f"a verdict {self.category!r} has no reason", "say why, in a line")


class NotScored(msgspec.Struct, frozen=True):
    """A scorer has nothing to say about this run, and why. Counted, not stored."""

    reason: str


class Scorer(Protocol):
    """Something that gives verdicts on runs, one by one."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def workers(self) -> int:
        """How many runs may be scored at once, in threads."""
        ...

    @property
    def uses_task(self) -> bool:
        """Whether the verdict depends on the task, so that a changed task is a reason to score again."""
        ...

    @property
    def version(self) -> str | None:
        """Its version; None where only the digest tells one from another."""
        ...

    @property
    def digest(self) -> str | None:
        """What tells this scorer, as it is set up, from others of its version; None as it comes."""
        ...

    def __call__(self, evidence: Evidence, task: Task | None, /) -> Verdict | NotScored:
        """The verdict on one run, whose task may be unknown."""
        ...


def text_of(evidence: Evidence) -> str:
    """What the run says: its text, else that of its last assistant turn, else nothing."""
    text = evidence.get("text")
    if isinstance(text, str) and text.strip():
        return text
    for message in reversed(evidence.get("messages") or []):
        if isinstance(message, dict) and message.get("role") == "assistant":
            content = message.get("content")
            if isinstance(content, str):
                return content
            parts = content if isinstance(content, list) else []
            return "".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))
    return ""
