"""Scoring a lake: what is asked, what is stored, and what is not told twice."""

import json
import multiprocessing
import signal
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingest import scoring
from ingest.scorers import registry
from ingest.scorers.final_answer import FinalAnswer
from ingest.scorers.final_answer import Options as FinalAnswerOptions
from ingest.scorers.relation import Relation
from ingest.scorers.scorer import BadVerdict, NotScored, Verdict
from ingest.scoring import Options, score
from lake import Lake
from lake.errors import UsageError
from views import connect, needed


class Length:
    """Accepts texts of even length; a scorer of the simplest kind."""

    name = "length"
    version = "1"
    digest = None
    uses_task = False
    workers = 1

    def __init__(self, **fields):
        self.seen = []
        self.__dict__.update(fields)

    def __call__(self, evidence, task):
        self.seen.append(evidence["run_id"])
        if evidence["text"] is None:
            return NotScored("there is no text")
        length = len(evidence["text"])
        category = "rejected" if length % 2 else "accepted"
        return Verdict(category, (f"{length} characters",), length / 10, {"length": length})


def runs(count, start=0):
    return [{"run_id": f"r{n}", "task_id": f"t{n % 3}", "text": "x" * n} for n in range(start, start + count)]


def scores(lake, scorer="length"):
    return [row for row in lake.read("scores").to_pylist() if row["scorer"] == scorer]


def verdicts(lake):
    question = "select run_id, category from verdicts"
    with connect(lake.snapshot(), sql=needed(question)) as con:
        return dict(con.sql(question).fetchall())


def test_what_is_not_scored_is_scored_once(lake, tell):
    """Every run gets one verdict, and a second scoring adds nothing, asks nothing."""
    tell("evidence", *runs(10), {"run_id": "none", "task_id": "t0", "text": None})
    scorer = Length()
    summary = score(lake, scorer)
    assert (summary.scorer, summary.version) == ("length", "1")
    assert (summary.considered, summary.added) == (11, 10)
    assert summary.categories == {"accepted": 5, "rejected": 5}
    assert summary.not_scored == {"there is no text": 1}
    again = score(lake, scorer)
    assert (again.considered, again.added) == (1, 0)
    assert len(scores(lake)) == 10
    assert verdicts(lake)["r3"] == "rejected"


def test_a_score_says_where_it_comes_from(lake, tell):
    """Scorer, version, reasons, figures, and the evidence and task that it was made from."""
    tell("tasks", {"task_id": "t", "answer": "5"})
    tell("evidence", {"run_id": "r", "task_id": "t", "text": "A: 5"})
    before = datetime.now(UTC)
    score(lake, FinalAnswer())
    (row,) = scores(lake, "final-answer")
    assert before <= row["recorded_at"] <= datetime.now(UTC)
    assert row["source"]["file"] == "scorer:final-answer@1"
    assert len(row["source"]["sha256"]) == 64
    assert json.loads(row["extra"]) == {
        "evidence": lake.read("evidence")["event_id"][0].as_py(),
        "task": lake.read("tasks")["event_id"][0].as_py(),
    }
    assert (row["category"], row["score"], row["task_id"]) == ("accepted", 1.0, "t")
    assert row["reasons"] == ["the answer is 5"]


def test_new_evidence_is_scored_and_the_rest_is_not(lake, tell):
    """Only what has come since."""
    scorer = Length()
    tell("evidence", *runs(4))
    score(lake, scorer)
    tell("evidence", *runs(2, start=4))
    assert score(lake, scorer).added == 2
    assert sorted(scorer.seen) == [f"r{n}" for n in range(6)]


def test_evidence_told_anew_is_scored_anew(lake, tell):
    """A run whose newest evidence says something else gets a verdict on that, which is the one that counts."""
    tell("evidence", {"run_id": "r", "task_id": "t", "text": "x", "recorded_at": datetime(2026, 1, 1, tzinfo=UTC)})
    score(lake, Length())
    tell("evidence", {"run_id": "r", "task_id": "t", "text": "xx", "recorded_at": datetime(2026, 1, 2, tzinfo=UTC)})
    assert score(lake, Length()).added == 1
    assert verdicts(lake) == {"r": "accepted"}


