"""The catalog file opens in a DuckDB shell that is older than the lake's own."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lake.kinds import PIN_ORDER
from tests.views import world
from views import Policy, catalog, connect


@pytest.fixture(scope="module")
def pinned(tmp_path_factory):
    """Two runs of a task, one accepted and one rejected."""
    return world.make(
        tmp_path_factory.mktemp("pinned"),
        evidence=[world.run("r1", text="good"), world.run("r2", text="bad")],
        scores=[world.score("r1"), world.score("r2", "rejected")],
        tasks=[world.task()],
    )


def shell(file, query):
    """What a real shell answers, in a process that knows nothing of the lake."""
    program = Path(sys.executable).with_name("duckdb")
    if not program.exists():
        pytest.skip("the package duckdb-cli is not installed")
    done = subprocess.run(
        [program, "-readonly", "-json", file, "-c", query], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_an_older_shell_joins_its_views(pinned, tmp_path):
    """A shell of another version opens the file and joins two of its views."""
    file = tmp_path / "it's a lake.duckdb"
    catalog.write(str(file), pinned)
    assert shell(file, "select version() as v")[0]["v"].startswith("v1.")
    rows = shell(
        file, "select run_id, text from accepted join verdicts using (run_id) where verdicts.category = 'accepted'"
    )
    assert rows == [{"run_id": "r1", "text": "good"}]


def test_every_relation_is_there_and_says_the_same(pinned, tmp_path):
    """Each relation has as many rows in the shell as on the lake's own connection, under the same policy."""
    file = tmp_path / "lake.duckdb"
    policy = Policy(pairs_per_task=1, known_files=("a.py",))
    catalog.write(str(file), pinned, policy)
    con = connect(pinned, policy, threads=1)
    for name in ("sft", "rag", "preference", "quarantine", "considered", "health", "verdicts", "policy", "known_files"):
        count = con.execute(f"select count(*) as n from {name}").fetchone()[0]
        assert (name, shell(file, f"select count(*) as n from {name}")) == (name, [{"n": count}])


def test_a_file_that_is_there_is_not_replaced_unasked(pinned, tmp_path):
    """What lies at the path stays, whole, unless the writer is told to replace it."""
    file = tmp_path / "precious"
    file.write_text("mine")
    with pytest.raises(catalog.Occupied):
        catalog.write(str(file), pinned)
    assert file.read_text() == "mine"
    catalog.write(str(file), pinned, replace=True)
    assert shell(file, "select count(*) as n from accepted") == [{"n": 1}]
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_a_path_that_cannot_be_written_is_said(pinned, tmp_path):
    """Where a folder stands, or a file stands for a folder, the error says so and nothing is left behind."""
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "lake.duckdb"):
        with pytest.raises(catalog.LakeError):
            catalog.write(str(path), pinned, replace=True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_file_follows_its_data(pinned, tmp_path):
    """The file holds no data: without the pinned files its views have nothing to say."""
    moved = world.make(tmp_path / "data", evidence=[world.run()])
    catalog.write(str(tmp_path / "lake.duckdb"), moved)
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(subprocess.CalledProcessError):
        shell(tmp_path / "lake.duckdb", "from evidence")


def test_views_over_urls_are_written_without_opening_them(pinned, tmp_path):
    """A catalog of files in a bucket is made offline; a shell that is told of other files reads those."""
    urls = {kind: [f"s3://nowhere/{kind}.parquet"] if pinned.paths(kind) else [] for kind in PIN_ORDER}
    file = tmp_path / "lake.duckdb"
    catalog.write(str(file), pinned, remote=urls)
    [told] = shell(file, "select string_agg(sql) as sql from duckdb_views() where schema_name = 'events'")
    assert all(url in told["sql"] for kind in urls.values() for url in kind)
    assert str(tmp_path) not in told["sql"]
    here = "".join(f"set variable lake_{kind}_files = {pinned.paths(kind)};" for kind in PIN_ORDER)
    assert shell(file, f"{here} select run_id from accepted") == [{"run_id": "r1"}]


def test_urls_are_addresses_and_nothing_else(pinned, tmp_path):
    """What could end the list of files that it stands in is refused."""
    for url in ("s3://a'b/c", "s3://a/b*.parquet", "https://example.org/x?y"):
        with pytest.raises(catalog.LakeError):
            catalog.write(str(tmp_path / "x"), pinned, remote={kind: [url] for kind in PIN_ORDER})
