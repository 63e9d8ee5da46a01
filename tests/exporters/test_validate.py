"""A training set as a whole: its ids, its receipt, what is told of it."""

import json

import pytest

from exporters.export import export, verify
from exporters.plan import Options as Exporting
from exporters.validate import SHOWN, validate, vocabulary_of
from lake.errors import UsageError
from tests.exporters.row_files import ASSISTANT, PAIR, USER, found, written


def test_every_row_is_checked(tmp_path):
    """A fault in the last of many rows is found, with its number."""
    folder = written(tmp_path / "set", *[PAIR] * 5000, {**PAIR, "chosen": ""})
    assert found(folder) == [(5001, "chosen", "empty after stripping")]


def test_the_first_row_says_the_shape(tmp_path):
    """A row of another shape than the first is a fault, in the same file or the next."""
    folder = written(tmp_path / "set", PAIR, {"messages": [USER, ASSISTANT]})
    written(folder, {"text": "x"}, name="more.jsonl")
    assert {(problem.file, problem.row) for problem in validate(folder).problems} == {
        ("train.jsonl", 1),
        ("train.jsonl", 2),
    }


def test_repeated_ids_are_told(tmp_path):
    """An id that comes twice, in whichever files, is a problem of the set."""
    folder = written(tmp_path / "set", {**PAIR, "id": "a"}, {**PAIR, "id": "b"})
    written(folder, {**PAIR, "id": "a"}, name="more.jsonl")
    assert found(folder) == [(None, "id", "1 rows repeat the id of another")]


def test_many_problems_are_counted_and_some_shown(tmp_path):
    """The report holds the first problems and the count of all."""
    report = validate(written(tmp_path / "set", PAIR, *[{**PAIR, "chosen": ""}] * 500))
    assert (report.found, len(report.problems)) == (500, SHOWN)
    assert report.files[0].problems == 500
    assert f"500 problems, the first {SHOWN} shown" in report.summary


def test_a_single_file_can_be_checked(tmp_path):
    """Naming a file checks that file alone."""
    folder = written(tmp_path / "set", PAIR)
    written(folder, {"text": ""}, name="other.jsonl")
    report = validate(folder / "train.jsonl")
    assert [file.file for file in report.files] == ["train.jsonl"]
    assert report.ok


def test_progress_is_told(tmp_path):
    """Progress is told the rows read so far."""
    seen = []
    validate(written(tmp_path / "set", *[PAIR] * 3000), lambda done, total: seen.append((done, total)))
    assert seen == [(1024, None), (2048, None)]


@pytest.mark.parametrize("name", ["nothing", "text.txt"])
def test_nothing_to_validate_is_a_wrong_use(tmp_path, name):
    """A folder without rows, a file of another kind, or no folder at all is refused, with what would do."""
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises(UsageError) as refusal:
        validate(tmp_path / name)
    assert ".jsonl" in refusal.value.hint


@pytest.mark.parametrize(
    ("dataset", "options"),
    [
        ("sft", Exporting()),
        ("sft", Exporting(shape="prompt-completion", format="parquet")),
        ("sft", Exporting(shape="instruction", format="jsonl.gz")),
        ("rag", Exporting(format="jsonl.zst")),
        ("preference", Exporting(format="parquet")),
        ("preference", Exporting(format="hf")),
        ("sft", Exporting(format="hf", val=0.3)),
        ("rag", Exporting(format="arrow", val=0.3)),
        ("preference", Exporting(shape="plain", provenance=False)),
    ],
)
def test_what_the_lake_exports_is_valid(filled, tmp_path, dataset, options):
    """An export passes, in every shape and format, and so does its receipt."""
    made = export(filled, dataset, tmp_path / "out", options)
    report = validate(tmp_path / "out")
    assert report.ok, report.problems
    assert report.receipt
    assert report.rows == made.rows
    assert "its receipt: nothing wrong" in report.summary


def test_a_receipt_is_held_against_the_files(filled, tmp_path):
    """Beside a receipt, files that changed, are gone or were added are problems; a broken receipt is one itself."""
    out = tmp_path / "out"
    export(filled, "rag", out)
    (out / "README.md").unlink()
    (out / "data" / "more.jsonl").write_text('{"content": "x"}\n')
    [path] = out.glob("data/train-*")
    path.write_bytes(path.read_bytes() + b"\n")
    assert {(problem.file, problem.problem) for problem in validate(out).problems} == {
        ("README.md", "missing, and the receipt names it"),
        ("data/more.jsonl", "not in the receipt"),
        (path.relative_to(out).as_posix(), "not the bytes that the receipt names"),
    }
    (out / "receipt.json").write_text("{}")
    [problem] = validate(out).problems
    assert problem.file == "receipt.json"


def test_a_tokenizer_says_its_size(tmp_path):
    """The vocabulary of a tokenizer.json counts the tokens that were added, of either kind of model."""
    said = {"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": [{"id": 5, "content": "<end>"}]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(said))
    assert vocabulary_of(tmp_path) == vocabulary_of(tmp_path / "tokenizer.json") == 6
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": [["a", -1.0], ["b", -2.0]]}}))
    assert vocabulary_of(tmp_path) == 2
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UsageError):
        vocabulary_of(tmp_path)
    with pytest.raises(UsageError, match="No such file"):
        vocabulary_of(tmp_path / "nothing")


def test_what_the_library_leaves_beside_the_rows_is_no_fault(filled, tmp_path):
    """Working on a dataset on disk leaves caches in its folder, which are neither rows nor missing in the receipt."""
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    export(filled, "sft", tmp_path / "out", Exporting(format="hf"))
    rows = validate(tmp_path / "out").rows
    datasets.load_from_disk(str(tmp_path / "out"))["train"].map(lambda row: {"more": 1})
    assert list((tmp_path / "out" / "train").glob("cache-*.arrow"))
    assert validate(tmp_path / "out").ok
    assert validate(tmp_path / "out").rows == rows
    assert verify(filled, tmp_path / "out").ok
    assert len(datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))) == rows


def test_a_folder_of_exports_is_checked_one_by_one(tmp_path):
    """Exports side by side have rows of their own, so which one is asked."""
    for name in ("sft", "kto"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "receipt.json").write_text("{}")
    with pytest.raises(UsageError, match="a folder of exports") as refusal:
        validate(tmp_path)
    assert refusal.value.hint == "name one: kto, sft"


def test_the_receipt_says_what_the_rows_should_be(filled, tmp_path):
    """In an export of the lake's the rows have to be those of its dataset, whatever the first one looks like."""
    out = tmp_path / "out"
    export(filled, "preference", out)
    [path] = out.glob("data/train-*")
    path.write_text('{"text": "x"}\n' + path.read_text())
    assert ("prompt", "missing field") in {(one.field, one.problem) for one in validate(out).problems}
