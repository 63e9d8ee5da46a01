"""The dataset `mutations`: faults that tests found."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.export import export
from exporters.faults import FirewallBreach
from exporters.plan import Options
from ingest.mutations.generate import Mutant, event, found_in
from ingest.mutations.generate import Options as MutateOptions
from ingest.mutations.operators import Source, changes
from ingest.mutations.trial import Ended
from lake import Lake
from views import connect, diff, needed, sources, why
from views.connect import dumps

SOURCE = "def total(prices):\n    net = 0\n    for price in prices:\n        net += price\n    return net\n"


def fault(name: str, row: dict[str, object] | None = None, **told: object) -> dict[str, object]:
    """One fault, as `lake mutate` or a file tells it; what is None is not told."""
    said: dict[str, object] = {
        "buggy_code": SOURCE.replace("+=", "-="),
        "error_message": "assert -3 == 3",
        "fixed_code": SOURCE,
        "repo": "shop",
        "file": "shop/basket.py",
        "extent": "file",
        "outcome": "caught",
        **told,
    }
    return {
        "run_id": name,
        "task_id": "shop/shop/basket.py",
        "kind": "mutation",
        "role": "other",
        "text": SOURCE,
        "source": {"file": "faults.jsonl", "line": 1, "sha256": hashlib.sha256(name.encode()).hexdigest()},
        "extra": json.dumps({key: value for key, value in said.items() if value is not None}),
        **(row or {}),
    }


FATES = {
    "good": (fault("good"), ""),
    "unviable": (fault("unviable", outcome="unviable"), ""),
    "untold": (fault("untold", outcome=None), ""),
    "snippet": (fault("snippet", extent="snippet", buggy_code="a = 2\n", fixed_code="a = 1\n"), ""),
    "liked": (fault("liked"), ""),
    "missed": (fault("missed", outcome="missed"), "fault_not_found"),
    "timeout": (fault("timeout", outcome="timeout"), "fault_not_found"),
    "no-bug": (fault("no-bug", buggy_code=" "), "missing_buggy_code"),
    "no-fix": (fault("no-fix", fixed_code=None), "missing_fixed_code"),
    "no-log": (fault("no-log", error_message=None), "missing_error_message"),
    "no-repo": (fault("no-repo", repo=None), "missing_file"),
    "no-file": (fault("no-file", file=""), "missing_file"),
    "no-extent": (fault("no-extent", extent=None), "unknown_extent"),
    "same": (fault("same", buggy_code=SOURCE + "\n"), "same_code"),
    "piece": (fault("piece", buggy_code="net -= price", fixed_code=SOURCE * 9), "extent_mismatch"),
    "no-json": (fault("no-json", {"extra": None}), "missing_buggy_code"),
    "disliked": (fault("disliked"), "unsafe_mutations_category"),
    "unsourced": (fault("unsourced", {"source": None}), "missing_provenance"),
}


def fill(lake: Lake) -> Lake:
    lake.append("evidence", [row for row, _ in FATES.values()], producer="test", sequence=1)
    verdicts = {"liked": "accepted", "disliked": "rejected"}
    scores = [
        {"run_id": name, "task_id": "shop/shop/basket.py", "scorer": "human", "scorer_version": "1", "category": said}
        for name, said in verdicts.items()
    ]
    lake.append("scores", scores, producer="test", sequence=1)
    return lake


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake with a fault of every fate."""
    return fill(Lake.create(str(tmp_path_factory.mktemp("faults") / "lake")))


@pytest.fixture
def own_faults(lake: Lake) -> Lake:
    """The same lake, for one test alone."""
    return fill(lake)


def rows(folder: Path) -> dict[str, dict[str, object]]:
    [file] = folder.glob("data/*.jsonl")
    return {row["source_run_id"]: row for row in map(json.loads, file.read_text("utf-8").splitlines())}


def test_faults_are_exported_whole_and_the_others_say_why_not(faults, tmp_path):
    """Both sides, what the tests said, and where it was; each fault is in the set or in quarantine, with its reason."""
    counts = export(faults, "mutations", tmp_path / "out").counts
    good = {name for name, (_, reason) in FATES.items() if not reason}
    assert (counts.considered, counts.exported) == (len(FATES), len(good))
    made = rows(tmp_path / "out")
    assert set(made) == good
    assert (made["good"]["repo"], made["good"]["file"], made["good"]["extent"]) == ("shop", "shop/basket.py", "file")
    assert made["good"]["buggy_code"] == SOURCE.replace("+=", "-=")
    with connect(faults.snapshot(), sql=needed("quarantine")) as connection:
        found = connection.sql("select run_id, reason from quarantine where dataset = 'mutations'").fetchall()
    assert dict(found) == {name: reason for name, (_, reason) in FATES.items() if reason}


