"""The benchmarks of loading run, tiny, and say what each side took and what ours are held to."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import first_batch, loader, resume
from trainers.shards import Shards

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "options", "lines"),
    [
        (
            "loader",
            ["--alone"],
            ["packed shards", "a memory map, laid out before", "M tokens/s", "without litdata", "bar: at least 0.7 ×"],
        ),
        (
            "resume",
            ["--steps", "50"],
            ["at 90 % of the epoch", "reading through", "at step 50", "bar: at most 1.2 ×"],
        ),
        (
            "first_batch",
            ["--alone"],
            ["with its files on disk", "shards are built", "shards are there", "there, of what is allowed"],
        ),
    ],
)
def test_a_benchmark_of_loading_prints_both_sides_and_the_bar(name, options, lines, tmp_path):
    """Each runs as a script, at any size, leaves nothing behind, and says what it is held to."""
    if name != "resume":
        pytest.importorskip("torch")
        pytest.importorskip("transformers")
    command = [sys.executable, "-m", f"benchmarks.{name}", "--rows", "120", "--times", "1", "--data", str(tmp_path)]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for line in lines:
        assert line in done.stdout
    assert [path for path in tmp_path.iterdir() if path.name.startswith("scratch-")] == []


def test_the_documents_are_the_same_each_time(tmp_path):
    """What is measured with does not change from one run to another, and its masks have both kinds of tokens."""
    for name in ("one", "two"):
        loader.shards(tmp_path / name, 20)
    one, two = (Shards.open(tmp_path / name) for name in ("one", "two"))
    assert one.description == two.description
    assert 0 < one.description.trained[loader.FIELD] < one.description.tokens[loader.FIELD]


def test_a_run_goes_on_where_it_is_told_to(tmp_path):
    """A step past the end is an error, not another step: a benchmark that measured the wrong one would show it."""
    resume.prepare(str(tmp_path), 30)
    assert resume.begin(str(tmp_path), 1, 64, 9, 8) > 0
    with pytest.raises(IndexError):
        resume.begin(str(tmp_path), 1, 64, 9, 9)
    assert first_batch.from_shards(str(tmp_path), 1) > 0
