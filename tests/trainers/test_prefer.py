"""DPO and IPO: the losses of their papers, a reference that is the policy before its first step, and nothing else."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("trl")

import tokenizers  # noqa: E402
import torch.nn.functional as F  # noqa: E402, N812
from safetensors.torch import load_file  # noqa: E402

from ingest.run import Options, ingest  # noqa: E402
from lake import Lake  # noqa: E402
from lake.errors import LakeError, UsageError  # noqa: E402
from trainers import answers, prefer, reading, run  # noqa: E402
from trainers.shards import Shards, writing  # noqa: E402

torch.set_num_threads(1)

FIELDS = ("prompt", "chosen", "rejected")
TEMPLATE = (
    "{%- for message in messages -%}{{ message.role + ': ' }}{%- if message.role == 'assistant' -%}"
    "{%- generation -%}{{ message.content + '<end>' }}{%- endgeneration -%}"
    "{%- else -%}{{ message.content + '<end>' }}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ 'assistant: ' }}{%- endif -%}"
)
PAD, END, LETTERS = 0, 1, 40  # the ids of the padding token and of the end of a text; words are 2, 3, …

SETTINGS = """
method = "{method}"
out = "{out}"
seed = 1
[data]
{data}
[model]
{model}
tokenizer = "tokenizer"
[[stages]]
rows = 8
steps = {steps}
[optimizer]
learning_rate = 0.01
parts = {parts}
[checkpoints]
every = 2
{more}
"""


def settings(
    folder,
    method,
    out,
    *,
    steps=6,
    parts=2,
    data='built = "shards"',
    model='config = "config.json"',
    more="",
):
    """The settings of a run in a folder that `toy` has filled, read from the file that they are written to."""
    path = folder / f"{out}.toml"
    path.write_text(
        SETTINGS.format(method=method, out=out, steps=steps, parts=parts, data=data, model=model, more=more)
    )
    return reading.read(path)


def toy(folder, **config):
    """A folder with what a run of a tiny model begins with, its rows aside."""
    words = {"<pad>": PAD, "<end>": END} | {f"w{number}": number + 2 for number in range(LETTERS)}
    model = tokenizers.models.WordLevel(words, unk_token="<end>")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(model), pad_token="<pad>", eos_token="<end>"
    ).save_pretrained(folder / "tokenizer")
    small = {
        "vocab_size": LETTERS + 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    transformers.LlamaConfig(
        num_key_value_heads=2,
        max_position_embeddings=512,
        pad_token_id=PAD,
        eos_token_id=END,
        **{**small, "vocab_size": LETTERS + 2, **config},
    ).save_pretrained(folder)
    return folder


def write_shards(folder, fields, rows):
    """Write rows, each what else it has and the ids of each field. Of a prompt nothing is trained on."""
    with writing(folder, fields) as writer:
        for number, (others, *parts) in enumerate(rows):
            marked = {name: (ids, np.full(len(ids), name != "prompt")) for name, ids in zip(fields, parts, strict=True)}
            writer.add({"id": f"row-{number}", **others}, marked)
        writer.finish({"dataset": fields[-1]}, {"offered": writer.count})
    return Shards.open(folder)


def pairs(count=48, seed=0):
    """Pairs of which the preferred answer is of low ids, and the other of high ones."""
    random = np.random.RandomState(seed)

    def some(low, high, most):
        return [int(number) for number in random.randint(low, high, random.randint(2, most))]

    return [({}, some(2, 40, 9), [*some(2, 20, 12), END], [*some(20, 40, 6), END]) for _ in range(count)]


def job_of(said):
    """The job that a run of these settings begins with."""
    return run.prepare(said)


def done(said, *, resume=False, callbacks=()):
    """The record of a run that has done what the settings say."""
    return run.train(run.prepare(said, resume=resume), resume=resume, callbacks=callbacks)


def weights(folder):
    """The sha256 of the weights that a run has saved."""
    [file] = Path(folder, "model").glob("*.safetensors")
    return hashlib.sha256(file.read_bytes()).hexdigest()


class Interrupt(transformers.TrainerCallback):
    """Stands for someone who stops a run after a step."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **_):
        if state.global_step == self.step:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model, and shards of pairs."""
    made = toy(tmp_path_factory.mktemp("prefer"), attention_dropout=0.3)
    write_shards(made / "shards", FIELDS, pairs())
    return made


def losses(trainer):
    """What a trainer has logged of its steps."""
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


def trained(said):
    """A trainer that has done what the settings say."""
    trainer = prefer.trainer(job_of(said))
    trainer.train()
    return trainer


def said_of(model, prompt, answer):
    """The log-probability of an answer after its prompt, by the plain forward pass of a model."""
    ids = torch.tensor([[*prompt, *answer]])
    with torch.no_grad():
        logits = model(ids).logits[0, len(prompt) - 1 : -1]
    return F.log_softmax(logits.float(), -1).gather(1, ids[0, len(prompt) :, None]).sum()


def moved(model, seed=0):
    """Change the weights of a model a little, in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("method", ["dpo", "ipo"])
