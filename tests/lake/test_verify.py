"""Verify: whatever is not as it was written is found, by a code, with what it touches; nothing else is."""

import json
import re
import shutil
from pathlib import Path

import pytest

from lake.datafiles import encode
from lake.events import with_ids
from lake.findings import NOTES, Code
from lake.kinds import KINDS
from lake.verify import examine
from tests.lake.damage import codes, files_of, flip, notes, with_batch


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
