"""Errors: a tree, each with a line for the reader and perhaps a hint, that travels between processes."""

import inspect
import pickle
import re

import pytest

from lake import errors

ERRORS = [error for _, error in inspect.getmembers(errors, inspect.isclass) if issubclass(error, errors.LakeError)]


@pytest.mark.parametrize("error", ERRORS)
def test_errors_travel_between_processes(error):
    """An error that a worker raised arrives with its type, message and hint."""
    arrived = pickle.loads(pickle.dumps(error("what is wrong", "what to type")))
    assert (type(arrived), arrived.message, arrived.hint, str(arrived)) == (
        error,
        "what is wrong",
        "what to type",
        "what is wrong",
    )
    assert pickle.loads(pickle.dumps(error("what is wrong"))).hint is None


def test_the_tree_is_drawn_as_it_is():
    """The drawing in the module's docstring names each error once, under its parent, and no other."""
    drawn = re.findall(r"^ *([*+-]) (\w+)", errors.__doc__, re.MULTILINE)
    assert sorted(name for _, name in drawn) == sorted(error.__name__ for error in ERRORS)
    depths = {name: mark for mark, name in drawn}
    for error in ERRORS:
        assert depths[error.__name__] == "*+-"[len(error.__mro__) - len(errors.LakeError.__mro__)]


@pytest.mark.parametrize("error", ERRORS)
def test_only_wrong_usage_exits_with_two(error):
    """A wrong option, value or reference is exit code 2, all else that fails is 1."""
    assert error.exit_code == (2 if issubclass(error, errors.UsageError) else 1)


@pytest.mark.parametrize("error", ERRORS)
def test_each_error_says_when_it_is_raised(error):
    """Each error has a docstring of one line."""
    assert error.__doc__
    assert "\n" not in error.__doc__
