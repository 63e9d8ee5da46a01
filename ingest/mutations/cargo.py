"""Reads what cargo-mutants found: the folder `mutants.out` that it leaves in a Rust project.

`outcomes.json` says of each fault what became of it, and names its log and its diff, which is applied to the project's
file to have both sides whole. Which of the faults are kept is a function of their names and the seed, as for faults
that are made here. The tests are not run again.

The format is that of https://mutants.rs/mutants-out.html, with diffs in files of their own (since 24.11).
"""

import hashlib
import re
import time
from collections import Counter
from pathlib import Path

import msgspec

from ingest.mutations.generate import KEPT, Fault, Options, Summary, append
from ingest.mutations.trial import cut
from lake.errors import LakeError
from lake.lake import Lake

RESULTS = "outcomes.json"
OUTCOMES = {"CaughtMutant": "caught", "Unviable": "unviable", "MissedMutant": "missed", "Timeout": "timeout"}
_HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+\d+(?:,\d+)? @@")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_BUILD_FOLDER = re.compile(r"(?:/[^\s/:]+)*/cargo-mutants-[^\s/]+/?")


class Mutant(msgspec.Struct):
    """The parts of a fault's description that are read."""

    name: str
    file: str
    genre: str = "other"


class Scenario(msgspec.Struct, rename={"mutant": "Mutant"}):
    """What was tried."""

    mutant: Mutant


class Outcome(msgspec.Struct):
    """What became of it; the scenario `Baseline` is no fault."""

    scenario: Scenario | str
    summary: str
    log_path: str
    diff_path: str | None = None


class Results(msgspec.Struct):
    """All that was tried."""

    outcomes: list[Outcome]


class Stale(Exception):
    """A diff does not fit the file that it is of, or names one that is none of the project's."""


class Sides(msgspec.Struct, frozen=True):
    """A text and what it was changed to, and the parts of both that the diff shows, from a line (1-based)."""

    text: str
    whole: str
    before: str
    after: str
    line: int


def is_results(folder: Path) -> bool:
    """Whether a folder is what cargo-mutants leaves."""
    return (folder / RESULTS).is_file()


def collect(lake: Lake, folder: Path, options: Options | None = None) -> Summary:
    """Append the faults in a `mutants.out`, whose project is the folder that it is in.

    A fault whose diff no longer fits its file is counted as `stale`. Raises LakeError for results that cannot be read.
    """
    options, began = options or Options(), time.monotonic()
    folder = folder.resolve()
    project = folder.parent
    repo = options.repo or project.name
    outcomes: Counter[str] = Counter()
    rows: list[dict[str, object]] = []
    told = sorted(_told(folder), key=lambda one: hashlib.sha256(f"{options.seed}\0{one[0].name}".encode()).digest())
    for mutant, outcome in told:
        known = OUTCOMES.get(outcome.summary, "failed")
        if known in KEPT and len(rows) < options.limit:
            try:
                text = _inside(project, mutant.file).decode()
                sides = applied(text, _inside(folder, outcome.diff_path or "").decode())
                log = _inside(folder, outcome.log_path).decode("utf-8", "replace")
            except (OSError, UnicodeDecodeError, Stale):
                known = "stale"
            else:
                rows.append(fault(mutant, known, sides, log, options).row(repo, text))
        outcomes[known] += 1
    return Summary(
        repo=repo,
        files=len({mutant.file for mutant, _ in told}),
        left_out=0,
        found=len(told),
        outcomes=dict(sorted(outcomes.items())),
        not_tried=0,
        kept=len(rows),
        added=0 if options.dry_run or not rows else append(lake, repo, rows),
        out_of_time=False,
        seconds=time.monotonic() - began,
    )


def _inside(folder: Path, name: str) -> bytes:
    """What a file of a folder holds. Raises Stale for one that is not in it: results can name any place there is."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder):
        raise Stale(f"{name} is not in {folder}")
    return path.read_bytes()


def _told(folder: Path) -> list[tuple[Mutant, Outcome]]:
    """Each fault and what became of it. Raises LakeError."""
    try:
        results = msgspec.json.decode((folder / RESULTS).read_bytes(), type=Results)
    except (OSError, msgspec.DecodeError) as error:
        raise LakeError(
            f"{folder / RESULTS}: not what cargo-mutants writes: {error}",
            "run 'cargo mutants' again, and name its folder",
        ) from None
    return [(one.scenario.mutant, one) for one in results.outcomes if isinstance(one.scenario, Scenario)]


def fault(mutant: Mutant, outcome: str, sides: Sides, log: str, options: Options) -> Fault:
    """A fault of cargo-mutants' as one of ours."""
    whole = options.extent == "file"
    return Fault(
        file=mutant.file,
        line=sides.line,
        operator=mutant.genre,
        language="rust",
        outcome=outcome,
        buggy_code=sides.whole if whole else sides.after,
        error_message=cut(_BUILD_FOLDER.sub("", log)) or "no message",
        fixed_code=sides.text if whole else sides.before,
        extent=options.extent,
    )


def applied(text: str, diff: str) -> Sides:
    """The text with a unified diff of one hunk or more applied. Raises Stale where it does not fit."""
    lines = _LINE.findall(text)
    made: list[str] = []
    shown: tuple[list[str], list[str]] = ([], [])
    at, first = 0, 0
    for line in _LINE.findall(diff):
        hunk = _HUNK.match(line)
        if hunk:
            start = max(int(hunk[1]) - 1, 0)
            made += lines[at:start]
            for side in shown:
                side.extend(lines[at:start] if first else ())
            at, first = start, first or start + 1
        elif not first or line.startswith("\\"):
            continue
        else:
            mark, said = line[:1], line[1:]
            if mark in " -":
                if at >= len(lines) or lines[at].rstrip("\r\n") != said.rstrip("\r\n"):
                    raise Stale(f"line {at + 1} is another one")
                shown[0].append(lines[at])
                said = lines[at]
                at += 1
            if mark in " +":
                made.append(said)
                shown[1].append(said)
    if not first:
        raise Stale("there is no change in it")
    whole = "".join((*made, *lines[at:]))
    return Sides(text, whole, "".join(shown[0]), "".join(shown[1]), first)
