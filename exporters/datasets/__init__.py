"""The training sets, one file each."""

from collections.abc import Mapping
from types import MappingProxyType

from exporters.dataset import Dataset
from exporters.datasets import preference, pretrain, rag, sft
from lake.errors import UsageError

DATASETS: Mapping[str, Dataset] = MappingProxyType(
    {dataset.name: dataset for dataset in (sft.DATASET, rag.DATASET, preference.DATASET, pretrain.DATASET)}
)


def dataset_named(name: str) -> Dataset:
    """The training set of this name. Raises UsageError."""
    try:
        return DATASETS[name]
    except KeyError:
        raise UsageError(
            f"there is no dataset named {name!r}", f"the datasets are {', '.join(DATASETS)}, or all"
        ) from None
