"""What the commands print: rows on stdout, everything else on stderr.

stdout carries data and nothing else, as a table to read or as JSON, JSON lines or CSV to pipe. Remarks, progress and
errors go to stderr. Nothing depends on colour; NO_COLOR turns it off (https://no-color.org).
"""

import csv
import io
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice
from types import TracebackType
from typing import Any, Self

import msgspec
import pyarrow as pa
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

CELL = 72  # characters of a cell in a table; data formats cut nothing
ROWS_SHOWN = 40
PROGRESS_AFTER = 1.0  # seconds
INTERRUPTED = 130  # the exit code that typer makes of Ctrl-C

Row = dict[str, Any]


class ReaderGone(Exception):
    """Whoever read our output has seen enough, as `head` does."""


class Format(StrEnum):
    """How rows are printed."""

    table = "table"
    json = "json"
    jsonl = "jsonl"
    csv = "csv"


def show(rows: Iterable[Row] | pa.RecordBatchReader, form: Format, columns: Sequence[str] | None = None) -> None:
    """Print rows on stdout. A table shows the first of them and says on stderr how to see the rest."""
    if isinstance(rows, pa.RecordBatchReader):
        columns = _unique(rows.schema.names)
        rows = _rows_of(rows, columns)
    if form is Format.table:
        _show_table(rows, columns)
    elif form is Format.csv:
        _show_csv(rows, columns)
    elif form is Format.jsonl:
        for row in rows:
            _write(_json(row) + "\n")
    else:
        _write("[")
        for number, row in enumerate(rows):
            _write((",\n " if number else "\n ") + _json(row))
        _write("\n]\n")


def say(message: str) -> None:
    """Print a remark on stderr."""
    print(message, file=sys.stderr)


def fail(message: str, hint: str | None) -> None:
    """Print an error on stderr: one line that says what is wrong, one that says what to do."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text.assemble(("error: ", "bold red"), _printable(message)))
    if hint:
        console.print(Text.assemble(("hint: ", "bold cyan"), _printable(hint)))


class Meter:
    """Progress on stderr, if it is a terminal and the work takes over a second: how much, how fast, how long yet."""

    def __init__(self, what: str, unit: str) -> None:
        self._what = what
        self._unit = unit
        self._since = time.monotonic()
        self._bar: Progress | None = None
        self._task: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int | None, what: str | None = None) -> None:
        """Say how far the work has come, in the meter's unit."""
        if self._bar is None:
            if not sys.stderr.isatty() or time.monotonic() - self._since < PROGRESS_AFTER:
                return
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                _Rate(self._unit),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(self._what, total=total)
            self._bar.start()
        self._bar.update(self._task, completed=done, total=total, description=what or self._what)


class _Rate(ProgressColumn):
    """Done, total and rate, in bytes or in things."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Any) -> Text:
        done, total = amount(int(task.completed), self._unit), task.total
        of = f" of {amount(int(total), self._unit)}" if total else ""
        rate = f", {amount(int(task.speed), self._unit)}/s" if task.speed else ""
        return Text(f"{done}{of}{rate}")


def counted(number: int, thing: str) -> str:
    """A number of things in words: `1 row`, `45,200 rows`."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def amount(number: int, unit: str) -> str:
    """A number with its unit, short: `1.2 GB`, `45,200 rows`."""
    if unit != "B":
        return f"{number:,} {unit}"
    size = float(number)
    for prefix in ("B", "kB", "MB", "GB"):
        if size < 1000 or prefix == "GB":
            break
        size /= 1000
    return f"{size:.0f} {prefix}" if prefix == "B" else f"{size:.1f} {prefix}"


def _unique(names: Sequence[str]) -> list[str]:
    """The names, a second `x` called `x_1`, so that no column of a row hides another."""
    unique: list[str] = []
    for name in names:
        number, free = 0, name
        while free in unique:
            number += 1
            free = f"{name}_{number}"
        unique.append(free)
    return unique


def _rows_of(reader: pa.RecordBatchReader, names: Sequence[str]) -> Iterator[Row]:
    for batch in reader:
        for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield dict(zip(names, values, strict=True))


def _show_table(rows: Iterable[Row], columns: Sequence[str] | None) -> None:
    iterator = iter(rows)
    first = list(islice(iterator, ROWS_SHOWN))
    names = list(columns) if columns is not None else list(first[0]) if first else []
    numeric = {name for name in names if _is_numeric(row.get(name) for row in first)}
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in names:
        table.add_column(
            name, no_wrap=True, overflow="ellipsis", justify="right" if name in numeric and first else "left"
        )
    for row in first:
        table.add_row(*(Text(_cell(row.get(name))) for name in names))
    # Off a terminal nothing is squeezed: the reader is a pipe or a file.
    console = Console(width=None if sys.stdout.isatty() else 10_000, highlight=False)
    if names:
        with console.capture() as captured:
            console.print(table)
        _write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
    more = sum(1 for _ in iterator)
    if more:
        say(f"{more:,} more rows are not shown; --format jsonl or csv prints them all")
    elif not first:
        say("no rows")


def _is_numeric(values: Iterable[Any]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in known)


def _show_csv(rows: Iterable[Row], columns: Sequence[str] | None) -> None:
    names = list(columns) if columns is not None else None
    for row in rows:
        if names is None:
            names = list(row)
            _write(_csv_line(names))
        elif columns is not None:
            _write(_csv_line(names))
            columns = None
        _write(_csv_line([_plain(row.get(name)) for name in names]))
    if columns is not None and names is not None:
        _write(_csv_line(names))


def _csv_line(values: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


def _plain(value: Any) -> Any:
    if isinstance(value, dict | list):
        return _json(value)
    if isinstance(value, datetime):
        return _time(value)
    if isinstance(value, bool):
        return str(value).lower()
    return value


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return _time(value)
    text = value if isinstance(value, str) else _json(value) if isinstance(value, dict | list) else str(_plain(value))
    text = _printable(" ".join(text.split()))
    return text if len(text) <= CELL else text[: CELL - 1] + "…"


def _printable(text: str) -> str:
    """Text from outside, without what would move the cursor or change the colours of a terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _time(value: datetime) -> str:
    moment = value.astimezone(UTC) if value.tzinfo else value
    text = moment.isoformat(sep=" ", timespec="microseconds" if moment.microsecond else "seconds")
    return text.replace("+00:00", "Z")


def _json(value: Any) -> str:
    return _ENCODER.encode(value).decode()


_ENCODER = msgspec.json.Encoder(enc_hook=str, decimal_format="number")


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
    except BrokenPipeError:
        raise ReaderGone from None
