import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Ran

Run = Callable[..., Ran]

GOOD = [{"run_id": f"run-{n}", "task_id": f"task-{n % 2}", "text": f"answer {n}"} for n in range(6)]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A file of six runs of two tasks."""
    file = tmp_path / "runs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in GOOD))
    return file


@pytest.fixture
def filled(run: Run, runs: Path) -> Run:
    """The commands, on a lake that has the six runs."""
    assert run("init").code == 0
    assert run("ingest", "evidence", runs).code == 0
    return run


@pytest.fixture
def rule(tmp_path: Path) -> Path:
    """A scorer of one's own: half of the runs are accepted."""
    file = tmp_path / "even.sql"
    file.write_text(
        "-- version: 1\n"
        "select run_id, ['by its last digit'] as reasons,\n"
        "    case when right(run_id, 1) in ('0', '2', '4') then 'accepted' else 'rejected' end as category\n"
        "from evidence\n"
    )
    return file


def records(ran: Ran) -> list[dict[str, object]]:
    return [json.loads(line) for line in ran.out.splitlines()]


def ask(run: Run, query: str) -> list[dict[str, object]]:
    ran = run("sql", query, "--format", "jsonl")
    assert (ran.code, ran.err) == (0, "")
    return records(ran)


def test_an_ingest_says_what_became_of_each_file(run: Run, runs: Path) -> None:
    """A file is read once; sent again it is known; grown it is read from where it ended; a copy of it adds nothing."""
    run("init")
    assert "6 events added" in run("ingest", "evidence", runs).err
    again = run("ingest", "evidence", runs)
    assert again.code == 0
    assert "unchanged" in again.out
    with runs.open("a") as file:
        file.write('{"run_id": "run-6", "task_id": "task-0", "text": "one more"}\n')
    [grown] = records(run("ingest", "evidence", runs, "--format", "jsonl"))
    assert (grown["state"], grown["rows"], grown["added"]) == ("resumed", 1, 1)
    copy = runs.with_name("copy.jsonl")
    copy.write_bytes(runs.read_bytes())
    [copied] = records(run("ingest", "evidence", copy, "--format", "jsonl"))
    assert (copied["rows"], copied["added"], copied["held"]) == (7, 0, 7)


def test_rejected_rows_give_exit_code_3_and_a_query_that_shows_them(run: Run, tmp_path: Path) -> None:
    """The good rows are in, the bad ones are counted by reason, and the hint is a command that works."""
    run("init")
    file = tmp_path / "mixed.jsonl"
    file.write_text('{"run_id": "a", "task_id": "t", "text": "x"}\nnot json\n{"task_id": "t", "text": "y"}\n')
    ran = run("ingest", "evidence", file)
    assert ran.code == 3
    assert "1 event added" in ran.err
    hint = next(line for line in ran.err.splitlines() if line.startswith("hint: lake sql "))
    rejects = ask(run, hint.removeprefix('hint: lake sql "').removesuffix('"'))
    assert [reject["line"] for reject in rejects] == [2, 3]
    assert all(reject["errors"] for reject in rejects)


def test_a_dry_run_of_an_ingest_writes_nothing(run: Run, runs: Path) -> None:
    """--dry-run counts what would be events; the next ingest finds nothing done."""
    run("init")
    assert "6 events, none stored" in run("ingest", "evidence", runs, "--dry-run").err
    assert ask(run, "from evidence") == []
    assert "6 events added" in run("ingest", "evidence", runs).err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["evidence", "nowhere.jsonl"], "nowhere.jsonl"),
        (["rollouts", "x.jsonl"], "rollouts"),
        (["evidence", "x.jsonl", "--reader", "natve"], "natve"),
        (["evidence", "x.jsonl", "--reader", "no.such:function"], "no.such"),
        (["evidence", "x.jsonl", "--input-format", "xml"], "xml"),
    ],
)
def test_an_ingest_that_cannot_be_is_named(run: Run, arguments: list[str], named: str) -> None:
    """A missing file, an unknown kind, reader or format is one error line that names it, and one hint."""
    run("init")
    ran = run("ingest", *arguments)
    assert ran.code in {1, 2}
    error, hint = ran.err.splitlines()
    assert named in error
    assert hint.startswith("hint: ")


def test_a_review_outranks_every_scorer(filled: Run, rule: Path) -> None:
    """A person's verdict counts, whatever a scorer says, and their newest one counts among theirs."""
    assert filled("score", rule).code == 0
    verdict = "select category, scorer from verdicts where run_id = 'run-1'"
    assert ask(filled, verdict)[0]["scorer"] != "human"
    assert filled("review", "run-1", "rejected", "--reason", "off topic").code == 0
    assert ask(filled, verdict) == [{"category": "rejected", "scorer": "human"}]
    assert filled("review", "run-1", "accepted", "--reason", "on second thoughts").code == 0
    assert ask(filled, verdict) == [{"category": "accepted", "scorer": "human"}]


def test_a_review_of_nothing_is_refused(filled: Run) -> None:
    """A run that the lake does not know cannot be reviewed, and a dry run records nothing."""
    assert filled("review", "run-99", "accepted", "--reason", "x").code == 1
    assert filled("review", "run-1", "accepted", "--reason", "x", "--dry-run").code == 0
    assert ask(filled, "from scores") == []


def test_a_retraction_takes_events_out_and_is_itself_withdrawn(filled: Run) -> None:
    """What is retracted is in no view; withdrawing the retraction lets it back; the table keeps everything."""
    assert filled("retract", "task", "task-0", "--reason", "leaked", "--dry-run").code == 0
    assert len(ask(filled, "from evidence")) == len(GOOD)
    assert "3 of evidence" in filled("retract", "task", "task-0", "--reason", "leaked").err
    assert len(ask(filled, "from evidence")) == 3
    assert len(ask(filled, "from events.evidence")) == len(GOOD)
    [retraction] = ask(filled, "select event_id from retractions")
    assert filled("retract", "event", retraction["event_id"], "--reason", "it had not").code == 0
    assert len(ask(filled, "from evidence")) == len(GOOD)


def test_a_retraction_that_matches_nothing_is_refused(filled: Run) -> None:
    """A mistyped id is an error, not a retraction that lies in wait."""
    assert filled("retract", "run", "run-99", "--reason", "typo").code == 1
    assert ask(filled, "from events.retractions") == []


def test_a_scorer_scores_once(filled: Run, rule: Path) -> None:
    """A .sql file of one's own scores what its SELECT returns; running it again adds nothing, a new version does."""
    assert f"{len(GOOD)} verdicts appended" in filled("score", rule).err
    assert len(ask(filled, "from accepted")) == 3
    assert "0 verdicts appended" in filled("score", rule).err
    rule.write_text(rule.read_text().replace("version: 1", "version: 2").replace("'rejected'", "'accepted'"))
    assert f"{len(GOOD)} verdicts appended" in filled("score", rule).err
    assert len(ask(filled, "from accepted")) == len(GOOD)


def test_a_rule_that_does_more_than_read_is_refused(filled: Run, rule: Path, tmp_path: Path) -> None:
    """A scorer's SQL cannot write, and one that does not exist is named."""
    stolen = tmp_path / "stolen.csv"
    rule.write_text(f"-- version: 3\ncopy evidence to '{stolen}'\n")
    assert filled("score", rule).code in {1, 2}
    assert not stolen.exists()
    missing = filled("score", "no-such-scorer")
    assert missing.code == 2
    assert "no-such-scorer" in missing.err
