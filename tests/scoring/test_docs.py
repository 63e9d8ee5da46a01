"""The examples of docs/scoring.md work."""

import re
from pathlib import Path

import msgspec
import pytest

from ingest.scorers.configuration import decoded
from ingest.scorers.final_answer import Options as FinalAnswerOptions
from ingest.scorers.relation import Relation
from ingest.scorers.task_tests import Options as TaskTestsOptions
from ingest.scorers.verdict_markers import Options as VerdictMarkersOptions
from ingest.scorers.verdict_markers import VerdictMarkers
from ingest.scoring import score

PAGE = (Path(__file__).parents[2] / "docs" / "scoring.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    ("place", "options"), list(enumerate((FinalAnswerOptions, TaskTestsOptions, VerdictMarkersOptions)))
)
def test_configurations_are_read(place, options):
    """Each example has the keys of its scorer; those of `tests` are its defaults."""
    found = decoded(blocks("toml")[place], options, "docs/scoring.md", toml=True)
    if options is TaskTestsOptions:
        assert found == TaskTestsOptions()
    if options is VerdictMarkersOptions:
        evidence = {"stream": "code_reviews", "extra": {"markers": ["accepted_on_attempt_1"]}}
        assert VerdictMarkers(found, None)(evidence, None).category == "accepted"


def test_the_rule_in_sql_scores(lake, tell):
    """And has a version of its own."""
    tell("evidence", {"run_id": "r", "task_id": "t", "text": "x"})
    (text,) = blocks("sql")
    summary = score(lake, Relation("short", text))
    assert (summary.version, summary.categories) == ("1", {"accepted": 1})


def test_the_function_scores():
    """It has a verdict on a long text, and none on a short one."""
    namespace: dict[str, object] = {}
    exec(blocks("python")[0], namespace)
    terse = namespace["terse"]
    assert terse({"text": None}, None) is None
    assert terse({"text": "x" * 5000}, None)["category"] == "rejected"


def test_the_limits_that_the_page_gives_are_the_limits():
    """Numbers in the page are those in the code."""
    assert "10,000 or 5 seconds" in PAGE
    assert msgspec.structs.asdict(TaskTestsOptions())["wall_seconds"] == 10.0
