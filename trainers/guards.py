"""Packed documents never see each other: what a model needs for that, and a proof on the very model.

Rows of shape (rows, length) hold several documents, and `position_ids` that begin at 0 with each of them say where one
ends; there is no mask of attention beside them. Most models of transformers make their masks from that, unless
a cache of keys and values is on, which it is by default, or flash attention gets more than one row; some never do.
`guard` puts all of this right or refuses, `probe` runs the model on a few tokens and fails where a document still sees
another: call both once, after adapters are on and before the first step.

Not here: how documents come to share rows (`exporters.packing`, `batches`), and models trained on one example a row,
which need none of this.
"""

from typing import Any, Literal, cast

import msgspec
import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, create_masks_for_generate

from lake.errors import LakeError, UsageError
from trainers.order import splitmix64

# Their decoders leave position ids out of their masks, but take a mask that is made for them.
_TAKES_A_MASK = frozenset({"afmoe", "gpt_oss", "opt"})
# Layers that carry a state from token to token, which no mask and no position stops.
_RECURRENT = frozenset({"conv", "hybrid", "hybrid_sliding", "linear_attention", "mamba"})
_INSTEAD = "take another model: dpo, ipo, kto, reward and grpo alone train on one example a row"

# The documents of the probe's rows, in tokens. The last one of each row stands for padding.
_DOCUMENTS = ((11, 14, 7), (17, 9, 6))
# How far logits may move where nothing flows, as a share of how far they lie from their mean: kernels add up in another
# order where shapes differ.
_TOLERANCES = {torch.float64: 1e-6, torch.float32: 2e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}
# In a row of another length a mixture may choose another expert for a token, and a deep one moves by far more than its
# dtype says; so what that does is measured on the model itself, and this many times of it are allowed.
_TIMES_ROUNDING = 4.0


class Leaked(LakeError):
    """A document of a packed row sees, or would see, another one."""


class Guarded(msgspec.Struct, frozen=True):
    """How a model keeps documents apart: what it is, its attention, and what this is told of their boundaries."""

    model: str
    attention: str
    boundaries: Literal["position_ids", "mask", "lengths"]


class Probed(msgspec.Struct, frozen=True):
    """What a probe saw, each as a share of how far logits lie from their mean.

    `seen`: how far a document's logits move when the one before it is another. `influence`: the greatest derivative of
    its logits by the embeddings of the documents before, by that of its own. `alone`: how far its logits are from those
    that it has in a row of its own. `rounding`: how far these move when tokens follow that it cannot see.
    """

    seen: float
    influence: float
    alone: float
    rounding: float


def guard(model: nn.Module) -> Guarded:
    """Make a model right for packed rows, in place: a causal language model, with adapters or without.

    Its cache is off from then on, and where its class or attention does not heed position ids, a hook tells it in its
    own terms where documents end. A packed batch that comes with a mask of its own is refused when it comes. Raises
    UsageError for models and attention that cannot be made right.
    """
    bare = _bare(model)
    decoder = _decoder(bare)
    name, attention = type(bare).__name__, _attention(decoder)
    _refuse(name, attention, decoder)
    # A model and what it is made of may each have a configuration of their own.
    for module in model.modules():
        config = getattr(module, "config", None)
        if config is not None and hasattr(config, "use_cache"):
            config.use_cache = False
    guarded = Guarded(name, attention, _boundaries(attention, decoder))
    decoder.register_forward_pre_hook(_Hook(guarded), with_kwargs=True)
    return guarded


def probe(model: nn.Module, vocabulary: int) -> Probed:
    """Prove on a model that documents of packed rows do not see each other, with ids below `vocabulary`.

    The model runs a few times on two rows of 32 tokens, without dropout, where its weights are now: those that will be
    shared out are on no other device yet. Its weights, gradients and modes, and the state of random numbers, are as
    before. Under autocast it is probed as it will run. Raises Leaked, and LakeError where it computes no numbers.
    """
    bare = _bare(model)
    modes = {module: module.training for module in model.modules()}
    device = bare.device
    cuda = [device] if device.type == "cuda" else []
    model.eval()
    try:
        with torch.random.fork_rng(devices=cuda):
            influence = _influence(bare, vocabulary, device)
            seen, alone, rounding = _compared(bare, vocabulary, device)
    finally:
        for module, mode in modes.items():
            module.training = mode
    found = Probed(seen, influence, alone, rounding)
    moves = _TOLERANCES.get(_dtype(bare, device), _TOLERANCES[torch.bfloat16])
    differs = max(moves, _TIMES_ROUNDING * rounding)
    # A masked weight is exactly 0 whatever the dtype, and so is everything that a derivative multiplies by it.
    if influence == 0 and seen <= moves and alone <= differs:
        return found
    what = "sees the ones before it" if influence or seen > moves else "is not what it is in a row of its own"
    raise Leaked(
        f"{type(bare).__name__} with {_attention(_decoder(bare))} attention: a document of a packed row {what} "
        f"(seen {seen:.2g}, influence {influence:.2g}, alone {alone:.2g}; at most {moves:.2g}, 0, {differs:.2g})",
        f"choose attention = 'sdpa' or 'eager' where it is another; else {_INSTEAD}",
    )


