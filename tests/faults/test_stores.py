"""A lake in a bucket whose store loses answers, refuses, kills its clients, or keeps no promise: nothing lost or twice.

A real HTTP server stands behind a door that misbehaves, by a seed (`tests/stores/server.py`).
"""

import multiprocessing
import os
import statistics
import time
from multiprocessing.connection import wait

import pytest

from lake import Lake, bucket
from lake.bucket import Bucket, UnsafeStore
from tests.stores.server import KILLS, LOST, REFUSED, Faults

# A child is a fork of a process that has imported the lake and used nothing.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["lake", "tests.faults.test_stores"])
ROWS = 20
TABLES = "/tables/"


def rows(writer: str, sequence: int) -> list[dict[str, object]]:
    """A batch of its own for each writer and sequence."""
    same = {"task_id": "t", "kind": "completion", "role": "executor", "text": "some text"}
    return [{"run_id": f"{writer}-{sequence}-{number}", **same} for number in range(ROWS)]


def append(uri: str, options: dict[str, str], writer: str, sequences: range, told=None) -> None:
    """What a client does: opens the lake, appends batches, and tells how long each took."""
    lake = Lake.open(uri, options)
    took = []
    for sequence in sequences:
        since = time.perf_counter()
        done = lake.append("evidence", rows(writer, sequence), producer=writer, sequence=sequence)
        took.append(time.perf_counter() - since)
        assert done.added == ROWS or done.repeated
    if told is not None:
        told.put(took)


def assert_whole(uri: str, options: dict[str, str], sent: dict[str, int]) -> None:
    """Every batch that was sent is there, once, in one chain, and every byte is as it was written."""
    lake = Lake.open(uri, options)
    expected = sorted(
        row["run_id"] for writer, count in sent.items() for sequence in range(count) for row in rows(writer, sequence)
    )
    assert sorted(lake.read("evidence").column("run_id").to_pylist()) == expected
    assert list(lake.verify(deep=True)) == []
    commits = [(commit.producer, commit.sequence) for commit in lake.commits("evidence") if commit.producer]
    assert len(commits) == len(set(commits)) == sum(sent.values())


def percentiles(took: list[float]) -> str:
    p50, p95 = (statistics.quantiles(took, n=20)[at] * 1000 for at in (9, 18))
    return f"p50 {p50:.0f} ms, p95 {p95:.0f} ms, at load {os.getloadavg()[0]:.0f}"


@pytest.mark.parametrize("lost", [12, pytest.param(200, marks=pytest.mark.long)])
def test_lost_answers_lose_and_repeat_nothing(door, s3_uri, lost, seed, report):
    """The answer to every other put of a table is lost after the work was done: each append succeeds, once."""
    lake = Lake.create(s3_uri, door.options)
    door.faults = Faults(seed, dict.fromkeys(LOST, 0.15), within=TABLES, silence=0.2)
    took = []
    while sum(door.faults.seen[fault] for fault in LOST) < lost:
        since = time.perf_counter()
        done = lake.append("evidence", rows("w", len(took)), producer="w", sequence=len(took))
        took.append(time.perf_counter() - since)
        assert (done.added, done.repeated) == (ROWS, False)
    seen = door.faults.seen
    door.faults = Faults()
    assert_whole(s3_uri, door.options, {"w": len(took)})
    told = ", ".join(f"{fault} {seen[fault]}" for fault in LOST)
    report("answers to puts lost after the work", lost, "0 lost, 0 twice, every call a success", told)


@pytest.mark.parametrize("kills", [4, pytest.param(200, marks=pytest.mark.long)])
def test_killed_clients_lose_and_repeat_nothing(door, s3_uri, kills, seed, report):
    """The client is killed as its put arrives or is done; whoever sends the batch again stores it, or finds it."""
    Lake.create(s3_uri, door.options)
    killed = dict.fromkeys(KILLS, 0)
    sequence = 0
    while sum(killed.values()) < kills:
        # One put is of the data, the next of the commit; which of them it is, the seed says.
        door.faults = Faults(seed + sequence, dict.fromkeys(KILLS, 0.35), within=TABLES, most=1)
        child = FORKS.Process(target=append, args=(s3_uri, door.options, "w", range(sequence, sequence + 1)))
        child.start()
        door.faults.victim = child.pid
        child.join(60)
        assert child.exitcode in (0, -9)
        if child.exitcode == -9:
            for fault in KILLS:
                killed[fault] += door.faults.seen[fault]
        door.faults = Faults()
        append(s3_uri, door.options, "w", range(sequence, sequence + 1))
        sequence += 1
    assert_whole(s3_uri, door.options, {"w": sequence})
    report(
        "clients killed while they put, batch sent again",
        kills,
        "0 lost, 0 twice, success or 'already'",
        ", ".join(f"{fault} {count}" for fault, count in killed.items()),
    )


