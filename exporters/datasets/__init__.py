"""The training sets, one file each."""

from collections.abc import Mapping
from types import MappingProxyType

from exporters.dataset import Dataset
from exporters.datasets import (
    domain,
    grpo,
    ipo,
    kto,
    mutations,
    preference,
    pretrain,
    prompts,
    rag,
    sft,
    trajectories,
)
from exporters.datasets import (
    eval as evaluation,
)
from lake.errors import UsageError

DATASETS: Mapping[str, Dataset] = MappingProxyType(
    {
        each.DATASET.name: each.DATASET
        for each in (
            sft,
            rag,
            preference,
            kto,
            domain,
            ipo,
            pretrain,
            trajectories,
            prompts,
            mutations,
            grpo,
            evaluation,
        )
    }
)


def dataset_named(name: str) -> Dataset:
    """The training set of this name. Raises UsageError."""
    try:
        return DATASETS[name]
    except KeyError:
        raise UsageError(
            f"there is no dataset named {name!r}", f"the datasets are {', '.join(DATASETS)}, or all"
        ) from None
