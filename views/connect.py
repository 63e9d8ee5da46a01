"""Opens the relations over a snapshot.

Each relation is one `.sql` file in a folder of this package, its name the file's. They become views of an in-memory
database, over the Parquet files that the snapshot pins; the pinned tables themselves are in the schema `events`. The
connection can read those files and nothing else, and its settings are locked.

Not here: what the relations mean (their files say), and running what a user typed (`query`).
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import duckdb
import msgspec
import pyarrow as pa

from lake.errors import Damaged, LakeError
from lake.kinds import KINDS, LEDGERS, PIN_ORDER
from views import engine, gates
from views.policy import Policy

FOLDERS = ("functions", "facts", "state", "prompts", "datasets", "quarantine", "health", "history", "replay", "quality")
# What the policy becomes; the other relations read them by these names.
POLICY_TABLES = (
    "policy",
    "policy_choices",
    "precedence",
    "known_files",
    "replay_policy",
    "replay_protected",
    *gates.TABLES,
)

DAMAGED = "damaged: "  # how the message of a query begins that needs a file which is gone

_WORD = re.compile(r"[a-z_][a-z0-9_]*")
_USED = re.compile(r"\b(?:from|join)\s+([a-z][a-z0-9_]*)|\b([a-z][a-z0-9_]*)\(")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_FUNCTION = re.compile(r"(?:\s*--[^\n]*\n)*\s*create macro ([a-z][a-z0-9_]*)\(")
_PATH = re.compile(r"/?[A-Za-z0-9._/-]+")


class Pinned(Protocol):
    """What the views need of a snapshot: the Parquet files of each kind."""

    def paths(self, kind: str) -> list[str]:
        """The local paths of a kind's files."""
        ...


class Rules(LakeError):
    """The SQL given for the relations is not one SELECT each, or they go round in a circle."""


@cache
def sources() -> Mapping[str, str]:
    """The SQL of the installed relations and functions by name, in name order."""
    here = Path(__file__).parent
    files = sorted(path for folder in FOLDERS for path in (here / folder).glob("*.sql"))
    return MappingProxyType({path.stem: path.read_text("utf-8") for path in sorted(files, key=lambda path: path.stem)})


def dumps(sql: Mapping[str, str]) -> bytes:
    """The canonical bytes of a set of sources: JSON, names in order."""
    return msgspec.json.encode(dict(sql), order="deterministic")


def loads(data: bytes) -> dict[str, str]:
    """The sources that `dumps` wrote. Raises Damaged."""
    try:
        return msgspec.json.decode(data, type=dict[str, str])
    except msgspec.DecodeError as error:
        raise Damaged(f"these are no sources of views: {error}") from None


def digest(sql: Mapping[str, str]) -> str:
    """The sha256 of a set of sources, as hex: the name under which a lake keeps them."""
    return hashlib.sha256(dumps(sql)).hexdigest()


def needed(text: str, sql: Mapping[str, str] | None = None) -> dict[str, str]:
    """The sources of the relations that a query names, and of those that they need in turn; empty if it names none.

    Opening all relations costs half a second, those of one dataset half of that. A word that happens to be a relation's
    name brings that relation along, which does no harm.
    """
    known = sources() if sql is None else sql
    found: dict[str, str] = {}
    waiting = [text.lower()]
    while waiting:
        named = {word for word in _WORD.findall(waiting.pop()) if word in known and word not in found}
        found |= {name: known[name] for name in named}
        # Of a relation's own words only those count that stand where a relation or a function does.
        waiting += (" ".join(map("".join, _USED.findall(known[name]))) for name in named)
    return dict(sorted(found.items()))


def of_dataset(text: str, dataset: str) -> str:
    """Of a relation over all datasets the part that is about one, which takes less to bind; all of it if none is."""
    own = [each for each in text.split("\nunion all\n") if f"'{dataset}' as dataset" in each]
    return own[0] if len(own) == 1 else text


def connect(
    snapshot: Pinned,
    policy: Policy | None = None,
    *,
    sql: Mapping[str, str] | None = None,
    threads: int | None = None,
    memory_limit: str = engine.MEMORY_LIMIT,
    folders: Sequence[str] = (),
    ledgers: Mapping[str, Sequence[str]] | None = None,
    as_far_as_whole: bool = False,
) -> duckdb.DuckDBPyConnection:
    """An in-memory database with every relation as a view over the snapshot's files.

    The ledgers are no part of a snapshot: those have rows whose files `ledgers` names, as they are now.

    `sql` replaces the installed sources by others, such as those of an older export. The connection reads the pinned
    files alone, and writes nothing, unless `folders` names some in which it may. Raises Damaged if a file's name is not
    one that a lake gives, Rules if `sql` is not a set of relations.

    A data file that is gone raises Damaged too; `as_far_as_whole`, only once a query reads a table that needs it.
    """
    damaged = _damaged(snapshot) if as_far_as_whole else {}
    ledgers = ledgers or {}
    con = engine.connection(threads=threads, memory_limit=memory_limit)
    try:
        pinned = [path for kind in PIN_ORDER if kind not in damaged for path in snapshot.paths(kind)]
        con.execute("set allowed_paths = ?", [[*pinned, *chain.from_iterable(ledgers.values())]])
        con.execute("set allowed_directories = ?", [list(folders)])
        con.execute("set enable_external_access = false")
        define(con, snapshot, policy or Policy(), sql, ledgers=ledgers, damaged=damaged)
        con.execute("set lock_configuration = true")
    except BaseException:
        con.close()
        raise
    return con


