"""LoRA: adapters on the weights of a model, and the proof that every one that is meant has its own.

A mixture of experts keeps most of its weights where the usual list of names does not reach: as parameters of three
dimensions, one matrix an expert, under a module of experts. PEFT says nothing where a list of module names passes them
by, where half of a list of parameters matches nothing, or where "expert" in a name was a shared expert's. So names are
looked up in the model itself: `adapt` puts adapters on what `targets` finds there, and refuses a choice that leaves
experts out unless that is said; `verify_expert_lora` counts what is there; and `prove_gradients` shows that a loss
reaches each adapter, which a kernel that reads weights past their adapters would prevent.

Routers are never adapted, nor are embeddings and heads.

Not here: which weights there are (`targets`), keeping packed documents apart (`guards`, which come after), and the
training (the room of each method).

LoRA is that of Hu et al., arXiv 2106.09685: a weight of shape (out, in) gets r (in + out) numbers, and a stack of
experts as many for each of them.
"""

import difflib
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import msgspec
import numpy as np
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.tuners.lora import LoraLayer, ParamWrapper
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.pytorch_utils import Conv1D

from lake.errors import LakeError, UsageError
from trainers.order import splitmix64
from trainers.spec import Lora
from trainers.targets import Target, Targets, begin, detect, ends_in, general, listed, modules_of, one_ends_in

_TOKENS = 32  # a row of the proof: enough that each layer's experts see some


class ExpertsMissed(UsageError):
    """An adapter leaves expert layers as they are, though nobody said that it should."""


class NotReached(LakeError):
    """An adapter is not what was asked for: it is frozen, of another size, on a router, or no loss reaches it."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What adapters are on: of how many layers of experts, how many of their weights, and how much is trained.

    `weights` have an adapter, `expert_weights` of them are experts'; `trainable` of `total` numbers are trained,
    `expert_trainable` of them for experts, and are of these `dtypes`.
    """

    expert_layers: int
    expert_weights: int
    expert_trainable: int
    weights: int
    trainable: int
    total: int
    ranks: tuple[int, ...]
    dtypes: tuple[str, ...]


def adapt(model: PreTrainedModel, settings: Lora) -> PeftModel:
    """Put adapters on a model, in place, and verify them.

    By default they are on every linear module within its layers and on all experts, routers aside; `settings.targets`
    are names of weights, or ends of names. Their numbers are of float32 and come from torch's generator: seed it
    first. Raises UsageError; ExpertsMissed where `settings` leave experts out without `experts = false`.
    """
    found = detect(model)
    chosen = _choose(found, settings, model)
    configuration = _configuration(model, chosen, settings)
    if settings.dropout and configuration.target_parameters:
        raise UsageError(
            f"lora.dropout: {settings.dropout:g} cannot be where {', '.join(configuration.target_parameters)} are "
            "adapted: such an adapter is added to its weight, and never sees what goes in",
            "set dropout = 0",
        )
    with warnings.catch_warnings():
        # PEFT asks a model by a name that transformers gives up.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        adapted = get_peft_model(model, configuration)
    kept = adapted.peft_config["default"]
    assert isinstance(adapted, PeftModel)
    assert isinstance(kept, LoraConfig)
    # PEFT keeps sets, and would write them down in an order that differs from process to process.
    kept.target_modules, kept.target_parameters = (
        sorted(kept.target_modules or ()),
        sorted(kept.target_parameters or ()),
    )
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # a head, too, would lose small steps in 16 bits
    verify_expert_lora(adapted, experts=settings.experts)
    return adapted


def verify_expert_lora(model: nn.Module, *, experts: bool = True) -> Report:
    """Count the adapters of a model, whoever put them there: all that is trained is theirs, and all layers have them.

    With `experts`, every weight of every layer of experts has one; a shared expert is none of them. A model without
    experts passes. Raises ExpertsMissed and NotReached, which name the weights.
    """
    found, layers = detect(model), _adapters(model)
    known = {target.name: target for target in found.all}
    if routers := [router for router in found.routers if router.removesuffix(".weight") in layers]:
        raise NotReached(f"{listed(routers)}: a router has an adapter", "leave it out of the targets")
    _refuse_tied(model, layers)
    if experts:
        _refuse_unknown(found)
        _refuse_missed(found, layers)
    expected = sum(target.trainable(_rank(layers[name])) for name, target in known.items() if name in layers)
    kept = [parameter for name, parameter in model.named_parameters() if ".modules_to_save." in name]
    frozen = [name for name, layer in layers.items() if not all(p.requires_grad for p in _numbers(layer))]
    if frozen:
        raise NotReached(f"{listed(frozen)}: the adapter is frozen", "load it with is_trainable=True")
    changing = [parameter for parameter in model.parameters() if parameter.requires_grad]
    trainable = sum(parameter.numel() for parameter in changing)
    others = sum(parameter.numel() for parameter in kept if parameter.requires_grad)
    beyond = sum(p.numel() for name, layer in layers.items() if name not in known for p in _numbers(layer))
    if trainable != expected + beyond + others:
        raise NotReached(
            f"{trainable:,} numbers are trained, and the adapters on {len(layers)} weights have {expected + beyond:,}",
            "train an adapter alone: bias = 'none', and no weight of the model's own",
        )
    of_experts = [target for target in found.of("expert") if target.name in layers]
    return Report(
        expert_layers=len(found.groups),
        expert_weights=len(of_experts),
        expert_trainable=sum(target.trainable(_rank(layers[target.name])) for target in of_experts),
        weights=len(layers),
        trainable=trainable,
        total=sum(parameter.numel() for parameter in model.parameters()),
        ranks=tuple(sorted({_rank(layer) for layer in layers.values()})),
        dtypes=tuple(sorted({str(parameter.dtype).removeprefix("torch.") for parameter in changing})),
    )