def test_a_loss_is_that_of_its_paper(folder, method):
    """The loss of a step's part is the formula's mean over its pairs, each taken alone and without padding."""
    job = job_of(settings(folder, method, "formula", more="[preference]\nbeta = 0.3"))
    trainer = prefer.trainer(job)
    moved(trainer.model)
    expected = []
    for row in job.rows(0, 0):
        prompt, *answers = (job.shards.fields[name].row(job.plan.stages[0].document[row])[0] for name in FIELDS)
        ratios = [said_of(trainer.model, prompt, a) - said_of(trainer.ref_model, prompt, a) for a in answers]
        if method == "dpo":
            expected.append(-F.logsigmoid(0.3 * (ratios[0] - ratios[1])))
        else:
            each = [ratio / len(answer) for ratio, answer in zip(ratios, answers, strict=True)]
            expected.append((each[0] - each[1] - 1 / (2 * 0.3)) ** 2)
    batch = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(trainer.model, batch)
    assert loss.item() == pytest.approx(torch.stack(expected).mean().item(), abs=2e-6)


def test_the_reference_is_the_policy_in_memory(folder, monkeypatch):
    """What a config says that its weights were loaded from is not looked at, and training leaves a reference alone."""
    elsewhere = folder / "elsewhere"
    config = transformers.AutoConfig.from_pretrained(folder / "config.json")
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(elsewhere)
    load = answers.load_policy

    def tuned(job):
        model = moved(load(job), seed=3)
        model.config._name_or_path = str(elsewhere)
        return model

    monkeypatch.setattr(answers, "load_policy", tuned)
    trainer = prefer.trainer(job_of(settings(folder, "dpo", "reference", steps=2)))
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    assert same(trainer.ref_model.state_dict(), before)
    trainer.train()
    assert same(trainer.ref_model.state_dict(), before)
    assert not same(trainer.model.state_dict(), before)
    assert losses(trainer)[0] == pytest.approx(np.log(2), abs=1e-6)


def test_the_reference_of_adapters_is_the_model_without_them(folder):
    """The first loss is that of a policy that is its reference; the weights below the adapters never change."""
    trainer = prefer.trainer(job_of(settings(folder, "dpo", "adapters", more="[lora]\nr = 4")))
    kept = {name: value.clone() for name, value in trainer.model.state_dict().items() if "lora" not in name}
    trainer.train()
    first, *_, last = losses(trainer)
    assert first == pytest.approx(np.log(2), abs=1e-6)
    assert last < 0.95 * first
    assert trainer.ref_model is None
    assert set(trainer.model.peft_config) == {"default"}
    assert same({name: trainer.model.state_dict()[name] for name in kept}, kept)


@pytest.mark.parametrize("method", ["dpo", "reward"])
def test_adapters_go_on_as_they_would_have(folder, method):
    """In bfloat16 and without keeping activations, too, an interrupted run ends with the adapters of a straight one."""
    model = 'config = "config.json"\ndtype = "bfloat16"\ngradient_checkpointing = true'
    straight, broken = (
        settings(folder, method, f"{method}-adapters-{way}", steps=4, model=model, more="[lora]\nr = 4")
        for way in ("straight", "broken")
    )
    done(straight)
    with pytest.raises(KeyboardInterrupt):
        done(broken, callbacks=[Interrupt(3)])
    done(broken, resume=True)
    assert weights(straight.out) == weights(broken.out)


