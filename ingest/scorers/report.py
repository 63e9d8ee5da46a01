"""What is said of the tests of one run, and what it means as a verdict; in whichever language they are.

Not here: running them (`task_tests`, `rust`).
"""

import re
from typing import NamedTuple

import msgspec

from ingest import sandbox
from ingest.scorers.scorer import Verdict

ENDINGS = ("passed", "failed", "broken", "stopped", "unproven")
BROKEN = re.compile(r"there is no code|the code does not (?:compile|load)|the code is not an answer")
FAILED = re.compile(r"[0-9]+ of [0-9]+ checks fail")


class Trial(NamedTuple):
    """A verdict, and how the program with the candidate's code ended; None where none was started."""

    verdict: Verdict
    ran: sandbox.Outcome | None = None

    @property
    def ending(self) -> str:
        """One of ENDINGS: what became of the code.

        `failed`: its tests ran and one failed; `broken`: it is no code that compiles and loads; `stopped`: it ran into
        a limit, or ended before its tests did; `unproven`: nothing shows that its tests ran, for no fault of its own.
        """
        if self.verdict.category == "accepted":
            return "passed"
        if self.verdict.category == "needs_human_review":
            return "unproven"
        if BROKEN.match(self.verdict.reasons[0]):
            return "broken"
        return "failed" if FAILED.match(self.verdict.reasons[0]) else "stopped"


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the judge says: how the candidate loaded, how many checks held, and what stood in the way."""

    reported: bool = False
    complete: bool = False
    state: str = "gone"
    message: str = ""
    tests_error: str = ""
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    asked: int = 0
    messages: tuple[str, ...] = ()
    unsupported: tuple[str, ...] = ()


def concluded(answer: Report, ran: sandbox.Outcome) -> tuple[str, tuple[str, ...]]:
    """The category and the reasons, the firmest first."""
    category, reasons = _concluded(answer, ran)
    # Code may raise an error with half a character in its message, which no file holds.
    return category, tuple(reason.encode("utf-8", "backslashreplace").decode() for reason in reasons)


def _concluded(answer: Report, ran: sandbox.Outcome) -> tuple[str, tuple[str, ...]]:
    if answer.state == "syntax":
        return "rejected", (f"the code does not compile: {answer.message}",)
    if answer.state == "raised":
        return "rejected", (f"the code does not load: {answer.message}",)
    if answer.state == "undefined":
        return "rejected", (f"the code is not an answer: {answer.message}",)
    if answer.state == "missing":
        return "needs_human_review", (f"the code needs what the sandbox does not have: {answer.message}",)
    if answer.tests_error:
        return "needs_human_review", (answer.tests_error,)
    if ran.timed_out:
        return "rejected", (f"the code was stopped after {ran.duration:.0f} s", *answer.messages)
    if ran.flooded:
        return "rejected", ("the code was stopped for its flood of output", *answer.messages)
    if ran.signal is not None and ran.signal != "SIGKILL":
        return "rejected", (f"the code was ended by {ran.signal}", *answer.messages)
    if not answer.reported:
        return "needs_human_review", ("the tests ended without a word",)
    if answer.unsupported:
        return "needs_human_review", tuple(f"the tests cannot be run here: {one}" for one in answer.unsupported)
    if not answer.complete:
        return "rejected", (f"the code ended before its tests did: {answer.message or 'no answer'}", *answer.messages)
    if answer.failed:
        return "rejected", (f"{answer.failed} of {answer.passed + answer.failed} checks fail", *answer.messages)
    if not answer.passed or not answer.asked:
        return "needs_human_review", ("no test ran against the code",)
    return "accepted", (f"{answer.passed} of {answer.passed} checks hold",)
