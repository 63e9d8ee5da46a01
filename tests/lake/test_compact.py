"""Compaction: fewer files, the same events, whoever else is at work."""

import itertools
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lake import Lake
from lake import compact as door
from lake.compact import Round, Sizes, compact, plan
from lake.datafiles import encode, write
from lake.errors import Contended, Damaged, LakeError, UsageError
from lake.files import Folder
from lake.kinds import KINDS
from tests.lake.rows import evidence, much_evidence
from tests.lake.writers import in_processes

KIND = KINDS["evidence"]


def grown(lake: Lake, commits: int = 6, rows: int = 5, kind: str = "evidence", start: int = 0) -> Lake:
    """A lake with as many small files more."""
    for number in range(start, start + commits):
        told = evidence(*(f"r{number}-{row}" for row in range(rows)), task_id=f"t{number}")
        lake.append(kind, told, producer=f"p{start}", sequence=number)
    return lake


def sorted_rows(table: pa.Table) -> pa.Table:
    return table.sort_by("event_id").combine_chunks()


def at_every_version(lake: Lake, kind: str = "evidence") -> list[pa.Table]:
    """What each version of a table says, read through its file list."""
    newest = lake.versions()[kind]
    return [sorted_rows(lake.snapshot(f"{kind}={version}").read(kind)) for version in range(newest + 1)]


def test_small_files_become_one(lake):
    """The same events are in one file, in the order of their ids; the sizes and rows that a round tells are true."""
    before = sorted_rows(grown(lake).read("evidence"))
    [planned] = plan(lake)
    [done] = compact(lake)
    assert (planned.kind, planned.rows, planned.files_before, planned.files_after) == ("evidence", 30, 6, 1)
    assert (planned.version, planned.size_after) == (None, None)
    [file] = lake.snapshot().tables["evidence"].files
    assert done == Round("evidence", 30, 6, 1, planned.size_before, file.size, 7)
    assert lake.read("evidence").combine_chunks().equals(before)
    assert list(lake.verify(deep=True)) == []


def test_it_is_done_once(lake):
    """A second run finds nothing to do, and writes nothing."""
    list(compact(grown(lake)))
    files = sorted(Path(lake.uri).rglob("*"))
    assert list(plan(lake)) == list(compact(lake)) == []
    assert sorted(Path(lake.uri).rglob("*")) == files


def test_old_versions_and_snapshots_stay_as_they_are(lake):
    """Every version before, and every snapshot, reads as it did; the version after reads as the one before it."""
    pinned = grown(lake).pin("evidence=3")
    before = at_every_version(lake)
    list(compact(lake))
    after = at_every_version(lake)
    assert after[:-1] == before
    assert after[-1] == before[-1]
    assert lake.snapshot(pinned.id).manifest == pinned.manifest
    assert list(pinned.verify(deep=True)) == []


def test_deltalake_reads_each_version(lake):
    """The library finds at each version, and through a checkpoint after it, the files that the lake does."""
    grown(lake, commits=12)
    list(compact(lake))
    grown(lake, commits=9, start=12)
    table = Path(lake.uri, "tables", "evidence")
    assert Path(table, "_delta_log", f"{20:020d}.checkpoint.parquet").exists()
    assert "OPTIMIZE" in {commit.operation for commit in lake.commits("evidence")}
    for version in range(lake.versions()["evidence"] + 1):
        found = {Path(uri).name for uri in DeltaTable(str(table), version=version).file_uris()}
        assert found == {file.path for file in lake.snapshot(f"evidence={version}").tables["evidence"].files}
        rows = sum(pq.read_metadata(table / name).num_rows for name in found)
        assert rows == 5 * (version - (version > 12))


def test_ledgers_and_chosen_tables(lake):
    """The ledgers are compacted too; asked for one table, the others are left alone."""
    for number in range(4):
        lake.record("receipts", {"stage": f"s{number}"})
        lake.name(lake.snapshot(), f"name{number}")
    grown(lake)
    names = lake.names()
    assert [done.kind for done in compact(lake, ["receipts"])] == ["receipts"]
    assert [done.kind for done in compact(lake)] == ["evidence", "snapshots"]
    assert lake.names() == names
    assert lake.record("receipts", {"stage": "next"}) is None
    assert sorted(lake.read("receipts")["stage"].to_pylist()) == ["next", "s0", "s1", "s2", "s3"]
    with pytest.raises(UsageError, match="no kind of event named 'all'"):
        list(compact(lake, ["all"]))


