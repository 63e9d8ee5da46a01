"""Rows of the shapes that SQL cannot make: rendered in batches, then written as JSON lines like all others."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pyarrow as pa

from exporters.dataset import Rows
from exporters.formats import LINE

_ENCODER = msgspec.json.Encoder()


def render(rows: Rows, batch: pa.RecordBatch, *, lines: bool) -> pa.RecordBatch:
    """The batch as its shape renders it; with a column `line` of JSON lines if wanted."""
    assert rows.made.render is not None
    made = rows.made.render(rows, batch)
    if not lines:
        return made
    written = pa.array([_line(rows, row) for row in made.select(list(rows.columns)).to_pylist()], pa.string())
    return made.append_column(LINE, written)


def _line(rows: Rows, row: dict[str, Any]) -> str:
    for name in rows.json:
        row[name] = None if row[name] is None else msgspec.Raw(row[name].encode())
    for name, value in row.items():
        if isinstance(value, datetime):
            row[name] = value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return _ENCODER.encode(row).decode() + "\n"
