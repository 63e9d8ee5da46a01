"""Which rows a step took: all of the plan, nothing but the plan, and readable by itself."""

import hashlib
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.errors import Damaged
from trainers import batches, ledger
from trainers.plan import Plan, Stage, plan
from trainers.shards import Shards, writing

SIZES = st.lists(st.integers(0, 30), min_size=1, max_size=25).filter(any)
STAGES = st.lists(
    st.builds(
        Stage,
        rows=st.integers(1, 4),
        length=st.sampled_from([None, 4, 16]),
        steps=st.none() | st.integers(1, 6),
        epochs=st.just(1),
    ),
    min_size=1,
    max_size=3,
)


def named(number: int) -> str:
    """An id as an export gives it."""
    return f"sft-{hashlib.sha256(str(number).encode()).hexdigest()[:16]}"


def built(folder, sizes, fields=("text",), trained=lambda place: place % 3 != 0) -> Shards:
    """Shards with rows of these sizes in each field."""
    with writing(folder / "shards", fields) as writer:
        for number, size in enumerate(sizes):
            part = (list(range(size)), [trained(place) for place in range(size)])
            writer.add({"id": named(number)}, dict.fromkeys(fields, part))
        writer.finish({"snapshot": "0" * 32}, {"offered": len(sizes)})
    return Shards.open(folder / "shards")


def planned(shards: Shards, *stages: Stage, seed: int = 3) -> Plan:
    """A plan over the text of shards."""
    return plan(shards.keys, shards.fields["text"].lengths, stages, seed)


def taken(one: Plan) -> Counter[tuple[str, int, int]]:
    """Each piece that each step takes, as the plan itself hands rows out."""
    found: Counter[tuple[str, int, int]] = Counter()
    for step in range(one.steps):
        laid = one.stage_at(step)
        for row in one.rows(step).tolist():
            for piece in range(*laid.pieces(row).indices(len(laid.document))):
                found[named(int(laid.document[piece])), step, int(laid.lengths[piece])] += 1
    return found


@settings(max_examples=60)
@given(SIZES, STAGES)
def test_a_ledger_has_what_the_steps_of_the_plan_take(tmp_path_factory, sizes, stages):
    """Every piece of every step is there as often as the plan hands it out, repeated rows too, and nothing else is."""
    folder = tmp_path_factory.mktemp("ledger")
    shards = built(folder, sizes)
    made = planned(shards, *stages)
    wanted = taken(made)
    path = folder / ledger.NAME
    assert ledger.write(path, made, shards) == sum(wanted.values())
    assert ledger.plan_of(path) == made.digest
    rows = pq.read_table(path).to_pylist()
    assert rows == sorted(rows, key=lambda row: (row["id"], row["step"]))
    assert Counter((row["id"], row["step"], row["tokens"]) for row in rows) == wanted
    for upto in {0, 1, made.steps // 2, made.steps}:
        expected = [(row, step, tokens) for (row, step, tokens), n in wanted.items() for _ in range(n) if step < upto]
        found = {row["id"]: row for row in ledger.rows_of(path, upto).to_pylist()}
        assert found.keys() == {row for row, _, _ in expected}
        for name, row in found.items():
            steps = [step for each, step, _ in expected if each == name]
            assert (row["first_step"], row["last_step"], row["times"]) == (min(steps), max(steps), len(steps))
            assert row["tokens"] == sum(tokens for each, _, tokens in expected if each == name)
            assert ledger.steps_of(path, name, upto) == sorted(set(steps))


def test_a_repeated_row_counts_again(tmp_path):
    """Where a stage is filled up by its first rows once more, these were seen once more often."""
    shards = built(tmp_path, [5] * 5)
    made = planned(shards, Stage(rows=4))
    ledger.write(tmp_path / ledger.NAME, made, shards)
    times = ledger.rows_of(tmp_path / ledger.NAME)["times"].to_pylist()
    assert made.stages[0].repeated == 3
    assert sorted(times) == [1, 1, 2, 2, 2]


def test_an_unknown_row_was_never_seen(tmp_path):
    """A row that is in no ledger has no steps, several ids have those of all of them."""
    shards = built(tmp_path, [5] * 6)
    made = planned(shards, Stage(rows=2, epochs=2))
    data = tmp_path / ledger.NAME
    ledger.write(data, made, shards)
    assert ledger.steps_of(data, "sft-0000000000000000") == []
    both = [named(0), named(1)]
    assert ledger.steps_of(data, both) == sorted({step for one in both for step in ledger.steps_of(data, one)})
    assert ledger.rows_of(data.read_bytes()).equals(ledger.rows_of(data))


def test_the_same_plan_gives_the_same_bytes(tmp_path):
    """A ledger says nothing of when and where, so that keeping it twice is keeping it once."""
    shards = built(tmp_path, list(range(40)))
    made = planned(shards, Stage(rows=2, length=16, epochs=2))
    for name in "ab":
        ledger.write(tmp_path / name, made, shards)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_ledger_is_compact(tmp_path):
    """An epoch costs at most 14 bytes a row, and each further one at most 6: ids are written down once."""
    shards = built(tmp_path, np.random.default_rng(0).integers(1, 60, 20_000).tolist())
    sizes = []
    for epochs in (1, 4):
        ledger.write(tmp_path / "made", planned(shards, Stage(rows=8, length=64, epochs=epochs)), shards)
        sizes.append((tmp_path / "made").stat().st_size / 20_000)
    assert sizes[0] < 14
    assert (sizes[1] - sizes[0]) / 3 < 6


def test_damage_is_told(tmp_path):
    """A ledger that was cut, and a file that is none, are errors that name the file."""
    shards = built(tmp_path, [5] * 6)
    path = tmp_path / ledger.NAME
    ledger.write(path, planned(shards, Stage(rows=2)), shards)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(Damaged, match=ledger.NAME):
        ledger.rows_of(path)
    with pytest.raises(Damaged, match=ledger.NAME):
        ledger.plan_of(path)
    with pytest.raises(Damaged, match="a ledger"):
        ledger.steps_of(b"no ledger at all", "x")


@settings(max_examples=40)
@given(SIZES, STAGES)
def test_tokens_are_those_of_the_batches(tmp_path_factory, sizes, stages):
    """What a step reads and what its loss counts is what the arrays of its batch have, packed or one text a row."""
    shards = built(tmp_path_factory.mktemp("tokens"), sizes)
    made, field = planned(shards, *stages), shards.fields["text"]
    for step in range(made.steps):
        laid, rows = made.stage_at(step), made.rows(step)
        packed = laid.stage.length is not None
        batch = batches.packed(laid, rows, field, 0) if packed else batches.padded(laid.document[rows], [field], 0)
        read, counted = ledger.tokens_at(made, shards, step)
        assert counted == batches.trained_tokens(batch)
        assert read == sum(int(laid.lengths[laid.pieces(row)].sum()) for row in rows.tolist())


def test_tokens_of_a_pair_are_those_of_both_texts(tmp_path):
    """A prompt is read with each of its answers, and only what is trained of the answers is counted."""
    fields = ("prompt", "chosen", "rejected")
    shards = built(tmp_path, [4] * 3, fields, trained=lambda place: place > 1)
    made = plan(shards.keys, np.full(3, 12, np.int64), [Stage(rows=3)], 0)
    assert ledger.tokens_at(made, shards, 0) == (3 * 16, 3 * 4)
