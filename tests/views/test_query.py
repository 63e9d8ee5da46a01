"""What a user types only reads, whatever they type."""

import hashlib
from pathlib import Path

import pytest

from lake import LakeError
from tests.views import world
from views import QueryFailed, Refused, connect, query


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


HOSTILE = [
    "copy (select 1) to '{out}'",
    "copy evidence to '{out}' (format parquet)",
    "copy (select 1) to '{data}' (format parquet, use_tmp_file false)",
    "explain copy (select 1) to '{out}'",
    "explain analyze copy (select 1) to '{out}'",
    "explain analyze copy (select 1) to '{data}' (format parquet, use_tmp_file false)",
    "explain /* select 1 */ analyze copy (select 1) to '{out}'",
    "explain (format json) copy (select 1) to '{out}'",
    "export database '{folder}/export'",
    "import database '{folder}'",
    "attach '{out}' as other",
    "attach ':memory:' as other",
    "detach memory",
    "install httpfs",
    "load '{folder}/evil.so'",
    "force install httpfs from 'http://localhost:1'",
    "set memory_limit = '1TB'",
    "set enable_external_access = true",
    "reset lock_configuration",
    "set variable x = 1",
    "pragma version",
    "pragma enable_profiling",
    "call pragma_version()",
    "call enable_logging(storage = 'file', storage_path = '{folder}')",
    "from enable_logging(storage = 'file', storage_path = '{folder}')",
    "create table stolen as select 1",
    "create or replace view accepted as select 1",
    "create temp table stolen (i int)",
    "create macro f() as 1",
    "create secret s (type http, bearer_token 'x')",
    "drop view accepted",
    "alter view accepted rename to rejected_too",
    "insert into policy values (true, true, 1, false)",
    "update policy set include_partial = true",
    "delete from policy",
    "with x as (insert into policy values (true, true, 1, false) returning *) select * from x",
    "with x as (delete from policy returning *) select * from x",
    "explain analyze with x as (delete from policy returning *) select * from x",
    "merge into policy using (select 1) on true when matched then delete",
    "truncate policy",
    "comment on table policy is 'mine'",
    "select 1; drop table policy",
    "select 1; select 2",
    "begin; delete from policy; commit",
    "commit",
    "prepare p as delete from policy",
    "execute p",
    "use memory",
    "checkpoint",
    "vacuum",
    "analyze",
    "pivot verdicts on category using count(*)",
    "from '/etc/passwd'",
    'from "/etc/passwd"',
    "from 'file:///etc/passwd'",
    "from read_csv('/etc/passwd')",
    "from read_csv('{folder}/../{folder_name}/secret.csv')",
    "from read_json('{folder}/secret.json')",
    "from read_text('/etc/passwd')",
    "from read_blob('/proc/self/environ')",
    "from read_parquet('{folder}/*.parquet')",
    "from read_parquet('{folder}/other.parquet')",
    "from glob('/etc/*')",
    "from sniff_csv('/etc/passwd')",
    "from parquet_metadata('{folder}/other.parquet')",
    "from read_duckdb('{out}')",
    "from query('copy (select 1) to ''{out}''')",
    "from query_table('/etc/passwd')",
    "from 'http://localhost:1/x.parquet'",
    "select getenv('HOME')",
    "from duckdb_secrets()",
    "",
    "-- nothing",
    "selec 1",
    "select * from no_such_relation",
    "select no_such_column from accepted",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_does_more_than_read_is_refused(con, pinned, tmp_path, text):
    """A hostile or broken statement gives one line and changes nothing: no file, no relation, no setting."""
    data = pinned.paths("evidence")[0]
    Path(tmp_path, "secret.csv").write_text("a\n1\n")
    Path(tmp_path, "secret.json").write_text("{}\n")
    Path(tmp_path, "other.parquet").write_bytes(Path(data).read_bytes())
    before = state(con, pinned, tmp_path)
    filled = text.format(out=tmp_path / "out", folder=tmp_path, folder_name=tmp_path.name, data=data)
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
