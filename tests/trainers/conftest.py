"""What tests of runs of packed rows share: a tiny model's configuration, its tokenizer, shards, and settings."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trainers import spec

Settings = Callable[..., spec.RunSpec]


@pytest.fixture(scope="session", autouse=True)
def imported() -> Iterator[None]:
    """What was imported stays: a trainer that ends collects garbage, and would look through a million objects."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with shards, the configuration of a tiny model, with dropout and without, and a tokenizer."""
    # Where there is no torch, tests that need none run all the same.
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tests.trainers import toys

    folder = tmp_path_factory.mktemp("ground")
    toys.write_texts(folder / "built")
    small = {"vocab_size": 64, "max_position_embeddings": 256, "pad_token_id": None}
    toys.config(folder / "still", **small)
    toys.config(folder / "config", attention_dropout=0.1, **small)
    toys.words(folder / "words", ["a"], pad_token=None)
    return folder


@pytest.fixture
def settings(ground: Path, tmp_path: Path) -> Settings:
    """Settings of a short run of packed rows, with whatever a test changes."""
    from tests.trainers import toys

    def made(out: str, method: str = "sft", **changes: Any) -> spec.RunSpec:
        usual: dict[str, Any] = {
            "data": {"built": str(ground / "built")},
            "model": {"config": str(ground / "config"), "tokenizer": str(ground / "words")},
            "stages": [{"rows": 4, "length": 64, "epochs": 1}],
            "optimizer": {"parts": 1},
            "checkpoints": {"every": None},
            "seed": 0,
        }
        return toys.settings(tmp_path, method, out, **toys.merged(usual, changes))

    return made
