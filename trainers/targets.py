"""Which weights of a model an adapter can be on, sorted by what they do: attention, MLP, shared experts, experts.

A mixture of experts keeps most of its weights where the usual list of names does not reach: as parameters of three
dimensions, one matrix an expert, under a module of experts. What is called or typed so is looked for in the model
itself. A shared expert is none of them, whatever its name; routers are told apart, and never get an adapter. Of a model
that sees or hears, too, only the part that reads text is looked at: rows are of text, and never come to the rest.

Not here: putting adapters on, and counting them (`adapters`).
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

Role = Literal["attention", "dense", "shared", "expert", "router"]

_ROUTER = re.compile(r"gate|router|wg|(.*_)?expert_gate")
_SHARED = re.compile(r"shared_(experts?|mlp)")
_EXPERTS = re.compile(r"(.*_)?experts?")
_STATE_SPACE = ("A_log", "D", "conv1d")
_READ_PAST = frozenset({"x_proj", "dt_proj", "out_proj"})
_ATTENTION = re.compile(r".*(attn|attention).*")


@dataclass(frozen=True)
class Target:
    """A weight that an adapter can be on: that of a linear module, or a parameter that stacks matrices of `experts`.

    `parameter` is its full name, `name` the same without `.weight`; `sizes` are those of one matrix, in any order.
    `group` is the module of experts that it belongs to, if any.
    """

    parameter: str
    role: Role
    sizes: tuple[int, int]
    experts: int = 1
    stacked: bool = False
    group: str = ""

    @property
    def name(self) -> str:
        """What it is called in lists of targets."""
        return self.parameter.removesuffix(".weight")

    def trainable(self, r: int) -> int:
        """How many numbers an adapter of rank `r` on it has."""
        return r * self.experts * sum(self.sizes)


@dataclass(frozen=True)
class Targets:
    """The weights of a model that adapters can be on, the routers that never get one, and what none can be on.

    `unknown` are experts' weights, or stacks of matrices, of a form or type that LoRA has no way with.
    """

    all: tuple[Target, ...]
    routers: tuple[str, ...]
    unknown: tuple[str, ...]

    def of(self, role: Role) -> tuple[Target, ...]:
        """Those of one role."""
        return tuple(target for target in self.all if target.role == role)

    @property
    def groups(self) -> tuple[str, ...]:
        """The modules of experts, one a layer of a mixture."""
        return tuple(dict.fromkeys(target.group for target in self.of("expert")))


def detect(model: nn.Module) -> Targets:
    """Sort the weights within a model's layers, with adapters on or off, by what an adapter makes of them.

    The layers are those of its decoder: text alone goes through no other.
    """
    modules = dict(modules_of(model))
    decoder = _decoder(model, modules)
    roles = {name: _role(name, modules) for name in modules}
    found: list[Target] = []
    routers: list[str] = []
    unknown: list[str] = []
    for name, module in modules.items():
        if not name.startswith(decoder) or not any(part.isdigit() for part in name.split(".")):
            continue  # towers of images, embeddings, heads, and whatever else comes once
        role = roles[name]
        if role == "router":
            routers.extend(f"{name}.{own}" for own, _ in module.named_parameters(recurse=False))
        elif isinstance(module, nn.Linear):
            if not _bypassed(name, modules):
                sizes = module.in_features, module.out_features
                found.append(Target(f"{name}.weight", role, sizes, group=_group(name, role, modules)))
        elif isinstance(module, Conv1D):
            found.append(Target(f"{name}.weight", role, (module.nx, module.nf)))
        elif not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Embedding):
            stacks = {own: weight for own, weight in module.named_parameters(recurse=False) if _stack(weight)}
            found.extend(
                Target(f"{name}.{own}", role, (one, two), count, stacked=True, group=_group(name, role, modules))
                for own, (count, one, two) in ((own, weight.shape) for own, weight in stacks.items())
                if role in {"expert", "shared"}
            )
            unknown.extend(f"{name}.{own}" for own in _strange(module, role, stacks))
    # Without routers there are no experts: other models have stacks of matrices, too.
    return Targets(tuple(found), tuple(routers), tuple(unknown) if routers else ())


def begin(model: nn.Module) -> str:
    """What PEFT puts before the names of a model's modules."""
    return "base_model.model." if isinstance(model, PeftModel) else ""


