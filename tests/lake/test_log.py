"""The log: every acknowledged event once, in a chain of commits, whoever sends it, is killed, or tampers with it."""

import datetime as dt
import json
import os
import signal
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from lake.commits import commit_name
from lake.errors import Contended, Damaged, LakeError, NotALake, SequenceTaken, SequenceTooLow
from lake.files import Folder
from lake.log import PROPERTIES, Appended, Log
from lake.verify import verify_log
from tests.lake.rows import evidence, much_evidence
from tests.lake.writers import (
    KIND,
    SAME,
    WORKERS,
    append_all,
    append_own,
    append_same,
    append_until_killed,
    create_at_once,
    in_processes,
    opened,
    send,
)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    log = Log(Folder(str(tmp_path / "lake")), KIND)
    log.create()
    return log


def root_of(log: Log) -> str:
    return log._store.uri


def folder(log: Log) -> Path:
    return Path(root_of(log)) / "tables" / "evidence"


def commit_path(log: Log, version: int) -> Path:
    return Path(root_of(log)) / commit_name(KIND, version)


def problems(log: Log) -> list[str]:
    return [str(finding) for finding in verify_log(log._store, log)]


def runs(log: Log) -> list[str]:
    """The run ids of all events, as they are stored."""
    names = [folder(log) / file.path for file in log.head().files]
    return [run for name in names for run in pq.read_table(name, columns=["run_id"])["run_id"].to_pylist()]


# a commit


def test_a_batch_lands_on_the_next_version(log):
    """Each batch is one commit, on exactly the version after the last, with what it holds and who sent it."""
    assert send(log, evidence("a", "b"), "p", 1, {"offset": 7}) == Appended(offered=2, added=2, version=1)
    assert send(log, evidence("c"), "q", 1) == Appended(offered=1, added=1, version=2)
    assert [(commit.version, commit.producer, commit.sequence, commit.rows) for commit in log.commits()] == [
        (2, "q", 1, 1),
        (1, "p", 1, 2),
        (0, None, None, 0),
    ]
    assert log.commit(0).operation == "CREATE TABLE"
    assert sorted(runs(log)) == ["a", "b", "c"]
    assert problems(log) == []


def test_a_position_moves_with_its_data(log):
    """A producer's sequence and note are those of its last commit, whatever others have committed since."""
    assert log.head().position("p") is None
    send(log, evidence("a"), "p", 3, {"offset": 7, "more": ["é", None]})
    for number in range(30):
        send(log, evidence(f"q{number}"), "q", number)
    position = log.head().position("p")
    assert (position.sequence, position.note, position.version) == (3, {"offset": 7, "more": ["é", None]}, 1)
    assert log.head().position("q").sequence == 29


def test_files_are_named_by_their_bytes(log):
    """Each data file's name, size, rows and range of ids in the log are those of the file."""
    send(log, evidence("a", "b", "c", recorded_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC)))
    for number in range(25):
        send(log, evidence(f"a{number}"), "q", number)
    files = log.head().files
    assert len(files) == 26
    for file in files:
        name = f"tables/evidence/{file.path}"
        ids = pq.read_table(folder(log) / file.path, page_checksum_verification=True)["event_id"].to_pylist()
        assert (log._store.size(name), log._store.sha256(name)) == (file.size, file.sha256)
        assert (len(ids), min(ids), max(ids)) == (file.rows, file.first_id, file.last_id)


def test_every_change_of_a_page_is_seen(log):
    """Pages carry checksums: a bit that flips in the data is an error at reading, not another value."""
    send(log, much_evidence(0, 2000))
    path = folder(log) / log.head().files[0].path
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match=r"(?i)crc checksum"):
        pq.read_table(path, page_checksum_verification=True)


