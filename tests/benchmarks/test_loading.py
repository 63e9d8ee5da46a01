"""The benchmarks of loading run, tiny, and say what each side took and what ours are held to."""

import pytest

from benchmarks import first_batch, loader, resume
from tests.trainers.launching import python
from trainers.shards import Shards

ASKED = ["--rows", "120", "--times", "1", "--data"]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "loader",
            ["packed shards", "a memory map, laid out before", "M tokens/s", "without litdata", "bar: at least 0.7 ×"],
        ),
        (
            "first_batch",
            ["with its files on disk", "shards are built", "shards are there", "there, of what is allowed"],
        ),
    ],
)
def test_a_benchmark_of_loading_prints_both_sides_and_the_bar(name, lines, tmp_path, benchmark):
    """Each runs at any size, leaves nothing behind, and says what it is held to."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    said = benchmark(name, *ASKED, tmp_path, "--alone")
    for line in lines:
        assert line in said
    assert [path for path in tmp_path.iterdir() if path.name.startswith("scratch-")] == []


def test_a_benchmark_is_a_script_whose_sides_are_processes(tmp_path):
    """Run by its name, each side in a process of its own, it says the same."""
    said = python("-m", "benchmarks.resume", *ASKED, tmp_path, "--steps", 50).out
    for line in ["at 90 % of the epoch", "reading through", "at step 50", "bar: at most 1.2 ×"]:
        assert line in said
    assert list(tmp_path.iterdir()) == []


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
