"""What a user types only reads, whatever they type."""

import hashlib
from pathlib import Path

import pytest

from lake import LakeError
from tests.views import world
from tests.views.hostile import ESCAPES, HOSTILE
from views import QueryFailed, Refused, connect, lineage, query
from views.connect import Damaged, Rules
from views.policy import Policy


@pytest.fixture(scope="module")
def pinned(tmp_path_factory):
    """A small world: one run, accepted."""
    return world.make(tmp_path_factory.mktemp("pinned"), evidence=[world.run()], scores=[world.score()])


@pytest.fixture(scope="module")
def con(pinned):
    return connect(pinned, threads=1)


READS = [
    "select run_id from accepted",
    "from accepted select run_id;",
    "-- a comment\nselect 1 -- another",
    "with a as (select 1 as x) from a",
    "values (1)",
    "table policy",
    "describe accepted",
    "describe select 1",
    "summarize policy",
    "show tables",
    "explain select 1",
    "explain (format json) select 1",
    "explain /* hm */ analyze (select count(*) from evidence)",
    "from (pivot verdicts on category in ('accepted') using count(*) group by scorer)",
]


@pytest.mark.parametrize("text", READS)
def test_what_reads_runs(con, text):
    """Statements that read give rows."""
    assert query(con, text).read_all().num_rows > 0


def test_rows_come_as_they_are(con):
    """A query's answer has the query's columns, and each answer is independent of the one before."""
    first, second = query(con, "select 1 as a"), query(con, "select 2 as b")
    assert (second.read_all().to_pydict(), first.read_all().to_pydict()) == ({"b": [2]}, {"a": [1]})


@pytest.mark.parametrize("text", [*HOSTILE, *ESCAPES])
def test_what_does_more_than_read_is_refused(con, pinned, tmp_path, text):
    """A hostile or broken statement gives one line and changes nothing: no file, no relation, no setting."""
    data = pinned.paths("evidence")[0]
    Path(tmp_path, "secret.csv").write_text("a\n1\n")
    Path(tmp_path, "secret.json").write_text("{}\n")
    Path(tmp_path, "other.parquet").write_bytes(Path(data).read_bytes())
    before = state(con, pinned, tmp_path)
    lake = Path(data).parents[2]
    filled = text.format(out=tmp_path / "out", folder=tmp_path, folder_name=tmp_path.name, data=data, lake=lake)
    with pytest.raises(LakeError) as refusal:
        query(con, filled).read_all()
    assert isinstance(refusal.value, Refused | QueryFailed)
    assert "\n" not in refusal.value.message
    assert "root:" not in f"{refusal.value.message} {refusal.value.hint}"
    assert state(con, pinned, tmp_path) == before


def state(con, pinned, folder):
    """Everything that a statement could have changed."""
    files = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
    data = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in pinned.paths("evidence")]
    inside = con.execute(
        "select (select list([include_partial, include_review, check_files]) from policy),"
        " (select list_sort(list(view_name)) from duckdb_views()),"
        " (select list_sort(list(database_name)) from duckdb_databases()),"
        " current_setting('memory_limit'), current_setting('lock_configuration')"
    ).fetchone()
    return files, data, inside


REFUSALS = {
    "copy policy to 'x'": "SELECT",
    "select 1; select 2": "one by one",
    "pivot verdicts on category using count(*)": "PIVOT",
    "with x as (delete from policy returning *) from x": "SELECT",
    "from read_text('/etc/passwd')": "SHOW TABLES",
    "from acepted": "accepted",
    "": "SELECT",
}


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal_says_what_to_type_instead(con, text):
    """Each refusal comes with a hint that names the way."""
    with pytest.raises(LakeError) as refusal:
        query(con, text).read_all()
    assert REFUSALS[text] in refusal.value.hint


def test_a_failure_in_the_middle_of_the_rows_is_reported(con):
    """What fails after the first rows is a QueryFailed too."""
    with pytest.raises(QueryFailed):
        query(con, "select case when i = 90000 then error('late') else i end from range(100000) as t (i)").read_all()


