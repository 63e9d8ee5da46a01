"""Runs a task's tests in Rust: the candidate compiled as one crate, the tests as another, then run in the sandbox.

The candidate's crate may hold no unsafe code, and is compiled before the tests are anywhere to be read. Of it the tests
see constants alone, one for each function that they call, whose types are the starter code's and are resolved where no
name of the candidate's is in scope. So a macro, trait or type of the candidate's decides nothing: what is compared are
values of the standard library's types, or of a public type of the candidate's that is data alone, with a derived `==`.
Checks are written down as they are made, on a file number that safe code cannot reach, so output says nothing, and
`exit(0)` is an end before the tests' end.

Needs rustc and a linker (`cc`) on this machine. Crates beyond the standard library come as `.rlib` files from the
folder that the options name; imports of others are left out where the starter code has them and nothing uses them. For
tests that want random numbers, `rand` has a stand-in whose numbers are the same each time.

What is not defended against: a hole in the compiler's own proof that safe code is safe, and what `ingest.sandbox` does
not cover. On Linux without Landlock a program could write to its own memory by way of /proc, so nothing is accepted.
"""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from ingest import sandbox
from ingest.scorers import rust_source as source
from ingest.scorers.report import Report, Trial, concluded
from ingest.scorers.scorer import Task, Verdict
from lake.errors import LakeError

LANGUAGES = ("rust", "rs")
HARNESS = Path(__file__).with_name("harness")
COMPILER = sandbox.Limits(
    wall_seconds=60,
    memory_bytes=6 << 30,
    file_bytes=256 << 20,
    disk_bytes=512 << 20,
    open_files=256,
    processes=64,
)
STANDARD = {"std", "core", "alloc", "crate", "self", "super"}
UNSAFE = {"unsafe_code", "E0453", "E0133"}
UNRESOLVED = {"E0432", "E0433", "E0463"}
# What every program means by these names, the tests mean too, whatever a candidate calls so.
PRELUDE = frozenset({"Some", "None", "Ok", "Err", "Option", "Result", "String", "Vec", "Box", "drop", "bool", "char"})
PRELUDE |= {"str", "f32", "f64", "isize", "usize", *(f"{sign}{bits}" for sign in "iu" for bits in (8, 16, 32, 64, 128))}
STAND_IN = "rand"
ABSENT = re.compile(r"(?:crate|module|crate or module|import) `(\w+)")
LONGEST = 1 << 16  # characters of a candidate: this process reads it, in a time that grows faster than its length
LOOKING_AROUND = {"include", "include_str", "include_bytes", "path"}
OPEN = """\
macro_rules! assert { ($($t:tt)*) => { crate::report::check(line!(), || { ::std::assert!($($t)*); }) } }
macro_rules! assert_eq { ($($t:tt)*) => { crate::report::check(line!(), || { ::std::assert_eq!($($t)*); }) } }
macro_rules! assert_ne { ($($t:tt)*) => { crate::report::check(line!(), || { ::std::assert_ne!($($t)*); }) } }
"""


class Compiler(NamedTuple):
    """A Rust compiler: its program, its folder of libraries, and its version."""

    program: str
    root: str
    version: str


class Entry(NamedTuple):
    """A function of the candidate's that the tests may call, and its type as they see it."""

    name: str
    pointer: str


class Joined(NamedTuple):
    """A candidate with its task's starter code and tests, ready to be compiled; `problem` says why it is not."""

    given: str = ""
    candidate: str = ""
    given_to_tests: str = ""
    tests: str = ""
    found: tuple[source.Test, ...] = ()
    entries: tuple[Entry, ...] = ()
    types: tuple[str, ...] = ()  # the candidate's, that the tests and their functions name
    stand_in: bool = False  # whether the tests get random numbers from what stands in for `rand`
    left_out: Mapping[str, str] = {}  # what imports of absent crates would have brought -> the crate
    problem: Verdict | None = None


@functools.cache
def compiler(named: str = "") -> Compiler | None:
    """The Rust compiler of this machine, or the one named; None where there is none.

    A rustup proxy is followed to the compiler that it stands for, because the sandbox has no home folder to look it up
    in. Raises LakeError if one is named and does not answer.
    """
    place = named or shutil.which("rustc") or str(Path.home() / ".cargo" / "bin" / "rustc")
    if not named and not os.access(place, os.X_OK):
        return None
    try:
        root = _answer(place, "--print", "sysroot")
        program = Path(root) / "bin" / "rustc"
        real = str(program) if program.exists() else place
        return Compiler(real, root, _answer(real, "--version").split()[1])
    except (OSError, subprocess.SubprocessError, IndexError) as error:
        raise LakeError(
            f"the Rust compiler {place} does not answer: {error}", "name one that does: rustc = PATH in --config"
        ) from None


