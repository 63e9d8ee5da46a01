"""Adapters are on every weight that they are meant for, experts above all, and a choice that misses some is refused."""

import pytest

pytest.importorskip("torch", reason="adapters are of the extra train")
pytest.importorskip("peft", reason="adapters are of the extra train")

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from lake.errors import UsageError
from tests.trainers.mixtures import (
    ATTENTION,
    MIXTURES,
    VOCABULARY,
    by_peft,
    make,
)
from trainers.adapters import ExpertsMissed, NotReached, adapt, prove_gradients, verify_expert_lora
from trainers.spec import Lora
from trainers.targets import detect

# PEFT asks a model by a name that transformers gives up.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture(autouse=True)
def quiet(caplog):
    """What transformers says of the shapes of a tiny model is not ours."""
    transformers.logging.set_verbosity_error()


@pytest.mark.parametrize("kind", MIXTURES)
def test_every_expert_of_every_layer_is_found_and_trained(kind):
    """All of a mixture's experts get an adapter, of the size that the formula says, and a loss reaches each one."""
    _, layers, weights = MIXTURES[kind]
    model = make(kind)
    plain = {name: parameter.shape for name, parameter in model.named_parameters()}
    found = detect(model)
    assert (len(found.groups), len(found.of("expert"))) == (layers, layers * weights)
    assert not any("shared" in target.name for target in found.of("expert"))
    assert found.routers
    assert not found.unknown
    stacks = {name for name, shape in plain.items() if len(shape) == 3}
    assert {target.parameter for target in found.of("expert")} == stacks
    model = adapt(model, Lora(r=4))
    report = verify_expert_lora(model)
    assert (report.expert_layers, report.expert_weights) == (layers, layers * weights)
    assert report.expert_trainable == sum(4 * plain[name][0] * sum(plain[name][1:]) for name in stacks)
    assert report.trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert {name for name, p in model.named_parameters() if p.requires_grad and "lora_" not in name} == set()
    assert detect(model) == found
    assert prove_gradients(model, VOCABULARY) == report.weights == len(found.all)


MISSED = {
    "attention alone": ("gpt_oss", {"target_modules": list(ATTENTION)}, ["gate_up_proj (2)", "down_proj (2)"]),
    "modules by the names of parameters": (
        "gpt_oss",
        {"target_modules": [*ATTENTION, "gate_up_proj", "down_proj"]},
        ["gate_up_proj (2)", "down_proj (2)", "0 of 4"],
    ),
    "every linear module": ("gpt_oss", {"target_modules": "all-linear"}, ["gate_up_proj (2)", "down_proj (2)"]),
    "half of a list": (
        "gpt_oss",
        {"target_modules": [*ATTENTION], "target_parameters": ["experts.gate_up_proj", "experts.down"]},
        ["experts.down_proj (2)", "2 of 2 layers", "2 of 4"],
    ),
    "one layer": (
        "qwen2_moe",
        {"target_modules": [*ATTENTION], "target_parameters": ["0.mlp.experts.gate_up_proj", "experts.down_proj"]},
        ["layers.*.mlp.experts.gate_up_proj:", "1 of 2 layers", "3 of 4"],
    ),
    "shared experts": (
        "qwen2_moe",
        {"target_modules": [*ATTENTION, "gate_proj", "up_proj", "down_proj"]},
        ["experts.gate_up_proj (2)", "experts.down_proj (2)", "0 of 4"],
    ),
    "dense layers": (
        "deepseek_v3",
        {"target_modules": ["o_proj"], "target_parameters": ["up_proj.weight"]},
        ["experts.gate_up_proj", "experts.down_proj", "0 of 2"],
    ),
}


@pytest.mark.parametrize("what", MISSED)
def test_adapters_that_leave_experts_out_do_not_pass(what):
    """However adapters came to leave experts out, verification fails and names what is missed; unless that was said."""
    kind, settings, named = MISSED[what]
    model = by_peft(make(kind), **settings)
    with pytest.raises(ExpertsMissed) as caught:
        verify_expert_lora(model)
    for text in named:
        assert text in caught.value.message
    assert "shared" not in caught.value.message
    assert verify_expert_lora(model, experts=False).expert_weights < len(detect(model).of("expert"))


@pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys did not match any targeted module")
def test_names_of_an_older_version_are_counted_as_they_are():
    """Where PEFT itself turns older names into stacked ones, with twice the rank, the count is still right."""
    model = by_peft(make("mixtral"), target_modules=[*ATTENTION, "w1", "w2", "w3"])
    report = verify_expert_lora(model)
    assert (report.expert_weights, report.ranks) == (4, (4, 8))


