"""A store in a bucket: the same promises as a folder's, kept over a network that loses answers."""

import hashlib
import multiprocessing
import os
import pickle
import re
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake import Lake, bucket
from lake.bucket import Bucket
from lake.errors import Damaged, LakeError, UsageError
from lake.files import Content
from lake.stores import store_at
from tests.stores.server import BUCKET, Faults


def content(store: Bucket, name: str, data: bytes) -> Content:
    """A file that is there, as a snapshot knows it."""
    store.write_new(name, data)
    return Content(name, len(data), hashlib.sha256(data).hexdigest())


def test_a_file_reads_back_as_it_was_written(store):
    """What was written is there, with its size, age and hash, and nothing else is."""
    assert store.is_empty()
    assert store.write_new("a/b/c.bin", b"some bytes") is True
    assert store.read("a/b/c.bin") == b"some bytes"
    assert (store.entry("a/b/c.bin").name, store.size("a/b/c.bin")) == ("c.bin", 10)
    assert abs(store.entry("a/b/c.bin").modified - time.time()) < 60
    assert store.sha256("a/b/c.bin") == hashlib.sha256(b"some bytes").hexdigest()
    assert store.exists("a/b/c.bin")
    assert store.tree() == ["a/b/c.bin"]
    assert not store.is_empty()


def test_a_file_is_never_replaced_but_where_that_is_meant(store):
    """Writing under a name that is taken says so and changes nothing; replacing and removing do what they say."""
    store.write_new("a", b"first")
    assert store.write_new("a", b"second") is False
    assert store.read("a") == b"first"
    store.replace("a", b"third")
    assert store.read("a") == b"third"
    store.remove("a")
    store.remove("a")
    assert store.tree() == []


def test_of_many_writers_one_wins(store):
    """Of writers that put different bytes under one name at once, one is told that it did, and its bytes are there."""
    for number in range(5):
        won = {}
        barrier = threading.Barrier(6)

        def write(writer: int, name: str = f"same-{number}", barrier=barrier, won=won) -> None:
            barrier.wait()
            won[writer] = store.write_new(name, bytes([writer]) * 1000)

        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        [winner] = [writer for writer, new in won.items() if new]
        assert store.read(f"same-{number}") == bytes([winner]) * 1000


def test_a_missing_file_is_told_apart(store):
    """That there is no such file is not a fault of the store: the caller knows what it means."""
    store.write_new("file", b"")
    for name in ("none", "none/below", "file/below"):
        assert not store.exists(name)
        for ask in (store.read, store.size, store.sha256, store.sync, store.source):
            with pytest.raises(FileNotFoundError, match=re.escape(store.url(name))):
                ask(name)
    assert list(store.names("none")) == []


def test_names_are_those_of_one_folder_in_order(store):
    """The files of a folder, in order, without those of folders in it and those that begin with a dot."""
    for name in ("f/b", "f/a", "f/c/d", "f/.half.tmp", "fa"):
        store.write_new(name, b"")
    assert list(store.names("f")) == ["a", "b"]
    assert [entry.name for entry in store.entries("f")] == [".half.tmp", "a", "b"]
    assert list(store.names("")) == ["fa"]


def test_the_names_after_one(store):
    """What sorts after a name, in that folder alone; the name itself need not be there."""
    for name in ("f/1", "f/2", "f/3", "f/3/below", "g/9"):
        store.write_new(name, b"")
    assert sorted(store.after("f", "1")) == ["2", "3"]
    assert sorted(store.after("f", "2.5")) == ["3"]
    assert store.after("f", "3") == store.after("none", "0") == []


def test_what_a_probe_left_does_not_count(store):
    """A store in which there are hidden files alone is empty, however many they are."""
    for number in range(3):
        store.write_new(f".probe-{number}/alone", b"")
    assert store.is_empty()
    store.write_new("zz", b"")
    assert not store.is_empty()


def test_prefixes_do_not_see_each_other(s3, s3_uri):
    """A store whose prefix is the start of another's has none of its files."""
    Bucket(s3_uri + "2").write_new("a", b"")
    assert Bucket(s3_uri).is_empty()


def test_a_whole_bucket_can_be_a_store(s3):
    """Without a prefix the names begin at the bucket."""
    whole = Bucket(f"s3://{BUCKET}")
    name = f"whole-{os.getpid()}/file"
    assert whole.write_new(name, b"x")
    assert name in whole.tree()
    assert whole.url(name) == f"s3://{BUCKET}/{name}"


