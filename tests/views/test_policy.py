"""The policy is read strictly."""

import pytest

from lake.errors import UsageError
from views import Policy


def test_a_policy_survives_json():
    """What to_json writes, from_json reads back the same."""
    policy = Policy(include_partial=True, pairs_per_task=3, precedence=("ann", "bob"), known_files=("a.py",))
    assert Policy.from_json(policy.to_json()) == policy


BAD = [
    '{"include_partial": 1}',
    '{"pairs_per_task": 0}',
    '{"pairs_per_task": 5000}',
    '{"precedence": ["a", "a"]}',
    '{"include_rejected": true}',
    '{"known_files": "a.py"}',
    "{",
]


@pytest.mark.parametrize("text", BAD)
def test_a_policy_that_is_none_is_refused(text):
    """An unknown field, a wrong type or value is a UsageError with a hint."""
    with pytest.raises(UsageError) as refusal:
        Policy.from_json(text)
    assert refusal.value.hint


def test_a_policy_is_refused_when_made_too():
    """Values are checked however the policy comes to be."""
    with pytest.raises(UsageError):
        Policy(pairs_per_task=0)
    with pytest.raises(UsageError):
        Policy(precedence=("a", "a"))
