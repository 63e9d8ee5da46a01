import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from exporters.export import Options, export
from exporters.validate import SHOWN, validate
from lake.errors import UsageError

USER = {"role": "user", "content": "ask"}
ASSISTANT = {"role": "assistant", "content": "answer"}
PAIR = {"prompt": "ask", "chosen": "good", "rejected": "bad"}


def written(folder, *rows, name="train.jsonl"):
    """A folder with one file of rows; a row of bytes is written as it is."""
    folder.mkdir(exist_ok=True)
    data = b"".join(row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows)
    if name.endswith(".gz"):
        data = gzip.compress(data)
    if name.endswith(".zst"):
        data = zstandard.ZstdCompressor(write_checksum=True).compress(data)
    (folder / name).write_bytes(data)
    return folder


def found(folder):
    """Row, field and text of each problem."""
    return [(problem.row, problem.field, problem.problem) for problem in validate(folder).problems]


@pytest.mark.parametrize(
    ("shape", "row"),
    [
        ("messages", {"messages": [USER, ASSISTANT]}),
        ("messages", {"messages": [{"role": "system", "content": "be"}, USER, ASSISTANT], "prompt": "ignored"}),
        ("messages", {"messages": [USER, {"role": "assistant", "tool_calls": [{"id": "1"}]}]}),
        ("messages", {"messages": [USER, {"role": "assistant", "content": [{"type": "text", "text": "x"}]}]}),
        ("prompt-completion", {"prompt": "ask", "completion": "answer"}),
        ("prompt-completion", {"prompt": [USER], "completion": [ASSISTANT]}),
        ("preference", PAIR),
        ("preference", {"prompt": [USER], "chosen": [ASSISTANT], "rejected": [{**ASSISTANT, "content": "other"}]}),
        ("instruction", {"instruction": "i", "context": "", "response": "r"}),
        ("document", {"id": "rag-1", "content": "known"}),
        ("text", {"text": "running text"}),
    ],
)
def test_every_shape_is_known_and_passes(tmp_path, shape, row):
    """A row of each shape that trainers take is recognised, and nothing is wrong with it."""
    report = validate(written(tmp_path / "set", row))
    assert (report.shape, report.rows, report.problems) == (shape, 1, ())
    assert report.ok
    assert not report.receipt


@pytest.mark.parametrize(
    ("row", "field", "problem"),
    [
        ({"messages": None}, "messages", "missing field"),
        ({"messages": "ask"}, "messages", "must be a list"),
        ({"messages": []}, "messages", "must be a list of at least one turn"),
        ({"messages": ["ask"]}, "messages[0]", "must be an object"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "missing field"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing field"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content", "must be a string or a list"),
        ({"messages": [USER]}, "messages[0].role", "must be assistant in the last turn"),
        ({"messages": [USER, {**ASSISTANT, "content": "\u00a0"}]}, "messages[1].content", "empty after stripping"),
        ({"messages": [USER, {**ASSISTANT, "content": []}]}, "messages[1].content", "empty after stripping"),
        ({"prompt": "ask", "chosen": "good"}, "rejected", "missing field"),
        (
            {"chosen": "good", "rejected": "bad"},
            "prompt",
            "missing field, and 'chosen' and 'rejected' do not begin alike",
        ),
        ({"prompt": None, "chosen": "good", "rejected": "bad"}, "prompt", "missing field"),
        ({**PAIR, "chosen": [ASSISTANT]}, "chosen", "must be a string, as 'prompt' is"),
        ({**PAIR, "prompt": [USER]}, "chosen", "must be a list, as 'prompt' is"),
        ({**PAIR, "chosen": 3}, "chosen", "must be a string or a list"),
        ({**PAIR, "rejected": " "}, "rejected", "empty after stripping"),
        ({**PAIR, "rejected": "good\n"}, "rejected", "the same text as 'chosen' after stripping"),
        (
            {"prompt": [USER], "chosen": [ASSISTANT], "rejected": [{"content": "answer ", "role": "assistant"}]},
            "rejected",
            "the same text as 'chosen' after stripping",
        ),
        ({"prompt": "", "completion": "x"}, "prompt", "empty after stripping"),
        ({"prompt": "x", "completion": []}, "completion", "must be a list of at least one turn"),
        ({"instruction": "i", "response": " "}, "response", "empty after stripping"),
        ({"content": ["known"]}, "content", "must be a string"),
        ({"text": ""}, "text", "empty after stripping"),
        ({"ids": [1]}, None, "no column that a trainer reads, only ids"),
        ({}, None, "no column that a trainer reads, only none"),
        (["a"], None, "a row must be an object"),
    ],
)
def test_every_fault_has_its_text(tmp_path, row, field, problem):
    """What is wrong is told with the field and in words that say what it should be."""
    [(number, where, said)] = found(written(tmp_path / "set", row))
    assert (number, where) == (1, field)
    assert said == problem


