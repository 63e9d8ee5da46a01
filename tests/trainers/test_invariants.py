"""What holds from a shard to the arrays of a step, whatever the documents, the stages and the number of processes."""

import ast
import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.packing import IGNORED
from tests.trainers.launching import python
from tests.trainers.marked_rows import write
from trainers.batches import packed, padded, trained_tokens
from trainers.order import keys_of, shuffled, splitmix64
from trainers.plan import Plan, Stage, plan
from trainers.shards import Shards

ROOT = Path(__file__).parents[2]
PAD = 0

# What a machine that trains has, and what decides a batch: numpy, pyarrow and msgspec alone.
NUMPY_ALONE = ["batches", "curves", "ledger", "order", "plan", "plot", "reading", "record", "shards", "spec"]
NUMPY_ALONE += ["starting"]
DECIDES = ["batches", "order", "plan", "shards"]
ENGINES = ["deltalake", "duckdb", "obstore", "typer"]
LEARNING = ["accelerate", "datasets", "peft", "torch", "transformers", "trl"]

MARKED = st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=30)
DOCUMENTS = st.lists(MARKED, min_size=1, max_size=12)
SIZES = st.lists(st.integers(0, 40), min_size=1, max_size=40).filter(any)


def keys(count: int):
    """The keys of so many rows."""
    return keys_of(f"row-{n}" for n in range(count))


def planned(sizes, *stages: Stage, seed: int = 0, **more: bool) -> Plan:
    """A plan over documents of these sizes."""
    return plan(keys(len(sizes)), np.array(sizes, np.int64), stages, seed, **more)


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """Documents of many lengths, of which every third token counts, and their shards."""
    folder = tmp_path_factory.mktemp("invariants") / "made"
    write(folder, [([(n + at, at % 3 != 0) for at in range(1 + n * 7 % 23)],) for n in range(50)])
    return Shards.open(folder)


@pytest.mark.parametrize(
    ("seed", "outputs"),
    [
        (0, ["e220a8397b1dcdaf", "6e789e6aa1b965f4", "06c45d188009454f", "f88bb8a8724c81ec", "1b39896a51a8749b"]),
        (1234567, ["599ed017fb08fc85", "2c73f08458540fa5", "883ebce5a3f27c77", "3fbef740e9177b3f", "e3b8346708cb5ecd"]),
    ],
)
def test_splitmix64_gives_the_outputs_of_its_reference(seed, outputs):
    """The first outputs of Vigna's reference generator for two seeds, the second that of Rosetta Code's task."""
    states = np.uint64(seed) + np.arange(5, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert [f"{value:016x}" for value in splitmix64(states).tolist()] == outputs


def test_an_order_does_not_change():
    """The order of some rows is the one that it was when this was written: a run of then can be repeated."""
    assert shuffled(keys(10), seed=0).tolist() == [0, 3, 5, 9, 6, 1, 8, 4, 7, 2]
    assert shuffled(keys(10), seed=0, epoch=1).tolist() == [4, 6, 1, 9, 3, 0, 5, 7, 2, 8]
    digest = planned([5, 9, 1, 14], Stage(rows=2, length=8, steps=3), seed=7).digest
    assert digest == "64a4b5a78d67099728770d13d5bf498a44c800880dfdabcde4428e158a621b8a"


def test_hashes_of_a_process_decide_nothing(field):
    """Arrays of a step are the same in a process with other hashes, in another time zone and another folder."""
    program = "import sys; from tests.trainers.test_invariants import digest_of_all;print(digest_of_all(sys.argv[1]))"
    found = {digest_of_all(field.folder)}
    for seed, zone, place in (("0", "UTC", ROOT), ("77", "Asia/Kathmandu", field.folder)):
        changed = {"PYTHONHASHSEED": seed, "TZ": zone}
        found.add(python("-c", program, field.folder, folder=place, environment=changed).out.strip())
    assert len(found) == 1


def digest_of_all(folder) -> str:
    """What a plan over shards says, and every array of every step, as one number."""
    shards = Shards.open(folder)
    text = shards.fields["text"]
    one = plan(shards.keys, text.lengths, [Stage(rows=4, length=16), Stage(rows=2, length=32, steps=9)], seed=5)
    made = hashlib.sha256(one.digest.encode())
    for step in range(one.steps):
        for array in packed(one.stage_at(step), one.rows(step), text, PAD).values():
            made.update(array.tobytes())
    return made.hexdigest()


@settings(max_examples=30)
@given(DOCUMENTS, st.integers(2, 16), st.sampled_from([1, 2, 4]), st.booleans())
def test_labels_and_positions_belong_to_their_tokens(tmp_path_factory, documents, length, rows, cut):
    """Ids, labels and positions have one shape; a label is its id or ignored; a document begins at 0, unlabelled."""
    folder = tmp_path_factory.mktemp("batches") / "made"
    write(folder, [(document if cut else document[:length],) for document in documents])
    shards = Shards.open(folder)
    text = shards.fields["text"]
    one = plan(shards.keys, text.lengths, [Stage(rows=rows, length=length)], seed=1, whole=not cut)
    tokens, counted = 0, 0
    for step in range(one.steps):
        batch = packed(one.stage_at(step), one.rows(step), text, PAD)
        ids, positions, labels = (batch[name] for name in ("input_ids", "position_ids", "labels"))
        assert ids.shape == positions.shape == labels.shape == (rows, length)
        assert {array.dtype for array in batch.values()} == {np.dtype(np.int64)}
        assert ((labels == ids) | (labels == IGNORED)).all()
        assert (labels[positions == 0] == IGNORED).all()
        assert (positions[:, 0] == 0).all()
        # Each place follows the one before it in its document, or begins one.
        assert ((np.diff(positions) == 1) | (positions[:, 1:] == 0)).all()
        tokens += positions.size
        counted += trained_tokens(batch)
        assert trained_tokens(batch) == (labels != IGNORED).sum()
    [laid] = one.stages
    whole = text.lengths.sum()
    assert tokens == (laid.count + laid.repeated) * length
    if not laid.repeated and not cut:
        first_of_each = text.trained[text.offsets[:-1]].sum()
        assert counted == text.trained.sum() - first_of_each
    assert laid.lengths.sum() == whole


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 3]), st.integers(0, 2**31))
def test_processes_have_together_what_one_has(field, world, parts, seed):
    """The arrays of all processes and parts of a step, one after the other, are those that one process has alone."""
    text = field.fields["text"]
    one = plan(field.keys, text.lengths, [Stage(rows=24, length=16, steps=4)], seed)
    for step in range(one.steps):
        laid = one.stage_at(step)
        alone = packed(laid, one.rows(step), text, PAD)
        shared = [
            packed(laid, one.rows(step, part, parts, rank, world), text, PAD)
            for part in range(parts)
            for rank in range(world)
        ]
        for name, array in alone.items():
            assert np.array_equal(np.concatenate([batch[name] for batch in shared]), array)


