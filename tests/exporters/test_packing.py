"""Packing: every token in exactly one place, rows full, and nothing that depends on chance."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporters import packing
from lake.errors import UsageError

PAD = 7

lengths_of_documents = st.lists(st.integers(0, 300), max_size=60)
row_lengths = st.integers(2, 130)
goals = st.sampled_from([0.0, 0.9, packing.FILL, 1.0])


def documents(lengths, seed=0):
    """Documents whose tokens all differ from each other, except that the pad id and 0 are among them."""
    offsets = np.concatenate([[0], np.cumsum(np.asarray(lengths, np.int64))]).astype(np.int64)
    tokens = np.arange(100, 100 + offsets[-1], dtype=np.int32)
    tokens[seed % 3 :: 5] = PAD
    tokens[seed % 4 :: 7] = 0
    return packing.Documents(tokens, offsets)


def lognormal(count, mean, sigma, seed=0):
    """Lengths as texts have them: lognormal."""
    return np.maximum(1, np.random.default_rng(seed).lognormal(mean, sigma, count)).astype(np.int64)


@given(lengths=lengths_of_documents, length=row_lengths, goal=goals, window=st.integers(1, 5))
@example(lengths=[65] * 40, length=128, goal=1.0, window=4096)
@example(lengths=[], length=2, goal=0.999, window=1)
@example(lengths=[0, 0], length=2, goal=0.999, window=1)
def test_every_token_stands_in_exactly_one_place(lengths, length, goal, window):
    """The pieces of a document, read from the rows and put together by their offsets, are the document."""
    docs = documents(lengths)
    made = packing.plan(docs.lengths, length, fill=goal, window_rows=window)
    rows = packing.fill(made, docs, PAD)
    assert rows.shape == (made.rows, length)
    assert rows.dtype == np.int32
    rebuilt = np.full(len(docs.tokens), -1, np.int32)
    places = np.zeros(len(docs.tokens), np.int64)
    columns = (made.row, made.start, made.document, made.offset, made.lengths)
    for row, start, document, offset, count in np.stack(columns, axis=1).tolist():
        assert count > 0
        begin = int(docs.offsets[document]) + offset
        assert begin + count <= docs.offsets[document + 1]
        rebuilt[begin : begin + count] = rows[row, start : start + count]
        places[begin : begin + count] += 1
    assert (places == 1).all()
    assert np.array_equal(rebuilt, docs.tokens)


@given(lengths=lengths_of_documents, length=row_lengths, goal=goals, window=st.integers(1, 5))
def test_pieces_stand_side_by_side_and_padding_at_the_end(lengths, length, goal, window):
    """A row's pieces leave no gap and do not overlap, and what is behind them holds the pad id and nothing else."""
    docs = documents(lengths)
    made = packing.plan(docs.lengths, length, fill=goal, window_rows=window)
    rows = packing.fill(made, docs, PAD)
    for row in range(made.rows):
        mine = slice(int(made.row_offsets[row]), int(made.row_offsets[row + 1]))
        starts, counts = made.start[mine], made.lengths[mine]
        assert len(starts) > 0
        assert starts[0] == 0
        assert np.array_equal(starts[1:], (starts + counts)[:-1])
        assert made.used[row] == counts.sum() <= length
        assert (rows[row, counts.sum() :] == PAD).all()
    assert made.tokens == sum(lengths)
    assert made.tokens + made.padding == made.rows * length


