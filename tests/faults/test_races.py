"""Many processes at once: every batch once, in one chain, each within its second; one table, however many make it."""

import json
import os
import statistics
from datetime import timedelta

import pytest

from lake import Lake
from lake.compact import compact
from lake.vacuum import vacuum
from tests.faults.checker import batch_runs, check, read_table
from tests.faults.injector import injected
from tests.faults.operations import append
from tests.faults.processes import together
from tests.faults.victims import acknowledged, append_own, append_same, create_same


@pytest.mark.parametrize(("writers", "count"), [(4, 12), pytest.param(8, 200, marks=pytest.mark.long)])
def test_many_writers_lose_nothing_and_wait_for_nobody_long(tmp_path, writers, count, report):
    """Processes that append as fast as they can: all commits there, none lost, none twice, none given up."""
    root = str(tmp_path / "lake")
    Lake.create(root)
    busy = os.getloadavg()[0]
    codes = together(
        append_own, *((root, str(tmp_path), f"w{number}", count) for number in range(writers)), timeout=900
    )
    assert codes == [0] * writers
    acks = list(acknowledged(tmp_path))
    assert len(acks) == writers * count
    assert check(root, (batch for batch, _ in acks)) == []
    table = read_table(root)
    assert len(table.commits) == writers * count + 1
    assert list(Lake.open(root).verify()) == []
    p50, p95 = (statistics.quantiles((seconds for _, seconds in acks), n=20)[at] for at in (9, 18))
    if count == 200 and busy < (os.cpu_count() or 1):
        # Among the work of others a second is not the lake's to promise.
        assert p95 < 1
    figure = f"p50 {p50 * 1000:.0f} ms, p95 {p95 * 1000:.0f} ms, at load {busy:.0f}"
    report(f"{writers} processes x {count} commits", len(acks), "0 lost, 0 twice, 0 given up, chain whole", figure)


@pytest.mark.parametrize("rounds", [15, pytest.param(100, marks=pytest.mark.long)])
def test_one_batch_sent_by_many_is_one_commit(tmp_path, rounds, report):
    """The same producer and sequence, sent by four processes at the same moment, is committed once each time."""
    root = str(tmp_path / "lake")
    Lake.create(root)
    assert together(append_same, *[(root, rounds)] * 4, timeout=300) == [0] * 4
    assert check(root, [("p", sequence) for sequence in range(rounds)]) == []
    assert read_table(root).sequences == {"p": list(range(rounds))}
    report("the same batch by 4 processes at once", rounds, "one commit each", f"{rounds} commits")


@pytest.mark.parametrize("rounds", [4, pytest.param(50, marks=pytest.mark.long)])
def test_a_lake_that_many_create_is_one(tmp_path, rounds, report):
    """Six processes create a lake at the same moment and append: one metaData action, one id a table, nothing lost."""
    names = [f"w{number}" for number in range(6)]
    assert together(create_same, *((str(tmp_path), name, rounds) for name in names), timeout=300) == [0] * 6
    for number in range(rounds):
        root = tmp_path / str(number)
        assert check(root, [(name, 1) for name in names]) == []
        for table in (root / "tables").iterdir():
            commits = [path.read_text() for path in sorted((table / "_delta_log").glob("*.json"))]
            actions = [json.loads(line) for text in commits for line in text.splitlines()]
            assert sum("metaData" in action for action in actions) == 1, table
        assert sorted(Lake.open(str(root)).read("evidence")["run_id"].to_pylist()) == sorted(
            run for name in names for run in batch_runs(name, 1)
        )
    report("6 processes create a lake at once", rounds, "one metaData action, one table id, nothing lost")


def test_a_file_that_is_freed_under_a_verification_is_no_fault(tmp_path):
    """A vacuum deletes files between their listing and their reading by a deep verification: nothing is wrong."""
    root = str(tmp_path / "lake")
    lake = Lake.create(root)
    for sequence in range(6):
        append(root, "p", sequence)
    list(compact(lake))
    freed = []
    with injected() as injector:

        def watch(kind: str, given: tuple[object, ...], done: object) -> None:
            if kind == "read" and str(getattr(done, "name", "")).endswith(".parquet") and not freed:
                freed.extend(vacuum(Lake.open(root), timedelta(0), force=True))

        injector.watch = watch
        assert list(lake.verify(deep=True)) == []
    assert sum(table.files for table in freed) == 6
    assert check(root, [("p", sequence) for sequence in range(6)]) == []
