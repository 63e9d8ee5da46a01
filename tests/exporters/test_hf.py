"""What is written as a dataset of Hugging Face's, read by the library itself, and against what the library writes."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from exporters.convert import Options, convert
from exporters.formats import Writer, sliced
from exporters.hugging_face import features
from lake.errors import UsageError

datasets = pytest.importorskip("datasets")

TURNS = [{"role": "user", "content": "ask"}, {"role": "assistant", "content": None}]
TABLE = pa.table(
    {
        "id": pa.array(["a", None, "c"]),
        "messages": pa.array([TURNS, [], None]),
        "label": pa.array([True, None, False]),
        "score": pa.array([0.5, None, -1.0]),
        "small": pa.array([1.5, 2.5, None], pa.float32()),
        "count": pa.array([2**62, None, -1]),
        "input_ids": pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.int32(), 2)),
        "ids": pa.array([[1], [], None], pa.list_(pa.int32())),
        "long": pa.array([["x"], None, []], pa.large_list(pa.large_string())),
        "when": pa.array([datetime(2026, 3, 1, tzinfo=UTC), None, None], pa.timestamp("us", "UTC")),
        "day": pa.array([1, None, 2], pa.date32()),
        "price": pa.array([Decimal("1.50"), None, None], pa.decimal128(5, 2)),
        "bytes": pa.array([b"\x00", None, b""]),
        "nothing": pa.nulls(3),
        "extra": pa.ExtensionArray.from_storage(pa.json_(pa.string()), pa.array(['{"a": [1, "x"]}', None, "[]"])),
        "source": pa.array([{"file": "f", "line": 1}, None, {"file": None, "line": 2}]),
    }
)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The library keeps what it reads in a folder of the test, and asks nobody."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def written(folder: Path, table: pa.Table = TABLE, splits: tuple[str, ...] = ("train",), **more: int) -> Path:
    """The table as a dataset, once for each split."""
    folder.mkdir()
    with Writer(folder, "hf", table.schema, splits=splits, **more) as writer:
        for split in splits:
            for part in sliced(table.to_batches()):
                writer.write(part, split)
        writer.finish()
    return folder


def test_a_column_is_what_it_is_and_not_what_is_told_of_it():
    """Metadata of a column that has become another says nothing; only what its type does not tell is taken from it."""
    told = {"a": {"dtype": "int32", "_type": "Value"}, "b": {"names": ["no", "yes"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": told}})}
    schema = pa.schema([("a", pa.string()), ("b", pa.int64())], metadata=metadata)
    assert features(schema) == {"a": {"dtype": "string", "_type": "Value"}, "b": told["b"]}


def test_the_library_loads_what_is_written(tmp_path):
    """Every split has the columns, types and values that it was given, JSON as what it says."""
    found = datasets.load_from_disk(str(written(tmp_path / "out", splits=("train", "validation", "train_512"))))
    assert list(found) == ["train", "validation", "train_512"]
    for split in found.values():
        assert split.features.arrow_schema.types == TABLE.schema.types
        assert split.data.table.select(TABLE.column_names[:-2]).equals(TABLE.select(TABLE.column_names[:-2]))
        assert split["extra"] == [{"a": [1, "x"]}, None, []]


def test_the_library_loads_it_without_a_card_too(tmp_path):
    """`load_dataset` finds the splits and the types by itself."""
    found = datasets.load_dataset(str(written(tmp_path / "out", splits=("train", "validation"))))
    assert {name: len(split) for name, split in found.items()} == {"train": 3, "validation": 3}
    assert found["train"].features == datasets.Features.from_arrow_schema(TABLE.schema)


def test_the_features_are_the_librarys_own():
    """Each type is described in the words that the library describes it in."""
    assert features(TABLE.schema) == datasets.Features.from_arrow_schema(TABLE.schema).to_dict()


def test_the_files_are_those_that_the_library_writes(tmp_path):
    """Names, keys and all that is no hash are as `save_to_disk` has them."""
    ours = written(tmp_path / "ours", splits=("train", "validation"))
    split = datasets.Dataset(TABLE)
    datasets.DatasetDict({"train": split, "validation": split}).save_to_disk(str(tmp_path / "theirs"))
    names = {path.relative_to(ours) for path in ours.rglob("*") if path.is_file()}
    assert names == {path.relative_to(tmp_path / "theirs") for path in (tmp_path / "theirs").rglob("*.*")}
    for name in names - {name for name in names if name.suffix == ".arrow"}:
        mine, their = (json.loads((tmp_path / who / name).read_bytes()) for who in ("ours", "theirs"))
        for said in (mine, their):
            said.pop("_fingerprint", None)
            said.pop("_split", None)
        assert mine == their


def test_several_files_are_one_split(tmp_path):
    """A split that is cut into files is whole again when it is loaded."""
    table = pa.table({"text": [f"text {number:06d}" for number in range(10_000)]})
    out = written(tmp_path / "out", table, file_bytes=20_000)
    assert len(list(out.glob("train/*.arrow"))) > 1
    assert datasets.load_from_disk(str(out))["train"]["text"][:] == table.column("text").to_pylist()


def test_a_fingerprint_is_that_of_the_rows(tmp_path):
    """The same rows have the same fingerprint, other rows another one: the library's caches go by it."""
    prints = [
        datasets.load_from_disk(str(written(tmp_path / name, table)))["train"]._fingerprint
        for name, table in (("a", TABLE), ("b", TABLE), ("c", TABLE.slice(1)))
    ]
    assert prints[0] == prints[1] != prints[2]
    assert len(prints[0]) == 16


@pytest.mark.parametrize("kind", [pa.map_(pa.string(), pa.int64()), pa.string_view()])
def test_a_type_without_a_place_is_refused(tmp_path, kind):
    """A column that the library would not load is refused by name before anything is written."""
    with pytest.raises(UsageError, match="'odd'"):
        Writer(tmp_path, "hf", pa.schema([("odd", kind)]))
    assert list(tmp_path.iterdir()) == []


def test_what_the_library_means_by_a_column_stays(tmp_path):
    """The names of labels survive a conversion to another format and back, also where splits are files of Parquet."""
    meant = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    split = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=meant)
    datasets.DatasetDict({"train": split, "test": split}).save_to_disk(str(tmp_path / "in"))
    convert(tmp_path / "in", tmp_path / "parquet", Options(format="parquet"))
    assert datasets.load_dataset(str(tmp_path / "parquet"))["test"].features == meant
    convert(tmp_path / "parquet", tmp_path / "back")
    back = datasets.load_from_disk(str(tmp_path / "back"))
    assert back["test"].features == meant
    assert back["test"].to_list() == split.to_list()
    one = TABLE.select(["label"]).replace_schema_metadata({"huggingface": "{"})
    assert features(one.schema) == {"label": {"dtype": "bool", "_type": "Value"}}
