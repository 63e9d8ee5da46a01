"""Which row is trained on at which step: the same everywhere, each document as often as it should be, nothing lost."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.errors import UsageError
from tests.trainers.launching import python
from trainers.order import keys_of, shuffled, splitmix64
from trainers.plan import Plan, Stage, plan

SIZES = st.lists(st.integers(0, 40), min_size=1, max_size=60).filter(any)


def made(sizes: list[int], *stages: Stage, seed: int = 0, **more: bool) -> Plan:
    """A plan over documents of these sizes."""
    return plan(keys_of(f"row-{n}" for n in range(len(sizes))), np.array(sizes, np.int64), stages, seed, **more)


def places(one: Plan, rows: int | None = None) -> Counter[tuple[int, int]]:
    """How often each token of each document is laid out."""
    found: Counter[tuple[int, int]] = Counter()
    for laid in one.stages:
        for row in range(laid.count if rows is None else rows):
            for piece in range(*laid.pieces(row).indices(len(laid.document))):
                document, offset, length = (int(x[piece]) for x in (laid.document, laid.offset, laid.lengths))
                found.update((document, place) for place in range(offset, offset + length))
    return found


def test_splitmix64_gives_its_published_numbers():
    """The first outputs of the generator seeded with 0 are those of its reference implementation."""
    states = np.arange(3, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert [hex(value) for value in splitmix64(states).tolist()] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
        "0x6c45d188009454f",
    ]


@given(st.lists(st.integers(0, 2**64 - 1), max_size=50), st.integers(-(2**63), 2**63 - 1), st.integers(0, 5))
def test_an_order_is_a_permutation_that_the_keys_decide(keys, seed, epoch):
    """Each place comes once; rows in another order are trained on in the same order of their keys."""
    given_keys = np.array(keys, np.uint64)
    order = shuffled(given_keys, seed, epoch)
    assert sorted(order.tolist()) == list(range(len(keys)))
    backwards = shuffled(given_keys[::-1], seed, epoch)
    assert given_keys[order].tolist() == given_keys[::-1][backwards].tolist()


def test_epochs_and_seeds_differ():
    """Another epoch and another seed are other orders."""
    keys = keys_of(map(str, range(100)))
    orders = {tuple(shuffled(keys, seed, epoch).tolist()) for seed in (0, 1, -1) for epoch in (0, 1)}
    assert len(orders) == 6


@settings(max_examples=60)
@given(SIZES, st.integers(2, 16), st.integers(1, 5), st.integers(1, 3))
def test_an_epoch_holds_every_token_once(sizes, length, rows, epochs):
    """Packed rows of so many epochs hold each token that often, and no row is longer than it may be."""
    one = made(sizes, Stage(rows=rows, length=length, epochs=epochs))
    wanted = {(d, place): epochs for d, size in enumerate(sizes) for place in range(size)}
    assert places(one) == wanted
    [laid] = one.stages
    assert all(laid.lengths[laid.pieces(row)].sum() <= length for row in range(laid.count))
    assert laid.steps * rows == laid.count + laid.repeated
    assert laid.repeated < rows
    assert laid.skipped == 0


def test_rows_that_no_step_takes_are_counted():
    """A stage that ends after so many steps takes hardly more documents than these need, and says what it left."""
    one = made([5, 3, 6, 2, 7] * 40, Stage(rows=4, length=8, steps=9))
    [laid] = one.stages
    assert laid.steps == 9
    assert laid.repeated == 0
    assert laid.skipped == laid.count - 9 * 4 <= 2


@given(SIZES, st.integers(40, 64), st.integers(1, 5))
def test_whole_documents_stay_whole(sizes, length, rows):
    """Where documents may not be cut, each is one piece."""
    one = made(sizes, Stage(rows=rows, length=length), whole=True)
    [laid] = one.stages
    assert sorted(laid.document.tolist()) == [d for d, size in enumerate(sizes) if size]
    assert not laid.offset.any()


def test_a_document_that_does_not_fit_whole_is_refused():
    """What is too long for a row that must hold it whole is an error, not a cut."""
    with pytest.raises(UsageError, match="has 9 tokens, and rows of 8"):
        made([3, 9], Stage(rows=1, length=8), whole=True)


@given(SIZES, st.integers(1, 5))
def test_examples_may_be_rows_of_their_own(sizes, rows):
    """Without a length each document is a row."""
    one = made(sizes, Stage(rows=rows))
    [laid] = one.stages
    assert laid.count == len(laid.document) == sum(size > 0 for size in sizes)


@settings(max_examples=40)
@given(SIZES, st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 3]), st.integers(0, 3))
def test_processes_share_the_rows_of_a_step(sizes, world, micros, share):
    """However many processes there are, and parts of a step, they take the same rows together, each once."""
    one = made(sizes, Stage(rows=24 * (share + 1), length=7, steps=5))
    for step in range(one.steps):
        alone = one.rows(step)
        shared = [one.rows(step, m, micros, r, world) for m in range(micros) for r in range(world)]
        assert np.concatenate(shared).tolist() == alone.tolist()


def test_rows_that_cannot_be_shared_are_an_error():
    """Rows a step that are no multiple of the processes are refused, with what to choose."""
    with pytest.raises(UsageError, match="7 rows a step cannot be shared by 2 processes"):
        made([5] * 20, Stage(rows=7)).rows(0, world=2)


def test_stages_follow_one_another():
    """Each stage takes the documents that the one before left, on into the next epoch, for as many steps as it says."""
    sizes = [4] * 130
    one = made(sizes, Stage(rows=2, length=8, steps=10), Stage(rows=1, length=16, steps=20), Stage(rows=4, length=4))
    assert [laid.first for laid in one.stages] == [0, 10, 30]
    taken = [set(laid.document.tolist()) for laid in one.stages]
    assert not taken[0] & taken[1]
    assert len(taken[0]) == 40
    with pytest.raises(IndexError):
        one.stage_at(one.steps)
    for step in (0, 9, 10, 29, 30, one.steps - 1):
        laid = one.stage_at(step)
        assert laid.first <= step < laid.first + laid.steps
        assert len(one.rows(step)) == laid.stage.rows


def test_a_long_run_goes_round():
    """More steps than an epoch has rows take further epochs, each in an order of its own."""
    one = made([1] * 10, Stage(rows=5, steps=6))
    rows = [one.stages[0].document[one.rows(step)].tolist() for step in range(6)]
    epochs = [rows[0] + rows[1], rows[2] + rows[3], rows[4] + rows[5]]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 3


def test_nothing_to_train_on_is_an_error():
    """Documents without a token give no plan."""
    with pytest.raises(UsageError, match="nothing to train on"):
        made([0, 0], Stage(rows=1))


@pytest.mark.parametrize(
    "wrong", [{"rows": 0}, {"rows": 1, "steps": 0}, {"rows": 1, "epochs": 0}, {"rows": 1, "length": 1}]
)
def test_a_stage_without_sense_is_refused(wrong):
    """A stage of no rows, steps or epochs, or of rows that hold nothing is refused."""
    with pytest.raises(UsageError):
        Stage(**wrong)


def test_the_digest_is_that_of_another_process():
    """The same rows and settings have the same digest in a process with other hashes; any change has another one."""
    stage = Stage(rows=2, length=8)
    one = made([3, 9, 4, 1], stage)
    code = "from tests.trainers.test_plan import made, Stage;print(made([3, 9, 4, 1], Stage(rows=2, length=8)).digest)"
    for seed in ("1", "2"):
        assert python("-c", code, environment={"PYTHONHASHSEED": seed}).out.strip() == one.digest
    others = [made([3, 9, 4, 2], stage), made([3, 9, 4, 1], stage, seed=1), made([3, 9, 4, 1], Stage(rows=1, length=8))]
    assert len({one.digest, *(other.digest for other in others)}) == 4


@given(SIZES, st.integers(1, 3), st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_what_a_stage_does_not_come_to_is_the_next_ones(sizes, rows, steps):
    """Stages of some steps, and one for the rest of the epoch, take each whole document as often as any other."""
    stages = [*(Stage(rows=rows, length=40, steps=count) for count in steps), Stage(rows=rows, length=40)]
    taken: Counter[int] = Counter()
    for laid in made(sizes, *stages, whole=True).stages:
        end = laid.row_offsets[min(laid.steps * rows, laid.count)]
        taken.update(laid.document[:end].tolist())
    assert set(taken) == {place for place, size in enumerate(sizes) if size}
    assert max(taken.values()) - min(taken.values()) <= 1
