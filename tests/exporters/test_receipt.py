import importlib.metadata

import msgspec
import pytest

from exporters import receipt
from exporters.formats import File
from exporters.receipt import Counts, Receipt
from lake import LakeError
from lake.errors import Damaged

RECEIPT = Receipt(
    receipt=1,
    dataset="rag",
    snapshot="0123",
    tables={"scores": 2, "evidence": 4},
    policy={"include_partial": False},
    views="f" * 64,
    format="jsonl",
    shape="document",
    provenance=True,
    file_bytes=1,
    counts=Counts(3, 2, 1, {"empty_content": 1}),
    files=(File("data/train-00000-of-00001.jsonl", 10, "a" * 64, 2), File("README.md", 5, "b" * 64)),
    versions={"lake": "0"},
)


def test_a_receipt_is_read_as_it_was_written(tmp_path):
    """Writing and reading a receipt changes nothing."""
    (tmp_path / receipt.NAME).write_bytes(receipt.encode(RECEIPT))
    assert receipt.read(tmp_path) == RECEIPT
    assert RECEIPT.rows == 2


def test_the_bytes_do_not_depend_on_the_order_of_keys():
    """Two receipts that say the same are the same bytes, and end in a line feed."""
    other = msgspec.structs.replace(RECEIPT, tables=dict(reversed(RECEIPT.tables.items())))
    assert receipt.encode(other) == receipt.encode(RECEIPT)
    assert receipt.encode(RECEIPT).endswith(b"}\n")


def test_what_is_no_receipt_is_an_error(tmp_path):
    """A folder without one, a file where a folder should be, and nonsense are each told in their own words."""
    with pytest.raises(LakeError, match="no receipt here"):
        receipt.read(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(LakeError, match="Not a directory"):
        receipt.read(tmp_path / "file")
    (tmp_path / receipt.NAME).write_bytes(receipt.encode(RECEIPT).replace(b'"rag"', b"3"))
    with pytest.raises(Damaged, match="dataset"):
        receipt.read(tmp_path)


def test_the_version_is_that_of_the_installed_package(monkeypatch):
    """The version is the installed distribution's, and 0 where nothing was installed."""
    monkeypatch.setattr(receipt, "DISTRIBUTION", "pytest")
    assert receipt.lake_version() == importlib.metadata.version("pytest")
    monkeypatch.setattr(receipt, "DISTRIBUTION", "no-such-distribution")
    assert receipt.lake_version() == "0"