def _answer(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


@functools.cache
def libraries(folder: str) -> dict[str, str]:
    """The crates that a folder holds, by name: `librand-<hash>.rlib` is `rand`. Raises LakeError."""
    if not folder:
        return {}
    found = {file.stem.removeprefix("lib").partition("-")[0]: str(file) for file in sorted(Path(folder).glob("*.rlib"))}
    if not found:
        raise LakeError(
            f"{folder}: there is no .rlib file in it", "build the crates, and name target/debug/deps of that build"
        )
    return found


def joined(code: str, task: Task, available: frozenset[str] = frozenset()) -> Joined:
    """Put a candidate, its starter code and the tests together, or say why that is not to be done."""
    if len(code) > LONGEST:
        return Joined(problem=_person(f"the code has {len(code):,} characters, and more than {LONGEST:,} are not read"))
    name, starter, tests = (str(task.get(key) or "") for key in ("entry_point", "starter_code", "tests"))
    asked = next((one for one in source.functions(starter) if one.name == name), None)
    given = starter if asked is None else starter[: asked.start] + starter[(asked.end or len(starter)) + 1 :]
    local = source.words(starter) & {match[1] for match in re.finditer(r"\b(?:mod|enum|struct)\s+(\w+)", starter)}
    left_out = source.imported(given, STANDARD | available | local)
    code = source.without_imports(continued(starter, asked, code, name), left_out.values())
    if looking := LOOKING_AROUND & source.words(code):
        return Joined(problem=_person(f"the code uses {', '.join(sorted(looking))}, which may read files"))
    opened, found = source.opened_tests(tests)
    own = {one.name: one for one in source.functions(code)}
    helpers = {one.name for one in source.functions(given)}
    wanted = ({name} if name else set()) | ((source.called(tests) & own.keys()) - helpers - PRELUDE)
    entries = []
    for one in sorted(wanted):
        if one not in own:
            said = f"the code is not an answer: {one} is not defined"
            return Joined(problem=Verdict("rejected", (said,), 0.0, {"compiled": True, "total": 0}))
        pointer = asked.pointer if asked is not None and one == name else own[one].pointer
        if pointer is None:
            return Joined(problem=_person(f"the type of {one} cannot be written down for the tests"))
        entries.append(Entry(one, pointer))
    if not found or not source.words(opened) & wanted:
        return Joined(problem=_person("no test runs against the code"))
    stand_in = STAND_IN in source.words(opened) - available
    named = source.words(opened).union(*(source.words(one.pointer) for one in entries))
    return Joined(
        given=source.without_imports(given, left_out.values()),
        candidate=code,
        given_to_tests=source.without_imports(given, set(left_out.values()) - ({STAND_IN} if stand_in else set())),
        tests=opened,
        found=tuple(found),
        entries=tuple(entries),
        types=tuple(sorted(source.plain_types(code) & named - PRELUDE)),
        stand_in=stand_in,
        left_out=left_out,
    )


def continued(starter: str, asked: source.Function | None, code: str, name: str) -> str:
    """The candidate's program: as it is if it defines what is asked for, else as the continuation of the starter."""
    if not name or asked is None or name in {one.name for one in source.functions(code)}:
        return code
    whole = starter[asked.start : asked.body + 1] + "\n" + code
    return whole + "\n}" * max(0, source.unbalanced(whole))


def _person(reason: str) -> Verdict:
    return Verdict("needs_human_review", (reason,), None, {"total": 0})


class RustTests:
    """Runs tests in Rust with one compiler, within limits of time (seconds) and memory (bytes) for the tests' run."""

    def __init__(self, rustc: Compiler, crates: str, limits: sandbox.Limits) -> None:
        self.rustc = rustc
        self.crates = libraries(crates)
        self.folder = crates
        self.limits = limits

    def __call__(self, code: str, task: Task) -> Verdict:
        """The verdict on a candidate's code."""
        return self.trial(code, task).verdict

    def trial(self, code: str, task: Task) -> Trial:
        """The verdict on a candidate's code, and how the compiler or the program ended."""
        strength = sandbox.strength(self.limits.without)
        if sys.platform == "linux" and "landlock" not in strength.layers:
            return Trial(_person("this system has no Landlock, without which a program can change what its tests say"))
        parts = joined(code, task, frozenset(self.crates))
        if parts.problem is not None:
            return Trial(parts.problem)
        answer, program, compiling = self.built(parts)
        if answer.get("stage") != "done":
            return Trial(self.unbuilt(answer, parts, compiling), compiling)
        report, ran = self.run(program)
        _refuse_unstarted(ran)
        answered = read_report(report)
        category, reasons = concluded(answered, ran)
        return Trial(self.judged(category, reasons, answered, ran), ran)

    def built(self, parts: Joined) -> tuple[dict[str, Any], bytes, sandbox.Outcome]:
        """What the compiler says, and the program if it made one."""
        with tempfile.TemporaryFile() as answer:
            orders = json.dumps({"answer": answer.fileno(), "program": "judge", "stages": self.stages(parts)})
            program = sandbox.Program(
                entry=HARNESS / "rust_build.py",
                files={"orders": orders.encode()},
                pass_fds=(answer.fileno(),),
                readable=tuple(filter(None, (self.rustc.root, self.folder))),
            )
            outcome = sandbox.run(program, msgspec.structs.replace(COMPILER, without=self.limits.without))
            answer.seek(0)
            first, _, made = answer.read().partition(b"\n")
        return (json.loads(first) if first else {}), made, outcome

    def stages(self, parts: Joined) -> list[dict[str, object]]:
        """The two crates: their files and their commands."""
        externs = [argument for name, file in self.crates.items() for argument in ("--extern", f"{name}={file}")]
        common = [
            *(self.rustc.program, "--sysroot", self.rustc.root, "--edition", "2021", "--error-format", "json"),
            *("-C", "debuginfo=0", "-C", "codegen-units=1", "--cap-lints", "forbid", "-A", "warnings"),
            *(["-L", f"dependency={self.folder}"] if self.folder else []),
            *externs,
        ]
        stand_in: dict[str, object] = {
            "name": "tests",
            "files": {"rand.rs": (HARNESS / "rand.rs").read_text("utf-8")},
            "command": [*common, "--crate-type", "rlib", "--crate-name", STAND_IN, "rand.rs"],
        }
        found = ["--extern", f"{STAND_IN}=lib{STAND_IN}.rlib"] if parts.stand_in else []
        return [
            {
                "name": "candidate",
                "files": {"lib.rs": library(parts), "candidate.rs": candidate(parts)},
                "command": [*common, "--crate-type", "rlib", "--crate-name", "candidate", "lib.rs"],
            },
            *([stand_in] if parts.stand_in else []),
            {
                "name": "tests",
                "files": {"main.rs": judge(parts), "report.rs": (HARNESS / "judge.rs").read_text("utf-8")},
                "command": [
                    *(*common, "--crate-type", "bin", "--crate-name", "judge", "-C", "strip=symbols"),
                    *("--extern", "candidate=libcandidate.rlib", *found, "main.rs", "-o", "judge"),
                ],
            },
        ]

    def run(self, program: bytes) -> tuple[bytes, sandbox.Outcome]:
        """What the tests wrote down, and how their program ended."""
        with tempfile.TemporaryFile() as channel:
            number = channel.fileno()
            files = {"tests": program, "channel": str(number).encode()}
            started = sandbox.Program(entry=HARNESS / "rust_start.py", files=files, pass_fds=(number,))
            outcome = sandbox.run(started, self.limits)
            return _whole(channel), outcome

    def unbuilt(self, answer: dict[str, Any], parts: Joined, outcome: sandbox.Outcome) -> Verdict:
        """What it means that there is no program: the candidate's fault, or nobody's that is known."""
        _refuse_unstarted(outcome)
        errors = answer.get("errors") or []
        own = [one for one in errors if one["file"] == "candidate.rs"]
        first = next(iter(own or errors), {"code": "", "message": outcome.stderr.strip()[-300:] or "no message"})
        said = f"{first['code']}: {first['message']}" if first["code"] else first["message"]
        missing = self.missing(errors, parts, answer.get("stage", ""))
        report = Report(reported=True, state="syntax", message=said)
        if outcome.timed_out and answer.get("stage") is None:
            reasons = (f"the code was still being compiled after {outcome.duration:.0f} s",)
            return self.judged("rejected", reasons, report, outcome)
        if any(one["code"] in UNSAFE for one in errors):
            reasons = ("the code has unsafe code, which could decide its own verdict",)
        elif missing:
            reasons = (f"what is to be run needs crates that are not here: {', '.join(sorted(missing))}",)
        elif answer.get("stage") == "candidate" and own:
            return self.judged("rejected", (f"the code does not compile: {said}",), report, outcome)
        else:
            reasons = (f"the tests do not compile with the code: {said}",)
        return self.judged("needs_human_review", reasons, report, outcome)

    def missing(self, errors: list[dict[str, Any]], parts: Joined, stage: str) -> set[str]:
        """The crates that an unresolved name may have come from."""
        unresolved = (ABSENT.search(one["message"]) for one in errors if one["code"] in UNRESOLVED)
        named = {found[1] for found in unresolved if found} - STANDARD
        used = source.words(parts.candidate if stage == "candidate" else parts.tests)
        return named | {parts.left_out[word] for word in parts.left_out.keys() & used}

    def judged(self, category: str, reasons: tuple[str, ...], report: Report, ran: sandbox.Outcome) -> Verdict:
        """A verdict with its figures, as the tests in Python have them."""
        strength = sandbox.strength(self.limits.without)
        total = report.passed + report.failed
        figures = {
            "compiled": report.state != "syntax",
            "passed": report.passed,
            "failed": report.failed,
            "skipped": report.skipped,
            "total": total,
            "network_isolated": ran.network_isolated and strength.network_cut,
            "files_protected": strength.files_protected,
            "duration": round(ran.duration, 3),
            "rustc": self.rustc.version,
        }
        share = report.passed / total if total and report.complete else 0.0
        return Verdict(category, reasons, None if category == "needs_human_review" else share, figures)


def _refuse_unstarted(outcome: sandbox.Outcome) -> None:
    """Raises LakeError: a broken sandbox is no verdict."""
    if not outcome.started:
        raise LakeError(
            f"the sandbox cannot start: {outcome.stderr.strip() or 'no message'}",
            "see docs/scoring.md for what it needs of the system",
        )


def _whole(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def library(parts: Joined) -> str:
    """The candidate's crate: the starter code, and the candidate in a room of its own, which sees the starter's."""
    names = ", ".join((*(f"ENTRY_{number}" for number in range(len(parts.entries))), *parts.types))
    return f"#![forbid(unsafe_code)]\n{parts.given}\nmod candidate;\npub use candidate::{{{names}}};\n"


def candidate(parts: Joined) -> str:
    """The candidate's text, and after it what the tests may call."""
    doors = [f"pub const ENTRY_{number}: {one.pointer} = {one.name};" for number, one in enumerate(parts.entries)]
    return "\n".join((parts.candidate, "#[allow(unused_imports)]", "use super::*;", *doors, ""))


def judge(parts: Joined) -> str:
    """The tests' program. The tests begin at its first line, so that its line numbers are theirs."""
    doors = [
        f"pub(crate) const {one.name}: {one.pointer} = ::candidate::ENTRY_{number};"
        for number, one in enumerate(parts.entries)
    ]
    doors += [f"pub(crate) use ::candidate::{name};" for name in parts.types]
    units = [
        f"    report::unit({str(one.must_panic).lower()}, judged::{one.path});"
        for one in parts.found
        if not one.ignored
    ]
    front = " ".join((*OPEN.splitlines(), "mod judged {"))
    main = "\n".join(("fn main() {", "    report::begin();", *units, "    report::end();", "}"))
    return "\n".join((front + parts.tests, parts.given_to_tests, *doors, "}", "mod report;", main, ""))


def read_report(said: bytes) -> Report:
    """What the tests wrote down: a line for each check, and `end` if they came to that."""
    lines = said.decode("utf-8", "replace").split("\n")
    failures = [line.split(" ", 2)[1:] for line in lines if line.startswith("failed ")]
    messages = tuple(f"line {line}: {message}"[:400] for line, message in failures[:10])
    return Report(
        reported="begun" in lines,
        complete=lines[-2:] == ["end", ""],
        state="loaded",
        passed=lines.count("passed"),
        failed=len(failures),
        messages=messages,
        asked=1,
    )
