"""The tables that relations stand on: the events as they were stored, and the policy.

Not here: the relations themselves, and which of them a query needs (`connect`).
"""

import re
from collections.abc import Sequence

import duckdb
import pyarrow as pa

from lake.errors import Damaged
from lake.kinds import KINDS, LEDGERS, PIN_ORDER
from views.policy import Policy

DAMAGED = "damaged: "  # how the message of a query begins that needs a file which is gone

_PATH = re.compile(r"/?[A-Za-z0-9._/-]+")


def create_pinned(con: duckdb.DuckDBPyConnection) -> None:
    """The pinned tables, of which none has a file yet."""
    con.execute("create schema events")
    for kind in (*PIN_ORDER, *LEDGERS):
        con.execute(f"create view events.{kind} as {pinned(kind, ())}")


def failing(kind: str, message: str) -> str:
    """The SQL of a pinned table that cannot be read: it fails where a query needs any row of it, and not before."""
    said = f"{DAMAGED}{message}".replace("'", "''")
    columns = ", ".join(f"cast(null as {sql_type(field.type)}) as {field.name}" for field in KINDS[kind].schema)
    return f"select {columns} where cast(error('{said}') as boolean)"


def stand_in(kind: str) -> str:
    """The name of the variable that, where it is set, says which files a kind's remote view reads instead."""
    return f"lake_{kind}_files"


def pinned(kind: str, paths: Sequence[str], *, remote: bool = False) -> str:
    """The SQL of one pinned table. A view takes no parameters, so the paths stand in it: such as need no quoting."""
    for path in paths:
        if not _PATH.fullmatch(path.removeprefix("s3://") if remote else path):
            raise Damaged(f"{path!r} is not how a lake names its files", "move the lake to a plainer path")
    schema = KINDS[kind].schema
    if not paths:
        columns = ", ".join(f"cast(null as {sql_type(field.type)}) as {field.name}" for field in schema)
        return f"select {columns} where false"
    listed = ", ".join(f"'{path}'" for path in paths)
    files = f"coalesce(getvariable('{stand_in(kind)}'), [{listed}])" if remote else f"[{listed}]"
    return f"select {', '.join(schema.names)} from read_parquet({files}, union_by_name = true)"


def sql_type(kind: pa.DataType) -> str:
    """The DuckDB name of an Arrow type that events use."""
    if pa.types.is_struct(kind):
        return f"struct({', '.join(f'{field.name} {sql_type(field.type)}' for field in kind)})"
    if pa.types.is_list(kind):
        return f"{sql_type(kind.value_type)}[]"
    return _SQL_TYPES[kind]


_SQL_TYPES = {
    pa.string(): "varchar",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.float64(): "double",
    pa.bool_(): "boolean",
    pa.timestamp("us", "UTC"): "timestamptz",
}


def create_policy(con: duckdb.DuckDBPyConnection, policy: Policy) -> None:
    """The tables in which the relations find what a policy says, as values."""
    con.execute(
        "create table policy"
        " (include_partial boolean, include_review boolean, pairs_per_task bigint, check_files boolean,"
        " include_completions boolean)"
    )
    con.execute(
        "insert into policy values (?, ?, ?, ?, ?)",
        [
            policy.include_partial,
            policy.include_review,
            policy.pairs_per_task,
            policy.known_files is not None,
            policy.include_completions,
        ],
    )
    con.execute("create table policy_choices (partial_label boolean, wanted_domain varchar, wanted_pool varchar)")
    con.execute("insert into policy_choices values (?, ?, ?)", [policy.partial_label, policy.domain, policy.pool])
    con.execute("create table precedence (scorer varchar, place bigint)")
    con.execute(
        "insert into precedence select unnest(?::varchar[]), unnest(range(?))",
        [list(policy.precedence), len(policy.precedence)],
    )
    con.execute("create table known_files (path varchar)")
    con.execute("insert into known_files select distinct unnest(?::varchar[])", [list(policy.known_files or ())])
    replay = policy.replay
    con.execute(
        "create table replay_policy (max_bytes bigint, retention double, retention_seed varchar, scheme varchar,"
        " now timestamptz, auto_mined boolean)"
    )
    con.execute(
        "insert into replay_policy values (?, ?, ?, ?, ?, ?)",
        [replay.max_bytes, replay.retention, str(replay.retention_seed), replay.scheme, replay.now, replay.auto_mined],
    )
    con.execute("create table replay_protected (section_id varchar)")
    con.execute("insert into replay_protected select distinct unnest(?::varchar[])", [list(replay.protected)])
    for name, (columns, rows) in policy.quality.tables.items():
        con.execute(f"create table {name} ({columns})")
        if rows:
            places = ", ".join(f"({', '.join('?' * len(row))})" for row in rows)
            con.execute(f"insert into {name} values {places}", [value for row in rows for value in row])
