"""Vacuum: what it frees, what it never does, and what a pin at the same moment means."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from lake import Lake
from lake import released as heeded
from lake import vacuum as door
from lake.compact import compact
from lake.errors import Contended, Damaged, LakeError, UsageError
from lake.events import to_table
from lake.files import Entry, Folder
from lake.kinds import KINDS
from lake.log import Log
from lake.released import Vacuumed, announce, releases
from lake.vacuum import LEAST, plan, vacuum
from tests.lake.rows import evidence

NOW = timedelta(0)


def grown(lake: Lake, commits: int = 3, start: int = 0) -> Lake:
    """A lake with as many small files more."""
    for number in range(start, start + commits):
        lake.append("evidence", evidence(*(f"r{number}-{row}" for row in range(4))), producer="p", sequence=number)
    return lake


def compacted(lake: Lake, commits: int = 3, start: int = 0) -> Lake:
    """A lake whose evidence is one file, of which there were several."""
    list(compact(grown(lake, commits, start), ["evidence"]))
    return lake


def on_disk(lake: Lake) -> set[str]:
    return {path.name for path in Path(lake.uri, "tables", "evidence").glob("*.parquet")}


def files_of(lake: Lake, ref: str) -> set[str]:
    return {file.path for file in lake.snapshot(ref).tables["evidence"].files}


def freed(done) -> dict[str, int]:
    return {each.kind: each.files for each in done if each.files}


def sorted_rows(table: pa.Table) -> pa.Table:
    return table.sort_by("event_id").combine_chunks()


def rows_at(lake: Lake, *refs: str) -> dict[str, pa.Table]:
    return {ref: lake.snapshot(ref).read("evidence") for ref in refs}


def test_what_was_replaced_is_freed(lake):
    """Files that compaction replaced go, and nothing else; the newest state is as it was."""
    before = sorted_rows(compacted(lake).read("evidence"))
    old = files_of(lake, "evidence=3")
    size = sum(Path(lake.uri, "tables", "evidence", name).stat().st_size for name in old)
    [planned] = [each for each in plan(lake, NOW) if each.files]
    assert ({file.path for file in planned.free}, planned.size) == (old, size)
    assert old < on_disk(lake)
    assert freed(vacuum(lake, NOW, force=True)) == {"evidence": 3}
    assert on_disk(lake) == files_of(lake, "evidence=6")
    assert sorted_rows(lake.read("evidence")).equals(before)
    assert list(lake.verify(deep=True)) == []


def test_it_is_done_once(lake):
    """A second run frees nothing, and writes nothing."""
    vacuum(compacted(lake), NOW, force=True)
    before = lake.versions()
    assert freed(vacuum(lake, NOW, force=True)) == {}
    assert lake.versions() == before


def test_it_is_on_record(lake):
    """The chain says what was freed, and the receipt how many files and bytes of which table."""
    [planned] = [each for each in plan(compacted(lake), NOW) if each.files]
    vacuum(lake, NOW, force=True)
    assert [commit.operation for commit in lake.commits("evidence")][:2] == ["VACUUM END", "VACUUM START"]
    [receipt] = lake.read("receipts").to_pylist()
    assert (receipt["stage"], receipt["passed"]) == ("vacuum", True)
    told = {"files": 3, "bytes": planned.size}
    assert msgspec.json.decode(receipt["counts"]) == told
    assert msgspec.json.decode(receipt["outputs"]) == {"evidence": told}
    assert msgspec.json.decode(receipt["inputs"]) == {"keep_days": 0.0}
    assert sum(commit.rows for commit in lake.commits("evidence")) == lake.snapshot().rows("evidence")


def test_a_vacuumed_version_says_so(lake):
    """A version whose files are gone is refused with the day and what is whole; others open as before."""
    compacted(lake)
    moment = lake.logs["evidence"].commit(2).at.isoformat()
    vacuum(lake, NOW, force=True)
    for ref in ("evidence=1", "evidence=3", moment):
        for ask in (lake.snapshot, lake.pin):
            with pytest.raises(Vacuumed, match=rf"was vacuumed on {datetime.now(UTC):%Y-%m-%d}") as caught:
                ask(ref)
            assert "snapshots and newer versions are whole" in caught.value.hint
    assert lake.snapshots() == []
    for ref in ("evidence=0", "evidence=4", "evidence=6", "scores=0"):
        assert list(lake.snapshot(ref).verify()) == []


def test_snapshots_keep_their_files(lake):
    """Five snapshots read and are, byte for byte, what they were before three compactions and vacuums."""
    pins = {}
    for turn in range(3):
        for number in (1, 3):
            grown(lake, number, start=10 * turn + (0 if number == 1 else 4))
            pins[lake.pin().id] = lake.read("evidence")
        list(compact(lake))
        vacuum(lake, NOW, force=True)
    held = {name: Path(lake.uri, "tables", "evidence", name).read_bytes() for name in on_disk(lake)}
    assert len(pins) == 6
    for ref, rows in pins.items():
        assert sorted_rows(lake.snapshot(ref).read("evidence")).equals(sorted_rows(rows))
        assert list(lake.snapshot(ref).verify(deep=True)) == []
    needed = set().union(*(files_of(lake, ref) for ref in pins)) | files_of(lake, lake.snapshot().vector)
    assert held.keys() == needed
    assert sum(len(each.pinned) for each in plan(lake, NOW)) == len(needed - files_of(lake, lake.snapshot().vector))
    assert list(lake.verify(deep=True)) == []


def test_the_last_days_are_kept(lake):
    """A version that was the newest within the days that are kept stays, however long ago it was made."""
    compacted(lake)
    [planned] = [each for each in plan(lake, timedelta(days=30)) if each.recent]
    assert (planned.kind, len(planned.recent), planned.files) == ("evidence", 3, 0)
    assert freed(vacuum(lake)) == freed(vacuum(lake, LEAST)) == {}
    assert len(rows_at(lake, "evidence=3")["evidence=3"]) == 12


def test_less_than_a_week_takes_a_word(lake):
    """Freeing what may be in use is refused, unless somebody insists; a time to come is refused at all."""
    compacted(lake)
    for keep in (NOW, LEAST - timedelta(seconds=1)):
        with pytest.raises(UsageError, match="may be in use") as caught:
            vacuum(lake, keep)
        assert "--force" in caught.value.hint
    with pytest.raises(UsageError):
        vacuum(lake, timedelta(days=-1), force=True)
    assert len(on_disk(lake)) == 4


def test_named_versions_are_kept(lake):
    """A name pins what it names; a name that has moved on still keeps what it named."""
    compacted(lake)
    lake.name(lake.snapshot("evidence=2"), "mine")
    lake.name(lake.snapshot("evidence=4"), "mine")
    assert freed(vacuum(lake, NOW, force=True)) == {"evidence": 1}
    assert files_of(lake, "evidence=2") < on_disk(lake)


def test_in_a_bucket(s3, s3_uri):
    """On an object store the same files go and stay as in a folder."""
    lake = grown(Lake.create(s3_uri))
    pinned = lake.pin("evidence=2")
    before = sorted_rows(lake.read("evidence"))
    [done] = compact(lake)
    assert (done.files_before, done.files_after) == (3, 1)
    assert freed(vacuum(lake, NOW, force=True)) == {"evidence": 1}
    needed = {file.path for state in (pinned, lake.snapshot()) for file in state.tables["evidence"].files}
    assert {name for name in lake.store.names("tables/evidence") if name.endswith(".parquet")} == needed
    assert sorted_rows(lake.read("evidence")).equals(before)
    assert len(pinned.read("evidence")) == 8
    with pytest.raises(Vacuumed):
        lake.snapshot("evidence=3")
    assert list(lake.verify(deep=True)) == []


# it frees nothing while it does not see everything


def damage_manifest(lake: Lake, path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"rows":4', b'"rows":5'))


def truncate(lake: Lake, path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def foreign(lake: Lake, path: Path) -> None:
    (path.parent / "notes.txt").write_text("mine")


def forget(lake: Lake, path: Path) -> None:
    path.unlink()


def forget_all(lake: Lake, path: Path) -> None:
    shutil.rmtree(path.parent)


def edit_commit(lake: Lake, path: Path) -> None:
    commit = Path(lake.uri, "tables", "evidence", "_delta_log", f"{1:020d}.json")
    commit.write_bytes(commit.read_bytes().replace(b'"numRecords', b'"numrecords'))


def lose_pinned_file(lake: Lake, path: Path) -> None:
    [name] = files_of(lake, "evidence=1")
    Path(lake.uri, "tables", "evidence", name).unlink()


def shorten_pinned_file(lake: Lake, path: Path) -> None:
    [name] = files_of(lake, "evidence=1")
    Path(lake.uri, "tables", "evidence", name).write_bytes(b"")


BLIND = [damage_manifest, truncate, foreign, forget, forget_all, edit_commit, lose_pinned_file, shorten_pinned_file]


@pytest.mark.parametrize("what", BLIND)
def test_blind_it_frees_nothing(lake, what):
    """Whatever keeps vacuum from seeing what is needed, it refuses, and touches nothing."""
    compacted(lake)
    lake.name(lake.snapshot("evidence=1"), "mine")
    [path] = Path(lake.uri, "snapshots").iterdir()
    what(lake, path)
    held, versions = on_disk(lake), [*Path(lake.uri).rglob("*.json")]
    for ask in (lambda: plan(lake, NOW), lambda: vacuum(lake, NOW, force=True)):
        with pytest.raises(LakeError):
            ask()
    assert on_disk(lake) == held
    assert [*Path(lake.uri).rglob("*.json")] == versions


def test_a_listing_that_fails(lake):
    """Where the snapshots cannot be listed, nothing is freed."""
    compacted(lake)

    class Silent(Folder):
        def entries(self, folder):
            if folder == "snapshots":
                raise LakeError("permission denied")
            yield from super().entries(folder)

    with pytest.raises(LakeError, match="permission denied"):
        vacuum(Lake(Silent(lake.uri)), NOW, force=True)
    assert len(on_disk(lake)) == 4


def test_a_log_that_does_not_add_up(lake, monkeypatch):
    """Where the commits add up to other files than the table has, nothing is freed."""
    compacted(lake)

    class Forgetful(door.History):
        def follow(self, link):
            super().follow(link)
            self.live.clear()

    monkeypatch.setattr(door, "History", Forgetful)
    with pytest.raises(Damaged, match="add up to other files than it has"):
        plan(lake, NOW)


def test_a_manifest_that_is_taken_back_meanwhile(lake):
    """A manifest that was listed and is gone when it is read was one of a pin that failed, and is in nobody's way."""
    compacted(lake)
    lake.pin("evidence=1")

    class Late(Folder):
        def entries(self, folder):
            yield from super().entries(folder)
            if folder == "snapshots":
                yield Entry(f"{'0' * 32}.json", 1, 0.0)

    [planned] = [each for each in plan(Lake(Late(lake.uri)), NOW) if each.files]
    assert (len(planned.free), len(planned.pinned)) == (2, 1)


