"""Tiny models of many kinds, and rows that several documents share."""

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

VOCABULARY = 97
SIZE = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "sliding_window": 8,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
KINDS = {
    "afmoe": {**EXPERTS, "num_dense_layers": 1},
    "gemma3_text": {},
    "gpt2": {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 64},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "llama": {},
    "mistral": {},
    "mixtral": {"num_local_experts": 4},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32, "sliding_window": None},
    "qwen2": {},
    "qwen3": {},
    "qwen3_moe": EXPERTS,
}
HAS_NO_SDPA = {"gpt_oss"}


def attention_of(kind: str) -> str:
    """An attention that the kind of model has."""
    return "eager" if kind in HAS_NO_SDPA else "sdpa"


def made(kind: str, attention: str | None = None, dtype=torch.float32, **more: object):
    """A tiny model with random weights, the same each time."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = CONFIG_MAPPING[kind](**{**SIZE, **KINDS.get(kind, {}), **more})
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention or attention_of(kind), dtype=dtype)


def packed(cuts: list[int], rows: int = 1) -> tuple:
    """Ids and position ids of rows that hold documents of such lengths."""
    positions = torch.cat([torch.arange(size) for size in cuts]).expand(rows, -1)
    return (torch.arange(positions.numel()).reshape(positions.shape) * 37 + 11) % VOCABULARY, positions
