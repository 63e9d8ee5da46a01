"""Rewards from tests: an answer earns what its tests prove, and leaves nothing running."""

import ctypes
import os
import re
import socket
import sys
import threading
import time
import tomllib
from pathlib import Path

import msgspec
import pytest

from ingest import sandbox
from ingest.scorers import rust
from ingest.scorers.report import ENDINGS, Trial
from lake.errors import LakeError, UsageError
from trainers import reading
from trainers.rewards import TASK, RewardByTests, cores
from trainers.spec import Grpo, Rewards

linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are counted, and the network cut, on Linux")
PR_SET_CHILD_SUBREAPER = 36

TASK_OF = {
    "task_id": "twice",
    "language": "python",
    "starter_code": "def twice(n):\n",
    "tests": "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(3) == 6\n",
    "entry_point": "twice",
}
RIGHT = "    return 2 * n\n"
ANSWERS = {
    "right": (RIGHT, "passed"),
    "right, in a chat": ([{"role": "assistant", "content": f"It is\n```python\ndef twice(n):\n{RIGHT}```"}], "passed"),
    "wrong": ("    return n\n", "failed"),
    "no code": ("", "broken"),
    "no program": ("    return (\n", "broken"),
    "loads nothing": ("def twice(n): return 2 * n\nraise ValueError", "broken"),
    "another function": ("def thrice(n):\n    return 3 * n\nthrice(1)\n", "broken"),
    "time": ("    while True: pass\n", "stopped"),
    "time, asleep": ("    import time\n    time.sleep(1000)\n", "stopped"),
    "time, while loading": ("def twice(n): return 2 * n\nwhile True: pass", "stopped"),
    "exits at once": ("import os\nos._exit(0)\ndef twice(n): return 2 * n", "stopped"),
    "exits when called": ("    import os\n    os._exit(0)\n", "stopped"),
    "exits politely": ("import sys\nsys.exit(0)\ndef twice(n): return 2 * n", "broken"),
    "exits politely when called": ("    import sys\n    sys.exit(0)\n", "failed"),
    "memory": ("    return bytearray(1 << 40)\n", "failed"),
    "memory, while loading": ("x = bytearray(1 << 40)\ndef twice(n): return 2 * n", "broken"),
    "forks": ("    import os\n    while True: os.fork()\n", "failed"),
    "forks, and leaves a child": ("    import os\n    os.fork() or __import__('time').sleep(99)\n", "failed"),
    "starts a program": (
        "    import subprocess\n    subprocess.Popen(['/bin/sleep', '99'])\n    return 2 * n",
        "failed",
    ),
    "flood": ("    import os\n    while True: os.write(1, b'x' * 65536)\n", "stopped"),
    "network": (
        "    import socket\n    socket.create_connection(('127.0.0.1', PORT), 2)\n    return 2 * n\n",
        "failed",
    ),
    "kills": ("    import os, signal\n    os.kill(0, signal.SIGKILL)\n", None),
    "needs what is not here": ("import numpy_that_is_not_there\ndef twice(n): return 2 * n", "unproven"),
    "claims to equal anything": (
        "class Yes:\n    def __eq__(self, other): return True\ndef twice(n): return Yes()",
        "unproven",
    ),
}


def columns(count: int, **others: object) -> dict[str, list[object]]:
    return {name: [value] * count for name, value in (TASK_OF | others).items()}


