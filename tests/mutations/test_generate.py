"""Faults that a project's tests find become evidence."""

import json
import os

import pytest

from ingest.mutations import generate as rooms
from ingest.mutations import trial as trials
from ingest.mutations.generate import Options, found_in, generate, sides
from ingest.mutations.trial import LOG_CHARACTERS, Trial
from lake import Lake
from lake.errors import LakeError, UsageError
from tests.mutations.conftest import SOURCE

QUICK = Options(workers=1, limit=3, extent="snippet")


def faults(lake: Lake):
    return [row | json.loads(row["extra"]) for row in lake.read("evidence").to_pylist()]


def test_what_tests_find_is_kept_with_both_sides(lake, project):
    """Each event has the code with and without the fault, what the tests said, and where it was."""
    summary = generate(lake, project, QUICK)
    found = faults(lake)
    assert (summary.kept, summary.added, len(found)) == (3, 3, 3)
    assert summary.found == sum(summary.outcomes.values()) + summary.not_tried
    for one in found:
        assert (one["kind"], one["repo"], one["file"]) == ("mutation", "shop-project", "shop/basket.py")
        assert one["outcome"] in rooms.KEPT
        assert one["fixed_code"] in SOURCE
        assert one["buggy_code"] not in SOURCE
        assert one["error_message"]
        assert len(one["error_message"]) <= LOG_CHARACTERS
        assert str(project) not in one["error_message"]
    assert (project / "shop" / "basket.py").read_text() == SOURCE


def test_the_same_project_and_seed_give_the_same_faults(tmp_path, project):
    """In another lake, with another number of workers, event by event; another seed tries others first."""
    lakes = [Lake.create(str(tmp_path / name)) for name in ("one", "two")]
    for lake, workers in zip(lakes, (1, 2), strict=True):
        generate(lake, project, Options(workers=workers, limit=2))
    first, second = ([one["event_id"] for one in faults(lake)] for lake in lakes)
    assert first == second
    assert generate(lakes[0], project, Options(workers=1, limit=2)).added == 0
    orders = [[mutant.change for mutant in found_in(project, seed)[0]] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])


@pytest.mark.parametrize("extent", rooms.EXTENTS)
def test_both_sides_have_the_same_extent(project, extent):
    """Whole files, or the same part of both: what is outside the fault is equal, and the event says which it is."""
    for mutant in found_in(project, 0)[0]:
        buggy, fixed = sides(mutant, extent)
        changed = mutant.change.applied(mutant.text)
        before, _, after = mutant.text.partition(fixed)
        assert before + buggy + after == changed != mutant.text
        assert (fixed == mutant.text) == (extent == "file")


def test_what_no_test_notices_is_dropped(lake, project):
    """Code that nothing calls can be changed at will; such faults are counted, and never stored."""
    small = (
        "def total(prices):\n    return 238 if prices[0] > 0 else int('no')\n\n\ndef unused(a, b):\n    return a - b\n"
    )
    (project / "shop" / "basket.py").write_text(small)
    summary = generate(lake, project, Options(workers=1, limit=1000))
    assert summary.outcomes["missed"] >= 2
    assert summary.kept == sum(summary.outcomes.get(name, 0) for name in rooms.KEPT)
    assert all("return a - b" in one["buggy_code"] for one in faults(lake))


@pytest.mark.parametrize("runner", ["pytest", "unittest"])
def test_faults_that_do_not_end_or_do_not_load_are_told_apart(project, monkeypatch, runner):
    """An endless loop is a timeout, and dropped; a fault at import is unviable; the copy is as it was afterwards.

    Also where pytest is not to be had.
    """
    if runner == "unittest":
        (project / "tests" / "__init__.py").touch()
        monkeypatch.setattr(trials, "packages", tuple)
    with Trial(project, (), 1 << 30) as trial:
        trial.plugins = False
        caught = trial.changed("shop/basket.py", SOURCE.replace("price < 0", "price <= 100"), 20)
        assert (caught.outcome, "FAILURES" in caught.log) == ("caught", runner == "pytest")
        endless = SOURCE.replace("    net = 0\n", "    net = 0\n    while True: pass\n")
        assert trial.changed("shop/basket.py", endless, 2).outcome == "timeout"
        broken = trial.changed("shop/basket.py", SOURCE.replace("19", "19 / 0"), 20)
        assert (broken.outcome, "ZeroDivisionError" in broken.log) == ("unviable", True)
        assert trial.run(20).outcome == "missed"
    assert not trial.copy.exists()