# a pin at the same moment


class Meanwhile(Folder):
    """A folder in which something happens once, just before or after the first write that is meant."""

    def __init__(self, uri, when, action, late=False):
        super().__init__(uri)
        self.when, self.action, self.late = when, action, late

    def write_new(self, name, data):
        action = self.action
        due = action is not None and self.when(name, bytes(data))
        if due:
            self.action = None
        if due and not self.late:
            action()
        done = super().write_new(name, data)
        if due and self.late:
            action()
        return done


def commits(word: str):
    """The writes that put such a commit there."""
    return lambda name, data: "_delta_log" in name and word.encode() in data


def manifest(name: str, data: bytes) -> bool:
    return name.startswith("snapshots/")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("word", ["VACUUM START", "VACUUM END"])
def test_pinning_while_a_vacuum_is_at_work(lake, word, after):
    """At each step of a vacuum a pin either succeeds and its files stay, or fails and leaves nothing behind."""
    compacted(lake)
    rows = lake.snapshot("evidence=2").read("evidence")
    outcome = []

    def pin():
        try:
            outcome.append(Lake.open(lake.uri).pin("evidence=2").id)
        except Vacuumed as error:
            outcome.append(error)

    done = vacuum(Lake(Meanwhile(lake.uri, commits(word), pin, after)), NOW, force=True)
    if isinstance(outcome[0], Vacuumed):
        assert (word, after) == ("VACUUM END", True)
        assert lake.snapshots() == []
        assert freed(done) == {"evidence": 3}
    else:
        assert freed(done) == {"evidence": 1}
        assert lake.snapshot(outcome[0]).read("evidence").equals(rows)
        # Whoever wants the same state, or more of it, now has it too.
        assert lake.pin("evidence=2").id == outcome[0]
        assert lake.pin("evidence=1").rows("evidence") == 4
    assert list(lake.verify(deep=True)) == []
    assert freed(vacuum(lake, NOW, force=True)) == {}


