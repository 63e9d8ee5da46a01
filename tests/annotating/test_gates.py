"""What the gates bar, on given events and findings; with every gate open they bar nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.annotators.text import words
from lake.errors import UsageError
from tests.views import world
from tests.views.world import place, run, score, task
from views import Policy, connect, needed
from views.gates import GATES, Quality

Row = dict[str, Any]
Faults = Callable[..., dict[str, str]]


@pytest.fixture
def faults(tmp_path: Path) -> Faults:
    """The faults of each run's record, under a policy, of a world with these events and findings by run.

    A finding is given as (annotator, run or task, label, more), and is of the run's evidence.
    """
    places = iter(range(100))

    def told(quality: Quality, *findings: tuple[str, str, str | None, Row], **events: list[Row]) -> dict[str, str]:
        folder = tmp_path / str(next(places))
        before = world.make(folder / "before", **events)
        ids = {row["run_id"]: row["event_id"] for row in before.events["evidence"]}
        ids |= {row["task_id"]: row["event_id"] for row in before.events["tasks"]}
        with connect(before, sql=needed("eval_sets")) as con:
            versions = con.sql("select eval_version from eval_sets").fetchall()
        annotations = [
            {
                "target": ids[of],
                "run_id": of if of.startswith("r") else None,
                "task_id": of,
                "annotator": annotator,
                "annotator_version": "1",
                "label": ids.get(label or "", label),
                "against": versions[0][0] if versions and annotator == "contamination" else None,
                **more,
            }
            for annotator, of, label, more in findings
        ]
        made = world.make(folder, annotations=annotations, **events)
        with connect(made, Policy(quality=quality), sql=needed("records"), threads=1) as con:
            return dict(con.sql("select run_id, faults from records order by run_id").fetchall())

    return told


def shut(*gates: str, **more: Any) -> Quality:
    return Quality(gates=gates, **more)


def found(annotator: str, of: str, label: str | None = None, **more: Any) -> tuple[str, str, str | None, Row]:
    return annotator, of, label, more


def test_open_gates_bar_nothing(faults: Faults) -> None:
    """Whatever was found of an event, it bars nothing unless the policy says so."""
    findings = [found("contamination", "r1", "overlap"), found("pii", "r1", "email"), found("language", "r1", "fr")]
    events = {"evidence": [run(), run("r2")], "tasks": [task("e", split="test")]}
    assert faults(Quality(), *findings, **events) == {"r1": "", "r2": ""}


def test_eval_tasks_and_what_overlaps_them_is_barred(faults: Faults) -> None:
    """Barred are runs that overlap an eval task, runs of such a task, and runs of a task that overlaps one."""
    events = {
        "evidence": [run("r1"), run("r2", "e"), run("r3", "t3"), run("r4"), run("r5")],
        "tasks": [task("e", split="test"), task("t3"), task("t1")],
    }
    findings = [found("contamination", "r1", "overlap"), found("contamination", "t3", "overlap")]
    findings += [found("contamination", of, "clean") for of in ("r2", "r3", "r4", "t1")]
    assert faults(shut("contamination"), *findings, **events) == {
        "r1": "contaminated",
        "r2": "contaminated",
        "r3": "contaminated",
        "r4": "",
        "r5": "contamination_unchecked",
    }


def test_a_finding_against_older_eval_tasks_counts_for_nothing(faults: Faults) -> None:
    """What was compared with other tasks than those registered now was not compared."""
    events = {"evidence": [run()], "tasks": [task("e", split="test")]}
    old = found("contamination", "r1", "clean", against="0123456789abcdef")
    assert faults(shut("contamination"), old, **events) == {"r1": "contamination_unchecked"}
    other = shut("contamination", eval_splits=("holdout",))
    assert faults(other, found("contamination", "r1", "clean"), **events) == {"r1": "contamination_unchecked"}


def test_the_newest_finding_of_the_newest_version_counts(faults: Faults) -> None:
    """An older version of an annotator, or an older finding of one, is overruled."""
    first = found("pii", "r1", "email", recorded_at=world.at(9), annotator_version="1.9")
    second = found("pii", "r1", "none", recorded_at=world.at(1), annotator_version="1.10")
    third = found("pii", "r1", "phone", recorded_at=world.at(2), annotator_version="1.10")
    assert faults(shut("pii"), first, second, evidence=[run()]) == {"r1": ""}
    assert faults(shut("pii"), first, second, third, evidence=[run()]) == {"r1": "pii"}


def test_personal_data_and_languages_are_barred_and_so_is_what_nobody_looked_at(faults: Faults) -> None:
    """A gate that knows nothing of an event stays shut for it."""
    evidence = [run("r1"), run("r2"), run("r3")]
    findings = [found("pii", "r1", "card,email"), found("pii", "r2", "none")]
    findings += [found("language", "r1", "en"), found("language", "r2", "und")]
    assert faults(shut("pii", "language", languages=("en", "zh")), *findings, evidence=evidence) == {
        "r1": "pii",
        "r2": "language_disallowed",
        "r3": "pii_unchecked,language_unchecked",
    }


LICENCES = {
    None: True,
    "": True,
    "MIT": True,
    "apache-2.0": True,
    "CC-BY-4.0": True,
    "GPL-3.0-only": False,
    "AGPL-3.0-or-later": False,
    "LGPL-2.1": False,
    "SSPL-1.0": False,
    "BUSL-1.1": False,
    "CC-BY-NC-4.0": False,
    "MIT OR GPL-2.0": True,
    "MIT AND GPL-2.0": False,
    "(MIT OR Apache-2.0) AND BSD-3-Clause": True,
    "(MIT OR GPL-2.0) AND ISC": False,
    "MIT\tAND\nGPL-2.0": False,
    "Apache-2.0 WITH LLVM-exception": True,
    "LicenseRef-Proprietary": False,
    "MITT": False,
}


def test_a_licence_that_is_named_has_to_be_allowed(faults: Faults) -> None:
    """SPDX expressions are read; one on no list is not allowed, and where none is named nothing is barred."""
    evidence = [
        run(f"r{number:02}-{key}", extra=json.dumps({key: licence}))
        for number, licence in enumerate(LICENCES)
        for key in ("licence", "license")
    ]
    barred = ["" if allowed else "licence_denied" for allowed in LICENCES.values() for _ in range(2)]
    assert list(faults(shut("licence"), evidence=evidence).values()) == barred


def test_without_an_allow_list_what_is_not_denied_passes(faults: Faults) -> None:
    """With an empty list of allowed licences, the other list alone decides."""
    rules = shut("licence", licences=(), denied_licences=("GPL",))
    evidence = [run("r1", extra='{"license": "Whatever"}'), run("r2", extra='{"license": "GPL-3.0"}')]
    assert faults(rules, evidence=evidence) == {"r1": "", "r2": "licence_denied"}


def test_a_licence_can_be_listed_by_its_whole_name(faults: Faults) -> None:
    """Either list may say GPL-2.0-only, and means that one; without the ending it means all of its kind."""
    named = ("LGPL-2.1-only", "LGPL-2.1-or-later", "GPL-2.0-only", "GPL-2.0+", "MIT")
    evidence = [run(name, extra=json.dumps({"licence": name})) for name in named]

    def barred(licences: tuple[str, ...], denied: tuple[str, ...]) -> set[str]:
        rules = shut("licence", licences=licences, denied_licences=denied)
        return {name for name, reason in faults(rules, evidence=evidence).items() if reason}

    assert barred(("LGPL-2.1-only", "MIT"), ()) == {"LGPL-2.1-or-later", "GPL-2.0-only", "GPL-2.0+"}
    assert barred(("LGPL-2.1", "MIT"), ()) == {"GPL-2.0-only", "GPL-2.0+"}
    assert barred((), ("GPL-2.0-only",)) == {"GPL-2.0-only"}
    assert barred((), ("GPL-2.0",)) == {"GPL-2.0-only", "GPL-2.0+"}


def test_answers_have_bounds(faults: Faults) -> None:
    """An answer of fewer or more words than the policy says is barred; the bounds themselves are allowed."""
    evidence = [run(f"r{count}", text=" ".join(["word"] * count)) for count in range(1, 6)]
    assert faults(shut("length", min_words=2, max_words=4), evidence=evidence) == {
        "r1": "too_short",
        "r2": "",
        "r3": "",
        "r4": "",
        "r5": "too_long",
    }
    assert faults(shut("length", min_words=6, max_words=9), evidence=[run(text="请解释这个函数")]) == {"r1": ""}


@given(st.text(alphabet=st.sampled_from("aZ09_' .,你好のกำหि가é\n"), max_size=40))
def test_the_views_count_the_words_that_the_annotators_find(text: str) -> None:
    """A word is the same thing in SQL and in Python."""
    assert COUNT.execute("select word_count(?::varchar)", [text]).fetchone() == (len(words(text)),)


COUNT = connect(world.World({kind: [] for kind in world.PIN_ORDER}, {}), sql=needed("word_count"), threads=1)


def test_of_exact_duplicates_the_first_is_kept(faults: Faults) -> None:
    """White space apart, the same answer to the same prompt is kept once: of the runs that the dataset could hold."""
    evidence = [
        run("r1", text="4 is  it", recorded_at=world.at(1)),
        run("r2", text="4 is it\n", recorded_at=world.at(2)),
        run("r3", "t2", text="4 is it", recorded_at=world.at(3)),
        run("r4", text="4 is It", recorded_at=world.at(4)),
        run("r5", text="4 is it", recorded_at=world.at(0), role="reviewer"),
        run("r6", text="4 is it", recorded_at=world.at(0)),
        run("r7", text="4 is it", recorded_at=world.at(0), source=place(None)),
    ]
    scores = [score(f"r{number}") for number in (1, 2, 3, 4, 5, 7)] + [score("r6", "rejected")]
    tasks = [task("t1"), task("t2", description="Another one.")]
    made = faults(shut("exact-duplicate"), evidence=evidence, scores=scores, tasks=tasks)
    assert made.pop("r7") == "missing_provenance"
    assert made == {f"r{number}": "" for number in range(1, 7)} | {"r2": "exact_duplicate"}


def test_of_near_copies_the_first_that_passes_is_kept(faults: Faults) -> None:
    """Where the event that was kept cannot be in the dataset, the next of its copies stands for the others."""
    evidence = [run(f"r{number}", text=f"text {number}", recorded_at=world.at(number)) for number in range(1, 6)]
    scores = [score("r1", "rejected")] + [score(f"r{number}") for number in range(2, 6)]
    findings = [found("near-duplicate", "r1")]
    findings += [found("near-duplicate", f"r{number}", "r1", value=0.9) for number in (2, 3, 4)]
    findings += [found("pii", f"r{number}", "none") for number in (1, 3, 4, 5)] + [found("pii", "r2", "email")]
    gates = shut("near-duplicate", "pii")
    assert faults(gates, *findings, evidence=evidence, scores=scores) == {
        "r1": "",
        "r2": "pii",
        "r3": "",
        "r4": "near_duplicate",
        "r5": "near_duplicate_unchecked",
    }


def test_a_policy_names_gates_that_there_are() -> None:
    """A gate that is none, bounds that nothing is in, and no language at all are refused; the rest survives JSON."""
    for odd in ({"gates": ("nonsense",)}, {"min_words": 5, "max_words": 4}, {"gates": ("language",)}):
        with pytest.raises(UsageError):
            Quality(**odd)
    policy = Policy(quality=Quality(gates=GATES, languages=("en",), min_words=1))
    assert Policy.from_json(policy.to_json()) == policy
    with pytest.raises(UsageError, match="no policy"):
        Policy.from_json('{"quality": {"gate": []}}')
