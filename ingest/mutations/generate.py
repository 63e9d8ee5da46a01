"""Chooses faults for a project, tries them, and appends those that its tests find.

    summary = generate(lake, Path("my-project"))

Which faults are tried, and in what order, is a function of the project's files and the seed: every change of every file
has a key, the sha256 of what it makes of the file, and they are tried by their keys until enough are kept. A fault that
a test fails on is `caught`, one that keeps the tests from being loaded is `unviable`; both are kept. What no test
notices (`missed`) or what does not end (`timeout`) is counted and dropped. An event says nothing of when it was made,
so the same fault is stored once.

Not here: what can be changed (`operators`), how tests are run (`trial`).
"""

import ast
import hashlib
import os
import re
import time
import tokenize
from collections import Counter
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from typing import Literal

import msgspec

from ingest.mutations.operators import Change, Source, changes
from ingest.mutations.trial import SKIPPED, Ended, Trial
from lake.errors import LakeError, SequenceTooLow, UsageError
from lake.lake import Lake

KEPT = ("caught", "unviable")
EXTENTS = ("file", "snippet")
STREAM = "mutations"
LONGEST = 1 << 18  # characters of a file that is a training example
_TESTS = re.compile(
    r"(?:^|/)(?:tests?|testing|docs?|examples?|\.[^/]+)/|(?:^|/)(?:test_[^/]*|[^/]*_test|conftest|setup)\.py$"
)

Progress = Callable[[int, int | None], object]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is made of each project, and how much.

    `limit` faults are kept at most; one run of the tests may take `seconds`, and at least five times as long as
    without a fault but no more than that; all of it `total_seconds`. `extent` says whether both sides are whole files
    or the functions around the fault. `workers` copies are tried at once: by default as many as leave two processors
    free and have 4 GiB of memory each. `arguments` are for pytest.
    """

    seed: int = 0
    limit: int = 50
    seconds: float = 300.0
    total_seconds: float = 1800.0
    extent: Literal["file", "snippet"] = "file"
    workers: int = 0
    memory_bytes: int = 2 << 30
    repo: str | None = None
    arguments: tuple[str, ...] = ()
    dry_run: bool = False

    def __post_init__(self) -> None:
        if self.limit < 1 or self.seconds <= 0 or self.total_seconds <= 0 or self.workers < 0:
            raise UsageError("limits of mutations are above zero", "leave them out for 50 faults and 300 seconds")


class Mutant(msgspec.Struct, frozen=True):
    """One fault: the project's file, its text without it, and the change."""

    file: str
    text: str
    change: Change


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One fault that tests found, wherever it comes from. Both sides have the same `extent`: file or snippet."""

    file: str
    line: int
    operator: str
    language: str
    outcome: str
    buggy_code: str
    error_message: str
    fixed_code: str
    extent: str

    def row(self, repo: str, text: str) -> dict[str, object]:
        """The fault as a row of evidence; `text` is the file without it."""
        identity = f"{repo}\0{self.file}\0{self.extent}\0{self.buggy_code}\0{self.fixed_code}"
        extra = msgspec.structs.asdict(self) | {"repo": repo}
        where = {"file": f"{repo}/{self.file}", "line": self.line}
        return {
            "source": where | {"sha256": hashlib.sha256(text.encode()).hexdigest()},
            "run_id": f"mutation-{hashlib.sha256(identity.encode()).hexdigest()[:16]}",
            "task_id": f"{repo}/{self.file}",
            "kind": "mutation",
            "role": "other",
            "stream": STREAM,
            "text": self.fixed_code,
            "source_files": [self.file],
            "extra": msgspec.json.encode(extra, order="deterministic").decode(),
        }


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one project: how many faults there are, how many had each outcome, and how many were stored.

    `found` = the sum of `outcomes` + `not_tried`. `left_out` are files that are no Python text, or too long.
    """

    repo: str
    files: int
    left_out: int
    found: int
    outcomes: dict[str, int]
    not_tried: int
    kept: int
    added: int
    out_of_time: bool
    seconds: float


def generate(lake: Lake, project: Path, options: Options | None = None, progress: Progress | None = None) -> Summary:
    """Append faults of one project that its tests find.

    `progress` is called with the faults kept and how many are wanted. Raises LakeError if the project has no tests, or
    if they fail as it is.
    """
    options = options or Options()
    began = time.monotonic()
    project = project.resolve()
    if not project.is_dir():
        raise UsageError(f"{project} is no folder", "name the folder of a Python project that has tests")
    repo = options.repo or project.name
    mutants, files, left_out = found_in(project, options.seed)
    workers = options.workers or _able()
    outcomes: Counter[str] = Counter()
    rows: list[dict[str, object]] = []
    deadline = began + options.total_seconds
    with ExitStack() as stack:
        trials = [stack.enter_context(Trial(project, options.arguments, options.memory_bytes)) for _ in range(workers)]
        usual = baseline(trials[0], repo, options)
        for trial in trials:
            trial.plugins = trials[0].plugins
        seconds = min(options.seconds, max(10.0, 5 * usual))
        tried = _tried(mutants, trials, seconds, deadline)
        for mutant, ended in tried:
            outcomes[ended.outcome] += 1
            if ended.outcome in KEPT:
                rows.append(event(repo, mutant, ended, options))
                (progress or _silent)(len(rows), options.limit)
            if len(rows) == options.limit:
                break
        tried.close()
    total = outcomes.total()
    return Summary(
        repo=repo,
        files=files,
        left_out=left_out,
        found=len(mutants),
        outcomes=dict(sorted(outcomes.items())),
        not_tried=len(mutants) - total,
        kept=len(rows),
        added=0 if options.dry_run or not rows else append(lake, repo, rows),
        out_of_time=len(rows) < options.limit and total < len(mutants),
        seconds=time.monotonic() - began,
    )