@given(lengths=lengths_of_documents, length=row_lengths, goal=goals)
def test_masks_labels_and_positions_follow_the_lengths(lengths, length, goal):
    """What is padding is said by the lengths, never by an id: a token may have the pad id, or be 0."""
    docs = documents(lengths)
    made = packing.plan(docs.lengths, length, fill=goal)
    rows = packing.fill(made, docs, PAD)
    mask, labels, positions = packing.attention_mask(made), packing.labels(made, rows), packing.position_ids(made)
    expected_mask = np.zeros(rows.shape, bool)
    expected_labels = np.full(rows.shape, packing.IGNORED)
    expected_positions = np.zeros(rows.shape, np.int64)
    for row, start, count in zip(made.row.tolist(), made.start.tolist(), made.lengths.tolist(), strict=True):
        expected_mask[row, start : start + count] = True
        expected_labels[row, start + 1 : start + count] = rows[row, start + 1 : start + count]
        expected_positions[row, start : start + count] = range(count)
    for row, used in enumerate(made.used.tolist()):
        expected_positions[row, used:] = range(length - used)
    assert np.array_equal(mask, expected_mask)
    assert np.array_equal(labels, expected_labels)
    assert np.array_equal(positions, expected_positions)


@given(lengths=lengths_of_documents, length=row_lengths, window=st.integers(1, 5))
@example(lengths=[65] * 40, length=128, window=5)
@example(lengths=[200, 65, 70, 66, 90, 65] * 8, length=128, window=5)
def test_rows_and_pieces_keep_the_order_of_the_documents(lengths, length, window):
    """Rows come in the order of their earliest piece within a window, pieces in a row in the order of documents."""
    made = packing.plan(np.array(lengths, np.int64), length, window_rows=window)
    keys = made.document * 1000 + made.offset
    for row in range(made.rows):
        mine = keys[made.row_offsets[row] : made.row_offsets[row + 1]]
        assert (np.diff(mine) > 0).all()
    whole = packing.plan(np.array(lengths, np.int64), length)
    firsts = (whole.document * 1000 + whole.offset)[whole.row_offsets[:-1]]
    assert (np.diff(firsts) > 0).all()