def test_a_changed_task_is_a_reason_to_score_again(lake, tell):
    """For a scorer that looks at it, and for no other."""
    tell("evidence", {"run_id": "r", "task_id": "t", "text": "A: 5"})
    tell("tasks", {"task_id": "t", "answer": "4", "recorded_at": datetime(2026, 1, 1, tzinfo=UTC)})
    score(lake, FinalAnswer())
    score(lake, Length())
    assert verdicts(lake)["r"] == "rejected"
    tell("tasks", {"task_id": "t", "answer": "5", "recorded_at": datetime(2026, 1, 2, tzinfo=UTC)})
    assert score(lake, FinalAnswer()).added == 1
    assert score(lake, Length()).considered == 0
    assert verdicts(lake)["r"] == "accepted"


def test_a_new_version_scores_again_and_counts(lake, tell):
    """The verdicts of the version before stay, and count no more."""
    tell("evidence", *runs(2))
    score(lake, Length())
    turned = Length(version="2")
    turned.__class__ = type(
        "Turned", (Length,), {"__call__": lambda self, evidence, task: Verdict("rejected", ("all",))}
    )
    assert score(lake, turned).added == 2
    assert len(scores(lake)) == 4
    assert set(verdicts(lake).values()) == {"rejected"}


def test_withdrawn_evidence_is_not_scored(lake, tell):
    """Nor is a withdrawn score told again by the same version."""
    tell("evidence", *runs(3))
    tell("retractions", {"target_type": "run", "target": "r0"})
    assert score(lake, Length()).added == 2
    withdrawn = scores(lake)[0]["event_id"]
    tell("retractions", {"target_type": "event", "target": withdrawn})
    assert score(lake, Length()).considered == 0
    assert len(verdicts(lake)) == 1


def test_batches_are_committed_as_they_come(lake, tell):
    """Each is one commit, by size or by time."""
    tell("evidence", *runs(10))
    score(lake, Length(), Options(batch_rows=4))
    assert len({row["batch"] for row in scores(lake)}) == 3
    score(lake, Length(version="2"), Options(batch_seconds=0.0))
    assert len({row["batch"] for row in scores(lake)}) == 13


def test_a_limit_and_a_dry_run(lake, tell):
    """A limit scores no more than that; a dry run stores nothing and says what it would."""
    tell("evidence", *runs(10))
    dry = score(lake, Length(), Options(dry_run=True))
    assert (dry.added, sum(dry.categories.values()), len(scores(lake))) == (0, 10, 0)
    assert score(lake, Length(), Options(limit=3)).added == 3
    assert score(lake, Length(), Options(limit=99)).added == 7


def test_progress_is_told(lake, tell):
    """Up to the number of runs there are."""
    tell("evidence", *runs(5))
    told = []
    score(lake, Length(), progress=lambda done, total: told.append((done, total)))
    assert told == [(n, 5) for n in range(1, 6)]


def test_several_runs_at_once(lake, tell):
    """A scorer that allows it is asked in several threads, and each run once."""
    tell("evidence", *runs(50))
    threads = set()
    scorer = Length(workers=3)
    ask = type(scorer).__call__

    def called(self, evidence, task):
        threads.add(threading.get_ident())
        time.sleep(0.002)
        return ask(self, evidence, task)

    scorer.__class__ = type("Threaded", (Length,), {"__call__": called})
    assert score(lake, scorer).added == 50
    assert sorted(scorer.seen) == sorted(f"r{n}" for n in range(50))
    assert 1 < len(threads) <= 3


