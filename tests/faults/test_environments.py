"""Odd environments: awkward paths, workers of every kind, short readers, no network, and lakes made by strangers."""

import hashlib
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lake import Lake
from lake.commits import commit_name, seal
from lake.errors import UsageError
from lake.kinds import KINDS
from tests.faults.readers import epoch
from tests.lake.rows import evidence, much_evidence
from views.connect import connect

ROOT = Path(__file__).parents[2]
KIND = KINDS["evidence"]
STRACE = shutil.which("strace")
traced = pytest.mark.skipif(STRACE is None, reason="strace is not installed")
ODD = [
    "a b",
    "a#b",
    "a?b",
    "a[b",
    "a]b",
    "a{b",
    "a%20b",
    "a'b",
    'a"b',
    "a*b",
    "a\\b",
    "a:b",
    "a;b",
    "a&b",
    "a\nb",
    "ä",
    "日",
]


# paths


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("form", ["{}", "file://{}", "file://localhost{}", "{}/lake", "relative"])
def test_an_awkward_path_is_refused_at_once(odd, form, tmp_path, monkeypatch):
    """A lake is not put where an engine might read another place than was meant: it says why, and nothing is made."""
    (tmp_path / odd).mkdir()
    if form == "relative":
        monkeypatch.chdir(tmp_path / odd)
    uri = "lake" if form == "relative" else form.format(tmp_path / odd)
    for door in (Lake.create, Lake.open):
        with pytest.raises(UsageError, match="may not contain") as caught:
            door(uri)
        assert "letters, digits" in caught.value.hint
    assert list((tmp_path / odd).iterdir()) == []


@pytest.mark.parametrize("odd", ODD)
def test_a_link_to_an_awkward_path_works_or_is_refused(odd, tmp_path):
    """Through a link with a plain name a lake works, wherever it leads, or is refused before anything is made."""
    (tmp_path / odd).mkdir()
    (tmp_path / "plain").symlink_to(tmp_path / odd)
    refused = ""
    try:
        lake = Lake.create(str(tmp_path / "plain"))
    except UsageError as error:
        refused = error.message
    if refused:
        assert "this leads to" in refused
        assert list((tmp_path / odd).iterdir()) == []
        return
    for number in range(2):
        lake.append("evidence", evidence(f"r{number}"), producer="p", sequence=number)
    lake.logs["evidence"].checkpoint(2)
    with connect(lake.pin()) as con:
        assert con.execute("select count(*) from events.evidence").fetchall() == [(2,)]
    assert len(lake.read("evidence")) == 2
    assert list(lake.verify(deep=True)) == []


# workers


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
@pytest.mark.parametrize("epochs", [1, pytest.param(3, marks=pytest.mark.long)])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_workers_read_each_row_once_an_epoch(lake, report, method, epochs):
    """Four workers over a snapshot that was pickled read each row once, in one order for one seed, resumed anywhere."""
    for number in range(4):
        lake.append("evidence", much_evidence(number * 50, number * 50 + 50), producer="p", sequence=number)
    snapshot = pickle.loads(pickle.dumps(lake.pin()))
    lake.append("evidence", much_evidence(500, 600), producer="p", sequence=9)
    wanted = sorted(str(n) for n in range(200))
    orders = [epoch(method, snapshot, 7, number) for number in range(epochs)]
    assert all(sorted(order) == wanted for order in orders)
    assert len({tuple(order) for order in orders}) == epochs
    assert epoch(method, snapshot, 7, 0, start=30) == orders[0][120:]
    report(f"four workers by {method}", f"{epochs} epochs", "each row once, one order, resumed in the middle")


READ = (
    "import sys; from lake import Lake; from views.connect import connect\n"
    "lake = Lake.open(sys.argv[1]); found = lake.snapshot(sys.argv[2])\n"
    "assert found.read('evidence').num_rows == 3 and lake.read('evidence').num_rows == 3\n"
    "with connect(found) as con: assert con.execute('select count(*) from events.evidence').fetchall() == [(3,)]"
)


@pytest.mark.parametrize("count", [6, pytest.param(200, marks=pytest.mark.long)])
def test_short_readers_all_end_well(lake, report, count):
    """Processes that open a lake, read it by every engine and end, all end with exit code 0 and say nothing."""
    lake.append("evidence", evidence("a", "b", "c"), producer="p", sequence=0)
    command = [sys.executable, "-c", READ, lake.uri, lake.pin().id]
    for _ in range(count // 2):
        readers = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) for _ in range(2)]
        said = [reader.communicate(timeout=120)[1] for reader in readers]
        assert ([reader.returncode for reader in readers], said) == ([0, 0], [b"", b""])
    report("short reader processes", count, "all exit 0, nothing on stderr")


# no network


