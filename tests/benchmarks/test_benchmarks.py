"""The benchmarks run, on data that is made for them, and both of their sides write the same rows."""

from importlib.util import find_spec

import duckdb
import pytest

from benchmarks.generate import generate

with_library = pytest.mark.skipif(find_spec("datasets") is None, reason="compares with datasets, of the extra train")


@pytest.mark.parametrize(
    ("name", "options", "lines"),
    [
        pytest.param("convert", [], ["JSON lines to Parquet", "datasets", "bar: at most 2 ×"], marks=with_library),
        pytest.param("validate", [], ["lake validate", "a loop with json", "bar: at most 0.5 ×"], marks=with_library),
        ("ingest_new", [], ["lake ingest", "DuckDB, bare COPY", "bar: at most 2 ×"]),
        ("ingest_again", [], ["the same file again", "the first time", "bar: at most 0.02 ×"]),
        ("ingest_large", ["--into", "800"], ["400 rows into 800", "bar: at most 1.3 ×"]),
        (
            "packing",
            ["--without-trl"],
            ["exporters.packing", "greedy, in order", "fill: 0.99", "kept: 1 ×, bar: at least 1 ×, met"],
        ),
        ("replay", [], ["lake replay sample", "decoding every section", "bar: at most 1 ×"]),
        ("near_duplicates", ["--few", "50"], ["near duplicates among 400 texts", "ours", "rows/s"]),
        ("export", [], ["export sft", "export rag", "export preference", "bar: at most 1.2 ×", "bar: at least 10 ×"]),
    ],
)
def test_a_benchmark_prints_both_sides_and_the_bar(name, options, lines, tmp_path, benchmark):
    """Each benchmark runs, at any size, and says what it is held to."""
    said = benchmark(name, "--rows", 400, "--times", 1, "--data", tmp_path, *options)
    for line in lines:
        assert line in said
    assert [path for path in tmp_path.iterdir() if path.name.startswith("scratch-")] == []


def test_generated_data_is_the_same_each_time_and_continues(tmp_path):
    """A part is the same wherever it is made, and the next one shares no run and no task with it."""
    first, again, second = (generate(64, part, tmp_path / place) for part, place in ((0, "a"), (0, "b"), (1, "a")))
    assert first.evidence.read_bytes() == again.evidence.read_bytes()
    assert first.scores.read_bytes() == again.scores.read_bytes()
    query = "select count(*), count(distinct run_id), count(distinct task_id) from read_json($files)"
    counts = duckdb.execute(query, {"files": [str(first.evidence), str(second.evidence)]}).fetchone()
    assert counts == (128, 128, 16)
