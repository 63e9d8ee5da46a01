"""A step, or a measurement, of packed rows is a mean over what is learned: never of nothing, however it is divided."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainers.marked_rows import write
from trainers.batches import packed, trained_tokens, unlearned
from trainers.plan import Stage, plan
from trainers.shards import Shards

MARKS = st.lists(st.booleans(), min_size=1, max_size=20)
# Few documents have something to learn, so that whole steps have nothing.
DOCUMENTS = st.lists(st.one_of(MARKS, st.integers(1, 20).map(lambda size: [False] * size)), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS, st.integers(2, 9), st.integers(1, 3), st.booleans())
def test_steps_without_anything_to_learn_are_those_whose_labels_say_so(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[bool]], length: int, rows: int, cut: bool
) -> None:
    """Of all steps, those are named whose arrays have no label, documents being cut or not, in every stage."""
    folder = tmp_path_factory.mktemp("learning") / "made"
    write(folder, [([(5, mark) for mark in (marks if cut else marks[:length])],) for marks in documents])
    shards = Shards.open(folder)
    text = shards.fields["text"]
    stages = [Stage(rows=rows, length=length, steps=3), Stage(rows=1, length=length)]
    one = plan(shards.keys, text.lengths, stages, seed=1, whole=not cut)
    nothing = [
        step for step in range(one.steps) if not trained_tokens(packed(one.stage_at(step), one.rows(step), text, 0))
    ]
    assert list(unlearned(one, text)) == nothing
    assert text.counted.tolist() == [sum(marks if cut else marks[:length]) for marks in documents]
