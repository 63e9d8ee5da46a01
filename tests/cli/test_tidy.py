"""`lake compact` and `lake vacuum`, as they are typed."""

import json
from pathlib import Path

import pytest

from lake import Lake
from tests.lake.rows import evidence


@pytest.fixture
def many(lake_uri) -> Lake:
    """A lake with six small files of evidence and three receipts."""
    lake = Lake.create(lake_uri)
    for number in range(6):
        lake.append("evidence", evidence(f"r{number}"), producer="p", sequence=number)
    for number in range(3):
        lake.record("receipts", {"stage": f"s{number}"})
    return lake


def test_compact_says_what_it_would_do_and_did(run, many):
    """A dry run tells and writes nothing; then the same is done, told, and on the second time there is nothing."""
    before = many.versions()
    would = run("compact", "--dry-run", "--format", "jsonl")
    assert many.versions() == before
    done = run("compact", "--format", "jsonl")
    again = run("compact")
    assert [ran.code for ran in (would, done, again)] == [0, 0, 0]
    planned, told = ([json.loads(line) for line in ran.out.splitlines()] for ran in (would, done))
    assert [(row["table"], row["files"], row["files_after"]) for row in told] == [
        ("evidence", 6, 1),
        ("receipts", 3, 1),
    ]
    assert [row | {"version": 0, "bytes_after": 0} for row in told] == [
        row | {"version": 0, "bytes_after": 0} for row in planned
    ]
    assert "9 files would become 2" in would.err
    assert "9 files became 2" in done.err
    assert "nothing to do" in again.err


def test_compact_one_table(run, many):
    """Only the table that is named is compacted; one that there is not is a wrong use."""
    assert run("compact", "--table", "receipts").code == 0
    assert many.versions() == {**many.versions(), "evidence": 6, "receipts": 4}
    assert run("compact", "--table", "nothing").code == 2
    wrong = run("compact", "--small", "256")
    assert (wrong.code, "cannot become" in wrong.err) == (2, True)


def test_vacuum_is_dry_unless_told(run, many):
    """Without --delete it says what it would free; with it, and a word for less than a week, it does."""
    run("compact")
    would = run("vacuum", "--keep-days", 0, "--format", "jsonl")
    refused = run("vacuum", "--keep-days", 0, "--delete")
    assert [run("vacuum", "--keep-days", days).code for days in ("nan", "inf", "-1", "1e9")] == [2, 2, 2, 2]
    assert (would.code, refused.code) == (0, 2)
    assert "--delete does it" in would.err
    assert "--force" in refused.err
    assert len(list(Path(many.uri, "tables").rglob("*.parquet"))) == 9 + 2
    done = run("vacuum", "--keep-days", 0, "--delete", "--force", "--format", "jsonl")
    assert done.out == would.out
    assert "freed 9 files" in done.err
    assert len(list(Path(many.uri, "tables").rglob("*.parquet"))) == 2 + 1
    assert "would free 0 files" in run("vacuum").err


def test_vacuum_says_what_keeps_the_rest(run, many):
    """Files that a snapshot or the last days need are counted by who needs them."""
    run("snapshot", "create", "--at", "evidence=2")
    run("compact", "--table", "evidence")
    [row] = [json.loads(line) for line in run("vacuum", "--format", "jsonl").out.splitlines()]
    assert (row["freed_files"], row["kept_by_snapshots"], row["kept_by_days"]) == (0, 2, 4)
    run("vacuum", "--keep-days", 0, "--delete", "--force")
    gone = run("sql", "select count(*) from events.evidence", "--at", "evidence=3")
    assert gone.code == 1
    assert "was vacuumed on" in gone.err
    assert "snapshots and newer versions are whole" in gone.err
    whole = run("sql", "select count(*) as n from events.evidence", "--at", "evidence=2", "--format", "jsonl")
    assert json.loads(whole.out) == {"n": 2}


def test_the_log_tells_of_both(run, many):
    """`lake log` says in words what compact and vacuum did."""
    run("compact")
    run("vacuum", "--keep-days", 0, "--delete", "--force")
    told = run("log", "--table", "evidence", "--limit", 3, "--format", "jsonl").out
    assert [json.loads(line)["what"].split(":")[0] for line in told.splitlines()] == ["vacuum", "vacuum", "compacted"]
    assert "6 files became 1" in told
    assert "freed 6 files" in told
    assert run("verify", "--deep").code == 0