class _Hook:
    """Runs before a decoder: tells it where documents end, and refuses what would keep it from looking."""

    def __init__(self, guarded: Guarded) -> None:
        self._guarded = guarded

    def __call__(
        self, decoder: PreTrainedModel, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        positions, mask = kwargs.get("position_ids"), kwargs.get("attention_mask")
        if positions is None or positions.shape[-1] == 1 or kwargs.get("past_key_values") is not None:
            return None  # one document a row, or the next token of a text that is being written
        if mask is not None:
            self._check(mask, positions)
            return None
        changed = kwargs | {"use_cache": False}
        if self._guarded.boundaries == "mask":
            given = kwargs.get("inputs_embeds")
            if given is None:
                ids = args[0] if args else kwargs["input_ids"]
                weight = cast(Tensor, decoder.get_input_embeddings().weight)
                given = weight.new_empty((*ids.shape, 0))
            # Only the shape, dtype and device of the embeddings are looked at.
            changed["attention_mask"] = create_masks_for_generate(decoder.config, given, None, None, positions)
        elif self._guarded.boundaries == "lengths" and kwargs.get("cu_seq_lens_q") is None:
            ends = lengths_of(positions)
            longest = positions.shape[-1]  # an upper bound is enough, and asks nothing of the device
            changed |= {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}
        return args, changed

    def _check(self, mask: object, positions: Tensor) -> None:
        if not isinstance(mask, Tensor):
            return
        who = f"{self._guarded.model} with {self._guarded.attention} attention"
        if mask.ndim == 2:
            real = mask.bool()
            if ((positions.diff(dim=-1) != 1) & real[:, 1:] & real[:, :-1]).any():
                raise Leaked(
                    f"{who}: a batch has position ids of packed documents, and a mask of attention that hides them",
                    "leave attention_mask out of packed batches",
                )
        elif mask.ndim == 4 and mask.dtype == torch.bool and self._guarded.attention == "eager":
            raise Leaked(f"{who} adds a mask to its scores, and this one is of true and false", "leave the mask out")


def lengths_of(positions: Tensor) -> Tensor:
    """Where each document of packed rows begins when the rows stand one after the other, and the end: int32.

    The form that flash attention takes for sequences of several lengths, as `cu_seq_lens`.
    """
    flat = positions.reshape(-1)
    begins = (flat == 0).nonzero().view(-1)
    return torch.cat([begins, begins.new_tensor([flat.numel()])]).to(torch.int32)


def _bare(model: nn.Module) -> PreTrainedModel:
    """The transformers model under the adapters; PEFT itself is not imported, which takes seconds."""
    bare = cast(Any, model).get_base_model() if hasattr(model, "get_base_model") else model
    if not isinstance(bare, PreTrainedModel):
        raise TypeError(f"{type(bare).__name__} is no model of transformers")
    return bare


def _decoder(bare: PreTrainedModel) -> PreTrainedModel:
    return cast(PreTrainedModel, bare.get_decoder())


def _attention(decoder: PreTrainedModel) -> str:
    return str(decoder.config._attn_implementation)  # noqa: SLF001 (it has no public name)


def _dtype(bare: PreTrainedModel, device: torch.device) -> torch.dtype:
    """What the model computes in."""
    kind = device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else bare.dtype


def _boundaries(attention: str, decoder: PreTrainedModel) -> Literal["position_ids", "mask", "lengths"]:
    if "flash" in attention:
        return "lengths"
    return "mask" if decoder.config.model_type in _TAKES_A_MASK else "position_ids"


def _refuse(name: str, attention: str, decoder: PreTrainedModel) -> None:
    if attention not in ALL_MASK_ATTENTION_FUNCTIONS.valid_keys() and "flash" not in attention:
        raise UsageError(
            f"{name}: nothing tells {attention} attention where a packed document ends",
            "choose attention = 'sdpa', 'eager' or 'flash_attention_2'",
        )
    recurrent = sorted(_RECURRENT & set(getattr(decoder.config, "layer_types", None) or ()))
    if recurrent:
        raise UsageError(f"{name} has {recurrent[0]} layers, which carry one packed document into the next", _INSTEAD)


def _rows(vocabulary: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Ids of two packed rows, the same with another first document in each, and their position ids."""
    positions = np.stack([np.concatenate([np.arange(size) for size in row]) for row in _DOCUMENTS])
    ids = (splitmix64(np.arange(positions.size, dtype=np.uint64)) % np.uint64(vocabulary)).astype(np.int64)
    ids = ids.reshape(positions.shape)
    others = ids.copy()
    for row, (first, *_) in enumerate(_DOCUMENTS):
        others[row, :first] = (ids[row, :first] + 1 + vocabulary // 3) % vocabulary
    made = tuple(torch.from_numpy(array).to(device) for array in (ids, others, positions))
    return made[0], made[1], made[2]


@torch.no_grad()
def _compared(model: PreTrainedModel, vocabulary: int, device: torch.device) -> tuple[float, float, float]:
    """How far logits move when the document before is another; are from those alone; these move when more follows."""
    ids, others, positions = _rows(vocabulary, device)
    packed = _logits(model, ids, positions)
    moved = _logits(model, others, positions)
    seen = alone = rounding = 0.0
    for row, (first, second, _) in enumerate(_DOCUMENTS):
        seen = max(seen, _distance(moved[row, first:], packed[row, first:]))
        # Without position ids the model goes the way that it always goes.
        by_itself = _logits(model, ids[row : row + 1, first : first + second])[0]
        with_more = _logits(model, ids[row : row + 1, first:])[0, :second]
        alone = max(alone, _distance(packed[row, first : first + second], by_itself))
        rounding = max(rounding, _distance(with_more, by_itself))
    return seen, alone, rounding


def _influence(model: PreTrainedModel, vocabulary: int, device: torch.device) -> float:
    """The greatest derivative of later documents' logits by the embeddings of the first, by that of their own."""
    ids, _, positions = _rows(vocabulary, device)
    embedded: list[Tensor] = []

    def leaf(_module: nn.Module, _args: object, made: Tensor) -> Tensor:
        embedded.append(made.detach().requires_grad_())
        return embedded[-1]

    hook = model.get_input_embeddings().register_forward_hook(leaf)
    try:
        with torch.enable_grad():
            logits = _logits(model, ids, positions)
    finally:
        hook.remove()
    later = torch.stack([torch.arange(ids.shape[1], device=device) >= first for first, *_ in _DOCUMENTS])
    # Signs, so that what one logit gains another does not take away.
    signs = _signs(logits.shape, device)
    found = torch.autograd.grad((logits * signs)[later].sum(), embedded[:1], allow_unused=True)[0] if embedded else None
    if found is None or not found[later].abs().max() > 0:
        raise Leaked(
            f"{type(model).__name__}: no derivative reaches its embeddings, so it cannot be shown that documents are "
            "apart",
            _INSTEAD,
        )
    return float(found[~later].abs().max() / found[later].abs().max())


def _signs(shape: torch.Size, device: torch.device) -> Tensor:
    bits = splitmix64(np.arange(int(np.prod(shape)), dtype=np.uint64)) & np.uint64(1)
    return torch.from_numpy(bits.astype(np.float32) * 2 - 1).reshape(shape).to(device)


def _logits(model: PreTrainedModel, ids: Tensor, positions: Tensor | None = None) -> Tensor:
    logits: Tensor = model(input_ids=ids, position_ids=positions).logits
    if not logits.isfinite().all():
        raise LakeError(
            f"{type(model).__name__}: not all of its logits are finite numbers in {_dtype(model, ids.device)}",
            "choose another dtype, or look at its weights",
        )
    return logits.float()


def _distance(one: Tensor, other: Tensor) -> float:
    """How far apart logits are, as a share of how far they lie from their mean at each place."""
    return float((one - other).norm() / (other - other.mean(-1, keepdim=True)).norm())
