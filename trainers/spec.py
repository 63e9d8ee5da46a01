"""What a run can be asked to do: every setting, with its type, its bounds, what it means and what holds without it.

Not here: reading settings from a file, and which of them contradict each other (`reading`); what becomes of them (the
methods' own rooms); and the file that `--init` writes (`starting`).
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

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

Kind = Literal["text", "pair", "answer", "prompt"]

# What kind of row a method learns from.
KINDS: Mapping[str, Kind] = {
    "pretrain": "text",
    "sft": "text",
    "lora": "text",
    "dpo": "pair",
    "ipo": "pair",
    "reward": "pair",
    "kto": "answer",
    "grpo": "prompt",
}
# The fields of each kind of row. A text is a conversation, a document, or a prompt and its completion in one.
FIELDS: Mapping[Kind, tuple[str, ...]] = {
    "text": ("text",),
    "pair": ("prompt", "chosen", "rejected"),
    "answer": ("prompt", "completion"),
    "prompt": ("prompt",),
}

# What somebody may call a snapshot who wants the newest.
RECENT = frozenset({"latest", "newest", "now", "head", "current"})

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
    template: Annotated[
        str | None, Meta(description="a chat template (.jinja), which the model keeps; by default the tokenizer's")
    ] = None


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


def struct_in(kind: Any) -> type[msgspec.Struct] | None:
    """The struct in a type: itself, or within Annotated, a union or a tuple."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    if get_origin(kind) is None:
        return None
    return next((found for one in get_args(kind) if (found := struct_in(one)) is not None), None)
