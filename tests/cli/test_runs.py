"""`lake runs`, and `lake why` of checkpoints and of rows that were trained on, as they are typed."""

import json
import os
import shutil

import pytest

from lake import Lake
from tests.trainers.made_runs import Made, built, filled
from trainers.shards import Shards, writing


@pytest.fixture
def made(lake_uri, tmp_path, monkeypatch):
    """A lake, and the folder of a run that is not in it yet: eight steps, and checkpoints after two and eight."""
    monkeypatch.chdir(tmp_path)
    door = filled(Lake.create(lake_uri))
    shards = built(door, tmp_path / "shards")
    return Made(tmp_path / "run", shards, epochs=2).steps(2).steps(6).end()


def lines(ran) -> list[dict]:
    """The rows of an output in JSON lines."""
    return [json.loads(line) for line in ran.out.splitlines()]


def test_a_run_is_brought_in_listed_and_shown(run, made):
    """Recording says what is new; the list and the facts are the same from the folder and from the lake."""
    assert run("runs", "list").err == "no rows\n"
    [first] = lines(run("runs", "record", made.out, "--format", "jsonl"))
    assert (first["metrics"], first["receipt"]) == (8, True)
    assert lines(run("runs", "record", made.out, "--format", "jsonl"))[0]["receipt"] is False
    [listed] = lines(run("runs", "list", "--format", "jsonl"))
    assert (listed["method"], listed["state"], listed["steps"], listed["loss"]) == ("sft", "finished", 8, 0.25)
    name = listed["run"]
    from_folder, from_lake = run("runs", "show", made.out), run("runs", "show", name[:-3])
    assert from_folder.out == from_lake.out
    assert "8 of 8" in from_lake.out
    assert "8 steps of 3 rows" in from_lake.out
    [whole] = lines(run("runs", "show", name, "--format", "jsonl"))
    assert whole["plan"]["digest"] == made.plan.digest
    unknown = run("runs", "show", "dpo-1")
    assert (unknown.code, "lake runs list" in unknown.err) == (2, True)
    assert run("runs", "record", made.out.parent).code == 1


def test_sql_asks_what_runs_measured(run, made, tmp_path):
    """The metrics of runs are a relation, whatever state of the lake is asked about, and in a catalog file too."""
    before = run("snapshot", "create").out.strip()
    run("runs", "record", made.out)
    asked = run("sql", "select step, loss from metrics order by step limit 1", "--at", before, "--format", "jsonl")
    assert lines(asked) == [{"step": 1, "loss": 2.0}]
    assert lines(run("sql", "select stage from events.receipts", "--format", "jsonl")) == [{"stage": "train-sft"}]
    assert run("snapshot", "create").out.strip() == before
    assert run("catalog", tmp_path / "lake.duckdb").code == 0
    assert (tmp_path / "lake.duckdb").exists()


def test_why_of_a_checkpoint_is_its_rows(run, made, tmp_path):
    """A checkpoint's folder lists the rows that it has seen, with or without a lake."""
    asked = run("why", made.out / "checkpoint-2", "--lake", tmp_path / "nowhere", "--format", "jsonl")
    rows = lines(asked)
    assert len(rows) == 6
    assert all(row["first_step"] < 2 and row["times"] == 1 for row in rows)
    assert asked.err == f"{made.record.run.run} at step 2: 6 rows, {sum(row['tokens'] for row in rows)} tokens\n"
    assert len(lines(run("why", made.out, "--format", "jsonl"))) == 12


def test_why_of_a_folder_that_is_no_checkpoint_says_what_it_lacks(run, made, tmp_path):
    """With a lake or without, and what to ask instead where a run is around it."""
    torn = tmp_path / "copied" / "checkpoint-2"
    shutil.copytree(made.out / "checkpoint-2", torn)
    (torn / "trained.json").unlink()
    for others in ((), ("--lake", tmp_path / "nowhere")):
        asked = run("why", torn, *others)
        assert (asked.code, asked.out) == (2, "")
        assert "neither a run, which has a run.json, nor a whole checkpoint, which has a trained.json" in asked.err
        assert "\nhint: name the folder of a run" in asked.err
    shutil.copy(made.out / "run.json", torn.parent)
    assert f"lake why {os.path.relpath(torn.parent)}\n" in run("why", torn).err


