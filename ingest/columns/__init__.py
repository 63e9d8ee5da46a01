"""Rows as columns: JSON lines that are plainly simple, many at once, in DuckDB.

What is plain is decided in the `.sql` files here, one a kind; each is narrower than what `rows` and `checks` accept,
and comes to the same event and the same sha256 for what it takes. All other rows are left to those two, one by one.

Only the native reader's rows are read this way; other people's shapes go through their readers.
"""

from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest.readers.native import DEFAULTS
from lake import KINDS
from views.engine import connection

# Rows that DuckDB is handed at a time: few enough for two threads to share a block.
BATCH = 8192

@cache
def _sql(name: str) -> str:
    return Path(__file__).with_name(f"{name}.sql").read_text("utf-8")


class PlainRows:
    """Reads plain rows of one kind. Holds a connection; not to be shared by threads. Close it."""

    def __init__(self, kind: str) -> None:
        self._kind = KINDS[kind]
        self._sql = _sql(kind)
        self._connection = connection()
        self._connection.execute(_sql("member"))

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def read(self, data: bytes, offsets: np.ndarray) -> pa.Table:
        """The plain ones among rows `data[offsets[i]:offsets[i + 1]]`, as their events.

        Columns: `number` (the row's i, rising), the kind's (those that plain rows can have), `recorded_at`, `sha256`.
        """
        count = len(offsets) - 1
        raw = pa.LargeStringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(data))
        rows = pa.table({"number": pa.array(np.arange(count)), "line": raw})
        try:
            raw.validate(full=True)
        except pa.ArrowInvalid:
            rows = rows.filter(pa.array(_are_utf8(data, offsets)))
        self._connection.register("input", pa.Table.from_batches(rows.to_batches(max_chunksize=BATCH), rows.schema))
        try:
            read = self._connection.sql(self._sql).to_arrow_table()
        finally:
            self._connection.unregister("input")
        for name, value in DEFAULTS[self._kind.name].items():
            column = pc.fill_null(read.column(name), value)
            read = read.set_column(read.column_names.index(name), name, column)
        plain = read.column("is_plain")
        for name, allowed in self._kind.enums.items():
            plain = pc.and_(plain, pc.is_in(read.column(name), pa.array(allowed)))
        return read.drop_columns("is_plain").filter(plain)


def _are_utf8(data: bytes, offsets: np.ndarray) -> list[bool]:
    bounds = offsets.tolist()
    return [_is_utf8(data[start:end]) for start, end in pairwise(bounds)]


def _is_utf8(row: bytes) -> bool:
    try:
        row.decode()
    except UnicodeDecodeError:
        return False
    return True