def test_tests_can_change_nothing(lake, project):
    """What they do, they do to a copy that is read-only, and in a folder of their own."""
    (project / "tests" / "test_greedy.py").write_text(
        "import pathlib, tempfile, unittest\n"
        "class T(unittest.TestCase):\n"
        "    def test_it(self):\n"
        "        tempfile.TemporaryFile().write(b'mine')\n"
        f"        for place in ('shop/basket.py', {str(project / 'shop' / 'basket.py')!r}):\n"
        "            with self.assertRaises(OSError):\n"
        "                pathlib.Path(place).write_text('')\n"
    )
    with Trial(project, (), 1 << 30) as trial:
        trial.plugins = False
        assert trial.run(20).outcome == "missed"
    assert (project / "shop" / "basket.py").read_text() == SOURCE


@pytest.mark.parametrize(
    ("tests", "said"),
    [
        ("", "no tests"),
        ("import unittest\nclass T(unittest.TestCase):\n    def test_no(self): assert 0\n", "do not pass"),
    ],
)
def test_a_project_must_have_tests_that_pass(lake, project, tests, said):
    """Otherwise nothing could be told from a fault."""
    (project / "tests" / "test_basket.py").write_text(tests)
    with pytest.raises(LakeError, match=said):
        generate(lake, project, QUICK)
    assert lake.read("evidence").num_rows == 0


def test_a_project_that_cannot_be_copied_is_refused(lake, project):
    """It has what is no file, say."""
    os.mkfifo(project / "pipe")
    with pytest.raises(LakeError, match="cannot be copied"):
        generate(lake, project, QUICK)


def test_some_faults_can_always_be_tried():
    """At least one at once, however small the machine; and what Python cannot parse is no fault."""
    assert rooms._able() >= 1
    assert rooms.is_program("x = 1\n")
    assert not rooms.is_program("x = = 1\n")


def test_what_is_no_python_text_is_left_out(project, monkeypatch):
    """And counted; tests are never changed."""
    monkeypatch.setattr(rooms, "LONGEST", 10 * len(SOURCE))
    (project / "shop" / "long.py").write_text(SOURCE * 11)
    (project / "shop" / "broken.py").write_text("def f(:\n")
    (project / "shop" / "latin.py").write_bytes("x = 'é'\n".encode("latin-1"))
    mutants, files, left_out = found_in(project, 0)
    assert (files, left_out) == (5, 3)
    assert {mutant.file for mutant in mutants} == {"shop/basket.py"}


def test_what_is_not_copied_is_not_changed(project):
    """Packages that are installed inside of a project are none of its files."""
    before = found_in(project, 0)
    for folder in ("venv/lib", "shop/node_modules/one", "shop/__pycache__"):
        (project / folder).mkdir(parents=True)
        (project / folder / "other.py").write_text("one = 1 + 2\n")
    assert found_in(project, 0) == before


def test_when_the_time_is_up_the_rest_is_not_tried(lake, project):
    """What was found until then is stored, and the summary says that there is more."""
    summary = generate(lake, project, Options(workers=1, total_seconds=0.1))
    assert summary.out_of_time
    assert summary.not_tried > 0


def test_what_is_wrong_with_the_wish_is_said(lake, tmp_path):
    """No folder, and limits of nothing."""
    with pytest.raises(UsageError, match="no folder"):
        generate(lake, tmp_path / "nowhere")
    with pytest.raises(UsageError, match="above zero"):
        Options(limit=0)
