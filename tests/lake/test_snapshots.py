"""Snapshots: the same state has the same id, and what was pinned reads the same for good, with pyarrow alone."""

import contextlib
import hashlib
import json
import pickle
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from lake import Lake, Snapshot
from lake.errors import Damaged, UnknownRef, UsageError
from lake.files import Folder
from lake.kinds import KINDS, PIN_ORDER
from lake.snapshots import BATCH_ROWS, ID_LENGTH
from tests.lake.rows import evidence, much_evidence, scores
from tests.lake.writers import WORKERS, write_pairs

ROOT = Path(__file__).parents[2]


@pytest.fixture
def pinned(lake: Lake) -> Snapshot:
    """A snapshot of three pieces of evidence in two files and one score."""
    lake.append("evidence", evidence("a", "b"), producer="p", sequence=1)
    lake.append("evidence", evidence("c"), producer="p", sequence=2)
    lake.append("scores", scores("a"), producer="p", sequence=1)
    return lake.pin()


def manifest_path(lake: Lake, snapshot: Snapshot) -> Path:
    return Path(lake.uri) / "snapshots" / f"{snapshot.id}.json"


# what a snapshot is


def test_the_same_state_has_the_same_id(lake, pinned):
    """Pinned again, by this lake or another opening of it, the state has the same id and one manifest."""
    assert lake.pin() == Lake.open(lake.uri).pin() == pinned
    assert lake.snapshots() == [pinned.id]
    lake.name(pinned, "first")
    lake.record("receipts", {"stage": "export"})
    assert lake.pin() == pinned
    lake.append("scores", scores("b"), producer="p", sequence=2)
    assert lake.pin() != pinned
    assert len(lake.snapshots()) == 2
    assert len({pinned, lake.pin(), lake.snapshot(pinned.id)}) == 2


def test_the_id_is_the_hash_of_the_manifest(lake, pinned):
    """The manifest is the id's content: versions, heads, rows and files with size and sha256."""
    data = manifest_path(lake, pinned).read_bytes()
    assert pinned.id == hashlib.sha256(data).hexdigest()[:ID_LENGTH]
    assert pinned.manifest == data
    told = json.loads(data)
    assert sorted(told["tables"]) == sorted(kind for kind in PIN_ORDER if not KINDS[kind].optional)
    table = told["tables"]["evidence"]
    assert (table["version"], table["rows"]) == (2, 3)
    assert list(table["schema"]) == ["type", "fields"]
    log = Path(lake.uri, "tables", "evidence", "_delta_log", f"{2:020d}.json")
    assert table["head"] == hashlib.sha256(log.read_bytes()).hexdigest()
    for file in table["files"]:
        path = Path(lake.uri, "tables", "evidence", file["path"])
        assert (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()) == (file["size"], file["sha256"])


def test_a_kind_that_came_later_is_pinned_once_it_is_used(lake, pinned):
    """A state has the id that it had before there was the kind, until there is an event of it."""
    assert lake.pin(f"{pinned.vector},replay=0").id == pinned.id
    section = {"section_id": "0" * 16, "section_type": "prose", "content": "text", "recorded_at": None}
    lake.append("replay", [section], producer="p", sequence=0)
    later = lake.pin()
    assert later.id != pinned.id
    assert later.rows("replay") == 1
    assert pinned.rows("replay") == later.rows("prompts") == 0
    assert lake.pin(f"{pinned.vector},replay=0").id == pinned.id


def test_a_snapshot_reads_what_was_pinned(lake, pinned):
    """Rows, columns and counts are those of the pinned versions, whatever has been committed since."""
    before = {kind: pinned.read(kind) for kind in PIN_ORDER}
    for number in range(3, 30):
        lake.append("evidence", evidence(f"later{number}"), producer="p", sequence=number)
    again = lake.snapshot(pinned.id)
    assert {kind: again.read(kind) for kind in PIN_ORDER} == before
    assert {kind: again.rows(kind) for kind in PIN_ORDER} == {kind: len(before[kind]) for kind in PIN_ORDER}
    assert sorted(before["evidence"]["run_id"].to_pylist()) == ["a", "b", "c"]
    assert before["evidence"].schema == KINDS["evidence"].schema
    assert list(again.verify(deep=True)) == []
    assert lake.pin().rows("evidence") == 30


