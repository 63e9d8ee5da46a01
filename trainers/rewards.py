r"""Rewards from tests that demonstrably ran: what `lake score tests` says of an answer, as a number.

Each answer's code is run against its task's own tests by `ingest.scorers.task_tests`, in two sandboxes, so neither
`exit(0)` nor a forged report earns anything, and nothing that an answer starts outlives its trial. What became of it is
one of five endings, each with a reward that the run's settings give; that nothing shows that the tests ran is an ending
of its own.

    reward = RewardByTests(spec.grpo)
    rewards = reward(completions=["    return 2 * n\n"], task_id=["t"], tests=[…], entry_point=[…], …)

It takes and returns what TRL asks of a reward function. Not here: what is kept of a trial (`rollouts`).
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from ingest import sandbox
from ingest.scorers.report import ENDINGS, Trial
from ingest.scorers.scorer import NotScored
from ingest.scorers.task_tests import Options, TaskTests
from lake.errors import LakeError, UsageError
from trainers.spec import Grpo

TASK = ("task_id", "language", "starter_code", "tests", "entry_point")
"""The columns of the dataset that a trial needs."""

Completion = str | Sequence[Mapping[str, Any]]  # as a model wrote it, or as the turns of a chat


class RewardByTests:
    """A reward function for TRL. `trials` are those of the last call, in its order."""

    def __init__(self, said: Grpo) -> None:
        self.__name__ = "tests"  # TRL names metrics by it
        self.values = said.rewards
        self.tests = TaskTests(Options(wall_seconds=said.timeout, workers=said.workers or cores()))
        self.trials: tuple[Trial, ...] = ()

    def refuse_untested(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Raises UsageError where the answers to a task cannot be tested on this machine."""
        sandbox.strength(self.tests.options.without)  # raises where nothing can be tried at all
        for task in tasks:
            answer = self.tests.trial({"text": ""}, task)
            if isinstance(answer, NotScored):
                raise UsageError(
                    f"task {task['task_id']}: its answers cannot be rewarded: {answer.reason}",
                    "leave it out of the snapshot, or train where its tests can run",
                )

    def __call__(
        self,
        *,
        completions: Sequence[Completion],
        log_metric: Callable[[str, float], object] | None = None,
        **columns: Any,
    ) -> list[float]:
        """The rewards of answers to tasks whose columns are given, answer for answer, several tried at once.

        The same answer to the same task is tried once: a verdict is a function of the two. Of what else TRL hands over
        (prompts, ids, its state) nothing is needed. Shares of the endings and the seconds that all of it took are told
        to `log_metric`. Raises LakeError where an answer cannot be tried at all.
        """
        tasks = [dict(zip(TASK, values, strict=True)) for values in zip(*(columns[name] for name in TASK), strict=True)]
        began = time.monotonic()
        asked = [msgspec.json.encode(one) for one in zip(completions, tasks, strict=True)]
        first = {key: place for place, key in reversed(list(enumerate(asked)))}
        with ThreadPoolExecutor(self.tests.workers) as pool:
            tried = pool.map(lambda place: self._tried(completions[place], tasks[place]), first.values())
            found = dict(zip(first, tried, strict=True))
        self.trials = tuple(found[key] for key in asked)
        if log_metric is not None and self.trials:
            endings = Counter(trial.ending for trial in self.trials)
            for ending in ENDINGS:
                log_metric(f"tests/{ending}", endings[ending] / len(self.trials))
            log_metric("tests/seconds", time.monotonic() - began)
        return [self.value(trial) for trial in self.trials]

    def value(self, trial: Trial) -> float:
        """What a trial is worth."""
        return float(getattr(self.values, trial.ending))

    def _tried(self, completion: Completion, task: Mapping[str, Any]) -> Trial:
        said = {"text": completion} if isinstance(completion, str) else {"messages": completion}
        answer = self.tests.trial(said, task)
        if isinstance(answer, NotScored):
            # Better no run than one that is rewarded by nothing.
            raise LakeError(f"task {task['task_id']}: an answer cannot be rewarded: {answer.reason}", None)
        return answer


def cores() -> int:
    """How many processors this process may use, its share where a launcher started several on this machine."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, usable // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
