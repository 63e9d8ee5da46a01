"""Tokenised rows on disk: whole or not at all, read back as they were written, by numpy alone."""

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.errors import Damaged, LakeError, UsageError
from tests.trainers.launching import python
from tests.trainers.marked_rows import MADE_FROM, write
from trainers.order import keys_of
from trainers.shards import FORMAT, NAME, Shards, key_of, opened, writing

TEXT = st.lists(st.tuples(st.integers(0, 2**31 - 1), st.booleans()), max_size=20)


@settings(max_examples=25)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=8))
def test_rows_are_read_back(tmp_path_factory, rows):
    """Every field of every row has the tokens and the marks that were written, and the rows keep their order."""
    folder = tmp_path_factory.mktemp("shards") / "made"
    said = write(folder, rows, ("prompt", "chosen"))
    shards = Shards.open(folder)
    shards.prove()
    assert shards.description == said
    for number, row in enumerate(rows):
        for name, part in zip(("prompt", "chosen"), row, strict=True):
            tokens, trained = shards.fields[name].row(number)
            assert list(zip(tokens.tolist(), trained.tolist(), strict=True)) == part
    assert said.tokens["chosen"] == sum(len(chosen) for _, chosen in rows)
    assert said.trained["prompt"] == sum(counts for prompt, _ in rows for _, counts in prompt)
    assert said.highest["chosen"] == max((token for _, chosen in rows for token, _ in chosen), default=-1)
    assert shards.rows(["id"])["id"].to_pylist() == [f"row-{n}" for n in range(len(rows))]
    assert shards.keys.tolist() == keys_of(f"row-{n}" for n in range(len(rows))).tolist()


def test_numpy_alone_reads_them(tmp_path):
    """A program that knows nothing but numpy maps the arrays."""
    write(tmp_path / "made", [([(5, True), (6, False)],), ([(7, True)],)])
    code = f"""
import numpy as np
tokens = np.load({str(tmp_path / "made" / "text.tokens.npy")!r}, mmap_mode="r")
offsets = np.load({str(tmp_path / "made" / "text.offsets.npy")!r})
print(tokens[offsets[1]:offsets[2]], tokens.dtype, len(tokens))
"""
    assert python("-c", code).out == "[7] int32 3\n"


def test_the_same_rows_are_the_same_bytes(tmp_path):
    """Written again they have the same description, digests of all files included."""
    rows = [([(n, n % 2 == 0)] * (n % 7),) for n in range(5000)]
    assert write(tmp_path / "one", rows) == write(tmp_path / "two", rows)


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    """An error on the way, or an end without `finish`, leaves nothing behind; what is there is never touched."""
    with pytest.raises(ValueError, match="say which count"), writing(tmp_path / "made", ("text",)) as writer:
        writer.add({"id": "a"}, {"text": ([1], [])})
    with writing(tmp_path / "made", ("text",)) as writer:
        writer.add({"id": "a"}, {"text": ([1], [True])})
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "made", [([(1, True)],)])
    with pytest.raises(LakeError, match="something here already"):
        write(tmp_path / "made", [([(2, True)],)])
    assert Shards.open(tmp_path / "made").fields["text"].tokens.tolist() == [1]


def test_no_rows_are_no_shards(tmp_path):
    """Nothing to train on is an error that says what became of the rows."""
    with pytest.raises(UsageError, match="no row is left"), writing(tmp_path / "made", ("text",)) as writer:
        writer.finish(MADE_FROM, {"offered": 3, "overlong": 3})


def test_a_mask_of_another_length_is_refused(tmp_path):
    """Marks that are not one for each token are a mistake of the caller."""
    with pytest.raises(ValueError, match="say which count"), writing(tmp_path / "made", ("text",)) as writer:
        writer.add({"id": "a"}, {"text": ([1, 2], [True])})


