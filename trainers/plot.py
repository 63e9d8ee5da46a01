"""A picture of runs: loss, learning rate, tokens a second and data wait over the steps, several runs one over another.

Small panels share their axis of steps; what was not measured has no panel. A thin line is what was measured, a thicker
one its running mean where there is enough of it, a dot an evaluation. Lines carry their names where they end.

Not here: what was measured (`curves`).
"""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from lake.errors import LakeError, UsageError
from trainers.curves import Point
from trainers.record import write_whole

FORMATS = (".svg", ".png", ".pdf")
# Told apart also by who sees colours differently: Okabe and Ito, Color Universal Design, 2008.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
INK, FAINT = "#333333", "#DDDDDD"
SMOOTHED_FROM = 40  # points
_STEPS = [1, 2, 5, 10]  # between two ticks

Floats = npt.NDArray[np.float64]


class Panel(NamedTuple):
    """One quantity: its name, what of a point it is, and how its numbers are written."""

    title: str
    value: Callable[[Point], float | None]
    written: Any
    smooth: bool
    from_zero: bool


def _short(value: float, _place: object = None) -> str:
    """A number in three figures: `45.2k`, `3e-05`."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


PANELS = (
    Panel("loss", lambda point: point.loss, FuncFormatter(_short), smooth=True, from_zero=False),
    Panel("learning rate", lambda point: point.learning_rate, FuncFormatter(_short), smooth=False, from_zero=True),
    Panel("tokens a second", lambda point: point.tokens_per_second, FuncFormatter(_short), smooth=True, from_zero=True),
    Panel(
        "time spent waiting for data",
        lambda point: point.data_wait,
        FuncFormatter(lambda value, _: f"{100 * value:.3g}%"),
        smooth=True,
        from_zero=True,
    ),
)


def draw(out: str | Path, runs: Mapping[str, tuple[str, Sequence[Point]]]) -> None:
    """Draw runs, each an id with its method and points, into a file. Raises UsageError, LakeError.

    The same points give the same bytes.
    """
    out = Path(out)
    if out.suffix not in FORMATS:
        raise UsageError(f"{out}: a plot is {', '.join(FORMATS)}", "name a file that ends so")
    shown = [panel for panel in PANELS if any(_training(points, panel)[0].size for _, points in runs.values())]
    if not shown:
        raise UsageError("there is nothing to draw: nothing was measured yet", "is there a metrics.jsonl?")
    with mpl.rc_context({"svg.hashsalt": "runs", "svg.fonttype": "none", "font.size": 9, "axes.titlesize": 9.5}):
        figure = _drawn(shown, runs)
        _save(figure, out)


def _drawn(shown: Sequence[Panel], runs: Mapping[str, tuple[str, Sequence[Point]]]) -> Figure:
    heights = [2.2 if panel.title == "loss" else 1.0 for panel in shown]
    figure = Figure(figsize=(8.0, 1.0 + 1.25 * sum(heights)), layout="constrained")
    names = _names(list(runs))
    axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axis, panel in zip(axes, shown, strict=True):
        _panel(axis, panel)
        ends = []
        for colour, (run, (_, points)) in zip(_colours(len(runs)), runs.items(), strict=True):
            end = _line(axis, panel, points, colour)
            if end is not None and (len(runs) == 1 or panel is shown[0]):
                value = panel.written(end[1])
                ends.append((*end, value if len(runs) == 1 else f"{names[run]}  {value}", colour))
        if panel.from_zero:
            axis.set_ylim(0, 1.08 * max(axis.get_ylim()[1], 1e-9))
        _name(axis, ends)
    axes[-1].set_xlabel("step", color=INK)
    axes[-1].xaxis.set_major_locator(MaxNLocator(7, integer=True, steps=_STEPS))
    axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    figure.suptitle(_title(runs), x=0.01, ha="left", color=INK, fontsize=11)
    return figure


def _panel(axis: Axes, panel: Panel) -> None:
    """A panel without a frame: a faint grid for values, the title above it at the left."""
    axis.set_title(panel.title, loc="left", color=INK)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.spines["bottom"].set_color(FAINT)
    axis.grid(axis="y", color=FAINT, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(length=0, colors=INK)
    axis.yaxis.set_major_locator(MaxNLocator(6 if panel.title == "loss" else 3, steps=_STEPS))
    axis.yaxis.set_major_formatter(panel.written)
    axis.margins(x=0.01)


def _line(axis: Axes, panel: Panel, points: Sequence[Point], colour: str) -> tuple[float, float] | None:
    """Draw one run's line; where it ends."""
    steps, values = _training(points, panel)
    if not steps.size:
        return None
    smooth = panel.smooth and len(steps) >= SMOOTHED_FROM
    axis.plot(steps, values, color=colour, linewidth=0.6 if smooth else 1.2, alpha=0.35 if smooth else 1.0)
    if len(steps) == 1:
        axis.plot(steps, values, color=colour, marker="o", markersize=3)
    if smooth:
        values = smoothed(values, max(5, len(values) // 30))
        axis.plot(steps, values, color=colour, linewidth=1.4)
    held_out = [(one.step, one.loss) for one in points if one.what == "evaluation" and one.loss is not None]
    if panel.title == "loss" and held_out:
        axis.plot(*zip(*held_out, strict=True), color=colour, linestyle=":", marker="o", markersize=3.5, linewidth=0.8)
        axis.set_title("loss  (dots: on what was held out)", loc="left", color=INK)
    return float(steps[-1]), float(values[-1])


def _name(axis: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Write beside lines where these end, nothing over anything else."""
    if not ends:
        return
    low, high = axis.get_ylim()
    heights = spread([value for _, value, _, _ in ends], (high - low) * 0.075)
    right = max(step for step, _, _, _ in ends)
    for (_, _, text, colour), height in zip(ends, heights, strict=True):
        axis.annotate(
            text,
            (right, height),
            xytext=(6, 0),
            textcoords="offset points",
            color=colour,
            va="center",
            fontsize=8,
            annotation_clip=False,
        )


def _names(runs: Sequence[str]) -> dict[str, str]:
    """What runs are called in a picture: without the digits at the end of an id where they differ without."""
    short = {run: run.rpartition("-")[0] or run for run in runs}
    return short if len({*short.values()}) == len(runs) else {run: run for run in runs}


def spread(values: Sequence[float], apart: float) -> list[float]:
    """The values, moved no further than it takes for any two to be so far apart."""
    order = np.argsort(values, kind="stable")
    groups: list[tuple[float, int]] = []  # the middle of each group of touching labels, and how many it has
    for value in np.asarray(values, np.float64)[order].tolist():
        middle, count = value, 1
        while groups and middle - (count - 1) * apart / 2 - (groups[-1][0] + (groups[-1][1] - 1) * apart / 2) < apart:
            before, others = groups.pop()
            middle = (before * others + middle * count) / (others + count)
            count += others
        groups.append((middle, count))
    placed = [middle + (place - (count - 1) / 2) * apart for middle, count in groups for place in range(count)]
    found = np.empty(len(values))
    found[order] = placed
    return found.tolist()


def smoothed(values: Floats, width: int) -> Floats:
    """The mean of the values within half a `width` on either side; at the ends, of as many as there are."""
    half = width // 2
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    low, high = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)


def _training(points: Sequence[Point], panel: Panel) -> tuple[Floats, Floats]:
    """The steps at which a quantity was measured in training, and its values."""
    found = [(one.step, panel.value(one)) for one in points if one.what == "training"]
    known = np.array([(step, value) for step, value in found if value is not None], np.float64).reshape(-1, 2)
    return known[:, 0], known[:, 1]


def _title(runs: Mapping[str, tuple[str, Sequence[Point]]]) -> str:
    if len(runs) == 1:
        [(run, (_, points))] = runs.items()
        return f"{run}, {max(point.step for point in points):,} steps"
    return f"{len(runs)} runs: {', '.join(sorted({method for method, _ in runs.values()}))}"


def _colours(count: int) -> list[str]:
    return [COLOURS[number % len(COLOURS)] for number in range(count)]


def _save(figure: Figure, out: Path) -> None:
    made = io.BytesIO()
    # The time at which it was drawn has no place in it.
    metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(out.suffix)
    figure.savefig(made, format=out.suffix[1:], dpi=160, metadata=metadata)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, made.getvalue())
    except OSError as error:
        raise LakeError(f"{out}: {error.strerror or error}", "name another file") from None
