import gzip
import importlib.util
import json
import os
import resource
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest
import zstandard

from exporters import receipt
from exporters.datasets import DATASETS
from exporters.export import export, export_all
from exporters.plan import Options
from exporters.relations import Relations
from lake import Lake, LakeError
from lake.errors import UnknownRef, UsageError
from tests.exporters.conftest import NASTY, fill, run, verdict
from views.connect import dumps, sources
from views.policy import Policy

ROOT = Path(__file__).parents[2]


def lines(folder: Path) -> list[dict[str, object]]:
    """The rows of an export in plain JSON lines."""
    texts = [path.read_text("utf-8") for path in sorted(folder.glob("data/*.jsonl"))]
    return [json.loads(line) for text in texts for line in text.splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def exports(filled, tmp_path_factory):
    """Every dataset of the lake of every fate, exported once."""
    folder = tmp_path_factory.mktemp("exports") / "all"
    made = export_all(filled, folder)
    return folder, {one.dataset: one for one in made}


def test_sft_rows_are_conversations(exports):
    """A row of sft has messages of a user and an assistant, and where it came from."""
    folder, _ = exports
    rows = {row["source_run_id"]: row for row in lines(folder / "sft")}
    assert rows.keys() == {"good-1", "good-2", "good-3", "alone"}
    row = rows["good-1"]
    assert row["messages"] == [
        {"role": "user", "content": "Do t1."},
        {"role": "assistant", "content": "the first answer"},
    ]
    assert row["category"] == "accepted"
    assert row["created_at"] == "2026-03-01T12:00:00.000000Z"
    assert row["provenance"]["file"] == "runs.jsonl"
    assert len(row["provenance"]["sha256"]) == 64


def test_texts_come_out_as_they_went_in(exports):
    """Line separators, NUL, emoji, quotes and right-to-left text survive the export of JSON lines."""
    folder, _ = exports
    [row] = [row for row in lines(folder / "sft") if row["source_run_id"] == "good-2"]
    assert row["messages"][1]["content"] == NASTY


def test_rag_rows_are_documents(exports):
    """A row of rag has its content and the category of its verdict."""
    folder, _ = exports
    found = {row["source_run_id"]: (row["content"], row["source_category"]) for row in lines(folder / "rag")}
    assert found["half-1"] == ("half an answer", "partially_accepted")
    assert "bad-1" not in found
    assert "open-1" not in found


def test_pairs_are_conversations(exports):
    """A pair has a prompt of the user and two different answers of the assistant."""
    folder, _ = exports
    rows = lines(folder / "preference")
    pairs = {(row["chosen_run_id"], row["rejected_run_id"]) for row in rows}
    assert pairs == {("good-1", "bad-1"), ("good-2", "bad-1"), ("good-3", "bad-2")}
    assert {row["prompt"][0]["role"] for row in rows} == {"user"}
    assert {row[side][0]["role"] for row in rows for side in ("chosen", "rejected")} == {"assistant"}


def test_rows_are_in_order(exports):
    """Rows come by task, then by id, with no id twice."""
    folder, _ = exports
    for dataset in ("sft", "rag", "preference"):
        keys = [(row["task_id"], row["id"]) for row in lines(folder / dataset)]
        assert keys == sorted(set(keys))


def test_the_books_balance(exports):
    """Considered is exported plus quarantined, and quarantined is the sum of its reasons."""
    folder, made = exports
    for dataset, one in made.items():
        counts = one.counts
        assert counts.considered == counts.exported + counts.quarantined
        assert counts.quarantined == sum(counts.reasons.values())
        assert counts.exported == len(lines(folder / dataset)) == one.rows
    assert made["sft"].counts.reasons["unsafe_sft_category"] > 0
    assert made["sft"].counts.reasons["empty_content"] == 1
    assert made["sft"].counts.reasons["missing_source_run_id"] == 1
    assert made["preference"].counts.tasks_without_pair == 1
    assert made["sft"].counts.tasks_without_pair is None


def test_a_folder_holds_what_its_receipt_names(exports):
    """Data files, the card, the receipt, and nothing else; all from one snapshot."""
    folder, made = exports
    for dataset, one in made.items():
        names = {file.path for file in one.files} | {"receipt.json"}
        assert contents(folder / dataset).keys() == names
        assert receipt.read(folder / dataset) == one
    assert len({one.snapshot for one in made.values()}) == 1


def test_the_lake_remembers_its_exports(exports, filled):
    """Each export leaves a receipt in the lake, with its counts, files and duration."""
    _, made = exports
    rows = {row["stage"]: row for row in filled.read("receipts").to_pylist()}
    row = rows["export-preference"]
    assert row["passed"]
    assert row["duration_s"] > 0
    assert json.loads(row["inputs"])["snapshot"] == made["preference"].snapshot
    assert json.loads(row["counts"])["exported"] == made["preference"].counts.exported
    assert json.loads(row["outputs"])["files"] == [msgspec.to_builtins(file) for file in made["preference"].files]


def test_the_rules_of_the_day_are_kept(exports, filled):
    """The SQL of the views is in the lake under the digest that the receipt names."""
    _, made = exports
    assert json.loads(filled.get_object(made["sft"].views)) == dict(sources())


def test_an_export_is_the_same_bytes_again(own, tmp_path):
    """The same snapshot gives the same bytes, twice in a row and after more was appended."""
    first = export(own, "sft", tmp_path / "first")
    again = export(own, "sft", tmp_path / "again", Options(at=first.snapshot))
    own.append("evidence", [run("later", "t1", "a later answer")], producer="test", sequence=2)
    own.append("scores", [verdict("good-1", "t1", "rejected", scorer="human")], producer="test", sequence=2)
    late = export(own, "sft", tmp_path / "late", Options(at=first.snapshot))
    now = export(own, "sft", tmp_path / "now")
    assert contents(tmp_path / "first") == contents(tmp_path / "again") == contents(tmp_path / "late")
    assert first == again == late
    assert now.snapshot != first.snapshot
    assert "good-1" not in {row["source_run_id"] for row in lines(tmp_path / "now")}


def test_a_large_lake_gives_the_same_bytes_in_pieces(exports, filled, tmp_path, monkeypatch):
    """An export that goes through the tasks range by range is byte for byte the one that takes them at once."""
    folder, made = exports
    ranges = Relations._ranges
    monkeypatch.setattr(Relations, "_ranges", lambda self, block_bytes: ranges(self, 500))
    assert {one.dataset: one for one in export_all(filled, tmp_path / "out")} == made
    assert contents(tmp_path / "out") == contents(folder)


@pytest.mark.parametrize("form", ["jsonl.gz", "jsonl.zst", "parquet"])
def test_every_format_holds_the_same_rows(exports, filled, tmp_path, form):
    """Compressed lines are the plain lines, and Parquet has the same rows with types."""
    folder, _ = exports
    export(filled, "sft", tmp_path / "out", Options(format=form))
    [path] = (tmp_path / "out" / "data").iterdir()
    if form == "parquet":
        rows = pq.read_table(path).to_pylist()
        assert isinstance(rows[0]["created_at"], datetime)
        stamp = "%Y-%m-%dT%H:%M:%S.%fZ"
        assert [{**row, "created_at": row["created_at"].strftime(stamp)} for row in rows] == lines(folder / "sft")
    else:
        data = path.read_bytes()
        plain = (
            gzip.decompress(data)
            if form == "jsonl.gz"
            else zstandard.ZstdDecompressor().decompressobj().decompress(data)
        )
        assert plain == next((folder / "sft" / "data").iterdir()).read_bytes()


def test_provenance_can_be_left_out(filled, tmp_path):
    """Without provenance a row is its id and what a trainer reads."""
    export(filled, "sft", tmp_path / "sft", Options(provenance=False, shape="prompt-completion"))
    export(filled, "preference", tmp_path / "pairs", Options(provenance=False, shape="plain"))
    [row] = [row for row in lines(tmp_path / "sft") if row["completion"] == "the first answer"]
    assert list(row) == ["id", "prompt", "completion"]
    assert row["prompt"] == "Do t1."
    assert list(lines(tmp_path / "pairs")[0]) == ["id", "prompt", "chosen", "rejected"]


def test_the_instruction_shape_has_its_fields(filled, tmp_path):
    """The instruction shape has instruction, context and response, and the context may be empty."""
    export(filled, "sft", tmp_path / "out", Options(shape="instruction"))
    row = lines(tmp_path / "out")[0]
    assert {"instruction", "context", "response", "source_run_id", "quality_score", "provenance"} <= row.keys()
    assert row["context"] == ""


def test_a_policy_reaches_the_rows(filled, tmp_path):
    """What a policy lets in is in, what it caps is capped, and the receipt says so."""
    policy = Policy(include_partial=True, pairs_per_task=1)
    made = {one.dataset: one for one in export_all(filled, tmp_path / "out", Options(policy=policy))}
    assert {row["category"] for row in lines(tmp_path / "out" / "sft")} == {"accepted", "partially_accepted"}
    assert made["preference"].counts.exported == 2
    assert made["sft"].policy["include_partial"]
    card = (tmp_path / "out" / "sft" / "README.md").read_text()
    assert "--policy FOLDER/receipt.json" in card


def test_a_dry_run_writes_nothing(own, tmp_path):
    """A dry run gives the receipt that the export will have, and touches neither disk nor lake."""
    before = contents(Path(own.uri))
    planned = export(own, "sft", tmp_path / "out", Options(dry_run=True))
    assert not (tmp_path / "out").exists()
    assert contents(Path(own.uri)) == before
    assert export(own, "sft", tmp_path / "out") == planned


def test_progress_counts_rows(filled, tmp_path):
    """Progress is told the rows so far, and ends with all of them."""
    seen = []
    made = export(filled, "rag", tmp_path / "out", None, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (made.rows, None)


def test_an_export_is_never_overwritten(filled, tmp_path):
    """Where there is anything already, nothing is written; an empty folder is as good as none."""
    (tmp_path / "out").mkdir()
    export(filled, "sft", tmp_path / "out")
    before = contents(tmp_path)
    with pytest.raises(UsageError, match="there is an export here already"):
        export(filled, "rag", tmp_path / "out")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="no folder"):
        export(filled, "rag", tmp_path / "file")
    with pytest.raises(UsageError, match="something here already"):
        export(filled, "rag", tmp_path)
    assert contents(tmp_path) == {**before, "file": b"mine"}


def test_what_appears_meanwhile_stays(filled, tmp_path):
    """If another export takes the name while this one works, that one stays and this one fails without a trace."""
    out = tmp_path / "out"

    def meanwhile(done: int, total: int | None) -> None:
        out.mkdir(exist_ok=True)
        (out / "theirs").write_text("theirs")

    with pytest.raises(LakeError, match="something here already"):
        export(filled, "sft", out, None, meanwhile)
    assert contents(tmp_path) == {"out/theirs": b"theirs"}
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_that_cannot_be_made_is_an_error(filled, tmp_path):
    """A target below a file is refused in plain words."""
    (tmp_path / "file").write_text("")
    with pytest.raises(LakeError, match=r"Not a directory|File exists"):
        export(filled, "sft", tmp_path / "file" / "out")


@pytest.mark.parametrize(
    ("dataset", "options"),
    [
        ("none", Options()),
        ("sft", Options(shape="round")),
        ("rag", Options(shape="plain")),
        ("sft", Options(format="csv")),
    ],
)
def test_what_there_is_not_is_refused(filled, tmp_path, dataset, options):
    """An unknown dataset, shape or format is a wrong use, and leaves nothing behind."""
    with pytest.raises(UsageError) as refusal:
        export(filled, dataset, tmp_path / "out", options)
    assert refusal.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_shape_that_no_dataset_has_is_refused_for_all(filled, tmp_path):
    """Exporting all takes a shape that at least one of them has."""
    with pytest.raises(UsageError, match="no dataset has the shape 'round'"):
        export_all(filled, tmp_path / "out", Options(shape="round"))


def test_an_unknown_state_is_refused(filled, tmp_path):
    """A reference to no snapshot, or to rules that the lake does not keep, leaves nothing behind."""
    with pytest.raises(UnknownRef):
        export(filled, "sft", tmp_path / "out", Options(at="nothing-like-it"))
    with pytest.raises(UnknownRef):
        export(filled, "sft", tmp_path / "out", Options(views="0" * 64))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dataset", DATASETS)
def test_an_empty_lake_exports_no_rows(lake, tmp_path, dataset):
    """A lake without events gives a dataset without rows, whole in every other way."""
    one = export(lake, dataset, tmp_path / "out")
    assert one.counts.considered == 0
    assert lines(tmp_path / "out") == []
    assert receipt.read(tmp_path / "out") == one


def test_what_nothing_was_considered_for_is_left_out_of_all(lake, tmp_path):
    """Of all datasets, those without a record get no folder; where that is all of them, nothing is written."""
    for options in (Options(), Options(dry_run=True)):
        with pytest.raises(LakeError, match="nothing to export"):
            export_all(lake, tmp_path / "none", options)
    assert not (tmp_path / "none").exists()
    lake.append("evidence", [run("alone", "t1", "an answer")], producer="test", sequence=1)
    made = export_all(lake, tmp_path / "out")
    assert {one.dataset for one in made} == {path.name for path in (tmp_path / "out").iterdir()}
    assert all(one.counts.considered for one in made)
    assert made == export_all(lake, tmp_path / "dry", Options(dry_run=True))


def test_older_rules_know_no_later_dataset(filled, tmp_path):
    """Under the rules of its day a lake has the datasets of its day; another is refused by name."""
    older = {name: text for name, text in sources().items() if name != "preference"}
    views = filled.put_object(dumps(older))
    with pytest.raises(UsageError, match="no dataset 'preference'"):
        export(filled, "preference", tmp_path / "out", Options(views=views))


CHAT = [
    {"role": "user", "content": "What is the weather?"},
    {"role": "assistant", "content": "Sunny \u2028 today"},
]
CALLS = [
    {"role": "user", "content": "What is the weather?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "1", "function": {"name": "look", "arguments": {"in": ["Paris", 1.50, {"deep": None}]}}}],
    },
    {"role": "tool", "tool_call_id": "1", "content": "sunny"},
    {"role": "assistant", "content": "It is sunny."},
]


def chat(lake: Lake, run_id: str, messages: list[dict[str, object]], extra: str | None = None) -> None:
    """Append an accepted conversation, its JSON spread over lines."""
    text = json.dumps(messages, indent=1, ensure_ascii=False)
    evidence = run(run_id, "chat", None, messages=text, prompt=None, extra=extra)
    lake.append("evidence", [evidence], producer=run_id, sequence=1)
    lake.append("scores", [verdict(run_id, "chat", "accepted")], producer=run_id, sequence=1)


def test_conversations_keep_their_turns(own, tmp_path):
    """A conversation of roles and texts is exported turn by turn, in columns where the format has them."""
    chat(own, "talk", CHAT)
    export(own, "sft", tmp_path / "lines")
    export(own, "sft", tmp_path / "parquet", Options(format="parquet"))
    [row] = [row for row in lines(tmp_path / "lines") if row["source_run_id"] == "talk"]
    assert row["messages"] == CHAT
    table = pq.read_table(tmp_path / "parquet" / "data")
    assert [row["messages"] for row in table.to_pylist()] == [row["messages"] for row in lines(tmp_path / "lines")]
    assert "tools" not in row


def test_tool_calls_are_kept_unchanged(own, tmp_path):
    """Turns with keys of their own come out key for key, in every format, beside plain ones."""
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    chat(own, "calls", CALLS, extra=json.dumps({"tools": tools}))
    export(own, "sft", tmp_path / "lines")
    export(own, "sft", tmp_path / "parquet", Options(format="parquet"))
    rows = {row["source_run_id"]: row for row in lines(tmp_path / "lines")}
    assert rows["calls"]["messages"] == CALLS
    assert rows["calls"]["tools"] == tools
    assert rows["good-2"]["messages"][1]["content"] == NASTY
    assert rows["good-2"]["tools"] is None
    table = pq.read_table(tmp_path / "parquet" / "data").to_pylist()
    assert {row["source_run_id"]: json.loads(row["messages"]) for row in table} == {
        run_id: row["messages"] for run_id, row in rows.items()
    }


KILLED = """
import sys, time
from exporters.export import export
from lake import Lake

def stop(done, total):
    print("writing", flush=True)
    time.sleep(60)

export(Lake.open(sys.argv[1]), "sft", sys.argv[2], None, stop)
"""


def test_a_killed_export_leaves_no_half(own, tmp_path):
    """An export that is killed in the middle leaves nothing at its place, and the next one sweeps up after it."""
    out = tmp_path / "sets" / "out"
    program = [sys.executable, "-c", KILLED, own.uri, str(out)]
    with subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"writing\n"
        [scratch] = out.parent.iterdir()
        assert scratch.name.startswith(".out.")
        with pytest.raises(KeyError):
            # Somebody works there: what they have is not swept away.
            export(own, "rag", out, None, lambda done, total: {}[done])
        assert list(out.parent.iterdir()) == [scratch]
        os.kill(child.pid, signal.SIGKILL)
    assert not out.exists()
    export(own, "sft", out)
    assert list(out.parent.iterdir()) == [out]


def test_a_full_disk_is_an_error_and_leaves_nothing(filled, tmp_path):
    """When the disk takes no more, the export fails in plain words, and nothing is left of it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(LakeError, match="File too large"):
            export(
                filled, "rag", tmp_path / "out", None, lambda *_: resource.setrlimit(resource.RLIMIT_FSIZE, (9, hard))
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


LOADED = """
import json, sys
from datasets import load_dataset
rows = load_dataset(sys.argv[1], split="train")
print(json.dumps({"features": str(rows.features), "rows": [dict(row) for row in rows]}, default=str))
"""


@pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="datasets is not installed")
@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "jsonl.zst", "parquet"])
def test_hugging_face_datasets_reads_an_export(own, tmp_path, form):
    """`load_dataset` reads the folder as it is, with the types of the card, tool calls and all."""
    chat(own, "calls", CALLS)
    made = export(own, "sft", tmp_path / "out", Options(format=form))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", LOADED, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout)
    assert len(loaded["rows"]) == made.rows
    assert "'line': Value('int64')" in loaded["features"]
    assert {row["source_run_id"]: row["messages"] for row in loaded["rows"]}["calls"] == CALLS


def test_published_verdicts_give_the_known_counts(lake, public_data, tmp_path):
    """The public solutions of grade-school maths give 2 001 examples and 2 429 pairs, 588 tasks without one."""
    path = public_data / "gsm8k" / "example_model_solutions.jsonl"
    evidence, scores = [], []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        question = json.loads(line)
        for model in ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"):
            names = (f"{model}-{number:04d}", f"task-{number:04d}")
            said = {"model": model, "prompt": question["question"]}
            evidence.append(run(*names, question[model]["solution"], **said))
            scores.append(verdict(*names, "accepted" if question[model]["is_correct"] else "rejected"))
    lake.append("evidence", evidence, producer="test", sequence=1)
    lake.append("scores", scores, producer="test", sequence=1)
    made = {one.dataset: one.counts for one in export_all(lake, tmp_path / "out", Options(dry_run=True))}
    assert (made["sft"].exported, made["sft"].quarantined) == (2001, 3275)
    assert made["preference"].exported == 2429
    assert made["preference"].tasks_without_pair == 588


def test_filling_is_known(lake):
    """The lake that these tests export holds a run of every fate."""
    fill(lake)
    assert set(lake.read("scores").column("category").to_pylist()) == {
        "accepted",
        "partially_accepted",
        "rejected",
        "needs_human_review",
    }
