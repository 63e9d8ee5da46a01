"""What cargo-mutants found becomes evidence too."""

import difflib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.mutations.cargo import Stale, applied, collect, is_results
from ingest.mutations.generate import Options
from lake.errors import LakeError

SOURCE = """\
pub fn add(a: i32, b: i32) -> i32 {
    a + b
}

pub fn is_big(n: i32) -> bool {
    n > 100
}
"""
FAULTS = {
    "replace add -> i32 with 0": (
        "CaughtMutant",
        SOURCE.replace("    a + b\n", "    0 /* ~ changed by cargo-mutants ~ */\n"),
    ),
    "replace > with >= in is_big": ("MissedMutant", SOURCE.replace(">", ">=")),
    "replace is_big -> bool with Default": ("Unviable", SOURCE.replace("n > 100", "Default::new()")),
    "replace > with < in is_big": ("Timeout", SOURCE.replace("n >", "n <")),
}
LOG = (
    "*** run in /tmp/cargo-mutants-adder-x1.tmp\n     Running `rustc`\ntest tests::adds ... FAILED\nfinished in 0.01s\n"
)


def diff(before: str, after: str) -> str:
    return "".join(difflib.unified_diff(before.splitlines(True), after.splitlines(True), "src/lib.rs", "a change"))


@pytest.fixture
def results(tmp_path):
    """A Rust project as `cargo mutants` leaves it."""
    folder = tmp_path / "adder" / "mutants.out"
    for name in ("log", "diff"):
        (folder / name).mkdir(parents=True)
    (tmp_path / "adder" / "src").mkdir()
    (tmp_path / "adder" / "src" / "lib.rs").write_text(SOURCE)
    outcomes = [{"scenario": "Baseline", "summary": "Success", "log_path": "log/baseline.log", "phase_results": []}]
    for number, (name, (summary, changed)) in enumerate(FAULTS.items()):
        (folder / "log" / f"{number}.log").write_text(LOG)
        (folder / "diff" / f"{number}.diff").write_text(diff(SOURCE, changed))
        mutant = {"name": f"src/lib.rs:2:5: {name}", "file": "src/lib.rs", "genre": "FnValue", "package": "adder"}
        outcomes.append(
            {
                "scenario": {"Mutant": mutant},
                "summary": summary,
                "log_path": f"log/{number}.log",
                "diff_path": f"diff/{number}.diff",
            }
        )
    (folder / "outcomes.json").write_text(json.dumps({"outcomes": outcomes, "total_mutants": len(FAULTS)}))
    return folder


def stored(lake):
    return {one["outcome"]: one for one in (json.loads(row["extra"]) for row in lake.read("evidence").to_pylist())}


@pytest.mark.parametrize("extent", ["file", "snippet"])
def test_what_was_caught_or_did_not_compile_is_kept(lake, results, extent):
    """Both sides whole or both the lines that the diff shows, with the project's name and the file's."""
    assert is_results(results)
    summary = collect(lake, results, Options(extent=extent))
    assert summary.outcomes == {"caught": 1, "missed": 1, "timeout": 1, "unviable": 1}
    assert (summary.kept, summary.added) == (2, 2)
    one = stored(lake)["caught"]
    changed = FAULTS["replace add -> i32 with 0"][1]
    assert (one["repo"], one["file"], one["language"], one["extent"]) == ("adder", "src/lib.rs", "rust", extent)
    before, _, after = SOURCE.partition(one["fixed_code"])
    assert before + one["buggy_code"] + after == changed
    assert (one["fixed_code"] == SOURCE) == (extent == "file")
    assert "FAILED" in one["error_message"]
    assert "/tmp/" not in one["error_message"]
    assert collect(lake, results, Options(extent=extent)).added == 0


def test_a_fault_of_another_text_is_stale(lake, results):
    """Where the project has changed since, or a file is gone, there is no pair, and it is counted."""
    (results.parent / "src" / "lib.rs").write_text(SOURCE.replace("a + b", "b + a"))
    (results / "diff" / "2.diff").unlink()
    summary = collect(lake, results)
    assert (summary.outcomes["stale"], summary.kept) == (2, 0)


def test_only_files_of_the_project_are_read(lake, results, tmp_path):
    """Results that name a place outside, by a path or by a link, bring nothing from there into the lake."""
    (tmp_path / "private.log").write_text("a secret")
    (results / "log" / "0.log").unlink()
    (results / "log" / "0.log").symlink_to(tmp_path / "private.log")
    said = (results / "outcomes.json").read_text()
    (results / "outcomes.json").write_text(said.replace("log/2.log", "../../private.log"))
    summary = collect(lake, results)
    assert (summary.outcomes["stale"], summary.kept) == (2, 0)


def test_the_limit_holds_and_the_seed_chooses(lake, results):
    """As for faults that are made here."""
    assert collect(lake, results, Options(limit=1, dry_run=True)).kept == 1
    assert lake.read("evidence").num_rows == 0


@pytest.mark.parametrize("text", ["{", '{"outcomes": [{"scenario": {"Mutant": {}}, "summary": 1}]}'])
def test_what_is_no_result_is_said_to_be_none(lake, results, text):
    """With the file's name."""
    (results / "outcomes.json").write_text(text)
    with pytest.raises(LakeError, match=r"outcomes\.json"):
        collect(lake, results)


LINES = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "\n", "{\n"]), min_size=1, max_size=20)


@given(LINES, LINES)
def test_a_diff_is_applied_as_it_was_made(before, after):
    """Whatever the two texts are; both sides that it shows are parts of them."""
    first, second = "".join(before), "".join(after)
    if first == second:
        with pytest.raises(Stale):
            applied(first, diff(first, second))
        return
    sides = applied(first, diff(first, second))
    assert sides.whole == second
    assert sides.before in first
    assert sides.after in second
