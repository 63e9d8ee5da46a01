"""Packed rows, as they are typed."""

import hashlib
import json
import re
import shlex
from pathlib import Path

import pytest

from tests.exporters.small_tokenizer import TEXTS, write


@pytest.fixture
def documents(run, tmp_path: Path) -> Path:
    """A lake of a few documents; the folder has a model's tokenizer."""
    write(tmp_path / "model", ["<|pad|>", "<|end|>"], {"eos_token": "<|end|>", "pad_token": "<|pad|>"})
    rows = [
        {"run_id": f"doc-{n}", "task_id": f"doc-{n}", "kind": "document", "role": "other", "text": f"{text} {n}"}
        for n, text in enumerate(TEXTS * 4)
    ]
    (tmp_path / "documents.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run("init").code == 0
    assert run("ingest", "evidence", tmp_path / "documents.jsonl").code == 0
    return tmp_path


def test_packed_rows_are_written_and_made_again(run, documents):
    """One command packs into several lengths and says how full they are; the card's command makes the same bytes."""
    typed = ["--length", "64", "--length", "32", "--format", "npy", "--val", "0.3"]
    ran = run("export", "pretrain", documents / "out", "--tokenizer", documents / "model", *typed)
    assert ran.code == 0, ran.err
    assert re.search(r"train_32: \d+ rows of \d+ documents, [\d,]+ tokens; \d+\.\d\d% full", ran.err)
    card = (documents / "out/README.md").read_text()
    [command] = re.findall(r"^lake (export pretrain .*)$", card, re.MULTILINE)
    (documents / "model/tokenizer.json").unlink()
    words = [str(documents / "again") if word == "OUT" else word for word in shlex.split(command)]
    ran = run(*words)
    assert ran.code == 0, ran.err
    files = {
        folder: {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (documents / folder).rglob("*.*")}
        for folder in ("out", "again")
    }
    assert files["out"] == files["again"]
    assert run("export", "--verify", documents / "out").code == 0


def test_what_is_missing_to_pack_is_asked_for(run, documents):
    """A length, a tokenizer, the tokens of one that the lake keeps: the error says what to type."""
    model = documents / "model"
    for typed, hint in (
        (["--tokenizer", model], "--length"),
        (["--length", "64"], "say --tokenizer"),
        (["--eos", "<|end|>"], "say --tokenizer"),
        (["--bos", "none"], "say --tokenizer"),
        (["--format", "npy"], "--tokenizer"),
        (["--shape", "packed"], "--tokenizer"),
        (["--tokenizer", documents / "nowhere", "--length", "64"], "tokenizer.json"),
        (["--tokenizer", model, "--length", "64", "--eos", "<|gone|>"], "<|end|>"),
        (["--tokenizer", "0" * 64, "--length", "64"], "--eos"),
        (["--tokenizer", "0" * 64, "--length", "64", "--eos", "a", "--pad", "a"], "name a digest"),
    ):
        ran = run("export", "pretrain", documents / "out", *typed)
        assert ran.code == 2
        assert hint in ran.err.split("hint:")[1]
    assert not (documents / "out").exists()
