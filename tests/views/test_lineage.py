"""Why a row is where it is, and which event moved it."""

import pytest

from lake import Lake
from lake.errors import UnknownRef, UsageError
from tests.views import world
from views import Policy, connect, diff, sources, why


class Story:
    """A real lake that is appended to step by step."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.told = 0

    def tell(self, kind, *rows):
        """Append events and pin what then is."""
        self.told += 1
        self.lake.append(kind, list(rows), producer="test", sequence=self.told)
        return self.lake.pin()

    def newest(self, kind):
        """The id of the newest event of a kind."""
        return self.lake.read(kind)["event_id"].to_pylist()[-1]


@pytest.fixture
def story(lake: Lake) -> Story:
    """A task with two runs, one accepted and one rejected."""
    story = Story(lake)
    story.tell("tasks", world.task())
    story.tell(
        "evidence",
        world.run("r1", text="good", recorded_at=world.at(1), source=world.place("runs.jsonl", 1)),
        world.run("r2", text="bad", recorded_at=world.at(2), source=world.place("runs.jsonl", 2)),
    )
    story.tell(
        "scores", world.score("r1", recorded_at=world.at(3)), world.score("r2", "rejected", recorded_at=world.at(4))
    )
    return story


def whats(steps):
    return [step.what for step in steps]


def test_the_life_of_a_run_is_told_in_order(story):
    """A run's steps are its events, down to file and line, and then what was decided of them."""
    steps = why(connect(story.lake.pin(), threads=1), "r1")
    told = ["task", "evidence", "score", "verdict", "sft", "rag", "preference", "pair"]
    assert [what for what in whats(steps) if what in told] == told
    assert "kto" in whats(steps)
    assert [step.step for step in steps] == list(range(1, len(steps) + 1))
    assert (steps[1].source_file, steps[1].source_line, steps[1].recorded_at) == ("runs.jsonl", 1, world.at(1))
    assert "r2" in steps[-1].detail


def test_every_name_of_a_thing_leads_to_it(story):
    """A run answers to its own id, to that of each of its events, and to those of its exported rows."""
    con = connect(story.lake.pin(), threads=1)
    told = why(con, "r1")
    sft, rag, evidence, score = con.execute(
        "select sft.id, rag.id, sft.event_id, sft.score_event_id from sft inner join rag using (event_id)"
    ).fetchone()
    for ref in (sft, rag, evidence, score):
        assert why(con, ref) == told
    (task_event,) = con.execute("select event_id from tasks").fetchone()
    assert why(con, task_event) == why(con, "t1")
    assert whats(why(con, "t1")) == ["task", "runs", "runs", "pair", "grpo"]
    con = connect(story.tell("tasks", world.task("t2", tests="assert f(1) == 2")), threads=1)
    (exported,) = con.execute("select id from grpo").fetchone()
    assert why(con, exported) == why(con, "t2")
    assert exported in why(con, "t2")[-1].detail


def test_a_pair_is_explained_by_both_of_its_runs(story):
    """A pair's steps are the events and verdicts of its two runs, then the pair."""
    con = connect(story.lake.pin(), threads=1)
    (pair,) = con.execute("select id from preference").fetchone()
    steps = why(con, pair)
    assert [step.run_id for step in steps if step.what == "verdict"] == ["r1", "r2"]
    assert steps[-1].detail.startswith(f"{pair}: chosen over r2")


def test_what_was_withdrawn_is_still_told(story):
    """A withdrawn run's life has its evidence, the withdrawal with its reason, and no example."""
    pinned = story.tell("retractions", world.retraction("run", "r1", reason="leaked", actor="ann"))
    steps = why(connect(pinned, threads=1), "r1")
    assert whats(steps) == ["retraction", "task", "evidence", "score"]
    assert "leaked" in steps[0].detail
    assert "ann" in steps[0].detail
    assert whats(why(connect(pinned, threads=1), story.newest("retractions"))) == ["retraction"]