def test_an_event_told_twice_is_stored_once(log):
    """In one batch, in the next one, from another producer: what is there already is not stored again."""
    assert send(log, evidence("a", "b", "a", "a")) == Appended(4, 2, 1)
    assert send(log, evidence("b", "c"), "p", 2) == Appended(2, 1, 2)
    assert send(log, evidence("c", "a"), "q", 1) == Appended(2, 0, 3)
    assert sorted(runs(log)) == ["a", "b", "c"]
    assert len(log.head().files) == 2


def test_the_first_of_equal_events_stays_in_order(log):
    """Events keep the order in which they were sent, each where it came first."""
    send(log, evidence("c", "a", "c", "b", "a"))
    assert runs(log) == ["c", "a", "b"]


def test_an_empty_batch_still_moves_the_position(log):
    """A batch without events is a commit too: the producer has come so far."""
    assert send(log, [], "p", 5, {"end": True}) == Appended(0, 0, 1)
    assert log.head().position("p").sequence == 5
    assert log.head().files == []


def test_a_large_batch_is_several_files_in_one_commit(log, monkeypatch):
    """What is too large for one file is written as several, added by a single commit."""
    monkeypatch.setattr("lake.log.FILE_BYTES", 20_000)
    assert send(log, much_evidence(0, 3000)) == Appended(3000, 3000, 1)
    assert len(log.head().files) > 5
    assert sorted(map(int, runs(log))) == list(range(3000))
    assert problems(log) == []


# again


def test_a_batch_sent_again_is_recognised(log):
    """The same producer and sequence again stores nothing and says so, from this process or a new one."""
    send(log, evidence("a"))
    for again in (log, opened(root_of(log))):
        assert send(again, evidence("a")) == Appended(1, 0, None, repeated=True)
    assert log.head().version == 1


def test_other_events_under_the_same_sequence_are_refused(log):
    """A sequence names one batch: with other events under it nothing is stored, and the caller learns so."""
    send(log, evidence("a", "b"))
    for rows in (evidence("a"), evidence("b", "a"), evidence("a", "c"), []):
        with pytest.raises(SequenceTaken, match="p sent other events as sequence 1 before"):
            send(opened(root_of(log)), rows)
    assert send(log, evidence("a", "b")).repeated
    assert sorted(runs(log)) == ["a", "b"]


def test_a_lower_sequence_is_refused(log):
    """A sequence that a producer has passed is refused, and its position does not fall."""
    send(log, evidence("a"), "p", 7)
    with pytest.raises(SequenceTooLow, match="p sent sequence 6 after 7"):
        send(log, evidence("b"), "p", 6)
    assert send(log, evidence("b"), "q", 1).added == 1
    assert log.head().position("p").sequence == 7


def test_a_day_sent_again_adds_nothing(log):
    """All batches of a day, again under the same sequences and under others: no row, no file."""
    for number in range(12):
        send(log, evidence(f"a{number}", f"b{number}"), "day", number)
    before = log.head().files
    assert all(send(log, evidence(f"a{n}", f"b{n}"), "again", n).added == 0 for n in range(12))
    with pytest.raises(SequenceTooLow):
        send(log, evidence("a0", "b0"), "day", 0)
    assert send(log, evidence("a11", "b11"), "day", 11).repeated
    assert sorted(log.head().files, key=str) == sorted(before, key=str)


class Forgetful(Folder):
    """A store whose n-th call of a method fails after it was done: the answer is lost."""

    def __init__(self, uri: str, method: str, number: int) -> None:
        super().__init__(uri)
        self.method, self.number = method, number

    def _after(self, method: str) -> None:
        if method == self.method:
            self.number -= 1
            if self.number == 0:
                raise LakeError("the answer was lost")

    def sync(self, name: str) -> None:
        super().sync(name)
        self._after("sync")

    def write_new(self, name: str, data: bytes | memoryview) -> bool:
        new = super().write_new(name, data)
        self._after("write_new")
        return new

    def read(self, name: str) -> bytes:
        data = super().read(name)
        self._after("read")
        return data