@given(SIZES, st.integers(0, 3))
def test_a_row_does_not_depend_on_its_neighbours(sizes, seed):
    """One example a row: its tokens are the same in a step of any size, padding aside."""
    one = planned(sizes, Stage(rows=1), seed=seed)
    other = planned(sizes, Stage(rows=3), seed=seed)
    usable = [laid.document for (laid,) in (one.stages, other.stages)]
    assert usable[0].tolist() == usable[1].tolist()


def test_padding_changes_no_example(field):
    """A row that is padded to the length of its neighbours has the same tokens and labels as alone."""
    text = field.fields["text"]
    together = padded(np.arange(12), [text], PAD)
    for row in range(12):
        alone = padded(np.array([row]), [text], PAD)
        size = alone["input_ids"].shape[1]
        for name, array in alone.items():
            assert np.array_equal(together[name][row, :size], array[0])


@given(st.lists(st.sampled_from([4, 8, 16, 32]), min_size=1, max_size=4), st.integers(1, 4), st.integers(0, 9))
def test_a_curriculum_keeps_its_tokens_a_step(lengths, times, seed):
    """Stages of longer and fewer rows have the same tokens a step, and each follows at the step that was said."""
    stages = [Stage(rows=32 // length * times, length=length, steps=3) for length in lengths]
    one = planned([7] * 60, *stages, seed=seed)
    assert one.steps == 3 * len(stages)
    for step in range(one.steps):
        laid = one.stage_at(step)
        assert laid.stage == stages[step // 3]
        assert len(one.rows(step)) * laid.stage.length == 32 * times


@settings(max_examples=30)
@given(SIZES, st.integers(2, 16), st.integers(1, 4), st.integers(1, 9))
def test_a_stage_that_follows_changes_nothing_before_it(sizes, length, rows, steps):
    """What a run does at a step depends on no stage behind it: going on for longer repeats what was done."""
    before = Stage(rows=rows, length=length, steps=steps)
    short, long = planned(sizes, before), planned(sizes, before, Stage(rows=3, length=8, steps=5))
    assert short.digest != long.digest
    [laid] = short.stages
    for name in ("row_offsets", "document", "offset", "lengths"):
        assert getattr(laid, name).tolist() == getattr(long.stages[0], name).tolist()


@given(SIZES, st.integers(2, 16), st.integers(1, 3), st.integers(0, 5))
def test_the_order_of_the_shards_decides_nothing(sizes, length, rows, seed):
    """Rows that are stored in another order are trained on in the same one."""
    given_keys, lengths = keys(len(sizes)), np.array(sizes, np.int64)
    turned = np.arange(len(sizes))[::-1]
    stages = [Stage(rows=rows, length=length, epochs=2)]
    [one] = plan(given_keys, lengths, stages, seed).stages
    [other] = plan(given_keys[turned], lengths[turned], stages, seed).stages
    assert one.document.tolist() == turned[other.document].tolist()
    assert one.row_offsets.tolist() == other.row_offsets.tolist()


@given(SIZES, st.integers(1, 4), st.integers(1, 3))
def test_an_epoch_of_examples_takes_each_once(sizes, rows, epochs):
    """Where rows are examples, each comes once an epoch; what fills up the last step is counted."""
    one = planned(sizes, Stage(rows=rows, epochs=epochs))
    [laid] = one.stages
    taken = Counter(laid.document[np.concatenate([one.rows(step) for step in range(one.steps)])].tolist())
    assert set(taken) == {n for n, size in enumerate(sizes) if size}
    assert sum(taken.values()) == laid.count + laid.repeated
    assert sum(times - epochs for times in taken.values()) == laid.repeated


@pytest.mark.parametrize("room", DECIDES)
def test_nothing_that_decides_a_batch_reads_a_clock(room):
    """No clock, no generator of random numbers and no hash of the process is used where batches are decided."""
    tree = ast.parse((ROOT / "trainers" / f"{room}.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not imported & {"time", "datetime", "random", "secrets", "uuid", "numpy.random"}
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert "random" not in used
    assert not called & {"hash", "id"}


def test_rooms_of_numpy_bring_nothing_else():
    """What a machine without torch or a lake reads, plans and batches with imports neither of the two."""
    asked = "; ".join(f"import trainers.{room}" for room in ["__init__", *NUMPY_ALONE])
    heavy = {*ENGINES, *LEARNING}
    program = f"import sys; {asked}; print(sorted({heavy} & set(sys.modules)))"
    assert python("-c", program).out == "[]\n"
