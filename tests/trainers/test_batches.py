"""The arrays that a step takes: every token in its place, none that is not to be learned among the labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.packing import IGNORED
from tests.trainers.marked_rows import write
from trainers import batches
from trainers.batches import packed, padded, trained_tokens
from trainers.plan import Stage, plan
from trainers.shards import Shards

PAD = 0  # an id that documents have, too: padding is known by its place alone
DOCUMENT = st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=30)
DOCUMENTS = st.lists(DOCUMENT, min_size=1, max_size=12)


@settings(max_examples=30)
@given(DOCUMENTS, st.integers(2, 16), st.integers(1, 3))
def test_packed_rows_hold_the_documents(tmp_path_factory, documents, length, rows):
    """Read back by position, the pieces of all rows are the documents, and the labels what the marks say of them."""
    folder = tmp_path_factory.mktemp("batches") / "made"
    write(folder, [(document,) for document in documents])
    shards = Shards.open(folder)
    field = shards.fields["text"]
    one = plan(shards.keys, field.lengths, [Stage(rows=rows, length=length)], seed=3)
    [laid] = one.stages
    found = {number: [None] * len(document) for number, document in enumerate(documents)}
    made = [packed(laid, one.rows(step), field, PAD) for step in range(one.steps)]
    ids, positions, labels = (
        np.concatenate([b[name] for b in made])[: laid.count] for name in ("input_ids", "position_ids", "labels")
    )
    for row in range(laid.count):
        at = 0
        for piece in range(*laid.pieces(row).indices(len(laid.document))):
            document, offset, size = (int(x[piece]) for x in (laid.document, laid.offset, laid.lengths))
            assert positions[row, at : at + size].tolist() == list(range(size))
            for place in range(size):
                token, counts = documents[document][offset + place]
                found[document][offset + place] = int(ids[row, at + place])
                wanted = token if counts and place else IGNORED
                assert labels[row, at + place] == wanted
            at += size
        assert (labels[row, at:] == IGNORED).all()
        assert positions[row, at:].tolist() == list(range(length - at))
    assert found == {n: [token for token, _ in document] for n, document in enumerate(documents)}


@settings(max_examples=15)
@given(st.lists(st.integers(1, 700), min_size=1, max_size=12), st.integers(1, 4), st.integers(0, 9))
def test_long_pieces_are_laid_out_as_short_ones_are(tmp_path_factory, sizes, rows, seed):
    """Whether pieces are copied one by one or gathered token by token, the arrays of a step are the same."""
    folder = tmp_path_factory.mktemp("batches") / "made"
    write(folder, [([(at % 90, at % 7 < 3) for at in range(size)],) for size in sizes])
    shards = Shards.open(folder)
    field = shards.fields["text"]
    one = plan(shards.keys, field.lengths, [Stage(rows=rows, length=512)], seed)
    found = []
    for threshold in (0, 1 << 30):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(batches, "_LONG", threshold)
            found.append([packed(one.stages[0], one.rows(step), field, PAD) for step in range(one.steps)])
    for copied, gathered in zip(*found, strict=True):
        for name, array in copied.items():
            assert np.array_equal(array, gathered[name])


@settings(max_examples=30)
@given(st.lists(st.tuples(DOCUMENT, DOCUMENT), min_size=1, max_size=6))
def test_padded_rows_hold_one_example_each(tmp_path_factory, examples):
    """A row is its parts one after the other; what is padding, the mask alone says."""
    folder = tmp_path_factory.mktemp("batches") / "made"
    write(folder, examples, ("prompt", "completion"))
    fields = Shards.open(folder).fields
    batch = padded(np.arange(len(examples)), [fields["prompt"], fields["completion"]], PAD)
    for row, (prompt, completion) in enumerate(examples):
        tokens = [token for token, _ in prompt + completion]
        assert batch["attention_mask"][row].sum() == len(tokens)
        assert batch["input_ids"][row, : len(tokens)].tolist() == tokens
        wanted = [token if counts else IGNORED for token, counts in prompt + completion]
        assert batch["labels"][row, : len(tokens)].tolist() == wanted
        assert (batch["labels"][row, len(tokens) :] == IGNORED).all()
    shifted = [[counts for _, counts in prompt + completion][1:] for prompt, completion in examples]
    assert trained_tokens(batch) == sum(map(sum, shifted))


def test_a_step_is_the_same_wherever_one_begins(tmp_path):
    """A batch is a function of its step: reached from the first one or asked for at once, it is the same."""
    write(tmp_path / "made", [([(n, True)] * (n % 7 + 1),) for n in range(60)])
    shards = Shards.open(tmp_path / "made")
    field = shards.fields["text"]
    one = plan(shards.keys, field.lengths, [Stage(rows=3, length=8, steps=40)], seed=1)
    walked = [packed(one.stage_at(step), one.rows(step), field, PAD) for step in range(one.steps)]
    again = plan(shards.keys, field.lengths, [Stage(rows=3, length=8, steps=40)], seed=1)
    for step in (39, 0, 17):
        asked = packed(again.stage_at(step), again.rows(step), field, PAD)
        assert all((asked[name] == walked[step][name]).all() for name in asked)