def test_as_a_conversation_the_fault_and_the_log_are_asked_and_the_mended_code_is_told(faults, tmp_path):
    """For fine-tuning on mending; what is asked names the file and says how much of it there is."""
    export(faults, "mutations", tmp_path / "out", Options(shape="conversational"))
    asked, told = rows(tmp_path / "out")["snippet"]["messages"]
    assert (asked["role"], told["role"]) == ("user", "assistant")
    for part in ("a = 2", "assert -3 == 3", "shop/basket.py", "part of a file"):
        assert part in asked["content"]
    assert "a = 1" in told["content"]


def test_the_faults_of_a_file_are_on_one_side_of_a_split(lake, tmp_path):
    """So that what was learnt of a file is not asked about the same file."""
    told = [
        fault(f"{file}-{n}", buggy_code=f"{SOURCE}# {file} {n}\n", fixed_code=f"{SOURCE}# {file}\n", file=f"{file}.py")
        for file in range(12)
        for n in range(3)
    ]
    lake.append("evidence", told, producer="test", sequence=1)
    export(lake, "mutations", tmp_path / "out", Options(val=0.4, format="jsonl"))
    sides = {
        split: {
            json.loads(line)["file"]
            for file in tmp_path.glob(f"out/data/{split}-*")
            for line in file.read_text().splitlines()
        }
        for split in ("train", "validation")
    }
    assert sides["train"]
    assert sides["validation"]
    assert not sides["train"] & sides["validation"]


@pytest.mark.parametrize("name", ["missed", "same", "no-extent", "no-repo", "no-log"])
def test_the_second_layer_holds_alone(faults, tmp_path, name):
    """A view that lets a fault through that has no place in the set writes nothing."""
    broken = dict(sources())
    known = "where (category is null or category in ('accepted', 'partially_accepted')) and errors = ''"
    assert known in broken["mutations"]
    broken["mutations"] = broken["mutations"].replace(known, f"where run_id = '{name}'")
    with pytest.raises(FirewallBreach):
        export(faults, "mutations", tmp_path / "out", Options(views=faults.put_object(dumps(broken))))
    assert not (tmp_path / "out").exists()


def test_what_is_made_of_a_project_is_exported_as_it_was_found(lake, tmp_path):
    """From the generator's event to the row: nothing is lost on the way."""
    project = tmp_path / "shop"
    project.mkdir()
    (project / "basket.py").write_text(SOURCE)
    made = [
        event("shop", mutant, Ended("caught", "it fails", 0.1), MutateOptions(extent="snippet"))
        for mutant in found_in(project, 0)[0]
    ]
    lake.append("evidence", made, producer="test", sequence=1)
    counts = export(lake, "mutations", tmp_path / "out").counts
    assert (counts.exported, counts.quarantined) == (len(made), 0)
    expected = {one["run_id"]: json.loads(one["extra"]) for one in made}
    for name, row in rows(tmp_path / "out").items():
        assert {key: row[key] for key in ("buggy_code", "fixed_code", "repo", "file", "extent", "outcome")} == {
            key: expected[name][key] for key in ("buggy_code", "fixed_code", "repo", "file", "extent", "outcome")
        }


@given(st.sampled_from(list(changes(Source(SOURCE)))), st.sampled_from(["file", "snippet"]))
def test_an_event_says_the_same_whenever_it_is_made(change, extent):
    """It is a function of the fault and of what its tests said."""
    mutant, ended = Mutant("a.py", SOURCE, change), Ended("caught", "it fails", 0.1)
    options = MutateOptions(extent=extent)
    later = Ended("caught", "it fails", 9.0)
    assert event("shop", mutant, ended, options) == event("shop", mutant, later, options)


def test_a_row_can_be_asked_about_and_what_changed_is_known(own_faults):
    """`why` tells of the fault behind a row, and a diff says which row left the set and over what."""
    old = own_faults.pin()
    row = f"mutations-{hashlib.sha256(b'good').hexdigest()[:16]}"
    with connect(old) as connection:
        assert {step.run_id for step in why(connection, row)} >= {"good"}
    own_faults.record("retractions", {"target_type": "run", "target": "good", "reason": "it was no fault"})
    (change,) = diff(old, own_faults.pin(), "mutations")
    assert (change.change, change.id, change.cause) == ("left", row, "retraction")
