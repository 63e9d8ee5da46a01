"""GRPO: a policy learns what its tests reward, in the order of the plan, and the same however a run is interrupted."""

import gzip
import hashlib
import inspect
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("trl")

import msgspec  # noqa: E402
import tokenizers  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from trl.trainer.grpo_trainer import GRPOTrainer  # noqa: E402
from trl.trainer.utils import RepeatSampler  # noqa: E402

from ingest.run import Options as IngestOptions  # noqa: E402
from ingest.run import ingest  # noqa: E402
from lake.errors import LakeError, UsageError  # noqa: E402
from trainers import answers, grpo, reading, receipts, run, spec  # noqa: E402
from trainers.loop import Job, load_tokenizer  # noqa: E402
from trainers.prompts import PROMPT  # noqa: E402
from trainers.rewards import TASK, RewardByTests  # noqa: E402
from trainers.rollouts import NAME, read  # noqa: E402
from trainers.shards import Shards, writing  # noqa: E402

torch.set_num_threads(1)

PAD, END, ASK = 0, 1, 2
WORDS = ["<pad>", "<end>", "?", "    pass", "    return", *(f"    return {number}" for number in range(5))]
TASKS = 5
ANSWER = 3  # what every task wants returned
ROWS, TIMES, STEPS = 2, 4, 6

SETTINGS = """
method = "grpo"
out = "{out}"
seed = 4
[data]
{data}
[model]
config = "config.json"
tokenizer = "tokenizer"
[[stages]]
rows = 2
steps = {steps}
[optimizer]
learning_rate = 0.02
schedule = "constant"
epsilon = 0.001  # Adam makes whole steps of what is but rounding, where it divides by next to nothing
parts = {parts}
[checkpoints]
every = {every}
[grpo]
generations = 4
temperature = 1.0
max_new_tokens = {tokens}
timeout = 20.0
workers = 2
{more}
"""


def settings(folder, out, *, steps=STEPS, parts=2, every=2, tokens=1, data='built = "shards"', more=""):
    """The settings of a run in a folder that `folder` has filled, read from the file that they are written to."""
    path = folder / f"{out}.toml"
    path.write_text(
        SETTINGS.format(out=out, steps=steps, parts=parts, every=every, tokens=tokens, data=data, more=more)
    )
    return reading.read(path)


