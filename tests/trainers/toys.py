"""What tests train, tiny: a model, its tokenizer, rows, and runs of a few steps from a file of settings to weights."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from safetensors.torch import load_file
from torch import nn

from trainers import curves, reading, record, run, spec
from trainers.shards import Shards, writing

torch.set_num_threads(1)

PAD, END, LETTERS = 0, 1, 40  # the ids of the padding token and of the end of a text; then come so many letters
PAIR, ANSWER = ("prompt", "chosen", "rejected"), ("prompt", "completion")


def letters(count: int = LETTERS) -> list[str]:
    """Words, and no more, that stand for themselves: the first one's id is 2."""
    return [f"w{number}" for number in range(count)]


def words(folder: Path, names: Sequence[str], **special: str | None) -> Path:
    """A tokenizer that knows the padding token, the end of a text, and these words."""
    known = {name: number for number, name in enumerate(["<pad>", "<end>", *names])}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(known, unk_token="<end>"))
    model.decoder = tokenizers.decoders.Fuse()
    said = {"pad_token": "<pad>", "eos_token": "<end>", **special}
    transformers.PreTrainedTokenizerFast(tokenizer_object=model, **said).save_pretrained(folder)
    return folder


def config(folder: Path, kind: str = "llama", **changes: Any) -> Path:
    """The configuration of a model of two small layers, for weights that a run draws."""
    small = {
        "vocab_size": LETTERS + 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "bos_token_id": None,
        "eos_token_id": END,
        "pad_token_id": PAD,
    }
    transformers.AutoConfig.for_model(kind, **small | changes).save_pretrained(folder)
    return folder


def toy(folder: Path, **changes: Any) -> Path:
    """A folder with what a run begins with, its rows aside: the model's configuration, and a tokenizer of letters."""
    words(folder / "tokenizer", letters())
    return config(folder, **changes)


def write_shards(folder: Path, fields: Sequence[str], rows: Iterable[Sequence[Any]]) -> Shards:
    """Rows, each what else it has and the ids of each field. Of a prompt nothing is trained on."""
    with writing(folder, fields) as writer:
        for number, (others, *parts) in enumerate(rows):
            marked = {name: (ids, np.full(len(ids), name != "prompt")) for name, ids in zip(fields, parts, strict=True)}
            writer.add({"id": f"row-{number}", **others}, marked)
        writer.finish({"dataset": fields[-1]}, {"offered": writer.count})
    return Shards.open(folder)


def write_texts(folder: Path, rows: int = 60) -> Shards:
    """Texts of many lengths. Of a third of each nothing is learned, and of another third of the next one."""
    with writing(folder, ["text"]) as writer:
        for row in range(rows):
            places = np.arange(5 + row % 40) + row
            writer.add({"id": f"row-{row}"}, {"text": (places % LETTERS, places % 3 > 0)})
        writer.finish({"dataset": "made up"}, {"offered": rows, "kept": rows})
    return Shards.open(folder)


def pairs(count: int = 48, seed: int = 0) -> list[tuple[dict[str, Any], list[int], list[int], list[int]]]:
    """Pairs of which the preferred answer is of low ids, and the other of high ones."""
    random = np.random.RandomState(seed)

    def some(low: int, high: int, most: int) -> list[int]:
        return [int(number) for number in random.randint(low, high, random.randint(2, most))]

    return [({}, some(2, 40, 9), [*some(2, 20, 12), END], [*some(20, 40, 6), END]) for _ in range(count)]


def judged(count: int = 24, seed: int = 0) -> Iterable[tuple[dict[str, Any], list[int], list[int]]]:
    """Answers of low ids, which are wanted, and of high ones, which are not."""
    for _, prompt, wanted, unwanted in pairs(count, seed):
        yield {"label": True}, prompt, wanted
        yield {"label": False}, prompt[::-1], unwanted


def settings(folder: Path, method: str, out: str, **tables: Any) -> spec.RunSpec:
    """The settings of a short run, read from a file in `folder`, where its `out` is too.

    `tables` change and add to those that a short run has; what is None is left out. `steps`, `rows` and `parts` of the
    one stage, and `every` of the checkpoints, may be said by themselves.
    """
    short = {name: tables.pop(name, usual) for name, usual in {"steps": 6, "rows": 8, "parts": 2, "every": 2}.items()}
    said: dict[str, Any] = {
        "method": method,
        "out": out,
        "seed": 1,
        "data": {"built": "shards"},
        "model": {"config": "config.json", "tokenizer": "tokenizer"},
        "stages": [{"rows": short["rows"], "steps": short["steps"]}],
        "optimizer": {"learning_rate": 0.01, "parts": short["parts"]},
        "checkpoints": {"every": short["every"]},
    }
    path = folder / f"{out}.toml"
    path.write_text("".join(_toml(merged(said, tables))))
    return reading.read(path)


