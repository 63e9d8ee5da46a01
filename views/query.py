"""Runs what a user typed, which may only read.

Four walls, each enough for most of it: one statement, of a kind that reads; a transaction that writes to no table; a
connection that opens no file but the pinned ones (`connect`), and whose settings are locked. The first is what gives a
plain answer; the others hold where it is wrong, as with an INSERT inside a WITH.

Not here: how the answer is shown.
"""

from collections.abc import Iterator

import duckdb
import pyarrow as pa

from lake.errors import Damaged, LakeError, UsageError
from lake.files import VERIFY
from views.tables import DAMAGED

BATCH_ROWS = 8192
_READS = "SELECT, FROM, WITH, VALUES, DESCRIBE, SUMMARIZE, SHOW, and EXPLAIN of these"


class Refused(UsageError):
    """A statement that does more than read."""


class QueryFailed(UsageError):
    """A query that DuckDB could not parse, bind or finish."""


def query(con: duckdb.DuckDBPyConnection, text: str) -> pa.RecordBatchReader:
    """The rows that one reading statement gives, as they come. Raises Refused or QueryFailed, also while being read."""
    _check(text)
    cursor = con.cursor()
    try:
        cursor.execute("begin transaction read only")
        reader: pa.RecordBatchReader = cursor.sql(text).to_arrow_reader(BATCH_ROWS)
        return pa.RecordBatchReader.from_batches(reader.schema, _batches(cursor, reader))
    except duckdb.Error as error:
        cursor.close()
        raise _failure(error) from None


def _batches(cursor: duckdb.DuckDBPyConnection, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    try:
        yield from reader
    except (duckdb.Error, OSError, pa.ArrowException) as error:
        raise _failure(error) from None
    finally:
        cursor.close()


def _check(text: str) -> None:
    """Refuses what is not one reading statement."""
    statements = _parse(text)
    if not statements:
        raise Refused("there is no statement in this", f"type one of {_READS}")
    if len(statements) > 1:
        raise Refused(f"these are {len(statements)} statements, and only one is run", "send them one by one")
    statement = statements[0]
    kind = _kind(statement)
    if kind == duckdb.StatementType.EXPLAIN:
        kind = _explained(statement.query)
    if kind == duckdb.StatementType.MULTI:
        raise Refused("a PIVOT as a statement of its own makes a type first", "say FROM (PIVOT … ON … IN (…))")
    if kind != duckdb.StatementType.SELECT:
        name = "this" if kind == duckdb.StatementType.INVALID else kind.name
        raise Refused(f"{name} does more than read", f"what runs here is {_READS}")


def _kind(statement: duckdb.Statement) -> duckdb.StatementType:
    """What a statement does; INVALID where DuckDB's Python has no name for it, as for UPDATE EXTENSIONS."""
    try:
        return statement.type
    except ValueError:
        return duckdb.StatementType.INVALID


def _explained(text: str) -> duckdb.StatementType:
    """What an EXPLAIN explains: the first of its endings that is a statement of its own."""
    encoded = text.encode()
    for offset, _ in duckdb.tokenize(text)[1:]:
        try:
            statements = duckdb.extract_statements(encoded[offset:].decode())
        except (duckdb.Error, UnicodeDecodeError):
            continue
        if len(statements) == 1:
            return _kind(statements[0])
    return duckdb.StatementType.INVALID


def _parse(text: str) -> list[duckdb.Statement]:
    try:
        return duckdb.extract_statements(text)
    except duckdb.Error as error:
        raise _failure(error) from None


def _failure(error: Exception) -> LakeError:
    """The first line of what DuckDB says; where in the query, if it says so, becomes the hint."""
    first, _, rest = str(error).strip().partition("\n")
    if DAMAGED in first:
        return Damaged(first.partition(DAMAGED)[2], f"{VERIFY}; what does not need it can be asked")
    if isinstance(error, duckdb.PermissionException):
        return Refused(first, "a query reads the snapshot's own relations: SHOW TABLES lists them")
    if "read-only mode" in first:
        return Refused("a query cannot write, also not inside a WITH", f"what runs here is {_READS}")
    if isinstance(error, duckdb.OutOfMemoryException):
        return QueryFailed(first, "ask for fewer rows or columns")
    hint = " ".join(rest.split()) or None
    if isinstance(error, duckdb.CatalogException) and "able" in first:
        hint = "SHOW TABLES lists what there is" if hint is None else f"{hint}; SHOW TABLES lists what there is"
    return QueryFailed(first, hint)
