"""A small byte-level BPE, trained on the spot: a real `tokenizer.json` for tests."""

import json
from functools import cache
from pathlib import Path

import tokenizers

TEXTS = (
    "The lake keeps what was said, and what was thought of it.",
    "def add(a, b):\n    return a + b\n",
    "这是一个没有空格的中文句子。",
    "Žluťoučký kůň úpěl ďábelské ódy — naïve café №5 🚣",
    "0123456789 " * 12,
)


@cache
def train(special: tuple[str, ...] | list[str], vocabulary: int = 400) -> str:
    """The JSON of a tokenizer with every byte in its alphabet, and these special tokens first."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(TEXTS, trainer)
    return made.to_str()


def write(folder: Path, special: list[str], config: dict[str, object] | None, *, opening: str | None = None) -> Path:
    """A folder as a model has it: `tokenizer.json` and, if given, `tokenizer_config.json`."""
    text = train(tuple(special))
    if opening is not None:
        made = tokenizers.Tokenizer.from_str(text)
        number = made.token_to_id(opening)
        made.post_processor = tokenizers.processors.TemplateProcessing(
            single=f"{opening} $A", special_tokens=[(opening, number)]
        )
        text = made.to_str()
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(text, "utf-8")
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return folder
