"""A run's settings from a file: one of TOML, read strictly.

A key that is not known, a value of the wrong type and settings that contradict each other are refused before anything
loads, with the key's dotted path, the key that it is probably meant to be, or the one that took its place. A snapshot
is named by its id or a name, never as the newest. Paths are relative to the file that says them.

Not here: which settings there are (`spec`), and the file that `--init` writes (`starting`).
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from lake.errors import UsageError
from trainers.spec import METHODS, RECENT, Data, Grpo, Model, RunSpec, struct_in


def read(path: Path, method: str | None = None) -> RunSpec:
    """The run that a file asks for. Paths in it come back absolute. Raises UsageError."""
    try:
        said = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        first = f"lake train {method or 'sft'} --init > {path} writes one to begin with"
        hint = "name a file of settings, as TOML" if path.exists() else first
        raise UsageError(f"{path}: {error.strerror or error}", hint) from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: this is no text in UTF-8: {error.reason}", "save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: {error}", "mend that line; https://toml.io says how values are written") from None
    if method is not None and said.setdefault("method", method) != method:
        hint = f"lake train {said['method']} --config {path}; each method has a file of its own"
        raise UsageError(f"{path}: method: it is for {said['method']!r}, and {method!r} was asked for", hint)
    return parse(said, str(path), path.parent)


def no_method(said: object) -> str:
    """That this names no method."""
    return f"there is no method {said!r}" if said else "which method?"


def instead_of(said: object) -> str:
    """What to say in place of what is no method."""
    near = difflib.get_close_matches(str(said), METHODS, 1)
    return f"did you mean {near[0]}?" if near else f"it is one of {', '.join(METHODS)}"


def parse(said: Mapping[str, Any], called: str, folder: Path) -> RunSpec:
    """The run that these tables ask for; `called` names them in messages. Raises UsageError."""
    if (method := said.get("method")) not in METHODS:
        raise UsageError(f"{called}: method: {no_method(method)}", instead_of(method))
    for where, key, known in _unknown(said, RunSpec, ""):
        raise UsageError(f"{called}: {where}{key}: there is no such key", _instead(key, known))
    try:
        spec = msgspec.convert(said, RunSpec)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        raise UsageError(
            f"{called}: {where.rstrip('`').lstrip('.') or 'the file'}: {what[:1].lower()}{what[1:]}",
            f"lake train {method} --init says what each key may be",
        ) from None
    except UsageError as error:  # a stage's own
        raise UsageError(f"{called}: stages: {error.message}", error.hint) from None
    for what, instead in _contradictions(spec):
        raise UsageError(f"{called}: {what}", instead)
    return _resolved(spec, folder)


# What other trainers call it, and where it is here.
_ELSEWHERE = {
    "max_length": "stages.length, or data.longest where nothing is packed",
    "max_seq_length": "stages.length, or data.longest where nothing is packed",
    "seq_len": "stages.length",
    "block_size": "stages.length",
    "packing": "stages.length: rows of that many tokens are packed",
    "per_device_train_batch_size": "stages.rows, all processes together, shared out in optimizer.parts",
    "batch_size": "stages.rows, all processes together",
    "train_batch_size": "stages.rows, all processes together",
    "effective_batch_size": "stages.rows, all processes together",
    "gradient_accumulation_steps": "optimizer.parts, over all processes",
    "num_train_epochs": "stages.epochs",
    "epochs": "stages.epochs",
    "max_steps": "stages.steps",
    "steps": "stages.steps",
    "learning_rate": "optimizer.learning_rate",
    "lr": "optimizer.learning_rate",
    "lr_scheduler_type": "optimizer.schedule",
    "warmup_ratio": "optimizer.warmup_steps",
    "output_dir": "out",
    "save_steps": "checkpoints.every",
    "save_total_limit": "checkpoints.keep",
    "logging_steps": "report.every",
    "report_to": "report.to",
    "eval_steps": "evaluation.every",
    "model_name_or_path": "model.path",
    "attn_implementation": "model.attention",
    "torch_dtype": "model.dtype",
    "bf16": 'model.dtype = "bfloat16"',
    "chat_template": "data.template",
    "dataset_name": "data.dataset",
    "train_file": "data.export",
    "lora_alpha": "lora.alpha",
    "lora_dropout": "lora.dropout",
    "target_modules": "lora.targets",
    "num_generations": "grpo.generations",
    "max_completion_length": "grpo.max_new_tokens",
    "num_iterations": "grpo.iterations",
    "loss_type": "the method: dpo and ipo are methods; for grpo it is grpo.loss",
}


def _unknown(said: Mapping[str, Any], kind: Any, where: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Each key that the struct lacks: where it stands, the key, and the keys that could stand there."""
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    for key, value in said.items():
        if key not in fields:
            yield where, key, tuple(fields)
            continue
        inner = struct_in(fields[key])
        if inner is not None and isinstance(value, Mapping):
            yield from _unknown(value, inner, f"{where}{key}.")
        elif inner is not None and isinstance(value, list):
            for place, one in enumerate(value):
                if isinstance(one, Mapping):
                    yield from _unknown(one, inner, f"{where}{key}[{place}].")