def modules_of(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules that a model has without its adapters, under the names that they have then."""
    before = begin(model)
    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer) or any(part.startswith("lora_") for part in name.split(".")):
            continue
        if name.startswith(before):
            yield name.removeprefix(before).replace(".base_layer", ""), module


def _decoder(model: nn.Module, modules: Mapping[str, nn.Module]) -> str:
    """How the names of what text goes through begin."""
    bare = model.get_base_model() if isinstance(model, PeftModel) else model
    decoder = bare.get_decoder() if isinstance(bare, PreTrainedModel) else bare
    name = next((name for name, module in modules.items() if module is decoder), "")
    return f"{name}." if name else ""


def _role(name: str, modules: Mapping[str, nn.Module]) -> Role:
    parts = name.split(".")
    kinds = [type(modules[".".join(parts[: end + 1])]).__name__ for end in range(len(parts))]
    if any(map(_ROUTER.fullmatch, parts)) or any("Router" in kind for kind in kinds):
        return "router"
    if any(map(_SHARED.fullmatch, parts)):
        return "shared"
    # A class may be a model's by name alone: GraniteMoeSharedExperts are the routed experts of GraniteMoeShared.
    if any(map(_EXPERTS.fullmatch, parts)) or any("Expert" in kind for kind in kinds):
        return "expert"
    return "attention" if any(map(_ATTENTION.fullmatch, parts)) else "dense"


def _group(name: str, role: Role, modules: Mapping[str, nn.Module]) -> str:
    """The module of experts that a module is in: one that is called so, or what holds one whose class is."""
    if role != "expert":
        return ""
    parts = name.split(".")
    for end, part in enumerate(parts, 1):
        if _EXPERTS.fullmatch(part):
            return ".".join(parts[:end])
    ends = (end for end in range(1, len(parts) + 1) if "Expert" in type(modules[".".join(parts[:end])]).__name__)
    return ".".join(parts[: next(ends) - 1])


def _stack(weight: nn.Parameter) -> bool:
    return weight.ndim == 3 and weight.dtype.is_floating_point


def _strange(module: nn.Module, role: Role, stacks: Collection[str]) -> list[str]:
    """Its weights that hold matrices of experts, or may, and that no adapter can be on."""
    if role == "shared":
        return []
    if role != "expert":
        return list(stacks)
    # Beside stacks of matrices, what has two dimensions is their biases. Quantised weights may be buffers.
    own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    return [] if stacks else [name for name, weight in own if weight.ndim > 1]


def _bypassed(name: str, modules: Mapping[str, nn.Module]) -> bool:
    """Whether the weight of a module is read and the module never called, so that an adapter would do nothing.

    Mixers of a state space do so, in kernels or always, with all that comes after their first projection. They are
    told by what they have besides, since they are called as their models are.
    """
    above, _, own = name.rpartition(".")
    return own in _READ_PAST and all(hasattr(modules[above], what) for what in _STATE_SPACE)


def ends_in(name: str, ending: str) -> bool:
    """Whether a dotted name is this, or its last parts are."""
    return name == ending or name.endswith(f".{ending}")


def one_ends_in(ending: str, names: Iterable[str]) -> bool:
    """Whether one of these names does."""
    return any(ends_in(name, ending) for name in names)


def general(name: str) -> str:
    """The name with a star in place of each number: what layers have in common."""
    return ".".join("*" if part.isdigit() else part for part in name.split("."))


def listed(names: Iterable[str]) -> str:
    """Names for a message: those that differ in numbers alone are said once, with how many there are."""
    counted: dict[str, int] = {}
    for name in names:
        counted[general(name)] = counted.get(general(name), 0) + 1
    said = [f"{name} ({count})" if count > 1 else name for name, count in counted.items()]
    return ", ".join(said[:8]) + (f" and {len(said) - 8} more" if len(said) > 8 else "")
