"""White space means what it means to Python."""

import sys

import hypothesis
import pytest
from hypothesis import strategies as st

from tests.views import world
from views import connect

SPACES = [chr(code) for code in range(sys.maxunicode + 1) if chr(code).isspace()]
NEAR = ["\u200b", "\ufeff", "\u180e", "\u2060", "\x00", "a", "é", "語", "\U0001f600", "\n", "\u0301"]


@pytest.fixture(scope="module")
def strip(tmp_path_factory):
    """The function as SQL has it."""
    con = connect(world.make(tmp_path_factory.mktemp("empty")), threads=1)
    return lambda texts: [row[0] for row in con.execute("select strip(unnest(?::varchar[]))", [texts]).fetchall()]


def test_every_code_point_is_stripped_or_kept_as_by_python(strip):
    """Around a letter, each character there is goes if it goes in Python, and stays if it stays."""
    texts = [f"{chr(code)}x{chr(code)}" for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]
    wrong = [text for text, found in zip(texts, strip(texts), strict=True) if found != text.strip()]
    assert wrong == []


@hypothesis.given(st.lists(st.text(st.sampled_from(SPACES + NEAR)), max_size=20))
def test_strip_is_pythons_strip(strip, texts):
    """Any mix of white space and what looks like it comes out as from str.strip()."""
    assert strip(texts) == [text.strip() for text in texts]
