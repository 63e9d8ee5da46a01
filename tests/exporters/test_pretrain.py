"""Documents as a training set: which they are, that packing keeps all of them, and that the files say so."""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exporters import packed, packing, tokenizing
from exporters.export import export, export_all, verify
from exporters.faults import FirewallBreach
from exporters.plan import Options
from exporters.relations import OffBalance
from exporters.validate import Options as Checks
from exporters.validate import validate
from lake import Lake
from lake.errors import UnknownRef, UsageError
from tests.exporters.conftest import run, verdict
from tests.exporters.small_tokenizer import TEXTS, write
from views.connect import dumps, sources
from views.policy import Policy

EOS, PAD = "<|end|>", "<|pad|>"


def document(name: str, text: str | None, **more: object) -> dict[str, object]:
    """One document, of a task of its own."""
    return run(name, f"task-{name}", text, kind="document", role="other", prompt=None, **more)


def texts(count: int) -> dict[str, str]:
    """Documents of many lengths, some longer than a row, one that spells special tokens out, one of unknown script."""
    made = {f"doc-{n:03}": f"{TEXTS[n % len(TEXTS)]} ({n}) " * (1 + n % 11) for n in range(count)}
    return made | {"doc-001": f"{PAD}{EOS} as a text\x00 {EOS}", "doc-002": "\ufeff𓂀 ሰላም " * 200}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """A small tokenizer from a folder as a model has it."""
    folder = tmp_path_factory.mktemp("model")
    return tokenizing.load(write(folder, [PAD, EOS], {"eos_token": EOS, "pad_token": PAD}))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A lake of documents that nobody judged."""
    lake = Lake.create(str(tmp_path_factory.mktemp("corpus") / "lake"))
    rows = [document(name, text, stream="books") for name, text in texts(90).items()]
    lake.append("evidence", rows, producer="test", sequence=1)
    return lake


@pytest.fixture(scope="module")
def options(tokenizer):
    """Packed, in two lengths, with some documents held out, as NumPy files."""
    return Options(format="npy", tokenizer=tokenizer, lengths=(128, 64), val=0.2)


@pytest.fixture(scope="module")
def out(corpus, options, tmp_path_factory):
    """The corpus, packed as NumPy files."""
    folder = tmp_path_factory.mktemp("packed") / "out"
    export(corpus, "pretrain", folder, options)
    return folder


def loaded(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The rows and the pieces of one split and length, as anybody reads them."""
    rows = [np.load(path, mmap_mode="r") for path in sorted(folder.glob(f"data/{name}-*.npy"))]
    pieces = [np.load(path, mmap_mode="r") for path in sorted(folder.glob(f"data/{name}-*.pieces"))]
    assert all(isinstance(one, np.memmap) or one.size == 0 for one in [*rows, *pieces])
    first = np.cumsum([0, *(len(one) for one in rows)])
    moved = [np.array(one) for one in pieces]
    for one, before in zip(moved, first, strict=False):
        one["row"] += before
    return np.concatenate(rows), np.concatenate(moved)


def rejoined(rows: np.ndarray, pieces: np.ndarray) -> dict[str, list[int]]:
    """The ids of each document, from rows and pieces alone."""
    found: dict[str, list[int]] = {}
    for piece in np.sort(pieces, order=["document", "offset"]):
        ids = found.setdefault(piece["document"].decode(), [])
        assert piece["offset"] == len(ids)
        ids += rows[piece["row"], piece["start"] : piece["start"] + piece["length"]].tolist()
    return found


