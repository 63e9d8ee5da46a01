"""What a policy answered and what became of it: `rollouts.jsonl`, one line an answer, and the same as events.

A line is written once its reward is known, before the policy learns from it, and is on the disk when `append` returns.
A run that goes on from a checkpoint first cuts the lines of the steps after it, because it will answer those again: the
file has each answer once.

Not here: drawing answers (`grpo`), rewarding them (`rewards`), and appending events to a lake (`receipts`).
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from ingest.scorers.report import Trial
from ingest.scorers.scorer import Verdict
from lake.errors import Damaged, LakeError
from lake.events import to_table, with_ids
from lake.kinds import KINDS

NAME = "rollouts.jsonl"
STREAM = "grpo"
STDERR_CHARACTERS = 2000
WHOLE = "copy the file from where it is whole"

Row = dict[str, object]


class Scorer(msgspec.Struct, frozen=True):
    """Which scorer judged, and how it was set up: what `ingest.scoring.version_of` asks of one."""

    name: str
    version: str
    digest: str | None


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of one version of a policy.

    `step` is how often the policy's weights had been changed; `sample` counts the answers to one task at one step.
    `seed` is what this answer was drawn with. `task` is the event id of the task, if known. `outcome` is one of
    `report.ENDINGS`, `exit_code` and `stderr` are those of the answer's code, if it was started. `Rollouts.append` says
    which run, policy and sample it is.
    """

    run: str = ""
    step: int
    policy: str = ""
    task_id: str
    task: str | None
    sample: int = 0
    seed: int
    prompt: str
    completion: str
    completion_ids: tuple[int, ...]
    reward: float
    outcome: str
    tests_run: int
    tests_passed: int
    exit_code: int | None
    stderr: str
    scorer: Scorer
    verdict: Verdict
    recorded_at: datetime

    @property
    def run_id(self) -> str:
        """What the lake knows this answer by."""
        return f"{self.run}:{self.step}:{self.task_id}:{self.sample}"


class _Place(msgspec.Struct):
    run: str
    step: int


def policy_of(run: str, step: int) -> str:
    """The name of a version of a policy."""
    return f"{run}@{step}"


def figures(trial: Trial) -> dict[str, Any]:
    """What a rollout says of its trial."""
    said = trial.verdict.sub_scores or {}
    return {
        "outcome": trial.ending,
        "tests_run": int(said.get("total", 0)),
        "tests_passed": int(said.get("passed", 0)),
        "exit_code": None if trial.ran is None else trial.ran.exit_code,
        "stderr": "" if trial.ran is None else trial.ran.stderr[-STDERR_CHARACTERS:],
        "verdict": trial.verdict,
    }


class Rollouts:
    """The file of a run's answers."""

    def __init__(self, folder: Path, run: str) -> None:
        self.path = folder / NAME
        self.run = run

    def cut(self, step: int) -> None:
        """Leave the lines of the steps before this one. Raises Damaged, or LakeError where it is another run's."""
        try:
            file = self.path.open("rb+")
        except FileNotFoundError:
            return
        with file:
            kept = 0
            for number, line in enumerate(file, 1):
                place = _place(line)
                if place is None:
                    # A line that was being written when the machine went down; nothing can follow it.
                    if file.read(1):
                        raise Damaged(f"{self.path}: line {number} is no rollout", WHOLE)
                    break
                if place.run != self.run:
                    raise LakeError(f"{self.path}: it is of the run {place.run}", "give this run a folder of its own")
                if place.step >= step:
                    break
                kept += len(line)
            file.truncate(kept)
            os.fsync(file.fileno())

    def append(self, rollouts: Iterable[Rollout]) -> None:
        """Add the answers of one step, durably: as this run's, and numbered for each task as they come."""
        is_new = not self.path.exists()
        samples: Counter[str] = Counter()
        with self.path.open("ab") as file:
            for one in rollouts:
                policy = policy_of(self.run, one.step)
                named = msgspec.structs.replace(one, run=self.run, policy=policy, sample=samples[one.task_id])
                samples[one.task_id] += 1
                file.write(msgspec.json.encode(named) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def read(lines: Iterable[bytes | str], called: str = NAME) -> Iterator[Rollout]:
    """The rollouts that lines hold, of a file that messages call so. Raises Damaged."""
    decoder = msgspec.json.Decoder(Rollout)
    for number, line in enumerate(lines, 1):
        try:
            yield decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Damaged(f"{called}: line {number}: {error}", WHOLE) from None


def events(rollouts: Iterable[Rollout], version: str, source: str = NAME) -> tuple[list[Row], list[Row]]:
    """Rows of `evidence` and of `scores` for a lake, one of each a rollout.

    `version` is what the lake calls the scorer as it was set up: `scoring.version_of(con, rollout.scorer)`. A score
    names the evidence and the task that it was made from, as those of `lake score` do, so none of it is scored again.
    """
    told = list(rollouts)
    evidence = [_evidence(one, number, source) for number, one in enumerate(told, 1)]
    kind = KINDS["evidence"]
    ids = with_ids(kind, to_table(kind, evidence), "").column("event_id").to_pylist() if told else []
    return evidence, [_score(one, event_id, version) for one, event_id in zip(told, ids, strict=True)]


def _evidence(one: Rollout, line: int, source: str) -> Row:
    extra = {
        "run": one.run,
        "step": one.step,
        "sample": one.sample,
        "seed": one.seed,
        "reward": one.reward,
        "outcome": one.outcome,
        "completion_ids": one.completion_ids,
        "exit_code": one.exit_code,
        "stderr": one.stderr,
    }
    return {
        "recorded_at": one.recorded_at,
        "source": {"file": source, "line": line, "sha256": hashlib.sha256(msgspec.json.encode(one)).hexdigest()},
        "run_id": one.run_id,
        "task_id": one.task_id,
        "kind": "completion",
        "role": "executor",
        "model": one.policy,
        "stream": STREAM,
        "prompt": one.prompt,
        "text": one.completion,
        "extra": _json(extra),
    }


def _score(one: Rollout, evidence: str, version: str) -> Row:
    basis = hashlib.sha256(" ".join(filter(None, (evidence, one.task))).encode()).hexdigest()
    said = one.verdict
    return {
        "recorded_at": one.recorded_at,
        "source": {"file": f"scorer:{one.scorer.name}@{version}", "line": None, "sha256": basis},
        "run_id": one.run_id,
        "task_id": one.task_id,
        "scorer": one.scorer.name,
        "scorer_version": version,
        "category": said.category,
        "score": said.score,
        "sub_scores": None if said.sub_scores is None else _json(said.sub_scores),
        "reasons": list(said.reasons),
        "extra": _json({"evidence": evidence, "task": one.task}),
    }


def _place(line: bytes) -> _Place | None:
    if not line.endswith(b"\n"):
        return None
    try:
        return msgspec.json.decode(line, type=_Place)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _json(value: object) -> str:
    return msgspec.json.encode(value, order="deterministic").decode()