def write_shards(folder, tasks=TASKS, **others):
    """Tasks that ask, each with a prompt of its own length, for a function that returns ANSWER."""
    with writing(folder, [PROMPT]) as writer:
        for number in range(tasks):
            task = {
                "id": f"grpo-{number}",
                "task_id": f"task-{number}",
                "event_id": f"event-{number}",
                "language": "python",
                "starter_code": "def f():\n",
                "tests": f"def check(candidate):\n    assert candidate() == {ANSWER}\n",
                "entry_point": "f",
            }
            prompt = [ASK] * (number + 1)
            writer.add(task | others, {PROMPT: (prompt, [False] * len(prompt))})
        writer.finish({"dataset": "grpo"}, {"offered": tasks})
    return Shards.open(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model whose tokens are lines of programs, and tasks."""
    made = tmp_path_factory.mktemp("grpo")
    model = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<end>")
    )
    model.decoder = tokenizers.decoders.Fuse()
    transformers.PreTrainedTokenizerFast(tokenizer_object=model, pad_token="<pad>", eos_token="<end>").save_pretrained(
        made / "tokenizer"
    )
    transformers.LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=16,
        pad_token_id=PAD,
        eos_token_id=END,
    ).save_pretrained(made)
    write_shards(made / "shards")
    return made


def job_of(said, **others):
    """The job that a run of these settings begins with."""
    shards = Shards.open(said.data.built)
    job = Job(spec=said, shards=shards, plan=run.plan_of(said, shards), tokenizer=load_tokenizer(said.model))
    return replace(job, **others)


def rollouts(out):
    """The answers of a run, line for line."""
    return list(read((out / NAME).read_bytes().splitlines()))


def drawn(out):
    """Of each answer of a run, what does not depend on its run's name and on clocks."""
    return [
        (one.step, one.task_id, one.sample, one.seed, one.completion_ids, one.reward, one.outcome)
        for one in rollouts(out)
    ]


def weights(out):
    """The sha256 of the weights that a run has saved."""
    [file] = Path(out, "model").glob("*.safetensors")
    return hashlib.sha256(file.read_bytes()).hexdigest()


def apart(one, other):
    """The greatest difference between the weights of two runs."""
    these, those = (load_file(Path(out, "model", "model.safetensors")) for out in (one, other))
    return max((these[name] - those[name]).abs().max().item() for name in those)


def train(said, *, resume=False, stop=None):
    """Do what the settings say, up to a step at which someone stops it."""
    callbacks = [] if stop is None else [Interrupt(stop)]
    run.train(run.prepare(said, resume=resume), resume=resume, callbacks=callbacks)


class Interrupt(transformers.TrainerCallback):
    """Stands for someone who stops a run after a step."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **_):
        if state.global_step == self.step:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def straight(folder):
    """The folder of a run that nothing interrupts."""
    train(settings(folder, "straight"))
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
    plan, record = job_of(settings(straight.parent, "again")).plan, json.loads((straight / "run.json").read_text())
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
        right = f"return {ANSWER}" in one.completion
        assert (one.outcome == "passed") == right == (one.reward == 1.0) == (one.verdict.category == "accepted")
        assert (one.tests_run, one.tests_passed) == ((1, int(right)) if "return" in one.completion else (0, 0)) or (
            one.outcome == "failed" and one.tests_run == 1
        )
    assert {"passed", "failed", "broken"} >= {one.outcome for one in said} > {"passed"}


def test_a_run_that_goes_on_ends_where_it_would_have(folder, straight):
    """Its weights and its answers are those of a run that was never interrupted, each answer told once."""
    broken = settings(folder, "broken")
    with pytest.raises(KeyboardInterrupt):
        train(broken, stop=3)
    out = folder / "broken"
    assert {one.step for one in rollouts(out)} == {0, 1, 2}
    with (out / NAME).open("ab") as file:
        file.write(b'{"run": "torn')
    train(broken, resume=True)
    assert weights(out) == weights(straight)
    assert drawn(out) == drawn(straight)


def test_two_processes_do_what_one_does(folder, straight):
    """Two processes that share a step draw the same answers and end with the same weights."""
    settings(folder, "two")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "trainers"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(run.__file__).parents[1])}
    command = [sys.executable, *launch, str(folder / "two.toml")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert drawn(folder / "two") == drawn(straight)
    assert apart(folder / "two", straight) < 1e-5


def test_the_order_is_that_of_the_plan_whoever_asks(folder):
    """All processes together have each step's prompts, repeated as TRL's own sampler would in the plan's order."""
    job = job_of(settings(folder, "order", steps=4, parts=8, more="steps_per_generation = 2"))
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
    more = "steps_per_generation = 2\niterations = 2"
    with pytest.raises(UsageError, match=r"checkpoints\.every.*4 steps"):
        settings(folder, "within", more=more)
    with pytest.raises(UsageError, match=r"stages\[0\].*6 steps"):
        grpo.trainer(job_of(settings(folder, "within", every=4, more=more)))
    train(settings(folder, "whole", steps=8, every=4, more=more))
    said = rollouts(folder / "whole")
    assert [one.step for one in said] == [step for step in (0, 4) for _ in range(4 * ROWS * TIMES)]
    broken = settings(folder, "halves", steps=8, every=4, more=more)
    with pytest.raises(KeyboardInterrupt):
        train(broken, stop=5)
    train(broken, resume=True)
    assert weights(folder / "halves") == weights(folder / "whole")
    assert drawn(folder / "halves") == drawn(folder / "whole")
    trainer = grpo.trainer(job_of(settings(folder, "off", steps=4, every=4, more=more)))
    checkpoint = folder / "whole" / "checkpoint-4"
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    (checkpoint / "trainer_state.json").write_text(json.dumps(state | {"global_step": 3}))
    with pytest.raises(UsageError, match="within a round"):
        trainer.train(resume_from_checkpoint=str(checkpoint))


def test_parts_of_a_step_add_up(folder, straight):
    """A step ends with the same weights in however many parts it is taken, also where they divide a group."""
    train(settings(folder, "in-four", parts=4))
    assert drawn(folder / "in-four") == drawn(straight)
    assert apart(folder / "in-four", straight) < 1e-5
    with pytest.raises(UsageError, match="4 answers to each of 2 rows cannot be shared out in 3"):
        settings(folder, "in-three", parts=3)


def test_the_reference_is_the_policy_in_memory(folder, monkeypatch):
    """It is the policy before its first step, whatever name its config has, and training leaves it alone."""
    load = answers.load_policy

    def elsewhere(job):
        model = load(job)
        model.config._name_or_path = str(folder / "nowhere")
        return model

    monkeypatch.setattr(grpo, "load_policy", elsewhere)
    trainer = grpo.trainer(job_of(settings(folder, "held", steps=4, more="beta = 0.5")))
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    after, kept = trainer.model.state_dict(), trainer.ref_model.state_dict()
    assert all(torch.equal(kept[name], before[name]) for name in before)
    assert not all(torch.equal(after[name], before[name]) for name in before)
    divergence = [line["kl"] for line in trainer.state.log_history if "kl" in line]
    assert divergence[0] == pytest.approx(0, abs=1e-6)
    assert divergence[-1] > 1e-4


def test_adapters_learn_and_the_reference_is_what_is_below_them(folder):
    """The weights below never change, and the divergence from them begins at nothing."""
    more = "beta = 0.1\n[lora]\nr = 4"
    trainer = grpo.trainer(job_of(settings(folder, "adapters", steps=2, more=more)))
    kept = {name: value.clone() for name, value in trainer.model.state_dict().items() if "lora" not in name}
    assert trainer.ref_model is None
    trainer.train()
    after = trainer.model.state_dict()
    assert all(torch.equal(after[name], kept[name]) for name in kept)
    assert any(value.abs().sum() > 0 for name, value in after.items() if "lora_B" in name)
    assert next(line["kl"] for line in trainer.state.log_history if "kl" in line) == pytest.approx(0, abs=1e-6)


def test_what_was_held_out_is_answered_and_not_learned_from(folder):
    """Its reward is told beside the others; its answers are none of the run's."""
    said = settings(folder, "evaluated", steps=2, more="[evaluation]\nevery = 2\nrows = 2")
    trainer = grpo.trainer(job_of(said, validation=write_shards(folder / "held-out", tasks=3)))
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
    write_shards(tmp_path / "bad", **shards)
    with pytest.raises(UsageError, match=match):
        grpo.trainer(job_of(settings(folder, "bad", tokens=tokens, data=f"built = '{tmp_path / 'bad'}'")))


def test_what_another_number_of_processes_would_learn_otherwise_is_refused(folder):
    """Answers spread over steps by several processes, and a loss whose parts do not add up."""
    job = job_of(settings(folder, "shared"))
    spread = spec.Grpo(steps_per_generation=2)
    grpo.refuse_what_depends_on_processes(job, spread)
    with pytest.raises(UsageError, match="steps_per_generation"):
        grpo.refuse_what_depends_on_processes(replace(job, processes=2), spread)
    parts = msgspec.structs.replace(job.spec.optimizer, parts=2)
    shared = replace(job, spec=msgspec.structs.replace(job.spec, optimizer=parts))
    with pytest.raises(UsageError, match="bnpo"):
        grpo.refuse_what_depends_on_processes(shared, spec.Grpo(loss="bnpo"))


def test_losses_are_those_that_trl_has(folder):
    """Each name that the settings take means something there; another one is refused as the settings are read."""
    theirs = inspect.getsource(GRPOTrainer._compute_loss)
    assert all(f'"{name}"' in theirs for name in get_args(spec.Loss))
    with pytest.raises(UsageError, match=r"grpo\.loss"):
        settings(folder, "loss", more="loss = 'ppo'")


def test_another_runs_answers_are_left_alone(folder, straight):
    """A run does not begin where another one has written its answers."""
    trainer = grpo.trainer(job_of(settings(folder, "foreign")))
    (folder / "foreign").mkdir(exist_ok=True)
    text = (straight / NAME).read_bytes()
    (folder / "foreign" / NAME).write_bytes(text)
    with pytest.raises(LakeError, match="it is of the run"):
        trainer.train()
    assert (folder / "foreign" / NAME).read_bytes() == text


CHAT = (
    "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<end>"
    "{% endgeneration %}{% else %}{{ m.content }}<end>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def test_human_eval_from_a_lake_and_back(lake, public_data, tmp_path):
    """Tasks of a snapshot are answered and tested, published solutions rewarded, and the lake has every answer."""
    with gzip.open(public_data / "humaneval" / "HumanEval.jsonl.gz", "rt") as file:
        problems = [json.loads(line) for line in file][:4]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(one) + "\n" for one in problems))
    ingest(lake, "tasks", [str(tmp_path / "tasks.jsonl")], IngestOptions(reader="humaneval"))
    bytes_alone = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token=None))
    bytes_alone.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_alone.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    special = ["<pad>", "<end>", "<|user|>", "<|assistant|>"]
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=special)
    bytes_alone.train_from_iterator([one["prompt"] for one in problems], trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bytes_alone, pad_token="<pad>", eos_token="<end>", additional_special_tokens=special[2:]
    )
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=1024,
        pad_token_id=PAD,
        eos_token_id=END,
    ).save_pretrained(tmp_path)
    (tmp_path / "policy.json").write_text('{"quality": {"eval_splits": []}}')
    data = f"lake = '{lake.uri}'\nsnapshot = '{lake.pin().id}'\npolicy = 'policy.json'"
    said = settings(tmp_path, "out", steps=2, tokens=6, data=data)
    train(said)
    answers_told = rollouts(tmp_path / "out")
    tasks = {row["task_id"]: row["event_id"] for row in lake.read("tasks").to_pylist()}
    assert len(answers_told) == 2 * ROWS * TIMES
    assert {(one.task_id, one.task) for one in answers_told} <= set(tasks.items())
    for one in answers_told:
        assert one.prompt.startswith("<|user|>")
        assert one.outcome in {"failed", "broken", "stopped"}
        assert tokenizer.decode(one.completion_ids, skip_special_tokens=True) == one.completion
    job = run.prepare(msgspec.structs.replace(said, out=str(tmp_path / "other")))
    rows = {row["task_id"]: row for row in job.shards.rows().to_pylist()}
    reward = RewardByTests(said.grpo)
    columns = {name: [rows[one["task_id"]][name] for one in problems] for name in TASK}
    assert reward(completions=[one["canonical_solution"] for one in problems], **columns) == [1.0] * 4
    assert receipts.record(lake, tmp_path / "out").rollouts == len(answers_told)
    assert lake.read("evidence").num_rows == lake.read("scores").num_rows == len(answers_told)
