"""Guards an upgrade of the engines beneath: what the lake leans on in deltalake, pyarrow and DuckDB is as it was.

deltalake's own commit protocol is not trusted: the lake writes its commits itself, and lets deltalake read them and
work out checkpoints. So there are two halves here. The races say what deltalake does with its own operations, known
faults included: a release that changes any of them treats the log in another way. The rest says what the lake needs.

When one fails after an upgrade: read the release notes for what it names, look at the rooms that its message names, and
run all of `make faults`. If all is well, write `races.txt` anew (`python -m tests.faults.races`), and say in
DECISIONS.md what changed.
"""

import itertools
import json
import os
import time
from importlib.metadata import version
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from lake import Lake
from lake.commits import commit_name, decode
from lake.datafiles import encode, write
from lake.errors import Damaged
from lake.events import to_table, with_ids
from lake.kinds import KINDS
from lake.log import PROPERTIES, Head, Log
from tests.faults.races import EXPECTED, OPERATIONS, REFUSED, WRONG, expected, orders, race
from tests.lake.rows import evidence, much_evidence
from tests.lake.writers import send

KIND = KINDS["evidence"]

WHAT_TO_DO = """
deltalake {installed}: of two handles on one version, {first} committed, then {second}.
expected ({written}): {expected}
found: {found}
("{no}" is refused; otherwise the rows that are left: 0 to 3 were there, a came with the first, b with the second)
To review: lake/log.py (`Log.head`, `Log.checkpoint`: what deltalake reads for us), lake/commits.py (what we write for
it), and what docs/reliability.md says of other programs. The lake itself commits nothing by {first} or {second}.
"""


@pytest.fixture
def log(lake: Lake) -> Log:
    return lake.logs["evidence"]


def folder(log: Log) -> Path:
    return Path(log._store.url(log.folder))


def fill(log: Log, count: int, start: int = 0) -> None:
    """One commit of one event for each number."""
    for number in range(start, start + count):
        send(log, evidence(f"r{number}"), "p", number)


def runs(head: Head) -> list[str]:
    return sorted(run for pin in head.files for run in read(head, pin.path).column("run_id").to_pylist())


def read(head: Head, name: str) -> pa.Table:
    return pq.read_table(head._store.source(f"tables/{head._kind.name}/{name}"))


def compact(log: Log) -> None:
    """Put the rows of all files into one, by the lake's own commit."""
    head = log.head()
    whole = pa.concat_tables([read(head, pin.path) for pin in head.files]).cast(KIND.schema)
    one = write(log._store, log.folder, whole)
    assert log.commit_after(head, {"lake.rows": 0}, adds=[one], removes=head.files, rewrite=True)


def aged(log: Log, days: int) -> None:
    """Make all that the table has some days older."""
    moment = time.time() - days * 86_400
    for path in [*folder(log).iterdir(), *(folder(log) / "_delta_log").iterdir()]:
        os.utime(path, (moment, moment))


# deltalake's own operations


def test_every_race_ends_as_it_did(report):
    """Each pair of deltalake's operations from one version ends as the table says, its known faults included."""
    written = EXPECTED.read_text().partition("# deltalake ")[2].partition("\n")[0]
    changed = [
        WHAT_TO_DO.format(
            installed=version("deltalake"),
            first=first,
            second=second,
            expected=wanted,
            found=found,
            written=written,
            no=REFUSED,
        )
        for (first, second), wanted in expected().items()
        if (found := race(first, second)) != wanted.removesuffix(WRONG)
    ]
    assert not changed, "\n".join(changed)
    wrong = [f"{first}, {second}" for (first, second), end in expected().items() if end.endswith(WRONG)]
    report(
        f"pairs of operations of deltalake {version('deltalake')} from one version",
        len(OPERATIONS) ** 2,
        f"as known; {len(wrong)} lose or double rows, none of them in the lake's own way",
        "; ".join(wrong),
    )


