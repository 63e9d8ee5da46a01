"""The files beside the rows that make a folder a dataset of Hugging Face's, as its `save_to_disk` writes it.

A folder holds `dataset_dict.json` and one folder a split, and that `data-00000-of-00001.arrow`, …, `state.json` and
`dataset_info.json`. `datasets.load_from_disk` reads it, and so does `datasets.load_dataset` together with the card. It
is always a dictionary of splits, also for one: `load_dataset` refuses a folder with a `state.json` of its own.

What `save_to_disk` takes from the moment (a random fingerprint) is a hash of the rows here. As seen in datasets 5.2.

Not here: the rows (`encoders`), nor the card.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence

import msgspec
import pyarrow as pa

from exporters.hashed import File
from lake.errors import UsageError

STATE, INFO, SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"

_NAMES = {pa.float16(): "float16", pa.float32(): "float32", pa.float64(): "float64"}
_NAMES |= {pa.date32(): "date32", pa.date64(): "date64"}
_MEANINGS = {"ClassLabel", "Image", "Audio", "Video", "Pdf"}
_PLAIN = (
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_boolean,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_timestamp,
    pa.types.is_date,
    pa.types.is_time,
    pa.types.is_duration,
    pa.types.is_decimal,
    pa.types.is_null,
)


def is_cache(path: str) -> bool:
    """Whether a file is one that the library leaves beside the rows that it works on: no rows of the dataset's."""
    return re.fullmatch(r"(.*/)?cache-[^/]*\.arrow", path) is not None


def data_file(number: int, count: int) -> str:
    """The name of a file of rows in the folder of its split."""
    return f"data-{number:05d}-of-{count:05d}.arrow"


def split_files(schema: pa.Schema, split: str, files: Sequence[File]) -> dict[str, bytes]:
    """The two files that go beside the rows of a split, by name."""
    state: dict[str, object] = {
        "_data_files": [{"filename": file.path.rpartition("/")[2]} for file in files],
        "_fingerprint": _fingerprint(schema, files),
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": split,
    }
    info = {"citation": "", "description": "", "features": features(schema), "homepage": "", "license": ""}
    return {STATE: _json(state), INFO: _json(info)}


def splits_file(splits: Iterable[str]) -> bytes:
    """The content of `dataset_dict.json`."""
    return msgspec.json.encode({"splits": list(splits)})


def features(schema: pa.Schema) -> dict[str, object]:
    """The columns in the library's own words. Raises UsageError for a type that it cannot hold.

    What it means by a column beyond its type, such as the names of labels, its own files say in their metadata.
    """
    meant = _meant(schema)
    return {field.name: meant.get(field.name) or _feature(field.name, field.type) for field in schema}


def _meant(schema: pa.Schema) -> dict[str, object]:
    try:
        said = msgspec.json.decode((schema.metadata or {}).get(b"huggingface", b"{}"), type=_Metadata)
    except msgspec.DecodeError:
        return {}
    found = said.info.features or {}
    return {name: one for name, one in found.items() if isinstance(one, dict) and one.get("_type") in _MEANINGS}


class _Info(msgspec.Struct):
    features: dict[str, object] | None = None


class _Metadata(msgspec.Struct):
    info: _Info = msgspec.field(default_factory=_Info)


def _feature(name: str, kind: pa.DataType) -> object:
    if isinstance(kind, pa.JsonType):
        return {"_type": "Json"}
    if pa.types.is_struct(kind):
        return {field.name: _feature(f"{name}.{field.name}", field.type) for field in kind}
    if pa.types.is_fixed_size_list(kind):
        return {"feature": _feature(name, kind.value_type), "length": kind.list_size, "_type": "List"}
    if pa.types.is_list(kind):
        return {"feature": _feature(name, kind.value_type), "_type": "List"}
    if pa.types.is_large_list(kind):
        return {"feature": _feature(name, kind.value_type), "_type": "LargeList"}
    if any(holds(kind) for holds in _PLAIN):
        return {"dtype": _NAMES.get(kind, str(kind)), "_type": "Value"}
    raise UsageError(f"column {name!r}: a Hugging Face dataset holds no {kind}", "write it as parquet")


def _fingerprint(schema: pa.Schema, files: Iterable[File]) -> str:
    said = [features(schema), [file.sha256 for file in files]]
    return hashlib.sha256(msgspec.json.encode(said)).hexdigest()[:16]


def _json(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2)