@pytest.mark.parametrize("after", [False, True])
def test_a_vacuum_while_somebody_pins(lake, after):
    """A vacuum just before a manifest is written makes the pin fail without a trace; just after, it keeps the files."""
    compacted(lake)
    there = Lake(Meanwhile(lake.uri, manifest, lambda: vacuum(lake, NOW, force=True), after))
    if after:
        pinned = there.pin("evidence=3")
        assert list(pinned.verify(deep=True)) == []
        assert len(on_disk(lake)) == 4
    else:
        with pytest.raises(Vacuumed):
            there.pin("evidence=3")
        assert lake.snapshots() == []
        assert len(on_disk(lake)) == 1
    assert list(lake.verify(deep=True)) == []


def test_two_vacuums_and_a_pin_between(lake):
    """What a pin has kept from one vacuum it keeps from another that had announced the same files."""
    compacted(lake)

    def second():
        there = Lake(Meanwhile(lake.uri, commits("VACUUM END"), lambda: pinned.append(lake.pin("evidence=3"))))
        vacuum(there, NOW, force=True)

    pinned = []
    assert freed(vacuum(Lake(Meanwhile(lake.uri, commits("VACUUM END"), second)), NOW, force=True)) == {}
    assert list(pinned[0].verify(deep=True)) == []
    assert list(lake.verify(deep=True)) == []