def test_the_table_of_races_is_of_this_release():
    """The races were played with the release of deltalake that is pinned, and the table has each pair."""
    assert f"# deltalake {version('deltalake')}\n" in EXPECTED.read_text()
    assert expected().keys() == set(itertools.product(OPERATIONS, repeat=2))


@pytest.mark.long
def test_what_is_called_wrong_is_wrong(report):
    """What the table marks as wrong is no end that the two could have one after the other, and all else is one."""
    for (first, second), end in expected().items():
        if end != REFUSED:
            assert (end.removesuffix(WRONG) in orders(first, second)) != end.endswith(WRONG), (first, second)
    report("pairs of operations, one after the other", len(expected()), "right and wrong told apart")


# what the lake needs of deltalake


def test_what_we_write_is_what_deltalake_reads(lake, log):
    """Appends, a compaction and a commit of no files, as the lake writes them, are at each version what they say."""
    fill(log, 4)
    first = log.head().files[0].path
    compact(log)
    assert log.commit_after(log.head(), {"lake.rows": 0, "lake.released": [first]})
    fill(log, 2, start=4)
    for number, many in enumerate([0, 1, 2, 3, 4, 1, 1, 2, 3]):
        raw = DeltaTable(str(folder(log)), version=number)
        names = pa.table(raw.get_add_actions(flatten=True)).column("path").to_pylist()
        assert raw.version() == number
        assert sorted(names) == sorted(pin.path for pin in log.head(number).files)
        assert len(names) == many
    assert runs(log.head(4)) == runs(log.head(6)) == [f"r{n}" for n in range(4)]
    assert runs(log.head()) == [f"r{n}" for n in range(6)]
    assert DeltaTable(str(folder(log))).count() == 6
    assert list(lake.verify(deep=True)) == []


def test_deltalake_tells_the_files_as_they_were_added(log):
    """Names, sizes, rows and whole event ids come back from deltalake, before and after a checkpoint."""
    added = {}
    for number in range(23):
        rows = to_table(KIND, evidence(f"r{number}", f"s{number}"))
        ids = with_ids(KIND, rows, "p").column("event_id").to_pylist()
        log.append(rows, "p", number, None)
        name = decode(log._store.read(commit_name(KIND, number + 1)), "")["add"][0]["path"]
        added[name] = (folder(log).joinpath(name).stat().st_size, 2, min(ids), max(ids))
        told = {
            row["path"]: (row["size_bytes"], row["num_records"], row["min.event_id"], row["max.event_id"])
            for row in pa.table(DeltaTable(str(folder(log))).get_add_actions(flatten=True)).to_pylist()
        }
        assert told == added
    assert (folder(log) / "_delta_log" / f"{20:020d}.checkpoint.parquet").exists()


def test_deltalake_tells_positions_properties_and_the_table(log):
    """Application transactions, configuration, schema and id come back, before and after a checkpoint."""
    first = DeltaTable(str(folder(log)))
    for number in range(23):
        send(log, evidence(f"r{number}"), f"p{number % 3}", number)
        raw = DeltaTable(str(folder(log)))
        assert raw.transaction_version(f"sequence:p{number % 3}") == number
        assert raw.transaction_version(f"version:p{number % 3}") == number + 1
        assert raw.transaction_version("sequence:stranger") is None
        assert raw.metadata().configuration == PROPERTIES
        assert raw.metadata().id == first.metadata().id
        assert json.loads(raw.schema().to_json()) == json.loads(first.schema().to_json())
    assert first.version() == 0
    assert first.transaction_version("sequence:p0") is None