@pytest.mark.parametrize(
    ("uri", "meant"),
    [
        ("s3://data/a/b/", "s3://data/a/b"),
        ("s3://data", "s3://data"),
        ("s3://data/", "s3://data"),
        ("s3://my.data-1/x", "s3://my.data-1/x"),
    ],
)
def test_addresses(uri, meant):
    """A slash at the end means nothing."""
    assert store_at(uri).uri == meant


@pytest.mark.parametrize(
    "uri",
    [
        "s3://",
        "s3:///a",
        "s3://a",
        "s3://Data/a",
        "s3://data/a b",
        "s3://data/a//b",
        "s3://data/../b",
        "s3://data/./b",
        "s3://data/a?b",
        "s3://data/a*",
        "s3://data/%61",
        "s3://da..ta/a",
        "s3://user:secret@data/a",
    ],
)
def test_odd_addresses_are_refused(uri):
    """An address that engines would read differently is refused before anything is asked."""
    with pytest.raises(UsageError, match="no address of a bucket"):
        store_at(uri)


def test_other_stores_are_refused():
    """A scheme that this version does not speak is named."""
    with pytest.raises(UsageError, match="gs://") as refused:
        store_at("gs://bucket/lake")
    assert "s3://BUCKET/PREFIX" in refused.value.hint


