"""Opening the relations over a snapshot."""

import re
import time
from collections.abc import Mapping
from pathlib import Path

import duckdb
import pytest

import views
from lake import Lake
from lake.errors import Damaged
from tests.views import world
from views import Policy, Rules, connect, digest, dumps, loads, sources
from views.connect import needed
from views.engine import connection


def test_the_door_lists_what_is_there():
    """`__all__` is sorted and each of its names exists."""
    assert views.__all__ == sorted(views.__all__, key=lambda name: (name[0].islower(), name))
    assert [name for name in views.__all__ if not hasattr(views, name)] == []


def test_a_real_lake_opens(lake: Lake):
    """Over a pin of a lake, the relations hold what was appended, and not what came after the pin."""
    lake.append("evidence", [world.run("r1")], producer="test", sequence=1)
    lake.append("scores", [world.score("r1")], producer="test", sequence=1)
    pinned = lake.pin()
    lake.append("evidence", [world.run("r2")], producer="test", sequence=2)
    assert connect(pinned).execute("select run_id from accepted").fetchall() == [("r1",)]
    assert connect(lake.pin()).execute("select run_id from unscored").fetchall() == [("r2",)]


def test_an_empty_lake_has_every_relation(tmp_path):
    """Over nothing, each relation is there and empty, apart from those that the policy fills."""
    con = connect(world.make(tmp_path), threads=1)
    names = [name for name, text in sources().items() if text.startswith("-- One row per ")]
    rows = {name: con.execute(f"select count(*) from {name}").fetchone()[0] for name in names}
    assert {name for name, count in rows.items() if count} == {"exportable_categories"}


def test_time_is_utc_and_settings_are_locked(tmp_path):
    """The connection speaks UTC, reaches no file but the pinned ones, and cannot be talked out of it."""
    con = connect(world.make(tmp_path, evidence=[world.run(recorded_at=world.at(0))]), threads=1)
    assert con.execute("select recorded_at::varchar from evidence").fetchone() == ("2026-01-01 00:00:00+00",)
    here = [1]  # noqa: F841
    for statement in (
        "set threads = 1",
        "from read_text('/etc/hostname')",
        f"copy policy to '{tmp_path}/x'",
        "from here",
    ):
        with pytest.raises(duckdb.Error):
            con.execute(statement)


def test_a_folder_may_be_opened_for_writing(tmp_path):
    """A folder that the caller names can be written, the one beside it cannot."""
    (tmp_path / "out").mkdir()
    con = connect(world.make(tmp_path / "data", evidence=[world.run()]), threads=1, folders=[f"{tmp_path}/out"])
    con.execute(f"copy (from accepted) to '{tmp_path}/out/x.parquet'")
    with pytest.raises(duckdb.PermissionException):
        con.execute(f"copy (from accepted) to '{tmp_path}/x.parquet'")


def test_memory_and_threads_are_as_asked():
    """The bare connection takes the limits that it is given."""
    con = connection(threads=1, memory_limit="123MiB")
    assert con.execute("select current_setting('threads'), current_setting('memory_limit')").fetchone() == (
        1,
        "123.0 MiB",
    )


def test_a_file_name_that_needs_quoting_is_refused(tmp_path):
    """Paths stand in the SQL of the views, so one that a lake would not give is Damaged, not quoted."""
    pinned = world.make(tmp_path, evidence=[world.run()])
    for name in ("a'b.parquet", "a b.parquet", "*.parquet", "語.parquet"):
        path = tmp_path / name
        path.write_bytes(Path(pinned.paths("evidence")[0]).read_bytes())
        with pytest.raises(Damaged):
            connect(world.World({**pinned.files, "evidence": [str(path)]}, {}))


def test_sources_are_kept_by_digest():
    """The bytes of the sources read back to the same sources, whose digest is of those bytes."""
    installed = sources()
    assert isinstance(installed, Mapping)
    assert loads(dumps(installed)) == installed
    assert digest(installed) == digest(loads(dumps(installed))) != digest({**installed, "sft": "select 1"})
    with pytest.raises(Damaged):
        loads(b"[]")