@pytest.mark.parametrize("workers", [1, 3])
def test_a_scorer_that_fails_keeps_what_was_told(lake, tell, workers):
    """Its error goes through; the batches before it are in the lake."""
    tell("evidence", *runs(20))

    def called(self, evidence, task):
        if len(self.seen) >= 10:
            raise BadVerdict("nonsense")
        return Length.__call__(self, evidence, task)

    scorer = Length(workers=workers)
    scorer.__class__ = type("Failing", (Length,), {"__call__": called})
    with pytest.raises(BadVerdict):
        score(lake, scorer, Options(batch_rows=2))
    kept = len(scores(lake))
    assert 0 < kept <= 10
    assert score(lake, Length()).added == 20 - kept


def test_a_verdict_needs_a_reason_and_a_category():
    """That are ones."""
    for category, reasons in (("fine", ("r",)), ("accepted", ()), ("accepted", ("",))):
        with pytest.raises(BadVerdict):
            Verdict(category, reasons)


def score_in_a_process(uri: str, seconds: float, start) -> None:
    start.wait()
    scorer = Length()
    ask = type(scorer).__call__
    slow = lambda self, evidence, task: time.sleep(seconds) or ask(self, evidence, task)  # noqa: E731
    scorer.__class__ = type("Slow", (Length,), {"__call__": slow})
    score(Lake.open(uri), scorer, Options(batch_rows=20))


@pytest.fixture
def spawn():
    context = multiprocessing.get_context("spawn")
    return context.Process, context.Event


def test_two_processes_tell_each_verdict_once(lake, tell, spawn):
    """Started at the same moment on the same runs, they share the work, and nothing is told twice."""
    process, event = spawn
    tell("evidence", *runs(200))
    start = event()
    both = [process(target=score_in_a_process, args=(lake.uri, 0.0005, start)) for _ in range(2)]
    for one in both:
        one.start()
    start.set()
    for one in both:
        one.join(60)
    assert [one.exitcode for one in both] == [0, 0]
    told = [row["run_id"] for row in scores(lake)]
    assert sorted(told) == sorted(f"r{n}" for n in range(200))


def test_a_killed_scoring_goes_on_where_it_was(lake, tell, spawn):
    """What was told stays told, and is not asked again."""
    process, event = spawn
    tell("evidence", *runs(100))
    start = event()
    start.set()
    one = process(target=score_in_a_process, args=(lake.uri, 0.02, start))
    one.start()
    deadline = time.monotonic() + 30
    while not scores(lake) and time.monotonic() < deadline:
        time.sleep(0.02)
    one.kill()
    one.join(30)
    assert one.exitcode == -signal.SIGKILL
    kept = len(scores(lake))
    assert 0 < kept < 100
    scorer = Length()
    assert score(lake, scorer).added == 100 - kept
    assert len(scorer.seen) == 100 - kept
    assert len(verdicts(lake)) == 100


def test_a_batch_that_another_process_came_before_is_not_asked_again(lake, tell):
    """The verdicts of a lost batch are kept for the next look, and what the other told is not told again."""
    tell("evidence", *runs(10))
    other = Length()

    def called(self, evidence, task):
        if not self.seen:
            score(lake, other, Options(limit=4))
        return Length.__call__(self, evidence, task)

    scorer = Length()
    scorer.__class__ = type("Overtaken", (Length,), {"__call__": called})
    summary = score(lake, scorer)
    assert summary.added == 6
    assert len(scorer.seen) == 10
    assert len(scores(lake)) == 10


def test_late_by_several_batches(lake, tell):
    """Also where the other process is two batches ahead by then."""
    tell("evidence", *runs(10))

    def called(self, evidence, task):
        if not self.seen:
            score(lake, Length(), Options(batch_rows=2, limit=6))
        return Length.__call__(self, evidence, task)

    scorer = Length()
    scorer.__class__ = type("Late", (Length,), {"__call__": called})
    assert score(lake, scorer).added == 4
    assert len(scores(lake)) == 10


