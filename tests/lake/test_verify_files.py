"""Verify: whatever is in a data file that its commit does not say is found, by a code, with what it touches."""

import json
import os
import random
from pathlib import Path

import msgspec
import pyarrow as pa

from lake import Lake
from lake.commits import DataFile, digest
from lake.datafiles import write
from lake.events import to_table, with_ids
from lake.findings import Code
from lake.kinds import KINDS
from lake.snapshots import FilePin
from lake.verify import examine
from tests.lake.damage import codes, files_of, flip, with_batch
from tests.lake.rows import evidence


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
