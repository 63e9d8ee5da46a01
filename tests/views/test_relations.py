"""Each relation with given rows and the rows that follow from them."""

import pytest

from tests.views import world
from tests.views.world import at, place, retraction, run, score, task
from views import Policy, connect, sources
from views.connect import needed


def told(folder, query, *, policy=None, **events):
    """What a query gives over these events."""
    return connect(world.make(folder, **events), policy, sql=needed(query), threads=1).execute(query).fetchall()


def event_id(kind, row):
    return world.told(kind, [row])["event_id"][0].as_py()


GIVEN = {
    "evidence": [run("r1"), run("r2"), run("r3", "t2"), run("r4", source=place("b.jsonl"))],
    "scores": [score("r1"), score("r2"), score("r3"), score("r4")],
}


@pytest.mark.parametrize(
    ("withdrawal", "left"),
    [
        (retraction("run", "r1"), ["r2", "r3", "r4"]),
        (retraction("task", "t2"), ["r1", "r2", "r4"]),
        (retraction("source", "b.jsonl"), ["r1", "r2", "r3"]),
        (retraction("event", event_id("evidence", GIVEN["evidence"][1])), ["r1", "r3", "r4"]),
        (retraction("event", "r1"), ["r1", "r2", "r3", "r4"]),
    ],
)
def test_a_retraction_takes_what_it_names(tmp_path, withdrawal, left):
    """A withdrawal by event, run, task or source takes that and nothing else, and only by its own kind of name."""
    found = told(tmp_path, "select run_id from accepted order by all", retractions=[withdrawal], **GIVEN)
    assert [run_id for (run_id,) in found] == left


def test_a_retraction_may_be_withdrawn(tmp_path):
    """A withdrawn retraction takes nothing; withdrawing that withdrawal does not bring it back."""
    first = retraction("run", "r1")
    second = retraction("event", event_id("retractions", first))
    third = retraction("event", event_id("retractions", second))
    for number, said in enumerate(([first], [first, second], [first, second, third])):
        (count,) = told(tmp_path / str(number), "select count(*) from accepted", retractions=said, **GIVEN)[0]
        assert count == (3 if number == 0 else 4)


VERDICTS = [
    (
        "the newest version of a scorer counts, by its numbers",
        [score(scorer_version="1.9"), score("r1", "rejected", scorer_version="1.10")],
        "rejected",
        1,
        0,
    ),
    (
        "within a version the newest score counts",
        [score(recorded_at=at(2)), score("r1", "rejected", recorded_at=at(1))],
        "accepted",
        1,
        0,
    ),
    (
        "an unknown time is the oldest",
        [score(recorded_at=None), score("r1", "rejected", recorded_at=at(1))],
        "rejected",
        1,
        0,
    ),
    (
        "a person goes before a newer machine",
        [score(scorer="human"), score("r1", "rejected", recorded_at=at(9))],
        "accepted",
        2,
        1,
    ),
    (
        "among equals the most cautious wins",
        [
            score(scorer="a"),
            score("r1", "needs_human_review", scorer="b"),
            score("r1", "partially_accepted", scorer="c"),
        ],
        "needs_human_review",
        3,
        2,
    ),
]


@pytest.mark.parametrize("case", VERDICTS, ids=[row[0] for row in VERDICTS])
def test_one_verdict_counts(tmp_path, case):
    """Of several scores of a run, one is the verdict, and the scorers that disagree are counted."""
    _, scores, *expected = case
    found = told(tmp_path, "select category, scorers, dissenting from verdicts", evidence=[run()], scores=scores)
    assert found == [tuple(expected)]


def test_categories_part_the_runs(tmp_path):
    """Each run is in the relation of its verdict, and in that one alone."""
    categories = {"a": "accepted", "b": "partially_accepted", "c": "rejected", "d": "needs_human_review"}
    con = connect(
        world.make(
            tmp_path, evidence=[run(name) for name in "abcde"], scores=[score(*pair) for pair in categories.items()]
        ),
        threads=1,
    )
    relations = ("accepted", "partially_accepted", "rejected", "needs_review", "unscored")
    assert [con.execute(f"select run_id from {name}").fetchall() for name in relations] == [
        [(name,)] for name in "abcde"
    ]


