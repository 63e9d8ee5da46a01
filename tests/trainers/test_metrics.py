"""What is told of a run while it goes: of what was measured, at each step once, and nothing of what never ran."""

import json
import math
import sys
from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest

from lake.errors import Damaged
from trainers import curves, ledger
from trainers.curves import Curve, Point
from trainers.plan import Stage, plan
from trainers.record import read
from trainers.recorder import Record
from trainers.shards import Shards, writing

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from trainers import batches, metrics  # noqa: E402
from trainers.loop import FromPlan, HeldOut, Job, arguments  # noqa: E402
from trainers.spec import Checkpoints, Data, Model, Optimizer, Report, RunSpec  # noqa: E402

STEPS = 8
VOCABULARY = 64
POINT = Point(step=3, at=datetime(2026, 4, 23, tzinfo=UTC), session=1, loss=1.5, more={"entropy": 0.25})


class Tiny(FromPlan, transformers.Trainer):
    """A trainer of packed rows."""


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Shards:
    """Forty short texts."""
    folder = tmp_path_factory.mktemp("shards") / "made"
    generator = np.random.default_rng(0)
    with writing(folder, ("text",)) as writer:
        for number in range(40):
            ids = generator.integers(2, VOCABULARY, 12)
            writer.add({"id": f"sft-{number:016x}"}, {"text": (ids, [place > 3 for place in range(12)])})
        writer.finish({"snapshot": "0" * 32}, {"offered": 40})
    return Shards.open(folder)


def spec_of(out, **more) -> RunSpec:
    """Eight steps of four rows, in two micro-batches."""
    settings = {"optimizer": Optimizer(learning_rate=0.01, parts=2), "checkpoints": Checkpoints(every=3), **more}
    return RunSpec(
        method="sft",
        out=str(out),
        data=Data(built="shards"),
        model=Model(path="tiny"),
        stages=(Stage(rows=4, length=32, steps=STEPS),),
        **settings,
    )


def trained(out, shards, *, resume=None, callbacks=(), **more):
    """Train a tiny model on these shards, with a reporter."""
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    transformers.set_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        use_cache=False,
    )
    model = transformers.AutoModelForCausalLM.from_config(config)
    spec = spec_of(out, **more)
    made = plan(shards.keys, shards.fields["text"].lengths, spec.stages, 0)
    job = Job(spec=spec, shards=shards, plan=made, tokenizer=None)

    def make(laid, rows):
        return batches.packed(laid, rows, shards.fields["text"], 0)

    held_out = HeldOut(shards, shards.fields["text"].lengths, Stage(rows=8, length=32), make)
    said = arguments(job, eval_strategy="steps", eval_steps=4, prediction_loss_only=True)
    trainer = Tiny(model, transformers.TrainingArguments(**said), eval_dataset=held_out, job=job, make=make)
    if resume is None:
        record = Record.begin(out, spec, shards={"train": shards}, plan=made)
    else:
        record = Record.resume(out, spec, shards={"train": shards}, plan=made, step=resume)
    reporter = metrics.attach(trainer, job, record)
    for callback in callbacks:
        trainer.add_callback(callback)
    trainer.train(resume_from_checkpoint=None if resume is None else str(out / f"checkpoint-{resume}"))
    record.finish(trainer.state.global_step, metrics=reporter.final)


@pytest.fixture(scope="module")
def run(tmp_path_factory, shards):
    """A run that went through."""
    out = tmp_path_factory.mktemp("run")
    trained(out, shards)
    return out


def steady(points):
    """What of points does not depend on the clock or on interruptions."""
    return [
        msgspec.structs.replace(one, at=POINT.at, session=1, seconds=None, tokens_per_second=None, data_wait=None)
        for one in points
    ]


def test_each_step_has_its_line(run, shards):
    """A line a step, with the loss, the rate and the norm, and the tokens that the step's batches have."""
    made = plan(shards.keys, shards.fields["text"].lengths, spec_of(run).stages, 0)
    lines = [json.loads(line) for line in (run / curves.NAME).read_text().splitlines()]
    steps = [line for line in lines if line["what"] == "training"]
    assert [line["step"] for line in steps] == list(range(1, STEPS + 1))
    for line in steps:
        assert (line["tokens"], line["trained_tokens"]) == ledger.tokens_at(made, shards, line["step"] - 1)
        assert line["learning_rate"] > 0 or line["step"] == STEPS
        assert line["grad_norm"] > 0
        assert line["tokens_per_second"] == pytest.approx(line["tokens"] / line["seconds"], rel=0.01)
        assert 0 <= line["data_wait"] <= 1
        assert not {"epoch", "total_flos"} & line.keys()
    assert steps[-1]["loss"] < steps[0]["loss"]
    evaluations = [line for line in lines if line["what"] == "evaluation"]
    assert [line["step"] for line in evaluations] == [4, 8]
    assert all(line["loss"] > 0 and "tokens_per_second" not in line for line in evaluations)


def test_checkpoints_are_recorded(run):
    """Each checkpoint is in the record once it is there."""
    said = read(run)
    assert said.state == "finished"
    assert [one.step for one in said.checkpoints] == [3, 6, 8]
    assert all("model.safetensors" in one.files for one in said.checkpoints)