def test_each_step_is_without_dropout(folder):
    """A model whose attention drops some of what it sees is trained as if it did not."""
    trainer = prefer.trainer(job_of(settings(folder, "dpo", "dropout")))
    trainer.model.train()
    batch = next(iter(trainer.get_train_dataloader()))
    assert len({trainer.compute_loss(trainer.model, dict(batch)).item() for _ in range(3)}) == 1
    with pytest.raises(UsageError, match="without dropout"):
        prefer.trainer(job_of(settings(folder, "dpo", "dropout", more="[lora]\ndropout = 0.1")))


def test_a_mixture_of_experts_has_the_losses_of_its_answers_alone(folder):
    """No noise of a router and no loss of its own come to it: the first loss is that of the formula, each time."""
    transformers.MixtralConfig(
        vocab_size=LETTERS + 2,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=4,
        router_jitter_noise=0.3,
        pad_token_id=PAD,
        eos_token_id=END,
    ).save_pretrained(folder / "experts")
    trainer = prefer.trainer(job_of(settings(folder, "dpo", "mixture", model='config = "experts/config.json"')))
    trainer.model.train()
    batch = next(iter(trainer.get_train_dataloader()))
    for _ in range(3):
        assert trainer.compute_loss(trainer.model, dict(batch)).item() == pytest.approx(np.log(2), abs=1e-6)


@pytest.mark.parametrize("method", ["dpo", "ipo"])
def test_a_run_that_goes_on_ends_where_it_would_have(folder, method):
    """Its loss falls, the trackers' numbers are in its metrics, and its weights are those of an uninterrupted run."""
    straight = done(settings(folder, method, f"{method}-straight"))
    lines = metrics(folder / f"{method}-straight")
    assert lines[-1]["loss"] < 0.8 * lines[0]["loss"]
    assert lines[-1]["rewards/accuracies"] == 1
    assert lines[-1]["rewards/margins"] > lines[0]["rewards/margins"] == 0
    broken = settings(folder, method, f"{method}-broken")
    with pytest.raises(KeyboardInterrupt):
        done(broken, callbacks=[Interrupt(3)])
    assert done(broken, resume=True).plan.digest == straight.plan.digest
    assert weights(folder / f"{method}-broken") == weights(folder / f"{method}-straight")


def test_parts_of_a_step_add_up(folder):
    """A step that is taken in two parts gives the losses of one that is taken whole."""
    whole, halves = (losses(trained(settings(folder, "ipo", f"in-{parts}", parts=parts))) for parts in (1, 2))
    assert halves == pytest.approx(whole, abs=1e-6, rel=1e-6)


def test_two_processes_do_what_one_does(folder):
    """Two processes that share the parts of a step end with the weights of one that takes them all."""
    settings(folder, "dpo", "two")
    launched(folder, "two")
    done(settings(folder, "dpo", "one"))
    assert apart(folder / "one", folder / "two") < 1e-6


def test_rows_reach_the_model_as_they_are(folder):
    """Every token of every row is in a batch once an epoch, however long it is, and only answers are counted."""
    rows = [*pairs(14, seed=5), ({}, [2] * 700, [3] * 900, [4] * 10), ({}, [5], [2] * 1500, [3] * 2000)]
    shards = write_shards(folder / "long-rows", FIELDS, rows)
    made = prefer.compared(shards, PAD)
    job = job_of(settings(folder, "dpo", "long", steps=2, data='built = "long-rows"'))
    [laid] = job.plan.stages
    found = []
    for step in range(2):
        for part in range(job.parts):
            batch = made(laid, job.rows(step, part))
            for place, row in enumerate(np.tile(laid.document[job.rows(step, part)], 2)):
                length = batch["attention_mask"][place].sum()
                ids = batch["input_ids"][place, :length].tolist()
                prompt = len(rows[row][1])
                assert batch["attention_mask"][place, :length].all()
                assert batch["completion_mask"][place].nonzero()[0].tolist() == list(range(prompt, length))
                found.append((int(row), ids[:prompt], ids[prompt:]))
    assert sorted(found) == sorted((n, p, a) for n, (_, p, *answers) in enumerate(rows) for a in answers)
    with pytest.raises(UsageError, match="positions of the model"):
        prefer.trainer(job)


