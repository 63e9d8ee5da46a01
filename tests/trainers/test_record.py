"""What is written down about a run: before its first step, at its end, and if it ends otherwise."""

import hashlib
import json
import os
import re
import shutil
import subprocess
from datetime import UTC, datetime

import msgspec
import pytest

from lake.errors import Damaged, LakeError, UsageError
from tests.trainers.launching import python
from trainers import ledger, record, recorder, surroundings
from trainers.plan import Stage, plan
from trainers.recorder import Record
from trainers.shards import Shards, writing

MADE_FROM = {
    "snapshot": "5" * 32,
    "tables": {"evidence": 41, "scores": 17},
    "dataset": "sft",
    "policy": {"include_partial": False},
    "views": "a" * 64,
    "tokenizer": "b" * 64,
    "template": "c" * 64,
    "length": 32,
}
COUNTS = {"offered": 12, "kept": 10, "dropped": 1, "truncated": 0, "masked": 1}
SPEC = {"method": "sft", "seed": 7, "out": "runs/one", "data": {"split_seed": 3}, "optimizer": {"learning_rate": 0.001}}


@pytest.fixture
def shards(tmp_path) -> Shards:
    """Ten rows, as they are built from a snapshot."""
    with writing(tmp_path / "shards", ("text",)) as writer:
        for number in range(10):
            writer.add({"id": f"sft-{number:016x}"}, {"text": ([1] * (number + 5), [True] * (number + 5))})
        writer.finish(MADE_FROM, COUNTS)
    return Shards.open(tmp_path / "shards")


def planned(shards, seed=7, rows=2):
    """A plan of several steps over rows of 32 tokens."""
    return plan(shards.keys, shards.fields["text"].lengths, [Stage(rows=rows, length=32, epochs=4)], seed)


def begun(out, shards, **more) -> Record:
    """A run of those shards that has just begun."""
    return Record.begin(out, SPEC, shards={"train": shards}, plan=planned(shards), **more)


