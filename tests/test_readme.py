import re
from pathlib import Path

import pytest

from cli.reference import replay

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
# What differs from run to run: ids, versions (a slow machine commits more often), times, durations.
VARYING = re.compile(
    r"[0-9a-f]{14}-[0-9a-f]{32}|[0-9a-f]{32}|(?<=\w=)\d+|\d{4}-\d\d-\d\d \d\d:\d\d:[0-9.]+Z|[0-9.]+ s\b"
)


def lines(page: str) -> list[str]:
    return [" ".join(VARYING.sub("*", line).split()) for line in page.splitlines()]


def test_the_readme_shows_what_its_commands_print() -> None:
    """Every command of the tour works on a new lake, and prints what the page says, ids and times aside."""
    page = README.read_text("utf-8")
    assert page.count("$ lake ") > 5
    assert lines(replay(page, ROOT)) == lines(page)


def test_every_page_that_is_linked_is_there() -> None:
    """No link between the pages of the project leads nowhere."""
    pages = [README, *ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("command", re.findall(r"^make (\w+)", README.read_text("utf-8"), re.MULTILINE))
def test_the_make_targets_of_the_readme_exist(command: str) -> None:
    """What the page tells a newcomer to type is in the Makefile."""
    assert re.search(rf"^{command}:", Path(ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
