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
from lake.bucket import Bucket, UnsafeStore
from lake.errors import Damaged, LakeError, UsageError
from lake.files import Content
from lake.stores import store_at
from tests.stores.server import BUCKET, LOST, Faults


@pytest.fixture
def store(s3, s3_uri):
    """A store with nothing in it, which has been tried already."""
    made = Bucket(s3_uri)
    made._prove()
    s3.faults.log.clear()
    return made


@pytest.fixture
def impatient(monkeypatch):
    """Faults that do not pass are given up after two seconds."""
    monkeypatch.setattr(bucket, "PATIENCE", 2.0)
    monkeypatch.setattr(bucket, "FIRST_PATIENCE", 2.0)


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


# What a lake asks of a store.


def test_a_store_that_ignores_the_condition_is_refused(s3, s3_uri):
    """A lake is not created where one put silently replaces another; nothing is left there."""
    s3.faults.strip = True
    with pytest.raises(UnsafeStore, match="replaced an object although") as refused:
        Lake.create(s3_uri)
    assert "If-None-Match" in refused.value.hint
    assert Bucket(s3_uri).tree() == []


def test_a_lake_in_a_store_that_turned_unsafe_is_read_and_not_written(s3, s3_uri, monkeypatch):
    """Through an unsafe door to a lake that is there, reading works and the first write is refused."""
    lake = Lake.create(s3_uri)
    before = Bucket(s3_uri).tree()
    monkeypatch.setattr(bucket._process, "proved", set())
    s3.faults.strip = True
    again = Lake.open(s3_uri)
    assert again.read("evidence").num_rows == 0
    for write in (lambda: again.put_object(b"x"), lambda: lake.store.replace("a", b""), lambda: lake.store.remove("a")):
        with pytest.raises(UnsafeStore):
            write()
    assert Bucket(s3_uri).tree() == before


def test_puts_at_the_same_moment_are_tried(s3, s3_uri, monkeypatch):
    """A store that accepts two puts of one object at the same moment is refused."""
    create = Bucket._create
    monkeypatch.setattr(Bucket, "_create", lambda self, name, data: create(self, name, data) or name.endswith("r"))
    with pytest.raises(UnsafeStore, match="8 were accepted"):
        Bucket(s3_uri).write_new("a", b"")


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        ({"read": b"other"}, "does not hold"),
        ({"entries": iter(())}, "a list does not show"),
        ({"_create": False}, "a new object was there already"),
    ],
)
def test_other_lies_of_a_store_are_found(s3, s3_uri, monkeypatch, lie, said):
    """A store that forgets, hides or invents objects is refused."""
    for method, answer in lie.items():
        monkeypatch.setattr(Bucket, method, lambda *_, answer=answer: answer)
    with pytest.raises(UnsafeStore, match=said):
        Bucket(s3_uri).replace("a", b"")


def test_a_store_without_conditions_is_refused(s3, s3_uri):
    """A store that says that it cannot do it is believed."""
    s3.faults = Faults(rates={"501": 1.0})
    with pytest.raises(UnsafeStore, match=r"cannot do what a lake needs.*501"):
        Lake.create(s3_uri)


def test_a_store_is_tried_once_and_only_by_writers(s3, s3_uri):
    """Reading asks nothing of the store; the first write tries it, the next one does not, and nothing stays."""
    store = Bucket(s3_uri)
    store.exists("a")
    assert {method for method, _ in s3.faults.log} == {"HEAD"}
    store.write_new("a", b"")
    tried = len(s3.faults.log)
    Bucket(s3_uri).write_new("b", b"")
    assert len(s3.faults.log) == tried + 1
    assert store.tree() == ["a", "b"]


def test_credentials_that_cannot_delete_will_do(s3, s3_uri, impatient):
    """Where nothing may be deleted a store is tried all the same; what stays of it counts as nothing."""
    s3.faults = Faults(rates={"403": 1.0}, methods=("DELETE",))
    Bucket(s3_uri)._prove()
    left = Bucket(s3_uri).tree()
    assert [name.split("/")[1] for name in left] == ["alone", "together"]
    assert Bucket(s3_uri).is_empty()
    Lake.create(s3_uri)


# A network that loses answers.


@pytest.mark.parametrize("fault", [*LOST, "409", "412", "503", "500"])
def test_a_put_is_told_from_its_own_echo(store, s3, fault, monkeypatch):
    """Whatever happens to the first put, the answer is the truth: it was new, it is there, and once."""
    monkeypatch.setattr(bucket, "_PUT_SECONDS", ((1 << 20, 1),))
    s3.faults = Faults(rates={fault: 1.0}, most=1, silence=3.0)
    assert store.write_new("a", b"mine") is True
    assert s3.faults.seen[fault] == 1
    assert store.read("a") == b"mine"
    s3.faults = Faults(rates={fault: 1.0}, most=1, silence=3.0)
    assert store.write_new("a", b"other") is False
    assert store.read("a") == b"mine"