def test_sft_prompts_come_from_the_run_the_task_or_their_names(tmp_path):
    """The prompt is the run's own, else the task's description and code, else a line that names the task and file."""
    found = told(
        tmp_path,
        "select source_run_id, instruction, context, response from sft order by source_run_id",
        evidence=[
            run("r1", prompt="Mine."),
            run("r2", prompt=" "),
            run("r3", "t2", source_files=["a.py", "b.py"]),
            run("r4", "t3"),
            run("r5", text=None, messages='[{"role":"user","content":"Why?"},{"role":"assistant","content":"So."}]'),
        ],
        scores=[score(f"r{number}") for number in range(1, 6)],
        tasks=[task("t1", "Old.", recorded_at=at(1)), task("t1", "Do it.", starter_code="def f():", recorded_at=at(2))],
    )
    assert found == [
        ("r1", "Mine.", "", "an answer"),
        ("r2", "Do it.\n\ndef f():", "", "an answer"),
        ("r3", "Task: t2 · file=a.py", "", "an answer"),
        ("r4", "Task: t3", "", "an answer"),
        ("r5", "Why?", "", "So."),
    ]


REFUSED = [
    ("sft", run(source=None), [score()], Policy(), ["missing_provenance"]),
    ("sft", run(role="extractor"), [score()], Policy(), ["missing_source_run_id", "category_disallowed"]),
    ("sft", run(text="\u3000\n"), [score()], Policy(), ["empty_content"]),
    ("sft", run(messages="[]"), [score()], Policy(), ["schema_violation"]),
    ("sft", run(), [score(task_id="t2")], Policy(), ["schema_violation"]),
    ("sft", run(), [score("r1", "partially_accepted")], Policy(), ["unsafe_sft_category"]),
    ("sft", run(), [score("r1", "partially_accepted")], Policy(include_partial=True), []),
    (
        "sft",
        run(),
        [score("r1", "rejected")],
        Policy(include_partial=True, include_review=True),
        ["unsafe_sft_category"],
    ),
    ("sft", run(), [score("r1", "needs_human_review")], Policy(include_review=True), ["unsafe_sft_category"]),
    ("sft", run(), [], Policy(), ["unsafe_sft_category"]),
    ("sft", run(role="verifier"), [score()], Policy(), ["category_disallowed"]),
    ("sft", run(role="reviewer"), [score()], Policy(), []),
    ("sft", run(source_files=["a", "b"]), [score()], Policy(known_files=("a",)), ["hallucinated_file_path"]),
    ("sft", run(source_files=["a", "b"]), [score()], Policy(), []),
    ("rag", run(role="verifier"), [score("r1", "partially_accepted")], Policy(), []),
    ("rag", run(), [score("r1", "needs_human_review")], Policy(), ["unsafe_rag_category"]),
    ("rag", run(), [score("r1", "needs_human_review")], Policy(include_review=True), []),
    ("rag", run(), [score("r1", "rejected")], Policy(include_review=True), ["unsafe_rag_category"]),
    ("preference", run(), [score("r1", "needs_human_review")], Policy(include_review=True), ["category_disallowed"]),
    ("preference", run(text=""), [score("r1", "rejected")], Policy(), ["empty_content"]),
    ("kto", run(), [score("r1", "needs_human_review")], Policy(include_review=True), ["needs_review"]),
    ("kto", run(), [score("r1", "partially_accepted")], Policy(include_partial=True), ["partially_accepted"]),
    ("kto", run(), [score("r1", "partially_accepted")], Policy(partial_label=False), []),
    ("kto", run(role="verifier"), [], Policy(), ["no_verdict", "category_disallowed"]),
    ("domain", run(stream="law"), [score()], Policy(domain="code"), ["other_domain"]),
    ("domain", run(stream="law"), [score("r1", "rejected")], Policy(domain="law"), ["unsafe_domain_category"]),
]


@pytest.mark.parametrize("case", REFUSED)
def test_quarantine_says_why(tmp_path, case):
    """A refused record is in quarantine with all of its errors, the first as its reason; a sound one is not."""
    dataset, evidence, scores, policy, errors = case
    query = f"select errors, reason from quarantine where dataset = '{dataset}'"
    found = told(tmp_path, query, evidence=[evidence], scores=scores, policy=policy)
    assert found == ([(errors, errors[0])] if errors else [])


def test_a_score_without_evidence_is_quarantined_for_every_dataset(tmp_path):
    """A scored run that left nothing is considered, and refused, by each dataset."""
    found = told(
        tmp_path, "select dataset, reason, record_type, record_id from quarantine order by all", scores=[score("x")]
    )
    assert {row[1:] for row in found} == {("missing_source_run_id", "run", "x")}
    assert {dataset for dataset, *_ in found} >= {"kto", "preference", "rag", "sft"}


