"""What a run goes on from: there is always a whole checkpoint, and what it began with must be what is there now."""

import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from trainers import record, recorder, run  # noqa: E402
from trainers.recorder import Record  # noqa: E402


def whole(out) -> list[int]:
    """The steps of the whole checkpoints in a folder."""
    return [step for step, folder in record.checkpoints(out).items() if record.trained(folder) is not None]


@pytest.fixture
def keeps_one(settings):
    """Settings of seven steps, of which only the newest checkpoint stays."""
    return settings("run", stages=[{"rows": 4, "length": 64, "steps": 7}], checkpoints={"every": 2, "keep": 1})


def test_a_checkpoint_stays_until_a_newer_one_is_whole(keeps_one, monkeypatch):
    """A run that is killed once transformers has saved a checkpoint, and before it is whole, has the one before."""
    marked = Record.checkpoint

    def killed(self, step, folder):
        if step == 4:
            raise KeyboardInterrupt
        marked(self, step, folder)

    monkeypatch.setattr(Record, "checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        run.train(run.prepare(keeps_one))
    assert (list(record.checkpoints(keeps_one.out)), whole(keeps_one.out)) == ([2, 4], [2])
    monkeypatch.setattr(Record, "checkpoint", marked)
    done = run.train(run.prepare(keeps_one, resume=True), resume=True)
    assert (done.state, done.sessions[1].first_step) == ("finished", 2)
    assert whole(keeps_one.out) == list(record.checkpoints(keeps_one.out)) == [7]
    # The record keeps what the others were.
    assert [one.step for one in done.checkpoints] == [2, 4, 6, 7, 7]
    assert all("model.safetensors" in one.files for one in done.checkpoints)


def test_half_of_a_checkpoint_is_none(keeps_one, monkeypatch):
    """A run that is killed while it takes a checkpoint away has the newer one; what is left of it goes next time."""
    taken = shutil.rmtree

    def torn(folder, **_):
        (Path(folder) / "model.safetensors").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(recorder.shutil, "rmtree", torn)
    with pytest.raises(KeyboardInterrupt):
        run.train(run.prepare(keeps_one))
    assert (list(record.checkpoints(keeps_one.out)), whole(keeps_one.out)) == ([2, 4], [4])
    monkeypatch.setattr(recorder.shutil, "rmtree", taken)
    assert run.train(run.prepare(keeps_one, resume=True), resume=True).state == "finished"
    assert list(record.checkpoints(keeps_one.out)) == [7]