def test_the_end_sums_up(run):
    """The record ends with the last losses, the speed of the whole run, and all the tokens that its lines count."""
    said, points = read(run), curves.read(run)
    steps = [one for one in points if one.what == "training"]
    assert said.metrics["loss"] == steps[-1].loss
    assert said.metrics["evaluation_loss"] == points[-1].loss
    assert said.counters == {name: sum(getattr(one, name) for one in steps) for name in ("tokens", "trained_tokens")}
    speed = said.counters["tokens"] / sum(one.seconds for one in steps)
    assert said.metrics["tokens_per_second"] == pytest.approx(speed, rel=0.01)


class Stops(transformers.TrainerCallback):
    """Ends a run by force after some steps, as a machine that goes down would."""

    def on_step_end(self, args, state, control, **_):
        if state.global_step == 5:
            raise KeyboardInterrupt


def test_a_run_that_goes_on_has_the_lines_of_one_that_was_never_interrupted(tmp_path, shards, run):
    """What was reported past the checkpoint is cut and reported again: the same but for times, each step once."""
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, shards, callbacks=[Stops()])
    assert curves.read(tmp_path)[-1].step == 4
    trained(tmp_path, shards, resume=3)
    points = curves.read(tmp_path)
    assert steady(points) == steady(curves.read(run))
    assert {one.step: one.session for one in points if one.what == "training"} == {
        step: 1 if step <= 3 else 2 for step in range(1, STEPS + 1)
    }


def test_reports_at_longer_intervals_end_at_checkpoints(tmp_path, shards):
    """With a report every fourth step there is still one before each checkpoint, and all tokens are in some line."""
    trained(tmp_path, shards, report=Report(every=4))
    points = [one for one in curves.read(tmp_path) if one.what == "training"]
    assert [one.step for one in points] == [1, 3, 4, 6, 8]
    made = plan(shards.keys, shards.fields["text"].lengths, spec_of(tmp_path).stages, 0)
    assert sum(one.tokens for one in points) == sum(ledger.tokens_at(made, shards, step)[0] for step in range(STEPS))


class Poisons(transformers.TrainerCallback):
    """Makes a weight that is no number."""

    def on_step_begin(self, args, state, control, model=None, **_):
        if state.global_step == 1:
            with torch.no_grad():
                next(model.parameters()).fill_(math.nan)


def test_a_loss_that_is_no_number_ends_the_run_before_it_is_saved(tmp_path, shards):
    """The step is named, and the checkpoint that was due is never written."""
    with pytest.raises(metrics.Diverged, match=r"step 3: the loss is nan"):
        trained(tmp_path, shards, callbacks=[Poisons()], report=Report(every=100))
    assert [one.step for one in curves.read(tmp_path)] == [1]
    assert list(tmp_path.glob("checkpoint-*")) == []


def test_nothing_is_printed_off_a_terminal(tmp_path, shards, capfd):
    """A run whose stderr is a file writes nothing there, and nothing at all on stdout."""
    trained(tmp_path, shards)
    assert capfd.readouterr() == ("", "")


def test_a_terminal_sees_how_far_it_is(monkeypatch, capsys):
    """On a terminal the line has steps, rate, tokens a second, loss and the time left, and goes away at the end."""
    line = metrics._Line("sft", 400)
    line.begin(100)
    line._since -= 50
    line.show(200, POINT)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    line._shown -= 1
    last = msgspec.structs.replace(POINT, tokens_per_second=45210.4)
    line.show(200, last)
    line.clear()
    shown = capsys.readouterr().err
    assert "sft  200 of 400 steps, 2.0 steps/s, 45,210 tokens/s, loss 1.5, 0:01:4" in shown
    assert shown.endswith("\r\x1b[K")
    assert metrics.told("sft", 1, 3, 0.25, None) == "sft  1 of 3 steps, 4.0 s/step, 0:00:08 left"


def test_lines_are_read_as_they_were_written(tmp_path):
    """What a method measures stands beside the rest, and what was not measured is not there."""
    assert json.loads(curves.encode(POINT)) == {
        "step": 3,
        "what": "training",
        "at": "2026-04-23T00:00:00Z",
        "session": 1,
        "loss": 1.5,
        "entropy": 0.25,
    }
    assert curves.decode(curves.encode(POINT)) == POINT
    assert curves.read(tmp_path) == []


def test_a_torn_line_is_cut_and_damage_is_told(tmp_path):
    """A line that was being written when the machine went down counts for nothing; a broken one within is an error."""
    curve = Curve(tmp_path)
    for step in (1, 2, 3):
        curve.add(msgspec.structs.replace(POINT, step=step), durably=step == 3)
    with curve.path.open("ab") as file:
        file.write(b'{"step": 4, "what"')
    assert [one.step for one in curves.read(tmp_path)] == [1, 2, 3]
    curve.cut(2)
    assert [one.step for one in curves.read(tmp_path)] == [1, 2]
    curve.path.write_bytes(b"{\n" + curve.path.read_bytes())
    with pytest.raises(Damaged, match="line 1"):
        curve.cut(1)