def test_an_empty_table_reads_as_no_rows(lake):
    """A kind of which there is nothing has no file, no row, and its columns all the same."""
    snapshot = lake.pin()
    for kind in PIN_ORDER:
        assert (snapshot.paths(kind), snapshot.rows(kind), list(snapshot.scan(kind))) == ([], 0, [])
        assert snapshot.read(kind) == KINDS[kind].schema.empty_table()


def test_a_kind_that_is_younger_reads_as_no_rows(lake, pinned):
    """A snapshot from before a kind was known has none of it."""
    told = json.loads(pinned.manifest)
    del told["tables"]["retractions"]
    older = Snapshot(Folder(lake.uri), json.dumps(told).encode())
    assert older.read("retractions") == KINDS["retractions"].schema.empty_table()
    assert older.rows("evidence") == 3


def test_columns_can_be_chosen(pinned):
    """Only the columns that are asked for are read, in that order; unknown ones are refused at once."""
    table = pinned.read("evidence", ["text", "run_id"])
    assert table.column_names == ["text", "run_id"]
    assert sorted(table["text"].to_pylist()) == ["text of a", "text of b", "text of c"]
    with pytest.raises(UsageError, match="evidence has no column 'colour'"):
        pinned.scan("evidence", ["colour"])


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.ledger])
def test_ledgers_are_no_part_of_it(pinned, kind):
    """What describes the lake is not in a snapshot, and an unknown kind is refused like it."""
    for ask in (pinned.rows, pinned.paths, pinned.scan, pinned.read):
        with pytest.raises(UsageError, match="is a ledger"):
            ask(kind)
        with pytest.raises(UsageError, match="no kind of event named"):
            ask(kind + "s")


def test_a_scan_is_in_order_and_in_small_batches(lake):
    """Batches come in stored order, file after file, none larger than the limit."""
    rows = 3 * BATCH_ROWS + 7
    lake.append("evidence", much_evidence(0, rows), producer="p", sequence=1)
    lake.append("evidence", much_evidence(rows, rows + 10), producer="p", sequence=2)
    snapshot = lake.pin()
    batches = list(snapshot.scan("evidence", ["event_id", "run_id"]))
    assert max(map(len, batches)) <= BATCH_ROWS
    scanned = [run for batch in batches for run in batch["run_id"].to_pylist()]
    stored = [run for path in snapshot.paths("evidence") for run in pa.parquet.read_table(path)["run_id"].to_pylist()]
    assert scanned == stored
    assert sorted(map(int, scanned)) == list(range(rows + 10))
    assert scanned == [run for batch in snapshot.scan("evidence") for run in batch["run_id"].to_pylist()]


def test_a_scan_stays_small(lake):
    """Going through many rows takes a part of the memory that having them all does."""
    files, rows, size = 10, 5_000, 3_000
    for number in range(files):
        table = much_evidence(number * rows, (number + 1) * rows)
        padded = pc.utf8_rpad(table["text"], size, "x")
        lake.append("evidence", table.drop("text").append_column("text", padded), producer="p", sequence=number)
    snapshot = lake.pin()
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for _ in snapshot.scan("evidence")]
    assert 0 < max(held) < files * rows * size / 2


# references