def test_a_checkpoint_says_all_that_the_commits_say(log):
    """From a checkpoint and no commit before it, deltalake reads the files, positions and properties of its version.

    This is what `Log.checkpoint` has deltalake make in a folder of its own, from the last one and what came since.
    """
    fill(log, 30)
    compact(log)
    fill(log, 12, start=30)
    whole = log.head()
    files, old = {pin.path for pin in whole.files}, DeltaTable(str(folder(log)), version=25)
    assert len(old.file_uris()) == 25
    for path in (folder(log) / "_delta_log").glob("*.json"):
        if int(path.stem) <= 40:
            path.unlink()
    raw = DeltaTable(str(folder(log)))
    assert {name.rpartition("/")[2] for name in raw.file_uris()} == files
    assert raw.transaction_version("sequence:p") == 41
    assert raw.metadata().configuration == PROPERTIES
    checkpoint = pq.read_table(folder(log) / "_delta_log" / f"{40:020d}.checkpoint.parquet").to_pylist()
    removed = {row["remove"]["path"] for row in checkpoint if row["remove"]}
    assert len(removed) == 30
    assert not removed & files


def test_a_foreign_append_is_read_and_told(lake, log):
    """An append by deltalake on top of the lake's commits is no gap and no end of the table, and verify names it."""
    fill(log, 3)
    again = with_ids(KIND, to_table(KIND, evidence("stranger")), "x@0")
    write_deltalake(str(folder(log)), again, mode="append")
    assert DeltaTable(str(folder(log))).version() == 4
    assert any(commit_name(KIND, 4) in str(problem) for problem in lake.verify())
    with pytest.raises(Damaged, match="did not write"):
        _ = log.head().files
    assert len(log.head(3).files) == 3