def test_a_refusal_is_told_with_all_of_its_errors(story):
    """A run that a dataset refuses says every reason; a superseded event says that it is."""
    pinned = story.tell("evidence", world.run("r1", text=" ", recorded_at=world.at(9), source=None))
    details = [step.detail for step in why(connect(pinned, threads=1), "r1") if step.what == "sft"]
    assert "quarantined: missing_provenance, empty_content" in details
    assert "superseded" in whats(why(connect(pinned, threads=1), "r1"))


def test_a_reject_is_told(story):
    """A reject's id tells what was wrong and where."""
    row = {"kind": "evidence", "reader": "native", "reason": "not_json", "errors": ["a", "b"], "raw": "{"}
    pinned = story.tell("rejects", {**row, "source": world.place("runs.jsonl", 7)})
    (step,) = why(connect(pinned, threads=1), story.newest("rejects"))
    assert (step.what, step.source_line) == ("reject", 7)
    assert "not_json: a; b" in step.detail


@pytest.mark.parametrize("ref", ["nobody", "sft-0123456789abcdef", "pref-0123456789abcdef", "", "' or 1=1 --"])
def test_an_unknown_id_is_an_unknown_ref(story, ref):
    """What nothing answers to is refused with a hint."""
    with pytest.raises(UnknownRef):
        why(connect(story.lake.pin(), threads=1), ref)


def test_a_changed_verdict_moves_the_row_and_is_named(story):
    """After a new verdict, diff names the rows that left, and the score that did it; before and after, nothing else."""
    before = story.lake.pin()
    after = story.tell("scores", world.score("r1", "rejected", scorer="human", recorded_at=world.at(5)))
    changes = list(diff(before, after))
    assert {(change.dataset, change.change, change.run_id) for change in changes} == {
        ("sft", "left", "r1"),
        ("rag", "left", "r1"),
        ("preference", "left", "r1"),
        ("kto", "changed", "r1"),
    }
    assert {(change.cause, change.event_id) for change in changes} == {("score", story.newest("scores"))}
    assert {change.source_file for change in changes} == {"scores.jsonl"}
    assert list(diff(before, before)) == list(diff(after, after)) == []
    assert {change.change for change in diff(after, before, "sft")} == {"entered"}


CAUSES = [
    ("evidence", lambda: world.run("r1", text="better", recorded_at=world.at(9)), {"changed"}, "evidence"),
    ("tasks", lambda: world.task(description="Do it well.", recorded_at=world.at(9)), {"changed"}, "task"),
    ("retractions", lambda: world.retraction("source", "runs.jsonl"), {"left"}, "retraction"),
    ("retractions", lambda: world.retraction("task", "t1"), {"left"}, "retraction"),
]


@pytest.mark.parametrize(("kind", "row", "turns", "cause"), CAUSES)
def test_each_kind_of_event_is_named_as_a_cause(story, kind, row, turns, cause):
    """Whatever event moves an sft row is the one that diff gives."""
    before = story.lake.pin()
    changes = list(diff(before, story.tell(kind, row()), "sft"))
    assert {change.change for change in changes} == turns
    assert {(change.cause, change.event_id) for change in changes} == {(cause, story.newest(kind))}


def test_a_withdrawn_withdrawal_is_named(story):
    """Withdrawing a retraction brings the row back, and diff says so."""
    before = story.tell("retractions", world.retraction("run", "r1"))
    after = story.tell("retractions", world.retraction("event", story.newest("retractions"), reason="a mistake"))
    (change,) = diff(before, after, "sft")
    assert (change.change, change.cause) == ("entered", "retraction")
    assert "a mistake" in change.detail


def test_a_change_of_rules_is_told_from_a_change_of_facts(story):
    """Where no event moved a row, the cause is the rules."""
    pinned = story.lake.pin()
    stricter = {**sources(), "rag": sources()["rag"] + "and role = 'nobody'\n"}
    (change,) = diff(pinned, pinned, "rag", policy=Policy(), sql=(sources(), stricter))
    assert (change.change, change.cause, change.event_id) == ("left", "rules", None)


def test_an_unknown_dataset_is_refused(story):
    """A dataset that is none is a usage error."""
    with pytest.raises(UsageError):
        list(diff(story.lake.pin(), story.lake.pin(), "sfd"))
