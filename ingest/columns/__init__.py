"""Rows as columns: JSON lines that are plainly simple, many at once, in DuckDB.

What is plain is decided in the `.sql` files here, one a kind; each is narrower than what `rows` and `checks` accept,
and comes to the same event and the same sha256 for what it takes. All other rows are left to those two, one by one.

Only the native reader's rows of `KINDS_READ` are read this way; other people's shapes go through their readers.
"""

import hashlib
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest.checks import DEFAULTS
from lake import KINDS
from views.engine import EngineFull, connection

# Rows that DuckDB is handed at a time: few enough for two threads to share a block.
BATCH = 8192
LONGEST = 1 << 20  # bytes of a row; a longer one is no cheaper among others, and its parts take memory
MEMORY = "384MiB"
KINDS_READ = ("evidence", "scores", "tasks")


@cache
def _sql(name: str) -> str:
    return Path(__file__).with_name(f"{name}.sql").read_text("utf-8")


class PlainRows:
    """Reads plain rows of one of `KINDS_READ`. Holds a connection; not to be shared by threads. Close it."""

    def __init__(self, kind: str) -> None:
        self._kind = KINDS[kind]
        self._sql = _sql(kind)
        self._connection = connection(memory_limit=MEMORY)

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def read(self, data: bytes, offsets: np.ndarray) -> pa.Table:
        """The plain ones among rows `data[offsets[i]:offsets[i + 1]]`, as their events.

        Columns: `number` (the row's i, rising), the kind's (those that plain rows can have), `recorded_at`, `sha256`.
        """
        raw = pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data))
        rows = pa.table({"number": pa.array(np.arange(len(raw))), "line": raw})
        closed = _are_closed(data, offsets) & (np.diff(offsets) <= LONGEST)
        try:
            raw.validate(full=True)
        except pa.ArrowInvalid:
            closed &= _are_utf8(data, offsets)
        if not closed.all():
            rows = rows.filter(pa.array(closed))
        read = self._parsed(rows)
        for name, value in DEFAULTS.get(self._kind.name, {}).items():
            column = pc.fill_null(read.column(name), value)
            read = read.set_column(read.column_names.index(name), name, column)
        plain = read.column("is_plain")
        for name, allowed in self._kind.enums.items():
            plain = pc.and_(plain, pc.is_in(read.column(name), pa.array(allowed)))
        read = read.drop_columns("is_plain")
        if not pc.all(plain, min_count=0).as_py():
            read = read.filter(plain)
        digests = [_sha256(chunk) for chunk in read.column("canonical").chunks]
        return read.drop_columns("canonical").append_column("sha256", pa.chunked_array(digests, pa.string()))

    def _parsed(self, rows: pa.Table) -> pa.Table:
        try:
            return self._query(self._sql, rows)
        except EngineFull:
            # Rows of many small values; one by one they take less.
            return self._query(self._sql, rows.slice(0, 0))
        except Exception:
            # One malformed row fails them all; asking each row first would cost every block a fifth more.
            valid = self._query("select json_valid(line) as is_valid from input", rows).column("is_valid")
            if pc.all(valid, min_count=0).as_py():
                raise
            return self._query(self._sql, rows.filter(valid))

    def _query(self, sql: str, rows: pa.Table) -> pa.Table:
        self._connection.register("input", pa.Table.from_batches(rows.to_batches(max_chunksize=BATCH), rows.schema))
        try:
            return self._connection.sql(sql).to_arrow_table()
        finally:
            self._connection.unregister("input")


def _are_closed(data: bytes, offsets: np.ndarray) -> np.ndarray:
    """Which rows end in a value and a brace, with little white space: the parser lets a comma between the two pass."""
    octets = np.frombuffer(data, np.uint8)
    if not len(octets):
        return np.zeros(len(offsets) - 1, bool)
    brace = _last_visible(octets, offsets[1:] - 1)
    value = _last_visible(octets, brace - 1)
    return (octets[brace] == ord("}")) & _ENDS_A_VALUE[octets[value]] & (value > offsets[:-1])


def _last_visible(octets: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Positions, moved back over a few characters of white space."""
    for _ in range(3):
        at = np.maximum(at - _IS_BLANK[octets[np.maximum(at, 0)]], 0)
    return at


def _sha256(texts: pa.Array) -> pa.Array:
    """The sha256 of each text, in hexadecimal."""
    offsets = np.frombuffer(texts.buffers()[1], np.int32, len(texts) + 1, 4 * texts.offset).tolist()
    octets = memoryview(texts.buffers()[2] or b"")
    return pa.array([hashlib.sha256(octets[start:end]).hexdigest() for start, end in pairwise(offsets)], pa.string())


def _octets(characters: str) -> np.ndarray:
    """For each of the 256 octets, whether it is one of these characters."""
    marks = np.zeros(256, bool)
    marks[list(characters.encode())] = True
    return marks


_IS_BLANK = _octets(" \t\r\n").astype(np.int64)
_ENDS_A_VALUE = _octets('"]l0123456789')


def _are_utf8(data: bytes, offsets: np.ndarray) -> np.ndarray:
    return np.array([_is_utf8(data[start:end]) for start, end in pairwise(offsets.tolist())], bool)


def _is_utf8(row: bytes) -> bool:
    try:
        row.decode()
    except UnicodeDecodeError:
        return False
    return True
