"""The door: creating, opening, appending, recording, keeping, verifying."""

import datetime as dt
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

import lake as door
from lake import Lake
from lake.errors import Damaged, InvalidRows, LakeError, NotALake, UnknownRef, UsageError
from lake.findings import Code
from lake.kinds import KINDS
from tests.lake.rows import evidence, much_evidence
from tests.lake.writers import create_one, in_processes, record_some

ROOT = Path(__file__).parents[2]


def whole(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, and its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def in_child(program: str, *arguments: str) -> str:
    """What a program prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# create, open


def test_a_new_lake_has_every_table(tmp_path):
    """A lake is created with a table for each kind, all empty, and opens from its URI."""
    lake = Lake.create(str(tmp_path / "a" / "b"))
    assert lake.versions() == dict.fromkeys(KINDS, 0)
    for uri in (lake.uri, f"file://{lake.uri}"):
        assert Lake.open(uri).versions() == lake.versions()
    assert {kind: len(lake.read(kind)) for kind in KINDS} == dict.fromkeys(KINDS, 0)
    assert repr(lake) == f"<Lake {lake.uri}>"
    assert list(lake.verify(deep=True)) == []


def test_a_lake_is_not_created_twice(lake):
    """Creating where a lake is fails and changes nothing, unless an existing one is welcome."""
    lake.append("evidence", evidence("a"), producer="p", sequence=1)
    before = whole(Path(lake.uri))
    with pytest.raises(LakeError, match="there is a lake here already"):
        Lake.create(lake.uri)
    assert len(Lake.create(lake.uri, exist_ok=True).read("evidence")) == 1
    assert whole(Path(lake.uri)) == before


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    """A lake is not put among files that are something else, not even if an existing one is welcome."""
    (tmp_path / "notes.txt").write_text("mine")
    for exist_ok in (False, True):
        with pytest.raises(LakeError, match="not empty and not a lake"):
            Lake.create(str(tmp_path), exist_ok=exist_ok)
    assert whole(tmp_path) == {"notes.txt": b"mine"}


def test_where_no_lake_is_there_is_none(tmp_path):
    """Opening a folder, a file, or nothing at all says that there is no lake, and makes none."""
    (tmp_path / "file").write_text("x")
    for name in ("", "missing", "file", "file/below"):
        with pytest.raises(NotALake, match="there is no lake here") as caught:
            Lake.open(str(tmp_path / name))
        assert "lake init" in caught.value.hint
    assert whole(tmp_path) == {"file": b"x"}


def test_a_lake_cannot_be_put_below_a_file(tmp_path):
    """A path that leads through a file is an error, not a traceback."""
    (tmp_path / "file").write_text("x")
    for name in ("file", "file/below"):
        with pytest.raises(LakeError):
            Lake.create(str(tmp_path / name))


def test_tables_that_cannot_be_made_are_an_error(tmp_path):
    """A lake whose tables have no place ends in an error, at creation and at each opening."""
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "lake.json").write_text('{"format":1,"id":"x","created_at":"2026-01-01T00:00:00+00:00"}')
    (tmp_path / "lake" / "tables").write_text("in the way")
    for use in (lambda: Lake.create(str(tmp_path / "lake"), exist_ok=True), lambda: Lake.open(str(tmp_path / "lake"))):
        with pytest.raises(LakeError, match="tables/evidence: cannot be created"):
            use()


def test_a_newer_format_is_told(lake):
    """A lake of a later format, whatever else its marker says, is not opened and the hint is to upgrade."""
    marker = Path(lake.uri, "lake.json")
    told = json.loads(marker.read_text())
    marker.write_text(json.dumps({**told, "format": 2, "more": True}))
    with pytest.raises(NotALake, match="has format 2, and this version reads 1"):
        Lake.open(lake.uri)
    with pytest.raises(NotALake, match="has format 2"):
        Lake.create(lake.uri, exist_ok=True)


@pytest.mark.parametrize("marker", [b"", b"{", b"[]", b'{"format":"1"}', b"\xff\x00"])
def test_a_broken_marker_is_told(lake, marker):
    """A marker that cannot be read is damage, not another lake."""
    Path(lake.uri, "lake.json").write_bytes(marker)
    with pytest.raises(Damaged, match=r"lake\.json"):
        Lake.open(lake.uri)


def test_a_creation_that_was_cut_short_is_finished(tmp_path):
    """A lake of which only the marker was written gets its tables when it is opened."""
    lake = Lake.create(str(tmp_path / "whole"))
    cut = tmp_path / "cut"
    cut.mkdir()
    (cut / "lake.json").write_bytes(Path(lake.uri, "lake.json").read_bytes())
    assert Lake.open(str(cut)).append("evidence", evidence("a"), producer="p", sequence=1).added == 1


def test_a_lake_created_by_many_is_one_lake(tmp_path):
    """Six processes that create a lake at once share it, each table with one metaData action."""
    root = tmp_path / "lake"
    assert in_processes(create_one, *((str(root), str(number)) for number in range(6))) == [0] * 6
    for kind in KINDS:
        log = "".join(path.read_text() for path in (root / "tables" / kind / "_delta_log").glob("*.json"))
        assert log.count('"metaData"') == 1
    lake = Lake.open(str(root))
    assert sorted(lake.read("evidence")["run_id"].to_pylist()) == list("012345")
    assert sorted(lake.read("scores")["run_id"].to_pylist()) == list("012345")
    assert list(lake.verify()) == []


def test_a_lake_travels_between_processes(lake):
    """A lake pickles to an opening of itself."""
    assert pickle.loads(pickle.dumps(lake)).uri == lake.uri


def test_the_door_is_what_it_says():
    """The names at the door are sorted, exist, and are all that other floors need."""
    assert all(hasattr(door, name) for name in door.__all__)
    assert {"Lake", "LakeError", "Snapshot"} <= set(door.__all__)


# append, read


def test_appended_events_read_back(lake):
    """What was appended is read back column for column, with its envelope, from every kind of table."""
    place = {"file": "f", "line": 3, "sha256": "0" * 64}
    at = dt.datetime(2026, 11, 21, 6, tzinfo=dt.UTC)
    row = {**evidence("a", source=place, recorded_at=at, source_files=["x"])[0], "extra": '{"k": 1}'}
    done = lake.append("evidence", [row], producer="p", sequence=4)
    (kept,) = lake.read("evidence").to_pylist()
    assert (done.offered, done.added, done.version) == (1, 1, 1)
    assert {name: kept[name] for name in row} == row
    assert (kept["schema_version"], kept["batch"], kept["model"]) == (1, "p@4", None)
    assert kept["event_id"].startswith(f"{int(at.timestamp() * 1e6):014x}-")


@pytest.mark.parametrize("form", [list, pa.Table, pa.RecordBatch])
def test_rows_come_in_three_forms(lake, form):
    """Dictionaries, a table and a record batch of the same rows are the same events."""
    rows = evidence("a", "b")
    given = rows if form is list else form.from_pylist(rows)
    lake.append("evidence", given, producer="p", sequence=1)
    assert lake.append("evidence", rows, producer="q", sequence=1).added == 0
    assert sorted(lake.read("evidence")["run_id"].to_pylist()) == ["a", "b"]


def test_invalid_rows_store_nothing(lake):
    """One bad row refuses the batch: nothing of it is stored and no position moves."""
    before = whole(Path(lake.uri))
    with pytest.raises(InvalidRows, match="row 1"):
        lake.append("evidence", [*evidence("a"), {**evidence("b")[0], "role": "boss"}], producer="p", sequence=1)
    with pytest.raises(UsageError, match="no kind of event"):
        lake.append("thoughts", [], producer="p", sequence=1)
    assert whole(Path(lake.uri)) == before
    assert lake.position("evidence", "p") is None


@pytest.mark.parametrize(("producer", "sequence"), [("", 1), ("p", -1), ("p", 1 << 63), ("a\nb", 1), ("\ud800", 1)])
def test_a_batch_has_a_name(lake, producer, sequence):
    """A producer's name is plain text and a sequence a number that the log can hold; the largest of them works."""
    with pytest.raises(UsageError, match="a batch needs a producer's name"):
        lake.append("evidence", evidence("a"), producer=producer, sequence=sequence)
    lake.append("evidence", evidence("a"), producer="é \U0001f600/'\"", sequence=(1 << 63) - 1)
    assert lake.position("evidence", "é \U0001f600/'\"").sequence == (1 << 63) - 1


def test_positions_are_each_tables_own(lake):
    """A producer's position in one table says nothing of another."""
    lake.append("evidence", evidence("a"), producer="p", sequence=9, note={"line": 12})
    assert lake.position("evidence", "p").note == {"line": 12}
    assert lake.position("scores", "p") is None
    assert [commit.sequence for commit in lake.commits("evidence")] == [9, None]


def test_many_commits_read_back_across_checkpoints(lake):
    """After more commits than a checkpoint covers, rows, files and positions are all there."""
    for number in range(43):
        lake.append("evidence", evidence(str(number)), producer="p", sequence=number, note={"n": number})
    again = Lake.open(lake.uri)
    assert sorted(again.read("evidence")["run_id"].to_pylist(), key=int) == [str(number) for number in range(43)]
    assert again.position("evidence", "p").note == {"n": 42}
    assert again.append("evidence", evidence("7"), producer="q", sequence=1).added == 0


# record, keep


def test_what_is_recorded_is_there_once(lake):
    """A receipt is an event of now, and each one that is recorded is kept."""
    before = dt.datetime.now(dt.UTC)
    for stage in ("one", "two"):
        lake.record("receipts", {"stage": stage, "counts": "{}", "passed": True})
    receipts = lake.read("receipts").sort_by("recorded_at").to_pylist()
    assert [receipt["stage"] for receipt in receipts] == ["one", "two"]
    assert before <= receipts[0]["recorded_at"] <= receipts[1]["recorded_at"] <= dt.datetime.now(dt.UTC)


def test_recording_does_not_depend_on_the_clock(lake):
    """After something was recorded under a sequence far ahead, recording still works."""
    lake.append("receipts", [{"stage": "ahead"}], producer="lake", sequence=1 << 62)
    lake.record("receipts", {"stage": "after"})
    assert sorted(lake.read("receipts")["stage"].to_pylist()) == ["after", "ahead"]


def test_many_may_record_at_once(lake):
    """Processes that record at the same time all get their receipts in, each once."""
    assert in_processes(record_some, *((lake.uri, name) for name in "abc")) == [0] * 3
    stages = sorted(lake.read("receipts")["stage"].to_pylist())
    assert stages == sorted(f"{name}{number}" for name in "abc" for number in range(10))


def test_objects_are_kept_by_their_hash(lake):
    """Bytes come back by their sha256, twice kept is once there."""
    digest = lake.put_object(b"select 1")
    assert lake.put_object(b"select 1") == digest
    assert lake.get_object(digest) == b"select 1"
    assert [path.name for path in Path(lake.uri, "objects").iterdir()] == [digest]
    assert lake.get_object(lake.put_object(b"")) == b""


@pytest.mark.parametrize("digest", ["0" * 64, "", "../lake.json", "a\0", "../snapshots/x", "A" * 64])
def test_an_object_that_was_not_kept_is_told(lake, digest):
    """A digest under which nothing is kept is an unknown reference, and leads out of no folder."""
    with pytest.raises(UnknownRef, match="keeps nothing under"):
        lake.get_object(digest)


def test_an_object_that_changed_is_told(lake):
    """Bytes that are not those that were kept are damage."""
    digest = lake.put_object(b"select 1")
    Path(lake.uri, "objects", digest).write_bytes(b"select 2")
    with pytest.raises(Damaged, match=digest):
        lake.get_object(digest)


# a full disk

LIMITED = """
import resource, sys
from lake import Lake
from lake.errors import LakeError
from tests.lake.rows import evidence, much_evidence
lake = Lake.open(sys.argv[1])
def limit(size): resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
def say(what):
    try:
        print(what())
    except LakeError as error:
        print(type(error).__name__, error.message.splitlines()[0][:60], bool(error.hint))
"""


def test_a_disk_that_is_full_for_data_is_one_clean_error(lake):
    """When a data file has no room there is one error with a hint; what was acknowledged reads; later it works."""
    told = in_child(
        LIMITED
        + """
lake.append("evidence", evidence("a"), producer="p", sequence=1)
limit(20_000)
for _ in range(3):
    say(lambda: lake.append("evidence", much_evidence(0, 5000), producer="p", sequence=2))
say(lambda: (len(lake.read("evidence")), lake.position("evidence", "p").sequence, list(lake.verify(deep=True))))
say(lambda: lake.put_object(bytes(30_000)))
limit(resource.RLIM_INFINITY)
say(lambda: lake.append("evidence", much_evidence(0, 5000), producer="p", sequence=2).added)
""",
        lake.uri,
    ).splitlines()
    assert [line.split()[0] for line in told] == ["LakeError"] * 3 + ["(1,", "LakeError", "5000"]
    assert told[3] == "(1, 1, [])"
    assert all(line.endswith("True") for line in [*told[:3], told[4]])
    assert lake.read("evidence").num_rows == 5001
    assert list(Path(lake.uri).rglob("*.tmp")) == []
    assert list(lake.verify(deep=True)) == []


def test_a_disk_that_is_full_for_the_commit_is_one_clean_error(lake):
    """When the commit itself has no room nothing of the batch counts, and the same batch works later."""
    told = in_child(
        LIMITED
        + """
limit(20_000)
note = {"long": "x" * 40_000}
say(lambda: lake.append("evidence", evidence("a"), producer="p", sequence=1, note=note))
say(lambda: (len(lake.read("evidence")), lake.versions()["evidence"], list(lake.verify(deep=True))))
limit(resource.RLIM_INFINITY)
say(lambda: lake.append("evidence", evidence("a"), producer="p", sequence=1, note=note).added)
""",
        lake.uri,
    ).splitlines()
    assert told[0].startswith("LakeError evidence: cannot commit")
    assert told[0].endswith("True")
    assert told[1:] == ["(0, 0, [])", "1"]
    assert list(lake.verify(deep=True)) == []


def test_a_checkpoint_that_finds_no_room_loses_nothing(lake):
    """When the commit is there and only the checkpoint after it fails, the batch is acknowledged, once."""
    for number in range(18):
        lake.append("evidence", evidence(str(number)), producer=f"producer-{number}" * 40, sequence=number)
    told = in_child(
        LIMITED
        + """
limit(9_000)
say(lambda: lake.append("evidence", evidence("a"), producer="p", sequence=1))
say(lambda: lake.append("evidence", evidence("b"), producer="p", sequence=2).added)
limit(resource.RLIM_INFINITY)
say(lambda: lake.append("evidence", evidence("c"), producer="p", sequence=3).added)
""",
        lake.uri,
    ).splitlines()
    assert told == ["Appended(offered=1, added=1, version=19, repeated=False)", "1", "1"]
    log = Path(lake.uri, "tables", "evidence", "_delta_log")
    assert not (log / f"{19:020d}.checkpoint.parquet").exists()
    assert sorted(lake.read("evidence")["run_id"].to_pylist())[-3:] == ["a", "b", "c"]
    assert list(lake.verify(deep=True)) == []


# verify


@pytest.fixture
def told(lake: Lake) -> Lake:
    """A lake with three commits of evidence and a pin of each."""
    for number in range(3):
        lake.append("evidence", much_evidence(number * 1000, number * 1000 + 1000), producer="p", sequence=number)
        lake.pin()
    assert list(lake.verify(deep=True)) == []
    return lake


def data_file(lake: Lake) -> Path:
    return Path(lake.pin().paths("evidence")[0])


def test_a_swapped_file_is_found(told):
    """A data file replaced by another valid one of the same rows is found: by its size, or deeply by its hash."""
    one, other = (Path(path) for path in told.pin().paths("evidence")[:2])
    one.write_bytes(other.read_bytes())
    assert any(one.name in str(problem) for problem in told.verify(deep=True))


def test_a_missing_file_is_found(told):
    """A data file that is gone is named once, however many pins need it."""
    path = data_file(told)
    path.unlink()
    assert [str(problem) for problem in told.verify() if path.name in str(problem)] == [
        f"tables/evidence/{path.name}: missing"
    ]


def test_a_cut_file_is_found(told):
    """A data file that is shorter than it was is named with both sizes."""
    path = data_file(told)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    assert [*map(str, told.verify())] == [f"tables/evidence/{path.name}: {size - 1} bytes instead of {size}"]


def test_a_flipped_bit_is_found_deeply(told):
    """A single bit is not seen quickly and is seen deeply, wherever it is."""
    path = data_file(told)
    data = path.read_bytes()
    for place in (0, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert list(told.verify()) == []
        assert [*map(str, told.verify(deep=True))] == [
            f"tables/evidence/{path.name}: its bytes are not those that were written"
        ]


def test_a_rolled_back_commit_is_found_by_its_pin(told):
    """A last commit that was taken away, and the version used again, is found by the pin that needs it."""
    pin = told.pin()
    log = Path(told.uri, "tables", "evidence", "_delta_log", f"{3:020d}.json")
    log.unlink()
    [back] = told.verify()
    assert (back.code, back.table, back.version) == (Code.ROLLED_BACK, "evidence", 2)
    assert [one.id for one in back.snapshots] == [pin.id]
    told.append("evidence", evidence("other"), producer="q", sequence=1)
    [other] = told.verify()
    assert (other.code, other.table, other.version) == (Code.COMMIT_REPLACED, "evidence", 3)
    assert [one.id for one in other.snapshots] == [pin.id]
    assert pin.read("evidence").num_rows == 3000


def test_an_edited_last_commit_is_found_by_its_pin(told):
    """An edit of the newest commit, which no other one follows yet, is found, with the pin that is touched."""
    log = Path(told.uri, "tables", "evidence", "_delta_log", f"{3:020d}.json")
    log.write_text(log.read_text().replace('"lake.sequence":2', '"lake.sequence":7'))
    [edited] = told.verify()
    assert (edited.code, edited.version) == (Code.COMMIT_CHANGED, 3)
    assert len(edited.snapshots) == 1


def test_each_problem_is_told_and_none_hides_another(told):
    """A table that cannot be opened, a bad manifest and a missing file are all in one report."""
    newest = told.pin()
    path = Path(newest.paths("evidence")[0])
    path.unlink()
    other = next(pinned for pinned in told.snapshots() if pinned != newest.id)
    Path(told.uri, "snapshots", f"{other}.json").write_bytes(b"")
    log = Path(told.uri, "tables", "scores", "_delta_log", f"{0:020d}.json")
    log.write_text(log.read_text().replace('"delta.appendOnly":"true"', '"delta.appendOnly":"false"'))
    report = "\n".join(map(str, told.verify()))
    assert path.name in report
    assert "delta.appendOnly" in report
    assert "not what was written" in report