@pytest.mark.parametrize("method", ["sync", "write_new", "read"])
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_lost_answer_makes_no_second_event(log, method, number):
    """Whichever call of the store fails after it was done, the batch is there once when it has been sent again."""
    send(log, evidence("z"))
    unlucky = Log(Forgetful(root_of(log), method, number), KIND)
    try:
        done = send(unlucky, evidence("a", "b"), "p", 2)
    except LakeError:
        done = None
    if done is not None:
        assert (done.offered, done.added, done.version, done.repeated) == (2, 2, 2, False)
    again = send(log, evidence("a", "b"), "p", 2)
    assert again.repeated or done is None
    assert sorted(runs(log)) == ["a", "b", "z"]
    assert log.head().version == 2
    assert problems(log) == []


class Intruded(Forgetful):
    """A store that loses an answer while another producer commits on top."""

    def _after(self, method: str) -> None:
        try:
            super()._after(method)
        except LakeError:
            send(opened(self.uri), evidence("third"), "other", 1)
            raise


def test_a_lost_answer_is_found_under_later_commits(log):
    """Our commit landed, its answer was lost, and others have committed since: we still learn that it is ours."""
    store = Intruded(root_of(log), "write_new", 2)
    assert send(Log(store, KIND), evidence("a")) == Appended(1, 1, 1)
    assert [commit.producer for commit in log.commits()] == ["other", "p", None]
    assert sorted(runs(log)) == ["a", "third"]


class Full(Folder):
    """A store with no room for a commit."""

    def write_new(self, name: str, data: bytes | memoryview) -> bool:
        if "_delta_log" in name:
            raise LakeError("no room")
        return super().write_new(name, data)


def test_what_keeps_failing_is_an_error(log):
    """A commit that cannot be made ends in the error, soon, and nothing of the batch counts."""
    unlucky = Log(Full(root_of(log)), KIND)
    with pytest.raises(LakeError, match="evidence: cannot commit: no room"):
        send(unlucky, evidence("a"))
    assert log.head().version == 0
    assert send(log, evidence("a")).added == 1


# races


def test_a_stale_head_commits_nothing(log):
    """Two that saw the same version: the second one's commit fails whole, whatever it holds."""
    head = log.head()
    other = log.head()
    assert log.commit_after(head, {"lake.rows": 0}, transactions={"a": 1})
    assert not log.commit_after(other, {"lake.rows": 0}, transactions={"b": 1})
    assert log.head().version == 1
    assert DeltaTable(str(folder(log))).transaction_version("b") is None


class Overtaken(Folder):
    """A store in which another producer commits while a batch's file is being written."""

    rounds = 0

    def write_new(self, name: str, data: bytes | memoryview) -> bool:
        self.rounds += 1
        if self.rounds < 4:
            send(opened(self.uri), evidence(f"ours{self.rounds}", f"theirs{self.rounds}"), "other", self.rounds)
        return super().write_new(name, data)


def test_who_is_overtaken_looks_again(log):
    """When another's commit wins the version, and holds one of our events, only the rest of ours is stored."""
    done = send(Log(Overtaken(root_of(log)), KIND), evidence("ours1", "ours2", "ours3", "ours4"))
    assert done == Appended(offered=4, added=1, version=4)
    assert sorted(runs(log)) == ["ours1", "ours2", "ours3", "ours4", "theirs1", "theirs2", "theirs3"]
    assert problems(log) == []


class Hopeless(Folder):
    """A store in which another producer commits each time that somebody looks at what is to be followed."""

    def read(self, name: str) -> bytes:
        data = super().read(name)
        other = opened(self.uri)
        send(other, [], "other", other.head().version)
        return data


def test_patience_ends(log, monkeypatch):
    """An append that loses every race gives up with an error that says so."""
    monkeypatch.setattr("lake.log.PATIENCE", 0.3)
    with pytest.raises(Contended, match="no commit within"):
        send(Log(Hopeless(root_of(log)), KIND), evidence("ours"))
    assert "ours" not in runs(log)


