"""Pictures of runs: what was measured and nothing else, the same bytes for the same points, labels side by side."""

import re
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import LakeError, UsageError
from trainers.curves import Point

plot = pytest.importorskip("trainers.plot", reason="matplotlib draws", exc_type=ImportError)

AT = datetime(2026, 4, 23, tzinfo=UTC)
NUMBERS = st.floats(-100, 100)


def points(count: int, **more) -> list[Point]:
    """A run whose loss falls."""
    told = {"learning_rate": 0.001, "tokens_per_second": 45000.0, "data_wait": 0.004, **more}
    return [Point(step=step, at=AT, session=1, loss=4.0 / step, **told) for step in range(1, count + 1)]


def texts(path) -> str:
    """What a picture says in words."""
    return " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text()))


def test_a_picture_has_a_panel_for_all_that_was_measured(tmp_path):
    """Loss, rate, speed and wait each have their panel, and the run its name and its last values."""
    plot.draw(tmp_path / "one.svg", {"sft-1": ("sft", points(100))})
    said = texts(tmp_path / "one.svg")
    for word in ("loss", "learning rate", "tokens a second", "time spent waiting for data", "step", "sft-1, 100 steps"):
        assert word in said
    assert " 45k " in f"{said} "
    assert "0.4%" in said
    assert "held out" not in said


def test_what_was_not_measured_has_no_panel(tmp_path):
    """A run that says nothing of waiting has no empty panel for it; evaluations are told from training."""
    measured = points(5, data_wait=None)
    measured.append(Point(step=5, what="evaluation", at=AT, session=1, loss=1.0))
    plot.draw(tmp_path / "one.svg", {"sft-1": ("sft", measured)})
    said = texts(tmp_path / "one.svg")
    assert "waiting" not in said
    assert "dots: on what was held out" in said


def test_several_runs_are_told_apart_by_name(tmp_path):
    """Each run is named where its line ends, in its colour; ids are shortened where they differ without the rest."""
    runs = {f"sft-{time}-aa": ("sft", points(60 + time)) for time in range(3)}
    plot.draw(tmp_path / "all.svg", runs)
    said = texts(tmp_path / "all.svg")
    assert all(f"sft-{time}  " in said for time in range(3))
    assert "-aa" not in said
    assert all(colour.lower() in (tmp_path / "all.svg").read_text() for colour in plot.COLOURS[:3])
    plot.draw(tmp_path / "same.svg", {"sft-1-aa": ("sft", points(3)), "sft-1-bb": ("sft", points(4))})
    assert "sft-1-aa" in texts(tmp_path / "same.svg")


@pytest.mark.parametrize(("name", "begins"), [("a.svg", b"<?xml"), ("a.png", b"\x89PNG"), ("a.pdf", b"%PDF")])
def test_the_same_points_give_the_same_bytes(tmp_path, name, begins):
    """A picture says nothing of when it was drawn, in any format, and a run of one step is drawn too."""
    runs = {"dpo-1": ("dpo", points(1)), "dpo-2": ("dpo", points(50))}
    plot.draw(tmp_path / name, runs)
    first = (tmp_path / name).read_bytes()
    plot.draw(tmp_path / name, runs)
    assert (tmp_path / name).read_bytes() == first
    assert first.startswith(begins)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_cannot_be_drawn_is_refused(tmp_path):
    """Nothing measured, an unknown format and a place that cannot be written are errors that say so."""
    with pytest.raises(UsageError, match="nothing was measured"):
        plot.draw(tmp_path / "a.svg", {"sft-1": ("sft", [])})
    with pytest.raises(UsageError, match=r"\.svg, \.png, \.pdf"):
        plot.draw(tmp_path / "a.gif", {"sft-1": ("sft", points(3))})
    (tmp_path / "file").touch()
    with pytest.raises(LakeError, match=r"a\.svg"):
        plot.draw(tmp_path / "file" / "a.svg", {"sft-1": ("sft", points(3))})


@given(st.lists(NUMBERS, max_size=8), st.floats(0.1, 10))
def test_labels_are_side_by_side(values, apart):
    """No two labels are nearer than asked, their order is that of the lines, and where there is room none moves."""
    placed = plot.spread(values, apart)
    order = sorted(range(len(values)), key=lambda place: values[place])
    gaps = [placed[after] - placed[before] for before, after in pairwise(order)]
    assert all(gap >= apart * 0.999 for gap in gaps)
    ends = sorted(values)
    if all(after - before >= apart for before, after in pairwise(ends)):
        assert placed == pytest.approx(values)
    assert sum(placed) == pytest.approx(sum(values), abs=1e-6)


@given(st.lists(NUMBERS, min_size=1, max_size=60), st.integers(1, 20))
def test_a_running_mean_is_a_mean_of_what_is_near(values, width):
    """Each value is the mean of those within half the width on either side that there are."""
    given_values = np.array(values)
    half = width // 2
    expected = [given_values[max(0, place - half) : place + half + 1].mean() for place in range(len(values))]
    assert plot.smoothed(given_values, width) == pytest.approx(expected, abs=1e-9)