def test_a_run_told_twice_is_exported_once(tmp_path):
    """The newest evidence of a run counts; the other is a duplicate to every dataset."""
    refused = "from quarantine where reason = 'duplicate_id' and dataset in ('preference', 'rag', 'sft')"
    query = f"select response, (select count(*) {refused}) from sft"
    evidence = [run(text="first", recorded_at=at(1)), run(text="second", recorded_at=at(2))]
    assert told(tmp_path, query, evidence=evidence, scores=[score()]) == [("second", 3)]


PAIRS = [
    ("accepted goes with rejected", ["accepted a", "rejected b", "partially_accepted c"], [("r0", "r1")], []),
    (
        "with partial only where that gives nothing",
        ["accepted a", "rejected a", "partially_accepted c"],
        [("r0", "r2")],
        [],
    ),
    ("white space makes no difference", ["accepted a", "rejected  a"], [], ["identical_texts"]),
    ("nothing is made up", ["accepted a", "accepted b"], [], ["nothing_to_set_against"]),
    ("two rejected runs are no pair", ["rejected a", "rejected b"], [], ["nothing_accepted"]),
    ("one run is no pair", ["accepted a"], [], ["one_run"]),
    ("an unscored run is no partner", ["accepted a", "needs_human_review b"], [], ["too_few_usable_runs"]),
]


@pytest.mark.parametrize(("rule", "runs", "pairs", "reasons"), PAIRS, ids=[row[0] for row in PAIRS])
def test_pairs_follow_the_rules(tmp_path, rule, runs, pairs, reasons):
    """A task's runs give the pairs that the rules allow, or a reason why there are none."""
    split = [said.split(" ", 1) for said in runs]
    pinned = world.make(
        tmp_path,
        evidence=[run(f"r{number}", text=text) for number, (_, text) in enumerate(split)],
        scores=[score(f"r{number}", category) for number, (category, _) in enumerate(split)],
    )
    con = connect(pinned, threads=1)
    assert con.execute("select chosen_run_id, rejected_run_id from preference").fetchall() == pairs
    assert [reason for (reason,) in con.execute("select reason from unpaired_tasks").fetchall()] == reasons


def test_runs_of_different_prompts_are_not_paired(tmp_path):
    """An answer to one prompt is not set against an answer to another."""
    evidence = [run("r1", text="a", prompt="p"), run("r2", text="b", prompt="q"), run("r3", text="c")]
    scores = [score("r1"), score("r2", "rejected"), score("r3", "rejected")]
    query = "select reason from unpaired_tasks"
    assert told(tmp_path, query, evidence=evidence, scores=scores) == [("no_common_prompt",)]


def test_no_run_is_paired_with_itself(tmp_path):
    """Even if two verdicts on one run got through, the run is not set against itself."""
    doubled = {**sources(), "verdicts": "select *, 1 as scorers, 0 as dissenting from scores"}
    pinned = world.make(tmp_path, evidence=[run()], scores=[score(), score("r1", "rejected", scorer="other")])
    con = connect(pinned, sql=doubled, threads=1)
    assert con.execute("select count(*) from preference").fetchone() == (0,)
    found = con.execute("select errors from quarantine where dataset = 'preference'").fetchall()
    assert found == [(["self_pairing", "invalid_preference_pairing"],)]


def test_health_is_a_funnel(tmp_path):
    """What came in, how it was judged, what came out and why the rest did not, by source."""
    found = told(
        tmp_path,
        "select stage, dataset, category, reason, records from health where source = 'runs.jsonl'"
        " and coalesce(dataset, 'rag') in ('preference', 'rag', 'sft') order by all",
        evidence=[run("r1"), run("r2", text="b")],
        scores=[score("r1"), score("r2", "rejected")],
    )
    assert found == [
        ("evidence", None, None, None, 2),
        ("exported", "preference", "accepted", None, 1),
        ("exported", "rag", "accepted", None, 1),
        ("exported", "sft", "accepted", None, 1),
        ("quarantined", "rag", None, "unsafe_rag_category", 1),
        ("quarantined", "sft", None, "unsafe_sft_category", 1),
        ("run", None, "accepted", None, 1),
        ("run", None, "rejected", None, 1),
    ]
