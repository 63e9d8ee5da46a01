"""Adapters are on every weight that they are meant for, experts above all, and a choice that misses some is refused."""

import pytest

pytest.importorskip("torch", reason="adapters are of the extra train")
pytest.importorskip("peft", reason="adapters are of the extra train")

import msgspec
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from lake.errors import UsageError
from trainers.adapters import ExpertsMissed, NotReached, adapt, prove_gradients, verify_expert_lora
from trainers.spec import Lora
from trainers.targets import detect

torch.set_num_threads(1)
# PEFT asks a model by a name that transformers gives up.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

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
LATENT = {"q_lora_rank": 12, "kv_lora_rank": 12, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8}
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
    "deepseek_v3": (
        LATENT
        | {
            "n_routed_experts": 4,
            "moe_intermediate_size": 16,
            "n_group": 2,
            "topk_group": 1,
            "num_experts_per_tok": 2,
            "first_k_dense_replace": 1,
            "num_key_value_heads": 4,
        },
        1,
        2,
    ),
    "deepseek_v2": (
        LATENT
        | {
            "n_routed_experts": 4,
            "moe_intermediate_size": 16,
            "n_group": 2,
            "topk_group": 1,
            "num_experts_per_tok": 2,
            "first_k_dense_replace": 1,
            "num_key_value_heads": 4,
            "n_shared_experts": 1,
        },
        1,
        2,
    ),
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


@pytest.fixture(autouse=True)
def quiet(caplog):
    """What transformers says of the shapes of a tiny model is not ours."""
    transformers.logging.set_verbosity_error()


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
    assert prove_gradients(model, VOCABULARY, "cpu") == report.weights == len(found.all)


@pytest.mark.parametrize("kind", MIXTURES)
def test_adapters_are_the_same_read_back_and_merged(kind, tmp_path):
    """Read back, adapters give the same logits, to the bit; merged into the weights, and these read back, nearly so."""
    model = trained(kind)
    wanted = logits(model)
    with model.disable_adapter():
        assert (logits(model) - wanted).abs().max() > 1e-2
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(make(kind), tmp_path).eval()
    assert torch.equal(logits(again), wanted)
    merged = model.merge_and_unload()
    assert (logits(merged) - wanted).abs().max() < 1e-5
    merged.save_pretrained(tmp_path / "merged")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    assert (logits(again) - wanted).abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2"])
def test_a_dense_model_is_adapted_in_all_its_layers(kind, tmp_path):
    """Without experts every linear module within layers gets an adapter, and tied embeddings stay as they are."""
    plain = make(kind, tie_word_embeddings=True)
    embeddings = plain.get_input_embeddings().weight.clone()
    linear = [n for n, m in plain.named_modules() if isinstance(m, nn.Linear | transformers.pytorch_utils.Conv1D)]
    model = trained(kind, Lora(r=4, dropout=0.1), tie_word_embeddings=True)
    report = verify_expert_lora(model)
    assert (report.expert_layers, report.weights) == (0, len(linear) - 1)
    assert prove_gradients(model, VOCABULARY, "cpu") == report.weights
    wanted = logits(model)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(make(kind, tie_word_embeddings=True), tmp_path).eval()
    assert torch.equal(logits(again), wanted)
    merged = model.merge_and_unload()
    assert torch.equal(merged.get_input_embeddings().weight, embeddings)
    assert torch.equal(merged.get_output_embeddings().weight, embeddings)
    assert (logits(merged) - wanted).abs().max() < 1e-5


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
    assert prove_gradients(model, VOCABULARY, "cpu") == 8 + 32
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
        prove_gradients(model, VOCABULARY, "cpu")
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
def test_gradient_checkpointing_changes_no_gradient():
    """Experts' adapters have the same gradients when their layers are computed twice."""

    def gradients(again):
        model = trained("gpt_oss").train()
        if again:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model(**BATCH, use_cache=False).loss.backward()
        return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}

    once, twice = gradients(False), gradients(True)
    assert all(once[name].abs().max() > 0 for name in once)
    assert all(torch.equal(once[name], twice[name]) for name in once)


def test_adapters_of_short_weights_are_long():
    """Over weights of 16 bits an adapter has numbers of 32, so that small steps are not lost, also read back."""
    model = adapt(make("gpt_oss").bfloat16(), Lora(r=4))
    assert verify_expert_lora(model).dtypes == ("float32",)
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**BATCH, use_cache=False).loss
    loss.backward()
    optimizer.step()
    after = dict(model.named_parameters())
    assert all(not torch.equal(after[name], value) for name, value in before.items() if ".lora_B." in name)