@pytest.mark.parametrize("faults", [12, pytest.param(200, marks=pytest.mark.long)])
def test_refusals_that_pass_lose_and_repeat_nothing(door, s3_uri, faults, seed, report):
    """A store that answers 409, 412, 500 or 503 without having done anything is asked again."""
    lake = Lake.create(s3_uri, door.options)
    writing = Faults(seed, dict.fromkeys(("409", "412", "500", "503"), 0.1), within=TABLES)
    reading = Faults(seed, dict.fromkeys(("500", "503"), 0.05), methods=("GET", "HEAD"), within=TABLES)
    sent = met = 0
    while met < faults:
        door.faults = reading if sent % 3 == 0 else writing
        done = lake.append("evidence", rows("w", sent), producer="w", sequence=sent)
        assert (done.added, done.repeated) == (ROWS, False)
        sent += 1
        met = sum((reading.seen + writing.seen)[fault] for fault in REFUSED)
    door.faults = Faults()
    assert_whole(s3_uri, door.options, {"w": sent})
    told = ", ".join(f"{fault}: {writing.seen[fault] + reading.seen[fault]}" for fault in writing.rates)
    report("409, 412, 500, 503 without the work", faults, "0 lost, 0 twice, every call a success", told)


@pytest.mark.parametrize("size", [(3, 4), pytest.param((8, 25), marks=pytest.mark.long)])
def test_many_writers_through_a_bad_network(door, s3_uri, size, seed, report):
    """Processes that append at once while every fourth put goes wrong: all there, once, in one chain, none given up."""
    writers, count = size
    Lake.create(s3_uri, door.options)
    wrong = (*LOST, "409", "503")
    door.faults = Faults(seed, dict.fromkeys(wrong, 0.05), within=TABLES, silence=0.2)
    told = FORKS.SimpleQueue()
    processes = [
        FORKS.Process(target=append, args=(s3_uri, door.options, f"w{number}", range(count), told))
        for number in range(writers)
    ]
    for process in processes:
        process.start()
    took = []
    for _ in processes:
        # A process that fails would never tell.
        while told.empty():
            assert all(process.exitcode in (None, 0) for process in processes)
            wait([process.sentinel for process in processes if process.exitcode is None], 0.2)
        took += told.get()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * writers
    seen = door.faults.seen
    door.faults = Faults()
    assert_whole(s3_uri, door.options, {f"w{number}": count for number in range(writers)})
    report(
        f"{writers} processes x {count} commits to a bucket, {sum(seen[fault] for fault in wrong)} puts gone wrong",
        writers * count,
        "0 lost, 0 twice, 0 given up, chain whole",
        percentiles(took),
    )


@pytest.mark.parametrize("appends", [15, pytest.param(200, marks=pytest.mark.long)])
def test_how_long_an_append_takes(door, s3_uri, appends, report):
    """Nothing goes wrong: what one append costs, on a server on this machine."""
    lake = Lake.create(s3_uri, door.options)
    took = []
    for sequence in range(appends):
        since = time.perf_counter()
        lake.append("evidence", rows("w", sequence), producer="w", sequence=sequence)
        took.append(time.perf_counter() - since)
    door.faults.log.clear()
    lake.append("evidence", rows("w", appends), producer="w", sequence=appends)
    requests = len(door.faults.log)
    assert_whole(s3_uri, door.options, {"w": appends + 1})
    report("appends to a bucket", appends, f"{requests} requests for the last one", percentiles(took))


@pytest.mark.parametrize("times", [5, pytest.param(100, marks=pytest.mark.long)])
def test_an_unsafe_store_is_refused_each_time(door, s3_uri, times, monkeypatch, report):
    """A store that ignores If-None-Match gets no lake, and no commit of one that is there; nothing of it changes."""
    lake = Lake.create(f"{s3_uri}/there", door.options)
    before = Bucket(s3_uri, door.options).tree()
    door.faults.strip = True
    for number in range(times):
        for write in (
            lambda number=number: Lake.create(f"{s3_uri}/{number}", door.options),
            lambda: lake.append("evidence", rows("w", 0), producer="w", sequence=0),
        ):
            # As in a process that has not written yet.
            monkeypatch.setattr(bucket._process, "proved", set())
            with pytest.raises(UnsafeStore):
                write()
    assert Bucket(s3_uri, door.options).tree() == before
    report("a store that ignores If-None-Match", 2 * times, "refused each time, nothing written")
