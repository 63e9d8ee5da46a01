from collections.abc import Callable
from pathlib import Path

import pytest

from cli.reference import commands, pages, relations_page
from views.connect import sources

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(("name", "made"), [("cli.md", pages), ("relations.md", relations_page)])
def test_the_reference_pages_are_what_make_docs_writes(name: str, made: Callable[[], str]) -> None:
    """A change of a command's help or of a view is a change of its page, which `make docs` makes."""
    assert (DOCS / name).read_text("utf-8") == made()


def test_the_reference_pages_leave_nothing_out() -> None:
    """Each command and each relation has its heading."""
    page = pages()
    assert all(f"## {path}\n" in page for path in commands())
    page = relations_page()
    relations = [name for name, text in sources().items() if "create macro" not in text]
    assert all(f"### {name}\n" in page for name in relations)
