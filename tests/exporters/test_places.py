"""Exports to and from a bucket: the same bytes as in a folder, and a receipt only where all of it is."""

import hashlib
from pathlib import Path

import pytest

from exporters import receipt
from exporters.export import export, export_all, verify
from exporters.places import fetched
from exporters.plan import Options
from exporters.validate import validate
from lake import bucket
from lake.bucket import Bucket
from lake.errors import LakeError, UsageError
from tests.stores.server import Faults


def contents(place) -> dict[str, str]:
    """Every file's sha256, by name."""
    if isinstance(place, Bucket):
        return {name: place.sha256(name) for name in place.tree()}
    files = (path for path in Path(place).rglob("*") if path.is_file())
    return {str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_bucket_gets_what_a_folder_gets(filled, s3, s3_uri, tmp_path):
    """The same export, byte for byte; it validates there, and verifies there against its snapshot."""
    folder = export(filled, "sft", tmp_path / "sft", Options(format="parquet"))
    there = export(filled, "sft", s3_uri, Options(format="parquet"))
    assert folder == there
    assert contents(Bucket(s3_uri)) == contents(tmp_path / "sft")
    assert validate(s3_uri).ok
    assert verify(filled, s3_uri).ok
    [last] = [row for row in filled.read("receipts").to_pylist() if f'"{s3_uri}"' in row["outputs"]]
    assert last["stage"] == "export-sft"


def test_all_datasets_appear_with_their_receipts_last(filled, s3, s3_uri):
    """No receipt is put before every file of every dataset is there."""
    made = export_all(filled, s3_uri)
    put = [path.removeprefix(f"/{s3_uri[5:]}/") for method, path in s3.faults.log if method == "PUT"]
    order = [name for name in put if "probe" not in name]
    receipts = [name for name in order if name.endswith(receipt.NAME)]
    assert len(receipts) == len(made)
    assert order[-len(made) :] == receipts
    assert sorted(order) == Bucket(s3_uri).tree()


def test_what_is_there_stays(filled, s3, s3_uri):
    """Nothing is exported to where there is something, and what it is, is said."""
    export(filled, "rag", s3_uri)
    before = contents(Bucket(s3_uri))
    with pytest.raises(UsageError, match="an export here already"):
        export(filled, "rag", s3_uri)
    with pytest.raises(UsageError, match="something here already"):
        export(filled, "rag", s3_uri.rpartition("/")[0])
    assert contents(Bucket(s3_uri)) == before


def test_an_export_that_comes_second_leaves_the_first(filled, s3, s3_uri, monkeypatch):
    """Of two exports to one place at the same time one is refused, and takes away only what it has put itself."""
    monkeypatch.setattr(Bucket, "tree", lambda self: [])
    Bucket(s3_uri).write_new("data/train-00000-of-00001.jsonl", b"the other's")
    with pytest.raises(UsageError, match="here already"):
        export(filled, "rag", s3_uri)
    monkeypatch.undo()
    for name, value in s3.options.items():
        monkeypatch.setenv(name, value)
    assert contents(Bucket(s3_uri)) == {"data/train-00000-of-00001.jsonl": hashlib.sha256(b"the other's").hexdigest()}


def test_an_export_that_fails_leaves_no_receipt(filled, s3, s3_uri, monkeypatch):
    """When the store fails for good at the last file, what was put is taken away again."""
    monkeypatch.setattr(bucket, "PATIENCE", 1.0)
    s3.faults = Faults(rates={"503": 1.0}, within=receipt.NAME)
    with pytest.raises(LakeError, match="SlowDown"):
        export(filled, "rag", s3_uri)
    assert Bucket(s3_uri).tree() == []


def test_answers_that_are_lost_lose_nothing(filled, s3, s3_uri):
    """With every second answer to a put lost, an export is whole and verifies."""
    s3.faults = Faults(seed=4, rates={"close after": 0.3, "500 after": 0.2})
    export_all(filled, s3_uri)
    assert s3.faults.seen["close after"] + s3.faults.seen["500 after"] > 0
    assert verify(filled, f"{s3_uri}/preference").ok


def test_a_changed_export_is_found(filled, s3, s3_uri):
    """A file in the bucket that is not as the receipt says, one too many, and one that is gone are named."""
    export(filled, "rag", s3_uri)
    store = Bucket(s3_uri)
    [name] = [name for name in store.tree() if name.startswith("data/")]
    store.replace(name, store.read(name) + b"\n")
    store.write_new("data/more.jsonl", b"")
    store.remove("README.md")
    report = verify(filled, s3_uri)
    assert (report.changed, report.extra, report.missing) == ((name,), ("data/more.jsonl",), ("README.md",))
    assert not validate(s3_uri).ok


def test_messages_name_the_bucket(filled, s3, s3_uri):
    """Where there is nothing, or no receipt, the message says the address, not where its files were copied to."""
    for look in (validate, lambda place: verify(filled, place)):
        with pytest.raises(UsageError, match=f"^{s3_uri}: there is nothing here"):
            look(s3_uri)
    Bucket(s3_uri).write_new("notes.txt", b"")
    with pytest.raises(UsageError, match=f"^{s3_uri}: no rows here"):
        validate(s3_uri)
    with pytest.raises(LakeError, match=f"^{s3_uri}/receipt.json: there is no receipt here"):
        verify(filled, s3_uri)


def test_no_name_leads_out_of_the_copy(s3, s3_uri, monkeypatch):
    """An object whose name would be a path elsewhere is refused, and nothing is written there."""
    for name in ("../outside", "/outside", "a\\b"):
        monkeypatch.setattr(Bucket, "tree", lambda self, name=name: [name])
        with pytest.raises(LakeError, match="no name of a file"), fetched(s3_uri):
            pass
