"""Rows of tokens, each of which counts or does not, written as shards."""

from collections.abc import Sequence
from pathlib import Path

from trainers.shards import Description, writing

MADE_FROM = {"snapshot": "0" * 32, "dataset": "sft"}
Marked = Sequence[tuple[int, bool]]


def write(folder: Path, rows: Sequence[Sequence[Marked]], fields: Sequence[str] = ("text",)) -> Description:
    """Write rows, each a list of (token, counts?) for every field."""
    with writing(folder, fields) as writer:
        for number, row in enumerate(rows):
            parts = {name: tuple(zip(*part, strict=True)) or ((), ()) for name, part in zip(fields, row, strict=True)}
            writer.add({"id": f"row-{number}", "task_id": "t"}, parts)
        return writer.finish(MADE_FROM, {"offered": len(rows)})