def test_two_vacuums_free_each_file_once(lake):
    """Of two vacuums at once the later one finds its work done."""
    compacted(lake)
    other = []
    there = Lake(Meanwhile(lake.uri, commits("VACUUM END"), lambda: other.append(vacuum(lake, NOW, force=True))))
    assert [freed(done) for done in (vacuum(there, NOW, force=True), other[0])] == [{}, {"evidence": 3}]
    assert len(lake.read("receipts")) == 1


def test_a_pin_was_killed_before_it_knew(lake):
    """A manifest of freed files that nobody was told of stands in no way, and the next vacuum takes it away."""
    compacted(lake)
    late = lake.snapshot("evidence=3")
    vacuum(lake, NOW, force=True)
    assert lake.store.write_new(f"snapshots/{late.id}.json", late.manifest)
    assert freed(plan(lake, NOW)) == {}
    vacuum(lake, NOW, force=True)
    assert lake.snapshots() == []
    lake.store.write_new(f"snapshots/{late.id}.json", late.manifest)
    lake.record("snapshots", {"snapshot_id": late.id, "name": "told"})
    with pytest.raises(Damaged, match="files that it needs were freed"):
        plan(lake, NOW)


def test_a_missing_file_is_not_pinned(lake):
    """An old version with a file that is gone, and was not freed, is damage, and no manifest is written of it."""
    compacted(lake)
    state = lake.snapshot("evidence=1")
    [name] = files_of(lake, "evidence=1")
    Path(lake.uri, "tables", "evidence", name).unlink()
    with pytest.raises(Damaged, match=f"{name}: this data file is gone"):
        lake.name(state, "mine")
    assert lake.snapshots() == []


