"""Which mined pairs and made-up questions are kept, and why the others are not."""

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.replay.mining import (
    MINING_REASONS,
    SIMILAR,
    SYNTHESIS_REASONS,
    THRESHOLDS,
    MadeUp,
    Sampled,
    are_similar,
    mine,
    questions_of,
    sift,
)
from ingest.replay.sections import rows_of, section_id
from lake.errors import UsageError

LONG = "The deepest lake of all is Baikal, which lies in Siberia and is very old."


def sampled(*answers, prompt="which?"):
    texts, scores = zip(*answers, strict=True)
    return Sampled(prompt, texts, scores)


def test_questions_are_asked_once():
    """Sections that are broken are skipped, and a question that came before is not asked again."""
    good = "### Q\na\n### A\nb"
    found = questions_of([good, "broken", f"{good}\n### Q\nc\n### A\nd"])
    assert found.questions == ("a", "c")
    assert found.skipped == {"duplicate_prompt": 1, "malformed_instruction": 1}
    assert found.considered == len(found.questions) + sum(found.skipped.values())


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([("yes", 1.0)], "insufficient_variety"),
        ([("yes", 1.0), (" yes\n", 0.0), ("  ", 0.5)], "insufficient_variety"),
        ([(LONG, 1.0), (LONG.replace("old", "cold"), 0.0)], "too_similar"),
        ([("yes", 0.5), ("never", 0.5)], "below_threshold"),
        ([("yes", 0.55), ("never", 0.5)], "below_threshold"),
    ],
)
def test_each_pair_that_is_not_kept_has_its_reason(answers, reason):
    """Too few answers, too much alike, or judged too much alike."""
    mined = mine([sampled(*answers)], THRESHOLDS["sway"])
    assert (mined.kept, mined.skipped) == ((), {reason: 1})


def test_a_tie_is_no_preference_under_any_threshold():
    """Equal scores prefer nothing, even where no margin is asked for."""
    assert mine([sampled(("yes", 0.5), ("never", 0.5))], 0.0).kept == ()


def test_the_pair_that_is_furthest_apart_is_kept():
    """The best margin wins, among answers that are not nearly the same text; its section is what the grammar reads."""
    answers = [("yes", 0.4), (LONG, 0.9), (LONG.replace("old", "cold"), 0.1), ("never", 0.2)]
    [pair] = mine([sampled(*answers)], 0.1).kept
    assert (pair.chosen, pair.rejected) == (LONG, "never")
    assert (pair.judge_score_chosen, pair.judge_score_rejected) == (0.9, 0.2)
    assert rows_of("preference", pair.content) == [{"prompt": "which?", "chosen": LONG, "rejected": "never"}]


def test_what_is_there_already_is_not_mined_again():
    """A pair whose section is known, and a prompt that came before, are skipped."""
    one = sampled(("yes", 1.0), ("never", 0.0))
    [pair] = mine([one], 0.1).kept
    again = mine([one], 0.1, present={section_id("preference", pair.content)})
    assert (again.kept, again.skipped) == ((), {"already_present": 1})
    assert mine([one, one], 0.1).skipped == {"duplicate_prompt": 1}


SCORES = st.floats(-10, 10)
ANSWERS = st.lists(st.tuples(st.sampled_from(["", "a", "b", "word", LONG, LONG + "!"]), SCORES), min_size=1, max_size=5)


@given(st.lists(st.tuples(st.sampled_from("pqr"), ANSWERS), max_size=6), st.sampled_from([0.0, 0.1, 1.0]))
def test_nothing_is_lost_in_mining(given_answers, threshold):
    """Considered is kept plus skipped; what is kept is preferred by the threshold at least, and is no near copy."""
    mined = mine([sampled(*answers, prompt=prompt) for prompt, answers in given_answers], threshold)
    assert mined.considered == len(given_answers) == len(mined.kept) + sum(mined.skipped.values())
    assert mined.skipped.keys() <= set(MINING_REASONS)
    for pair in mined.kept:
        assert pair.judge_score_chosen - pair.judge_score_rejected >= max(threshold, math.ulp(0.0))
        assert not are_similar(pair.chosen, pair.rejected)


def test_what_is_made_up_is_sifted_in_three_steps():
    """Copies go first, then what the judge likes no better than not knowing, then what it likes too little."""
    made = [
        MadeUp("q1", "Baikal is", 0.9, 0.1),
        MadeUp(" q1 ", "something else", 0.9, 0.1),
        MadeUp("q2", "no", 0.1, 0.1),
        MadeUp("q3", "maybe so", 0.15, 0.1),
        MadeUp("q4", LONG, 0.9, 0.1),
        MadeUp("q5", LONG, 0.9, 0.1),
    ]
    sifted = sift(made, 0.1)
    assert [one.question for one in sifted.accepted] == ["q1", "q4"]
    assert (sifted.generated, sifted.distinct, sifted.passed) == (6, 4, 3)
    assert sifted.skipped == {"below_threshold": 1, "duplicate_pair": 2, "judge_disfavored": 1}
    assert set(sifted.skipped) == set(SYNTHESIS_REASONS)


@given(st.text(max_size=30), st.text(max_size=30))
def test_likeness_has_no_direction(one, other):
    """Two texts are alike whichever comes first; a text is like itself, if there is anything in it."""
    assert are_similar(one, other) == are_similar(other, one)
    assert are_similar(one, one)
    assert 0 < SIMILAR < 1


@pytest.mark.parametrize(("judge", "threshold"), [*product([mine, sift], [math.nan, -0.1, math.inf])])
def test_a_threshold_that_is_none_is_refused(judge, threshold):
    """A threshold is a finite number of at least 0."""
    with pytest.raises(UsageError):
        judge([], threshold)


@pytest.mark.parametrize("scores", [(1.0,), (1.0, math.nan)])
def test_each_answer_has_a_score(scores):
    """As many scores as answers, finite all."""
    with pytest.raises(UsageError):
        Sampled("p", ("a", "b"), scores)