def test_many_writers_all_get_their_events_in(log):
    """Of processes that append at once, every event is there once and the chain holds."""
    names, count = ("a", "b", "c", "d"), 12
    assert in_processes(append_own, *((root_of(log), name, count) for name in names)) == [0] * 4
    wanted = [f"{name}-{number}" for name in (*names, "shared") for number in range(count)]
    assert sorted(runs(log)) == sorted(wanted)
    assert log.head().version == len(names) * count
    assert problems(log) == []


def test_one_batch_from_many_processes_is_one_commit(log):
    """The same producer and sequence sent by four processes at once is committed once, each round."""
    assert in_processes(append_same, *[(root_of(log),)] * 4) == [0] * 4
    assert log.head().version == 15
    assert sorted(runs(log)) == sorted(f"r{number}" for number in range(15))


def test_a_table_created_by_many_is_one_table(tmp_path):
    """Processes that create a table at once share it: one metaData action, one id, all may append."""
    root = str(tmp_path / "lake")
    assert in_processes(create_at_once, *((root, str(number)) for number in range(6))) == [0] * 6
    log = opened(root)
    actions = [line for v in range(7) for line in commit_path(log, v).read_text().splitlines() if '"metaData"' in line]
    assert len(actions) == 1
    assert sorted(runs(log)) == list("012345")
    assert problems(log) == []


def test_two_writers_of_the_same_events_one_of_them_killed(log):
    """Both send the same 100 000 events, one is killed midway and started again: 100 000 events."""
    root = root_of(log)
    barrier = WORKERS.Barrier(2)
    steady, unlucky = (WORKERS.Process(target=append_all, args=(barrier, root, name)) for name in ("steady", "unlucky"))
    steady.start()
    unlucky.start()
    deadline = time.monotonic() + 60
    while (found := log.head().position("unlucky")) is None or found.sequence < 5:
        assert time.monotonic() < deadline
        assert unlucky.is_alive()
        time.sleep(0.005)
    os.kill(unlucky.pid, signal.SIGKILL)
    unlucky.join()
    assert unlucky.exitcode == -signal.SIGKILL
    assert log.head().position("unlucky").note["next"] < SAME
    again = WORKERS.Process(target=append_all, args=(None, root, "unlucky"))
    again.start()
    for worker in (steady, again):
        worker.join(60)
        assert worker.exitcode == 0
    assert sorted(map(int, runs(log))) == list(range(SAME))
    assert log.head().position("unlucky").note == log.head().position("steady").note == {"next": SAME}
    assert problems(log) == []


def test_kills_lose_no_acknowledged_batch_and_halve_none(log):
    """A writer is killed again and again at any moment, and goes on where the log says: every batch whole, once."""
    for number in range(8):
        position = log.head().position("victim")
        victim = WORKERS.Process(
            target=append_until_killed, args=(root_of(log), position.sequence + 1 if position else 0)
        )
        victim.start()
        before = log.head().version
        while log.head().version < before + 3:
            time.sleep(0.002)
        time.sleep(0.003 * number)
        os.kill(victim.pid, signal.SIGKILL)
        victim.join()
    last = log.head().position("victim").sequence
    assert sorted(runs(log)) == sorted(f"{n}-{i}" for n in range(last + 1) for i in range(n % 7 + 1))
    assert log.head().version == last + 1
    assert problems(log) == []


# properties


def test_the_properties_are_what_keeps_old_versions(log):
    """The table has each property as it must be."""
    assert PROPERTIES.items() <= DeltaTable(str(folder(log))).metadata().configuration.items()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("delta.appendOnly", "false"),
        ("delta.enableExpiredLogCleanup", "true"),
        ("delta.logRetentionDuration", "interval 30 days"),
        ("delta.deletedFileRetentionDuration", "interval 1 weeks"),
        ("delta.checkpointInterval", "100"),
        ("delta.dataSkippingStatsColumns", "run_id"),
    ],
)
def test_a_changed_property_is_refused(log, name, value):
    """A table whose property another program has changed is neither read nor written, and verify names it."""
    send(log, evidence("a"))
    DeltaTable(str(folder(log))).alter.set_table_properties({name: value})
    with pytest.raises(Damaged, match=name):
        log.head()
    with pytest.raises(Damaged, match=name):
        send(log, evidence("b"), "p", 2)
    assert any(name in problem for problem in problems(log))
    assert name in PROPERTIES