@pytest.mark.parametrize("days", [40, 4000])
@pytest.mark.parametrize("count", [70, pytest.param(1000, marks=pytest.mark.long)])
def test_logs_of_any_age_keep_every_version(lake, log, report, days, count):
    """With all files aged, and after appends, checkpoints and deltalake's own clean-up, each version is whole."""
    fill(log, count)
    pinned = lake.pin(f"evidence={count // 2}")
    aged(log, days)
    fill(log, 5, start=count)
    log.checkpoint(count + 5)
    DeltaTable(str(folder(log))).cleanup_metadata()
    aged(log, days)
    DeltaTable(str(folder(log))).create_checkpoint()
    fill(log, 20, start=count + 5)
    versions = range(count + 26)
    assert [len(DeltaTable(str(folder(log)), version=at).file_uris()) for at in versions] == list(versions)
    assert [sum(pin.rows for pin in log.head(at).files) for at in versions[:: max(count // 70, 1)]] == list(
        versions[:: max(count // 70, 1)]
    )
    assert lake.snapshot(pinned.id).read("evidence").num_rows == count // 2
    assert list(lake.verify(deep=True)) == []
    report(f"a log aged by {days:,} days, then appends, checkpoints, cleanup_metadata()", count, "every version whole")


WRONG_SPELLINGS = [
    "36500 days",
    "interval 100 years",
    "interval 36500 day",
    "interval 36500  days",
    "Interval 36500 Days",
    "interval 5214 weeks",
    "interval 1200 months",
    "interval 36500 days ",
    "forever",
    "",
]


@pytest.mark.parametrize("spelling", WRONG_SPELLINGS)
@pytest.mark.parametrize("name", ["delta.logRetentionDuration", "delta.deletedFileRetentionDuration"])
def test_one_spelling_of_for_good_is_taken(log, name, spelling):
    """A table that says in any other words how long it keeps its log or files is neither read nor written."""
    first = folder(log) / "_delta_log" / f"{0:020d}.json"
    said = first.read_text().splitlines()
    [at] = [i for i, line in enumerate(said) if "metaData" in line]
    action = json.loads(said[at])
    action["metaData"]["configuration"][name] = spelling
    first.write_text("\n".join([*said[:at], json.dumps(action), *said[at + 1 :]]) + "\n")
    with pytest.raises(Damaged):
        log.head()
    with pytest.raises(Damaged):
        send(log, evidence("a"))
    assert [path.name for path in folder(log).rglob("*") if path.is_file()] == [first.name]


@pytest.mark.parametrize(("spelling", "kept"), [(PROPERTIES["delta.logRetentionDuration"], True), ("forever", False)])
def test_why_the_spelling_matters(tmp_path, spelling, kept):
    """The clean-up of deltalake spares a log that is to be kept for 36,500 days; `forever` is thirty days to it."""
    table = pa.table({"id": [1]})
    for number in range(12):
        configuration = {"delta.logRetentionDuration": spelling} if number == 0 else None
        write_deltalake(tmp_path, table, mode="append", configuration=configuration)
    DeltaTable(tmp_path).create_checkpoint()
    log = tmp_path / "_delta_log"
    before = {path.name for path in log.glob("*.json")}
    for path in log.iterdir():
        os.utime(path, (time.time() - 40 * 86_400,) * 2)
    DeltaTable(tmp_path).cleanup_metadata()
    assert ({path.name for path in log.glob("*.json")} == before) == kept


# what the lake needs of pyarrow and DuckDB


def test_pyarrow_reads_no_page_that_changed():
    """With page checksums, each flipped bit within a page is an error on reading, not another value."""
    data = bytearray(encode(with_ids(KIND, to_table(KIND, much_evidence(0, 200)), "p@0")))
    whole = dataset_of(data)
    places = range(4, len(data) - int.from_bytes(data[-8:-4], "little") - 8, 61)
    told = 0
    for place in places:
        data[place] ^= 16
        try:
            # What the headers of pages say besides is outside their checksums: it may change and mean the same.
            assert dataset_of(data).equals(whole), f"byte {place} of {len(data)} changed and nothing said so"
        except (OSError, pa.ArrowInvalid):
            told += 1
        data[place] ^= 16
    assert whole.num_rows == 200
    assert told > 0.7 * len(places)


def dataset_of(data: bytearray) -> pa.Table:
    options = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    parquet = ds.ParquetFileFormat(default_fragment_scan_options=options)
    return parquet.make_fragment(pa.BufferReader(bytes(data))).to_table()


def test_pyarrow_looks_at_every_byte_when_asked():
    """A full validation refuses half a character, which the plain one lets through."""
    half = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff"))
    half.validate()
    with pytest.raises(pa.ArrowInvalid):
        half.validate(full=True)


def test_duckdb_reads_files_of_older_and_newer_schemas(tmp_path):
    """By name and not by place: a column that a file does not have is null there, in whichever order the files come."""
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "0.parquet")
    pq.write_table(pa.table({"c": [0.5], "b": ["y"], "a": [2]}), tmp_path / "1.parquet")
    for order in ([0, 1], [1, 0]):
        files = [str(tmp_path / f"{number}.parquet") for number in order]
        query = "select a, b, c from read_parquet($files, union_by_name = true) order by a"
        assert duckdb.execute(query, {"files": files}).fetchall() == [(1, "x", None), (2, "y", 0.5)]


def test_duckdb_opens_nothing_but_what_it_was_given(tmp_path):
    """With external access off, a path that was allowed is read, its neighbour is not, whatever is set."""
    for name in ("mine", "other"):
        pq.write_table(pa.table({"a": [1]}), tmp_path / f"{name}.parquet")
    con = duckdb.connect()
    con.execute("set allowed_paths = ?", [[str(tmp_path / "mine.parquet")]])
    con.execute("set enable_external_access = false")
    con.execute("set lock_configuration = true")
    assert con.execute(f"from '{tmp_path}/mine.parquet'").fetchall() == [(1,)]
    for refused in (
        f"from '{tmp_path}/other.parquet'",
        f"from '{tmp_path}/../{tmp_path.name}/other.parquet'",
        f"copy (select 1) to '{tmp_path}/new.parquet'",
        f"attach '{tmp_path}/new.db'",
        "set enable_external_access = true",
        "set allowed_paths = ['/']",
        "install httpfs",
    ):
        with pytest.raises(duckdb.Error):
            con.execute(refused).fetchall()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.parquet", "other.parquet"]