def test_no_token_id_is_below_zero(tmp_path):
    """An id that is negative, or that four bytes would make so, is a mistake of the caller."""
    for ids in ([3, -1], np.array([1 << 31])):
        with pytest.raises(ValueError, match="below 0"), writing(tmp_path / "made", ("text",)) as writer:
            writer.add({"id": "a"}, {"text": (ids, [True] * len(ids))})


@pytest.mark.parametrize(("other", "hint"), [(FORMAT - 1, "build them again"), (FORMAT + 1, "install the version")])
def test_shards_of_another_version_are_no_damage(tmp_path, other, hint):
    """A description of another format is refused as such, with what to do, whatever else it says."""
    write(tmp_path / "made", [([(7, True)],)])
    path = tmp_path / "made" / NAME
    said = msgspec.json.decode(path.read_bytes())
    assert said["format"] == FORMAT
    del said["highest"]
    path.write_bytes(msgspec.json.encode({**said, "format": other, "another": {}}))
    with pytest.raises(UsageError, match=f"format {other}, and this version reads {FORMAT}") as caught:
        Shards.open(tmp_path / "made")
    assert hint in caught.value.hint


def test_damage_is_found(tmp_path):
    """A file that is gone, cut or flipped, and a description that is none are told apart and named."""
    folder = tmp_path / "made"
    write(folder, [([(n, True)],) for n in range(100)])
    path = folder / "text.tokens.npy"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"x")
    with pytest.raises(Damaged, match=r"text\.tokens\.npy: its bytes"):
        Shards.open(folder).prove()
    path.write_bytes(data[:-1])
    with pytest.raises(Damaged, match=r"text\.tokens\.npy: has"):
        Shards.open(folder)
    path.unlink()
    with pytest.raises(Damaged, match=r"text\.tokens\.npy: is gone"):
        Shards.open(folder)
    said = (folder / NAME).read_text()
    (folder / NAME).write_text(said.replace('"highest"', '"hihgest"'))
    with pytest.raises(Damaged, match="hihgest"):
        Shards.open(folder)
    (folder / NAME).write_text("{")
    with pytest.raises(Damaged, match=NAME):
        Shards.open(folder)
    with pytest.raises(UsageError, match="no shards here"):
        Shards.open(tmp_path)


def test_a_key_depends_on_all_that_it_is_made_from():
    """Another snapshot, dataset or tokenizer is another key; the order of what is said is none."""
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    assert len({key_of({"a": 1}), key_of({"a": 2}), key_of({"b": 1})}) == 3


def test_arrays_have_numpys_types(tmp_path):
    """Ids are int32, offsets int64, marks bool and keys uint64, whatever was given."""
    with writing(tmp_path / "made", ("text",)) as writer:
        writer.add({"id": "a"}, {"text": (np.array([1, 2], np.uint16), [1, 0])})
        writer.finish(MADE_FROM, {})
    shards = Shards.open(tmp_path / "made")
    field = shards.fields["text"]
    found = [array.dtype for array in (field.tokens, field.offsets, field.trained, shards.keys)]
    assert found == [np.int32, np.int64, np.bool_, np.uint64]
    assert field.lengths.tolist() == [2]


def test_a_column_that_begins_with_nothing_keeps_its_type(tmp_path):
    """What travels with the rows has the columns that were said, also where thousands of rows have no value."""
    columns = pa.schema([("id", pa.string()), ("domain", pa.string())])
    with writing(tmp_path / "made", ("text",), columns) as writer:
        for number in range(5000):
            row = {"id": f"row-{number}", "domain": "physics" if number == 4999 else None}
            writer.add(row, {"text": ([1], [True])})
        writer.finish(MADE_FROM, {}, "validation")
    [(split, shards)] = opened(tmp_path / "made").items()
    assert split == "validation"
    assert shards.rows().schema.equals(columns)
    assert shards.rows(["domain"])["domain"].to_pylist()[-1] == "physics"