@pytest.mark.parametrize("command", ["show", "plot", "replay"])
def test_a_folder_that_is_no_run_is_told_as_one(run, tmp_path, command):
    """With or without a lake, a folder without a record is called what it is."""
    (tmp_path / "other").mkdir()
    refused = run("runs", command, tmp_path / "other")
    assert (refused.code, refused.out) == (2, "")
    assert "no run.json in it" in refused.err


def test_why_of_a_row_names_the_checkpoints_that_saw_it(run, made):
    """A row tells its life, and after that the runs that trained on it; the run that it is made of tells the same."""
    run("runs", "record", made.out)
    [row] = lines(run("why", made.out / "checkpoint-2", "--format", "jsonl"))[:1]
    steps = lines(run("why", row["id"], "--format", "jsonl"))
    assert {"evidence", "score", "verdict"} <= {step["what"] for step in steps[:-3]}
    assert [step["step"] for step in steps] == list(range(1, len(steps) + 1))
    took, early, late = steps[-3:]
    assert (took["what"], early["what"], late["what"]) == ("trained", "checkpoint", "checkpoint")
    assert took["detail"].startswith(f"{made.record.run.run}: 2 steps of 8")
    assert early["detail"] == "checkpoint-2 saw it at 1 step"
    assert (late["detail"], late["source_file"]) == ("checkpoint-8 saw it at 2 steps", f"{made.out}/checkpoint-8")
    of_run = lines(run("why", steps[0]["run_id"], "--format", "jsonl"))
    assert [step["detail"] for step in of_run[-3:]] == [step["detail"] for step in steps[-3:]]
    assert run("why", "sft-0000000000000000").code == 2


def test_a_row_that_no_view_has_is_known_by_who_trained_on_it(run, made, tmp_path):
    """Rows of other origin, such as replayed ones, are answered from ledgers alone."""
    run("runs", "record", made.out)
    with writing(tmp_path / "others", ("text",)) as writer:
        for number in range(6):
            writer.add({"id": f"replay-{number:016x}-0"}, {"text": ([1, 2], [True, True])})
        writer.finish({}, {"offered": 6})
    other = Made(tmp_path / "other", Shards.open(tmp_path / "others")).steps(2).end()
    run("runs", "record", other.out)
    assert run("why", f"replay-{3:016x}-0").code == 0
    assert ": 1 step of 2" in run("why", f"replay-{3:016x}-0").out


def test_past_training_becomes_replay(run, made):
    """The rows of a run are told once as sightings; a dry run stores nothing."""
    run("runs", "record", made.out)
    [dry] = lines(run("runs", "replay", made.out, "--dry-run", "--format", "jsonl"))
    assert dry["added"] == 12
    assert run("replay", "list", "--format", "jsonl").out == ""
    [done] = lines(run("runs", "replay", made.record.run.run, "--format", "jsonl"))
    assert (done["added"], done["rejected"]) == (12, 0)
    [again] = lines(run("runs", "replay", made.out, "--format", "jsonl"))
    assert (again["added"], again["held"]) == (0, 12)
    assert len(run("replay", "list", "--format", "jsonl").out.splitlines()) == 12


def test_runs_are_drawn(run, made, tmp_path):
    """A plot is made of folders and of runs in the lake alike; another ending is refused."""
    pytest.importorskip("matplotlib")
    run("runs", "record", made.out)
    ran = run("runs", "plot", made.out, made.record.run.run, "--out", tmp_path / "one.svg")
    assert (ran.code, "1 run" in ran.err) == (0, True)
    assert (tmp_path / "one.svg").read_text().startswith("<?xml")
    assert run("runs", "plot", made.out, "--out", tmp_path / "one.gif").code == 2
