"""The n-th call under the store goes wrong, for every n; the same is done again, and all is as after a clean run."""

import errno
import random
import shutil
import signal
from pathlib import Path

import pytest

from lake.errors import LakeError
from lake.files import Folder
from lake.log import Log
from tests.faults.checker import batch_runs, check
from tests.faults.injector import STORE_KINDS, Fault, Unlucky, injected
from tests.faults.operations import OPERATIONS, Operation, attempt, state
from tests.faults.processes import WORKERS
from tests.lake.rows import evidence
from tests.lake.writers import KIND, send

FOREVER = 1_000_000


class Bench:
    """An operation, the lake that it starts from, what comes of a clean run, and how many calls that took."""

    def __init__(self, folder: Path, operation: Operation) -> None:
        self.operation = operation
        self.start = folder / "start"
        operation.prepare(str(self.start))
        self.work = folder / "work"
        root = self.fresh()
        with injected(modules=operation.modules) as injector:
            operation.do(root)
        self.calls = list(injector.calls)
        self.wanted = state(root)
        assert self.wanted["problems"] == []

    def fresh(self) -> str:
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.rmtree(self.work.with_suffix(".out"), ignore_errors=True)
        if self.start.exists():
            shutil.copytree(self.start, self.work)
        return str(self.work)

    def numbers(self, seed: int, most: int | None) -> list[int]:
        every = range(1, len(self.calls) + 1)
        return list(every) if most is None else sorted(random.Random(seed).sample(every, most))


@pytest.fixture(scope="module", params=sorted(OPERATIONS))
def bench(request, tmp_path_factory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"), OPERATIONS[request.param])


@pytest.mark.parametrize("most", [1, pytest.param(None, marks=pytest.mark.long)])
def test_a_call_that_fails_leaves_nothing_that_cannot_be_done_again(bench, most, seed, report):
    """Whichever call fails, before or after it was done, once or from then on: a second attempt ends as it should."""
    refused = tried = 0
    for number in bench.numbers(seed, most):
        for mode, lasts in (("fail", 1), ("lost", 1), ("fail", FOREVER)):
            root = bench.fresh()
            # An error that stays is what a full disk is.
            code = errno.EIO if lasts == 1 else errno.ENOSPC
            with injected(Fault(number, mode, code=code, lasts=lasts), bench.operation.modules) as injector:
                refused += attempt(bench.operation, root) is not None
            tried += injector.fired > 0
            bench.operation.do(root)
            assert state(root) == bench.wanted, (number, mode, lasts, bench.calls[number - 1])
    report(
        f"{bench.operation.name}: the n-th call fails, or its answer is lost",
        tried,
        "same rows and chain as a clean run",
        f"{len(bench.calls)} calls; {refused} told as an error",
    )


@pytest.mark.parametrize("most", [1, pytest.param(None, marks=pytest.mark.long)])
def test_a_slow_or_half_call_changes_nothing(bench, most, seed, report):
    """A call that takes its time, or writes half of what it was given, is no error at all."""
    tried = 0
    for number in bench.numbers(seed + 1, most):
        root = bench.fresh()
        with injected(
            Fault(number, "short" if number % 2 else "late", seconds=0.002), bench.operation.modules
        ) as injector:
            bench.operation.do(root)
        tried += injector.fired
        assert state(root) == bench.wanted, (number, bench.calls[number - 1])
    report(f"{bench.operation.name}: the n-th call is late, or writes half", tried, "no error, same rows and chain")


def do_and_die(name: str, root: str, number: int, mode: str) -> None:
    """In a process of its own, as SIGKILL is for the whole of it."""
    operation = OPERATIONS[name]
    with injected(Fault(number, mode), operation.modules):
        operation.do(root)


@pytest.mark.parametrize("most", [1, pytest.param(None, marks=pytest.mark.long)])
def test_a_process_that_is_killed_at_a_call_can_be_started_again(bench, most, seed, report):
    """Killed at any call, before or after it was done: the next process does it again and ends as it should."""
    killed = 0
    for number in bench.numbers(seed + 2, most):
        for mode in ("kill", "kill after"):
            root = bench.fresh()
            victim = WORKERS.Process(target=do_and_die, args=(bench.operation.name, root, number, mode))
            victim.start()
            victim.join(60)
            assert victim.exitcode in {0, -signal.SIGKILL}
            killed += victim.exitcode != 0
            bench.operation.do(root)
            assert state(root) == bench.wanted, (number, mode, bench.calls[number - 1])
    report(f"{bench.operation.name}: killed at the n-th call", killed, "same rows and chain as a clean run")


@pytest.fixture
def log(tmp_path) -> Log:
    log = Log(Folder(str(tmp_path / "lake")), KIND)
    log.create()
    return log


@pytest.mark.parametrize("rounds", [10, pytest.param(200, marks=pytest.mark.long)])
def test_a_lost_answer_stores_nothing_twice(log, rounds, seed, report):
    """A store that does its work and then fails, at any of its calls: the batch is there once when it is sent again."""
    chance = random.Random(seed)
    root = log._store.uri
    lost = told = 0
    for sequence in range(rounds):
        kinds = frozenset({"put"}) if sequence % 2 else STORE_KINDS
        store = Unlucky(Folder(root), Fault(chance.randint(1, 2 if sequence % 2 else 9), "lost", kinds))
        rows = evidence(*batch_runs("p", sequence))
        try:
            first = send(Log(store, KIND), rows, "p", sequence)
        except LakeError:
            first = None
            told += 1
        lost += store.fired
        again = send(log, rows, "p", sequence)
        assert again.repeated or again.added == len(rows)
        assert first is None or (first.added == len(rows) and again.repeated)
    assert check(root, [("p", sequence) for sequence in range(rounds)]) == []
    report(
        "an answer of the store is lost after the work was done", lost, "0 lost, 0 twice", f"{told} told as an error"
    )


def append_and_die(root: str, sequence: int, number: int) -> None:
    """Killed after a file or a commit was put, before anybody hears of it."""
    store = Unlucky(Folder(root), Fault(number, "kill after", frozenset({"put"})))
    send(Log(store, KIND), evidence(*batch_runs("p", sequence)), "p", sequence)


@pytest.mark.parametrize("rounds", [4, pytest.param(200, marks=pytest.mark.long)])
def test_a_client_that_never_hears_the_answer_stores_nothing_twice(log, rounds, seed, report):
    """A client that is killed when its file or its commit is there, and sends it again: each batch is there once."""
    root = log._store.uri
    already = 0
    for sequence in range(rounds):
        victim = WORKERS.Process(target=append_and_die, args=(root, sequence, 1 + sequence % 2))
        victim.start()
        victim.join(60)
        assert victim.exitcode == -signal.SIGKILL
        already += send(log, evidence(*batch_runs("p", sequence)), "p", sequence).repeated
    assert already == rounds // 2
    assert check(root, [("p", sequence) for sequence in range(rounds)]) == []
    report("killed after the store had done it, sent again", rounds, "0 lost, 0 twice", f"{already} known already")