def prove_gradients(model: PeftModel, vocabulary: int) -> int:
    """Show that a loss reaches the adapters of a model that makes logits, with ids below `vocabulary`.

    It has to reach each of them; of experts that are modules of their own, which no token may go to, one of a layer's.
    One step forward and back on two short rows, where the weights are now: those that will be shared out are on no
    other device yet. Of a layer no more is kept for the way back than what goes in, and gradients are forgotten;
    weights, modes and the state of random numbers are as before. Under autocast it runs as it will. Returns how many
    weights have an adapter. One begins with B = 0, so that its A has a gradient of 0 and its B has not. Raises
    NotReached, which names the weights, where a gradient is missing, 0 everywhere or not finite.
    """
    layers = _adapters(model)
    experts = {t.name: f"{t.group} {general(t.name)}" for t in detect(model).of("expert") if not t.stacked}
    device = next(model.parameters()).device
    cuda = [device] if device.type == "cuda" else []
    ids = (splitmix64(np.arange(2 * _TOKENS, dtype=np.uint64)) % np.uint64(vocabulary)).astype(np.int64)
    rows = torch.from_numpy(ids.reshape(2, _TOKENS)).to(device)
    with torch.random.fork_rng(devices=cuda), torch.enable_grad(), _computed_twice(model):
        model(input_ids=rows, use_cache=False).logits.float().square().sum().backward()
    moved = [name for name, layer in layers.items() if all(_moves(layer, own) for own in layer.active_adapters)]
    model.zero_grad(set_to_none=True)
    # No token may have gone to an expert of its own weights: one of a layer's is enough.
    reached = {*moved, *(experts.get(name, name) for name in moved)}
    missed = [name for name in layers if name not in reached and experts.get(name) not in reached]
    if missed:
        raise NotReached(
            f"{listed(missed)}: no gradient reaches the adapter",
            "text never comes there, or a kernel reads these weights past their adapters: leave kernels off, or name "
            "others in lora.targets",
        )
    return len(layers)


@contextmanager
def _computed_twice(model: nn.Module) -> Iterator[None]:
    """Let layers be computed once more on the way back, whatever is trained with.

    An adapter of stacked experts is added to their weights, and each sum would be kept: all experts a second time, on a
    device that training may fill. Transformers' own switch for this works in training alone.
    """
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    before = [vars(layer).get("forward") for layer in layers]
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    try:
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            del layer.forward
            if own is not None:
                layer.forward = own


def _adapters(model: nn.Module) -> dict[str, LoraLayer]:
    """The adapters of a model, by the weight that each is on, as `Target` names it."""
    found: dict[str, LoraLayer] = {}
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            weight = name.removeprefix(begin(model)).replace(".base_layer", "")
            if isinstance(module, ParamWrapper):
                weight = f"{weight}.{module.parameter_name}".removesuffix(".weight")
            found[weight] = module
    return found


def _choose(found: Targets, settings: Lora, model: nn.Module) -> tuple[Target, ...]:
    if settings.experts:
        _refuse_unknown(found)
    usable = [target for target in found.all if settings.experts or target.role != "expert"]
    if not settings.targets:
        chosen = tuple(usable)
    else:
        for name in settings.targets:
            if not one_ends_in(name, (target.name for target in usable)):
                raise UsageError(*_no_such(name, found, model))
        chosen = tuple(target for target in usable if any(ends_in(target.name, name) for name in settings.targets))
        if settings.experts:
            _refuse_missed(found, {target.name for target in chosen})
    if not chosen:
        raise UsageError(f"{type(model).__name__}: there is no weight in it that an adapter could be on")
    return chosen


