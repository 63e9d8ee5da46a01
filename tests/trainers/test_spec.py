"""What a run's settings may say, and what a user is told of what they may not."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from lake.errors import UsageError
from trainers import reading, spec, starting

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def settings(**changes: Any) -> dict[str, Any]:
    """Settings that are right, with whatever a test changes: tables are changed key by key."""
    said: dict[str, Any] = {
        "method": "sft",
        "out": "runs/a",
        "data": {"snapshot": "abc"},
        "model": {"path": "m"},
        "stages": [{"rows": 4, "length": 128}],
        "optimizer": {"learning_rate": 1e-3},
    }
    for key, value in changes.items():
        said[key] = {**said.get(key, {}), **value} if isinstance(value, dict) else value
    return said


def parse(**changes: Any) -> spec.RunSpec:
    """Those settings, read."""
    return reading.parse(settings(**changes), "run.toml", Path("/somewhere"))


@pytest.mark.parametrize("method", spec.METHODS)
def test_the_file_to_begin_with_is_a_run_of_its_method(method: Any) -> None:
    """What `--init` prints is read as it is, and with every line that is commented out made one that holds."""
    text = starting.text(method)
    assert reading.parse(tomllib.loads(text), "run.toml", Path("/somewhere")).method == method
    for key in ("snapshot", "learning_rate", "rows"):
        assert f"\n{key} = " in text


@pytest.mark.parametrize("method", spec.METHODS)
def test_every_example_is_a_run(method: str) -> None:
    """There is an example of each method, and its settings hold."""
    assert reading.read(EXAMPLES / f"{method}.toml", method).method == method


def test_what_a_file_to_begin_with_says_holds_without_it() -> None:
    """A line that is commented out has the value that holds where it is not said."""
    text = starting.text("sft")
    shown = [line.removeprefix("# ") for line in text.splitlines()[1:]]
    whole = tomllib.loads("\n".join(line for line in shown if "…" not in line))
    del whole["lora"]  # without the table whole weights are trained
    assert reading.parse(whole, "x", Path("/a")) == reading.parse(tomllib.loads(text), "x", Path("/a"))


@pytest.mark.parametrize(
    ("changes", "where", "hint"),
    [
        ({"optimiser": {}}, "optimiser: there is no such key", "did you mean optimizer?"),
        (
            {"optimizer": {"learning_rat": 1}},
            "optimizer.learning_rat: there is no such key",
            "did you mean learning_rate?",
        ),
        ({"stages": [{"rows": 4, "lenght": 8}]}, "stages[0].lenght: there is no such key", "did you mean length?"),
        (
            {"stages": [{"rows": 4, "length": 8}, {"row": 4}]},
            "stages[1].row: there is no such key",
            "did you mean rows?",
        ),
        ({"max_seq_length": 4}, "max_seq_length: there is no such key", "it is stages.length"),
        ({"optimizer": {"gradient_accumulation_steps": 2}}, "optimizer.gradient_accumulation_steps", "optimizer.parts"),
        ({"zzz": 1}, "zzz: there is no such key", "the keys here are method, out, data"),
        ({"method": "sfd"}, "there is no method 'sfd'", "did you mean sft?"),
        ({"method": 5}, "there is no method 5", "it is one of"),
        ({"optimizer": {"learning_rate": "fast"}}, "optimizer.learning_rate: expected `float`", "--init"),
        ({"optimizer": {"learning_rate": 0}}, "optimizer.learning_rate: expected `float` > 0", "--init"),
        ({"data": {"val": 1.0}}, "data.val: expected `float` < 1", "--init"),
        ({"stages": []}, "stages: expected `array` of length >= 1", "--init"),
        ({"stages": [{"rows": 0, "length": 128}]}, "stages: a stage needs at least one row", None),
        ({"stages": [{"rows": 4}]}, "stages[0].length: sft packs rows", "length = 2048"),
        ({"stages": [{"rows": 3, "length": 8}], "optimizer": {"parts": 2}}, "stages[0].rows: 3 rows", "a multiple"),
        ({"stages": [{"rows": 4, "length": 8, "steps": 3, "epochs": 2}]}, "steps and epochs", "keep one"),
        ({"stages": [{"rows": 4, "length": 8}, {"rows": 4, "length": 16}]}, "more tokens in one", "the same"),
        ({"data": {"snapshot": "latest"}}, "'latest' would be another one tomorrow", "snapshot create"),
        ({"data": {"snapshot": "Current"}}, "'Current' would be another one tomorrow", "snapshot create"),
        ({"data": {"export": "e"}}, "exactly one of snapshot, export and built", "lake snapshot list"),
        ({"data": {"snapshot": None, "built": "b", "val": 0.1}}, "data.val: what is to be trained on", "leave it out"),
        ({"data": {"snapshot": None, "export": "e", "dataset": "sft"}}, "data.dataset: what is to be", "leave it out"),
        ({"data": {"longest": 5}}, "data.longest", "leave it out"),
        ({"model": {"config": "c"}}, "exactly one of path and config", None),
        ({"model": {"path": None, "config": "c"}}, "model.tokenizer: a config brings none", "tokenizer.json"),
        ({"grpo": {}}, "grpo: sft has no use for it", "leave the table out"),
        ({"preference": {"beta": 0.1}}, "preference: sft has no use for it", "leave the table out"),
        ({"method": "lora"}, "lora: adapters of which rank?", "[lora]"),
        ({"method": "dpo"}, "stages[0].length: dpo takes one example a row", "data.longest"),
    ],
)
def test_what_is_wrong_is_named_with_what_to_do(changes: dict[str, Any], where: str, hint: str | None) -> None:
    """Each mistake names the key by its dotted path, and the hint says what to write instead."""
    with pytest.raises(UsageError) as caught:
        parse(**changes)
    assert where in caught.value.message
    assert caught.value.message.startswith("run.toml: ")
    assert hint is None or hint in str(caught.value.hint)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    """No file, no text, no TOML, and another method than was asked for are each named."""
    with pytest.raises(UsageError, match="No such file") as caught:
        reading.read(tmp_path / "none.toml")
    assert "--init >" in str(caught.value.hint)
    with pytest.raises(UsageError, match="Is a directory") as caught:
        reading.read(tmp_path)
    assert "--init >" not in str(caught.value.hint)
    file = tmp_path / "run.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="UTF-8"):
        reading.read(file)
    file.write_text("method = \n")
    with pytest.raises(UsageError, match="line 1"):
        reading.read(file)
    file.write_text((EXAMPLES / "sft.toml").read_text())
    with pytest.raises(UsageError, match="it is for 'sft', and 'dpo' was asked for") as caught:
        reading.read(file, "dpo")
    assert f"lake train sft --config {file}" in str(caught.value.hint)


def test_paths_begin_at_the_file_that_says_them() -> None:
    """Relative paths become absolute; a name on the hub and a bucket stay as they are."""
    said = parse(data={"lake": "s3://bucket/lake", "shards": "made"}, model={"path": "somebody/model"})
    assert said.data.lake == "s3://bucket/lake"
    assert said.data.shards == "/somewhere/made"
    assert said.out == "/somewhere/runs/a"
    assert said.model.path == "somebody/model"