@pytest.mark.parametrize(
    ("row", "match"),
    [
        (({}, [], [2], [3]), "has no prompt"),
        (({}, [2], [], [3]), "no token in chosen"),
        (({}, [2], [3], [99]), "99"),
    ],
)
def test_rows_that_cannot_be_learned_from_are_refused(folder, tmp_path, row, match):
    """A row without a prompt or without an answer is named; so is an id that the model has no embedding for."""
    write_shards(tmp_path / "bad", FIELDS, [*pairs(8), row])
    with pytest.raises(LakeError, match=match):
        prefer.trainer(job_of(settings(folder, "dpo", "bad", data=f'built = "{tmp_path}/bad"')))


def test_what_was_held_out_is_measured(folder):
    """The loss on pairs that are not trained on is told beside the others, and falls too."""
    said = settings(folder, "dpo", "held", more="[evaluation]\nevery = 3\nrows = 5")
    held = write_shards(folder / "held-out", FIELDS, pairs(12, seed=9))
    trainer = prefer.trainer(replace(job_of(said), validation=held))
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    told = [line for line in trainer.state.log_history if "eval_loss" in line]
    assert before == pytest.approx(np.log(2), abs=1e-6)
    assert [line["step"] for line in told] == [3, 6]
    assert told[1]["eval_loss"] < told[0]["eval_loss"] < before
    assert told[-1]["eval_rewards/accuracies"] > 0.9


def same(these, those):
    """Whether two states have the same weights."""
    return all(torch.equal(these[name], those[name]) for name in those)


def metrics(out):
    """The lines of a run about its steps."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


def launched(folder, out):
    """Do a run in two processes."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "trainers"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(run.__file__).parents[1])}
    command = [sys.executable, *launch, str(folder / f"{out}.toml")]
    told = folder / f"{out}.txt"
    with told.open("wb") as file:
        # In a group of its own, so that no process of it outlives the test.
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
        try:
            assert process.wait(timeout=300) == 0, told.read_text()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def apart(one, other):
    """The greatest difference between the weights of two runs."""
    these, those = (load_file(Path(out, "model", "model.safetensors")) for out in (one, other))
    assert these.keys() == those.keys()
    return max((these[name] - those[name]).abs().max().item() for name in these)


@pytest.fixture(scope="module")
def judged(public_data, tmp_path_factory):
    """A lake of solutions with published verdicts, a tiny model that can read them, and the data of its settings."""
    made = tmp_path_factory.mktemp("judged")
    lines = (public_data / "gsm8k" / "example_model_solutions.jsonl").read_text("utf-8").splitlines(keepends=True)
    (made / "solutions.jsonl").write_text("".join(lines[:15]), "utf-8")
    lake = Lake.create(str(made / "lake"))
    for kind in ("tasks", "evidence", "scores"):
        ingest(lake, kind, [str(made / "solutions.jsonl")], Options(reader="gsm8k-solutions"))
    toy(made, vocab_size=800)
    read = tokenizers.Tokenizer(tokenizers.models.BPE())
    read.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_ = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    learns = tokenizers.trainers.BpeTrainer(
        vocab_size=800, special_tokens=["<pad>", "<end>"], initial_alphabet=sorted(bytes_), show_progress=False
    )
    read.train_from_iterator(lines[:15], learns)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=read, pad_token="<pad>", eos_token="<end>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(made / "tokenizer")
    return made, f'lake = "lake"\nsnapshot = "{lake.pin().id}"\nlongest = 300\noverlong = "drop"'


@pytest.mark.parametrize("method", ["dpo", "ipo", "kto", "reward"])
def test_published_verdicts_are_learned_from(judged, method):
    """From a snapshot of a lake to a loss that falls, on solutions that people have judged."""
    folder, data = judged
    done(settings(folder, method, method, steps=12, data=data))
    told = [line["loss"] for line in metrics(folder / method)]
    assert np.mean(told[6:]) < np.mean(told[:6])
