"""The scorer `final-answer`."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.scorers.final_answer import FinalAnswer, Options, inside_braces, normalised
from ingest.scorers.scorer import NotScored
from lake.errors import UsageError

TASK = {"answer": "1,234"}


def category(text, task=None, **options):
    return FinalAnswer(Options(**options))({"text": text}, task or TASK).category


@pytest.mark.parametrize(
    "text",
    [
        "A: 1234",
        "So it is\nA: $1,234.\n",
        "#### 1234",
        "Answer: 1234",
        "Final Answer: 1234 ",
        "A: 3\nNo.\nA: 1234",
        "hence \\boxed{1234}.",
        "hence \\boxed{1,234",
        "A: 1,234.\nThat is all",
    ],
)
def test_the_last_answer_is_compared_without_commas_dollars_and_full_stop(text):
    """In whatever marker it comes."""
    assert category(text) == "accepted"


@pytest.mark.parametrize(
    "text",
    ["A: 1235", "A: 1234\nA: 5", "1234", "", "A: \n1234", "A: 1234.0", "DNA: 1234", "a: 1234", "A: 1 egg", "\\boxed{}"],
)
def test_any_other_answer_is_rejected(text):
    """Also one that is missing, was cut off, or follows something that only looks like a marker."""
    assert category(text) == "rejected"


def test_a_missing_answer_may_be_for_a_person():
    """If the options say so."""
    assert category("no idea", unanswered="needs_human_review") == "needs_human_review"
    assert category("A:", unanswered="needs_human_review") == "needs_human_review"
    assert category("A: 5", unanswered="needs_human_review") == "rejected"


def test_markers_are_the_users_choice():
    """The one that comes last counts, the longest of those that begin at one place."""
    assert category("Antwort = 1234", markers=("Antwort =",)) == "accepted"
    assert category("A: 1234", markers=("Antwort =",)) == "rejected"
    assert category("A:: 1234", markers=("A:", "A::")) == "accepted"


@pytest.mark.parametrize("markers", [(), ("",)])
def test_some_marker_is_needed(markers):
    """And none of them empty."""
    with pytest.raises(UsageError):
        Options(markers=markers)


@pytest.mark.parametrize("task", [None, {"answer": None}, {"answer": " . "}])
def test_a_task_without_an_answer_is_not_scored(task):
    """There is nothing to compare with."""
    assert isinstance(FinalAnswer()({"text": "A: 1"}, task), NotScored)


def test_the_last_turn_counts_where_there_is_no_text():
    """Messages are read as well, plain or in parts."""
    turns = [{"role": "assistant", "content": "A: 1234"}, {"role": "user", "content": "A: 5"}]
    assert FinalAnswer()({"text": None, "messages": turns}, TASK).category == "accepted"
    parts = [{"role": "assistant", "content": [{"type": "text", "text": "A: 12"}, {"type": "text", "text": "34"}]}]
    assert FinalAnswer()({"text": " ", "messages": parts}, TASK).category == "accepted"
    silent = [{"role": "assistant", "content": None}]
    assert FinalAnswer()({"text": None, "messages": silent}, TASK).category == "rejected"
    assert FinalAnswer()({"text": None}, TASK).category == "rejected"


@given(st.text())
def test_normalising_twice_changes_nothing_more_than_full_stops(answer):
    """A normalised answer has no comma, no dollar sign, no white space around it."""
    plain = normalised(answer)
    assert plain == plain.strip()
    assert not set(",$") & set(plain)
    assert normalised(plain + ".") == plain.strip()


@given(st.text(), st.text(st.characters(exclude_characters="{}")))
def test_a_balanced_answer_is_found_whole(before, inner):
    """Braces inside the box stay together."""
    text = inner + "{" + inner + "}"
    assert inside_braces(text + "}" + before) == text


def test_long_answers_are_cut_in_reasons():
    """A reason is a line, not a page."""
    verdict = FinalAnswer()({"text": "A: " + "x" * 5000}, {"answer": "y" * 5000})
    assert len(verdict.reasons[0]) < 200


def test_published_verdicts_of_gsm8k_are_met(public_data):
    """5,276 times of 5,276."""
    scorer, agreed, total = FinalAnswer(), 0, 0
    with open(public_data / "gsm8k" / "example_model_solutions.jsonl") as file:
        for problem in map(json.loads, file):
            task = {"answer": problem["ground_truth"].rpartition("A:")[2]}
            for solution in (one for one in problem.values() if isinstance(one, dict)):
                expected = "accepted" if solution["is_correct"] else "rejected"
                agreed += scorer({"text": solution["solution"]}, task).category == expected
                total += 1
    assert (agreed, total) == (5276, 5276)