@traced
def test_nothing_is_connected_to(lake, tmp_path, report):
    """Appending, pinning, reading, verifying and every relation by SQL make no connection, successful or not."""
    program = """
import sys
from lake import Lake
from views.connect import connect
lake = Lake.open(sys.argv[1])
row = {"run_id": "r", "task_id": "t", "kind": "completion", "role": "executor"}
lake.append("evidence", [row], producer="p", sequence=1)
found = lake.pin()
assert list(lake.verify(deep=True)) == []
with connect(found) as con:
    views = con.execute("select schema_name || '.' || view_name from duckdb_views() where not internal").fetchall()
    for (name,) in views:
        con.execute(f"select count(*) from {name}").fetchall()
print(len(views))
"""
    trace = tmp_path / "trace"
    command = [
        STRACE,
        "-f",
        "-qq",
        "-e",
        "trace=connect,sendto",
        "-o",
        str(trace),
        sys.executable,
        "-c",
        program,
        lake.uri,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10
    assert [line for line in trace.read_text().splitlines() if "AF_INET" in line] == []
    report("every relation without a network", int(done.stdout), "no connect()")


# strangers


def stranger(lake: Lake, secret: Path, how: str) -> None:
    """Make a lake say that something of it is elsewhere."""
    root, table = Path(lake.uri), Path(lake.uri, "tables", "evidence")
    first = Path(lake.uri, commit_name(KIND, 1))
    [own] = [pin.path for pin in lake.logs["evidence"].head().files]
    if how.startswith("add "):
        first.write_bytes(seal(b"\n".join(unsealed(first)).replace(own.encode(), how[4:].format(secret).encode())))
    elif how.startswith("pin "):
        [pin] = (root / "snapshots").iterdir()
        data = pin.read_bytes().replace(own.encode(), how[4:].format(secret).encode())
        pin.with_name(f"{hashlib.sha256(data).hexdigest()[:32]}.json").write_bytes(data)
    elif how == "a linked file":
        (table / own).unlink()
        (table / own).symlink_to(secret)
    elif how == "a linked commit":
        Path(lake.uri, commit_name(KIND, 2)).symlink_to(secret)
    elif how == "a linked table":
        shutil.move(table, secret.parent / "table")
        table.symlink_to(secret.parent / "table")
    elif how == "a linked log":
        shutil.move(table / "_delta_log", secret.parent / "log")
        (table / "_delta_log").symlink_to(secret.parent / "log")
    elif how == "a sidecar":
        hint = {"version": 1, "size": 3, "v2Checkpoint": {"path": str(secret), "sidecarFiles": [{"path": str(secret)}]}}
        (table / "_delta_log" / "_last_checkpoint").write_text(json.dumps(hint))
    elif how == "a linked checkpoint":
        (table / "_delta_log" / f"{1:020d}.checkpoint.parquet").symlink_to(secret)
        (table / "_delta_log" / "_last_checkpoint").write_text('{"version":1,"size":3}')
    else:
        (table / "_delta_log" / f"{0:020d}.{1:020d}.compacted.json").symlink_to(secret)
        (table / "_delta_log" / f"{1:020d}.crc").symlink_to(secret)


def unsealed(path: Path) -> list[bytes]:
    """A commit's lines without its seal."""
    first, *rest = path.read_bytes().splitlines()
    info = json.loads(first)
    info["commitInfo"].pop("lake.seal")
    return [json.dumps(info, separators=(",", ":")).encode(), *rest, b""]


WAYS = [
    *("add ../../../secret/it.parquet", "add {}", "add file://{}", "add http://127.0.0.1:9/x", "add %2e%2e/%2e%2e/it"),
    *("pin ../../../secret/it.parquet", "pin {}", "pin file://{}"),
    *("a linked file", "a linked commit", "a linked checkpoint", "a sidecar", "others of the log"),
    *("a linked table", "a linked log"),
]


@traced
@pytest.mark.parametrize("how", WAYS)
def test_a_stranger_s_lake_reads_nothing_elsewhere(lake, tmp_path, report, how):
    """Whatever a log, a manifest, a checkpoint or a link in a lake says, no byte outside of its folder is read."""
    secret = tmp_path / "secret" / "it.parquet"
    secret.parent.mkdir()
    lake.append("evidence", evidence("a"), producer="p", sequence=0)
    lake.pin()
    shutil.copyfile(next(Path(lake.uri, "tables", "evidence").glob("*.parquet")), secret)
    stranger(lake, secret, how)
    trace = tmp_path / "trace"
    command = [STRACE, "-f", "-y", "-qq", "-e", "trace=openat,open,connect", "-o", str(trace)]
    program = [sys.executable, "-m", "tests.faults.readers", lake.uri]
    done = subprocess.run([*command, *program], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    opened = [line for line in trace.read_text().splitlines() if f"<{secret.parent}/" in line or "AF_INET" in line]
    assert opened == []
    report(
        f"a stranger's lake: {how}", 1, "0 bytes read elsewhere", (done.stdout.splitlines() or ["nothing to tell"])[0]
    )
