"""Models that mix attention with mixers of a state space: what adapters are on, and where they cannot be."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")

from torch import nn  # noqa: E402

from lake.errors import UsageError  # noqa: E402
from tests.trainers.mixtures import SMALL  # noqa: E402
from trainers.adapters import adapt, prove_gradients, verify_expert_lora  # noqa: E402
from trainers.guards import guard  # noqa: E402
from trainers.spec import Lora  # noqa: E402
from trainers.targets import detect  # noqa: E402

torch.set_num_threads(1)
# PEFT asks a model by a name that transformers gives up.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 8}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
# By type: what it has beyond the small model; its mixers of a state space; its layers of experts.
HYBRIDS: dict[str, tuple[dict[str, Any], list[str], int]] = {
    "bamba": ({**MAMBA, "attn_layer_indices": [1]}, ["model.layers.0.mamba"], 0),
    "falcon_h1": (
        {**MAMBA, "mamba_d_ssm": 64, "head_dim": 8},
        ["model.layers.0.mamba", "model.layers.1.mamba"],
        0,
    ),
    "granitemoehybrid": (
        {**MAMBA, **EXPERTS, "layer_types": ["mamba", "attention"], "num_local_experts": 4},
        ["model.layers.0.mamba"],
        2,
    ),
    "nemotron_h": (
        {
            **EXPERTS,
            "num_hidden_layers": 4,
            "layers_block_type": ["mamba", "attention", "moe", "mlp"],
            "mamba_num_heads": 4,
            "mamba_head_dim": 16,
            "ssm_state_size": 8,
            "n_groups": 1,
            "chunk_size": 8,
            "head_dim": 8,
            "n_routed_experts": 4,
            "moe_shared_expert_intermediate_size": 16,
        },
        ["model.layers.0.mixer"],
        1,
    ),
    "jamba": (
        {
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "num_experts": 4,
            "mamba_d_state": 8,
            "mamba_dt_rank": 4,
            "use_mamba_kernels": False,
        },
        ["model.layers.0.mamba"],
        1,
    ),
    "falcon_mamba": ({"state_size": 4, "time_step_rank": 4}, ["backbone.layers.0.mixer", "backbone.layers.1.mixer"], 0),
}


@pytest.fixture(autouse=True)
def quiet() -> None:
    """What transformers says of kernels that are not there is not ours."""
    transformers.logging.set_verbosity_error()


def made(kind: str) -> Any:
    """A model of random weights."""
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(kind, **SMALL | HYBRIDS[kind][0])
    )


@pytest.mark.parametrize("kind", HYBRIDS)
def test_adapters_are_on_what_is_called(kind: str) -> None:
    """Of a mixer the first projection has one; all else that is linear has, and so have all experts."""
    model = made(kind)
    _, mixers, layers = HYBRIDS[kind]
    linear = {
        name for name, module in model.named_modules() if isinstance(module, nn.Linear) and "layers" in name.split(".")
    }
    passed = {f"{mixer}.{own}" for mixer in mixers for own in ("x_proj", "dt_proj", "out_proj")} & linear
    assert {f"{mixer}.out_proj" for mixer in mixers} <= passed
    found = detect(model)
    assert {target.name for target in found.all if not target.stacked} == linear - passed
    assert {f"{mixer}.in_proj" for mixer in mixers} <= linear - passed
    assert len(found.groups) == layers
    stacks = {name for name, weight in model.named_parameters() if weight.ndim == 3 and "experts" in name}
    assert {target.parameter for target in found.of("expert")} == stacks
    adapted = adapt(model, Lora(r=2))
    report = verify_expert_lora(adapted)
    assert (report.weights, report.expert_layers) == (len(found.all), layers)
    assert prove_gradients(adapted, SMALL["vocab_size"]) == len(found.all)


def test_a_layer_that_carries_a_state_but_calls_all_it_has_is_adapted_whole() -> None:
    """Linear attention decays, too, and its last projection is called: it has an adapter."""
    config = transformers.AutoConfig.for_model(
        "qwen3_next",
        **SMALL | EXPERTS,
        num_experts=4,
        shared_expert_intermediate_size=16,
        layer_types=["linear_attention", "full_attention"],
        linear_num_value_heads=2,
        linear_num_key_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        head_dim=8,
    )
    model = transformers.AutoModelForCausalLM.from_config(config)
    assert hasattr(model.model.layers[0].linear_attn, "A_log")
    assert "model.layers.0.linear_attn.out_proj" in {target.name for target in detect(model).all}


@pytest.mark.parametrize("kind", HYBRIDS)
def test_packed_rows_are_not_for_them(kind: str) -> None:
    """A state goes from one document of a row into the next, so such a model is refused where rows are shared."""
    with pytest.raises(UsageError, match="layers, which carry one packed document into the next") as caught:
        guard(made(kind))
    assert "alone train on one example a row" in str(caught.value.hint)