def test_versions_told_from_a_digest_are_numbered(lake, tell):
    """Options or a text that differ make a newer version, also when they return to what they were."""
    tell("tasks", {"task_id": "t", "answer": "5"})
    tell("evidence", {"run_id": "r", "task_id": "t", "text": "So: 5"})
    plain, other = FinalAnswer(), FinalAnswer(FinalAnswerOptions(markers=("So:",)))
    versions = [score(lake, scorer).version for scorer in (plain, plain, other, other, plain, other)]
    assert versions == ["1", "1", f"1.1-{other.digest}", f"1.1-{other.digest}", "1.2-default", f"1.3-{other.digest}"]
    assert verdicts(lake) == {"r": "accepted"}
    assert len(scores(lake, "final-answer")) == 4


RULE = """-- One row per run
select run_id, case when length(text) % 2 = 0 then 'accepted' else 'rejected' end as category from runs
"""


def test_a_relation_scores(lake, tell):
    """A user's SELECT gives verdicts, of a version told from its text; an edit makes a new one."""
    tell("evidence", *runs(10))
    summary = score(lake, Relation("parity", RULE))
    assert (summary.added, summary.categories) == (10, {"accepted": 5, "rejected": 5})
    assert summary.version.startswith("0.1-")
    assert score(lake, Relation("parity", RULE)).considered == 0
    edited = score(lake, Relation("parity", RULE.replace("= 0", "= 1")))
    assert edited.version.startswith("0.2-")
    assert verdicts(lake)["r1"] == "accepted"


def test_a_relation_may_say_more(lake, tell):
    """Score, reasons and figures; a version of its own; no verdict where the category is null or the row is missing."""
    text = """
    -- version: 3
    select run_id,
        case when length(text) > 1 then 'partially_accepted' end as category,
        0.5 as score,
        ['one', 'two'] as reasons,
        {'length': length(text)} as sub_scores
    from runs
    where run_id <> 'r2'
    """
    tell("evidence", *runs(4))
    summary = score(lake, Relation("more", text))
    assert summary.version == "3"
    assert summary.not_scored == {"the relation has no verdict on it": 3}
    (row,) = scores(lake, "more")
    assert (row["score"], row["reasons"], json.loads(row["sub_scores"])) == (0.5, ["one", "two"], {"length": 3})


def test_a_relation_that_looks_at_tasks_follows_them(lake, tell):
    """It is asked again when a task changes."""
    text = "-- version: 1\nselect run_id, 'accepted' as category from runs inner join tasks using (task_id)"
    tell("evidence", *runs(1))
    assert score(lake, Relation("known", text)).added == 0
    tell("tasks", {"task_id": "t0"})
    assert score(lake, Relation("known", text)).added == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("select 1 as run", "no category and no run_id"),
        ("select run_id, 'accepted' as category from runs, range(2)", "2 rows for run r"),
        ("select run_id, 'perfect' as category from runs", "no category 'perfect'"),
        ("select run_id, 'accepted' as category, 'high' as score from runs", "on run r"),
        ("select run_id, 'accepted' as category, '{' as sub_scores from runs", "on run r"),
        ("selekt", "selekt"),
        ("", "no statement"),
        ("select run_id, nothing as category from runs", "nothing"),
        ("select 1; select 2", "2 statements"),
        ("create table x as select 1", "CREATE"),
        ("copy (select 1) to 'out.csv'", "COPY"),
        ("attach 'other.db'", "ATTACH"),
        ("select content as category, 'r0' as run_id from read_text('/etc/passwd')", "disabled"),
        ("select run_id, category from 'scores.csv'", "scores.csv"),
    ],
)
def test_a_relation_that_is_none_is_refused(lake, tell, text, message):
    """It may only read the views, and says one verdict a run; nothing is stored."""
    tell("evidence", *runs(2))
    with pytest.raises((UsageError, BadVerdict)) as caught:
        score(lake, Relation("wrong", text))
    assert message in caught.value.message
    assert scores(lake, "wrong") == []
    assert not Path("out.csv").exists()


