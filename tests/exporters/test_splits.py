"""Rows that are held out: by what their task says, so that no copy of a training row is among them."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.datasets import DATASETS
from exporters.export import export, verify
from exporters.plan import Options
from lake import Lake
from lake.errors import UsageError
from tests.exporters.conftest import run, verdict


def told(lake: Lake, prompts: dict[str, str], sequence: int = 1) -> None:
    """One accepted run for each task, which has this prompt."""
    runs = [run(f"r-{task}", task, f"answer of {task}", prompt=text) for task, text in prompts.items()]
    lake.append("evidence", runs, producer="test", sequence=sequence)
    scores = [verdict(f"r-{task}", task, "accepted") for task in prompts]
    lake.append("scores", scores, producer="test", sequence=sequence)


def sides(folder: Path) -> dict[str, set[str]]:
    """The tasks of each split, as its files say."""
    found = {}
    for split in ("train", "validation"):
        lines = (line for path in folder.glob(f"data/{split}-*.jsonl") for line in path.read_text().splitlines())
        found[split] = {json.loads(line)["task_id"] for line in lines}
    return found


def test_copies_are_on_one_side_and_stay_there(lake, tmp_path):
    """Tasks that ask the same, whatever their case and punctuation, go together, and new tasks move none."""
    asked = {f"t{number}": f"How much is {number // 4} and one?" for number in range(80)}
    asked |= {f"t{number}": asked[f"t{number}"].upper() + "!" for number in range(0, 80, 4)}
    told(lake, asked)
    made = export(lake, "sft", tmp_path / "one", Options(val=0.3))
    before = sides(tmp_path / "one")
    assert before["train"] | before["validation"] == asked.keys()
    assert not before["train"] & before["validation"]
    assert made.counts.splits == {split: len(tasks) for split, tasks in before.items()}
    assert all(before.values())
    for number in range(0, 80, 4):
        assert len({task in before["train"] for task in (f"t{number + i}" for i in range(4))}) == 1
    told(lake, {f"new{number}": f"Something else, {number}" for number in range(40)}, sequence=2)
    export(lake, "sft", tmp_path / "two", Options(val=0.3))
    after = sides(tmp_path / "two")
    assert before["train"] <= after["train"]
    assert before["validation"] <= after["validation"]


def test_the_share_and_the_seed_decide(lake, tmp_path):
    """About the share is held out, by another seed others are, and a larger share holds out all that a smaller does."""
    told(lake, {f"t{number}": f"question {number}" for number in range(400)})
    drawn = {}
    for name, options in {
        "tenth": Options(val=0.1),
        "half": Options(val=0.5),
        "other": Options(val=0.5, seed=7),
    }.items():
        export(lake, "sft", tmp_path / name, options)
        drawn[name] = sides(tmp_path / name)["validation"]
    assert 15 < len(drawn["tenth"]) < 75
    assert 150 < len(drawn["half"]) < 250
    assert drawn["tenth"] < drawn["half"]
    assert drawn["half"] != drawn["other"]


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_every_dataset_is_split_and_verified(filled, tmp_path, dataset, form):
    """The splits of any dataset are its rows, each once; the receipt and the card say so; it verifies."""
    whole = export(filled, dataset, tmp_path / "whole", Options(format=form))
    made = export(filled, dataset, tmp_path / "out", Options(val=0.5, format=form))
    assert sum(made.counts.splits.values()) == made.counts.exported == whole.counts.exported
    card = (tmp_path / "out" / "README.md").read_text()
    # A loader gives up on a split without rows, so the card names those that have some.
    assert re.findall(r"- split: (\w+)", card) == [name for name, rows in made.counts.splits.items() if rows] or [
        "train"
    ]
    assert verify(filled, tmp_path / "out").ok


@settings(max_examples=10)
@given(st.floats(allow_nan=True).filter(lambda share: not 0 <= share < 1))
def test_a_share_that_is_none_is_refused(share):
    """A share below nothing, of everything or more, or that is no number is refused before anything is done."""
    with pytest.raises(UsageError, match="share"):
        Options(val=share)