def descendants() -> set[int]:
    """The processes that descend from this one and live."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            after = status.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if after[0] != "Z":
            parents[int(status.parent.name)] = int(after[1])
    found: set[int] = set()
    new = {os.getpid()}
    while new:
        new = {process for process, parent in parents.items() if parent in new}
        found |= new
    return found


@pytest.fixture(scope="module")
def tried() -> dict[str, tuple[float, Trial]]:
    """Every answer's reward and trial, from one call. Whatever it would orphan becomes a child of this process."""
    reward = RewardByTests(Grpo(timeout=2.0, workers=4))
    call = ctypes.CDLL(None).prctl
    call(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = str(server.getsockname()[1])
            answers = [one.replace("PORT", port) if isinstance(one, str) else one for one, _ in ANSWERS.values()]
            before = descendants()
            rewards = reward(prompts=["?"] * len(answers), completions=answers, **columns(len(answers)))
            left = descendants() - before
            server.settimeout(0.1)
            with pytest.raises(TimeoutError):
                server.accept()
    finally:
        call(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    assert not left, "an answer left a process"
    return dict(zip(ANSWERS, zip(rewards, reward.trials, strict=True), strict=True))


@linux
@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_earns_what_its_tests_prove(tried, name):
    """Only an answer whose tests ran to their end and held earns the reward for it; each other ending has its own."""
    value, trial = tried[name]
    expected = ANSWERS[name][1]
    assert expected in (None, trial.ending), trial
    assert value == getattr(Rewards(), trial.ending)
    assert (value == Rewards().passed) == (expected == "passed")
    if trial.ending == "passed":
        assert trial.verdict.sub_scores["passed"] == trial.verdict.sub_scores["total"] == 2


@linux
def test_the_settings_say_what_an_ending_is_worth(tried):
    """Each ending has a setting of its name, and its value is the reward."""
    assert Rewards.__struct_fields__ == ENDINGS
    values = Rewards(passed=5.0, failed=4.0, broken=3.0, stopped=2.0, unproven=1.0)
    reward = RewardByTests(Grpo(rewards=values))
    endings = {trial.ending: reward.value(trial) for _, trial in tried.values()}
    assert endings == msgspec.structs.asdict(values)


def test_answers_are_tried_side_by_side_and_told_in_order():
    """Several at once, as many as there are workers, each with its own task; the shares of the endings are told."""
    told = {}
    reward = RewardByTests(Grpo(timeout=1.5, workers=4))
    sandbox.strength()
    answers = ["    while True: pass\n"] * 4 + [RIGHT, "    return n\n"]
    tasks = columns(6)
    tasks["tests"] = ["assert twice(2) == 4"] * 5 + ["assert twice(2) == 2"]
    began = time.monotonic()
    rewards = reward(completions=answers, log_metric=told.__setitem__, trainer_state=None, id=["x"] * 6, **tasks)
    assert time.monotonic() - began < 4 * 1.5
    assert rewards == [reward.values.stopped] * 4 + [reward.values.passed] * 2
    assert told.pop("tests/seconds") >= 1.5
    assert told == {"tests/passed": 2 / 6, "tests/stopped": 4 / 6} | {
        f"tests/{name}": 0.0 for name in ("failed", "broken", "unproven")
    }


def test_what_cannot_be_tested_is_refused():
    """Before a run begins, by the task's name; and within one, because no answer is rewarded by nothing."""
    reward = RewardByTests(Grpo())
    reward.refuse_untested([TASK_OF])
    for others in ({"tests": " \n"}, {"language": "cobol"}):
        with pytest.raises(UsageError, match="task twice"):
            reward.refuse_untested([TASK_OF, TASK_OF | others])
        with pytest.raises(LakeError, match="cannot be rewarded"):
            reward(completions=[RIGHT], **columns(1, **others))
    with pytest.raises(KeyError):
        reward(completions=[RIGHT], **{name: [""] for name in TASK[:-1]})


def test_nothing_is_left_of_a_call_that_is_interrupted(monkeypatch):
    """Trials that have begun end with their time; those that have not never begin."""
    reward = RewardByTests(Grpo(timeout=1.0, workers=1))
    before = set(threading.enumerate())
    began = []
    tried = reward.tests.trial
    monkeypatch.setattr(reward.tests, "trial", lambda *given: began.append(1) or tried(*given))
    tasks = columns(5)
    tasks["language"][1] = "cobol"
    with pytest.raises(LakeError):
        reward(completions=["    while True: pass\n"] * 5, **tasks)
    assert len(began) < 5
    assert set(threading.enumerate()) <= before


@pytest.mark.skipif(rust.compiler() is None, reason="there is no Rust compiler here")
def test_answers_in_rust_have_the_same_endings():
    """What the compiler refuses is broken, what exits is stopped; a pass is all of the tests, run to their end."""
    endings = {
        "fn twice(n: i32) -> i32 { 2 * n }": "passed",
        "fn twice(n: i32) -> i32 { n }": "failed",
        "fn twice(n: i32) -> i32 { n + }": "broken",
        "fn thrice(n: i32) -> i32 { 3 * n }": "broken",
        "fn twice(n: i32) -> i32 { std::process::exit(0) }": "stopped",
        "fn twice(n: i32) -> i32 { unsafe { 4 } }": "unproven",
    }
    task = {
        "language": "rust",
        "starter_code": "fn twice(n: i32) -> i32 {\n",
        "tests": "mod tests {\n    use super::*;\n    #[test]\n    fn it() { assert_eq!(twice(2), 4); }\n}\n",
    }
    reward = RewardByTests(Grpo(timeout=5.0, workers=2))
    reward.refuse_untested([TASK_OF | task])
    rewards = reward(completions=list(endings), **columns(len(endings), **task))
    assert dict(zip(endings, (trial.ending for trial in reward.trials), strict=True)) == endings
    assert rewards == [getattr(Rewards(), ending) for ending in endings.values()]


def test_the_same_answer_to_the_same_task_is_tried_once(monkeypatch):
    """Each of its samples has the one verdict; another task's is another."""
    reward = RewardByTests(Grpo(workers=2))
    asked = []
    tried = reward.tests.trial
    monkeypatch.setattr(reward.tests, "trial", lambda said, task: asked.append(task["task_id"]) or tried(said, task))
    tasks = columns(4) | {"task_id": ["twice", "twice", "other", "twice"]}
    assert reward(completions=[RIGHT, RIGHT, RIGHT, ""], **tasks) == [1.0, 1.0, 1.0, -0.3]
    assert sorted(asked) == ["other", "twice", "twice"]
    assert reward.trials[0] is reward.trials[1] is not reward.trials[2]


def test_the_manual_says_what_there_is():
    """Its settings are settings, with the rewards as they come, and it tells of each ending."""
    page = (Path(__file__).parents[2] / "docs" / "grpo.md").read_text("utf-8")
    [example] = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    said = reading.parse(tomllib.loads(example), "docs/grpo.md", Path())
    assert said.grpo.rewards == Rewards()
    assert tuple(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == ENDINGS


def test_processes_of_one_machine_share_its_cores(monkeypatch):
    """As many answers are tried at once as this process has cores of its own."""
    all_of_them = cores()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(10**6))
    assert cores() == 1 <= all_of_them
    assert RewardByTests(Grpo()).tests.workers == 1
    assert RewardByTests(Grpo(workers=7)).tests.workers == 7


def test_what_runs_no_test_is_worth_no_more_than_what_does_not_compile():
    """By default there is nothing to gain by leaving early, or by asking for what is not there."""
    values = Rewards()
    assert max(values.stopped, values.unproven) <= values.broken < values.failed < values.passed
