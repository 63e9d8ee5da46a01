"""A run in the lake: once, whatever is brought in how often, and found again from a checkpoint and from a row."""

import json
import shutil
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from ingest.scorers.scorer import Verdict
from lake import Lake
from lake.errors import Damaged, LakeError, UnknownRef, UsageError
from lake.verify import examine
from tests.trainers.made_runs import MOMENT, Made, built, filled
from trainers import curves, ledger, receipts, replayed, rollouts
from trainers.receipts import Brought, ids_of
from trainers.record import NAME
from trainers.rollouts import Rollout, Rollouts, Scorer
from views import connect, needed


@pytest.fixture
def told(lake):
    """A lake with twelve rows to train on."""
    return filled(lake)


@pytest.fixture
def shards(told, tmp_path):
    """Its rows as shards."""
    return built(told, tmp_path / "shards")


def state(lake: Lake) -> dict[str, int]:
    """How many events of each kind there are."""
    return {kind: len(lake.read(kind)) for kind in ("receipts", "metrics", "evidence", "scores", "replay")}


def asked(lake: Lake, query: str) -> list[tuple]:
    """What SQL says of the metrics."""
    files = {"metrics": lake.paths("metrics")}
    with closing(connect(lake.snapshot(), sql=needed(query), ledgers=files)) as con:
        return con.sql(query).fetchall()


def test_a_run_comes_in_once(told, shards, tmp_path):
    """Its record and ledger are objects, its reports events, its receipt one event; brought again, nothing is new."""
    run = Made(tmp_path / "run", shards).steps(2).steps(2).end()
    before = told.snapshot().id
    first = receipts.record(told, run.out)
    assert (first.metrics, first.rollouts, first.receipt, first.steps, first.state) == (4, 0, True, 4, "finished")
    held = state(told)
    [row] = told.read("receipts").to_pylist()
    assert (row["stage"], row["passed"]) == ("train-sft", True)
    outputs = json.loads(row["outputs"])
    assert told.get_object(outputs["record"]) == (run.out / NAME).read_bytes()
    assert told.get_object(outputs["ledger"]) == (run.out / ledger.NAME).read_bytes()
    assert [one["step"] for one in outputs["checkpoints"]] == [2, 4]
    assert json.loads(row["inputs"])["snapshot"] == before
    again = receipts.record(told, run.out)
    assert (again.metrics, again.receipt) == (0, False)
    copy = shutil.copytree(run.out, tmp_path / "elsewhere")
    assert receipts.record(told, copy) == again
    assert state(told) == held
    # Neither reports nor receipts are part of a state of the lake.
    assert told.snapshot().id == before
    assert not examine(told.store, told.logs, deep=True).faults


def test_a_run_may_come_in_while_it_goes_on(told, shards, tmp_path):
    """What was not there before is added; a later receipt takes the place of an earlier one."""
    run = Made(tmp_path / "run", shards).steps(1)
    assert receipts.record(told, run.out).metrics == 1
    assert [(one.state, one.steps, one.seconds) for one in receipts.runs(told)] == [("started", 1, None)]
    run.steps(3).end()
    assert receipts.record(told, run.out).metrics == 3
    [kept] = receipts.runs(told)
    assert (kept.state, kept.steps, kept.planned, kept.loss) == ("finished", 4, 4, 0.5)
    assert kept.checkpoints == ((1, "checkpoint-1"), (4, "checkpoint-4"))
    assert receipts.record_of(told, kept) == run.record.run
    assert receipts.reports_of(told, kept.run) == curves.read(run.out)


def test_steps_that_were_taken_again_count_once(told, shards, tmp_path):
    """A run that was brought in, killed and resumed has each step once, as its own file has."""
    run = Made(tmp_path / "run", shards, epochs=2).steps(3).steps(3, save=False)
    receipts.record(told, run.out)
    run.resume(3).steps(2).steps(3).end()
    receipts.record(told, run.out)
    assert len(told.read("metrics")) == 6 + 5
    found = asked(told, "select step, session from metrics order by step")
    assert found == [(1, 1), (2, 1), (3, 1), *((step, 2) for step in range(4, 9))]
    assert receipts.reports_of(told, run.record.run.run) == curves.read(run.out)
    assert asked(told, "select sum(tokens), min(loss) from metrics where what = 'training'") == [(240, 0.25)]


