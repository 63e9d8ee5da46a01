"""Finding scorers by what a user calls them, and functions of their own."""

import sys

import pytest

from ingest.scorers import registry
from ingest.scorers.function import Function
from ingest.scorers.relation import Relation
from ingest.scorers.scorer import BadVerdict, NotScored
from lake.errors import UsageError

MODULE = """
from ingest.scorers.scorer import Verdict

def terse(evidence, task):
    if task is None:
        return None
    if evidence["extra"]:
        return "accepted"
    return {"category": "rejected", "reasons": ["long"], "score": 0, "sub_scores": {"n": 1}}

def careful(evidence, task):
    return Verdict("needs_human_review", ("who knows",))
careful.version = 5

def wrong(evidence, task):
    return 7

def broken(evidence, task):
    return evidence["nothing"]

def misspelt(evidence, task):
    return {"categorie": "accepted"}
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    name = "scorers_of_a_user"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield name
    sys.modules.pop(name, None)


@pytest.mark.parametrize("name", registry.names())
def test_every_name_finds_its_scorer(name):
    """The built-in ones and the relations that come along."""
    assert registry.find(name).name == name


def test_there_are_relations_that_come_along():
    """Each has a version, so that an edit of its text is a decision."""
    shipped = set(registry.names()) - set(registry.BUILT_IN)
    assert shipped
    assert [name for name in shipped if registry.find(name).version is None] == []


def test_an_unknown_name_is_told_the_known_ones():
    """In the hint."""
    with pytest.raises(UsageError) as caught:
        registry.find("no-such-scorer")
    assert "final-answer" in caught.value.hint


def test_a_configuration_sets_a_scorer_up(tmp_path):
    """Strictly; and only a scorer that takes one."""
    config = tmp_path / "c.toml"
    config.write_text("wall_seconds = 2\nworkers = 1\n")
    assert registry.find("tests", config).options.wall_seconds == 2
    with pytest.raises(UsageError, match="no key wall_seconds"):
        registry.find("final-answer", config)
    config.write_text('markers = ["=>"]\n')
    assert registry.find("final-answer", config).options.markers == ("=>",)
    with pytest.raises(UsageError, match="takes no configuration"):
        registry.find("has-content", config)
    config.write_text("wall_seconds = 'soon'\n")
    with pytest.raises(UsageError, match="wall_seconds"):
        registry.find("tests", config)


def test_a_sql_file_is_a_scorer(tmp_path):
    """Named as its file is."""
    path = tmp_path / "my_rule.sql"
    path.write_text("-- version: 2026.1\n-- more\nselect 1 -- version: 9\n")
    scorer = registry.find(str(path))
    assert isinstance(scorer, Relation)
    assert (scorer.name, scorer.version, scorer.digest) == ("my_rule", "2026.1", None)
    path.write_text("select 1\n-- version: 9\n")
    assert registry.find(str(path)).version is None


def test_a_sql_file_that_is_none_is_refused(tmp_path):
    """A missing file, another encoding, a name that would be none of a scorer."""
    (tmp_path / "latin.sql").write_bytes(b"select '\xe9'")
    (tmp_path / "a name.sql").write_text("select 1")
    for name in ("missing.sql", "latin.sql", "a name.sql"):
        with pytest.raises(UsageError):
            registry.find(str(tmp_path / name))


def test_a_function_is_a_scorer(module):
    """Found from the working folder; what it returns is a verdict in one of several forms."""
    scorer = registry.find(f"{module}:terse")
    assert isinstance(scorer, Function)
    assert (scorer.name, scorer.version) == (f"{module}:terse", None)
    assert scorer.digest
    assert isinstance(scorer({"extra": None}, None), NotScored)
    short = scorer({"extra": {"a": 1}}, {})
    assert (short.category, short.reasons) == ("accepted", (f"{module}:terse says so",))
    long = scorer({"extra": None}, {})
    assert (long.category, long.reasons, long.score, long.sub_scores) == ("rejected", ("long",), 0.0, {"n": 1})
    careful = registry.find(f"{module}:careful")
    assert careful.version == "5"
    assert careful({}, None).category == "needs_human_review"


@pytest.mark.parametrize("function", ["wrong", "misspelt", "broken"])
def test_a_function_that_answers_nonsense_is_an_error(module, function):
    """That names the run."""
    with pytest.raises(BadVerdict, match="on run r1"):
        registry.find(f"{module}:{function}")({"run_id": "r1", "extra": None}, None)


def test_a_module_that_cannot_be_imported_is_refused(module, tmp_path):
    """Whatever it fails with."""
    (tmp_path / "half_written.py").write_text("def f(:")
    with pytest.raises(UsageError, match="SyntaxError"):
        registry.find("half_written:f")


@pytest.mark.parametrize("name", ["no_such_module_at_all:f", "{module}:missing", "{module}:MODULE"])
def test_a_function_that_is_none_is_refused(module, name):
    """With what to give instead."""
    with pytest.raises(UsageError, match=r"function|module"):
        registry.find(name.replace("{module}", module))
