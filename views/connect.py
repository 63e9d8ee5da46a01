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

from lake.errors import Damaged, LakeError
from lake.kinds import LEDGERS, PIN_ORDER
from views import engine, gates
from views.policy import Policy
from views.tables import create_pinned, create_policy, failing, pinned

FOLDERS = ("functions", "facts", "state", "prompts", "datasets", "quarantine", "health", "history", "replay", "quality")
_WORD = re.compile(r"[a-z_][a-z0-9_]*")
_USED = re.compile(r"\b(?:from|join)\s+([a-z][a-z0-9_]*)|\b([a-z][a-z0-9_]*)\(")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_FUNCTION = re.compile(r"(?:\s*--[^\n]*\n)*\s*create macro ([a-z][a-z0-9_]*)\(")


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
        files = [path for kind in PIN_ORDER if kind not in damaged for path in snapshot.paths(kind)]
        con.execute("set allowed_paths = ?", [[*files, *chain.from_iterable(ledgers.values())]])
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
    create_pinned(con)
    create_policy(con, policy)
    _create_relations(con, gates.as_they_stand(sources() if sql is None else sql, policy.quality))
    damaged = damaged or {}
    for kind, message in damaged.items():
        con.execute(f"create or replace view events.{kind} as {failing(kind, message)}")
    for kind in (*PIN_ORDER, *LEDGERS):
        if kind in damaged:
            continue
        if remote is not None:
            paths = remote.get(kind, ())
        else:
            paths = snapshot.paths(kind) if kind in PIN_ORDER else (ledgers or {}).get(kind, ())
        if paths:
            con.execute(f"create or replace view events.{kind} as {pinned(kind, paths, remote=remote is not None)}")


def _damaged(snapshot: Pinned) -> dict[str, str]:
    """The kinds of which a file is gone or cut, each with what is wrong."""
    found = {}
    for kind in PIN_ORDER:
        try:
            snapshot.paths(kind)
        except Damaged as error:
            found[kind] = error.message
    return found


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
        create_pinned(con)
        create_policy(con, Policy())
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