@pytest.mark.parametrize(("size", "least", "most"), [(1e-5, 0.0, 0.5), (1e-3, 0.99, 1.01)])
def test_small_changes_of_short_stacks_are_rounded_away(size, least, most):
    """PEFT adds an adapter of stacked experts to their weights: in 16 bits it counts once it is large enough."""
    torch.manual_seed(1)
    model = adapt(make("gpt_oss", hidden_size=128).bfloat16(), Lora(r=16, alpha=32))
    wrapped = model.get_base_model().model.layers[0].mlp.experts
    nn.init.normal_(wrapped.lora_B["default"].weight, std=size)
    wanted = wrapped.get_delta_weight("default").float()
    seen = []
    wrapped.get_base_layer().register_forward_pre_hook(lambda module, _: seen.append(module.down_proj.detach().clone()))
    logits(model)
    change = seen[0].float() - wrapped.get_param().float()
    assert least <= (change * wanted).sum() / (wanted * wanted).sum() <= most


def test_the_head_of_a_classifier_is_trained_and_kept(tmp_path):
    """A reward model's head has no weights to begin with: it is trained beside its adapters, and saved with them."""
    torch.manual_seed(0)
    config = AutoConfig.for_model("mixtral", **SMALL | MIXTURES["mixtral"][0] | {"num_labels": 1, "pad_token_id": 0})
    base = AutoModelForSequenceClassification.from_config(config).bfloat16()
    model = adapt(base, Lora(r=4))
    report = verify_expert_lora(model)
    assert report.dtypes == ("float32",)
    assert report.trainable == sum(target.trainable(4) for target in detect(model).all) + 32
    assert [name for name, p in model.named_parameters() if p.requires_grad and ".score." in name]
    model.save_pretrained(tmp_path)
    assert any("score" in name for name in load_file(tmp_path / "adapter_model.safetensors"))


def test_a_run_with_stacked_adapters_goes_on_where_it_stopped(tmp_path):
    """A trainer of transformers, stopped half-way and resumed, ends with the adapters of a run that never stopped."""

    def run(steps, folder, resume=None):
        torch.manual_seed(1)
        model = adapt(make("gpt_oss"), Lora(r=4))
        said = transformers.TrainingArguments(
            output_dir=folder,
            max_steps=4,
            save_steps=2,
            per_device_train_batch_size=2,
            learning_rate=1e-2,
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            dataloader_num_workers=0,
        )
        rows = [{"input_ids": IDS[number % 2], "labels": IDS[number % 2]} for number in range(8)]
        trainer = transformers.Trainer(model, said, train_dataset=rows)
        if steps < 4:
            trainer.add_callback(Stop(steps))
        trainer.train(resume_from_checkpoint=resume)
        return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}

    straight = run(4, tmp_path / "straight")
    run(2, tmp_path / "stopped")
    resumed = run(4, tmp_path / "stopped", str(tmp_path / "stopped" / "checkpoint-2"))
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


class Stop(transformers.TrainerCallback):
    """Ends a run after so many steps."""

    def __init__(self, steps):
        self.steps = steps

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= self.steps


def test_stacked_adapters_are_stored_under_known_names(tmp_path):
    """What other programs read: one adapter is under base_layer; shapes are (rank experts, in), (out, rank experts)."""
    model = adapt(make("gpt_oss"), Lora(r=4))
    model.save_pretrained(tmp_path)
    said = msgspec.json.decode((tmp_path / "adapter_config.json").read_bytes())
    assert said["target_parameters"] == ["experts.down_proj", "experts.gate_up_proj"]
    assert said["target_modules"] == sorted(ATTENTION)  # the same bytes each time
    assert isinstance(said["lora_alpha"], int)
    stored = {n: tuple(t.shape) for n, t in load_file(tmp_path / "adapter_model.safetensors").items() if ".0.mlp." in n}
    begin = "base_model.model.model.layers.0.mlp.experts."
    assert {name.removeprefix(begin) for name in stored} == {
        "lora_A.weight",
        "lora_B.weight",
        "base_layer.lora_A.weight",
        "base_layer.lora_B.weight",
    }
    assert stored[f"{begin}base_layer.lora_A.weight"] == (4 * 4, 32)  # gate_up_proj takes what is hidden
    assert stored[f"{begin}lora_A.weight"] == (4 * 4, 24)  # down_proj what is between
    assert stored[f"{begin}base_layer.lora_B.weight"] == (48, 4 * 4)
    assert stored[f"{begin}lora_B.weight"] == (32, 4 * 4)
