"""Verify: whatever is not as it was written is found, by a code, with what it touches; nothing else is."""

import contextlib
import json
import os
import random
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from lake import Lake
from lake.commits import COMMIT, DataFile, chain, commit_name, digest, seal, torn
from lake.datafiles import encode, write
from lake.errors import Damaged, LakeError
from lake.events import to_table, with_ids
from lake.files import Entry, Folder
from lake.findings import NOTES, Code, Finding
from lake.kinds import KINDS
from lake.log import PROPERTIES, Log
from lake.snapshots import FilePin
from lake.verify import examine
from tests.lake.damage import built, files_of, flip
from tests.lake.rows import evidence, scores


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with old and new checkpoints, pins, names, receipts and an export. Not to be written to."""
    return built(tmp_path_factory.mktemp("original"))


@pytest.fixture
def told(original: Path, tmp_path: Path) -> Lake:
    """The same, to be damaged."""
    shutil.copytree(original, tmp_path / "lake", symlinks=True)
    return Lake.open(str(tmp_path / "lake"))


def codes(lake: Lake, *, deep: bool = False) -> list[Code]:
    return [finding.code for finding in lake.verify(deep=deep)]


def notes(lake: Lake) -> list[Finding]:
    return [finding for finding in examine(lake.store, lake.logs).findings if not finding.is_fault]


def log_of(lake: Lake, kind: str = "evidence") -> Path:
    return Path(lake.uri, "tables", kind, "_delta_log")


def commit(lake: Lake, version: int, kind: str = "evidence") -> Path:
    return Path(lake.uri, commit_name(KINDS[kind], version))


def newest(lake: Lake, kind: str = "evidence") -> int:
    return lake.logs[kind].head().version


# nothing is wrong


def test_a_whole_lake_has_no_fault_and_no_note(told):
    """A lake that is as it was written has no finding at all, quick or deep, and everything in it is counted."""
    for deep in (False, True):
        report = examine(told.store, told.logs, deep=deep)
        assert report.findings == ()
        assert [pin.id for pin in report.snapshots] == told.snapshots()
        assert {name for pin in report.snapshots for name in pin.names} == set(told.names())
        assert len(report.exports) == 1


def test_an_export_in_a_bucket_is_said_not_to_be_looked_at(told):
    """No bucket is asked for an export because a ledger names it: a note says so, and what to type."""
    inputs = {"snapshot": told.snapshots()[0], "tables": {}, "views": None}
    outputs = {"folder": "s3://elsewhere/sets/sft", "receipt_sha256": "0" * 64, "files": []}
    told.record("receipts", {"stage": "export-sft", "inputs": json.dumps(inputs), "outputs": json.dumps(outputs)})
    (note,) = [one for one in notes(told) if one.code is Code.EXPORT_ELSEWHERE]
    assert note.file == "s3://elsewhere/sets/sft"
    assert list(told.verify(deep=True)) == []


def test_what_a_killed_writer_leaves_is_no_fault(told):
    """Scratch files, a data file in no commit and a stranger's file are notes; the note says what became of a batch."""
    table = Path(told.uri, "tables", "evidence")
    table.joinpath(".x.parquet.1.ab.tmp").write_bytes(b"half")
    table.joinpath("notes.txt").write_bytes(b"?")
    Path(told.uri, "objects", "hello").write_bytes(b"?")
    rows = with_ids(
        KINDS["evidence"], told.read("evidence").drop_columns(["event_id", "schema_version", "batch"]), "p@3"
    )
    table.joinpath(f"{'a' * 64}.parquet").write_bytes(encode(rows))
    table.joinpath(f"{'b' * 64}.parquet").write_bytes(encode(with_batch(rows, "somebody@1")))
    table.joinpath(f"{'c' * 64}.parquet").write_bytes(b"half")
    said = {Path(one.file).name[:2]: (one.code, one.message) for one in notes(told)}
    assert said[".x"][0] is Code.SCRATCH
    assert said["no"][0] is said["he"][0] is Code.STRAY
    assert {said[name][0] for name in ("aa", "bb", "cc")} == {Code.ORPHAN}
    assert "p@3 is committed without it" in said["aa"][1]
    assert "somebody@1 is not committed" in said["bb"][1]
    assert "cannot be read" in said["cc"][1]
    assert codes(told, deep=True) == []