def merged(said: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Tables with what others add to them and change of them."""
    tables = {key: {**said.get(key, {}), **value} for key, value in changes.items() if isinstance(value, Mapping)}
    return {**said, **changes, **tables}


def _toml(said: Mapping[str, Any], name: str = "") -> Iterable[str]:
    """Tables as TOML, which writes texts, numbers and lists of them as JSON does."""
    if name:
        yield f"[{name}]\n"
    for key, value in said.items():
        if value is not None and not _is_table(value):
            yield f"{key} = {json.dumps(value)}\n"
    for key, value in said.items():
        if isinstance(value, Mapping):
            yield from _toml(value, key)
        elif _is_table(value):
            for one in value:
                yield from _toml(one, f"[{key}]")


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, list) and bool(value) and isinstance(value[0], Mapping))


class Interrupt(transformers.TrainerCallback):  # type: ignore[misc]
    """Stands for someone who stops a run after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop it."""
        if state.global_step == self.step:
            raise KeyboardInterrupt


def done(said: spec.RunSpec, *, resume: bool = False, callbacks: Iterable[Any] = ()) -> record.Run:
    """The record of a run that has done what the settings say."""
    return run.train(run.prepare(said, resume=resume), resume=resume, callbacks=callbacks)


def interrupted(said: spec.RunSpec, after: int) -> None:
    """Do what the settings say up to a step."""
    with pytest.raises(KeyboardInterrupt):
        done(said, callbacks=[Interrupt(after)])


def weights(out: str | Path) -> str:
    """The sha256 of the weights that a run has saved."""
    return hashlib.sha256(_saved(out).read_bytes()).hexdigest()


def _saved(out: str | Path) -> Path:
    """The weights of a run, or of a checkpoint."""
    folder = Path(out, "model")
    [file] = (folder if folder.exists() else Path(out)).glob("*.safetensors")
    return file


def apart(one: str | Path, other: str | Path) -> float:
    """The greatest difference between the weights of two runs, or of checkpoints."""
    these, those = (load_file(_saved(out)) for out in (one, other))
    assert these.keys() == those.keys()
    return max((these[name] - those[name]).abs().max().item() for name in these)


def losses(out: str | Path) -> list[float]:
    """The loss of each step that a run reports."""
    return [point.loss for point in curves.read(out) if point.what == "training" and point.loss is not None]


def metrics(out: str | Path) -> list[dict[str, Any]]:
    """The lines of a run about its steps."""
    lines = [json.loads(line) for line in Path(out, curves.NAME).read_text().splitlines()]
    return [line for line in lines if "loss" in line]


def logged(trainer: transformers.Trainer, name: str = "loss") -> list[float]:
    """What a trainer has said of its steps."""
    return [line[name] for line in trainer.state.log_history if name in line]


def trained(said: spec.RunSpec) -> transformers.Trainer:
    """The trainer of a run, once it has trained, with no record of it."""
    trainer = run.trainer_of(run.prepare(said))
    trainer.train()
    return trainer


def same(these: Mapping[str, torch.Tensor], those: Mapping[str, torch.Tensor]) -> bool:
    """Whether two states have the same weights."""
    return all(torch.equal(these[name], those[name]) for name in those)


def moved(model: nn.Module, seed: int = 0, by: float = 0.05) -> nn.Module:
    """Change the weights of a model a little, in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(by * torch.randn(parameter.shape, generator=generator))
    return model


@torch.no_grad()
def each_token(
    model: nn.Module, prompt: Sequence[int], answer: Sequence[int], temperature: float = 1.0
) -> torch.Tensor:
    """The log-probability of each token of an answer after its prompt, by the plain forward pass of a model."""
    ids = torch.tensor([[*prompt, *answer]])
    logits = model(ids).logits[0, len(prompt) - 1 : -1].float() / temperature
    return nn.functional.log_softmax(logits, -1).gather(1, ids[0, len(prompt) :, None])[:, 0]