def test_memory_has_a_limit(pinned):
    """A query that wants more memory than there is says so, and the connection lives on."""
    small = connect(pinned, threads=1, memory_limit="40MiB")
    with pytest.raises(QueryFailed, match="Memory"):
        query(small, "select list(i) from range(30000000) as t (i)").read_all()
    assert query(small, "select 1 as one").read_all().to_pydict() == {"one": [1]}


# What somebody might put where a name is asked for, hoping that it ends up in SQL.
INJECTIONS = [
    "'; drop table policy; --",
    '"; drop table policy; --',
    "x'; copy (select 1) to '/tmp/injected'; --",
    "x' or '1'='1",
    'x" or "1"="1',
    "x') union select content from read_text('/etc/passwd') --",
    "x union all select 1",
    "(select content from read_text('/etc/passwd'))",
    "read_text('/etc/passwd')",
    "'/etc/passwd'",
    "/etc/passwd",
    "../../../../etc/passwd",
    "..\\..\\secret",
    "file:///etc/passwd",
    "http://localhost:1/x",
    "$target",
    "$1",
    "?",
    "{x}",
    "%s%n",
    "$(touch /tmp/injected)",
    "`touch /tmp/injected`",
    "a\nb; attach '/tmp/injected' as x",
    "a\0b",
    "a -- b",
    "a /* b */ c",
    "x\\' or 1=1 --",
    "\u2019; drop table policy; --",
    "＇; drop table policy; --",
    "events.evidence; delete from policy",
    "evidence where 1=1",
    "*",
]


def test_what_is_no_name_is_no_sql(tmp_path):
    """A hostile id, scorer, path or policy is a value: it is found as it is written, and does nothing else."""
    names = [name.replace("\0", "") for name in INJECTIONS]
    rows = [world.run(name, "t", source=world.place(name)) for name in names]
    verdicts = [world.score(name, task_id="t", scorer=name) for name in names]
    pinned = world.make(tmp_path / "world", evidence=rows, scores=verdicts)
    policy = Policy(precedence=tuple(names), known_files=tuple(names))
    with connect(pinned, policy, threads=1) as con:
        before = state(con, pinned, tmp_path / "world")
        assert set(query(con, "select run_id from accepted").read_all()["run_id"].to_pylist()) == set(names)
        assert query(con, "select scorer from precedence order by place").read_all()["scorer"].to_pylist() == names
        assert set(query(con, "select path from known_files").read_all()["path"].to_pylist()) == set(names)
        for name in names[::6]:
            assert {step.run_id for step in lineage.why(con, name)} - {None} == {name}
        assert state(con, pinned, tmp_path / "world") == before
    assert not Path("/tmp/injected").exists()


@pytest.mark.parametrize("name", INJECTIONS)
def test_what_is_no_name_names_no_relation(name, pinned):
    """A relation or a stored file of a hostile name is refused before there is any SQL of it."""
    with pytest.raises(Rules):
        connect(pinned, sql={name: "select 1 as x"})

    class Foreign:
        def paths(self, kind):
            return [f"{name}'.parquet"] if kind == "evidence" else []

    with pytest.raises(Damaged):
        connect(Foreign(), sql={})


def told(con, text):
    """The refusal of a statement, or nothing if it runs."""
    try:
        query(con, text).read_all()
    except LakeError as refusal:
        return f"{refusal.message} {refusal.hint}"
    return ""


@pytest.mark.parametrize("name", INJECTIONS)
def test_what_is_no_statement_is_no_statement(con, pinned, tmp_path, name):
    """A hostile name typed as a relation or a column is no such thing, or a value, and changes nothing."""
    before = state(con, pinned, tmp_path)
    for text in (f"from {name}", f"select {name} from evidence", f"select '{name}'", f'select 1 from "{name}"'):
        said = told(con, text)
        assert "\n" not in said
        assert "root:" not in said
    assert state(con, pinned, tmp_path) == before
