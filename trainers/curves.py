"""What was measured at the steps of a run: `metrics.jsonl`, one object a line.

A line is of training, about the steps since the line before, or of an evaluation. What was not measured is not there:
no line says 0 for something that never ran. A run that goes on from a checkpoint first cuts the lines after it, so the
file has each step once, and is that of a run which was never interrupted but for the times.

Not here: measuring (`metrics`), drawing (`plot`).
"""

import math
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from lake.errors import Damaged, LakeError
from trainers.record import write_whole

NAME = "metrics.jsonl"

What = Literal["training", "evaluation"]


class Point(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a run after `step` steps.

    `seconds` are those that the steps since the last line took, evaluations and checkpoints aside; `tokens` are those
    that all processes read in them, `trained_tokens` those of these that the loss counts. `data_wait` is the share of
    the seconds that the first process waited for batches. `session` counts the interruptions, from 1. `more` is what
    the method measures by itself, by its own names.
    """

    step: int
    what: What = "training"
    at: datetime
    session: int
    loss: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None
    seconds: float | None = None
    tokens: int | None = None
    trained_tokens: int | None = None
    tokens_per_second: float | None = None
    data_wait: float | None = None
    more: dict[str, float] = {}


_OWN = frozenset(Point.__struct_fields__) - {"more"}


def encode(point: Point) -> bytes:
    """A line as it is written, line feed included: what the method measures stands beside the rest."""
    said = msgspec.to_builtins(point)
    said.pop("more", None)
    return msgspec.json.encode({"step": said.pop("step"), "what": point.what, **said, **point.more}) + b"\n"


def decode(line: bytes) -> Point:
    """The point that a line says. Raises msgspec.DecodeError."""
    said: dict[str, Any] = msgspec.json.decode(line, type=dict[str, Any])
    own = {name: value for name, value in said.items() if name in _OWN}
    numbers = {name: value for name, value in said.items() if name not in _OWN and isinstance(value, int | float)}
    return msgspec.convert({**own, "more": numbers}, Point)


def read(folder: str | Path) -> list[Point]:
    """The points of a run's folder, in their order; none where nothing was measured. Raises Damaged."""
    return [point for point, _ in _lines(Path(folder) / NAME)]


class Curve:
    """The file of a run, for who adds to it."""

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / NAME

    def cut(self, step: int) -> None:
        """Leave the lines up to a step. Raises Damaged."""
        if self.path.exists():
            write_whole(self.path, b"".join(line for point, line in _lines(self.path) if point.step <= step))

    def add(self, point: Point, *, durably: bool) -> None:
        """Add a line; `durably`, it is on the disk when this returns."""
        try:
            with self.path.open("ab") as file:
                file.write(encode(point))
                if durably:
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            raise LakeError(f"{self.path}: {error.strerror or error}", "make room, then resume the run") from None


def finite(value: object) -> bool:
    """Whether something is a number that JSON has."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _lines(path: Path) -> Iterator[tuple[Point, bytes]]:
    """The points of a file and the lines that say them. A last line that was not finished says nothing."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    lines = data.splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        if number == len(lines) and not line.endswith(b"\n"):
            return
        try:
            yield decode(line), line
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Damaged(f"{path}: line {number}: {error}", "copy the run's folder again") from None
