"""Checks: what a reader says, against the kind."""

import json
import sys
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ingest.checks import Checker
from lake import KINDS
from lake.errors import InvalidRows
from lake.events import to_table

EVIDENCE = {"run_id": "r", "task_id": "t", "kind": "completion", "role": "executor"}
SCORE = {"run_id": "r", "scorer": "s", "scorer_version": "1", "category": "accepted"}


def check(kind, given):
    problems = []
    return Checker(KINDS[kind]).check(given, problems), problems


def reasons(kind, given):
    event, problems = check(kind, given)
    assert (event is None) == bool(problems)
    return [problem.reason for problem in problems]


def test_an_event_has_the_columns_of_its_kind():
    """A checked event is one that the lake takes as it is."""
    event, problems = check("evidence", {**EVIDENCE, "text": "x", "messages": [{"role": "user"}], "n": 1})
    assert problems == []
    assert to_table(KINDS["evidence"], [event]).num_rows == 1


def test_everything_that_is_wrong_is_found():
    """Not only the first problem is reported."""
    given = {"task_id": " ", "kind": "Completions", "role": 3, "text": ["x"], "source_files": ["a", 1], "messages": {}}
    assert reasons("evidence", given) == [
        *("missing_field", "blank_field", "unknown_value", "wrong_type", "wrong_type", "wrong_type", "wrong_type"),
    ]


def test_the_nearest_value_is_named():
    """A value outside its list is answered with the one that was probably meant."""
    _, problems = check("scores", {**SCORE, "category": "Acepted"})
    assert "did you mean 'accepted'?" in problems[0].message
    _, problems = check("scores", {**SCORE, "category": "zzz"})
    assert "did you mean" not in problems[0].message


def test_keys_without_a_column_go_to_extra():
    """Unknown keys are kept as JSON text beside what `extra` held, in the order of their names."""
    event, _ = check("evidence", {**EVIDENCE, "z": {"b": 1, "a": 2}, "extra": {"k": None}})
    assert event["extra"] == '{"k":null,"z":{"b":1,"a":2}}'
    event, _ = check("evidence", {**EVIDENCE, "z": 1, "extra": {"z": 2}})
    assert json.loads(event["extra"]) == {"z": 1, "extra": {"z": 2}}
    event, _ = check("evidence", {**EVIDENCE, "extra": '{"k": 1}'})
    assert event["extra"] == '{"k":1}'
    event, _ = check("evidence", EVIDENCE)
    assert event["extra"] is None
    assert reasons("evidence", {**EVIDENCE, "extra": "x"}) == ["not_json", "wrong_type"]
    assert reasons("evidence", {**EVIDENCE, "other": {1, 2}}) == ["wrong_type"]


def test_json_columns_take_values_or_their_text():
    """Messages are the same whether they come as a list or, from a table, as the text of one."""
    messages = [{"role": "assistant", "tool_calls": [{"z": 1, "a": 2.0}]}]
    as_value, _ = check("evidence", {**EVIDENCE, "messages": messages})
    as_text, _ = check("evidence", {**EVIDENCE, "messages": json.dumps(messages, indent=2)})
    assert as_value["messages"] == as_text["messages"] == '[{"role":"assistant","tool_calls":[{"z":1,"a":2.0}]}]'
    assert reasons("scores", {**SCORE, "sub_scores": [1]}) == ["wrong_type"]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02 03:04:05.5", datetime(2026, 1, 2, 3, 4, 5, 500000, tzinfo=UTC)),
        ("2026-01-02T03:04:05+02:00", datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC)),
        ("2026-01-02", datetime(2026, 1, 2, tzinfo=UTC)),
        (datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)),
        (None, None),
    ],
)
def test_times_are_utc(text, moment):
    """A time is read as ISO 8601; one without a zone is UTC; a missing one stays unknown."""
    event, _ = check("evidence", {**EVIDENCE, "recorded_at": text})
    assert event["recorded_at"] == moment


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("yesterday", "bad_time"),
        ("1969-12-31T23:59:59Z", "bad_time"),
        ("9999-12-31T23:59:59-14:00", "bad_time"),
        ("2026-02-30", "bad_time"),
        (1767225600, "wrong_type"),
    ],
)
def test_what_is_no_time_is_refused(value, reason):
    """No time is guessed."""
    assert reasons("evidence", {**EVIDENCE, "recorded_at": value}) == [reason]


def test_a_time_finer_than_microseconds_is_kept_as_it_was_written():
    """The column holds microseconds, and `extra` the text that says more."""
    event, _ = check("evidence", {**EVIDENCE, "recorded_at": "2026-01-02T03:04:05.123456789Z"})
    assert event["recorded_at"].microsecond == 123456
    assert json.loads(event["extra"]) == {"recorded_at": "2026-01-02T03:04:05.123456789Z"}


@pytest.mark.parametrize(
    ("score", "reason"),
    [
        (True, "wrong_type"),
        ("0.5", "wrong_type"),
        (2**53 + 1, "number_out_of_range"),
        (10**400, "not_finite"),
        (float("nan"), "not_finite"),
    ],
)
def test_a_score_that_cannot_be_kept_exactly_is_refused(score, reason):
    """No number is rounded."""
    assert reasons("scores", {**SCORE, "score": score}) == [reason]


def test_blank_means_the_same_here_and_in_the_lake():
    """Every text that the lake's own check calls blank is refused before, for all of Unicode."""
    characters = [chr(point) for point in range(sys.maxunicode + 1) if not 0xD800 <= point < 0xE000]
    trimmed = pc.utf8_trim_whitespace(pa.array(characters)).to_pylist()
    blank = [character for character, rest in zip(characters, trimmed, strict=True) if not rest]
    assert [character for character in blank if character.strip()] == []
    assert reasons("evidence", {**EVIDENCE, "run_id": "".join(blank)}) == ["blank_field"]


@pytest.mark.parametrize("kind", ["evidence", "scores", "tasks"])
def test_what_is_checked_the_lake_takes(kind):
    """An event without a required column is refused here as it is there."""
    with pytest.raises(InvalidRows):
        to_table(KINDS[kind], [{}])
    assert "missing_field" in reasons(kind, {})