def _silent(_done: int, _total: int | None) -> None:
    """Tell nobody how far the work has come."""


def found_in(project: Path, seed: int) -> tuple[list[Mutant], int, int]:
    """All faults of a project in the order in which they are tried; how many files have been read, and left out."""
    keyed: dict[bytes, Mutant] = {}
    files = left_out = 0
    for path in sorted(project.rglob("*.py")):
        inner = path.relative_to(project)
        file = inner.as_posix()
        if _TESTS.search(file) or SKIPPED("", list(inner.parts)) or path.is_symlink() or not path.is_file():
            continue
        files += 1
        try:
            text = path.read_bytes().decode()
            source = Source(text)
        except (ValueError, SyntaxError, RecursionError, tokenize.TokenError):
            left_out += 1
            continue
        if len(text) > LONGEST:
            left_out += 1
            continue
        for change in changes(source):
            # Two operators may come to the same text, which is one fault.
            said = f"{seed}\0{file}\0{change.applied(text)}"
            keyed.setdefault(hashlib.sha256(said.encode()).digest(), Mutant(file, text, change))
    return [mutant for _, mutant in sorted(keyed.items())], files, left_out


def baseline(trial: Trial, repo: str, options: Options) -> float:
    """How many seconds the tests take as they are. Raises LakeError unless they pass.

    pytest's plugins take longer to load than most tests to run: they are loaded where the tests do not pass without.
    """
    for trial.plugins in (False, True):
        ended = trial.run(options.seconds)
        if ended.outcome == "missed":
            return ended.seconds
    if ended.outcome == "untested":
        raise LakeError(f"{repo}: there are no tests", "a fault counts when a test finds it: name a project with tests")
    last = ended.log.splitlines()[-1:] or [f"no end after {ended.seconds:.0f} s"]
    raise LakeError(
        f"{repo}: its tests do not pass as it is: {last[0]}",
        "mend them first; they run without a network, and can write in their temporary folder alone",
    )


def _tried(
    mutants: list[Mutant], trials: list[Trial], seconds: float, deadline: float
) -> Generator[tuple[Mutant, Ended], None, None]:
    """Each fault and what became of it, in order, as many at once as there are copies, until the time is up."""
    free: SimpleQueue[Trial] = SimpleQueue()
    for trial in trials:
        free.put(trial)

    def attempt(mutant: Mutant) -> Ended:
        trial, text = free.get(), mutant.change.applied(mutant.text)
        try:
            return trial.changed(mutant.file, text, seconds) if is_program(text) else Ended("invalid", "", 0.0)
        finally:
            free.put(trial)

    with ThreadPoolExecutor(len(trials)) as pool:
        for at in range(0, len(mutants), len(trials)):
            if time.monotonic() > deadline:
                return
            together = mutants[at : at + len(trials)]
            yield from zip(together, pool.map(attempt, together), strict=True)


def is_program(text: str) -> bool:
    """Whether Python can parse a text: what it cannot is no fault that anybody would write, and is dropped."""
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    return True


def _able() -> int:
    """How many copies to try at once: min(processors - 2, memory / 4 GiB), and one at least."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min((os.cpu_count() or 1) - 2, memory >> 32))


def event(repo: str, mutant: Mutant, ended: Ended, options: Options) -> dict[str, object]:
    """A fault as a row of evidence. Both sides have the same extent, and differ by the change alone."""
    buggy, fixed = sides(mutant, options.extent)
    fault = Fault(
        file=mutant.file,
        line=mutant.change.line,
        operator=mutant.change.operator,
        language="python",
        outcome=ended.outcome,
        buggy_code=buggy,
        error_message=ended.log,
        fixed_code=fixed,
        extent=options.extent,
    )
    return fault.row(repo, mutant.text)


def sides(mutant: Mutant, extent: str) -> tuple[str, str]:
    """The code with the fault and without, of the whole file or of the part around the fault."""
    changed = mutant.change.applied(mutant.text)
    if extent == "file":
        return changed, mutant.text
    part = Source(mutant.text).part_of(mutant.change.start)
    grown = len(changed) - len(mutant.text)
    return changed[part.start : part.end + grown], mutant.text[part.start : part.end]


def append(lake: Lake, repo: str, rows: list[dict[str, object]]) -> int:
    """Store the faults; how many the lake did not have yet."""
    producer = f"mutate:{repo}"
    while True:
        last = lake.position("evidence", producer)
        try:
            return lake.append("evidence", rows, producer=producer, sequence=last.sequence + 1 if last else 0).added
        except SequenceTooLow:
            continue  # another process has mutated the same project meanwhile
