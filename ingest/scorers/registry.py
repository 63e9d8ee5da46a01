"""Finds a scorer by what the user calls it.

* `final-answer`, `tests` and `verdict-markers` are built in;
* `has-content` and the other files in views/scorers are relations that come with the lake;
* `./my_rule.sql` is a relation of the user's, `package.module:function` a function of theirs.
"""

from pathlib import Path

from ingest.scorers import configuration, relation
from ingest.scorers.final_answer import FinalAnswer
from ingest.scorers.final_answer import Options as FinalAnswerOptions
from ingest.scorers.function import Function
from ingest.scorers.relation import Relation
from ingest.scorers.scorer import Scorer
from ingest.scorers.task_tests import Options as TaskTestsOptions
from ingest.scorers.task_tests import TaskTests
from ingest.scorers.verdict_markers import EXAMPLE, VerdictMarkers
from lake.errors import UsageError

BUILT_IN = ("final-answer", "tests", "verdict-markers")


def names() -> tuple[str, ...]:
    """The scorers that can be called by name alone."""
    return (*BUILT_IN, *relation.shipped())


def find(name: str, config: Path | None = None) -> Scorer | Relation:
    """The scorer of this name, set up by a configuration file (TOML or JSON) if one is given. Raises UsageError."""
    if name == "final-answer":
        return FinalAnswer(configuration.read(config, FinalAnswerOptions) if config else None)
    if name == "tests":
        return TaskTests(configuration.read(config, TaskTestsOptions) if config else None)
    if name == "verdict-markers":
        return VerdictMarkers.read(config or EXAMPLE)
    if config is not None:
        raise UsageError(f"the scorer {name} takes no configuration", f"those that do are {', '.join(BUILT_IN)}")
    if name.endswith(".sql"):
        return Relation.read(Path(name))
    if ":" in name:
        return Function(name)
    texts = relation.shipped()
    if name not in texts:
        raise UsageError(
            f"there is no scorer {name!r}",
            f"the scorers are {', '.join(names())}; or give a .sql file or package.module:function",
        )
    return Relation(name, texts[name])