def test_old_versions_outlive_checkpoints_and_years(log):
    """After many commits and with all logs ten years old, every version still opens with its own rows."""
    for number in range(45):
        send(log, evidence(str(number)), "p", number)
    long_ago = time.time() - 4000 * 86_400
    for path in (folder(log) / "_delta_log").iterdir():
        os.utime(path, (long_ago, long_ago))
    for number in range(45, 65):
        send(log, evidence(str(number)), "p", number)
    assert [len(log.head(version).files) for version in range(66)] == list(range(66))


def test_a_table_that_is_not_there_is_told(tmp_path):
    """Without a table there is an error with a hint, not a new one."""
    with pytest.raises(NotALake, match="no table of evidence"):
        opened(str(tmp_path)).head()
    assert list(tmp_path.iterdir()) == []


# time


def test_a_time_means_the_log_s_own_order(log, monkeypatch):
    """Whatever the clock does between commits, their times rise, and a moment means the versions up to it."""
    day = 86_400_000_000
    start = log.commit(0).at
    clock = int(start.timestamp() * 1e6) + day
    for number, jump in enumerate((0, 30 * day, -60 * day, -60 * day, 0, day)):
        clock += jump
        now = clock
        monkeypatch.setattr("lake.log.now", lambda now=now: now)
        send(log, evidence(str(number)), "p", number)
    times = [commit.at for commit in log.commits(newest_first=False)]
    assert times == sorted(set(times))
    for version, at in enumerate(times):
        assert log.version_at(at) == version
        assert log.version_at(at - dt.timedelta(microseconds=1)) == (version - 1 if version else None)
    assert log.version_at(times[-1] + dt.timedelta(days=1000)) == 6


# tampering


@pytest.fixture
def told(log: Log) -> Log:
    """A log of seven commits."""
    for number in range(6):
        send(log, evidence(f"a{number}", f"b{number}"), "p", number)
    return log


def test_a_rollback_shows(told):
    """A last commit that was taken away and made again by others is not the version that was pinned."""
    pin = told.head().pin()
    assert told.holds(pin)
    commit_path(told, 6).unlink()
    assert not told.holds(pin)
    send(told, evidence("other"), "q", 1)
    assert told.head().version == pin.version
    assert not told.holds(pin)


def test_an_edited_commit_shows(told):
    """A commit that was edited no longer has the bytes that it was sealed with, and is named alone."""
    path = commit_path(told, 3)
    path.write_text(path.read_text().replace('"lake.sequence":2', '"lake.sequence":1'))
    assert problems(told) == [f"{commit_name(KIND, 3)}: its bytes are not those that were written"]


def test_a_missing_commit_shows(told):
    """A commit that is gone is named."""
    commit_path(told, 3).unlink()
    assert f"{commit_name(KIND, 3)}: missing" in problems(told)
    with pytest.raises(Damaged, match="this commit is missing"):
        told.commit(3)


@pytest.mark.parametrize(("what", "other"), [(b'{"add":', b'{"ade":'), (b'"lake.rows":2', b'"lake.rows":3')])
def test_a_changed_commit_is_not_read(told, what, other):
    """A bit that flips in a commit since the last checkpoint keeps the table from being read, pinned or added to."""
    path = commit_path(told, 3)
    path.write_bytes(path.read_bytes().replace(what, other, 1))
    for attempt in (lambda log: log.head().files, lambda log: send(log, evidence("new"), "q", 1)):
        with pytest.raises(Damaged, match="its bytes are not those that were written"):
            attempt(opened(root_of(told)))