def _no_such(name: str, found: Targets, model: nn.Module) -> tuple[str, str]:
    """Why a name of `lora.targets` is refused, and what to do."""
    said = f"lora.targets: {name!r} is"
    if one_ends_in(name, (weight.removesuffix(".weight") for weight in found.routers)):
        return f"{said} a router, and routers are never adapted", "leave it out"
    if one_ends_in(name, (target.name for target in found.of("expert"))):
        return f"{said} an expert's, and experts = false", "leave it out, or set experts = true"
    if one_ends_in(name, (module for module, _ in modules_of(model))):
        return f"{said} none of the weights within layers that an adapter can be on", "leave it out"
    known = sorted({target.name.rpartition(".")[2] for target in found.all})
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{said} no weight of {type(model).__name__}", f"{hint}there are {', '.join(known)}"


def _configuration(model: PreTrainedModel, chosen: Collection[Target], settings: Lora) -> LoraConfig:
    """PEFT's settings that name these weights, and no others, by endings as short as that allows."""
    linear = [target.name for target in chosen if not target.stacked]
    modules = _endings(linear, [name for name, _ in modules_of(model)], 1)
    # PEFT takes some names for those of an older version's experts, in lists for modules alone.
    taken = {name for name in modules if _means_experts(name, model)}
    parameters = [t.parameter for t in chosen if t.stacked or any(ends_in(t.name, name) for name in taken)]
    sequence = type(model).__name__.endswith("ForSequenceClassification")
    return LoraConfig(
        task_type=TaskType.SEQ_CLS if sequence else TaskType.CAUSAL_LM,  # the former trains the head, too
        r=settings.r,
        # A whole number where it is one, which is what most programs that read adapters know.
        lora_alpha=int(settings.alpha) if float(settings.alpha).is_integer() else settings.alpha,  # type: ignore[arg-type]
        lora_dropout=settings.dropout,
        bias="none",
        target_modules=sorted(modules - taken),
        target_parameters=sorted(_endings(parameters, [name for name, _ in model.named_parameters()], 2)),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )


def _means_experts(name: str, model: nn.Module) -> bool:
    tried = LoraConfig(target_modules=[name])
    try:
        convert_peft_config_for_transformers(tried, model, None)
    except ValueError:  # half of a pair that it would join
        return True
    return name not in (tried.target_modules or ())


def _endings(wanted: Collection[str], every: Collection[str], least: int) -> set[str]:
    """Endings of names, of at least so many parts, that all that is wanted ends in and nothing else does."""
    others = {ending for name in set(every) - set(wanted) for ending in _endings_of(name)}
    made: set[str] = set()
    for name in wanted:
        made.add(next((ending for ending in _endings_of(name)[least - 1 :] if ending not in others), name))
    return made


def _endings_of(name: str) -> list[str]:
    """Its last part, its last two, and so on up to all of it."""
    parts = name.split(".")
    return [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]


def _refuse_unknown(found: Targets) -> None:
    if found.unknown:
        raise ExpertsMissed(
            f"{listed(found.unknown)}: stacked weights that no adapter can be on, by their shape or their type",
            "load them as floating-point numbers where they are quantised, or set experts = false",
        )


def _refuse_missed(found: Targets, reached: Collection[str]) -> None:
    experts = found.of("expert")
    missed = [target for target in experts if target.name not in reached]
    if missed:
        layers = {target.group for target in missed}
        raise ExpertsMissed(
            f"{listed([target.name for target in missed])}: the experts of {len(layers)} of {len(found.groups)} "
            f"layers have no adapter ({len(experts) - len(missed)} of {len(experts)} weights have one)",
            "leave lora.targets out, name these as well, or set experts = false",
        )


def _refuse_tied(model: nn.Module, layers: Mapping[str, LoraLayer]) -> None:
    """Embeddings that are the head's weights, too, would be changed in both places when the adapter is merged."""
    weights: dict[int, list[str]] = {}
    for name, module in modules_of(model):
        if isinstance(module, nn.Linear | nn.Embedding):
            weights.setdefault(id(module.weight), []).append(name)
    for names in weights.values():
        if len(names) > 1 and (adapted := [name for name in names if name in layers]):
            raise NotReached(
                f"{listed(adapted)}: the adapter is on weights that {listed(names)} share: merged, it changes them all",
                "leave it out of the targets",
            )


def _numbers(layer: LoraLayer) -> list[nn.Parameter]:
    """A and B of its active adapters: a reference may keep another beside them."""
    pairs = [(layer.lora_A[name], layer.lora_B[name]) for name in layer.active_adapters if name in layer.lora_A]
    return [parameter for pair in pairs for each in pair for parameter in each.parameters()]


def _rank(layer: LoraLayer) -> int:
    return sum(layer.r[name] for name in layer.active_adapters if name in layer.r)


def _moves(layer: LoraLayer, adapter: str) -> bool:
    gradients = [layer.lora_A[adapter].weight.grad, layer.lora_B[adapter].weight.grad]
    known = [gradient for gradient in gradients if isinstance(gradient, torch.Tensor) and gradient.isfinite().all()]
    return len(known) == 2 and any(bool(gradient.any()) for gradient in known)
