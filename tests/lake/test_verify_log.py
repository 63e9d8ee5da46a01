"""Verify: whatever is not as it was written in the log of a table is found, by a code."""

import json
import random
import re
import shutil
import time

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from lake import Lake
from lake.commits import seal, torn
from lake.errors import Damaged, LakeError
from lake.findings import Code
from lake.log import PROPERTIES
from tests.lake.damage import codes, commit, flip, log_of, newest, notes
from tests.lake.rows import evidence, scores


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