def test_references_find_their_snapshot(lake, pinned):
    """An id, the start of it, a name, a vector and a time all lead to the state that they mean."""
    lake.name(pinned, "first/ready-1.0", note="n", actor="somebody")
    later = lake.commits("scores").__next__().at
    lake.append("evidence", evidence("d"), producer="p", sequence=3)
    now = lake.snapshot()
    for ref in (pinned.id, pinned.id[:6], f" {pinned.id} ", "first/ready-1.0", pinned.vector, later.isoformat()):
        assert lake.snapshot(ref) == pinned
        assert lake.pin(ref) == pinned
    for ref in (None, now.vector, "2999-01-01", "2999-01-01T00:00:00Z", "evidence=3", "scores=1"):
        assert lake.snapshot(ref) == now


def test_two_axes_can_differ(lake, pinned):
    """Yesterday's evidence under today's verdicts: each table is taken at the version that is asked for."""
    lake.append("scores", scores("b"), producer="p", sequence=2)
    mixed = lake.snapshot("evidence=1, scores=2")
    assert (mixed.rows("evidence"), mixed.rows("scores")) == (2, 2)
    assert lake.snapshot("evidence=0").rows("evidence") == 0
    assert lake.snapshot("evidence=0").rows("scores") == 2


@pytest.mark.parametrize(
    "ref",
    [
        *("", " ", "nothing", "abcdef", "0" * 32, "f" * 64, "*", "../lake", "2026-13-01", "1999-01-01", "é"),
        *("evidence=", "evidence=-1", "evidence=x", "evidence=99", "evidence=" + "9" * 5000, "evidence=1,evidence=2"),
        *("evidence=1,", "receipts=0", "colour=1", "=", "evidence=1 2", "evidence=\u0661"),
    ],
)
def test_an_unknown_reference_is_refused(lake, pinned, ref):
    """What answers to no snapshot, name, time or version is an UnknownRef with a hint, and writes nothing."""
    with pytest.raises(UnknownRef) as caught:
        lake.pin(ref)
    assert caught.value.hint
    assert lake.snapshots() == [pinned.id]


def test_a_prefix_of_two_is_refused(lake, pinned):
    """The start of an id must mean one snapshot."""
    twin = manifest_path(lake, pinned).with_name(f"{pinned.id[:8]}{'0' * 24}.json")
    twin.write_bytes(b"")
    with pytest.raises(UnknownRef, match="is the start of 2 snapshots"):
        lake.snapshot(pinned.id[:8])
    assert lake.snapshot(pinned.id) == pinned


def test_a_time_before_a_table_means_an_empty_one(lake, pinned):
    """At a moment when only some tables had been created, the others were empty."""
    first = min(list(lake.commits(kind))[-1].at for kind in PIN_ORDER)
    assert lake.snapshot(first.isoformat()).rows("evidence") == 0


# names


def test_a_name_moves_to_the_last_that_was_given_it(lake, pinned):
    """A name means the snapshot that was given it last, by the log's order, and comes back when it is given back."""
    lake.append("evidence", evidence("d"), producer="p", sequence=3)
    newer = lake.pin()
    for snapshot in (pinned, newer, pinned, newer):
        lake.name(snapshot, "best")
        assert lake.names() == {"best": snapshot.id}
        assert lake.snapshot("best") == snapshot
    lake.name(newer, None, note="only a note")
    assert lake.names() == {"best": newer.id}


def test_a_name_is_moved_by_the_log_not_by_the_clock(lake, pinned):
    """A name that was given with a clock that is a year behind still moves."""
    other = lake.snapshot("evidence=1")
    lake.name(pinned, "best")
    row = {
        "snapshot_id": other.id,
        "name": "best",
        "recorded_at": lake.commits("evidence").__next__().at.replace(year=2000),
    }
    lake.record("snapshots", row)
    assert lake.names() == {"best": other.id}


def test_naming_pins(lake, pinned):
    """A state that was only looked at is pinned when it gets a name."""
    looked_at = lake.snapshot("evidence=1")
    assert looked_at.id not in lake.snapshots()
    lake.name(looked_at, "half")
    assert looked_at.id in lake.snapshots()
    assert lake.snapshot("half") == looked_at


