"""What training runs report, asked in SQL: no part of a snapshot, and each step of a run once."""

from contextlib import closing
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from lake.errors import InvalidRows, UsageError
from lake.kinds import LEDGERS
from views import catalog, connect, needed


def report(run: str, session: int, step: int, what: str = "training") -> dict[str, object]:
    """One report."""
    return {"run": run, "what": what, "session": session, "step": step, "loss": 1.0 / step}


# Of run a the second session began at step 3 again, the third at step 4; run b was never interrupted.
GIVEN = [
    *(report("a", 1, step) for step in (1, 2, 3, 4, 5)),
    report("a", 1, 2, "evaluation"),
    report("a", 1, 4, "evaluation"),
    *(report("a", 2, step) for step in (3, 4)),
    report("a", 2, 4, "evaluation"),
    report("a", 3, 4),
    *(report("b", 1, step) for step in (1, 2, 3)),
]
EXPECTED = [
    ("a", 1, "training", 1),
    ("a", 2, "evaluation", 1),
    ("a", 2, "training", 1),
    ("a", 3, "training", 2),
    ("a", 4, "training", 3),
    ("b", 1, "training", 1),
    ("b", 2, "training", 1),
    ("b", 3, "training", 1),
]
QUERY = "select run, step, what, session from metrics order by all"


@pytest.fixture
def told(lake):
    """A lake that was told these."""
    lake.append("metrics", GIVEN, producer="test", sequence=1)
    return lake


def test_steps_that_were_taken_again_are_told_by_the_last_session(told):
    """What a session said of steps that a later one took again is left out, whether it was trained or evaluated."""
    with closing(connect(told.snapshot(), sql=needed(QUERY), ledgers={"metrics": told.paths("metrics")})) as con:
        assert con.sql(QUERY).fetchall() == EXPECTED


def test_a_snapshot_has_no_ledgers(told):
    """Without their files the ledgers are empty, a snapshot refuses to name any, and none of them changes its id."""
    before = told.snapshot()
    with closing(connect(before, sql=needed(QUERY))) as con:
        assert con.sql(QUERY).fetchall() == []
        for kind in LEDGERS:
            assert con.sql(f"select count(*) from events.{kind}").fetchall() == [(0,)]
    with pytest.raises(UsageError, match="a ledger"):
        before.paths("metrics")
    told.append("metrics", [report("c", 1, 1)], producer="test", sequence=2)
    assert told.snapshot().id == before.id


def test_a_catalog_has_the_ledgers_as_they_are(told, tmp_path):
    """A file for any DuckDB shell holds the metrics too, by the paths that they have now."""
    ledgers = {kind: told.paths(kind) for kind in LEDGERS}
    catalog.write(str(tmp_path / "lake.duckdb"), told.pin(), ledgers=ledgers)
    with duckdb.connect(str(tmp_path / "lake.duckdb"), read_only=True) as con:
        assert con.sql(QUERY).fetchall() == EXPECTED


def test_a_lake_names_the_files_of_its_ledgers(told):
    """Paths for who is here, addresses for who is elsewhere: the same files, at the newest version."""
    [path] = told.paths("metrics")
    assert pq.read_table(path).num_rows == len(GIVEN)
    assert [Path(url).name for url in told.urls("metrics")] == [Path(path).name]
    assert told.paths("receipts") == told.urls("receipts") == []


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"what": "training"}, "needs the column 'run'"),
        ({"run": "a", "what": "guessing"}, "training, evaluation"),
        ({"run": "a", "what": "training", "loss": float("nan")}, "finite"),
    ],
)
def test_a_report_is_checked(told, row, what):
    """It is of a run, of one of two kinds, and its numbers are numbers."""
    with pytest.raises(InvalidRows, match=what):
        told.append("metrics", [row], producer="test", sequence=2)