def test_an_adapter_that_is_kept_beside_is_not_counted():
    """A second adapter that does not train, such as a reference's, changes nothing of what is verified."""
    model = adapt(make("gpt_oss"), Lora(r=4))
    alone = verify_expert_lora(model)
    model.add_adapter("kept", model.peft_config["default"])
    model.set_adapter("default")
    beside = verify_expert_lora(model)
    assert (beside.trainable, beside.ranks, beside.weights) == (alone.trainable, (4,), alone.weights)
    assert beside.total == alone.total + alone.trainable
    model.disable_adapter_layers()
    with pytest.raises(NotReached):
        verify_expert_lora(model)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target_modules": [*ATTENTION], "target_parameters": ["gate.weight"]}, "mlp.gate.weight .2.: a router"),
        ({"target_modules": [*ATTENTION], "bias": "all"}, "are trained, and the adapters on 8 weights have"),
        ({"target_modules": [*ATTENTION], "inference_mode": True}, "the adapter is frozen"),
    ],
)
def test_adapters_of_another_kind_do_not_pass(settings, message):
    """A router is never adapted, nothing but adapters is trained, and adapters are."""
    model = by_peft(make("qwen2_moe"), **settings)
    with pytest.raises(NotReached, match=message):
        verify_expert_lora(model, experts=False)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
def test_tied_embeddings_have_no_adapter():
    """An adapter on a head that shares its weights with the embeddings would be merged into both; alone it is right."""
    settings = {"target_modules": [*ATTENTION, "lm_head"]}
    with pytest.raises(NotReached, match=r"lm_head: .*embed_tokens, lm_head share"):
        verify_expert_lora(by_peft(make("llama", tie_word_embeddings=True), **settings))
    report = verify_expert_lora(by_peft(make("llama", tie_word_embeddings=False), **settings))
    assert report.weights == 9


def test_what_the_user_names_is_what_is_adapted():
    """Names mean whatever ends in them, modules or stacked weights; what they miss is an error unless that was said."""
    model = adapt(make("gpt_oss"), Lora(r=4, targets=(*ATTENTION, "gate_up_proj", "down_proj")))
    assert verify_expert_lora(model).expert_weights == 4
    with pytest.raises(ExpertsMissed, match=r"experts\.down_proj \(2\)") as caught:
        adapt(make("gpt_oss"), Lora(targets=("q_proj", "gate_up_proj")))
    assert "experts = false" in caught.value.hint
    model = adapt(make("gpt_oss"), Lora(r=4, experts=False, targets=("q_proj",)))
    assert verify_expert_lora(model, experts=False).weights == 2
    model = adapt(make("qwen2_moe"), Lora(r=4, experts=False, targets=("down_proj",)))
    assert all(".shared_expert." in name for name, p in model.named_parameters() if p.requires_grad)
    assert verify_expert_lora(adapt(make("deepseek_v3"), Lora(r=4, experts=False)), experts=False).expert_weights == 0


@pytest.mark.parametrize(
    ("settings", "message", "hint"),
    [
        ({"targets": ("q_porj",)}, "'q_porj' is no weight of Qwen2MoeForCausalLM", "did you mean 'q_proj'"),
        ({"targets": ("all-linear",)}, "'all-linear' is no weight", "there are down_proj, gate_proj"),
        ({"targets": ("proj",)}, "'proj' is no weight", "there are"),
        ({"targets": ("mlp.gate",)}, "'mlp.gate' is a router", "leave it out"),
        ({"targets": ("shared_expert_gate",)}, "'shared_expert_gate' is a router", "leave it out"),
        ({"targets": ("lm_head",)}, "'lm_head' is none of the weights within layers", "leave it out"),
        ({"targets": ("embed_tokens",)}, "'embed_tokens' is none of the weights within layers", "leave it out"),
        ({"targets": ("gate_up_proj",), "experts": False}, "'gate_up_proj' is an expert's", "experts = true"),
        ({"dropout": 0.1}, "lora.dropout: 0.1 cannot be where experts.down_proj", "dropout = 0"),
    ],
)
def test_a_choice_that_cannot_be_is_refused(settings, message, hint):
    """A name that nothing has, a router's, a head's, and a dropout that no stack can have are usage errors."""
    with pytest.raises(UsageError) as caught:
        adapt(make("qwen2_moe"), Lora(**settings))
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_the_sizes_of_a_large_model():
    """GPT-OSS of 20 billion weights: experts are most of what an adapter has, by the formula for each rank."""
    with torch.device("meta"):
        config = AutoConfig.for_model("gpt_oss", num_local_experts=32, num_hidden_layers=24)
        found = detect(AutoModelForCausalLM.from_config(config))
    assert len(found.groups) == 24
    attention = 2 * (2880 + 4096) + 2 * (2880 + 512)
    experts = 32 * ((2880 + 5760) + (2880 + 2880))
    for rank in (8, 64):
        assert sum(target.trainable(rank) for target in found.of("attention")) == 24 * rank * attention
        assert sum(target.trainable(rank) for target in found.all) == 24 * rank * (attention + experts)


