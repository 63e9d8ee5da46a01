"""Shards, as they are typed."""

import json
import subprocess
import sys

import pytest

from tests.exporters.small_tokenizer import TEXTS, write

transformers = pytest.importorskip("transformers")

RUN = """
method = "pretrain"
out = "run"
[data]
snapshot = "first"
val = 0.3
[model]
path = "model"
[[stages]]
rows = 2
length = 64
[optimizer]
learning_rate = 1e-3
"""


@pytest.fixture
def settings(run, tmp_path):
    """A run's settings, beside a lake of documents and a model's tokenizer."""
    write(tmp_path / "model", ["<|pad|>", "<|end|>"], {"eos_token": "<|end|>", "pad_token": "<|pad|>"})
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "pad_token": "<|pad|>"}
    (tmp_path / "model/tokenizer_config.json").write_text(json.dumps(config))
    rows = [
        {"run_id": f"doc-{n}", "task_id": f"doc-{n}", "kind": "document", "role": "other", "text": f"{text} {n}"}
        for n, text in enumerate(TEXTS * 4)
    ]
    (tmp_path / "documents.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run("init").code == 0
    assert run("ingest", "evidence", tmp_path / "documents.jsonl").code == 0
    assert run("snapshot", "create", "--name", "first").code == 0
    (tmp_path / "run.toml").write_text(RUN)
    return tmp_path / "run.toml"


def test_shards_are_built_and_shown(run, settings):
    """One command builds them and says what became of the rows; again it finds them; another proves them."""
    ran = run("shards", "build", settings, "--format", "json")
    assert ran.code == 0, ran.err
    splits = json.loads(ran.out)
    assert [one["split"] for one in splits] == ["train", "validation"]
    assert sum(one["rows"] for one in splits) == len(TEXTS * 4)
    assert "train: " in ran.err
    again = run("shards", "build", settings, "--format", "json")
    assert again.out == ran.out
    [folder] = (settings.parent / "shards").iterdir()
    assert {one["key"] for one in splits} == {folder.name}
    shown = run("shards", "show", folder, "--prove", "--format", "json")
    assert (shown.code, shown.out) == (0, ran.out)
    table = run("shards", "show", folder / "train")
    assert "text_tokens" in table.out
    assert "validation" not in table.out
    path = folder / "train/text.tokens.npy"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    damaged = run("shards", "show", folder, "--prove")
    assert damaged.code == 1
    assert "text.tokens.npy" in damaged.err
    assert run("shards", "show", folder).code == 0
    assert run("shards", "show", settings.parent).code == 2


def test_what_cannot_be_built_is_said(run, settings):
    """The newest state, a snapshot that is none, and shards that are there already: what to type instead."""
    for typed, hint in (
        (RUN.replace('"first"', '"latest"'), "snapshot"),
        (RUN.replace('"first"', '"second"'), "snapshot list"),
        (RUN.replace('snapshot = "first"', 'built = "shards"').replace("val = 0.3", ""), "shards show"),
    ):
        settings.write_text(typed)
        ran = run("shards", "build", settings)
        assert ran.code == 2
        assert hint in ran.err.split("hint:")[1]
    assert not (settings.parent / "shards").exists()


def test_showing_shards_takes_no_torch(run, settings):
    """Looking at shards imports neither torch nor transformers."""
    assert run("shards", "build", settings).code == 0
    [folder] = (settings.parent / "shards").iterdir()
    program = f"""
import sys
from cli.app import main
code = main(["shards", "show", {str(folder)!r}])
print(code, sorted({{"torch", "transformers"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"