def define(
    con: duckdb.DuckDBPyConnection,
    snapshot: Pinned,
    policy: Policy,
    sql: Mapping[str, str] | None = None,
    *,
    ledgers: Mapping[str, Sequence[str]] | None = None,
    remote: Mapping[str, Sequence[str]] | None = None,
    damaged: Mapping[str, str] | None = None,
) -> None:
    """Creates the tables, the policy and all relations in the connection's current database.

    The files come last: making a view binds all that it reads, and over files that means opening each, for every view.

    `remote` has addresses for each kind, to be read instead of the snapshot's local files by whoever can. As they
    cannot be opened here, the variables `stand_in` must name files that can, of the same columns.
    """
    _create_pinned(con)
    _create_policy(con, policy)
    _create_relations(con, gates.as_they_stand(sources() if sql is None else sql, policy.quality))
    damaged = damaged or {}
    for kind, message in damaged.items():
        con.execute(f"create or replace view events.{kind} as {_failing(kind, message)}")
    for kind in (*PIN_ORDER, *LEDGERS):
        if kind in damaged:
            continue
        if remote is not None:
            paths = remote.get(kind, ())
        else:
            paths = snapshot.paths(kind) if kind in PIN_ORDER else (ledgers or {}).get(kind, ())
        if paths:
            con.execute(f"create or replace view events.{kind} as {_pinned(kind, paths, remote=remote is not None)}")


def _damaged(snapshot: Pinned) -> dict[str, str]:
    """The kinds of which a file is gone or cut, each with what is wrong."""
    found = {}
    for kind in PIN_ORDER:
        try:
            snapshot.paths(kind)
        except Damaged as error:
            found[kind] = error.message
    return found


def _failing(kind: str, message: str) -> str:
    """The SQL of a pinned table that cannot be read: it fails where a query needs any row of it, and not before."""
    said = f"{DAMAGED}{message}".replace("'", "''")
    columns = ", ".join(f"cast(null as {sql_type(field.type)}) as {field.name}" for field in KINDS[kind].schema)
    return f"select {columns} where cast(error('{said}') as boolean)"


def stand_in(kind: str) -> str:
    """The name of the variable that, where it is set, says which files a kind's remote view reads instead."""
    return f"lake_{kind}_files"


def _pinned(kind: str, paths: Sequence[str], *, remote: bool = False) -> str:
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


def _create_policy(con: duckdb.DuckDBPyConnection, policy: Policy) -> None:
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


def _create_relations(con: duckdb.DuckDBPyConnection, sql: Mapping[str, str]) -> None:
    functions, stubs = _laid_out(tuple(sql.items()))
    for name in functions:
        con.execute(sql[name])
    for name, stub in stubs:
        con.execute(f"create view {name} as {stub}")
    for name, _ in reversed(stubs):
        con.execute(f"create or replace view {name} as {sql[name]}")


@lru_cache(maxsize=64)
def _laid_out(sql: tuple[tuple[str, str], ...]) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """The names of the functions, and of the relations with a stub each, a relation after those that it needs.

    A stub is the SQL of an empty relation of the same columns. Making a view binds all that it reads, down to the
    tables, and so does making each view above it: where those that it needs are still stubs, it binds itself alone.
    """
    texts = dict(sql)
    functions = tuple(name for name, text in sql if _FUNCTION.match(text))
    with engine.connection() as con:
        _create_pinned(con)
        _create_policy(con, Policy())
        for name in functions:
            _check(name, texts[name], duckdb.StatementType.CREATE)
            con.execute(texts.pop(name))
        needs = {}
        for name, text in texts.items():
            _check(name, text, duckdb.StatementType.SELECT)
            needs[name] = _tables(con, text) & texts.keys()
        stubs = []
        for name in _in_order(needs):
            described = con.execute(f"describe {texts[name]}").fetchall()
            columns = (f"""cast(null as {kind}) as "{column.replace('"', '""')}\"""" for column, kind, *_ in described)
            stubs.append((name, f"select {', '.join(columns)} where false"))
            con.execute(f"create view {name} as {stubs[-1][1]}")
    return functions, tuple(stubs)


def _create_pinned(con: duckdb.DuckDBPyConnection) -> None:
    """The pinned tables, of which none has a file yet."""
    con.execute("create schema events")
    for kind in (*PIN_ORDER, *LEDGERS):
        con.execute(f"create view events.{kind} as {_pinned(kind, ())}")


def _tables(con: duckdb.DuckDBPyConnection, text: str) -> set[str]:
    """The names of the tables that a SELECT reads; those of its own CTEs are among them."""
    row = con.execute("select json_serialize_sql(?::varchar)", [text]).fetchone()
    assert row is not None
    names = set()
    nodes = [msgspec.json.decode(row[0])]
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            if node.get("type") == "BASE_TABLE" and not node["schema_name"]:
                names.add(node["table_name"])
            nodes.extend(node.values())
        elif isinstance(node, list):
            nodes.extend(node)
    return names


def _check(name: str, text: str, kind: duckdb.StatementType) -> None:
    if not _NAME.fullmatch(name):
        raise Rules(f"{name!r} is no name of a relation")
    try:
        statements = duckdb.extract_statements(text)
    except duckdb.Error as error:
        raise Rules(f"the relation {name} is not SQL: {error}") from None
    if [statement.type for statement in statements] != [kind]:
        raise Rules(f"the relation {name} is not one SELECT")


def _in_order(needs: Mapping[str, Iterable[str]]) -> list[str]:
    try:
        return list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        raise Rules(f"relations that need each other: {' <- '.join(error.args[1])}") from None