def test_an_unknown_role_names_those_there_are(tmp_path):
    """A role that no template knows is refused with the list of those that are known."""
    [(_, where, said)] = found(written(tmp_path / "set", {"messages": [{"role": "robot", "content": "x"}, ASSISTANT]}))
    assert where == "messages[0].role"
    assert all(role in said for role in ("system", "user", "assistant", "tool", "developer"))


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


@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.gz", "train.jsonl.zst"])
def test_compressed_lines_are_read(tmp_path, name):
    """Lines are counted in the plain text, also across blank ones, in each compression."""
    folder = written(tmp_path / "set", PAIR, b"\n", {**PAIR, "prompt": " "}, name=name)
    assert found(folder) == [(3, "prompt", "empty after stripping")]
    assert validate(folder).rows == 2


def test_frames_one_after_the_other_are_one_file(tmp_path):
    """A zstd file of several frames is read through all of them."""
    folder = tmp_path / "set"
    folder.mkdir()
    frame = zstandard.ZstdCompressor().compress(json.dumps(PAIR).encode() + b"\n")
    (folder / "train.jsonl.zst").write_bytes(frame * 3)
    assert validate(folder).rows == 3


@pytest.mark.parametrize("name", ["train.jsonl.gz", "train.jsonl.zst", "train.parquet"])
@pytest.mark.parametrize("left", [0.6, 0.02])
def test_a_cut_file_is_told(tmp_path, name, left):
    """A file that ends too early is a problem of the file, not a success and not a crash."""
    rows = [{**PAIR, "prompt": f"{number} {hash(str(number))}"} for number in range(5000)]
    folder = written(tmp_path / "set", *rows, name=name)
    path = folder / name
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * left)])
    [problem] = [one for one in validate(folder).problems if one.row is None]
    assert problem.problem.startswith("cannot be read beyond row")


@pytest.mark.parametrize("line", [b"{\n", b"\xff\xfe\n", b"NaN\n", b"[" * 100_000 + b"\n", b'{"a": 1} x\n', b"\x00\n"])
def test_what_is_no_json_is_told_and_the_rest_is_read(tmp_path, line):
    """A line that is no JSON is a problem of that line; those after it are checked."""
    folder = written(tmp_path / "set", PAIR, line, {**PAIR, "chosen": ""})
    (first, _, said), (second, _, _) = found(folder)
    assert (first, second) == (2, 3)
    assert said.startswith("not JSON")


def test_a_line_without_end_is_given_up(tmp_path, monkeypatch):
    """A line beyond all measure is not read into memory."""
    monkeypatch.setattr("exporters.json_texts.LINE_BYTES", 1000)
    folder = written(tmp_path / "set", PAIR, {"text": "x" * 2000})
    [(row, _, said)] = found(folder)
    assert row is None
    assert "line 2 is longer" in said


def test_a_bomb_is_read_in_bounded_pieces(tmp_path):
    """A small file that unpacks to far more without a line end is given up at the longest line allowed."""
    folder = tmp_path / "set"
    folder.mkdir()
    compressor = zstandard.ZstdCompressor().compressobj()
    with (folder / "bomb.jsonl.zst").open("wb") as file:
        for _ in range(100):
            file.write(compressor.compress(bytes(1 << 20)))
        file.write(compressor.flush())
    [(row, _, said)] = found(folder)
    assert row is None
    assert "longer than" in said


def test_parquet_columns_are_rows(tmp_path):
    """Nested columns and columns of JSON are checked as the rows that a trainer sees."""
    folder = tmp_path / "set"
    folder.mkdir()
    good, bad = json.dumps([USER, ASSISTANT]), json.dumps([USER])
    typed = pa.ExtensionArray.from_storage(pa.json_(pa.string()), pa.array([good, bad, "{", None]))
    pq.write_table(pa.table({"messages": typed}), folder / "a.parquet")
    pq.write_table(pa.table({"messages": [[USER, ASSISTANT], [USER]]}), folder / "b.parquet")
    assert [(problem.file, problem.row, problem.problem) for problem in validate(folder).problems] == [
        ("a.parquet", 2, "must be assistant in the last turn"),
        ("a.parquet", 3, "must be a list"),
        ("a.parquet", 4, "missing field"),
        ("b.parquet", 2, "must be assistant in the last turn"),
    ]


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
        ("sft", Options()),
        ("sft", Options(shape="prompt-completion", format="parquet")),
        ("sft", Options(shape="instruction", format="jsonl.gz")),
        ("rag", Options(format="jsonl.zst")),
        ("preference", Options(format="parquet")),
        ("preference", Options(shape="plain", provenance=False)),
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