def _instead(key: str, known: tuple[str, ...]) -> str:
    if near := difflib.get_close_matches(key, known, 1, 0.75):
        return f"did you mean {near[0]}?"
    if key in _ELSEWHERE:
        return f"it is {_ELSEWHERE[key]}"
    return f"the keys here are {', '.join(known)}"


Contradictions = Iterator[tuple[str, str | None]]
"""What no single key is to blame for, and what to do about it."""


def _contradictions(spec: RunSpec) -> Contradictions:
    yield from _of_data(spec)
    yield from _of_model(spec.model)
    yield from _of_stages(spec)
    yield from _of_tables(spec)


def _of_data(spec: RunSpec) -> Contradictions:
    data = spec.data
    if sum(said is not None for said in (data.snapshot, data.export, data.built)) != 1:
        yield "data: exactly one of snapshot, export and built says what to train on", "lake snapshot list"
    if data.snapshot is None:
        for key in ("dataset", "policy", "val", "split_seed", "replay"):
            if getattr(data, key) != getattr(Data(), key):
                what = f"data.{key}: what is to be trained on has been chosen already"
                yield what, "leave it out, or name a snapshot"
    elif data.snapshot.lower() in RECENT:
        what = f"data.snapshot: {data.snapshot!r} would be another one tomorrow"
        yield what, "lake snapshot create prints an id; name that"
    if spec.packed and data.longest is not None:
        yield "data.longest: the length of the rows is what an example may have", "leave it out"


def _of_model(model: Model) -> Contradictions:
    if (model.path is None) == (model.config is None):
        yield "model: exactly one of path and config says which weights to begin with", None
    if model.config is not None and model.tokenizer is None:
        yield "model.tokenizer: a config brings none", "name a folder that has a tokenizer.json"


def _of_stages(spec: RunSpec) -> Contradictions:
    method, parts = spec.method, spec.optimizer.parts
    answers = (spec.grpo or Grpo()).generations if method == "grpo" else 1
    for place, stage in enumerate(spec.stages):
        if spec.packed and stage.length is None:
            yield f"stages[{place}].length: {method} packs rows, and of how many tokens?", "say length = 2048"
        if not spec.packed and stage.length is not None:
            yield f"stages[{place}].length: {method} takes one example a row", "data.longest limits an example"
        if stage.rows * answers % parts:
            what = f"{stage.rows} rows" if answers == 1 else f"{answers} answers to each of {stage.rows} rows"
            yield (
                f"stages[{place}].rows: {what} cannot be shared out in {parts} equal parts",
                "let them be a multiple of optimizer.parts",
            )
        if stage.steps is not None and stage.epochs != 1:
            yield f"stages[{place}]: steps and epochs both say how long it is", "keep one of them"
    if len({stage.rows * (stage.length or 1) for stage in spec.stages}) > 1:
        yield (
            "stages: a step would have more tokens in one than in another, at the same learning rate",
            "keep rows times length the same",
        )


def _of_tables(spec: RunSpec) -> Contradictions:
    method = spec.method
    wanted = {"preference": ("dpo", "ipo", "kto", "reward"), "grpo": ("grpo",)}
    for table, methods in wanted.items():
        if getattr(spec, table) is not None and method not in methods:
            yield f"{table}: {method} has no use for it", "leave the table out"
    steps = (spec.grpo or Grpo()).steps_of_round
    if method == "grpo" and spec.checkpoints.every is not None and spec.checkpoints.every % steps:
        yield (
            f"checkpoints.every: a run cannot go on from within the {steps} steps that learn from the same answers",
            f"let it be a multiple of {steps}, which is grpo.steps_per_generation times grpo.iterations",
        )
    if method == "lora" and spec.lora is None:
        yield "lora: adapters of which rank?", "add a table [lora] with r = 16"


def _resolved(spec: RunSpec, folder: Path) -> RunSpec:
    """The same with every path made absolute, beginning at the file's folder. What is no path there stays a name."""

    def whole(said: str | None) -> str | None:
        return said if said is None or "://" in said else str((folder / said).absolute())

    def if_there(said: str | None) -> str | None:
        return whole(said) if said is not None and (folder / said).exists() else said

    data, model = spec.data, spec.model
    return msgspec.structs.replace(
        spec,
        out=whole(spec.out),
        data=msgspec.structs.replace(
            data,
            **{
                name: whole(getattr(data, name)) for name in ("lake", "export", "built", "shards", "policy", "template")
            },
        ),
        model=msgspec.structs.replace(
            model, path=if_there(model.path), config=whole(model.config), tokenizer=if_there(model.tokenizer)
        ),
    )