def test_large_files_are_left_alone(lake):
    """A file of the size that is not small stays the file that it is, whatever is small around it."""
    lake.append("evidence", much_evidence(0, 20_000), producer="large", sequence=0)
    [large] = lake.snapshot().tables["evidence"].files
    grown(lake)
    [done] = compact(lake, sizes=Sizes(target=400_000, small=100_000, memory=400_000))
    assert done.files_before == 6
    assert large in lake.snapshot().tables["evidence"].files
    assert len(lake.snapshot().tables["evidence"].files) == 2


def test_too_few_files_are_not_worth_it(lake):
    """Fewer small files than asked for are left as they are."""
    grown(lake, commits=3)
    assert list(compact(lake, sizes=Sizes(fewest=4))) == []
    assert len(list(compact(lake, sizes=Sizes(fewest=3)))) == 1


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(1, 30_000), min_size=1, max_size=12),
    memory=st.integers(20_000, 100_000),
    times=st.lists(st.integers(0, 3), min_size=12, max_size=12),
)
def test_rounds_within_memory(tmp_path_factory, lengths, memory, times):
    """Whatever sizes and times the rows have, each round makes fewer files, and there is an end at which the events
    are the same; no round holds more than the memory, unless by its last file.
    """
    lake = Lake.create(str(tmp_path_factory.mktemp("lake")))
    rng = np.random.default_rng(1)
    for number, length in enumerate(lengths):
        text = rng.bytes(length).hex()
        when = datetime.fromtimestamp(times[number], UTC) if times[number] else None
        told = evidence(f"r{number}", text=text, recorded_at=when)
        lake.append("evidence", told, producer="p", sequence=number)
    before = sorted_rows(lake.read("evidence"))
    sizes = Sizes(target=memory // 2, small=memory // 2, memory=memory)
    done = list(compact(lake, sizes=sizes))
    assert all(each.files_after < each.files_before for each in done)
    assert all(each.size_before < memory + 60_000 for each in done)
    assert list(plan(lake, sizes=sizes)) == []
    assert sorted_rows(lake.read("evidence")).equals(before)
    assert list(lake.verify(deep=True)) == []


def test_a_round_is_cut_into_files_of_the_target(lake):
    """What is larger than the target becomes several files whose ranges of ids do not overlap, none of them small."""
    rng = np.random.default_rng(2)
    for number in range(20):
        rows = [f"r{number}-{row}" for row in range(10)]
        told = [{**row, "text": rng.bytes(2000).hex()} for row in evidence(*rows)]
        lake.append("evidence", told, producer="p", sequence=number)
    sizes = Sizes(target=200_000, small=50_000, memory=1_000_000)
    [done] = compact(lake, sizes=sizes)
    files = sorted(lake.snapshot().tables["evidence"].files, key=lambda file: file.first_id)
    assert len(files) == done.files_after > 3
    assert all(one.last_id < two.first_id for one, two in itertools.pairwise(files))
    weights = [pq.read_metadata(Path(lake.uri, "tables", "evidence", file.path)) for file in files]
    assert all(100_000 < each.row_group(0).total_byte_size < 300_000 for each in weights)


def test_a_look_up_reads_few_row_groups(lake, tmp_path):
    """A look-up by event, run or task reads the row groups that have it and, by their filters, hardly any other."""
    for number in range(10):
        rows = much_evidence(number * 7000, number * 7000 + 7000)
        tasks = pa.array([f"t{row // 8}" for row in range(number * 7000, number * 7000 + 7000)])
        rows = rows.set_column(rows.schema.get_field_index("task_id"), "task_id", tasks)
        lake.append("evidence", rows, producer="p", sequence=number)
    list(compact(lake))
    [path] = lake.snapshot().paths("evidence")
    told = lake.read("evidence")
    there = pq.ParquetFile(path)
    assert there.num_row_groups == 3
    for column in ("event_id", "run_id", "task_id"):
        second = set(there.read_row_group(1, columns=[column])[column].to_pylist())
        others = [value for value in told[column].to_pylist()[::97] if value not in second]
        # The second row group cannot be read: whoever finds something has not looked there.
        chunk = next(
            chunk
            for chunk in map(there.metadata.row_group(1).column, range(there.metadata.num_columns))
            if chunk.path_in_schema == column
        )
        data = bytearray(Path(path).read_bytes())
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        data[start : start + chunk.total_compressed_size] = bytes(chunk.total_compressed_size)
        damaged = tmp_path / f"{column}.parquet"
        damaged.write_bytes(data)
        statement = f"select count(*) from read_parquet('{damaged}') where {column} = ?"
        failed = 0
        for value in others[:100]:
            try:
                assert duckdb.execute(statement, [value]).fetchall()[0][0] == told[column].to_pylist().count(value)
            except duckdb.Error:
                failed += 1
        assert failed <= 8
        with pytest.raises(duckdb.Error):
            duckdb.execute(statement, [min(second)]).fetchall()


def test_sizes_that_make_no_sense():
    """Sizes under which a small file would be larger than a large one are refused."""
    for wrong in ({"small": 0}, {"target": 1}, {"memory": 1}, {"fewest": 1}):
        with pytest.raises(UsageError, match="cannot become"):
            Sizes(**wrong)


# what others do meanwhile


def compact_at_once(barrier, root: str) -> None:
    lake = Lake.open(root)
    barrier.wait()
    list(compact(lake))


def test_two_compactors_at_once(lake):
    """Of two compactors that start together one commits each round, and no event is lost or doubled."""
    grown(lake)
    for turn in range(4):
        before = sorted_rows(lake.read("evidence"))
        replaced = {file.path for file in lake.snapshot().tables["evidence"].files}
        versions = lake.versions()["evidence"]
        assert in_processes(compact_at_once, (lake.uri,), (lake.uri,)) == [0, 0]
        assert lake.versions()["evidence"] == versions + 1
        [file] = lake.snapshot().tables["evidence"].files
        assert file.path not in replaced
        assert sorted_rows(lake.read("evidence")).equals(before)
        grown(lake, commits=5, start=100 * (turn + 1))
    on_disk = {path.name for path in Path(lake.uri, "tables", "evidence").glob("*.parquet")}
    named = {
        file.path
        for v in range(lake.versions()["evidence"] + 1)
        for file in lake.snapshot(f"evidence={v}").tables["evidence"].files
    }
    assert on_disk == named
    assert list(lake.verify(deep=True)) == []


class Interrupting(Folder):
    """A folder where something else happens, once, just before a commit of a compaction is put there."""

    def __init__(self, uri, action):
        super().__init__(uri)
        self.action = action
        self.fails = False

    def write_new(self, name, data):
        if "_delta_log" in name and b"OPTIMIZE" in bytes(data) and self.action:
            action, self.action = self.action, None
            if (done := action(self, name, data)) is not None:
                return done
        return super().write_new(name, data)


def interrupted(lake: Lake, action) -> Lake:
    """The same lake, through a store in which this happens."""
    return Lake(Interrupting(lake.uri, action))


def test_a_writer_wins_the_race(lake):
    """A commit that lands first costs the compactor one more attempt, and no file is written twice."""
    grown(lake)
    late = evidence("late")
    there = interrupted(lake, lambda *_: lake.append("evidence", late, producer="w", sequence=1) and None)
    [done] = compact(there)
    assert done.version == lake.versions()["evidence"] == 8
    assert len(lake.snapshot().tables["evidence"].files) == 2
    assert Counter(lake.read("evidence")["run_id"].to_pylist())["late"] == 1
    assert len(list(Path(lake.uri, "tables", "evidence").glob("*.parquet"))) == 6 + 1 + 1
    assert list(lake.verify(deep=True)) == []


def test_another_compactor_wins_the_race(lake):
    """A round whose files somebody else has replaced is dropped, with the files that it wrote."""
    grown(lake)
    assert list(compact(interrupted(lake, lambda *_: [*compact(lake)] and None))) == []
    assert lake.versions()["evidence"] == 7
    assert len(list(Path(lake.uri, "tables", "evidence").glob("*.parquet"))) == 6 + 1
    assert list(lake.verify(deep=True)) == []


def test_the_answer_to_the_commit_is_lost(lake):
    """A commit that landed although the answer said otherwise is found, and not made again."""
    grown(lake)

    def lost(store, name, data):
        Folder.write_new(store, name, data)
        store.lost = name
        raise LakeError("the answer was lost")

    class Blind(Interrupting):
        """It cannot read what it has just written, the first time."""

        lost = None

        def read(self, name):
            if name == self.lost:
                self.lost = None
                raise LakeError("not now")
            return super().read(name)

    [done] = compact(Lake(Blind(lake.uri, lost)))
    assert done.version == lake.versions()["evidence"] == 7
    assert list(lake.verify(deep=True)) == []


def test_what_it_wrote_is_given_up_meanwhile(lake):
    """Where the chain says that its new files were tidied away, a slow compactor does not commit them."""
    grown(lake)

    def given_up(store, name, data):
        head = lake.logs["evidence"].head()
        new = {path.name for path in Path(lake.uri, "tables", "evidence").glob("*.parquet")}
        orphans = sorted(new - {file.path for file in head.files})
        assert orphans
        assert lake.logs["evidence"].commit_after(head, {"lake.rows": 0, "lake.released": orphans})

    assert list(compact(interrupted(lake, given_up))) == []
    assert len(lake.snapshot().tables["evidence"].files) == 6
    assert list(lake.verify(deep=True)) == []


def test_the_disk_is_full_twice(lake):
    """A commit that cannot be put there ends in the disk's own error; nothing has changed, and later it works."""
    grown(lake)

    class Full(Folder):
        full = True

        def write_new(self, name, data):
            if self.full and "_delta_log" in name:
                raise LakeError("no space left on device")
            return super().write_new(name, data)

    store = Full(lake.uri)
    with pytest.raises(LakeError, match="no space left"):
        list(compact(Lake(store)))
    assert lake.versions()["evidence"] == 6
    store.full = False
    assert len(list(compact(Lake(store)))) == 1
    assert list(lake.verify(deep=True)) == []


def test_patience_ends(lake, monkeypatch):
    """A compactor that loses every race gives up, and says so."""
    monkeypatch.setattr(door, "PATIENCE", 0.0)
    grown(lake)
    with pytest.raises(Contended, match="no commit within"):
        list(compact(lake))
    assert lake.versions()["evidence"] == 6


def test_a_writer_keeps_its_memory_of_ids(lake):
    """A writer that was there before a compaction, and one after, still take each event once."""
    writer = Lake.open(lake.uri)
    grown(writer)
    list(compact(lake))
    for door_ in (writer, Lake.open(lake.uri)):
        told = evidence("r0-0", "new", task_id="t0")
        done = door_.append("evidence", told, producer=f"again-{id(door_)}", sequence=0)
        assert done.added == (1 if door_ is writer else 0)
    assert max(Counter(lake.read("evidence")["event_id"].to_pylist()).values()) == 1


# what is refused


def test_a_swapped_file_is_not_made_ours(lake):
    """A file of other content under the right name is found before anything is committed."""
    grown(lake)
    file = lake.snapshot().tables["evidence"].files[0]
    path = Path(lake.uri, "tables", "evidence", file.path)
    other = pq.read_table(path)
    at = other.schema.get_field_index("text")
    path.write_bytes(encode(other.set_column(at, other.schema.field(at), pa.nulls(len(other), pa.string()))))
    with pytest.raises(Damaged, match="not those that were written"):
        list(compact(lake))
    assert lake.versions()["evidence"] == 6


def test_a_missing_or_broken_file(lake):
    """A file that is gone, or is no Parquet, ends the work with its name."""
    grown(lake)
    file = lake.snapshot().tables["evidence"].files[0]
    path = Path(lake.uri, "tables", "evidence", file.path)
    path.write_bytes(b"PAR1")
    with pytest.raises(Damaged, match=file.path):
        list(compact(lake))
    path.unlink()
    with pytest.raises(Damaged, match=file.path):
        list(compact(lake))
    assert lake.versions()["evidence"] == 6


def test_a_file_that_goes_while_it_is_read(lake, monkeypatch):
    """A file in use that vanishes between two looks is damage; one that was replaced and freed is not."""
    grown(lake)
    first = Path(lake.uri, "tables", "evidence", lake.snapshot().tables["evidence"].files[0].path)
    kept = first.read_bytes()
    read = door._read

    def gone(store, log, files):
        first.unlink()
        return read(store, log, files)

    with monkeypatch.context() as patched:
        patched.setattr(door, "_read", gone)
        with pytest.raises(Damaged, match="this data file is gone"):
            list(compact(lake))
    first.write_bytes(kept)

    def freed(store, log, files):
        monkeypatch.undo()
        list(compact(Lake.open(lake.uri)))
        return gone(store, log, files)

    monkeypatch.setattr(door, "_read", freed)
    assert list(compact(lake)) == []


def test_a_column_of_a_newer_version(lake):
    """A column that this version does not know is not dropped: the work is refused."""
    grown(lake, commits=2)
    log = lake.logs["evidence"]
    more = lake.read("evidence").slice(0, 1).append_column("mood", pa.array(["calm"]))
    made = write(lake.store, log.folder, more)
    assert log.commit_after(log.head(), {"lake.rows": 1}, adds=[made])
    with pytest.raises(LakeError, match="does not know its column 'mood'"):
        list(compact(lake))


def test_a_column_that_older_files_lack(lake, monkeypatch):
    """Events of before a column was added have none of it afterwards, and lose nothing."""
    grown(lake, commits=2)
    old = sorted_rows(lake.read("evidence"))
    log = lake.logs["evidence"]
    schema = pa.schema([field for field in KIND.schema if field.name != "stream"])
    made = write(lake.store, log.folder, grown_rows(lake).select(schema.names))
    assert log.commit_after(log.head(), {"lake.rows": len(old)}, adds=[made])
    [done] = compact(lake)
    assert done.rows == 2 * len(old)
    assert lake.read("evidence")["stream"].null_count == 2 * len(old)


def grown_rows(lake: Lake) -> pa.Table:
    """What the lake holds, under other ids."""
    table = lake.read("evidence")
    other = pa.array([f"f{text[1:]}" for text in table["event_id"].to_pylist()])
    return table.set_column(0, table.schema.field(0), other)


@pytest.mark.parametrize("wrong", ["values", "order", "rows"])
def test_what_is_read_back_is_compared(lake, monkeypatch, wrong):
    """Files that hold anything but the same rows are never committed."""
    grown(lake)
    right = door.write

    def write_wrong(store, folder, events):
        if wrong == "values":
            at = events.schema.get_field_index("run_id")
            column = events["run_id"].take(pa.array([1, 0, *range(2, 30)]))
            events = events.set_column(at, events.schema.field(at), column)
        elif wrong == "order":
            events = events.take(pa.array([1, 0, *range(2, 30)]))
        else:
            events = events.slice(1)
        return right(store, folder, events)

    monkeypatch.setattr(door, "write", write_wrong)
    with pytest.raises(Damaged, match="not what was read"):
        list(compact(lake))
    assert lake.versions()["evidence"] == 6


def test_rows_are_counted_after_the_commit(lake, monkeypatch):
    """If the version after has other rows than the one before, the error names the one that is whole."""
    grown(lake)
    made = write(lake.store, "tables/evidence", lake.read("evidence").slice(1))
    log = lake.logs["evidence"]
    monkeypatch.setattr(door, "_prove", lambda *_: None)
    monkeypatch.setattr(door, "write", lambda *_: made)
    with pytest.raises(Damaged, match=r"30 rows, and version 7.*29") as caught:
        list(compact(lake))
    assert "evidence=6" in caught.value.hint
    assert any("other rows" in str(problem) for problem in lake.verify())
    assert log.head(6).version == 6