def with_batch(rows: pa.Table, batch: str) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index("batch"), "batch", pa.repeat(batch, len(rows)))


def test_a_table_that_is_not_there_yet_is_a_note(told):
    """A lake that is older than a kind is whole."""
    shutil.rmtree(Path(told.uri, "tables", "rejects"))
    # Pins say that there was one: then it is not only young.
    assert Code.ROLLED_BACK in codes(told)
    for pin in Path(told.uri, "snapshots").iterdir():
        pin.unlink()
    shutil.rmtree(Path(told.uri, "tables", "receipts"))
    shutil.rmtree(Path(told.uri, "tables", "snapshots"))
    assert codes(told) == []
    assert {(one.code, one.table) for one in notes(told)} >= {(Code.NO_TABLE, "rejects"), (Code.NO_TABLE, "receipts")}


def test_writers_meanwhile_are_no_fault(told, monkeypatch):
    """What is committed, pinned and exported while a lake is examined is no finding."""
    number = iter(range(1000))

    def write(*_: object) -> None:
        n = next(number)
        if n < 8:
            told.append("evidence", evidence(f"meanwhile-{n}"), producer="m", sequence=n)
            told.name(told.pin(), f"m{n}")

    findings = examine(told.store, told.logs, progress=write).findings
    assert [one for one in findings if one.is_fault] == []
    assert next(number) > 8


# the log