def test_a_commit_that_was_replaced_is_not_read(told):
    """A commit that is whole, and not the one that the next one names, keeps the table from being read."""
    commit_path(told, 3).write_bytes(commit_path(told, 2).read_bytes())
    with pytest.raises(Damaged, match="does not follow version"):
        opened(root_of(told)).head()


@pytest.mark.parametrize("place", [b"add", b"txn", b"lake.commit", b"lake.seal", b"PAR1"])
def test_a_checkpoint_counts_while_it_is_whole(log, place):
    """A bit that flips in a checkpoint, in its footer too, changes nothing: the commits say the same."""
    for number in range(22):
        send(log, evidence(f"a{number}"), "p", number)
    path = folder(log) / "_delta_log" / f"{20:020d}.checkpoint.parquet"
    data = bytearray(path.read_bytes())
    data[data.rindex(place)] ^= 1
    path.write_bytes(data)
    again = opened(root_of(log))
    assert len(again.head().files) == 22
    assert again.head().position("p").sequence == 21
    for number in range(22, 45):
        send(again, evidence(f"a{number}"), "p", number)
    path.unlink()
    assert len(opened(root_of(log)).head().files) == 45
    assert len(set(runs(log))) == len(runs(log)) == 45


def test_a_checkpoint_of_a_commit_that_is_gone_does_not_count(log):
    """After a rollback the checkpoint that was made of another commit is not taken for that of the new one."""
    for number in range(20):
        send(log, evidence(f"a{number}"), "p", number)
    kept = {path: path.read_bytes() for path in (folder(log) / "_delta_log").glob("*checkpoint*")}
    commit_path(log, 20).unlink()
    assert send(opened(root_of(log)), evidence("other"), "q", 7).version == 20
    for path, data in kept.items():
        path.write_bytes(data)
    again = opened(root_of(log))
    assert sorted(runs(again)) == sorted(["other", *(f"a{number}" for number in range(19))])
    assert send(again, evidence("other"), "q", 7).repeated


