import hashlib
import json
import shutil

import pytest

from exporters import receipt
from exporters.export import export, verify
from exporters.plan import Options
from lake import LakeError
from lake.errors import Damaged, UnknownRef
from tests.exporters.conftest import run, verdict
from views.connect import dumps, sources


@pytest.fixture(scope="module")
def exported(filled, tmp_path_factory):
    """One export, whole; tests copy it."""
    out = tmp_path_factory.mktemp("exported") / "out"
    export(filled, "rag", out)
    return out


@pytest.fixture
def copy(exported, tmp_path):
    """A copy of the export, to damage."""
    return shutil.copytree(exported, tmp_path / "copy")


def data_file(folder):
    """The one data file of an export."""
    [path] = (folder / "data").iterdir()
    return path


def test_a_whole_export_is_well(filled, exported):
    """An export that nobody touched is what its receipt says and what its snapshot gives."""
    report = verify(filled, exported)
    assert report.ok
    assert (report.dataset, report.files) == ("rag", 2)
    assert report.snapshot == receipt.read(exported).snapshot
    assert report.versions == ()


def test_a_flipped_bit_is_found(filled, copy):
    """One bit of one data file is enough, and the file is named."""
    path = data_file(copy)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    report = verify(filled, copy)
    assert not report.ok
    assert report.changed == (path.relative_to(copy).as_posix(),)
    assert (report.missing, report.extra, report.differing) == ((), (), ())


def test_a_longer_file_is_found(filled, copy):
    """A row added at the end of a file is found."""
    with data_file(copy).open("ab") as file:
        file.write(b"{}\n")
    assert verify(filled, copy).changed == (data_file(copy).relative_to(copy).as_posix(),)


def test_a_missing_file_is_named(filled, copy):
    """A file that the receipt names and that is gone is named."""
    (copy / "README.md").unlink()
    report = verify(filled, copy)
    assert not report.ok
    assert (report.missing, report.changed) == (("README.md",), ())


def test_an_extra_file_is_named(filled, copy):
    """A file that the receipt does not name is named."""
    (copy / "data" / "train-more.jsonl").write_text("")
    report = verify(filled, copy)
    assert not report.ok
    assert report.extra == ("data/train-more.jsonl",)


def test_a_receipt_that_fits_a_forged_file_is_found(filled, copy):
    """Whoever changes a file and its receipt alike is found by the rebuild from the snapshot."""
    path = data_file(copy)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    said = json.loads((copy / "receipt.json").read_bytes())
    data = path.read_bytes()
    said["files"][0] |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    said["files"][0]["rows"] -= 1
    (copy / "receipt.json").write_text(json.dumps(said))
    report = verify(filled, copy)
    assert report.changed == ()
    assert report.differing == (path.relative_to(copy).as_posix(),)


def test_forged_counts_are_found(filled, copy):
    """Counts in the receipt that the snapshot does not give are found."""
    said = json.loads((copy / "receipt.json").read_bytes())
    said["counts"]["quarantined"] = 0
    (copy / "receipt.json").write_text(json.dumps(said))
    assert verify(filled, copy).differing == ("receipt.json",)


def test_what_an_older_version_told_must_hold(filled, copy):
    """A receipt of an older format tells less, and its card reads otherwise; what it tells must be as it was."""
    path = copy / "receipt.json"
    said = json.loads(path.read_bytes())
    card = b"as cards were then\n"
    (copy / "README.md").write_bytes(card)
    [place] = [file for file in said["files"] if file["path"] == "README.md"]
    place |= {"bytes": len(card), "sha256": hashlib.sha256(card).hexdigest()}
    older = {name: said[name] for name in said if name not in {"val", "seed", "packing", "replay", "decontamination"}}
    older["receipt"] = 1
    older["policy"] = {"include_partial": False, "pairs_per_task": 5}
    path.write_text(json.dumps(older))
    assert verify(filled, copy).ok
    path.write_text(json.dumps({**older, "counts": {**older["counts"], "quarantined": 0}}))
    assert verify(filled, copy).differing == ("receipt.json",)
    path.write_text(json.dumps({**older, "receipt": said["receipt"]}))
    assert verify(filled, copy).differing == ("README.md", "receipt.json")


def test_other_versions_are_told(filled, copy):
    """A library that was another then is named, with both versions: it may explain other bytes."""
    said = json.loads((copy / "receipt.json").read_bytes())
    said["versions"]["duckdb"] = "1.0.0"
    (copy / "receipt.json").write_text(json.dumps(said))
    report = verify(filled, copy)
    [(name, then, now)] = [version.split() for version in report.versions]
    assert (name, then) == ("duckdb", "1.0.0")
    assert now != then


def test_an_old_export_is_rebuilt_under_the_rules_of_its_day(own, tmp_path):
    """After more events, and under other rules than today's, an export is still what its snapshot gives."""
    rules = {**sources(), "rag": f"-- the rules of an older day\n{sources()['rag']}"}
    old = own.put_object(dumps(rules))
    made = export(own, "rag", tmp_path / "out", Options(views=old, format="parquet"))
    own.append("evidence", [run("later", "t1", "later")], producer="test", sequence=2)
    own.append("scores", [verdict("good-1", "t1", "rejected", scorer="human")], producer="test", sequence=2)
    assert made.views == old
    assert verify(own, tmp_path / "out").ok


def test_every_choice_is_rebuilt(filled, tmp_path):
    """Shape, provenance and the size of files are taken from the receipt."""
    options = Options(shape="plain", provenance=False, file_bytes=100)
    export(filled, "preference", tmp_path / "out", options)
    assert verify(filled, tmp_path / "out").ok


def test_a_folder_without_a_receipt_is_no_export(filled, tmp_path):
    """Without a receipt there is nothing to verify, and a folder of exports says which to name."""
    with pytest.raises(LakeError) as refusal:
        verify(filled, tmp_path)
    assert "no receipt" in refusal.value.message
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "receipt.json").write_text("{}")
    with pytest.raises(LakeError) as refusal:
        verify(filled, tmp_path)
    assert refusal.value.hint.endswith(": sft")


def test_a_receipt_of_another_lake_is_refused(lake, exported):
    """A lake that never had the snapshot says so."""
    with pytest.raises(UnknownRef):
        verify(lake, exported)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"receipt": 1, "more": 2}'])
def test_a_receipt_that_is_none_is_damaged(filled, copy, text):
    """A receipt that cannot be read is named, not followed."""
    (copy / "receipt.json").write_text(text)
    with pytest.raises(Damaged, match=r"receipt\.json"):
        verify(filled, copy)
