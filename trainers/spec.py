"""What a run is asked to do: one TOML file, read strictly.

A key that is not known, a value of the wrong type and settings that contradict each other are refused before anything
loads, with the key's dotted path, the key that it is probably meant to be, or the one that took its place. A snapshot
is named by its id or a name, never as the newest. Paths are relative to the file that says them.

Not here: what becomes of the settings (the methods' own rooms), and the file that `--init` writes (`starting`).
"""

import difflib
import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

from lake.errors import UsageError
from trainers.plan import Stage

Method = Literal["pretrain", "sft", "lora", "dpo", "ipo", "kto", "reward", "grpo"]
METHODS: tuple[str, ...] = get_args(Method)

# Those whose examples are packed into rows of a length; the others take one example a row.
PACKED = frozenset({"pretrain", "sft", "lora"})
DATASETS: Mapping[str, str] = {
    "pretrain": "pretrain",
    "sft": "sft",
    "lora": "domain",
    "dpo": "preference",
    "ipo": "preference",
    "kto": "kto",
    "reward": "preference",
    "grpo": "grpo",
}

Share = Annotated[float, Meta(ge=0, lt=1)]
Count = Annotated[int, Meta(ge=1)]
Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Overlong = Literal["error", "drop", "truncate"]
Loss = Literal["dapo", "grpo", "dr_grpo", "bnpo", "cispo", "sapo", "vespo"]


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to train on: a dataset of a snapshot, an export, or shards that were built elsewhere."""

    lake: Annotated[str | None, Meta(description="where the lake is; by default LAKE_URI, or ./lakehouse")] = None
    snapshot: Annotated[str | None, Meta(description="the id or the name of a snapshot")] = None
    dataset: Annotated[str | None, Meta(description="which dataset of it; by default the method's own")] = None
    export: Annotated[str | None, Meta(description="an export's folder, instead of a snapshot")] = None
    built: Annotated[str | None, Meta(description="a folder of shards, instead of either: needs no lake")] = None
    shards: Annotated[str, Meta(description="where shards are kept, each under its key")] = "shards"
    policy: Annotated[str | None, Meta(description="a policy, or a receipt that has one, as JSON")] = None
    val: Annotated[Share, Meta(description="the share of rows that is held out for evaluation")] = 0.0
    split_seed: Annotated[int, Meta(description="which rows are held out")] = 0
    replay: Annotated[Share, Meta(description="the share of rows that is of past training")] = 0.0
    longest: Annotated[Count | None, Meta(description="tokens that an example may have, where none are packed")] = None
    overlong: Annotated[Overlong, Meta(description="what becomes of a longer example")] = "error"
    template: Annotated[str | None, Meta(description="a chat template (.jinja); by default the tokenizer's")] = None


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which weights to begin with."""

    path: Annotated[str | None, Meta(description="a folder of weights, or a name on the hub")] = None
    revision: Annotated[str | None, Meta(description="a commit of the hub's repository")] = None
    config: Annotated[str | None, Meta(description="a config.json, for weights that the run's seed draws")] = None
    tokenizer: Annotated[str | None, Meta(description="a folder with the tokenizer; by default the model's")] = None
    dtype: Annotated[Literal["float32", "bfloat16"], Meta(description="of the computation; weights too, if frozen")] = (
        "float32"
    )
    attention: Annotated[str, Meta(description="transformers' name of an implementation")] = "sdpa"
    gradient_checkpointing: Annotated[bool, Meta(description="less memory, about a fifth slower")] = False


class Optimizer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How weights are changed. `parts` are equal shares of a step, which processes divide among them."""

    learning_rate: Annotated[Positive, Meta(description="the highest of the schedule")]
    name: Annotated[str, Meta(description="transformers' name of an optimizer")] = "adamw_torch"
    weight_decay: Annotated[NotNegative, Meta(description="how much weights shrink")] = 0.0
    beta1: Annotated[Share, Meta(description="how much of the mean gradient is kept")] = 0.9
    beta2: Annotated[Share, Meta(description="how much of the mean square is kept")] = 0.999
    epsilon: Annotated[Positive, Meta(description="is added to what divides")] = 1e-8
    schedule: Annotated[str, Meta(description="transformers' name of a schedule")] = "cosine"
    warmup_steps: Annotated[int, Meta(ge=0, description="steps until the highest rate")] = 0
    max_grad_norm: Annotated[NotNegative, Meta(description="gradients are clipped at it; 0: never")] = 1.0
    parts: Annotated[
        Count, Meta(description="micro-batches of a step, all processes together; a multiple of their number")
    ] = 1


class Checkpoints(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When the state is kept, from which a run can go on."""

    every: Annotated[Count | None, Meta(description="steps; by default the last one alone")] = None
    keep: Annotated[Count | None, Meta(description="how many of the newest; by default all")] = None


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is told while a run goes on."""

    every: Annotated[Count, Meta(description="steps between two lines of metrics.jsonl")] = 1
    to: Annotated[tuple[str, ...], Meta(description='trackers, as transformers calls them, such as "wandb"')] = ()


class Evaluation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When the loss on what was held out is measured."""

    every: Annotated[Count | None, Meta(description="steps; by default at the end alone")] = None
    rows: Annotated[Count, Meta(description="rows at a time")] = 8