def test_what_a_checkpoint_saw_is_found(told, shards, tmp_path):
    """From its own folder, and from the lake where it was copied alone, a checkpoint's rows are those of its steps."""
    run = Made(tmp_path / "run", shards, epochs=2).steps(2).steps(6).end()
    expected = ledger.rows_of(run.out / ledger.NAME, 2)
    said, rows = receipts.trained_on(run.out / "checkpoint-2")
    assert (said.step, rows) == (2, expected)
    assert len(rows) == 6
    assert receipts.trained_on(run.out)[1]["times"].to_pylist() == [2] * 12
    alone = shutil.copytree(run.out / "checkpoint-2", tmp_path / "alone")
    with pytest.raises(LakeError, match="no ledger of"):
        receipts.trained_on(alone)
    with pytest.raises(UnknownRef):
        receipts.trained_on(alone, told)
    receipts.record(told, run.out)
    assert receipts.trained_on(alone, told) == (said, expected)
    assert receipts.trained_on(tmp_path) is None


def test_which_checkpoints_saw_a_row_is_found(told, shards, tmp_path):
    """A row, by its id or by the run that it is made of, names the runs that took it and the checkpoints behind."""
    run = Made(tmp_path / "run", shards, epochs=2).steps(2).steps(6).end()
    stopped = Made(tmp_path / "other", shards).steps(1)
    receipts.record(told, run.out)
    receipts.record(told, stopped.out)
    came_to = ledger.rows_of(stopped.out / ledger.NAME, 1)["id"].to_pylist()
    early = set(ledger.rows_of(run.out / ledger.NAME, 2)["id"].to_pylist())
    query = "select source_run_id, id from sft"
    with closing(connect(told.snapshot(), sql=needed(query))) as con:
        rows = con.sql(query).fetchall()
    assert len(rows) == 12
    for name, row in rows:
        assert row in ids_of(name, [name])
        found = {one.kept.run: one for one in receipts.seen(told, [row])}
        assert (stopped.record.run.run in found) == (row in came_to)
        saw = found[run.record.run.run]
        assert saw.steps == ledger.steps_of(run.out / ledger.NAME, row)
        assert len(saw.steps) == 2
        assert dict(saw.checkpoints).keys() == ({"checkpoint-2"} if row in early else set()) | {"checkpoint-8"}
        assert dict(saw.checkpoints)["checkpoint-8"] == 2
    assert receipts.seen(told, ["sft-0000000000000000"]) == []
    assert ids_of("sft-0123456789abcdef", ["r"], ["t"]) == ["sft-0123456789abcdef"]


def test_what_a_run_trained_on_becomes_replay(told, shards, tmp_path):
    """The rows that its steps took are sightings, seen by the run when it ended; told again they add nothing."""
    run = Made(tmp_path / "run", shards).steps(2).end()
    receipts.record(told, run.out)
    [kept] = receipts.runs(told)
    assert replayed.replay(told, kept, dry_run=True).added == 6
    done = replayed.replay(told, kept)
    assert (done.added, done.rejected) == (6, {})
    again = replayed.replay(told, kept)
    assert (again.added, again.held) == (0, 6)
    rows = told.read("replay").to_pylist()
    assert {row["training_run"] for row in rows} == {kept.run}
    assert {row["document"] for row in rows} == {f"sft@{kept.snapshot}"}
    assert {row["recorded_at"] for row in rows} == {kept.at}
    seen = set(ledger.rows_of(run.out / ledger.NAME, 2)["id"].to_pylist())
    names = {name for name in map("run-{}".format, range(12)) if seen & {*ids_of(name, [name])}}
    assert all(any(f"Say {name}." in row["content"] for row in rows) for name in names)
    run.resume(2).steps(2).end()
    receipts.record(told, run.out)
    assert replayed.replay(told, receipts.run_named(told, kept.run)).added == 12