@pytest.mark.parametrize("place", ["first", "old", "middle", "last but one", "last"])
@pytest.mark.parametrize("how", ["edit", "flip", "delete", "swap"])
def test_a_damaged_commit_is_found(told, how, place):
    """Wherever in the chain a commit is edited, flipped, deleted or put in the place of another, that is a fault."""
    last = newest(told)
    version = {"first": 0, "old": 3, "middle": last // 2, "last but one": last - 1, "last": last}[place]
    path, other = commit(told, version), commit(told, 5)
    data = path.read_bytes()
    if how == "edit":
        path.write_bytes(data.replace(b'"timestamp":1', b'"timestamp":2', 1))
    elif how == "flip":
        path.write_bytes(flip(data, random.Random(version).randrange(len(data) * 8)))
    elif how == "delete":
        path.unlink()
    else:
        path.write_bytes(other.read_bytes())
    found = [one for one in told.verify() if one.table == "evidence"]
    assert found
    assert all(one.hint for one in found)
    # A pinned newest version that is gone is known by the pin alone.
    assert found[0].version in {version, version - 1}


def test_each_bit_of_the_newest_commit_counts(told):
    """The newest commit, which no other names, shows every bit that flips in it."""
    told.append("evidence", evidence("unpinned"), producer="alone", sequence=1, note={"offset": 123})
    path = commit(told, newest(told))
    data = path.read_bytes()
    assert codes(told) == []
    log = told.logs["evidence"]
    dice = random.Random(7)
    missed = []
    for bit in dice.sample(range(len(data) * 8), 300):
        path.write_bytes(flip(data, bit))
        try:
            log.head().pin()
        except LakeError:
            continue
        missed.append(bit)
    assert missed == []


def test_a_commit_from_before_seals_is_whole(told):
    """Commits of an older version of the lake carry no seal, and are as good as they were."""
    data = seal(b'{"commitInfo":{"lake.rows":1}}\n{"txn":{}}\n')
    assert data.startswith(b'{"commitInfo":{"lake.rows":1,"lake.seal":"0000000')
    assert json.loads(data.splitlines()[0])["commitInfo"]["lake.seal"].startswith(f"{len(data):010d}-")
    path = commit(told, newest(told, "tasks"), "tasks")
    path.write_bytes(re.sub(rb',"lake.seal":"[^"]*"', b"", path.read_bytes()))
    # It is pinned with its seal, so the pin is what misses it.
    assert codes(told) == [Code.COMMIT_REPLACED]


@given(st.data())
def test_a_torn_commit_is_the_beginning_of_one(data):
    """What is left of a commit is told from a whole one, wherever it is cut and whatever zeros follow."""
    whole = seal(b'{"commitInfo":{"a":"b"}}\n{"txn":{"appId":"x","version":1}}\n{"add":{"path":"y"}}\n')
    cut = data.draw(st.integers(0, len(whole)))
    zeros = data.draw(st.integers(0, 5))
    assert torn(whole[:cut] + bytes(zeros)) is (cut < len(whole))
    assert not torn(whole[:20] + b"\0" + whole[21:])
    assert not torn(b'{"add":{}}\n{"commitInfo":{"a":1}}')


@pytest.mark.parametrize("name", sorted(PROPERTIES))
def test_what_a_delta_writer_does_is_found(told, name):
    """A property that another program set is named, though the chain of commits it made is sound."""
    DeltaTable(str(log_of(told).parent)).alter.set_table_properties({name: "7"} if "Interval" in name else {name: "x"})
    found = list(told.verify())
    assert {one.code for one in found} >= {Code.COMMIT_FOREIGN, Code.PROPERTY}
    assert any(name in one.message for one in found)


@pytest.mark.parametrize("how", ["restore", "delete", "overwrite", "append", "column"])
def test_what_deltalake_does_to_a_table_is_found(told, how):
    """Restore, delete, overwrite, a foreign append and a new column by way of deltalake itself are found."""
    path = str(log_of(told, "scores").parent)
    table = DeltaTable(path)
    rows = told.read("scores").slice(0, 1)
    refused = ""
    try:
        if how == "restore":
            table.restore(1)
        elif how == "delete":
            table.delete()
        elif how == "overwrite":
            write_deltalake(path, rows, mode="overwrite")
        elif how == "append":
            write_deltalake(path, rows, mode="append")
        else:
            wide = rows.append_column("more", pa.array(["x"]))
            write_deltalake(path, wide, mode="append", schema_mode="merge")
    except BaseException as error:  # noqa: BLE001 -- its panics are no Exceptions
        refused = str(error)
    assert "append" in refused.lower() if refused else Code.COMMIT_FOREIGN in codes(told)
    assert (how in {"delete", "overwrite"}) == bool(refused)


def test_the_door_has_no_way_to_change_what_is_stored(told):
    """Neither a lake nor its logs have a word for deleting, updating or overwriting."""
    words = re.compile(r"delete|update|overwrite|merge|restore|truncate|drop|remove|unset")
    assert [name for thing in (told, told.logs["evidence"]) for name in dir(thing) if words.search(name)] == []


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff\xfe", b'{"version":3}', b'{"version":6000,"size":1}', b"[1]"])
def test_a_bad_hint_is_found(told, data):
    """A `_last_checkpoint` that is no JSON, or leads nowhere, is a fault that names it."""
    log_of(told).joinpath("_last_checkpoint").write_bytes(data)
    [found] = told.verify()
    assert (found.code, found.table) == (Code.HINT, "evidence")
    assert "repair" in found.hint


def test_a_hint_to_the_checkpoint_before_is_none(told):
    """A hint that is one checkpoint behind is what a writer leaves that was killed in between."""
    log_of(told).joinpath("_last_checkpoint").write_bytes(b'{"version":20}')
    assert codes(told, deep=True) == []


@pytest.mark.parametrize("version", [20, 40])
def test_a_checkpoint_that_says_other_things_is_found(told, version):
    """The newest checkpoint is compared with the commits always, the older ones deeply; any difference is a fault."""
    path = log_of(told) / f"{version:020d}.checkpoint.parquet"
    whole = pq.read_table(path)
    adds = whole.column("add").to_pylist()
    changed = [
        whole.slice(1),
        pa.concat_tables([whole, whole.filter(pc.is_valid(whole.column("add"))).slice(0, 1)]),
        whole.filter(pc.is_null(whole.column("metaData"))),
    ]
    for change in (
        {"size": 1},
        {"stats": "{}"},
        {"modificationTime": 5},
        {"path": "x.parquet"},
        {"tags": [("a", "b")]},
    ):
        first = next(row for row, add in enumerate(adds) if add)
        other = [add | change if row == first else add for row, add in enumerate(adds)]
        column = pa.array(other, whole.schema.field("add").type)
        changed.append(whole.set_column(whole.column_names.index("add"), whole.schema.field("add"), column))
    for table in changed:
        pq.write_table(table, path)
        assert codes(told, deep=True)[0] in {Code.CHECKPOINT, Code.HINT}
        assert codes(told) == [] if version == 20 else codes(told)
    for cut in (0, 3, 500):
        path.write_bytes(path.read_bytes()[:cut])
        assert Code.CHECKPOINT in codes(told, deep=True)


def test_files_that_a_delta_reader_might_follow_are_found(told):
    """A checkpoint in parts or a compacted commit, which the lake never makes, is a fault; a note file is not."""
    log_of(told).joinpath(f"{7:020d}.checkpoint.0000000001.0000000002.parquet").write_bytes(b"x")
    log_of(told).joinpath("README").write_bytes(b"x")
    assert codes(told) == [Code.LOG_FILE]
    assert [one.code for one in notes(told)] == [Code.STRAY]


def test_any_number_may_stand_in_a_name(told):
    """A commit file with an absurd version is a fault, found in no time."""
    log_of(told).joinpath(f"{10**19}.json").write_bytes(b"{}")
    start = time.monotonic()
    assert Code.COMMIT_MISSING in codes(told)
    assert time.monotonic() - start < 5


def test_a_rolled_back_log_is_known_by_what_refers_to_it(told, tmp_path):
    """An older copy of a log, put in the place of a newer one, is found by pins and exports, which are named."""
    old = tmp_path / "old"
    shutil.copytree(log_of(told, "scores"), old)
    before = newest(told, "scores")
    told.append("scores", scores("late"), producer="p", sequence=99)
    second = told.pin()
    told.name(second, "second")
    shutil.rmtree(log_of(told, "scores"))
    shutil.copytree(old, log_of(told, "scores"))
    [found] = told.verify()
    assert (found.code, found.table, found.version) == (Code.ROLLED_BACK, "scores", before)
    assert [pin.names for pin in found.snapshots] == [("second",)]
    assert second.read("scores").num_rows == before_rows(told) + 1
    # The file that only the pin names is no orphan.
    assert notes(told) == []
    # What is written then is a branch of its own, and the pin is not on it.
    told.append("scores", scores("other"), producer="p", sequence=99)
    [found] = told.verify()
    assert (found.code, found.version) == (Code.COMMIT_REPLACED, before + 1)
    assert [pin.names for pin in found.snapshots] == [("second",)]


def before_rows(lake: Lake) -> int:
    return len(lake.read("scores"))


def test_a_lost_log_is_not_made_anew(told):
    """Where data files are and the log is not, opening the lake makes no empty table, and says what is wrong."""
    shutil.rmtree(log_of(told, "tasks"))
    again = Lake.open(told.uri)
    assert not log_of(told, "tasks").exists()
    with pytest.raises(Damaged, match="first commit is missing"):
        again.read("tasks")
    assert Code.ROLLED_BACK in codes(again)
    commit(told, 0).unlink()
    assert not commit(Lake.open(told.uri), 0).exists()
    with pytest.raises(Damaged, match="first commit is missing"):
        told.read("evidence")


# data files


def test_every_bit_of_a_data_file_counts(told):
    """Bits that flip in data files are found deeply, each one; and reading finds those in its pages."""
    files = files_of(told, "evidence")
    dice = random.Random(3)
    for _ in range(20):
        path = dice.choice(files)
        data = path.read_bytes()
        path.write_bytes(flip(data, dice.randrange(len(data) * 8)))
        [found] = told.verify(deep=True)
        assert (found.code, Path(found.file).name) == (Code.FILE_CHANGED, path.name)
        path.write_bytes(data)
    assert codes(told, deep=True) == []


def test_a_swapped_file_is_found_with_what_it_touches(told):
    """A valid file in the place of another is a fault of each snapshot and export that needs it, and of no other."""
    report = examine(told.store, told.logs, deep=True)
    one, other = files_of(told, "evidence")[:2]
    one.write_bytes(other.read_bytes())
    need = {pin for pin in told.snapshots() if one.name in map(os.path.basename, names_in(told, pin))}
    [found] = told.verify(deep=True)
    assert found.file == f"tables/evidence/{one.name}"
    assert {pin.id for pin in found.snapshots} == need
    assert {export.snapshot for export in found.exports} == {e.snapshot for e in report.exports} & need


def names_in(lake: Lake, pin: str) -> list[str]:
    return [file.path for table in lake.snapshot(pin).tables.values() for file in table.files]


def add_by_hand(lake: Lake, events: pa.Table, **change: object) -> None:
    """Commit a file with the lake's own means, however wrong its rows are."""
    log = lake.logs["evidence"]
    made = write(lake.store, log.folder, events)
    pin = msgspec.structs.replace(made.pin, **change) if change else made.pin
    stats = json.loads(made.stats) | {"numRecords": pin.rows}
    stats["minValues"]["event_id"], stats["maxValues"]["event_id"] = pin.first_id, pin.last_id
    head = log.head()
    assert log.commit_after(head, {"lake.rows": pin.rows}, adds=[DataFile(pin, json.dumps(stats))])


def test_contents_are_compared_with_what_commits_say(told):
    """Rows, ids, their range and columns of a file are what its commit says, or it is a fault."""
    good = with_ids(KINDS["evidence"], bare(told, "x1", "x2", "x3"), "h@1")
    add_by_hand(told, good)
    assert codes(told, deep=True) == []
    add_by_hand(told, with_ids(KINDS["evidence"], bare(told, "y1"), "h@2"), rows=5)
    assert codes(told, deep=True) == [Code.FILE_CONTENT]
    low = "00000000000000-" + "0" * 32
    add_by_hand(told, with_ids(KINDS["evidence"], bare(told, "z1"), "h@3"), first_id=low)
    assert codes(told, deep=True) == [Code.FILE_CONTENT] * 2
    odd = with_ids(KINDS["evidence"], bare(told, "w1"), "h@4").append_column("more", pa.array(["x"]))
    add_by_hand(told, odd)
    narrow = with_ids(KINDS["evidence"], bare(told, "v1"), "h@5").drop_columns(["run_id"])
    add_by_hand(told, narrow)
    found = [one.message for one in told.verify(deep=True)]
    assert any("'more' is not one of evidence" in message for message in found)
    assert any("'run_id' is missing" in message for message in found)
    assert codes(told) == []


def bare(lake: Lake, *runs: str) -> pa.Table:
    return to_table(KINDS["evidence"], evidence(*runs))


def test_an_id_is_what_its_event_says(told):
    """An event whose content and id do not belong together is found, wherever in the file it is."""
    rows = with_ids(KINDS["evidence"], bare(told, *(f"x{n}" for n in range(50))), "h@1")
    texts = rows.column("text").to_pylist()
    texts[33] = "other"
    add_by_hand(told, rows.set_column(rows.schema.get_field_index("text"), "text", pa.array(texts)))
    [found] = told.verify(deep=True)
    assert found.code is Code.EVENT_ID
    assert found.message.startswith("row 33 ")
    assert rows.column("event_id")[33].as_py() in found.message


def test_an_event_that_is_there_twice_is_found(told):
    """Events that two files of the newest version hold are named, those that a compaction moved are not."""
    rows = with_ids(KINDS["evidence"], bare(told, "x1", "x2"), "h@1")
    add_by_hand(told, rows)
    assert codes(told, deep=True) == []
    add_by_hand(told, with_batch(rows.slice(1), "h@2"))
    [found] = told.verify(deep=True)
    assert found.code is Code.EVENT_TWICE
    assert rows.column("event_id")[1].as_py() in found.message
    assert "2 times" in found.message


def test_a_file_that_is_no_parquet_any_more_is_one_line(told):
    """A file of which a commit gives the right hash, and which still cannot be read, is a fault like any other."""
    path = files_of(told, "evidence")[0]
    log = told.logs["evidence"]
    data = b"PAR1" + b"\0" * 100 + b"PAR1"
    made = digest(data)
    path.with_name(f"{made}.parquet").write_bytes(data)
    low = "00000000000000-" + "0" * 32
    pin = FilePin(f"{made}.parquet", len(data), 1, made, low, low)
    stats = json.dumps({"numRecords": 1, "minValues": {"event_id": low}, "maxValues": {"event_id": low}})
    assert log.commit_after(log.head(), {"lake.rows": 1}, adds=[DataFile(pin, stats)])
    [found] = told.verify(deep=True)
    assert found.code is Code.FILE_UNREADABLE
    assert "\n" not in str(found)


# the rest


def test_a_snapshot_that_is_gone_is_missed(told):
    """A manifest that was deleted is missed by its names and by exports of it."""
    pins = told.names()
    exported = examine(told.store, told.logs).exports[0].snapshot
    for pin in {pins["first"], exported}:
        Path(told.uri, "snapshots", f"{pin}.json").unlink()
    found = list(told.verify())
    assert {one.code for one in found} == {Code.PIN_MISSING}
    assert {pin.id for one in found for pin in one.snapshots} == {pins["first"], exported}
    assert {export.snapshot for one in found for export in one.exports} == {exported}


def test_a_manifest_that_is_half_there_is_found(told):
    """A flipped or cut manifest is a fault of that snapshot alone."""
    for number, pin in enumerate(told.snapshots()[:2]):
        path = Path(told.uri, "snapshots", f"{pin}.json")
        data = path.read_bytes()
        path.write_bytes(flip(data, 999) if number else data[:50])
    found = list(told.verify())
    assert [one.code for one in found] == [Code.PIN_CHANGED] * 2
    assert [one.snapshots[0].id for one in found] == told.snapshots()[:2]


def test_objects_are_what_was_kept(told):
    """An object with other bytes than its name, or one that is gone, touches the exports made with it."""
    [path] = Path(told.uri, "objects").iterdir()
    data = path.read_bytes()
    path.write_bytes(flip(data, 77))
    assert codes(told) == []
    [found] = told.verify(deep=True)
    assert (found.code, len(found.exports)) == (Code.OBJECT_CHANGED, 1)
    path.unlink()
    [found] = told.verify()
    assert (found.code, len(found.exports)) == (Code.OBJECT_MISSING, 1)


def test_exports_are_as_they_were_recorded(told):
    """An export that is still where it was written is compared with its receipt; one that is gone or moved is none."""
    folder = Path(examine(told.store, told.logs).exports[0].folder)
    copy = folder.parent / "kept"
    shutil.copytree(folder, copy)
    data = next(folder.glob("data/*"))
    whole = data.read_bytes()
    try:
        data.write_bytes(flip(whole, 99))
        assert codes(told) == []
        [found] = told.verify(deep=True)
        assert (found.code, found.file) == (Code.EXPORT_CHANGED, str(data))
        assert [one.folder for one in found.exports] == [str(folder)]
        data.write_bytes(whole[:-1])
        assert codes(told) == [Code.EXPORT_CHANGED]
        data.unlink()
        assert [one.message for one in told.verify()] == ["missing"]
        receipt = folder / "receipt.json"
        said = receipt.read_bytes()
        receipt.write_bytes(flip(said, 5))
        assert [one.file for one in told.verify()] == [str(receipt)]
        receipt.write_bytes(said.replace(b'"dataset": "sft"', b'"dataset": "rag"'))
        assert codes(told) == []
        shutil.rmtree(folder)
        assert codes(told, deep=True) == []
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.move(copy, folder)


@pytest.mark.parametrize("data", [b"", b"{}", b'{"format":1}', b"\0" * 30, b'{"format":9,"id":"x","created_at":"y"}'])
def test_the_marker_is_looked_at(told, data):
    """A `lake.json` that is damaged is a fault, and all else is examined nevertheless."""
    Path(told.uri, "lake.json").write_bytes(data)
    assert codes(told) == [Code.MARKER]
    Path(told.uri, "lake.json").unlink()
    assert codes(told) == [Code.MARKER]


def test_a_ledger_that_cannot_be_read_hides_nothing(told):
    """A damaged ledger is a fault, and the rest is examined with what is left of it."""
    path = files_of(told, "snapshots")[0]
    path.write_bytes(b"x" * path.stat().st_size)
    files_of(told, "evidence")[0].unlink()
    assert set(codes(told)) == {Code.FILE_UNREADABLE, Code.FILE_MISSING}


def test_each_code_is_documented():
    """The page that says what to do about damage has a line for each code."""
    page = Path(__file__).parents[2].joinpath("docs", "repair.md").read_text()
    assert [code for code in Code if f"| `{code}` |" not in page] == []
    assert {code for code in Code if re.search(rf"\| `{code}` \| note", page)} == NOTES


def test_progress_is_told(told):
    """Progress only rises: commits, or deep the bytes, up to all there are."""
    seen: list[tuple[int, int | None]] = []

    def note(done: int, total: int | None, _what: str) -> None:
        seen.append((done, total))

    for deep in (False, True):
        seen.clear()
        examine(told.store, told.logs, deep=deep, progress=note)
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == seen[-1][1] == sum(path.stat().st_size for kind in KINDS for path in files_of(told, kind))


class Busy(Folder):
    """A folder in which a commit lands between any two looks at it."""

    def entries(self, folder: str) -> Iterator[Entry]:
        found = list(super().entries(folder))
        lake = Lake.open(self.uri)
        last = lake.position("evidence", "busy")
        lake.append("evidence", evidence(f"busy{last}"), producer="busy", sequence=last.sequence + 1 if last else 0)
        return iter(found)


def test_a_commit_that_lands_meanwhile_is_nothing_strange(told):
    """What other readers find is asked while others commit; only what lies there all the time can be no file."""
    before = told.logs["evidence"].as_others_read()
    log = Log(Busy(told.uri), KINDS["evidence"])
    assert log.as_others_read() >= before
    (log_of(told) / "folder").mkdir()
    with pytest.raises(Damaged, match="folder: no file of the log"):
        log.as_others_read()


class Summing(Busy):
    """A busy folder in which each commit is followed by a checkpoint."""

    def entries(self, folder: str) -> Iterator[Entry]:
        found = super().entries(folder)
        log = Lake.open(self.uri).logs["evidence"]
        log.checkpoint(log.head().version)
        return found


def test_a_checkpoint_that_is_made_meanwhile_is_nothing_strange(told):
    """A hint may name a checkpoint that was made since the folder was read."""
    store = Summing(told.uri)
    findings = examine(store, {name: Log(store, kind) for name, kind in KINDS.items()}).findings
    assert [one for one in findings if one.is_fault] == []


class Lagging(Folder):
    """A folder whose listing lacks some commits that landed while it was read, and shows a later one."""

    def entries(self, folder: str) -> Iterator[Entry]:
        found = list(super().entries(folder))
        commits = [entry.name for entry in found if COMMIT.fullmatch(entry.name)]
        return iter([entry for entry in found if entry.name not in commits[-5:-1]])


def test_commits_that_a_listing_lacks_are_looked_up(told):
    """What a large folder does not show, because it landed meanwhile, is no gap; what is not there is one."""
    assert len(list(chain(told.store, KINDS["evidence"]))) > 5
    links = list(chain(Lagging(told.uri), KINDS["evidence"]))
    assert [(link.version, link.sha256, link.problems) for link in links] == [
        (link.version, link.sha256, link.problems) for link in chain(told.store, KINDS["evidence"])
    ]
    assert all(not link.problems for link in links)
    commit(told, links[-3].version).unlink()
    assert [link.version for link in chain(Lagging(told.uri), KINDS["evidence"]) if link.problems] == [
        links[-3].version
    ]


def test_an_entry_that_a_folder_shows_twice_is_one(told, monkeypatch):
    """A file system may tell of a file twice where others come meanwhile; the lake sees it once."""
    before = list(told.store.entries("tables/evidence/_delta_log"))
    scandir = os.scandir

    @contextlib.contextmanager
    def twice(path):
        with scandir(path) as entries:
            yield [entry for entry in entries for _ in range(2)]

    monkeypatch.setattr("lake.files.os.scandir", twice)
    assert list(told.store.entries("tables/evidence/_delta_log")) == before
    assert list(told.verify()) == []
