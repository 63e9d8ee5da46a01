"""Mutations: code with a fault, what the tests said of it, and the code without; to learn mending from.

Both sides are whole files, or both are the same part of one, and the column `extent` says which.
"""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from exporters.dataset import Dataset, Fault, Rows, Shape
from exporters.faults import blank, not_in, provenance, turns
from exporters.runs import RECORD, exchange

EXTENTS = frozenset({"file", "snippet"})

_ASKED = """concat(
    'The tests fail on this ', case extent when 'file' then 'file' else 'part of a file' end, ', ', repo, '/', file,
    ':', chr(10), chr(10), '```', language, chr(10), rtrim(buggy_code, chr(10)), chr(10), '```', chr(10), chr(10),
    'They say:', chr(10), chr(10), '```', chr(10), error_message, chr(10), '```', chr(10), chr(10),
    'Mend it, and write all of it again.'
)"""
_TOLD = "concat('```', language, chr(10), rtrim(fixed_code, chr(10)), chr(10), '```')"
_CODE = ("buggy_code", "error_message", "fixed_code", "repo", "file", "extent")


def _faults(rows: Rows, batch: pa.RecordBatch) -> Iterator[Fault]:
    yield from blank(batch, "id", "task_id", "source_run_id", "event_id")
    yield from provenance(batch.column("provenance"), "provenance")
    outcome = batch.column("outcome")
    yield pc.and_(pc.is_valid(outcome), not_in(outcome, frozenset({"caught", "unviable"}))), "no test found the fault"
    if rows.shape == "conversational":
        yield from turns(batch.column("messages"), "messages", "assistant")
        return
    yield from blank(batch, *_CODE)
    yield not_in(batch.column("extent"), EXTENTS), "extent must be file or snippet"
    sides = [pc.utf8_trim_whitespace(batch.column(name)) for name in ("buggy_code", "fixed_code")]
    yield pc.equal(*sides), "buggy_code and fixed_code say the same"


DATASET = Dataset(
    name="mutations",
    one_row="One row is one fault that tests found: the code with it, what they said, and the code without it.",
    shapes={
        "plain": Shape({name: name for name in _CODE}),
        "conversational": Shape({"messages": exchange(_ASKED, _TOLD)}),
    },
    provenance=("source_run_id", "task_id", "outcome", "operator", "language", "created_at", "provenance", "event_id"),
    record=RECORD,
    faults=_faults,
    said="fixed_code",
    group="concat(repo, chr(0), file)",
)
