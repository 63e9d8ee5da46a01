"""Which rows each step of a run takes, in one Parquet file that needs nothing else to be read.

A row of the ledger is a piece of a row that a step took: the `id` of the row, the `step` (from 0) that took it, and how
many of its `tokens` that were. A row that is taken again, in another epoch or to fill up a step, is there again, and a
document that was cut is there once for each piece. What the plan says is what a run does: a checkpoint at step N has
seen exactly the pieces whose step is less than N.

It is sorted by id and step. So an id is written down once, however often its row is taken; and where a row was taken is
found in one row group of the file, by its statistics. One epoch over rows that are named by a hash costs about 11 bytes
a row, and each further one about 4.

Not here: what the rows say, and keeping a ledger in a lake (`receipts`).
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.errors import Damaged
from trainers.order import Places
from trainers.plan import Laid, Plan
from trainers.shards import Shards

NAME = "ledger.parquet"
GROUP_ROWS = 1 << 17

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("step", pa.int32(), nullable=False),
        pa.field("tokens", pa.int32(), nullable=False),
    ]
)

Source = str | Path | bytes


def write(path: str | Path, plan: Plan, shards: Shards) -> int:
    """Write the ledger of a plan over its shards, whole or not at all; how many pieces it has."""
    path = Path(path)
    table = of(plan, shards)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with scratch.open("wb") as file:
            with pq.ParquetWriter(
                file,
                SCHEMA,
                compression="zstd",
                use_dictionary=False,
                # Sorted ids share how they begin; of a number below 2^31 the first bytes hardly vary.
                column_encoding={
                    "id": "DELTA_BYTE_ARRAY",
                    "step": "BYTE_STREAM_SPLIT",
                    "tokens": "BYTE_STREAM_SPLIT",
                },
                write_page_checksum=True,
                store_schema=False,
            ) as writer:
                writer.write_table(table, row_group_size=GROUP_ROWS)
                writer.add_key_value_metadata({"plan": plan.digest, "steps": str(plan.steps)})
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    return len(table)


def of(plan: Plan, shards: Shards) -> pa.Table:
    """The ledger of a plan over its shards: one row for each piece that a step takes, by id and step."""
    ids = shards.rows(["id"])["id"].combine_chunks()
    taken = [_taken(laid) for laid in plan.stages]
    document, step, tokens = (np.concatenate(column) for column in zip(*taken, strict=True))
    rank = np.empty(len(ids), np.int64)
    rank[pc.sort_indices(ids).to_numpy()] = np.arange(len(ids))
    order = np.lexsort((step, rank[document]))
    columns = [ids.take(pa.array(document[order])), step[order].astype(np.int32), tokens[order].astype(np.int32)]
    return pa.table(columns, schema=SCHEMA)


def rows_of(ledger: Source, upto_step: int | None = None) -> pa.Table:
    """The rows that the steps before `upto_step` took, all steps unless given, one row each, by id.

    Columns: `id`, `first_step` and `last_step` that took it, `times` it was taken, and how many `tokens` in all.
    """
    table = _read(ledger, None)
    if upto_step is not None:
        table = table.filter(pc.less(table["step"], upto_step))
    starts = _starts(table["id"].combine_chunks())
    step, tokens = table["step"].to_numpy(), table["tokens"].to_numpy().astype(np.int64)
    ends = np.append(starts, len(table))[1:]
    columns = {
        "id": table["id"].take(pa.array(starts)),
        "first_step": pa.array(step[starts], pa.int64()),
        "last_step": pa.array(step[ends - 1], pa.int64()),
        "times": pa.array(ends - starts, pa.int64()),
        "tokens": pa.array(np.add.reduceat(tokens, starts) if len(starts) else tokens, pa.int64()),
    }
    return pa.table(columns)


def steps_of(ledger: Source, row_ids: str | Sequence[str], upto_step: int | None = None) -> list[int]:
    """The steps, before `upto_step` if given, that took a row of this id, or of one of these, each once, in order."""
    wanted = [row_ids] if isinstance(row_ids, str) else list(row_ids)
    found = _read(ledger, pc.field("id").isin(wanted))["step"].to_numpy()
    steps = np.unique(found)
    return (steps if upto_step is None else steps[steps < upto_step]).tolist()


def plan_of(ledger: Source) -> str:
    """The digest of the plan that it is the ledger of. Raises Damaged."""
    try:
        said = pq.read_schema(_opened(ledger)).metadata or {}
        return said[b"plan"].decode()
    except (pa.ArrowException, OSError, KeyError) as error:
        raise _damaged(ledger, error) from None


def tokens_at(plan: Plan, shards: Shards, step: int) -> tuple[int, int]:
    """How many tokens all processes together read at a step, and how many of these a loss counts.

    An example of a prompt and its answers is one text for each answer, as a model reads it; an answer that is still to
    be made is none. A label is of the token before, so the first token of a text, or of a piece of one, is no label.
    """
    laid = plan.stage_at(step)
    pieces = _pieces(laid, plan.rows(step))
    if "text" in shards.fields:
        field = shards.fields["text"]
        starts, lengths = field.offsets[laid.document[pieces]] + laid.offset[pieces], laid.lengths[pieces]
        ends = zip((starts + 1).tolist(), (starts + lengths).tolist(), strict=True)
        counted = sum(int(np.count_nonzero(field.trained[first:stop])) for first, stop in ends)
        return int(lengths.sum()), counted
    prompt = shards.fields["prompt"]
    answers = [field for name, field in shards.fields.items() if name != "prompt"]
    read = counted = 0
    for row in laid.document[pieces].tolist():
        asked = len(prompt.row(row)[0])
        read += asked * max(1, len(answers))
        for answer in answers:
            tokens, marks = answer.row(row)
            read += len(tokens)
            counted += int(np.count_nonzero(marks[0 if asked else 1 :]))
    return read, counted


def _taken(laid: Laid) -> tuple[Places, Places, Places]:
    """Each piece that the steps of a stage take, in their order: its document, step and tokens."""
    rows = np.arange(laid.steps * laid.stage.rows, dtype=np.int64)
    pieces = _pieces(laid, rows % laid.count)
    counts = laid.row_offsets[rows % laid.count + 1] - laid.row_offsets[rows % laid.count]
    steps = np.repeat(laid.first + rows // laid.stage.rows, counts)
    return laid.document[pieces], steps, laid.lengths[pieces]


def _pieces(laid: Laid, rows: Places) -> Places:
    """The pieces that rows hold, row after row."""
    first = laid.row_offsets[rows]
    counts = laid.row_offsets[rows + 1] - first
    within = np.arange(int(counts.sum()), dtype=np.int64) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(first, counts) + within


def _starts(ids: pa.Array) -> Places:
    """Where each run of equal values begins."""
    if not len(ids):
        return np.empty(0, np.int64)
    changes = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
    return np.concatenate([[0], np.flatnonzero(changes) + 1])


def _read(ledger: Source, wanted: pc.Expression | None) -> pa.Table:
    try:
        found = pq.read_table(_opened(ledger), filters=wanted, page_checksum_verification=True)
        return found.replace_schema_metadata(None).cast(SCHEMA)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(ledger, error) from None


def _opened(ledger: Source) -> str | pa.BufferReader:
    return str(ledger) if isinstance(ledger, str | Path) else pa.BufferReader(ledger)


def _damaged(ledger: Source, error: Exception) -> Damaged:
    named = str(ledger) if isinstance(ledger, str | Path) else "a ledger"
    return Damaged(f"{named}: {str(error).partition(chr(10))[0]}", "copy the run's folder again")