def test_answers_of_a_policy_come_in_with_what_they_were_worth(told, shards, tmp_path):
    """Each answer is evidence of its run, each reward a verdict; the line of the file is where it comes from."""
    run = Made(tmp_path / "run", shards, method="grpo").steps(2).end()
    name = run.record.run.run
    answers = [answer(name, step, sample) for step in range(2) for sample in range(3)]
    Rollouts(run.out, name).append(answers)
    with (run.out / rollouts.NAME).open("ab") as file:
        file.write(b'{"run": "torn')
    assert receipts.record(told, run.out).rollouts == 6
    assert receipts.record(told, run.out) == Brought(
        run=name, method="grpo", state="stopped", steps=2, metrics=0, rollouts=0, receipt=False
    )
    assert state(told) == {"receipts": 1, "metrics": 2, "evidence": 18, "scores": 18, "replay": 0}
    lines = [row["source"]["line"] for row in told.read("evidence").to_pylist() if row["stream"] == "grpo"]
    assert sorted(lines) == [1, 2, 3, 4, 5, 6]
    with closing(connect(told.snapshot(), sql=needed("verdicts"))) as con:
        verdict = con.execute("select category, score from verdicts where run_id = ?", [answers[0].run_id]).fetchall()
    assert verdict == [("accepted", 1.0)]
    with pytest.raises(UsageError, match="its own answers"):
        replayed.replay(told, receipts.run_named(told, name))


def test_parts_of_a_file_of_answers_keep_their_lines(told, shards, tmp_path, monkeypatch):
    """However many answers are read at a time, each says on which line it stands."""
    monkeypatch.setattr(receipts, "BATCH_ROLLOUTS", 2)
    run = Made(tmp_path / "run", shards, method="grpo").steps(1).end()
    Rollouts(run.out, "r").append([answer("r", 0, sample) for sample in range(5)])
    receipts.record(told, run.out)
    rows = [row for row in told.read("evidence").to_pylist() if row["stream"] == "grpo"]
    assert {row["source"]["line"] - 1 for row in rows} == {json.loads(row["extra"])["sample"] for row in rows}
    assert len(rows) == 5


def answer(run: str, step: int, sample: int) -> Rollout:
    """An answer to one task."""
    return Rollout(
        run=run,
        step=step,
        policy=rollouts.policy_of(run, step),
        task_id="task-run-0",
        task=None,
        sample=sample,
        seed=sample,
        prompt="Say run-0.",
        completion=f"answer {step} {sample}",
        completion_ids=(1, 2),
        reward=1.0,
        outcome="passed",
        tests_run=1,
        tests_passed=1,
        exit_code=0,
        stderr="",
        scorer=Scorer("task-tests", "1", None),
        verdict=Verdict("accepted", score=1.0, reasons=("passed",)),
        recorded_at=MOMENT + timedelta(seconds=step),
    )


def test_a_run_is_named_by_how_its_id_begins(told, shards, tmp_path):
    """The start of an id will do where it is the only one; the last that came in is listed first."""
    for name in ("sft-a1", "sft-a2", "sft-b"):
        Made(tmp_path / name, shards, run=name).steps(1)
        receipts.record(told, tmp_path / name)
    assert [one.run for one in receipts.runs(told)] == ["sft-b", "sft-a2", "sft-a1"]
    assert receipts.run_named(told, "sft-b").folder == str((tmp_path / "sft-b").absolute())
    with pytest.raises(UnknownRef, match="2 runs"):
        receipts.run_named(told, "sft-a")
    with pytest.raises(UnknownRef, match="no run 'dpo'"):
        receipts.run_named(told, "dpo")


def test_what_is_no_whole_run_is_refused(told, shards, tmp_path):
    """A folder without a record, without its ledger, with another's or with broken reports brings in nothing."""
    run = Made(tmp_path / "run", shards).steps(1)
    other = Made(tmp_path / "other", shards, epochs=3)
    before = state(told)
    with pytest.raises(LakeError, match="no record of a run"):
        receipts.record(told, tmp_path)
    shutil.copy(other.out / ledger.NAME, run.out / ledger.NAME)
    with pytest.raises(LakeError, match="of another plan"):
        receipts.record(told, run.out)
    Path(run.out / ledger.NAME).unlink()
    with pytest.raises(LakeError, match=ledger.NAME):
        receipts.record(told, run.out)
    (other.out / curves.NAME).write_text("{}\n")
    with pytest.raises(Damaged, match="line 1"):
        receipts.record(told, other.out)
    Path(other.out / curves.NAME).unlink()
    answers = other.out / rollouts.NAME
    answers.write_text('{"step": 1\n')
    with pytest.raises(Damaged, match=f"{answers}: line 1"):
        receipts.record(told, other.out)
    assert state(told) == before
