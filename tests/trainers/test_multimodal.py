"""Models that see, too: text trains the part that reads it, and adapters are on nothing else."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("trl")

from peft import LoraConfig, get_peft_model  # noqa: E402
from safetensors import safe_open  # noqa: E402

from tests.trainers import toys  # noqa: E402
from trainers.adapters import NotReached, adapt, prove_gradients  # noqa: E402
from trainers.spec import Lora  # noqa: E402
from trainers.targets import detect  # noqa: E402

# transformers 5.23 renames it, and TRL and PEFT call it by the old name.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:`(is_)?gradient_checkpointing\w*` is deprecated and will be removed in v6:FutureWarning"
)
KNOWN = toys.LETTERS + 5  # the letters, three tokens of images, and what every toy has


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts and pairs, a tokenizer, and a tiny Gemma 3 that has a tower of images."""
    made = tmp_path_factory.mktemp("sees")
    toys.words(made / "tokenizer", toys.letters())
    toys.write_texts(made / "text")
    toys.write_shards(made / "pair", toys.PAIR, toys.pairs(16))
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {"vocab_size": KNOWN, "head_dim": 8, "num_key_value_heads": 2, "sliding_window": 8, "bos_token_id": None}
    ends = {"pad_token_id": toys.PAD, "eos_token_id": toys.END}
    transformers.Gemma3Config(
        text_config=small | text | ends | {"max_position_embeddings": 256},
        vision_config={**small, "image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4,
        image_token_index=KNOWN - 1,
        boi_token_index=KNOWN - 2,
        eoi_token_index=KNOWN - 3,
    ).save_pretrained(made)
    return made


def model(folder: Path) -> transformers.PreTrainedModel:
    """The same with random weights."""
    return transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(folder))


def test_what_reads_text_is_adapted_and_nothing_else(folder: Path) -> None:
    """By default, and by ends of names that the tower of images has too, adapters are in the language model alone."""
    sees = model(folder)
    both = [name for name, _ in sees.named_modules() if name.endswith("q_proj")]
    text = [name for name in both if ".language_model." in name]
    assert len(both) == 2 * len(text) == 4
    assert {target.name for target in detect(sees).all} >= {*text}
    for settings, count in ((Lora(r=2), 7 * len(text)), (Lora(r=2, targets=("q_proj",)), len(text))):
        adapted = adapt(model(folder), settings)
        trained = [name for name, weight in adapted.named_parameters() if weight.requires_grad]
        assert len(trained) == 2 * count
        assert all(".language_model." in name for name in trained)
        assert detect(adapted) == detect(sees)
        assert prove_gradients(adapted, KNOWN) == count


def test_adapters_where_no_text_comes_are_named(folder: Path) -> None:
    """An adapter that somebody put on the tower of images is reached by no loss of text: that is said, and why."""
    adapted = get_peft_model(model(folder), LoraConfig(r=2, target_modules=["q_proj"]))
    with pytest.raises(NotReached, match=r"vision_tower.*q_proj \(2\): no gradient") as caught:
        prove_gradients(adapted, KNOWN)
    assert "text never comes there" in str(caught.value.hint)


@pytest.mark.parametrize("method", ["lora", "dpo"])
def test_such_a_model_is_trained_on_text(folder: Path, method: str) -> None:
    """Runs of packed texts and of pairs learn, and save adapters of the language model."""
    stages = {"stages": [{"rows": 4, "length": 64, "steps": 6}]} if method == "lora" else {}
    data = {"built": "pair" if method == "dpo" else "text"}
    said = toys.settings(folder, method, method, data=data, lora={"r": 2}, **stages)
    assert toys.done(said).state == "finished"
    first, *_, last = toys.losses(said.out)
    assert last < first
    with safe_open(Path(said.out, "model", "adapter_model.safetensors"), "pt") as saved:
        assert all(".language_model." in name for name in saved.keys())  # noqa: SIM118  it is no mapping
