"""A store in a bucket that cannot do what is asked of it, over a network that loses answers."""

import re
import time

import pytest

from lake import Lake, bucket
from lake.bucket import Bucket, UnsafeStore
from lake.errors import LakeError, UsageError
from tests.stores.server import LOST, Faults

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