class Lora(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Adapters instead of whole weights."""

    r: Annotated[Count, Meta(description="the rank")] = 16
    alpha: Annotated[Positive, Meta(description="the adapters count alpha / r times")] = 32.0
    dropout: Annotated[Share, Meta(description="0 where experts are adapted")] = 0.0
    experts: Annotated[bool, Meta(description="adapt the experts, where there are some")] = True
    targets: Annotated[
        tuple[str, ...], Meta(description="names of what to adapt; by default whatever projects attention and MLP")
    ] = ()


class Preference(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How strongly a policy is held to its reference, what labels weigh (KTO), and where rewards lie (reward)."""

    beta: Annotated[Positive, Meta(description="a higher one stays nearer to the reference")] = 0.1
    desirable_weight: Annotated[NotNegative, Meta(description="what a wanted example weighs (kto)")] = 1.0
    undesirable_weight: Annotated[NotNegative, Meta(description="what an unwanted example weighs (kto)")] = 1.0
    center: Annotated[NotNegative, Meta(description="how strongly rewards are kept around 0 (reward)")] = 0.0


class Rewards(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an answer is worth, by what became of it."""

    passed: Annotated[float, Meta(description="its tests ran to their end, and all passed")] = 1.0
    failed: Annotated[float, Meta(description="its tests ran, and one failed")] = 0.1
    broken: Annotated[float, Meta(description="there is no code in it, or none that compiles and loads")] = -0.3
    stopped: Annotated[float, Meta(description="it ran too long, took too much, or ended before its tests did")] = -0.3
    unproven: Annotated[float, Meta(description="nothing shows that its tests ran, for want of a package, say")] = -0.3


class Grpo(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How answers are drawn and rewarded."""

    generations: Annotated[int, Meta(ge=2, description="answers to a prompt")] = 4
    temperature: Annotated[Positive, Meta(description="of the draw")] = 0.7
    top_p: Annotated[float, Meta(gt=0, le=1, description="only the likeliest tokens of so much mass are drawn")] = 1.0
    max_new_tokens: Annotated[Count, Meta(description="the longest answer")] = 512
    steps_per_generation: Annotated[Count, Meta(description="steps that answers drawn at once are spread over")] = 1
    iterations: Annotated[Count, Meta(description="how often answers are learned from")] = 1
    beta: Annotated[NotNegative, Meta(description="weight of the divergence from the reference; 0: none")] = 0.0
    loss: Annotated[Loss, Meta(description="TRL's name of a loss")] = "dapo"
    timeout: Annotated[Positive, Meta(description="seconds that the tests of an answer may take")] = 10.0
    workers: Annotated[Count | None, Meta(description="answers tested at a time; by default one a core")] = None
    rewards: Annotated[Rewards, Meta(description="what an answer is worth")] = Rewards()

    @property
    def steps_of_round(self) -> int:
        """How many steps learn from answers that are drawn at once."""
        return self.steps_per_generation * self.iterations


class RunSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A run: its method, what it trains on and begins with, and how."""

    method: Method
    out: Annotated[str, Meta(description="the folder that the run makes")]
    data: Data
    model: Model
    stages: Annotated[tuple[Stage, ...], Meta(min_length=1)]
    optimizer: Optimizer
    seed: Annotated[int, Meta(ge=0, lt=1 << 31, description="of the order of rows and of whatever is drawn")] = 0
    checkpoints: Checkpoints = Checkpoints()
    report: Report = Report()
    evaluation: Evaluation = Evaluation()
    lora: Lora | None = None
    preference: Preference | None = None
    grpo: Grpo | None = None

    @property
    def packed(self) -> bool:
        """Whether rows hold as many examples as fit."""
        return self.method in PACKED

    @property
    def longest(self) -> int | None:
        """How many tokens an example may have that is never cut; None where any length will do."""
        if self.method == "pretrain":
            return None
        return min(stage.length or 0 for stage in self.stages) if self.packed else self.data.longest

    @property
    def dataset(self) -> str:
        """The dataset that is asked for, or the method's own."""
        return self.data.dataset or DATASETS[self.method]

    @property
    def digest(self) -> str:
        """The sha256 of all settings, as canonical JSON."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()


def read(path: Path, method: str | None = None) -> RunSpec:
    """The run that a file asks for. Paths in it come back absolute. Raises UsageError."""
    try:
        said = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        first = f"lake train {method or 'sft'} --init > {path} writes one to begin with"
        raise UsageError(f"{path}: {error.strerror or error}", first) from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: this is no text in UTF-8: {error.reason}", "save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: {error}", "mend that line; https://toml.io says how values are written") from None
    if method is not None and said.setdefault("method", method) != method:
        raise UsageError(f"{path}: method: it is for {said['method']!r}, and {method!r} was asked for", None)
    return parse(said, str(path), path.parent)


def parse(said: Mapping[str, Any], called: str, folder: Path) -> RunSpec:
    """The run that these tables ask for; `called` names them in messages. Raises UsageError."""
    if (method := said.get("method")) not in METHODS:
        near = difflib.get_close_matches(str(method), METHODS, 1)
        hint = f"did you mean {near[0]}?" if near else f"it is one of {', '.join(METHODS)}"
        raise UsageError(f"{called}: method: there is no method {method!r}", hint)
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


def struct_in(kind: Any) -> type[msgspec.Struct] | None:
    """The struct in a type: itself, or within Annotated, a union or a tuple."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    if get_origin(kind) is None:
        return None
    return next((found for one in get_args(kind) if (found := struct_in(one)) is not None), None)


def _instead(key: str, known: tuple[str, ...]) -> str:
    if near := difflib.get_close_matches(key, known, 1, 0.75):
        return f"did you mean {near[0]}?"
    if key in _ELSEWHERE:
        return f"it is {_ELSEWHERE[key]}"
    return f"the keys here are {', '.join(known)}"


def _contradictions(spec: RunSpec) -> Iterator[tuple[str, str | None]]:
    """What no single key is to blame for, and what to do about it."""
    data, model, method = spec.data, spec.model, spec.method
    if sum(said is not None for said in (data.snapshot, data.export, data.built)) != 1:
        yield "data: exactly one of snapshot, export and built says what to train on", "lake snapshot list"
    if data.snapshot is None:
        for key in ("dataset", "policy", "val", "split_seed", "replay"):
            if getattr(data, key) != msgspec.structs.fields(Data)[Data.__struct_fields__.index(key)].default:
                yield (
                    f"data.{key}: what is to be trained on has been chosen already",
                    "leave it out, or name a snapshot",
                )
    if data.snapshot is not None and data.snapshot.lower() in {"latest", "newest", "head", "now"}:
        yield (
            f"data.snapshot: {data.snapshot!r} would be another one tomorrow",
            "lake snapshot create prints an id; name that",
        )
    if (model.path is None) == (model.config is None):
        yield "model: exactly one of path and config says which weights to begin with", None
    if model.config is not None and model.tokenizer is None:
        yield "model.tokenizer: a config brings none", "name a folder that has a tokenizer.json"
    for place, stage in enumerate(spec.stages):
        if spec.packed and stage.length is None:
            yield f"stages[{place}].length: {method} packs rows, and of how many tokens?", "say length = 2048"
        if not spec.packed and stage.length is not None:
            yield f"stages[{place}].length: {method} takes one example a row", "data.longest limits an example"
        answers = (spec.grpo or Grpo()).generations if method == "grpo" else 1
        if stage.rows * answers % spec.optimizer.parts:
            what = f"{stage.rows} rows" if answers == 1 else f"{answers} answers to each of {stage.rows} rows"
            yield (
                f"stages[{place}].rows: {what} cannot be shared out in {spec.optimizer.parts} equal parts",
                "let them be a multiple of optimizer.parts",
            )
        if stage.steps is not None and stage.epochs != 1:
            yield f"stages[{place}]: steps and epochs both say how long it is", "keep one of them"
    if len({stage.rows * (stage.length or 1) for stage in spec.stages}) > 1:
        yield (
            "stages: a step would have more tokens in one than in another, at the same learning rate",
            "keep rows times length the same",
        )
    if spec.packed and data.longest is not None:
        yield "data.longest: the length of the rows is what an example may have", "leave it out"
    wanted = {"lora": ("lora",), "preference": ("dpo", "ipo", "kto", "reward"), "grpo": ("grpo",)}
    for section, methods in wanted.items():
        if section != "lora" and getattr(spec, section) is not None and method not in methods:
            yield f"{section}: {method} has no use for it", "leave the table out"
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