def test_other_rules_replace_the_installed_ones(tmp_path):
    """Sources given to connect are the only ones, in whatever order they need each other."""
    con = connect(world.make(tmp_path), sql={"a": "select x + 1 as y from b", "b": "select 1 as x"})
    assert con.execute("from a").fetchall() == [(2,)]
    with pytest.raises(duckdb.CatalogException):
        con.execute("from sft")


def test_opening_takes_no_longer_for_what_relations_stand_on(tmp_path):
    """A relation is worked out once where it is opened, not again for each that reads it."""
    sql = {f"v{i + 1}": f"select a.x from v{i} as a join v{i} as b using (x)" for i in range(20)}
    before = time.process_time()
    connect(world.make(tmp_path), sql={**sql, "v0": "select 1 as x"}).close()
    assert time.process_time() - before < 5


def test_columns_keep_their_names_and_types(tmp_path):
    """Whatever a column is called and whatever it holds, its relation has it as SQL gives it."""
    text = """select null as n, 1 as "a "" b", [{'c d': now()}] as list"""
    con = connect(world.make(tmp_path), sql={"a": text, "b": "from a"})
    wanted = con.execute(f"describe {text}").fetchall()
    assert con.execute("describe a").fetchall() == con.execute("describe b").fetchall() == wanted
    assert con.execute('select n, "a "" b" from b').fetchall() == [(None, 1)]


def test_only_what_a_query_needs_is_opened(tmp_path):
    """The sources that a query needs are enough for it, and hold nothing that it has no use for."""
    found = needed("select count(*) from sft")
    assert {"sft", "sft_checks", "evidence", "strip"} <= found.keys() < sources().keys()
    assert "preference" not in found
    assert connect(world.make(tmp_path), sql=found).execute("select count(*) from sft").fetchone() == (0,)
    assert needed("select 1") == {}


BAD_RULES = [
    {"a": "select 1; select 2"},
    {"a": "copy (select 1) to '/tmp/x'"},
    {"a": "drop table policy"},
    {"a": "create macro a() as 1; drop table policy"},
    {"a": "selec"},
    {"a; drop table policy": "select 1"},
    {"a": "from b", "b": "from a"},
]


@pytest.mark.parametrize("sql", BAD_RULES)
def test_what_is_no_relation_is_refused(tmp_path, sql):
    """Sources are one SELECT each, under a plain name, and not in a circle."""
    with pytest.raises(Rules):
        connect(world.make(tmp_path), sql=sql)


def test_policy_values_are_values(tmp_path):
    """What a policy says reaches the SQL as rows, whatever characters are in it."""
    name = "o'brien\"; drop table policy; --"
    con = connect(world.make(tmp_path), Policy(precedence=(name,), known_files=(name, name)), threads=1)
    assert con.execute("from precedence").fetchall() == [(name, 0)]
    assert con.execute("from known_files").fetchall() == [(name,)]


def test_each_relation_is_a_file_of_its_name():
    """No two files share a name, none creates anything but itself, and no parameter is spliced into one."""
    here = Path(views.__file__).parent
    files = [path for path in here.rglob("*.sql") if path.parent.name not in ("questions", "scorers")]
    relations = [path for path in files if path.parent.name != "functions"]
    assert sorted(path.stem for path in files) == sorted(sources())
    assert [path for path in relations if re.search(r"\$\w|\{\w*\}|\?", path.read_text())] == []


def test_spark_takes_the_relations():
    """Each relation transpiles to Spark SQL that parses there."""
    sqlglot = pytest.importorskip("sqlglot")
    for name, text in sources().items():
        if text.startswith("-- One row per "):
            (spark,) = sqlglot.transpile(text, read="duckdb", write="spark", unsupported_level=sqlglot.ErrorLevel.RAISE)
            assert sqlglot.parse_one(spark, read="spark"), name


def test_what_is_opened_is_what_a_question_needs() -> None:
    """The relations that a question names come with all that they need in turn, and nothing else."""
    sql = {"a": "select x from b", "b": "select x from c", "c": "select 1 as x", "d": "select x from a"}
    assert needed("SELECT * FROM A, missing", sql).keys() == {"a", "b", "c"}
    assert needed("select 1", sql) == {}