# killed at any point


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", range(1, 9))
def test_killed_at_each_step(lake, at):
    """Ended before any of its writes and removals, a vacuum leaves all whole, and the next one frees the rest."""
    compacted(lake)
    kept = lake.pin("evidence=1")

    class Mortal(Folder):
        left = at

        def step(self):
            self.left -= 1
            if self.left == 0:
                raise Killed

        def write_new(self, name, data):
            self.step()
            return super().write_new(name, data)

        def remove(self, name):
            self.step()
            super().remove(name)

    try:
        vacuum(Lake(Mortal(lake.uri)), NOW, force=True)
        assert at > 6
    except Killed:
        assert at <= 6
    assert list(kept.verify(deep=True)) == []
    assert [str(found) for found in lake.verify(deep=True)] == []
    vacuum(lake, NOW, force=True)
    assert on_disk(lake) == files_of(lake, "evidence=1") | files_of(lake, "evidence=4")
    assert list(lake.verify(deep=True)) == []
    assert all(not each.files for each in plan(lake, NOW))


def test_patience_ends(lake, monkeypatch):
    """Whoever loses every race for the next version says so, and nothing is freed."""
    compacted(lake)
    log = lake.logs["evidence"]
    assert announce(log, log.head(), {"lake.releasing": sorted(files_of(lake, "evidence=2"))})
    monkeypatch.setattr(door, "PATIENCE", 0.0)
    with pytest.raises(Contended):
        vacuum(lake, NOW, force=True)
    monkeypatch.setattr(heeded, "PATIENCE", -1.0)
    monkeypatch.setattr(heeded, "announce", lambda *_: False)
    with pytest.raises(Contended):
        lake.pin("evidence=2")
    assert len(on_disk(lake)) == 4


def test_a_pin_loses_a_race_and_tries_again(lake):
    """A writer that is faster costs a pin one more attempt to keep its files."""
    compacted(lake)
    log = lake.logs["evidence"]
    assert announce(log, log.head(), {"lake.releasing": sorted(files_of(lake, "evidence=2"))})
    there = Lake(Meanwhile(lake.uri, commits("lake.keeping"), lambda: grown(lake, 1, start=50)))
    pinned = there.pin("evidence=2")
    assert releases(lake.store, log, log.head()).releasing == set()
    assert freed(vacuum(lake, NOW, force=True)) == {"evidence": 1}
    assert list(pinned.verify(deep=True)) == []


class Freed(Folder):
    """A store in which, just before a data file is looked into, all files are compacted and the old ones freed."""

    done = False

    def source(self, name: str) -> str:
        if not self.done:
            self.done = True
            other = Lake.open(self.uri)
            assert list(compact(other, ["evidence"]))
            vacuum(other, timedelta(0), force=True)
        return super().source(name)


def test_an_append_goes_on_where_files_are_freed_under_it(tmp_path):
    """An append that wanted to look into files which compaction replaced and vacuum freed looks into the new ones."""
    lake = Lake.create(str(tmp_path / "lake"))
    for number in range(4):
        lake.append("evidence", evidence(f"r{number}"), producer="p", sequence=number)
    log = Log(Freed(lake.uri), KINDS["evidence"])
    done = log.append(to_table(KINDS["evidence"], evidence("r1", "new")), "q", 1, None)
    assert (done.offered, done.added) == (2, 1)
    assert sorted(lake.read("evidence")["run_id"].to_pylist()) == ["new", "r0", "r1", "r2", "r3"]
    assert list(lake.verify(deep=True)) == []