class Unstacked(nn.ModuleList):
    """Experts that are modules of their own, as in checkpoints of four bits."""

    def forward(self, hidden, chosen, weights):
        out = torch.zeros_like(hidden)
        for number, expert in enumerate(self):
            token, place = torch.where(chosen == number)
            made = expert["down_proj"](torch.relu(expert["up_proj"](hidden[token])))
            out = out.index_add(0, token, made * weights[token, place, None])
        return out


def unstacked():
    """A mixture whose experts are lists of linear modules."""
    model = make("mixtral")
    for layer in model.model.layers:
        layer.mlp.experts = Unstacked(
            nn.ModuleDict({"up_proj": nn.Linear(32, 24, bias=False), "down_proj": nn.Linear(24, 32, bias=False)})
            for _ in range(8)
        )
    return model


def test_experts_that_are_linear_modules_are_found():
    """Experts as a list of modules count as experts, each of them; one that no token goes to is no error."""
    found = detect(unstacked())
    assert (len(found.groups), len(found.of("expert"))) == (2, 2 * 8 * 2)
    model = adapt(unstacked(), Lora(r=4, dropout=0.1))
    report = verify_expert_lora(model)
    assert (report.expert_weights, report.expert_trainable) == (32, 32 * 4 * (32 + 24))
    for layer in model.get_base_model().model.layers:
        nn.init.zeros_(layer.mlp.gate.weight)  # whatever comes goes to the same two experts
    assert prove_gradients(model, VOCABULARY) == 8 + 32
    with pytest.raises(ExpertsMissed, match=r"experts\.\*\.up_proj \(16\)"):
        adapt(unstacked(), Lora(targets=(*ATTENTION, "down_proj")))
    with pytest.raises(ExpertsMissed, match="16 of 32 weights"):
        verify_expert_lora(by_peft(unstacked(), target_modules=[*ATTENTION, "down_proj"]))


def test_quantised_stacks_are_refused():
    """Stacks of experts that are no floating-point numbers get no adapter: that is said, and what to do."""
    model = make("gpt_oss")
    for layer in model.model.layers:
        del layer.mlp.experts.gate_up_proj
        blocks = torch.zeros(4, 48, 2, 8, dtype=torch.uint8)
        layer.mlp.experts.gate_up_proj_blocks = nn.Parameter(blocks, requires_grad=False)
        del layer.mlp.experts.down_proj
    with pytest.raises(ExpertsMissed, match=r"experts\.gate_up_proj_blocks \(2\)") as caught:
        adapt(model, Lora())
    assert "quantised" in caught.value.hint
    assert verify_expert_lora(adapt(model, Lora(experts=False)), experts=False).expert_weights == 0


def test_quantised_experts_of_their_own_are_refused():
    """Experts whose weights are buffers of a quantiser's own modules are missed by none."""
    model = make("mixtral")
    for layer in model.model.layers:
        layer.mlp.experts = nn.ModuleList(nn.ModuleDict({"up_proj": Packed()}) for _ in range(4))
    with pytest.raises(ExpertsMissed, match=r"experts\.\*\.up_proj\.qweight \(8\)"):
        adapt(model, Lora())


class Packed(nn.Module):
    """A linear module as quantisers make them."""

    def __init__(self):
        super().__init__()
        self.register_buffer("qweight", torch.zeros(4, 24, dtype=torch.int32))


def test_a_loss_that_goes_past_an_adapter_is_noticed():
    """Where something reads the weights of experts and never calls them, no gradient reaches their adapters."""
    model = adapt(make("qwen3_moe"), Lora(r=4))
    wrapped = model.get_base_model().model.layers[1].mlp.experts
    wrapped.forward = wrapped.get_base_layer().forward
    with pytest.raises(NotReached, match=r"layers\.\*\.mlp\.experts\.gate_up_proj.*: no gradient"):
        prove_gradients(model, VOCABULARY)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_proof_holds_no_second_copy_of_the_experts():
    """However many layers there are, and whatever is trained with, the proof keeps less than one layer's experts."""
    for kind in ("gpt_oss", "llama"):
        model = adapt(make(kind, num_hidden_layers=4, intermediate_size=256), Lora(r=2))
        own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
        kept = {}

        def keep(tensor, own=own, kept=kept):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        layers = model.get_base_model().model.layers
        before = [(vars(module).get("forward"), module.training) for module in model.modules()]
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            prove_gradients(model, VOCABULARY)
        assert 0 < sum(kept.values()) < sum(weight.nbytes for weight in layers[0].mlp.parameters())
        assert [(vars(module).get("forward"), module.training) for module in model.modules()] == before