@pytest.mark.parametrize("length", [512, 1024, 2048])
@pytest.mark.parametrize(("mean", "sigma"), [(5.5, 1.0), (6.2, 1.2), (7.5, 0.6), (5.8, 0.15), (5.6, 0.02)])
def test_rows_are_full(length, mean, sigma):
    """Of the places of a realistic mix of lengths, 0.998 hold a token; also where no two lengths fit together."""
    lengths = lognormal(16_000, mean, sigma)
    made = packing.plan(lengths, length)
    assert made.tokens == lengths.sum()
    assert made.fill >= 0.998
    assert made.rows >= -(-made.tokens // length)


@given(st.integers(0, 2**32), st.floats(4, 8), st.floats(0.05, 1.5), st.sampled_from([512, 1024, 2048]))
def test_rows_are_full_whatever_the_spread(seed, mean, sigma, length):
    """Of any lognormal lengths that fill a thousand rows, 0.998 of the places hold a token."""
    lengths = np.maximum(1, lognormal(400, mean, sigma, seed))
    lengths = np.tile(lengths, int(-(-1000 * length // lengths.sum())))
    assert packing.plan(lengths, length).fill >= 0.998


@pytest.mark.parametrize("length", [512, 1000, 1024])
def test_published_questions_fill_their_rows(public_data, length):
    """Real documents do, too, which best fit alone leaves emptier: their lengths are too much alike."""
    lines = (public_data / "gsm8k" / "train.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    lengths = np.array([len(f"{row['question']}\n{row['answer']}".encode()) // 4 + 1 for row in rows])
    assert packing.plan(lengths, length, fill=0).fill < 0.998
    assert packing.plan(lengths, length).fill >= 0.998


def test_documents_are_cut_no_further_than_needed():
    """Where the lengths fit together, a document that fits in a row stays whole; where not, some are cut to fill rows.

    Without that, documents of a little over half a row would leave almost half of the places empty.
    """
    fits = packing.plan(lognormal(20_000, 5.0, 1.0), 1024)
    assert fits.pieces == (-(-lognormal(20_000, 5.0, 1.0) // 1024)).sum()
    lengths = np.full(20_000, 300)
    assert packing.plan(lengths, 512, fill=0).fill < 0.6
    cut = packing.plan(lengths, 512)
    assert cut.fill >= 0.999
    assert cut.pieces < 2 * len(lengths)


@pytest.mark.parametrize("goal", [0.5, 0.75, 0.8, 0.9])
def test_no_more_rows_are_poured_than_the_goal_takes(goal):
    """As many rows stay as may, so that a share of `goal` and hardly more of the places hold a token."""
    made = packing.plan(np.full(8_000, 48), 64, fill=goal)
    assert goal <= made.fill < max(goal, 0.75) + 1e-3


def test_windows_are_bounded_and_the_last_is_not_small():
    """Rows hold documents that lie near each other, and a remainder is packed with the window before it."""
    lengths = lognormal(5_000, 5.5, 0.5)
    made = packing.plan(lengths, 512, window_rows=100)
    per_row = np.diff(made.row_offsets)
    spread = np.maximum.reduceat(made.document, made.row_offsets[:-1]) - made.document[made.row_offsets[:-1]]
    assert spread.max() < 2 * 100 * 512 / lengths.min()
    assert spread.max() < len(lengths) / 4
    assert per_row.min() >= 1
    assert made.fill >= 0.98


def test_the_same_lengths_give_the_same_bytes():
    """A plan and its rows are a function of the documents: this digest holds on every machine."""
    lengths = (np.arange(1, 2000, dtype=np.int64) * 7919) % 701 + 1
    docs = documents(lengths)
    made = packing.plan(docs.lengths, 512)
    again = packing.plan(docs.lengths.copy(), 512)
    said = hashlib.sha256(packing.fill(made, docs, PAD).tobytes() + made.document.tobytes()).hexdigest()
    assert said == hashlib.sha256(packing.fill(again, docs, PAD).tobytes() + again.document.tobytes()).hexdigest()
    assert said == "b492ac6f3ed8a50d4f35e6a1da961dc885b3d6b27328da9f7ca13252f1a271e3"


@given(lengths=lengths_of_documents, length=row_lengths, cut=st.integers(0, 40))
def test_a_part_of_a_plan_fills_the_same_rows(lengths, length, cut):
    """Rows can be written a few at a time."""
    docs = documents(lengths)
    made = packing.plan(docs.lengths, length)
    middle = min(cut, made.rows)
    parts = [made.part(0, middle), made.part(middle, made.rows)]
    rows = np.concatenate([packing.fill(part, docs, PAD) for part in parts])
    assert np.array_equal(rows, packing.fill(made, docs, PAD))
    assert np.array_equal(np.concatenate([packing.position_ids(part) for part in parts]), packing.position_ids(made))


@pytest.mark.parametrize("length", [-1, 0, 1, (1 << 20) + 1])
def test_a_length_that_no_row_can_have_is_refused(length):
    """A row of one token teaches nothing, and one of millions is a mistake."""
    with pytest.raises(UsageError, match="cannot hold"):
        packing.plan(np.array([3]), length)


def test_arrays_that_are_no_documents_are_refused():
    """Offsets that do not describe the tokens, and other types than those that are written, never get in."""
    tokens, offsets = np.arange(4, dtype=np.int32), np.array([0, 4], np.int64)
    assert packing.Documents(tokens, offsets).lengths.tolist() == [4]
    for bad in ([0, 3], [1, 4], [0, 3, 2, 4], []):
        with pytest.raises(ValueError, match="offsets must"):
            packing.Documents(tokens, np.array(bad, np.int64))
    with pytest.raises(ValueError, match="int32"):
        packing.Documents(tokens.astype(np.uint16), offsets)
    with pytest.raises(ValueError, match="fewer than 0"):
        packing.plan(np.array([3, -1]), 8)


def test_no_documents_are_no_rows():
    """Nothing in, nothing out, and no division by it."""
    made = packing.plan(np.array([], np.int64), 512)
    assert (made.rows, made.pieces, made.tokens, made.padding, made.fill) == (0, 0, 0, 0, 1.0)
    assert packing.fill(made, documents([]), PAD).shape == (0, 512)
    assert packing.position_ids(made).shape == (0, 512)