def test_a_name_whose_manifest_is_gone_is_told(lake, pinned):
    """A name that leads to a manifest which is not there any more is an unknown reference, not another state."""
    lake.name(pinned, "best")
    manifest_path(lake, pinned).unlink()
    with pytest.raises(UnknownRef, match=f"there is no snapshot {pinned.id}"):
        lake.snapshot("best")


def test_a_snapshot_of_another_lake_gets_no_name(lake, pinned, tmp_path):
    """A lake names its own states only."""
    with pytest.raises(UsageError, match="is of another lake"):
        Lake.create(str(tmp_path / "other")).name(pinned, "mine")


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "1st", "-x", "abcdef", "deadbeef" * 4, "a=1", "x" * 101, "é", "a\n", "*"]
)
def test_what_reads_as_something_else_is_no_name(lake, pinned, name):
    """A name cannot be mistaken for an id, a time or a vector."""
    with pytest.raises(UsageError, match="cannot be a snapshot's name"):
        lake.name(pinned, name)
    assert lake.names() == {}


# damage


def test_an_edited_manifest_is_refused(lake, pinned):
    """A manifest with other bytes than its id says is Damaged, whatever the change, also when it is pinned again."""
    path = manifest_path(lake, pinned)
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole.replace(b'"rows":3', b'"rows":4'), b"", whole + b"\n"):
        path.write_bytes(damaged)
        for ask in (lambda: lake.snapshot(pinned.id), lake.pin):
            with pytest.raises(Damaged, match="not what was written"):
                ask()
        assert any(pinned.id in str(problem) for problem in lake.verify())
    path.write_bytes(whole)
    assert list(lake.verify(deep=True)) == []


@pytest.mark.parametrize(
    "path", ["../../../secret.parquet", "/etc/passwd", "x.parquet", "a" * 64, "A" * 64 + ".parquet"]
)
def test_a_manifest_leads_nowhere_else(lake, pinned, path):
    """A manifest that names a file which is no data file of the lake is refused, though its id is right."""
    told = json.loads(pinned.manifest)
    told["tables"]["evidence"]["files"][0]["path"] = path
    data = json.dumps(told).encode()
    forged = hashlib.sha256(data).hexdigest()[:ID_LENGTH]
    Path(lake.uri, "snapshots", f"{forged}.json").write_bytes(data)
    with pytest.raises(Damaged, match=forged):
        lake.snapshot(forged)


def test_a_manifest_of_a_later_version_is_told(lake):
    """A manifest that says more than this version knows is not half understood."""
    for later in ({"format": 1, "tables": {}, "signature": "x"}, {"format": 2, "tables": {}}):
        with pytest.raises(Damaged, match=r"signature|format"):
            Snapshot(Folder(lake.uri), msgspec.json.encode(later))


def test_a_pinned_file_that_is_gone_or_cut_is_told(lake, pinned):
    """Before any row is given out, a missing or shorter file is Damaged, with its path."""
    path = Path(pinned.paths("evidence")[0])
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    for ask in (pinned.paths, pinned.scan, pinned.read):
        with pytest.raises(Damaged, match=f"{path.name}: {len(whole) - 1} bytes where {len(whole)} were written"):
            ask("evidence")
    path.unlink()
    for ask in (pinned.paths, pinned.scan, pinned.read):
        with pytest.raises(Damaged, match=f"{path.name}: this data file is gone"):
            ask("evidence")
    assert pinned.read("scores").num_rows == 1
    assert list(pinned.verify()) == [f"tables/evidence/{path.name}: missing"]


