"""The model and the tokenizer that a run begins with, and whether its shards are of that tokenizer.

Not here: adapters (`adapters`), and what keeps packed documents apart (`guards`).
"""

from collections.abc import Iterable
from typing import Any

import torch
import transformers
from peft import PeftModel
from safetensors import SafetensorError

from lake.errors import LakeError, UsageError
from trainers.shards import Shards
from trainers.spec import Model


def load(kind: Any, said: Model, *, seed: int, frozen: bool = False, **others: Any) -> transformers.PreTrainedModel:
    """The weights that a run begins with, of an auto class of transformers.

    Weights that are trained stay in float32, and computation alone is in `dtype`; `frozen` ones are stored in it.
    Raises UsageError where there are none.
    """
    dtype = getattr(torch, said.dtype) if frozen else torch.float32
    options = {"dtype": dtype, "attn_implementation": said.attention, **others}
    try:
        if said.config is None:
            return kind.from_pretrained(said.path, revision=said.revision, **options)
        config = transformers.AutoConfig.from_pretrained(said.config)
        # Weights that are drawn come from nowhere: PEFT would ask the hub about whatever is named here.
        config.name_or_path = ""
        for name, value in others.items():
            setattr(config, name, value)
        transformers.set_seed(seed)
        return kind.from_config(config, dtype=dtype, attn_implementation=said.attention)
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        what = str(error).strip().splitlines()[0]
        if "attention" in what:
            raise UsageError(f"model.attention: {what}", 'say attention = "eager"') from None
        key = "path" if said.config is None else "config"
        raise UsageError(f"model.{key}: {what}", "name a folder with a config.json and weights") from None


def load_tokenizer(said: Model) -> transformers.PreTrainedTokenizerBase:
    """The tokenizer of a run. Raises UsageError where there is none."""
    named = said.tokenizer or said.path
    assert named is not None  # the settings were checked
    revision = said.revision if said.tokenizer is None else None
    try:
        return transformers.AutoTokenizer.from_pretrained(named, revision=revision)
    except (OSError, ValueError, ImportError) as error:
        what = str(error).strip().splitlines()[0]
        raise UsageError(f"model.tokenizer: {what}", "name a folder that has a tokenizer.json") from None


def refuse_foreign_ids(splits: Iterable[Shards], model: transformers.PreTrainedModel) -> None:
    """Raises LakeError where a token of some shards is none of the model's."""
    rows = vocabulary_of(model)
    for shards, name in ((one, name) for one in splits for name in one.fields):
        highest = shards.description.highest[name]
        if highest >= rows:
            raise LakeError(
                f"{shards.folder}: {name} has the token id {highest}, and the model has {rows} embeddings",
                "build the shards with the model's own tokenizer",
            )


def vocabulary_of(model: transformers.PreTrainedModel | PeftModel) -> int:
    """How many token ids a model knows."""
    embeddings: Any = model.get_input_embeddings()
    return int(embeddings.weight.shape[0])
