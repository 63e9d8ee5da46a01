"""Draws: the same for the same question, weighted, without replacement, and never of what has no weight."""

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from lake.errors import UsageError
from tests.views import world
from views.sampling import draw, draw_keys, retention_delta

DAY = 86400


def contents(con, drawn):
    told = dict(con.execute("select section_id, content from replay_sections").fetchall())
    return [told[one] for one in drawn.ids]


@pytest.fixture
def hundred(sighted):
    kinds = ("prose", "instruction", "preference")
    return [sighted(f"text {number}", kinds[number % 3], at=-number * DAY) for number in range(100)]


def test_a_draw_has_no_memory_and_no_order(opened, hundred):
    """The same rows in any order, over any number of threads, give the same sections; another seed gives others."""
    one, other = (opened(rows, "replay_pool") for rows in (hundred, hundred[::-1]))
    drawn = draw(one, 30, seed=7)
    assert draw(other, 30, seed=7) == drawn
    assert drawn.pool == 100
    assert len(set(drawn.ids)) == 30
    assert draw(one, 30, seed=8) != drawn


def test_time_does_not_pass_between_draws(opened, hundred):
    """Ages count from when the newest section was seen, or from a moment that is given; later, old ones are alike."""
    newest = draw(opened(hundred, "replay_pool"), 20, seed=1)
    assert draw(opened(hundred, "replay_pool", now=world.at(0)), 20, seed=1) == newest
    long_after = opened(hundred, "replay_pool", now=world.at(1000 * DAY))
    assert draw(long_after, 20, seed=1) == draw(opened(hundred, "replay_pool", scheme="uniform"), 20, seed=1)
    assert draw(long_after, 20, seed=1) != newest


def test_a_later_sighting_makes_a_section_recent(opened, hundred, sighted):
    """Recency goes by when a section was seen last, not when it was first."""
    seen_again = [*hundred, sighted("text 99", "prose", at=0, training_run="r")]
    query = "select draw_weight from replay_pool where section_id = ?"
    weights = [
        opened(rows, "replay_pool").execute(query, [hundred[99]["section_id"]]).fetchall()[0][0]
        for rows in (hundred, seen_again)
    ]
    assert weights == [pytest.approx(0.01), 1.0]


def test_draws_are_nested_and_end_at_all(opened, hundred):
    """A draw of k begins a draw of more, whichever way they are found; of more than there are, each comes once."""
    con = opened(hundred, "replay_pool")
    whole = draw(con, 1000, seed=3)
    assert sorted(whole.ids) == sorted({row["section_id"] for row in hundred})
    for k in (0, 1, 2, 49, 99, 100):
        assert draw(con, k, seed=3).ids == whole.ids[:k]


@pytest.mark.parametrize("ask", [{"k": -1}, {"k": 1, "types": ["verse"]}])
def test_what_cannot_be_drawn_is_refused(opened, hundred, ask):
    """A number below 0 and an unknown type are wrong uses."""
    with pytest.raises(UsageError):
        draw(opened(hundred, "replay_pool"), seed=0, **ask)


@pytest.mark.parametrize("scheme", ["recency", "uniform"])
def test_a_weight_of_nothing_is_never_drawn(opened, sighted, scheme):
    """Weight 0 excludes, also where everything is drawn, so no luck with twenty draws can hide that it does not."""
    rows = [sighted(f"text {number}", weight=float(number % 2)) for number in range(40)]
    con = opened(rows, "replay_pool replay_sections", scheme=scheme)
    drawn = draw(con, 40, seed=0)
    assert sorted(contents(con, drawn)) == sorted(f"text {number}" for number in range(1, 40, 2))


def test_a_type_is_chosen_before_anything_is_drawn(opened, hundred):
    """A draw of preferences is of preferences alone, in full number, and reads no content to know them."""
    con = opened(hundred, "replay_pool")
    said = "case when section_id is not null then error('content was read') end"
    con.execute(
        f"create or replace view replay as select * replace (cast({said} as varchar) as content) from events.replay"
    )
    drawn = draw(con, 20, seed=5, types=["preference"])
    wanted = {row["section_id"] for row in hundred if row["section_type"] == "preference"}
    assert len(drawn.ids) == 20
    assert set(drawn.ids) <= wanted
    assert drawn.pool == len(wanted)
    with pytest.raises(duckdb.Error, match="content was read"):
        con.execute("select max(content) from replay").fetchall()


def test_a_section_seen_often_is_drawn_once(opened, sighted):
    """Two sightings of a preference are one section: neither is lost for the other, and none is drawn twice."""
    rows = [sighted("### Prompt\np\n### Chosen\nc\n### Rejected\nr", "preference", at=at) for at in (1, 9)]
    rows += [sighted("x", "preference", at=3)]
    drawn = draw(opened(rows, "replay_pool"), 5, seed=0, types=["preference"])
    assert sorted(drawn.ids) == sorted({row["section_id"] for row in rows})


def test_mined_preferences_may_be_left_out(opened, sighted):
    """Without mined ones, what a program preferred is not drawn; a section that was ever mined is mined."""
    mined = {"auto_mined": True}
    rows = [sighted("a", "preference", **mined), sighted("b", "preference"), sighted("a", "preference", at=9)]
    names = "replay_pool replay_sections"
    for wanted, expected in ((False, ["b"]), (True, ["a", "b"])):
        con = opened(rows, names, auto_mined=wanted)
        assert sorted(contents(con, draw(con, 5, seed=0))) == expected


def test_reserved_and_evicted_sections_are_not_drawn(opened, hundred):
    """What is kept for evaluation, and what the budget has no room for, is in no draw."""
    con = opened(hundred, "replay_pool replay_sections", retention=0.2, max_bytes=300)
    active = {one for (one,) in con.execute("select section_id from replay_sections where state = 'active'").fetchall()}
    assert 0 < len(active) < 80
    assert set(draw(con, 1000, seed=0).ids) == active


def test_chances_are_the_weights():
    """The first of a draw falls on each section as often as its weight is of all weights."""
    ids = pa.array([f"{number:016x}" for number in range(3)])
    weights = np.array([1.0, 2.0, 5.0])
    firsts = np.bincount([int(np.argmax(draw_keys(ids, weights, seed))) for seed in range(4000)], minlength=3)
    expected = weights / weights.sum()
    assert np.abs(firsts / 4000 - expected).max() < 4 * np.sqrt(0.25 / 4000)


def test_keys_are_the_same_on_every_machine():
    """A key is a function of seed, id and weight that is written down here, whatever else is in its batch."""
    ids = pa.array(["0123456789abcdef", "an id of another kind", "0123456789abcdef"])
    keys = draw_keys(ids, np.array([1.0, 1.0, 2.0]), 7)
    assert keys[0] == pytest.approx(keys[2] * 2, rel=1e-15)
    assert draw_keys(ids.slice(1, 1), np.ones(1), 7)[0] == keys[1]
    assert keys[0] == pytest.approx(-0.9101536743121706, rel=1e-12)
    assert draw_keys(pa.array([], pa.string()), np.empty(0), 0).tolist() == []


def test_retention_is_compared_where_both_sides_are_known():
    """A change needs a before and an after."""
    assert retention_delta(0.75, 0.5) == 0.25
    assert retention_delta(None, 0.5) is None
    assert retention_delta(0.5, None) is None