@pytest.mark.parametrize("fault", ["close after", "503", "500", "409"])
def test_reading_waits_out_what_passes(store, s3, fault):
    """Two failures in a row are no failure of what reads, lists, replaces or removes."""
    store.write_new("f/a", b"x" * 100_000)
    for ask, answer in (
        (lambda: store.read("f/a"), b"x" * 100_000),
        (lambda: store.size("f/a"), 100_000),
        (lambda: list(store.names("f")), ["a"]),
        (lambda: store.part("f/a", 1, 3), b"xx"),
        (lambda: store.replace("f/a", b"y"), None),
        (lambda: store.remove("f/a"), None),
    ):
        s3.faults = Faults(rates={fault: 1.0}, methods=("GET", "HEAD", "PUT", "DELETE"), most=2)
        assert ask() == answer
        assert s3.faults.seen[fault] == 2


def test_what_does_not_pass_is_one_clean_error(store, s3, impatient):
    """A store that fails for long is given up, with its own words and no others."""
    s3.faults = Faults(rates={"503": 1.0}, methods=("GET",))
    with pytest.raises(LakeError, match=r"the store failed: 503, SlowDown, drawn$"):
        store.read("a")


def test_a_store_that_contradicts_itself_is_given_up(store, s3, impatient):
    """A put that is refused for an object that is not there ends, after a while, in an error."""
    s3.faults = Faults(rates={"412": 1.0})
    with pytest.raises(LakeError, match="there is none"):
        store.write_new("a", b"")


@pytest.mark.parametrize(
    ("fault", "said", "hint"),
    [
        ("403", r"s3://.*: access denied$", "s3:PutObject|PutObject"),
        ("403 key", "does not accept the credentials", "AWS_ACCESS_KEY_ID"),
        ("401", "does not accept the credentials", "AWS_ACCESS_KEY_ID"),
        ("301", "in another region", "AWS_REGION"),
    ],
)
def test_what_the_store_refuses_is_said_once(store, s3, fault, said, hint):
    """A refusal is not repeated; one line says what it was, and the hint what to set."""
    s3.faults = Faults(rates={fault: 1.0}, methods=("GET", "PUT"))
    for ask in (lambda: store.read("a"), lambda: store.write_new("a", b"")):
        with pytest.raises(LakeError, match=said) as refused:
            ask()
        assert re.search(hint, refused.value.hint)
        assert "\n" not in refused.value.message
        assert "quite-secret" not in repr((refused.value.message, refused.value.hint, refused.value.__context__))
    assert s3.faults.seen[fault] == 2


def test_a_bucket_that_is_not_there(s3):
    """There being no bucket is told from there being no file."""
    for ask in (lambda store: store.read("a"), lambda store: store.is_empty(), lambda store: store.write_new("a", b"")):
        with pytest.raises(LakeError, match="has no bucket nowhere"):
            ask(Bucket("s3://nowhere/lake"))


def test_an_address_where_nobody_answers(monkeypatch, s3):
    """An endpoint that cannot be reached is given up within seconds, and named."""
    monkeypatch.setattr(bucket, "FIRST_PATIENCE", 1.0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    since = time.monotonic()
    with pytest.raises(LakeError, match=r"no answer from http://127.0.0.1:9: .*refused") as refused:
        Lake.open("s3://data/lake")
    assert time.monotonic() - since < bucket.FIRST_PATIENCE + 3
    assert "AWS_ENDPOINT_URL" in refused.value.hint


@pytest.mark.parametrize(
    "said", ["not a url", "127.0.0.1:9000", "ftp://a", "http://", "http://user:secret@a", "http://a/?b"]
)
def test_an_endpoint_that_is_none_is_a_wrong_option(said):
    """What is no address is refused before anything is sent."""
    with pytest.raises(UsageError, match="AWS_ENDPOINT_URL"):
        Bucket("s3://data", {"AWS_ENDPOINT_URL": said})


def test_no_credentials_and_no_role(s3, monkeypatch):
    """Where nothing says who asks, and the machine has no role, the variables to set are named at once."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    since = time.monotonic()
    with pytest.raises(LakeError, match="no credentials were found") as refused:
        Lake.open("s3://data/lake")
    assert "AWS_ACCESS_KEY_ID" in refused.value.hint
    assert time.monotonic() - since < bucket.FIRST_PATIENCE


def test_a_store_that_says_nothing_is_given_up(s3, s3_uri, impatient, monkeypatch):
    """A store that takes a request and never answers is not waited for without end."""
    monkeypatch.setattr(bucket, "SILENCE_SECONDS", 1)
    s3.faults = Faults(rates={"silence after": 1.0}, methods=("GET",), silence=4.0)
    with pytest.raises(LakeError, match=r"no answer from .*: it does not answer in time"):
        Lake.open(s3_uri)


def test_an_option_that_means_nothing_is_refused():
    """What is neither yes nor no where one of them is asked for is named."""
    with pytest.raises(LakeError, match="perhaps"):
        Bucket("s3://data", {"AWS_SKIP_SIGNATURE": "perhaps"}).read("a")


def test_an_option_that_no_header_can_carry_is_refused_without_its_value():
    """A line break at the end of a secret is a mistake that is named, and the secret is not."""
    with pytest.raises(UsageError, match=r"^AWS_SECRET_ACCESS_KEY: ") as refused:
        Bucket("s3://data", {"AWS_SECRET_ACCESS_KEY": "quite-secret\n"})
    assert "quite-secret" not in refused.value.message


def test_more_than_one_object_may_have_is_refused(store):
    """A file beyond what one put may carry is refused before it is sent."""
    with pytest.raises(LakeError, match="more than one object may have"):
        store._client(6 << 30)


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