def id_of(name: str) -> str:
    """The id that a document has in the training set."""
    return f"pretrain-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def lines(folder: Path) -> list[dict[str, object]]:
    """The rows of an export in plain JSON lines."""
    texts = [path.read_text("utf-8") for path in sorted(folder.glob("data/*.jsonl"))]
    return [json.loads(line) for text in texts for line in text.splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fates(lake: Lake) -> None:
    """Documents and completions of every fate."""
    judged = {
        "good": "accepted",
        "half": "partially_accepted",
        "bad": "rejected",
        "open": "needs_human_review",
    }
    rows = [document(name, f"the text of {name}") for name in (*judged, "unjudged")]
    rows += [
        document("blank", " \u2003\n"),
        document("chat", None, messages='[{"role": "assistant", "content": "hello"}]'),
        document("nowhere", "without a source", source=None),
        document("domain", "a text", extra='{"domain": "law"}', stream="books"),
        document("stream", "another text", extra='{"domain": " "}', stream="books"),
        run("good-run", "t", "an accepted answer"),
        run("bad-run", "t", "a rejected answer"),
        run("new-run", "t", "an answer"),
    ]
    rows.append(document("pardoned", "a text after all"))
    lake.append("evidence", rows, producer="test", sequence=1)
    scores = [verdict(name, f"task-{name}", category) for name, category in judged.items()]
    scores += [verdict("good-run", "t", "accepted"), verdict("bad-run", "t", "rejected")]
    scores += [verdict("pardoned", "task-pardoned", "rejected")]
    lake.append("scores", scores, producer="test", sequence=1)
    told = lake.snapshot().read("scores", ["event_id", "run_id"]).to_pylist()
    [withdrawn] = [score["event_id"] for score in told if score["run_id"] == "pardoned"]
    lake.append("retractions", [{"target_type": "event", "target": withdrawn}], producer="test", sequence=1)


def test_documents_are_rows_unless_something_is_wrong_with_them(lake, tmp_path):
    """Documents that nobody rejected are in, judged or not; each other one has its reason; the books balance.

    A verdict that was withdrawn is none.
    """
    fates(lake)
    made = export(lake, "pretrain", tmp_path / "out")
    rows = {row["source_run_id"]: row for row in lines(tmp_path / "out")}
    assert rows.keys() == {"good", "half", "unjudged", "domain", "stream", "pardoned"}
    assert rows["pardoned"]["category"] is None
    assert rows["unjudged"]["text"] == "the text of unjudged"
    assert rows["unjudged"]["category"] is None
    assert rows["good"]["category"] == "accepted"
    assert [rows[name]["domain"] for name in ("good", "domain", "stream")] == [None, "law", "books"]
    assert made.counts.reasons == {
        "conversation_as_document": 1,
        "empty_content": 1,
        "missing_provenance": 1,
        "unsafe_pretrain_category": 2,
    }
    assert made.counts.considered == 11


def test_a_policy_lets_more_in(lake, tmp_path):
    """Accepted completions, and documents that a person has yet to look at, come in where the policy says so."""
    fates(lake)
    rules = Policy(include_completions=True, include_review=True)
    made = export(lake, "pretrain", tmp_path / "out", Options(policy=rules))
    rows = {row["source_run_id"]: row for row in lines(tmp_path / "out")}
    assert rows.keys() == {"good", "half", "open", "unjudged", "domain", "stream", "good-run", "pardoned"}
    assert rows["good-run"]["text"] == "an accepted answer"
    assert made.counts.reasons["unsafe_pretrain_category"] == 2
    assert made.counts.reasons["category_disallowed"] == 1
    assert "- include_completions: yes" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("length", [64, 128])
def test_every_token_of_every_document_is_in_the_files(corpus, out, tokenizer, length):
    """From the arrays alone each document can be put together again, and nothing else is in them but padding."""
    said = {}
    for split in ("train", "validation"):
        rows, pieces = loaded(out, f"{split}_{length}")
        assert rows.dtype == np.int32
        assert rows.shape[1] == length
        said |= rejoined(rows, pieces)
        filled = np.zeros(rows.shape, bool)
        for piece in pieces:
            filled[piece["row"], piece["start"] : piece["start"] + piece["length"]] = True
        assert (rows[~filled] == tokenizer.pad).all()
        assert (
            rows.size - filled.sum()
            == json.loads((out / "receipt.json").read_text())["counts"]["packed"][f"{split}_{length}"]["padding"]
        )
    documents = tokenizer.encode(list(texts(90).values()))
    expected = {
        id_of(name): documents.tokens[documents.offsets[place] : documents.offsets[place + 1]].tolist()
        for place, name in enumerate(texts(90))
    }
    assert said == expected


def test_rows_are_named_by_split_and_length(out):
    """`train_64` is what holds rows of 64, and each length has the same documents on the same sides."""
    names = {path.name for path in (out / "data").iterdir()}
    assert names == {
        f"{split}_{length}-00000-of-00001.{kind}"
        for split in ("train", "validation")
        for length in (64, 128)
        for kind in ("npy", "pieces")
    }
    sides = {name: set(loaded(out, name)[1]["document"]) for name in ("train_64", "train_128", "validation_64")}
    assert sides["train_64"] == sides["train_128"]
    assert not sides["train_64"] & sides["validation_64"]
    assert sides["validation_64"]


def test_copies_of_a_document_are_on_one_side_and_stay_there(lake, tokenizer, tmp_path):
    """What a document says decides its side: a copy goes with it, and documents that come later move nothing."""
    rows = [document(f"doc-{n}", f"this is document {n // 2}") for n in range(120)]
    # One task for all of them: a corpus is no task, and its documents are held out one by one.
    rows = [{**row, "task_id": "corpus"} for row in rows]
    lake.append("evidence", rows[:80], producer="test", sequence=1)
    options = Options(format="npy", tokenizer=tokenizer, lengths=(64,), val=0.3)
    export(lake, "pretrain", tmp_path / "before", options)
    lake.append("evidence", rows[80:], producer="test", sequence=2)
    export(lake, "pretrain", tmp_path / "after", options)
    found = {
        (when, split): set(loaded(tmp_path / when, f"{split}_64")[1]["document"].tolist())
        for when in ("before", "after")
        for split in ("train", "validation")
    }
    for split in ("train", "validation"):
        assert found["before", split] < found["after", split]
    held = found["after", "validation"]
    for n in range(0, 120, 2):
        assert (id_of(f"doc-{n}").encode() in held) == (id_of(f"doc-{n + 1}").encode() in held)
    assert 10 < len(held) < 70


@pytest.fixture(scope="module")
def others(corpus, options, tmp_path_factory):
    """The corpus, packed in other formats; as JSON lines without provenance."""
    folder = tmp_path_factory.mktemp("others")
    for form in ("jsonl", "parquet", "hf"):
        changed = msgspec.structs.replace(options, format=form, provenance=form != "jsonl")
        export(corpus, "pretrain", folder / form, changed)
    return folder


def test_every_format_holds_the_same_rows(out, others, tokenizer):
    """A row of columns is the row of the array, with what the pieces say: labels, positions, lengths, documents."""
    for form in ("jsonl", "parquet", "hf"):
        for name in ("train_64", "validation_128"):
            rows, pieces = loaded(out, name)
            if form == "jsonl":
                text = (others / form / f"data/{name}-00000-of-00001.jsonl").read_text()
                table = pa.Table.from_pylist([json.loads(line) for line in text.splitlines()])
            elif form == "parquet":
                table = pq.read_table(others / form / f"data/{name}-00000-of-00001.parquet")
            else:
                table = pa.ipc.open_stream(others / form / f"{name}/data-00000-of-00001.arrow").read_all()
            assert ("document_ids" in table.column_names) == (form != "jsonl")
            check_columns(table.to_pydict(), rows, pieces, tokenizer)


def check_columns(columns, rows, pieces, tokenizer):
    """What a row of columns says is what the arrays say."""
    assert columns["input_ids"] == rows.tolist()
    length = rows.shape[1]
    for number, row in enumerate(rows):
        mine = pieces[pieces["row"] == number]
        counts = mine["length"].tolist()
        used = sum(counts)
        segments = counts + [length - used] * (used < length)
        assert columns["seq_lengths"][number] == segments
        assert columns["position_ids"][number] == [place for count in segments for place in range(count)]
        wanted = row.copy()
        wanted[used:] = packing.IGNORED
        wanted[mine["start"]] = packing.IGNORED
        assert columns["labels"][number] == wanted.tolist()
        if "document_ids" in columns:
            assert columns["document_ids"][number] == [one.decode() for one in mine["document"]]
            assert columns["document_offsets"][number] == mine["offset"].tolist()
    assert tokenizer.pad not in {label for row in columns["labels"] for label in row}


@pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="datasets is not installed")
@pytest.mark.parametrize("form", ["hf", "parquet"])
def test_hugging_face_datasets_reads_packed_rows(out, others, tmp_path, form):
    """`load_dataset` reads the folder with its splits and types as the card has them, `load_from_disk` one on disk."""
    program = (
        "import json, sys; from datasets import load_dataset, load_from_disk\n"
        "read = [load_dataset(sys.argv[1])] + ([load_from_disk(sys.argv[1])] if sys.argv[2] == 'hf' else [])\n"
        "said = [[list(one), str(one['train_64'].features['input_ids']), one['train_64'][0]] for one in read]\n"
        "print(json.dumps(said))"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", program, str(others / form), form]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    for splits, feature, row in json.loads(done.stdout):
        assert splits == ["train_64", "validation_64", "train_128", "validation_128"]
        assert "int32" in feature
        assert row["input_ids"] == loaded(out, "train_64")[0][0].tolist()


def test_the_page_reads_the_files(out, others, tokenizer):
    """What the documentation tells a reader to do with NumPy alone is what the lake does itself."""
    page = Path(__file__).parents[2] / "docs" / "pretrain.md"
    [program] = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    said: dict[str, np.ndarray] = {}
    exec(program.replace("sets/pretrain", str(out)), said)
    pieces = loaded(out, "train_64")[1]
    columns = pq.read_table(others / "parquet/data/train_64-00000-of-00001.parquet").to_pydict()
    assert said["labels"].tolist() == columns["labels"]
    assert said["position_ids"].tolist() == columns["position_ids"][1]
    documents = tokenizer.encode(list(texts(90).values()))
    place = [id_of(name) for name in texts(90)].index(said["name"].decode())
    assert said["ids"].tolist() == documents.tokens[documents.offsets[place] : documents.offsets[place + 1]].tolist()
    mine = pieces[pieces["row"] == 1]
    assert said["cu_seqlens"].tolist() == [*mine["start"], mine["length"].sum()]


@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="trl is not installed")
def test_packed_documents_are_learnt_as_if_apart(others, tokenizer, tmp_path):
    """A model's loss on packed rows is that on their pieces one by one, and trainers take the rows as they are."""
    (tmp_path / "tokenizer.json").write_bytes(tokenizer.data)
    program = Path(__file__).with_name("train_packed.py")
    arguments = [others / "hf", "train_64", tmp_path / "tokenizer.json", tmp_path / "scratch"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, str(program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["together"] == pytest.approx(said["apart"], abs=1e-5)
    # Without the positions one document would see the one before it.
    assert abs(said["leaking"] - said["apart"]) > 1e-4
    assert said["plain"][0] == pytest.approx(said["sft"][0], abs=1e-5)
    assert len(said["plain"]) == len(said["sft"]) == 3


def test_an_export_is_the_same_bytes_again(corpus, options, out, tmp_path):
    """A second run writes the same files, and the lake alone can verify them: it has kept the tokenizer."""
    export(corpus, "pretrain", tmp_path / "again", options)
    assert contents(tmp_path / "again") == contents(out)
    report = verify(Lake.open(corpus.uri), out)
    assert report.ok
    assert report.files == 9


def test_verification_finds_a_changed_row(corpus, out, tmp_path):
    """One token that is another, and the folder is no longer what its snapshot gives."""
    shutil.copytree(out, tmp_path / "out")
    path = tmp_path / "out/data/train_64-00000-of-00001.npy"
    rows = np.load(path)
    rows[3, 3] += 1
    np.save(path, rows)
    assert verify(corpus, tmp_path / "out").changed == ("data/train_64-00000-of-00001.npy",)


def test_an_id_that_the_tokenizer_does_not_have_is_told(out, tokenizer, tmp_path):
    """The receipt says how many ids there are, so nobody has to; who says another number is held to that."""
    assert validate(out).ok
    copy = shutil.copytree(out, tmp_path / "copy")
    vocabulary = tokenizer.identity.vocabulary
    [file] = copy.glob("data/train_64-*.npy")
    np.load(file, mmap_mode="r+")[3, 5] = vocabulary
    told = [(one.row, one.field, one.problem) for one in validate(copy).problems if one.row is not None]
    assert told == [(4, "input_ids[5]", f"token id {vocabulary} out of vocabulary: it has {vocabulary}")]
    wider = validate(copy, options=Checks(vocabulary=vocabulary + 1))
    assert [one.row for one in wider.problems] == [None]


def test_a_tokenizer_that_the_lake_lost_is_named(corpus, options, tokenizer, tmp_path):
    """Without the tokenizer there is nothing to compare with, which is an error and no difference."""
    lake = Lake.create(str(tmp_path / "lake"))
    lake.append("evidence", [document("one", "a text")], producer="test", sequence=1)
    export(lake, "pretrain", tmp_path / "out", options)
    (tmp_path / "lake" / "objects" / tokenizer.identity.sha256).unlink()
    with pytest.raises(UnknownRef, match=tokenizer.identity.sha256):
        verify(lake, tmp_path / "out")
    [found] = lake.verify()
    assert "the tokenizer that an export was made with" in found.message
    assert [one.dataset for one in found.exports] == ["pretrain"]


def test_an_export_is_never_added_to(corpus, out, options):
    """What is there stays as it is: no run appends to it, and none skips what it finds."""
    before = contents(out)
    with pytest.raises(UsageError):
        export(corpus, "pretrain", out, options)
    with pytest.raises(UsageError):
        export(corpus, "pretrain", out, msgspec.structs.replace(options, lengths=(32,)))
    assert contents(out) == before


def test_a_dry_run_writes_nothing_and_says_the_same(corpus, options, out, tmp_path):
    """All the work is done, but neither files nor the lake change."""
    lake = Lake.create(str(tmp_path / "lake"))
    lake.append("evidence", [document("one", "a text")], producer="test", sequence=1)
    said = export(lake, "pretrain", tmp_path / "out", msgspec.structs.replace(options, dry_run=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lake"]
    assert not list((tmp_path / "lake").glob("objects/*"))
    assert said == export(lake, "pretrain", tmp_path / "out", options)


def test_large_sets_are_several_files(corpus, options, out, tmp_path, monkeypatch):
    """A file is closed before it grows too large; its pieces count its own rows; together they are the same rows.

    Nor can it be seen how many rows are made at a time.
    """
    monkeypatch.setattr(packed, "BLOCK_TOKENS", 300)
    export(corpus, "pretrain", tmp_path / "out", msgspec.structs.replace(options, file_bytes=20 * 64 * 4))
    names = sorted(path.name for path in (tmp_path / "out/data").glob("train_64-*.npy"))
    assert len(names) > 3
    assert names[-1] == f"train_64-{len(names) - 1:05d}-of-{len(names):05d}.npy"
    for name in ("train_64", "validation_128"):
        rows, pieces = loaded(tmp_path / "out", name)
        whole_rows, whole_pieces = loaded(out, name)
        assert np.array_equal(rows, whole_rows)
        assert np.array_equal(pieces, whole_pieces)


def test_a_lake_without_documents_has_no_rows(lake, options, tokenizer, tmp_path):
    """Nothing in is arrays of no rows, which can be read, and a receipt that says so."""
    made = export(lake, "pretrain", tmp_path / "out", options)
    rows, pieces = loaded(tmp_path / "out", "train_128")
    assert rows.shape == (0, 128)
    assert len(pieces) == 0
    assert made.counts.profile.recommended is None
    assert made.counts.packed["train_64"].fill == 1.0
    export(lake, "pretrain", tmp_path / "hf", msgspec.structs.replace(options, format="hf"))
    assert verify(lake, tmp_path / "hf").ok


def test_the_receipt_and_the_card_say_how_it_was_packed(corpus, out, tokenizer):
    """The tokenizer by its digest, its special tokens, and for each split and length what became of the documents."""
    said = json.loads((out / "receipt.json").read_text())
    assert said["packing"] == {
        "tokenizer": {
            "sha256": hashlib.sha256(tokenizer.data).hexdigest(),
            "vocabulary": tokenizer.identity.vocabulary,
            "specials": {"eos": EOS, "pad": PAD, "bos": None},
        },
        "lengths": [64, 128],
    }
    assert corpus.get_object(said["packing"]["tokenizer"]["sha256"]) == tokenizer.data
    assert {"numpy", "tokenizers"} <= said["versions"].keys()
    card = (out / "README.md").read_text()
    assert tokenizer.identity.sha256[:12] in card
    lengths = tokenizer.encode(list(texts(90).values())).lengths
    for name, one in said["counts"]["packed"].items():
        rows, pieces = loaded(out, name)
        assert one["rows"] == len(rows)
        assert one["pieces"] == len(pieces)
        assert one["tokens"] == pieces["length"].sum() == rows.size - one["padding"]
        assert one["fill"] == pytest.approx(one["tokens"] / rows.size, abs=1e-6)
        assert one["documents"] == len(set(pieces["document"]))
        assert one["cut"] == sum(np.unique(pieces["document"], return_counts=True)[1] > 1)
        assert f"| {name} | {one['documents']} | {one['tokens']} |" in card
    assert said["counts"]["profile"]["tokens"] == lengths.sum()
    assert said["counts"]["profile"]["percentiles"]["p50"] == np.percentile(lengths, 50, method="inverted_cdf")
    assert f"p99 {said['counts']['profile']['percentiles']['p99']}" in card


@pytest.mark.parametrize(
    ("lengths", "recommended"),
    [([3] * 100, 4), ([4] * 99 + [9000], 4), ([5] * 98 + [9000] * 2, 16384), ([1], 2), ([1 << 20], 65536), ([], None)],
)
def test_the_recommended_length_holds_almost_every_document(lengths, recommended):
    """It is the power of two at or above the length that 99 of 100 do not exceed, and never more than 65,536."""
    assert packed.profile(np.array(lengths, np.int64)).recommended == recommended


def test_a_profile_counts_as_numpy_does():
    """Percentiles are lengths that occur, and what is longer than a limit is counted strictly."""
    lengths = (np.arange(1, 3000) * 7919) % 40_000
    said = packed.profile(lengths, unknown=3)
    for name, length in said.percentiles.items():
        assert length == np.percentile(lengths, int(name[1:]), method="inverted_cdf")
    assert said.longer == {
        str(limit): int((lengths > limit).sum()) for limit in (2048, 4096, 8192, 16384, 32768, 65536)
    }
    assert (said.documents, said.tokens, said.unknown) == (2999, lengths.sum(), 3)


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (("pretrain", {"tokenizer": None, "shape": "packed"}), "by which tokenizer"),
        (("pretrain", {"lengths": ()}), "of which length"),
        (("pretrain", {"lengths": (64, 64)}), "named twice"),
        (("pretrain", {"lengths": (1,)}), "cannot hold"),
        (("pretrain", {"tokenizer": None, "lengths": ()}), "npy holds packed rows alone"),
        (("pretrain", {"tokenizer": None, "format": "jsonl"}), "by which tokenizer"),
        (("pretrain", {"shape": "text"}), "no packed rows in the shape 'text'"),
        (("sft", {}), "sft has no packed rows"),
        (("sft", {"shape": "instruction"}), "sft has no packed rows"),
    ],
)
def test_what_cannot_be_packed_is_refused(corpus, options, tmp_path, refused, message):
    """What is missing or does not fit is said before any work is done, and nothing is left behind."""
    dataset, changed = refused
    with pytest.raises(UsageError, match=message):
        export(corpus, dataset, tmp_path / "out", msgspec.structs.replace(options, **changed))
    assert list(tmp_path.iterdir()) == []


def test_all_datasets_cannot_be_packed_at_once(corpus, options, tmp_path):
    """A tokenizer is for the one dataset that has documents."""
    with pytest.raises(UsageError, match="has no packed rows"):
        export_all(corpus, tmp_path / "out", options)


NOT_REFUSED = "select * replace ('' as errors) from pretrain_checks_before"


def test_a_view_that_lets_rejected_documents_through_is_refused(lake, tokenizer, tmp_path):
    """The second layer looks at every document again, before it becomes tokens, and trusts no view."""
    fates(lake)
    rules = dict(sources())
    rules["pretrain_checks_before"] = rules["pretrain_checks"]
    rules["pretrain_checks"] = NOT_REFUSED
    known = "(category is null or category in ('accepted', 'partially_accepted', 'needs_human_review'))"
    assert known in rules["pretrain"]
    rules["pretrain"] = rules["pretrain"].replace(known, "strip(response) <> ''")
    doctored = Options(views=lake.put_object(dumps(rules)), tokenizer=tokenizer, lengths=(64,), format="npy")
    with pytest.raises(FirewallBreach, match="category 'rejected' is not allowed in pretrain"):
        export(lake, "pretrain", tmp_path / "out", doctored)
    assert not (tmp_path / "out").exists()


def test_a_view_that_hides_a_verdict_is_refused(lake, tmp_path):
    """A row that says nobody judged it is compared with the pinned scores."""
    lake.append("evidence", [document("bad", "a text"), document("well", "a text")], producer="test", sequence=1)
    lake.append("scores", [verdict("bad", "task-bad", "rejected")], producer="test", sequence=1)
    rules = dict(sources())
    rules["pretrain_checks_before"] = rules["pretrain_checks"]
    rules["pretrain_checks"] = """
        select * replace (cast(null as varchar) as category, cast(null as varchar) as score_event_id, '' as errors)
        from pretrain_checks_before
    """
    doctored = Options(views=lake.put_object(dumps(rules)))
    with pytest.raises(FirewallBreach, match="1 rows claim a verdict that no pinned score bears out"):
        export(lake, "pretrain", tmp_path / "out", doctored)


def test_documents_that_get_lost_are_missed(lake, tokenizer, tmp_path):
    """A view that drops a document without a reason puts the books off balance."""
    fates(lake)
    rules = dict(sources())
    rules["pretrain"] += "\n    and run_id <> 'good'"
    doctored = Options(views=lake.put_object(dumps(rules)), tokenizer=tokenizer, lengths=(64,), format="npy")
    with pytest.raises(OffBalance):
        export(lake, "pretrain", tmp_path / "out", doctored)
