"""GRPO: a policy learns what its tests reward, in the order of the plan, and the same however a run is interrupted."""

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("trl")

import msgspec  # noqa: E402
from trl.trainer.utils import RepeatSampler  # noqa: E402

from ingest.run import Options as IngestOptions  # noqa: E402
from ingest.run import ingest  # noqa: E402
from lake.errors import LakeError, UsageError  # noqa: E402
from tests.trainers import chatml  # noqa: E402
from tests.trainers.programs import (  # noqa: E402
    RIGHT,
    ROWS,
    STEPS,
    TIMES,
    WORDS,
    drawn,
    of_grpo,
    rollouts,
    write_tasks,
    writes_programs,
)
from tests.trainers.toys import END, apart, config, done, interrupted, logged, moved, same, weights  # noqa: E402
from trainers import answers, grpo, receipts, spec  # noqa: E402
from trainers.rewards import TASK, RewardByTests  # noqa: E402
from trainers.rollouts import NAME  # noqa: E402
from trainers.run import prepare  # noqa: E402

ROUNDS = {"steps_per_generation": 2, "iterations": 2, "generations": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model whose tokens are lines of programs, and tasks."""
    return writes_programs(tmp_path_factory.mktemp("grpo"))


@pytest.fixture(scope="module")
def straight(folder):
    """The folder of a run that nothing interrupts."""
    done(of_grpo(folder, "straight"))
    return folder / "straight"


def test_the_reward_rises(straight):
    """Tests that really run teach a policy what they want: the share of right answers grows."""
    told = [json.loads(line) for line in (straight / "metrics.jsonl").read_text().splitlines()]
    shares = [line["tests/passed"] for line in told if "tests/passed" in line]
    assert len(shares) == STEPS
    assert np.mean(shares[-2:]) > np.mean(shares[:2]) + 0.3
    rewards = [line["reward"] for line in told if "reward" in line]
    assert np.mean(rewards[-2:]) > np.mean(rewards[:2]) + 0.3


def test_every_answer_is_written_down(straight):
    """One line an answer, in the order of the plan: who gave it, what it was drawn with, and what came of it."""
    said = rollouts(straight)
    assert len(said) == STEPS * ROWS * TIMES
    plan, record = prepare(of_grpo(straight.parent, "again")).plan, json.loads((straight / "run.json").read_text())
    [laid] = plan.stages
    expected = [f"task-{laid.document[row]}" for step in range(STEPS) for row in plan.rows(step) for _ in range(TIMES)]
    assert [one.task_id for one in said] == expected
    assert len({one.run_id for one in said}) == len(said)
    for place, one in enumerate(said):
        step, within = divmod(place, ROWS * TIMES)
        number = int(one.task_id.removeprefix("task-"))
        assert (one.run, one.step, one.policy) == (record["run"], step, f"{record['run']}@{step}")
        assert one.seed == (4 + step * 1000003) % 2**31 + within
        assert (one.prompt, one.task) == ("?" * (number + 1), f"event-{number}")
        assert "".join(WORDS[token] for token in one.completion_ids if token > END) == one.completion
        right = f"return {RIGHT}" in one.completion
        assert (one.outcome == "passed") == right == (one.reward == 1.0) == (one.verdict.category == "accepted")
        assert (one.tests_run, one.tests_passed) == ((1, int(right)) if "return" in one.completion else (0, 0)) or (
            one.outcome == "failed" and one.tests_run == 1
        )
    assert {"passed", "failed", "broken"} >= {one.outcome for one in said} > {"passed"}


def test_a_run_that_goes_on_ends_where_it_would_have(folder, straight):
    """Its weights and its answers are those of a run that was never interrupted, each answer told once."""
    broken = of_grpo(folder, "broken")
    interrupted(broken, 3)
    out = folder / "broken"
    assert {one.step for one in rollouts(out)} == {0, 1, 2}
    with (out / NAME).open("ab") as file:
        file.write(b'{"run": "torn')
    done(broken, resume=True)
    assert weights(out) == weights(straight)
    assert drawn(out) == drawn(straight)


def test_the_order_is_that_of_the_plan_whoever_asks(folder):
    """All processes together have each step's prompts, repeated as TRL's own sampler would in the plan's order."""
    job = prepare(of_grpo(folder, "order", steps=4, parts=8, grpo={"steps_per_generation": 2}))
    trainer, samples = grpo.trainer(job), {}
    for world in (1, 2, 8):
        shares = []
        for rank in range(world):
            trainer.job = replace(job, rank=rank, processes=world)
            shares.append(trainer.samples(2))
        assert len({len(share) for share in shares}) == 1
        samples[world] = [one for share in shares for one in share]
    assert samples[1] == samples[2] == samples[8]
    [laid] = job.plan.stages
    planned = [int(laid.document[row]) for step in range(4) for row in job.plan.rows(step)]
    theirs = list(RepeatSampler(planned, mini_repeat_count=TIMES, batch_size=2 * ROWS, repeat_count=1, shuffle=False))
    later = [planned[place] for place in theirs][len(theirs) // 2 :]
    assert [one["task_id"] for one in samples[1]] == [f"task-{number}" for number in later]
    assert [one["place"] for one in samples[1]] == list(range(2 * ROWS * TIMES))


def test_answers_that_several_steps_learn_from(folder):
    """They are drawn once for all of these steps; a run goes on from between two draws, and from nowhere within."""
    with pytest.raises(UsageError, match=r"checkpoints\.every.*4 steps"):
        of_grpo(folder, "within", grpo=ROUNDS)
    with pytest.raises(UsageError, match=r"stages\[0\].*6 steps"):
        grpo.trainer(prepare(of_grpo(folder, "within", steps=6, every=4, grpo=ROUNDS)))
    done(of_grpo(folder, "whole", steps=8, every=4, grpo=ROUNDS))
    said = rollouts(folder / "whole")
    assert [one.step for one in said] == [step for step in (0, 4) for _ in range(4 * ROWS * 2)]
    broken = of_grpo(folder, "halves", steps=8, every=4, grpo=ROUNDS)
    interrupted(broken, 5)
    done(broken, resume=True)
    assert weights(folder / "halves") == weights(folder / "whole")
    assert drawn(folder / "halves") == drawn(folder / "whole")
    trainer = grpo.trainer(prepare(of_grpo(folder, "off", steps=4, every=4, grpo=ROUNDS)))
    checkpoint = folder / "whole" / "checkpoint-4"
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    (checkpoint / "trainer_state.json").write_text(json.dumps(state | {"global_step": 3}))
    with pytest.raises(UsageError, match="within a round"):
        trainer.train(resume_from_checkpoint=str(checkpoint))


def test_parts_of_a_step_add_up(folder, straight):
    """A step ends with the same weights in however many parts it is taken, also where they divide a group."""
    done(of_grpo(folder, "in-four", steps=2, parts=4))
    assert drawn(folder / "in-four") == drawn(straight)[: 2 * ROWS * TIMES]
    assert apart(folder / "in-four", straight / "checkpoint-2") < 1e-5
    with pytest.raises(UsageError, match="4 answers to each of 2 rows cannot be shared out in 3"):
        of_grpo(folder, "in-three", parts=3)


def test_the_reference_is_the_policy_in_memory(folder, monkeypatch):
    """It is the policy before its first step, whatever name its config has, and training leaves it alone."""
    load = answers.load_policy

    def elsewhere(job):
        model = load(job)
        model.config._name_or_path = str(folder / "nowhere")
        return model

    monkeypatch.setattr(grpo, "load_policy", elsewhere)
    trainer = grpo.trainer(prepare(of_grpo(folder, "held", steps=2, grpo={"beta": 0.5})))
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    after, kept = trainer.model.state_dict(), trainer.ref_model.state_dict()
    assert same(kept, before)
    assert not same(after, before)
    first, *_, last = logged(trainer, "kl")
    assert first == pytest.approx(0, abs=1e-6)
    assert last > 1e-4


def test_adapters_learn_and_the_reference_is_what_is_below_them(folder):
    """The weights below never change, and the divergence from them begins at nothing."""
    said = of_grpo(folder, "adapters", steps=2, grpo={"beta": 0.1}, lora={"r": 4})
    trainer = grpo.trainer(prepare(said))
    kept = {name: value.clone() for name, value in trainer.model.state_dict().items() if "lora" not in name}
    assert trainer.ref_model is None
    trainer.train()
    after = trainer.model.state_dict()
    assert same(after, kept)
    assert any(value.abs().sum() > 0 for name, value in after.items() if "lora_B" in name)
    assert logged(trainer, "kl")[0] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("loss", ["dapo", "grpo"])
def test_the_loss_on_what_was_held_out_does_not_depend_on_how_many_are_read_at_a_time(loss, folder):
    """It is the mean over all answers, or over all of their tokens, not over batches."""
    held, found = write_tasks(folder / f"held-{loss}", tasks=5), []
    for rows in (1, 2, 5):
        told = {"evaluation": {"rows": rows}, "grpo": {"loss": loss, "beta": 0.5}}
        trainer = grpo.trainer(replace(prepare(of_grpo(folder, f"{loss}-{rows}", tokens=4, **told)), validation=held))
        moved(trainer.ref_model)
        found.append(trainer.evaluate()["eval_loss"])
    assert abs(found[0]) > 1e-4
    assert found == pytest.approx([found[0]] * 3, rel=1e-4)


def test_what_was_held_out_is_answered_and_not_learned_from(folder):
    """Its reward is told beside the others; its answers are none of the run's."""
    said = of_grpo(folder, "evaluated", steps=2, evaluation={"every": 2, "rows": 2})
    trainer = grpo.trainer(replace(prepare(said), validation=write_tasks(folder / "held-out", tasks=3)))
    trainer.train()
    [told] = [line for line in trainer.state.log_history if "eval_reward" in line]
    assert -0.3 <= told["eval_reward"] <= 1
    assert sum(value for name, value in told.items() if name.startswith("eval_tests/") and "sec" not in name) == (
        pytest.approx(1)
    )
    assert {one.step for one in rollouts(folder / "evaluated")} == {0, 1}


@pytest.mark.parametrize(
    ("shards", "tokens", "match"),
    [
        ({"tests": " "}, 1, "task-0.*no tests"),
        ({"language": "cobol"}, 1, "task-0.*cobol"),
        ({}, 12, "12, after a prompt of 5 tokens, are more than the 16 positions"),
    ],
)
def test_what_cannot_be_learned_is_refused(folder, tmp_path, shards, tokens, match):
    """Before the first step: a task whose tests cannot run, and an answer that the model has no room for."""
    write_tasks(tmp_path / "bad", **shards)
    with pytest.raises(UsageError, match=match):
        grpo.trainer(prepare(of_grpo(folder, "bad", tokens=tokens, data={"built": str(tmp_path / "bad")})))


def test_what_another_number_of_processes_would_learn_otherwise_is_refused(folder):
    """Answers spread over steps by several processes, and a loss whose parts do not add up."""
    job = prepare(of_grpo(folder, "shared"))
    spread = spec.Grpo(steps_per_generation=2)
    grpo.refuse_what_depends_on_processes(job, spread)
    with pytest.raises(UsageError, match="steps_per_generation"):
        grpo.refuse_what_depends_on_processes(replace(job, processes=2), spread)
    parts = msgspec.structs.replace(job.spec.optimizer, parts=2)
    shared = replace(job, spec=msgspec.structs.replace(job.spec, optimizer=parts))
    with pytest.raises(UsageError, match="bnpo"):
        grpo.refuse_what_depends_on_processes(shared, spec.Grpo(loss="bnpo"))


def test_another_runs_answers_are_left_alone(folder, straight):
    """A run does not begin where another one has written its answers."""
    trainer = grpo.trainer(prepare(of_grpo(folder, "foreign")))
    (folder / "foreign").mkdir(exist_ok=True)
    text = (straight / NAME).read_bytes()
    (folder / "foreign" / NAME).write_bytes(text)
    with pytest.raises(LakeError, match="it is of the run"):
        trainer.train()
    assert (folder / "foreign" / NAME).read_bytes() == text


def test_human_eval_from_a_lake_and_back(lake, public_data, tmp_path):
    """Tasks of a snapshot are answered and tested, published solutions rewarded, and the lake has every answer."""
    with gzip.open(public_data / "humaneval" / "HumanEval.jsonl.gz", "rt") as file:
        problems = [json.loads(line) for line in file][:4]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(one) + "\n" for one in problems))
    ingest(lake, "tasks", [str(tmp_path / "tasks.jsonl")], IngestOptions(reader="humaneval"))
    tokenizer = chatml.tokenizer()
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    config(tmp_path, vocab_size=len(tokenizer), max_position_embeddings=1024, num_hidden_layers=1, **ids)
    (tmp_path / "policy.json").write_text('{"quality": {"eval_splits": []}}')
    data = {"lake": lake.uri, "snapshot": lake.pin().id, "policy": "policy.json", "built": None}
    said = of_grpo(tmp_path, "out", steps=2, tokens=6, data=data)
    done(said)
    answers_told = rollouts(tmp_path / "out")
    tasks = {row["task_id"]: row["event_id"] for row in lake.read("tasks").to_pylist()}
    assert len(answers_told) == 2 * ROWS * TIMES
    assert {(one.task_id, one.task) for one in answers_told} <= set(tasks.items())
    for one in answers_told:
        assert one.prompt.startswith(f"{chatml.START}user")
        assert one.outcome in {"failed", "broken", "stopped"}
        assert tokenizer.decode(one.completion_ids, skip_special_tokens=True) == one.completion
    job = prepare(msgspec.structs.replace(said, out=str(tmp_path / "other")))
    rows = {row["task_id"]: row for row in job.shards.rows().to_pylist()}
    reward = RewardByTests(said.grpo)
    columns = {name: [rows[one["task_id"]][name] for one in problems] for name in TASK}
    assert reward(completions=[one["canonical_solution"] for one in problems], **columns) == [1.0] * 4
    assert receipts.record(lake, tmp_path / "out").rollouts == len(answers_told)
    assert lake.read("evidence").num_rows == lake.read("scores").num_rows == len(answers_told)
