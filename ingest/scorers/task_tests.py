"""The scorer `tests`: runs a task's tests against a run's code, in the sandbox.

    accepted            every check that ran holds, at least one ran, and the candidate's code was called
    rejected            a check fails; or the code does not compile, does not load, or uses up its limits
    needs_human_review  the tests did not demonstrably run to their end, for another reason than the code
    not scored          no task, no tests, or a task in another language than Python

Two sandboxes talk over a pipe: the judge runs the tests, the candidate its code, and neither can reach into the other
(`harness`). So `sys.exit(0)`, a patched `assert`, a forged report or a look at the tests gain nothing.

What is not defended against: code that knows the tests' answers by heart; tests that would pass with anything; and
whatever `ingest.sandbox` does not cover.
"""

import compileall
import os
import re
import socket
from pathlib import Path

import msgspec

from ingest import sandbox
from ingest.scorers import configuration
from ingest.scorers.harness import wire
from ingest.scorers.scorer import Evidence, NotScored, Task, Verdict, text_of
from lake.errors import LakeError

VERSION = "1"
HARNESS = Path(__file__).with_name("harness")
PYTHON = ("python", "py", "python3", "py3")
REPORT_BYTES = 1 << 20

FENCE = re.compile(r"^[ \t]*```[ \t]*([\w+#.-]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.MULTILINE | re.DOTALL)


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the tests of one run may use, as the sandbox's limits have it, and how many runs are tried at once."""

    wall_seconds: float = 10.0
    memory_bytes: int = 512 << 20
    workers: int = 2
    without: tuple[str, ...] = ()


class TaskTests:
    """Runs the tests of the run's task."""

    name = "tests"
    version = VERSION
    uses_task = True

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or Options()
        self.workers = self.options.workers
        # How many run at once changes no verdict.
        self.digest = configuration.digest_of(msgspec.structs.replace(self.options, workers=Options().workers))
        # The sandbox cannot keep the compiled form of what it starts, so it is made here; a start is slower without it.
        compileall.compile_dir(HARNESS, quiet=2)

    def __call__(self, evidence: Evidence, task: Task | None) -> Verdict | NotScored:
        """The verdict on one run."""
        if task is None:
            return NotScored("the task is not known")
        if not (task.get("tests") or "").strip():
            return NotScored("the task has no tests")
        language = (task.get("language") or "python").lower()
        if language not in PYTHON:
            return NotScored(f"tests in {language} are not run")
        code = code_in(text_of(evidence), task.get("entry_point") or "")
        if not code.strip():
            return Verdict("rejected", ("there is no code in the text",), 0.0, {"compiled": False, "total": 0})
        return self.tried(code, task)

    def tried(self, code: str, task: Task) -> Verdict:
        """Run the tests in two sandboxes and judge what they report."""
        strength = sandbox.strength(self.options.without)
        ours, theirs = socket.socketpair()
        reading, writing = os.pipe()
        try:
            with ours, theirs:
                running = self._start(code, task, ours.fileno(), theirs.fileno(), writing)
            os.close(writing)
            writing = -1
            judged, ran = sandbox.together(*running)
            report = read_report(reading)
        finally:
            os.close(reading)
            if writing >= 0:
                os.close(writing)
        return verdict(report, judged, ran, strength)

    def _start(self, code: str, task: Task, ours: int, theirs: int, report: int) -> tuple[sandbox.Running, ...]:
        asked = {
            "entry_point": task.get("entry_point") or "",
            "starter_code": task.get("starter_code") or "",
            "code": code,
            "tests": task.get("tests") or "",
            "connection": ours,
            "report": report,
        }
        limits = sandbox.Limits(
            wall_seconds=self.options.wall_seconds,
            memory_bytes=self.options.memory_bytes,
            without=self.options.without,
        )
        # The judge outlives the candidate, so that it can tell what became of it.
        patient = msgspec.structs.replace(limits, wall_seconds=limits.wall_seconds + 2)
        of_judge = {key: asked[key] for key in ("entry_point", "starter_code", "tests", "connection", "report")}
        of_candidate = {key: asked[key] for key in ("entry_point", "starter_code", "code")} | {"connection": theirs}
        judge = sandbox.start(_program("judge.py", of_judge, (ours, report)), patient)
        try:
            return judge, sandbox.start(_program("candidate.py", of_candidate, (theirs,)), limits)
        except BaseException:
            judge.finish()
            raise


def _program(name: str, orders: dict[str, object], pass_fds: tuple[int, ...]) -> sandbox.Program:
    return sandbox.Program(entry=HARNESS / name, files={"orders": wire.dumps(orders)}, pass_fds=pass_fds)


def code_in(text: str, entry_point: str) -> str:
    """The code in a text: of its fenced blocks the last that defines the entry point, else all of them; else the text.

    Blocks marked as another language than Python are left out, unless there is no other.
    """
    blocks = [(language.lower(), code) for language, code in FENCE.findall(text)]
    if not blocks:
        return text
    codes = [code for language, code in blocks if language in ("", *PYTHON)] or [code for _, code in blocks]
    definition = re.compile(rf"^[ \t]*(?:async[ \t]+def|def|class)[ \t]+{re.escape(entry_point)}\b", re.MULTILINE)
    defining = [code for code in codes if entry_point and definition.search(code)]
    return defining[-1] if defining else "\n".join(codes)


def read_report(channel: int) -> dict[str, object] | None:
    """What the judge reported, or None if it did not come to that. Both of its ends are closed by now but ours."""
    data = b""
    while len(data) <= REPORT_BYTES:
        part = os.read(channel, 65536)
        if not part:
            break
        data += part
    try:
        report = wire.loads(data)
    except wire.Broken:
        return None
    return report if isinstance(report, dict) else None


def verdict(
    report: dict[str, object] | None, judged: sandbox.Outcome, ran: sandbox.Outcome, strength: sandbox.Strength
) -> Verdict:
    """What the report and the two endings mean."""
    for outcome in (judged, ran):
        if not outcome.started:
            raise LakeError(
                f"the sandbox cannot start: {outcome.stderr.strip() or 'no message'}",
                "see docs/scoring.md for what it needs of the system",
            )
    answer = msgspec.convert(report, Report) if report else Report()
    total = answer.passed + answer.failed
    figures = {
        "compiled": answer.state not in ("syntax", "gone"),
        "passed": answer.passed,
        "failed": answer.failed,
        "skipped": answer.skipped,
        "total": total,
        "network_isolated": ran.network_isolated and strength.network_cut,
        "files_protected": strength.files_protected,
        "duration": round(ran.duration, 3),
    }
    category, reasons = concluded(answer, ran)
    score = answer.passed / total if total and answer.complete else 0.0
    return Verdict(category, reasons, None if category == "needs_human_review" else score, figures)


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