def test_an_append_needs_no_room_outside_the_lake(log, monkeypatch, tmp_path):
    """Where no temporary file can be made, appends and their checkpoints go on, and a new lake cannot be made."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    for number in range(21):
        assert send(log, evidence(f"a{number}"), "p", number).added == 1
    assert len(list((folder(log) / "_delta_log").glob("*.checkpoint.parquet"))) == 1
    with pytest.raises(LakeError, match="cannot be created") as refused:
        opened(str(tmp_path / "other")).create()
    assert "TMPDIR" in refused.value.hint


@pytest.mark.parametrize("lost", [1, 2, 5])
def test_who_remembers_sees_a_gap_too(told, lost):
    """Who has the log open while commits that it has not seen are lost, and later ones are there, is told."""
    other = opened(root_of(told))
    for number in range(lost + 1):
        send(other, evidence(f"b{number}"), "q", number)
    for version in range(7, 7 + lost):
        commit_path(told, version).unlink()
    with pytest.raises(Damaged, match="this commit is missing"):
        told.head()
    with pytest.raises(Damaged, match="this commit is missing"):
        send(told, evidence("lost"), "r", 1)


def test_a_log_that_was_exchanged_under_a_writer_is_looked_at_again(told):
    """A head whose commit is another one by now is not built upon."""
    head = told.head()
    path = commit_path(told, 6)
    path.unlink()
    send(opened(root_of(told)), evidence("other"), "q", 1)
    assert not told.commit_after(head, {"lake.rows": 0})
    assert send(told, evidence("new"), "r", 1).version == 7


def test_a_gap_is_not_filled(told):
    """Who has the log open while its middle is lost does not commit into the gap."""
    send(told, evidence("one more"), "q", 1)
    other = opened(root_of(told))
    for number in range(2, 4):
        send(other, evidence(str(number)), "q", number)
    commit_path(told, 8).unlink()
    with pytest.raises(Damaged, match="this commit is missing"):
        send(told, evidence("lost"), "r", 1)
    assert not commit_path(told, 8).exists()


@pytest.mark.parametrize("damage", [b"", b"\0" * 500, b'{"commitInfo":{"timest', b"[]\n", b"1\n", b'{"add":{}}\n'])
def test_a_torn_last_commit_shows(told, damage):
    """What a power failure leaves of a commit is named, and neither pinned nor built upon."""
    commit_path(told, 6).write_bytes(damage)
    assert commit_name(KIND, 6) in "\n".join(problems(told))
    with pytest.raises(Damaged):
        told.head().pin()
    with pytest.raises(LakeError):
        send(told, evidence("more"), "q", 1)
    assert not commit_path(told, 7).exists()


def test_a_commit_cut_between_its_lines_shows(told):
    """A commit of which only the first lines are left is shorter than its seal says."""
    path = commit_path(told, 6)
    path.write_text("".join(line for line in path.read_text().splitlines(True) if '"add"' not in line))
    assert [problem.split(": ")[0] for problem in problems(told)] == [commit_name(KIND, 6)]


def test_a_foreign_commit_shows(told):
    """A commit by another program is named, though Delta itself finds nothing wrong with it."""
    table = DeltaTable(str(folder(told)))
    table.create_write_transaction([], "append", table.schema())
    assert problems(told) == [f"{commit_name(KIND, 7)}: not written by the lake"]


def test_a_restore_shows(told):
    """A table that another program set back to an earlier version is named, append-only or not."""
    DeltaTable(str(folder(told))).restore(2)
    assert f"{commit_name(KIND, 7)}: not written by the lake" in problems(told)


def test_a_foreign_file_is_not_opened(told):
    """A file that the lake did not write and name, wherever it points, keeps the table from being read."""
    path = commit_path(told, 6)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    # Another program seals nothing.
    del lines[0]["commitInfo"]["lake.seal"]
    for foreign in ("../../../secret.parquet", "/etc/passwd", "part-0.parquet", "file:///etc/passwd"):
        for line in lines:
            if "add" in line:
                line["add"]["path"] = foreign
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        with pytest.raises(Damaged, match="a file that the lake did not write"):
            _ = told.head().files
        assert any(problem.startswith(commit_name(KIND, 6)) for problem in problems(told))


def test_what_an_attempt_left_is_not_counted_on(log):
    """A data file left by an attempt that failed is not used again: somebody may be about to tidy it away."""
    broken = Log(Forgetful(root_of(log), "write_new", 1), KIND)
    with pytest.raises(LakeError, match="the answer was lost"):
        send(broken, evidence("a"))
    (left,) = folder(log).glob("*.parquet")
    assert send(log, evidence("a")) == Appended(1, 1, 1)
    (stored,) = log.head().files
    assert stored.path != left.name
    assert stored.sha256 == left.name[:64]
    assert runs(log) == ["a"]


class Tidied(Folder):
    """A store in which somebody releases, and removes, what no commit names just before the first commit."""

    tidied = False

    def write_new(self, name: str, data: bytes | memoryview) -> bool:
        if "_delta_log" in name and not self.tidied:
            self.tidied = True
            other = opened(self.uri)
            head = other.head()
            used = {file.path for file in head.files}
            left = [path.name for path in folder(other).glob("*.parquet") if path.name not in used]
            assert other.commit_after(head, {"lake.rows": 0, "lake.released": left})
            for each in left:
                self.remove(f"{other.folder}/{each}")
        return super().write_new(name, data)


def test_a_writer_whose_files_were_tidied_away_writes_them_again(log):
    """Files that were given up while their writer slept are not committed: it sees so and writes them again."""
    send(log, evidence("z"))
    assert send(Log(Tidied(root_of(log)), KIND), evidence("a", "b"), "q", 1) == Appended(2, 2, 3)
    assert sorted(runs(log)) == ["a", "b", "z"]
    assert problems(log) == []
