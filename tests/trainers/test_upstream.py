"""What the trainers lean on in other people's libraries: each test names what of ours would break without it.

These are no tests of ours. They run on tiny models, so that a renewed library says here, in one line, what has to be
looked at, before a trainer says it in a traceback, or not at all.
"""

import dataclasses
import inspect

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("trl")
peft = pytest.importorskip("peft")

from accelerate.utils import broadcast_object_list, gather_object  # noqa: E402
from datasets import Dataset  # noqa: E402
from deltalake import DeltaTable  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torch.utils.data import DataLoader, IterableDataset  # noqa: E402
from transformers import (  # noqa: E402
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
)
from transformers.masking_utils import (  # noqa: E402
    create_causal_mask,
    create_masks_for_generate,
    find_packed_sequence_indices,
)
from transformers.modeling_flash_attention_utils import _flash_attention_forward  # noqa: E402
from trl.trainer.dpo_config import DPOConfig  # noqa: E402
from trl.trainer.dpo_trainer import DataCollatorForPreference, DPOTrainer  # noqa: E402
from trl.trainer.grpo_config import GRPOConfig  # noqa: E402
from trl.trainer.grpo_trainer import GRPOTrainer  # noqa: E402
from trl.trainer.kto_config import KTOConfig  # noqa: E402
from trl.trainer.kto_trainer import KTOTrainer  # noqa: E402
from trl.trainer.reward_config import RewardConfig  # noqa: E402
from trl.trainer.reward_trainer import RewardTrainer  # noqa: E402

from exporters.packing import IGNORED  # noqa: E402
from tests.trainers import toys  # noqa: E402
from tests.trainers.kinds import VOCABULARY, made, packed  # noqa: E402

# transformers 5.23 renames it, and calls it by the old name itself; 5.17 knows no other.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:`(is_)?gradient_checkpointing\w*` is deprecated and will be removed in v6:FutureWarning",
    "ignore:.*pin_memory.*:UserWarning",
)

PREFERENCE = (DPOTrainer, KTOTrainer, RewardTrainer)
# Whose function, its name, the parameters that are passed or taken, and what of ours leans on it.
CALLED = [
    (Trainer, "get_train_dataloader", [], "loop.FromPlan gives a trainer its batches there"),
    (Trainer, "get_eval_dataloader", ["eval_dataset"], "loop.FromPlan gives a trainer what was held out there"),
    (Trainer, "get_batch_samples", ["epoch_iterator", "num_batches", "device"], "kto sees the parts of a step there"),
    (
        Trainer,
        "compute_loss",
        ["model", "inputs", "return_outputs", "num_items_in_batch"],
        "the mean over all tokens of a step is made of num_items_in_batch",
    ),
    (Trainer, "compute_loss_context_manager", [], "causal probes a model as it will run, under autocast"),
    (Trainer, "_prepare_inputs", ["inputs"], "kto moves the parts of a step to the device"),
    *(
        (kind, "_prepare_dataset", ["dataset", "processing_class", "args", "dataset_name"],
         "prefer.AsTheyAre keeps TRL from tokenising rows anew")
        for kind in PREFERENCE
    ),
    (KTOTrainer, "compute_ref_log_probs", ["model", "inputs"], "kto asks the reference once a step"),
    (KTOTrainer, "_compute_kl_logps", ["model", "batch"], "kto shares one estimate of the divergence in a step"),
    (GRPOTrainer, "_tokenize_prompts", ["prompts"], "grpo hands over prompts as ids"),
    (GRPOTrainer, "_generate_and_score_completions", ["inputs"], "grpo seeds each answer there"),
    (GRPOTrainer, "_generate_single_turn", ["prompt_ids"], "grpo draws answers with its own seeds there"),
    (
        GRPOTrainer,
        "_calculate_rewards",
        ["inputs", "prompts", "completions", "completion_ids_list"],
        "grpo writes each answer and its reward down there",
    ),
    (DPOTrainer, "__init__", ["model", "ref_model", "args", "train_dataset", "processing_class"],
     "prefer passes the reference, which TRL would load by name"),
    (KTOTrainer, "__init__", ["model", "ref_model", "args", "train_dataset", "processing_class"],
     "kto passes the reference, which TRL would load by name"),
]  # fmt: skip

