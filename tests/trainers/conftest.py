"""What tests of runs share: a tiny model's configuration, its tokenizer, shards that fit them, and settings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainers import reading, shards, spec

Settings = Callable[..., spec.RunSpec]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with shards, the configuration of a tiny model and a tokenizer."""
    # Where there is no torch, tests that need none run all the same.
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("ground")
    with shards.writing(folder / "built", ["text"]) as writer:
        for row in range(60):
            ids = (np.arange(5 + row % 40) + row) % 50
            writer.add({"id": f"row-{row}"}, {"text": (ids, np.ones(len(ids), np.bool_))})
        writer.finish({"dataset": "made up"}, {"offered": 60, "kept": 60})
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=1,
    )
    config.save_pretrained(folder / "still")
    config.attention_dropout = 0.1
    config.save_pretrained(folder / "config")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "<e>": 1}, unk_token="a"))
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<e>").save_pretrained(folder / "words")
    return folder


@pytest.fixture
def settings(ground: Path, tmp_path: Path) -> Settings:
    """Settings of a short run, with whatever a test changes."""

    def made(out: str, **changes: Any) -> spec.RunSpec:
        said: dict[str, Any] = {
            "method": "sft",
            "out": str(tmp_path / out),
            "data": {"built": str(ground / "built")},
            "model": {"config": str(ground / "config"), "tokenizer": str(ground / "words")},
            "stages": [{"rows": 4, "length": 64, "epochs": 1}],
            "optimizer": {"learning_rate": 0.01},
            **changes,
        }
        return reading.parse(said, "run.toml", tmp_path)

    return made
