"""The scorer `tests`: runs a task's tests against a run's code, in the sandbox.

    accepted            every check that ran holds, at least one ran, and the candidate's code was called
    rejected            a check fails; or the code does not compile, does not load, or uses up its limits
    needs_human_review  the tests did not demonstrably run to their end, for another reason than the code
    not scored          no task, no tests, or a task in a language other than Python and, with a compiler, Rust

Two sandboxes talk over a pipe: the judge runs the tests, the candidate its code, and neither can reach into the other
(`harness`). So `sys.exit(0)`, a patched `assert`, a forged report or a look at the tests gain nothing.

What is not defended against: code that knows the tests' answers by heart; tests that would pass with anything; and
whatever `ingest.sandbox` does not cover. Tests in Rust are `rust`'s business, and kept apart in another way.
"""

import compileall
import os
import re
import socket
from pathlib import Path

import msgspec

from ingest import sandbox
from ingest.scorers import configuration, rust
from ingest.scorers.harness import codec
from ingest.scorers.report import Report, Trial, concluded
from ingest.scorers.scorer import Evidence, NotScored, Task, Verdict, text_of
from lake.errors import LakeError

VERSION = "1"
HARNESS = Path(__file__).with_name("harness")
PYTHON = ("python", "py", "python3", "py3")
REPORT_BYTES = 1 << 20

FENCE = re.compile(r"^[ \t]*```[ \t]*([\w+#.-]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.MULTILINE | re.DOTALL)


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the tests of one run may use, as the sandbox's limits have it, and how many runs are tried at once.

    `rustc` is the Rust compiler, if not the one that is found; `rust_crates` a folder of `.rlib` files that programs
    in Rust may use.
    """

    wall_seconds: float = 10.0
    memory_bytes: int = 512 << 20
    workers: int = 2
    without: tuple[str, ...] = ()
    rustc: str = ""
    rust_crates: str = ""


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
        trial = self.trial(evidence, task)
        return trial.verdict if isinstance(trial, Trial) else trial

    def trial(self, evidence: Evidence, task: Task | None) -> Trial | NotScored:
        """The verdict on one run, and how its code ended."""
        if task is None:
            return NotScored("the task is not known")
        if not (task.get("tests") or "").strip():
            return NotScored("the task has no tests")
        language = (task.get("language") or "python").lower()
        if language not in (*PYTHON, *rust.LANGUAGES):
            return NotScored(f"tests in {language} are not run")
        compiler = rust.compiler(self.options.rustc) if language in rust.LANGUAGES else None
        if language in rust.LANGUAGES and compiler is None:
            return NotScored(f"tests in {language} need rustc, which is not on this machine")
        code = code_in(text_of(evidence), task.get("entry_point") or "", PYTHON if compiler is None else rust.LANGUAGES)
        if not code.strip():
            return Trial(Verdict("rejected", ("there is no code in the text",), 0.0, {"compiled": False, "total": 0}))
        if compiler is not None:
            return rust.RustTests(compiler, self.options.rust_crates, self.limits()).trial(code, task)
        return self.tried(code, task)

    def limits(self) -> sandbox.Limits:
        """What the code of one run may use."""
        return sandbox.Limits(
            wall_seconds=self.options.wall_seconds,
            memory_bytes=self.options.memory_bytes,
            without=self.options.without,
        )

    def tried(self, code: str, task: Task) -> Trial:
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
        return Trial(verdict(report, judged, ran, strength), ran)

    def _start(self, code: str, task: Task, ours: int, theirs: int, report: int) -> tuple[sandbox.Running, ...]:
        asked = {
            "entry_point": task.get("entry_point") or "",
            "starter_code": task.get("starter_code") or "",
            "code": code,
            "tests": task.get("tests") or "",
            "connection": ours,
            "report": report,
        }
        limits = self.limits()
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
    return sandbox.Program(entry=HARNESS / name, files={"orders": codec.dumps(orders)}, pass_fds=pass_fds)


def code_in(text: str, entry_point: str, languages: tuple[str, ...] = PYTHON) -> str:
    """The code in a text: of its fenced blocks the last that defines the entry point, else all of them; else the text.

    Blocks marked as a language that is none of `languages` are left out, unless there is no other.
    """
    blocks = [(language.lower(), code) for language, code in FENCE.findall(text)]
    if not blocks:
        return text
    codes = [code for language, code in blocks if language in ("", *languages)] or [code for _, code in blocks]
    keyword = r"(?:async[ \t]+def|def|class|(?:pub[ \t]+)?fn)"
    definition = re.compile(rf"^[ \t]*{keyword}[ \t]+{re.escape(entry_point)}\b", re.MULTILINE)
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
        report = codec.loads(data)
    except codec.Broken:
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
