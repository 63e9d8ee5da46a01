"""Adapters learn as they should, and are the same read back, merged, gone on with, and under names that others know."""

import pytest

pytest.importorskip("torch", reason="adapters are of the extra train")
pytest.importorskip("peft", reason="adapters are of the extra train")

import msgspec
import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from tests.trainers.mixtures import (
    ATTENTION,
    BATCH,
    IDS,
    MIXTURES,
    SMALL,
    VOCABULARY,
    logits,
    make,
    trained,
)
from trainers.adapters import adapt, prove_gradients, verify_expert_lora
from trainers.spec import Lora
from trainers.targets import detect

# PEFT asks a model by a name that transformers gives up.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture(autouse=True)
def quiet(caplog):
    """What transformers says of the shapes of a tiny model is not ours."""
    transformers.logging.set_verbosity_error()


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
    assert prove_gradients(model, VOCABULARY) == report.weights
    wanted = logits(model)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(make(kind, tie_word_embeddings=True), tmp_path).eval()
    assert torch.equal(logits(again), wanted)
    merged = model.merge_and_unload()
    assert torch.equal(merged.get_input_embeddings().weight, embeddings)
    assert torch.equal(merged.get_output_embeddings().weight, embeddings)
    assert (logits(merged) - wanted).abs().max() < 1e-5


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
