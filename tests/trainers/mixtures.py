"""Tiny mixtures of experts of every kind, with adapters on them."""

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from trainers.adapters import adapt
from trainers.spec import Lora

torch.set_num_threads(1)

SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
DEEPSEEK = {
    "q_lora_rank": 12,
    "kv_lora_rank": 12,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "n_routed_experts": 4,
    "moe_intermediate_size": 16,
    "n_group": 2,
    "topk_group": 1,
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 1,
    "num_key_value_heads": 4,
}
# By name: the type, what it has beyond the small model, its layers of experts, and the weights of a layer.
MIXTURES = {
    "gpt_oss": ({"num_local_experts": 4, "head_dim": 8}, 2, 2),
    "mixtral": ({"num_local_experts": 4}, 2, 2),
    "qwen2_moe": (
        {
            "num_experts": 4,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 20,
            "decoder_sparse_step": 1,
        },
        2,
        2,
    ),
    "qwen3_moe": (
        {
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "head_dim": 8,
            "mlp_only_layers": [0],
        },
        1,
        2,
    ),
    "deepseek_v3": (DEEPSEEK, 1, 2),
    "deepseek_v2": (DEEPSEEK | {"n_shared_experts": 1}, 1, 2),
    "olmoe": ({"num_experts": 4, "num_experts_per_tok": 2}, 2, 2),
    "granitemoeshared": ({"num_local_experts": 4, "num_experts_per_tok": 2, "shared_intermediate_size": 16}, 2, 2),
    "glm4_moe": (
        {
            "n_routed_experts": 4,
            "moe_intermediate_size": 16,
            "num_experts_per_tok": 2,
            "head_dim": 8,
            "first_k_dense_replace": 1,
        },
        1,
        2,
    ),
    "llama4_text": (
        {
            "num_local_experts": 4,
            "head_dim": 8,
            "intermediate_size_mlp": 24,
            "interleave_moe_layer_step": 1,
            "attn_temperature_tuning": False,
        },
        2,
        2,
    ),
    "jetmoe": ({"num_local_experts": 4, "kv_channels": 8, "num_key_value_heads": 2}, 4, 2),
    "phimoe": ({"num_local_experts": 4}, 2, 2),
}

IDS = torch.arange(24).reshape(2, 12) % SMALL["vocab_size"]
BATCH = {"input_ids": IDS, "labels": IDS}
VOCABULARY = SMALL["vocab_size"]
SETTINGS = Lora(r=4)
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


def make(kind, **more):
    """A model of random weights that are the same each time."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **SMALL | (MIXTURES[kind][0] if kind in MIXTURES else {}) | more)
    return AutoModelForCausalLM.from_config(config)


def trained(kind, settings=SETTINGS, **more):
    """An adapted model whose adapters do something, as after some training."""
    torch.manual_seed(1)
    model = adapt(make(kind, **more), settings)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            nn.init.normal_(parameter, std=0.1)
    return model.eval()


@torch.no_grad()
def logits(model):
    return model(IDS).logits


def by_peft(model, **settings):
    """Adapters as PEFT puts them, with its own names."""
    return get_peft_model(model, LoraConfig(r=4, task_type="CAUSAL_LM", **settings))