# Settings that ours always say, or whose default they lean on.
_COMMON = [
    "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps", "ignore_data_skip", "data_seed",
    "logging_nan_inf_filter", "average_tokens_across_devices", "remove_unused_columns", "use_cpu", "report_to",
    "save_total_limit", "save_strategy", "eval_strategy", "prediction_loss_only", "ddp_find_unused_parameters",
]  # fmt: skip
SETTINGS = [
    (TrainingArguments, _COMMON),
    (DPOConfig, [*_COMMON, "max_length", "disable_dropout", "loss_type", "beta", "router_aux_loss_coef"]),
    (KTOConfig, [*_COMMON, "max_length", "disable_dropout", "beta", "desirable_weight", "undesirable_weight"]),
    (RewardConfig, [*_COMMON, "max_length", "disable_dropout", "center_rewards_coefficient"]),
    (
        GRPOConfig,
        [
            *_COMMON, "steps_per_generation", "num_iterations", "num_generations", "max_completion_length",
            "temperature", "loss_type", "beta", "router_aux_loss_coef", "shuffle_dataset",
        ],
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name", "parameters", "ours"), CALLED, ids=lambda value: getattr(value, "__name__", "")
)
def test_what_is_called_or_overridden_is_there(kind, name, parameters, ours):
    """A method that ours call or override exists, with the parameters that they use."""
    found = getattr(kind, name, None)
    assert found is not None, f"{kind.__name__}.{name} is gone: {ours}"
    missing = set(parameters) - set(inspect.signature(found).parameters)
    assert not missing, f"{kind.__name__}.{name} has no {missing}: {ours}"


@pytest.mark.parametrize(("kind", "names"), SETTINGS, ids=lambda value: getattr(value, "__name__", ""))
def test_settings_are_there(kind, names):
    """Every setting that `loop.arguments` and the methods say exists."""
    missing = set(names) - {field.name for field in dataclasses.fields(kind)}
    assert not missing, f"{kind.__name__} has no {missing}: loop.arguments and the methods' rooms say them"


@pytest.mark.parametrize("kind", [TrainingArguments, DPOConfig, KTOConfig, RewardConfig, GRPOConfig])
def test_checkpointing_is_what_was_asked_for(kind, tmp_path):
    """The name under which activations are recomputed decides, whatever TRL has for its default."""
    names = {field.name for field in dataclasses.fields(kind)}
    name = "activation_checkpointing" if "activation_checkpointing" in names else "gradient_checkpointing"
    for wanted in (True, False):
        said = kind(output_dir=str(tmp_path), use_cpu=True, bf16=False, **{name: wanted})
        assert said.gradient_checkpointing is wanted, f"loop.arguments says {name}, and {kind.__name__} does otherwise"


class Counting(IterableDataset):
    """Batches that a trainer is given, and which of them it read."""

    def __init__(self, owner: "Fed") -> None:
        self.owner = owner

    def __len__(self) -> int:
        return 4 * 2

    def __iter__(self):
        self.owner.began.append(self.owner.state.global_step)
        for number in range(2 * self.owner.state.global_step, len(self)):
            self.owner.read.append(number)
            # Every part has another number of tokens that count.
            ids = torch.arange(1, 9).reshape(1, 8) + number
            yield {"input_ids": ids, "labels": torch.where(torch.arange(8) < 3 + number % 5, ids, IGNORED)}


class Fed(Trainer):
    """A trainer that takes its batches from a loader of its own."""

    def __init__(self, *args, **kwargs) -> None:
        self.began, self.read, self.counted = [], [], []
        super().__init__(*args, **kwargs)

    def get_train_dataloader(self):
        return DataLoader(Counting(self), batch_size=None, num_workers=0)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        self.counted.append(int(num_items_in_batch))
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run of four steps of two parts, with checkpoints at 2 and 4, and the run that goes on from 2."""
    out = tmp_path_factory.mktemp("straight")
    said = {
        "output_dir": str(out), "max_steps": 4, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 2,
        "save_steps": 2, "use_cpu": True, "report_to": "none", "disable_tqdm": True, "ignore_data_skip": True,
        "learning_rate": 1e-2, "logging_steps": 1,
    }  # fmt: skip
    first = Fed(made("llama"), TrainingArguments(**said))
    first.train()
    weights = load_file(out / "checkpoint-4" / "model.safetensors")
    second = Fed(made("llama"), TrainingArguments(**said))
    second.train(resume_from_checkpoint=str(out / "checkpoint-2"))
    return first, weights, second, load_file(out / "checkpoint-4" / "model.safetensors")


def test_a_trainer_takes_a_loader_as_it_is(straight):
    """A loader of its own is read once, in order, as one epoch of as many steps as there are."""
    first, *_ = straight
    assert (first.began, first.read) == ([0], list(range(8))), "loop.FromPlan would hand out other batches"
    assert first.state.global_step == 4


def test_a_resumed_trainer_reads_nothing_again(straight):
    """The loader is asked once the step is known, and nothing is read to be thrown away; the weights are the same."""
    _, weights, second, again = straight
    assert second.began == [2], "loop.FromPlan begins at state.global_step"
    assert second.read == [4, 5, 6, 7], "ignore_data_skip no longer keeps a trainer from reading on its own"
    assert all(torch.equal(weights[name], again[name]) for name in weights), "a resumed run would be another"


def test_a_step_counts_the_tokens_of_all_its_parts(straight):
    """Each part's loss is divided by the tokens that count in the whole step, not in the part."""
    first, *_ = straight
    # Of 3 + n % 5 labels the first is never counted: they are shifted.
    wanted = [sum(2 + n % 5 for n in (2 * step, 2 * step + 1)) for step in range(4)]
    assert first.counted == [count for count in wanted for _ in range(2)], "accumulation would not be one big batch"


def test_the_cache_is_off_in_a_trainer(straight):
    """A trainer turns a model's cache off when it is made."""
    assert straight[0].model.config.use_cache is False, "packed rows lean on guards.guard alone then"


def test_the_loss_is_shifted_and_ignores():
    """A causal loss is that of the next token, counts nothing that is ignored, and divides by what it is told."""
    model = made("llama").eval()
    ids, _ = packed([9])
    labels = ids.clone()
    labels[:, :4] = IGNORED
    with torch.no_grad():
        out = model(input_ids=ids, labels=labels)
        told = model(input_ids=ids, labels=labels, num_items_in_batch=10).loss
        expected = torch.nn.functional.cross_entropy(out.logits[0, 3:-1], ids[0, 4:])
    assert torch.allclose(out.loss, expected), "batches.packed puts labels at the places of their ids"
    assert torch.allclose(told * 10, expected * 5), "the mean over all tokens of a step needs it"


def test_positions_make_a_mask_only_alone():
    """Position ids say where documents end where there is neither a mask nor a cache, and only then."""
    config = made("llama", "eager").config
    ids, positions = packed([3, 4])
    given = torch.empty(1, 7, 0)
    mask = create_causal_mask(config, given, None, None, position_ids=positions)
    assert (mask[0, 0, 3:, :3] < -1e30).all(), "guards leaves the models that heed position ids to transformers"
    hidden = create_causal_mask(config, given, torch.ones_like(ids), None, position_ids=positions)
    assert (hidden[0, 0, 3:, :3] == 0).all(), "it is right now beside a mask: guards need not refuse such batches"
    assert find_packed_sequence_indices(positions).tolist() == [[0, 0, 0, 1, 1, 1, 1]]


def test_masks_that_are_made_are_taken():
    """What makes masks for generation makes one for each kind of layer, and a decoder takes it in place of its own."""
    model = made("gpt_oss")
    ids, positions = packed([3, 4])
    masks = create_masks_for_generate(model.config, torch.empty(1, 7, 0), None, None, positions)
    assert set(masks) == set(model.config.layer_types), "guards makes masks for gpt_oss with it"
    with torch.no_grad():
        decoder = model.get_decoder()
        made_for = decoder(input_ids=ids, attention_mask=masks, position_ids=positions, use_cache=False)
        own = decoder(input_ids=ids, position_ids=positions, use_cache=False)
    # Where this fails, gpt_oss heeds position ids, and guards need not make masks for it.
    assert not torch.allclose(made_for[0][:, 3:], own[0][:, 3:], atol=1e-4)


def test_flash_attention_takes_bounds():
    """The words in which the guard tells flash attention where documents begin are those that it knows."""
    known = set(inspect.signature(_flash_attention_forward).parameters)
    assert {"cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k"} <= known, "guards passes them"


def test_a_balance_is_counted_unless_it_is_told_not_to_be():
    """TRL counts the loss that keeps experts busy by the model's own coefficient, unless it is told 0."""
    assert made("gpt_oss").config.router_aux_loss_coef > 0
    for kind in (DPOConfig, KTOConfig, GRPOConfig):
        [field] = [field for field in dataclasses.fields(kind) if field.name == "router_aux_loss_coef"]
        assert field.default is None, f"{kind.__name__}: what a mixture's loss holds is said by loop and the methods"


def test_pairs_have_trls_form():
    """The rows that TRL's own collator makes of a pair have the names and the order that `prefer.compared` gives."""
    pairs = [
        {"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4, 5]},
        {"prompt_ids": [6], "chosen_ids": [7, 8, 9], "rejected_ids": [5]},
    ]
    made_by_trl = DataCollatorForPreference(pad_token_id=0)(pairs)
    assert set(made_by_trl) == {"input_ids", "attention_mask", "completion_mask"}, "prefer.compared makes these"
    assert made_by_trl["input_ids"].tolist() == [[1, 2, 3, 0], [6, 7, 8, 9], [1, 2, 4, 5], [6, 5, 0, 0]]
    assert made_by_trl["completion_mask"].tolist() == [[0, 0, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1], [0, 1, 0, 0]]


def test_a_reward_is_asked_by_name_on_the_way_that_is_overridden(tmp_path):
    """A reward is given answers, each column of a sample and a way to tell a metric, past all that ours see to."""
    passed, asked = [], {}

    def seen(name):
        def passes(self, *args, **kwargs):
            passed.append(name)
            return getattr(GRPOTrainer, name)(self, *args, **kwargs)

        return passes

    def reward(**given):
        asked.update(given)
        given["log_metric"]("told", 1.0)
        return [float(number) for number in range(len(given["completions"]))]

    ours = [name for kind, name, *_ in CALLED if kind is GRPOTrainer]
    folder = toys.toy(tmp_path)
    trainer = type("Watched", (GRPOTrainer,), {name: seen(name) for name in ours})(
        AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)),
        reward_funcs=[reward],
        args=GRPOConfig(
            output_dir=str(tmp_path / "out"), use_cpu=True, bf16=False, max_steps=1, per_device_train_batch_size=2,
            num_generations=2, max_completion_length=2, logging_steps=1, report_to="none", save_strategy="no",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list([{"prompt": "w1", "task_id": "one"}]),
        processing_class=AutoTokenizer.from_pretrained(folder / "tokenizer"),
    )  # fmt: skip
    trainer.train()
    assert set(passed) == set(ours), "grpo sees to prompts, seeds and answers there"
    assert (asked["prompts"], asked["task_id"]) == (["w1"] * 2, ["one"] * 2), "rewards.RewardByTests takes them"
    assert [line["told"] for line in trainer.state.log_history if "told" in line] == [1.0], "and tells metrics so"


def test_adapters_on_parameters_have_these_names():
    """A stack of experts is reached as a parameter, one adapter within another, with all experts' ranks together."""
    experts = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    wrapped = peft.get_peft_model(made("gpt_oss"), peft.LoraConfig(r=2, target_modules=[], target_parameters=experts))
    shapes = {
        n.split("layers.0.")[1]: tuple(p.shape)
        for n, p in wrapped.named_parameters()
        if "layers.0." in n and "lora" in n
    }
    # Four experts, hidden 32, intermediate 48: (r * experts, in) and (out, r * experts).
    assert sorted(shapes.values()) == sorted([(8, 32), (96, 8), (8, 48), (32, 8)]), "adapters counts what is trained"
    assert {name.split(".lora_")[0] for name in shapes} == {"mlp.experts", "mlp.experts.base_layer"}, (
        "adapters finds them"
    )


def test_half_a_list_of_experts_passes_in_silence():
    """PEFT says nothing where one of two parameters matches none, nor where module names pass all experts by."""
    half = peft.LoraConfig(
        r=2, target_modules=[], target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.no_proj"]
    )
    wrapped = peft.get_peft_model(made("gpt_oss"), half)
    assert any("lora" in name for name, _ in wrapped.named_parameters()), "adapters.verify_expert_lora need not look"
    dense = peft.get_peft_model(made("gpt_oss"), peft.LoraConfig(r=2, target_modules=["q_proj", "gate_up_proj"]))
    assert not any("experts" in name for name, _ in dense.named_parameters() if "lora" in name)


def test_what_is_trained_on_is_below_the_adapters():
    """The model under adapters is what `get_base_model` says, and its decoder what `get_decoder` says."""
    model = made("llama")
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj"]))
    assert wrapped.get_base_model() is model, "guards.guard looks there"
    assert model.get_decoder() is model.model, "guards.guard hooks there"
    assert model.get_input_embeddings().weight.shape[0] == VOCABULARY, "loading.vocabulary_of counts there"


def test_processes_tell_each_other_objects():
    """Objects are gathered and broadcast by these names, which one process alone may call, too."""
    assert gather_object([1]) == [1], "grpo gathers the answers of all processes with it"
    assert broadcast_object_list(["name"]) == ["name"], "run names a run once for all processes"


def test_a_table_says_its_files_and_version():
    """A version of a Delta table names its files, itself and the protocol."""
    for name in ("file_uris", "version", "protocol"):
        assert callable(getattr(DeltaTable, name, None)), f"DeltaTable.{name} is gone: lake.log reads tables with it"