def test_a_run_is_written_down_before_its_first_step(tmp_path, shards):
    """Before anything is trained, the folder says what on, in which order, from what, with what, and which rows."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    base = record.files_at(tmp_path / "model")
    adapter = {"r": 16, "experts": 8}
    begun(tmp_path / "run", shards, model=base, adapter=adapter, device="NVIDIA H200", world=2)
    said = json.loads((tmp_path / "run" / record.NAME).read_text())
    assert said["state"] == "started"
    assert re.fullmatch(r"sft-\d{8}T\d{6}-[0-9a-f]{8}", said["run"])
    assert {name: said[name] for name in ("snapshot", "tables", "dataset", "policy", "views")} == {
        name: MADE_FROM[name] for name in ("snapshot", "tables", "dataset", "policy", "views")
    }
    used = said["shards"]["train"]
    assert (used["key"], used["counts"], used["rows"]) == (shards.description.key, COUNTS, 10)
    made = planned(shards)
    assert (said["plan"]["digest"], said["plan"]["steps"], said["plan"]["seed"]) == (made.digest, made.steps, 7)
    [stage] = said["plan"]["stages"]
    assert stage["tokens"] == 4 * sum(range(5, 15))
    assert stage["fill"] == pytest.approx(stage["tokens"] / (32 * made.stages[0].count))
    assert said["configuration"] == SPEC
    assert said["configuration_sha256"] == record.digest_of(dict(reversed(SPEC.items())))
    assert said["seeds"] == {"seed": 7, "data.split_seed": 3}
    assert said["model"]["files"]["config.json"]["sha256"] == hashlib.sha256(b"{}").hexdigest()
    assert said["template_sha256"] == MADE_FROM["template"]
    assert said["adapter"] == adapter
    [session] = said["sessions"]
    assert (session["device"], session["world"], session["first_step"]) == ("NVIDIA H200", 2, 0)
    assert {"numpy", "pyarrow", "msgspec"} <= session["versions"].keys()
    assert session["last_step"] is None
    assert ledger.plan_of(tmp_path / "run" / ledger.NAME) == made.digest


def test_of_the_environment_only_what_launchers_say_is_kept(tmp_path, shards, monkeypatch):
    """A secret in the environment is in no record; what torchrun says is."""
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    begun(tmp_path / "run", shards)
    text = (tmp_path / "run" / record.NAME).read_text()
    assert json.loads(text)["sessions"][0]["launch"]["WORLD_SIZE"] == "8"
    assert "hunter2" not in text
    assert "AWS_SECRET_ACCESS_KEY" not in text


def test_a_run_is_completed(tmp_path, shards):
    """The end adds checkpoints with the sha256 of their files, figures and how long it took; a checkpoint names it."""
    run = begun(tmp_path / "run", shards)
    steps = run.run.plan.steps
    saved = tmp_path / "run" / f"checkpoint-{steps}"
    saved.mkdir()
    (saved / "model.safetensors").write_bytes(b"weights")
    run.checkpoint(steps, saved)
    run.checkpoint(steps, saved)
    run.note({"parameters": 1234})
    run.note({"trained_tokens": 90})
    run.finish(steps, metrics={"loss": 0.5})
    said = record.read(tmp_path / "run")
    assert said == run.run
    assert (said.state, said.steps, said.metrics) == ("finished", steps, {"loss": 0.5})
    assert said.counters == {"parameters": 1234, "trained_tokens": 90}
    assert said.seconds is not None
    assert said.seconds >= 0
    [one] = said.checkpoints
    assert (one.step, one.folder) == (steps, f"checkpoint-{steps}")
    assert one.files["model.safetensors"].sha256 == hashlib.sha256(b"weights").hexdigest()
    mark = record.trained(saved)
    assert mark == record.Trained(said.run, steps, said.plan.digest)
    assert record.TRAINED in one.files
    assert record.trained(tmp_path) is None


def test_fewer_steps_than_planned_are_a_stop(tmp_path, shards):
    """A run that ended before its plan did is stopped, not finished."""
    run = begun(tmp_path / "run", shards)
    run.finish(1)
    assert (record.read(tmp_path / "run").state, record.read(tmp_path / "run").steps) == ("stopped", 1)


def test_a_failure_is_written_down(tmp_path, shards):
    """An error that ends a run is in its record, with its message; a run that somebody interrupts is stopped."""
    run = begun(tmp_path / "run", shards)
    run.fail(LakeError("the loss is nan"), step=3)
    said = record.read(tmp_path / "run")
    assert (said.state, said.error, said.steps) == ("failed", "LakeError: the loss is nan", 3)
    assert said.sessions[-1].ended_at is not None
    run.fail(KeyboardInterrupt())
    assert (record.read(tmp_path / "run").state, record.read(tmp_path / "run").error) == (
        "stopped",
        "KeyboardInterrupt",
    )


def test_a_run_that_goes_on_has_one_more_session(tmp_path, shards):
    """Resuming keeps the id and the checkpoints up to there; what was after them is forgotten, the sessions are not."""
    run = begun(tmp_path / "run", shards)
    for step in (1, 2, 3, 4):
        saved = tmp_path / "run" / f"checkpoint-{step}"
        saved.mkdir()
        run.checkpoint(step, saved)
    assert [one.step for one in record.read(tmp_path / "run").checkpoints] == [1, 2, 3]
    again = Record.resume(
        tmp_path / "run", SPEC, shards={"train": shards}, plan=planned(shards), step=2, device="cuda", world=4
    )
    assert again.session == 2
    said = record.read(tmp_path / "run")
    assert (said.run, said.state, said.steps) == (run.run.run, "started", 2)
    assert [one.step for one in said.checkpoints] == [1, 2]
    killed, now = said.sessions
    assert (killed.last_step, killed.ended_at, killed.seconds) == (2, None, None)
    assert (now.first_step, now.device, now.world) == (2, "cuda", 4)
    again.finish(said.plan.steps)
    assert record.read(tmp_path / "run").state == "finished"


def test_a_checkpoint_that_a_killed_run_had_not_read_is_read_when_it_goes_on(tmp_path, shards):
    """The newest checkpoint may not be in the record of a run that was killed; one of another run is never in it."""
    run = begun(tmp_path / "run", shards)
    for step, name in ((1, run.run.run), (2, "sft-other")):
        saved = tmp_path / "run" / f"checkpoint-{step}"
        saved.mkdir()
        mark = record.Trained(name, step, run.run.plan.digest)
        (saved / record.TRAINED).write_bytes(msgspec.json.encode(mark))
    Record.resume(tmp_path / "run", SPEC, shards={"train": shards}, plan=planned(shards), step=2).finish(3)
    [one] = record.read(tmp_path / "run").checkpoints
    assert (one.step, list(one.files)) == (1, [record.TRAINED])


def test_a_checkpoint_that_was_taken_away_is_still_told(tmp_path, shards):
    """Where only the newest are kept, the record says that the others were there, with what their files were."""
    run = begun(tmp_path / "run", shards)
    for step in (1, 2):
        saved = tmp_path / "run" / f"checkpoint-{step}"
        saved.mkdir()
        run.checkpoint(step, saved)
        run._read[-1].result()
        shutil.rmtree(saved)
    run.finish(2)
    assert [(one.step, len(one.files)) for one in record.read(tmp_path / "run").checkpoints] == [(1, 1), (2, 1)]
    assert recorder._checkpoint(tmp_path, 3, tmp_path / "gone").files == {}


@pytest.fixture
def unreadable(monkeypatch):
    """Lets the second checkpoint lie where a disk fails."""
    read_back = recorder.files_of

    def bad(folder):
        if folder.name == "checkpoint-2":
            raise OSError(5, "Input/output error", str(folder))
        return read_back(folder)

    monkeypatch.setattr(recorder, "files_of", bad)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.usefixtures("unreadable")
def test_a_checkpoint_that_cannot_be_read_back_ends_the_run_in_its_record(last, tmp_path, shards):
    """Whether it is the last one or not, the error is written down, and what could be read before."""
    run = begun(tmp_path / "run", shards)
    saved = [tmp_path / "run" / f"checkpoint-{step}" for step in (1, 2, 3)]
    for folder in saved:
        folder.mkdir()
    run.checkpoint(1, saved[0])
    run.checkpoint(2, saved[1])
    with pytest.raises(OSError, match="checkpoint-2") as caught:
        run.finish(2) if last else run.checkpoint(3, saved[2])
    run.fail(caught.value, step=2)
    said = record.read(tmp_path / "run")
    assert (said.state, said.error) == ("failed", f"OSError: {caught.value}")
    assert [one.step for one in said.checkpoints] == [1]


@pytest.mark.usefixtures("unreadable")
def test_what_ended_a_run_is_told_though_a_checkpoint_cannot_be_read(tmp_path, shards):
    """Of several that are still being read, those that can be read are in the record, and the error is."""
    run = begun(tmp_path / "run", shards)
    for step in (1, 2, 3):
        saved = tmp_path / "run" / f"checkpoint-{step}"
        saved.mkdir()
        mark = record.Trained(run.run.run, step, run.run.plan.digest)
        (saved / record.TRAINED).write_bytes(msgspec.json.encode(mark))
    again = Record.resume(tmp_path / "run", SPEC, shards={"train": shards}, plan=planned(shards), step=3)
    again.fail(LakeError("the loss is nan"), step=3)
    said = record.read(tmp_path / "run")
    assert (said.state, said.error) == ("failed", "LakeError: the loss is nan")
    assert [one.step for one in said.checkpoints] == [1, 3]


def test_another_plan_is_no_resumption(tmp_path, shards):
    """With another seed or another number of rows, or as another method, a run cannot go on."""
    begun(tmp_path / "run", shards)
    before = (tmp_path / "run" / record.NAME).read_bytes()
    for other in (planned(shards, seed=8), planned(shards, rows=4)):
        with pytest.raises(UsageError, match="its plan is"):
            Record.resume(tmp_path / "run", SPEC, shards={"train": shards}, plan=other, step=1)
    with pytest.raises(UsageError, match="a run of sft"):
        Record.resume(
            tmp_path / "run", {**SPEC, "method": "dpo"}, shards={"train": shards}, plan=planned(shards), step=1
        )
    faster = {**SPEC, "out": "elsewhere", "optimizer": {"learning_rate": 0.002}}
    with pytest.raises(UsageError, match=r"another optimizer\.learning_rate$"):
        Record.resume(tmp_path / "run", faster, shards={"train": shards}, plan=planned(shards), step=1)
    with writing(tmp_path / "others", ("text",)) as writer:
        writer.add({"id": "sft-0"}, {"text": ([1], [True])})
        writer.finish({**MADE_FROM, "template": "another"}, COUNTS)
    others = {"train": Shards.open(tmp_path / "others")}
    with pytest.raises(UsageError, match="its shards are"):
        Record.resume(tmp_path / "run", SPEC, shards=others, plan=planned(shards), step=1)
    with pytest.raises(UsageError, match="recorded here already"):
        begun(tmp_path / "run", shards)
    assert (tmp_path / "run" / record.NAME).read_bytes() == before


def test_only_the_first_process_writes(tmp_path, shards):
    """The other processes of a run call the same and leave no trace."""
    run = begun(tmp_path / "run", shards, rank=1, run="sft-x")
    run.note({"parameters": 1})
    run.checkpoint(1, tmp_path / "nowhere")
    run.finish(1)
    assert run.run.run == "sft-x"
    assert not (tmp_path / "run").exists()


def test_a_record_is_whole_or_not_there(tmp_path, monkeypatch):
    """A write that fails leaves what was there before, and no scraps."""
    path = tmp_path / record.NAME
    record.write_whole(path, b"before")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        record.write_whole(path, b"after")
    assert path.read_bytes() == b"before"
    assert [one.name for one in tmp_path.iterdir()] == [record.NAME]


def test_what_is_no_record_is_refused(tmp_path, shards):
    """A folder without one, one of a newer format, and damage are told apart."""
    with pytest.raises(LakeError, match="no record of a run"):
        record.read(tmp_path)
    begun(tmp_path / "run", shards)
    path = tmp_path / "run" / record.NAME
    said = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode({**said, "format": 2}))
    with pytest.raises(UsageError, match="format 2"):
        record.read(tmp_path / "run")
    path.write_bytes(msgspec.json.encode({**said, "mood": "good"}))
    with pytest.raises(Damaged, match="mood"):
        record.read(tmp_path / "run")
    (tmp_path / record.TRAINED).write_text("{")
    with pytest.raises(Damaged, match=record.TRAINED):
        record.trained(tmp_path)


def test_code_is_named_by_its_checkout(tmp_path):
    """A checkout has its commit and what is changed in it, 200 lines at most; a folder within another's has none."""
    git = ["git", "-c", "user.name=n", "-c", "user.email=e", "-c", "init.defaultBranch=trunk"]
    subprocess.run([*git, "init", "-q", tmp_path], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], cwd=tmp_path, check=True)
    clean = surroundings.code_of(tmp_path)
    assert (clean.branch, clean.dirty, clean.status) == ("trunk", False, ())
    assert re.fullmatch(r"[0-9a-f]{40}", clean.commit)
    (tmp_path / "site-packages").mkdir()
    for number in range(250):
        (tmp_path / f"new-{number}").touch()
    dirty = surroundings.code_of(tmp_path)
    assert dirty.dirty
    assert len(dirty.status) == surroundings.STATUS_LINES
    assert surroundings.code_of(tmp_path / "site-packages") is None


def test_no_engine_is_needed(tmp_path):
    """On a machine with neither torch nor a lake's engines a run can be recorded and its ledger read."""
    code = """
import sys
for name in ("torch", "transformers", "duckdb", "deltalake", "typer"):
    sys.modules[name] = None
from trainers import ledger, record, recorder, surroundings
print(sorted(surroundings.versions()) != [])
"""
    assert python("-c", code).out == "True\n"


def test_ids_sort_by_time_and_differ():
    """Two runs that begin in one second have two ids, and the id says when."""
    ids = {record.new_id("sft") for _ in range(20)}
    assert len(ids) == 20
    assert all(one.startswith(f"sft-{datetime.now(UTC):%Y}") for one in ids)