def test_shipped_relations_score(lake, tell):
    """Runs without content and runs caught in a loop are rejected; others get no verdict."""
    loop = "and so on\n" * 30
    turns = json.dumps([{"role": "user", "content": "?"}, {"role": "assistant", "content": "said"}])
    tell(
        "evidence",
        {"run_id": "blank", "task_id": "t", "text": " \n"},
        {"run_id": "loop", "task_id": "t", "text": "Start\n" + loop},
        {"run_id": "fine", "task_id": "t", "text": "\n".join(f"line {n}" for n in range(50))},
        {"run_id": "turns", "task_id": "t", "messages": turns},
    )
    assert score(lake, registry.find("has-content")).added == 1
    assert score(lake, registry.find("looped-text")).added == 1
    assert verdicts(lake) == {"blank": "rejected", "loop": "rejected"}
    (row,) = scores(lake, "looped-text")
    assert row["reasons"] == ["one line makes up 30 of 31"]


def test_scorers_agree_or_not(lake, tell):
    """Pairs of categories with the number of runs, by each scorer's newest verdict, agreement first."""
    tell("evidence", *runs(4))
    published = [
        {"run_id": f"r{n}", "scorer": "published", "scorer_version": version, "category": category}
        for n in range(4)
        for version, category in (("1", "rejected"), ("2", "accepted"))
    ]
    tell("scores", *published)
    score(lake, Length())
    with connect(lake.snapshot(), sql=needed("scores scorer_versions")) as con:
        rows = scoring.agreement(con, "published", "length")
        assert scoring.agreement(con, "published", "published") == [
            {"category": "accepted", "other_category": "accepted", "runs": 4}
        ]
    assert rows == [
        {"category": "accepted", "other_category": "accepted", "runs": 2},
        {"category": "accepted", "other_category": "rejected", "runs": 2},
    ]


def test_tests_are_run_for_a_lake(lake, tell):
    """The whole way: tasks with tests, evidence, verdicts."""
    tell("tasks", {"task_id": "t", "language": "python", "tests": "assert f(1) == 2", "entry_point": "f"})
    tell(
        "evidence",
        {"run_id": "right", "task_id": "t", "text": "def f(x): return x + 1"},
        {"run_id": "wrong", "task_id": "t", "text": "def f(x): return x"},
        {"run_id": "other", "task_id": "elsewhere", "text": "def f(x): return x"},
    )
    summary = score(lake, registry.find("tests"))
    assert summary.categories == {"accepted": 1, "rejected": 1}
    assert summary.not_scored == {"the task is not known": 1}
    assert verdicts(lake) == {"right": "accepted", "wrong": "rejected"}


def test_gsm8k_is_scored_as_published(lake, tell, public_data):
    """2,001 accepted and 3,275 rejected, each as the published verdict has it."""
    tasks, evidence, published = [], [], []
    with open(public_data / "gsm8k" / "example_model_solutions.jsonl") as file:
        for n, problem in enumerate(map(json.loads, file)):
            tasks.append({"task_id": f"t{n}", "answer": problem["ground_truth"].rpartition("A:")[2].strip()})
            for model, solution in problem.items():
                if isinstance(solution, dict):
                    run = {"run_id": f"t{n}:{model}", "task_id": f"t{n}"}
                    evidence.append({**run, "text": solution["solution"], "model": model})
                    category = "accepted" if solution["is_correct"] else "rejected"
                    published.append({**run, "scorer": "published", "scorer_version": "1", "category": category})
    for kind, rows in (("tasks", tasks), ("evidence", evidence), ("scores", published)):
        tell(kind, *rows)
    assert score(lake, registry.find("final-answer")).categories == {"accepted": 2001, "rejected": 3275}
    with connect(lake.snapshot(), sql=needed("scores scorer_versions")) as con:
        rows = scoring.agreement(con, "published", "final-answer")
    assert {(row["category"], row["other_category"]): row["runs"] for row in rows} == {
        ("accepted", "accepted"): 2001,
        ("rejected", "rejected"): 3275,
    }