def test_options_come_before_the_environment(monkeypatch):
    """What is given counts; then the variables, the ones for S3 alone and the region's own first."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://any.example")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3.example")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "xx-default")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "environment")
    options = Bucket("s3://data", {"aws_access_key_id": "given"}).options
    assert options == {
        "AWS_ENDPOINT_URL": "http://s3.example",
        "AWS_REGION": "xx-default",
        "AWS_ACCESS_KEY_ID": "given",
        "AWS_ALLOW_HTTP": "true",
    }
    monkeypatch.setenv("AWS_REGION", "yy-own")
    assert Bucket("s3://data").options["AWS_REGION"] == "yy-own"


def test_unknown_options_are_refused():
    """A storage option that nobody reads is a mistake, in particular one that would switch the condition off."""
    for name in ("conditional_put", "AWS_CONDITIONAL_PUT", "acess_key"):
        with pytest.raises(UsageError, match="no storage option"):
            Bucket("s3://data", {name: "disabled"})


def test_the_environment_cannot_switch_the_condition_off(s3, s3_uri, monkeypatch):
    """A variable that tells the library underneath to put without a condition changes nothing."""
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    store = Bucket(s3_uri)
    assert [store.write_new("a", b"1"), store.write_new("a", b"2")] == [True, False]


def test_a_store_travels_between_processes(store):
    """A store pickles with its options, and works where it arrives."""
    store.write_new("a", b"x")
    copy = pickle.loads(pickle.dumps(store))
    assert repr(copy) == f"<Bucket {store.uri}>"
    assert (copy.uri, copy.options) == (store.uri, store.options)
    assert copy.read("a") == b"x"


# Copies on this machine.


def test_copies_are_made_once_and_checked(store, s3):
    """A file is fetched the first time; after that nothing is asked of the store."""
    data = os.urandom(3_000_000)
    file = content(store, "tables/a.parquet", data)
    [path] = store.local([file])
    assert Path(path).read_bytes() == data
    s3.faults.log.clear()
    assert store.local([file]) == [path]
    assert s3.faults.log == []


def test_many_are_fetched_side_by_side_in_the_order_asked_for(store):
    """Each path has what was asked for in its place, repeated or not."""
    files = [content(store, f"{number}.parquet", b"%d" % number) for number in range(20)]
    files.append(files[3])
    paths = store.local(files)
    assert [Path(path).read_bytes() for path in paths] == [b"%d" % number for number in range(20)] + [b"3"]
    assert store.local([]) == []


def test_a_fetch_that_breaks_off_is_made_again(store, s3):
    """An answer that is lost halfway leaves no half copy."""
    file = content(store, "a.parquet", os.urandom(100_000))
    s3.faults = Faults(rates={"close after": 1.0}, methods=("GET",), most=2)
    [path] = store.local([file])
    assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == file.sha256


@pytest.mark.parametrize(
    ("there", "said"), [(None, "is gone"), (b"123", "3 bytes where 4"), (b"4321", "its bytes are not those")]
)
def test_what_is_not_as_it_was_written_is_damaged(store, tmp_path, there, said):
    """A file that is gone, of another size or of other bytes is never handed out, and no copy of it stays."""
    file = Content("a.parquet", 4, hashlib.sha256(b"1234").hexdigest())
    if there is not None:
        store.write_new("a.parquet", there)
    with pytest.raises(Damaged, match=said):
        store.local([file])
    assert [path.name for path in (tmp_path / "cache").iterdir() if not path.name.startswith((".user", ".lock"))] == []


def test_a_copy_that_changed_on_this_machine_is_made_again(store, s3):
    """Who must be sure of each byte gets a good copy; nothing is fetched where the copy is good."""
    file = content(store, "a.parquet", b"1234")
    [path] = store.local([file])
    Path(path).write_bytes(b"4321")
    assert store.holds(file)
    assert Path(path).read_bytes() == b"1234"
    s3.faults.log.clear()
    assert store.holds(file)
    assert s3.faults.log == []
    store.replace("a.parquet", b"4321")
    Path(path).write_bytes(b"4321")
    with pytest.raises(Damaged, match="its bytes are not those"):
        store.holds(file)


def test_parts_of_a_file_are_read_without_the_rest(store, s3):
    """Reading one narrow column of a wide file fetches little more than that column."""
    table = pa.table({"event_id": [f"{number:06}" for number in range(5000)], "text": [os.urandom(500).hex()] * 5000})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, use_dictionary=False, compression="none", write_page_checksum=True)
    data = memoryview(sink.getvalue())
    store.write_new("a.parquet", data)
    fetched = []
    part, tail = store.part, store.tail
    store.part = lambda name, start, end: fetched.append(end - start) or part(name, start, end)
    store.tail = lambda name, length: fetched.append(length) or tail(name, length)
    found = pq.read_table(store.source("a.parquet"), columns=["event_id"], page_checksum_verification=True)
    assert found.column("event_id").to_pylist() == table.column("event_id").to_pylist()
    assert sum(fetched) < len(data) / 10


def test_a_source_reads_like_a_file(store):
    """Seeking and reading anywhere give what a file with the same bytes would."""
    data = os.urandom(200_000)
    store.write_new("a", data)
    source = bucket._Ranges(store, "a")
    assert (source.readable(), source.seekable(), source.tell()) == (True, True, 0)
    for offset, whence, length in ((0, 0, 10), (5, 1, 100_000), (-70_000, 2, 10_000), (-5, 2, 50), (0, 2, 1)):
        assert source.seek(offset, whence) == source.tell()
        start = source.tell()
        assert source.read(length) == data[start : start + length]
    source.seek(150_000)
    assert source.read() == data[150_000:]


def test_a_lake_here_is_the_lake_that_it_would_be_in_a_folder(s3, s3_uri, lake):
    """The same events give the same rows, ids and counts in a bucket as on a disk, and all of it verifies."""
    other = Lake.create(s3_uri)
    rows = [
        {"run_id": f"r{n}", "task_id": "t", "kind": "completion", "role": "executor", "text": "x" * n} for n in range(9)
    ]
    for where in (lake, other):
        for sequence in (0, 1):
            where.append("evidence", rows[: 5 + 4 * sequence], producer="p", sequence=sequence)
    columns = ["event_id", "run_id", "text"]
    here, there = (where.snapshot().read("evidence", columns).sort_by("event_id") for where in (lake, other))
    assert here.num_rows == 9
    assert here.equals(there)
    assert other.pin().id in other.snapshots()
    assert list(other.verify(deep=True)) == []
    assert pickle.loads(pickle.dumps(other)).versions() == other.versions()


# Processes.


def _child(store: Bucket, answer) -> None:
    try:
        answer.put(store.read("a"))
    except LakeError as error:
        answer.put((error.message, error.hint))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_of_a_process_that_used_a_bucket_is_told_so(store):
    """Where the network library would hang for good there is an error at once; a fresh process works."""
    store.write_new("a", b"x")
    for method, expected in (("fork", "is a fork of one that used a bucket"), ("spawn", b"x")):
        context = multiprocessing.get_context(method)
        answer = context.Queue()
        process = context.Process(target=_child, args=(store, answer))
        process.start()
        found = answer.get(timeout=60)
        process.join()
        assert expected in (found[0] if method == "fork" else found)
