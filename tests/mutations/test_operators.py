"""The changes that can be made to a text."""

import ast
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.mutations.operators import Source, changes


def changed(text, operator=None):
    return {change.applied(text) for change in changes(Source(text)) if operator is None or change.operator == operator}


@pytest.mark.parametrize(
    ("text", "operator", "expected"),
    [
        ("a < b\n", "comparison", {"a <= b\n"}),
        ("a <= b < c\n", "comparison", {"a < b < c\n", "a <= b <= c\n"}),
        ("(a) is  not (b)\n", "comparison", {"(a) is (b)\n"}),
        ("a not in b\n", "comparison", {"a in b\n"}),
        ("a and b and c\n", "boolean", {"a or b and c\n", "a and b or c\n"}),
        ("a  +  b\n", "arithmetic", {"a  -  b\n"}),
        ("x //= 2  # half\n", "assignment", {"x *= 2  # half\n"}),
        ("not a\n", "negation", {"a\n"}),
        ("x = 1\n", "constant", {"x = 2\n", "x = 0\n"}),
        ("x = True\n", "constant", {"x = False\n"}),
        ("x = 'é'; y = 0\n", "constant", {"x = 'é'; y = 1\n"}),
        ("range(n)\n", "range", {"range(n - 1)\n"}),
        ("range(1, n, 2)\n", "range", {"range(1, n - 1, 2)\n"}),
        ("f(a, b, c)\n", "arguments", {"f(b, a, c)\n", "f(a, c, b)\n"}),
        ("f(a, a)\n", "arguments", set()),
        ("f(*a, b)\n", "arguments", set()),
        ("if a:\n    b\n", "condition", {"if not (a):\n    b\n"}),
        ("def f():\n    return g(\n        1)\n", "return", {"def f():\n    return None\n"}),
        ("def f():\n    return None\n", "return", set()),
        ("f(\n  1)\r\ng()\r\n", "removal", {"pass\r\ng()\r\n", "f(\n  1)\r\npass\r\n"}),
        ("'''Words.'''\n", "removal", set()),
        ("f'{1 + 2}'\n", "arithmetic", set()),
    ],
)
def test_a_change_is_made_where_it_belongs(text, operator, expected):
    """And leaves everything else as it was: comments, layout, line ends, what is not ASCII."""
    assert changed(text, operator) == expected


def test_a_change_names_its_line():
    """Counted from one, as an editor does."""
    lines = {change.line for change in changes(Source("a = b\n\n\nc = d + 1\n")) if change.operator == "arithmetic"}
    assert lines == {4}


def test_a_text_that_is_no_program_has_no_changes():
    """It says so."""
    for text in ("def f(:\n", "a\0b"):
        with pytest.raises((SyntaxError, ValueError)):
            Source(text)


@given(st.data())
def test_changes_of_real_programs_are_programs(data):
    """Whatever is changed in a file of the standard library, Python can still parse it, and one stretch differs."""
    library = Path(sysconfig.get_path("stdlib"))
    name = data.draw(st.sampled_from(["bisect.py", "textwrap.py", "fractions.py", "shlex.py", "colorsys.py"]))
    text = (library / name).read_text("utf-8")
    change = data.draw(st.sampled_from(list(changes(Source(text)))))
    made = change.applied(text)
    assert made != text
    ast.parse(made)
    assert made.startswith(text[: change.start])
    assert made.endswith(text[change.end :])


def test_the_part_around_a_place_is_the_smallest_function():
    """With its decorators; outside of functions it is the statement."""
    text = "x = (1,\n     2)\n\n\nclass C:\n    @property\n    def f(self):\n        return 3\n"
    source = Source(text)
    function = source.part_of(text.index("3"))
    assert text[function.start : function.end] == "    @property\n    def f(self):\n        return 3\n"
    statement = source.part_of(text.index("2"))
    assert text[statement.start : statement.end] == "x = (1,\n     2)\n"