def test_a_flipped_page_is_told(lake):
    """A byte that changed in the data is an error at reading, whichever it is, and verify finds each."""
    lake.append("evidence", much_evidence(0, 3000), producer="p", sequence=1)
    snapshot = lake.pin()
    path = Path(snapshot.paths("evidence")[0])
    whole = path.read_bytes()
    pages = len(whole) - int.from_bytes(whole[-8:-4], "little") - 8
    silent = 0
    wanted = snapshot.read("evidence")
    for place in range(4, pages, pages // 60):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        with contextlib.suppress(Damaged):
            silent += snapshot.read("evidence") != wanted
        assert list(snapshot.verify()) == []
        assert list(snapshot.verify(deep=True)) == [
            f"tables/evidence/{path.name}: its bytes are not those that were written"
        ]
    assert silent == 0


# elsewhere


def test_a_snapshot_is_plain_data(pinned):
    """It pickles, and what comes out is the same state and reads the same."""
    again = pickle.loads(pickle.dumps(pinned))
    assert again == pinned
    assert (again.root, again.vector, again.tables) == (pinned.root, pinned.vector, pinned.tables)
    assert again.read("evidence") == pinned.read("evidence")
    assert repr(again) == f"<Snapshot {pinned.id[:12]} evidence=2,rejects=0,retractions=0,scores=1,tasks=0>"


def test_the_manifest_and_pyarrow_are_enough(pinned):
    """In a process of its own, the reader gives the rows without duckdb, and calls nothing of deltalake."""
    program = """
import sys
from lake.files import Folder
from lake.snapshots import Snapshot
import deltalake
def refuse(*_, **__): raise AssertionError("deltalake was called")
deltalake.DeltaTable.__init__ = refuse
with open(f"{sys.argv[1]}/snapshots/{sys.argv[2]}.json", "rb") as file:
    snapshot = Snapshot(Folder(sys.argv[1]), file.read())
print(sorted(snapshot.read("evidence", ["run_id"])["run_id"].to_pylist()), "duckdb" in sys.modules)
"""
    given = [sys.executable, "-c", program, pinned.root, pinned.id]
    done = subprocess.run(given, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "['a', 'b', 'c'] False\n"


def test_plain_pyarrow_is_enough(pinned):
    """Without a line of the lake's own code, the manifest's list of files gives the rows."""
    program = """
import json, sys
import pyarrow.parquet as pq
root, snapshot = sys.argv[1:]
files = json.load(open(f"{root}/snapshots/{snapshot}.json"))["tables"]["evidence"]["files"]
print(sum(len(pq.read_table(f"{root}/tables/evidence/{file['path']}")) for file in files), "lake" in sys.modules)
"""
    given = [sys.executable, "-c", program, pinned.root, pinned.id]
    done = subprocess.run(given, capture_output=True, text=True, check=True)
    assert done.stdout == "3 False\n"


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_workers_read_whatever_their_start(pinned, method):
    """Children of a process that has used the log and read tables read the snapshot too, without hanging."""
    program = """
import multiprocessing, sys, warnings
from lake import Lake
warnings.simplefilter("ignore", DeprecationWarning)
def rows(snapshot): return sorted(snapshot.read("evidence")["run_id"].to_pylist())
if __name__ == "__main__":
    lake = Lake.open(sys.argv[1])
    snapshot = lake.pin()
    here = rows(snapshot)
    with multiprocessing.get_context(sys.argv[2]).Pool(2) as pool:
        print(pool.map(rows, [snapshot] * 4) == [here] * 4, here)
"""
    script = Path(pinned.root).parent / "workers.py"
    script.write_text(program)
    done = subprocess.run(
        [sys.executable, str(script), pinned.root, method],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "True ['a', 'b', 'c']\n"), done.stderr


def test_a_fork_reads_and_appends(lake):
    """A fork of a process that has used the log uses it too: nothing hangs, and nothing is lost on either side."""
    program = """
import os, sys
from lake import Lake
lake = Lake.open(sys.argv[1])
row = {"task_id": "t", "kind": "completion", "role": "executor"}
def send(who, number):
    lake.append("evidence", [{**row, "run_id": f"{who}{number}"}], producer=who, sequence=number)
for number in range(25):
    send("parent", number)
child = os.fork()
for number in range(25, 50):
    send("parent" if child else "child", number)
if child:
    assert os.waitpid(child, 0)[1] == 0
    print(lake.snapshot().rows("evidence"), *lake.verify(deep=True))
os._exit(0) if not child else None
"""
    given = [sys.executable, "-W", "ignore", "-c", program, lake.uri]
    done = subprocess.run(given, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    # On stderr deltalake tells of the checkpoint that it would not make there, and that the next one makes up for.
    assert (done.returncode, done.stdout) == (0, "75\n"), done.stderr


def test_short_readers_end_well(pinned):
    """Many short processes that read a snapshot all end with exit code 0."""
    program = (
        "import sys; from lake import Lake;"
        "assert Lake.open(sys.argv[1]).snapshot(sys.argv[2]).read('evidence').num_rows == 3"
    )
    given = [sys.executable, "-c", program, pinned.root, pinned.id]
    for _ in range(3):
        readers = [subprocess.Popen(given, cwd=ROOT) for _ in range(2)]
        assert [reader.wait(60) for reader in readers] == [0, 0]


def test_no_pinned_score_lacks_its_evidence(lake):
    """While a writer appends evidence and then its score, every pin that is taken has the evidence of its scores."""
    writer = WORKERS.Process(target=write_pairs, args=(lake.uri, 25))
    writer.start()
    pins = []
    while writer.is_alive():
        pins.append(lake.pin())
        time.sleep(0.005)
    writer.join()
    assert writer.exitcode == 0
    assert len(set(pins)) > 5
    for snapshot in pins:
        runs = set(snapshot.read("evidence", ["run_id"])["run_id"].to_pylist())
        assert set(snapshot.read("scores", ["run_id"])["run_id"].to_pylist()) <= runs
    assert list(lake.verify()) == []


def test_threads_may_read_one_snapshot(lake):
    """Several threads that read one snapshot at once all get its rows."""
    lake.append("evidence", much_evidence(0, 20_000), producer="p", sequence=1)
    snapshot = lake.pin()
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(sum(map(len, snapshot.scan("evidence", ["run_id"])))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [20_000] * 4


# footers, which have no checksum


def footer(path: Path) -> range:
    """Where the footer of a Parquet file is."""
    data = path.read_bytes()
    return range(len(data) - 8 - int.from_bytes(data[-8:-4], "little"), len(data) - 8)


def test_a_column_that_lost_its_name_is_not_read_as_nothing(lake):
    """A bit that flips in a column's name, in the footer of a data file, is an error, not a column of nulls."""
    lake.append("evidence", evidence("a", "b", model="m"), producer="p", sequence=1)
    snapshot = lake.pin()
    (path,) = map(Path, snapshot.paths("evidence"))
    data = path.read_bytes()
    at = data.index(b"model", footer(path).start)
    path.write_bytes(data[:at] + b"n" + data[at + 1 :])
    for read in (lambda: snapshot.read("evidence", ["model"]), lambda: lake.read("evidence")):
        with pytest.raises(Damaged, match="'nodel' is not one of evidence"):
            read()


def test_no_flipped_bit_of_a_footer_ends_in_a_traceback(lake):
    """Whatever bit of a data file's footer flips: rows, or one line of what is wrong."""
    lake.append("evidence", evidence(*map(str, range(20))), producer="p", sequence=1)
    snapshot = lake.pin()
    (path,) = map(Path, snapshot.paths("evidence"))
    whole = path.read_bytes()
    draw = random.Random(7)
    told = []
    for place in draw.sample(footer(path), 250):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :])
        try:
            snapshot.read("evidence")
        except Damaged as error:
            told.append(error.message)
    assert told
    assert not any("\n" in message for message in told)
