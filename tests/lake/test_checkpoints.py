"""Checkpoints: whatever they are made from, they say what the commits say, and what they cannot say is not left out."""

import io
import json
import random
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from lake import checkpoints
from lake.commits import chain, commit_name, decode, digest, read_commit
from lake.errors import Damaged
from lake.files import Folder
from lake.log import Log
from tests.lake.rows import evidence
from tests.lake.writers import KIND, send

LAST = 60


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """A table of three checkpoints, to which files were added and from which some were taken, in a random order."""
    log = Log(Folder(str(tmp_path_factory.mktemp("checkpoints") / "lake")), KIND)
    log.create()
    chance = random.Random(3)
    for number in range(LAST):
        head = log.head()
        if len(head.files) > 5 and chance.random() < 0.3:
            taken = chance.sample(head.files, 3)
            assert log.commit_after(head, {"lake.rows": -sum(one.rows for one in taken)}, removes=taken, rewrite=True)
        else:
            send(log, evidence(f"r{number}"), f"p{number % 4}", number)
    return log


def state(log: Log, first: int, last: int) -> checkpoints.Reconciled:
    """What the commits from one version to another say."""
    said = checkpoints.Reconciled()
    for version in range(first, last + 1):
        said.follow(decode(read_commit(log._store, KIND, version), commit_name(KIND, version)))
    return said


def made(log: Log, version: int) -> bytes:
    return log._store.read(f"{log.folder}/_delta_log/{version:020d}.checkpoint.parquet")


def entries(data: bytes) -> dict[str, list[str]]:
    """The entries of a checkpoint by their types, each as text, sorted."""
    table = checkpoints.read(data)
    return {
        name: sorted(json.dumps(one, sort_keys=True) for one in checkpoints.entries_of(table, name).to_pylist())
        for name in table.column_names
    }


@pytest.mark.parametrize("version", [20, 40, 60])
def test_a_checkpoint_says_what_its_commits_say(log, version):
    """Made of the one before and the commits since, it says what one made of all commits says, and what they say."""
    said = state(log, 0, version)
    data = made(log, version)
    head = digest(read_commit(log._store, KIND, version))
    assert checkpoints.problem_with_checkpoint(data, said) is None
    assert checkpoints.commit_sealed_in(data) == head
    assert entries(data) == entries(checkpoints.encode(said, None, head))
    assert said.removes.keys().isdisjoint(said.adds)
    assert version == 20 or said.removes


def test_one_that_deltalake_has_made_is_gone_on_from(log, tmp_path):
    """A checkpoint of another program, which has more columns, gives the same next one as the lake's own does."""
    shutil.copytree(Path(log._store.url(log.folder), "_delta_log"), tmp_path / "_delta_log")
    for path in (tmp_path / "_delta_log").iterdir():
        if path.suffix != ".json" or int(path.stem) > 40:
            path.unlink()
    DeltaTable(str(tmp_path)).create_checkpoint()
    theirs = (tmp_path / "_delta_log" / f"{40:020d}.checkpoint.parquet").read_bytes()
    assert set(checkpoints.read(theirs).column_names) > set(checkpoints.read(made(log, 40)).column_names)
    head = digest(read_commit(log._store, KIND, 60))
    assert entries(checkpoints.encode(state(log, 41, 60), theirs, head)) == entries(made(log, 60))


@pytest.mark.parametrize(
    "said",
    [
        {"deletionVector": {"storageType": "p", "pathOrInlineDv": "/x", "sizeInBytes": 1, "cardinality": 1}},
        {"partitionValues": {"day": "1"}},
        {"size": "large"},
        {"size": 1.9},
        {"size": 1 << 70},
    ],
)
def test_what_has_no_room_in_a_checkpoint_is_not_left_out(log, said):
    """Of a file of which more is said than the lake says of any, there is no checkpoint: it would be another file."""
    whole = state(log, 0, 60)
    path = min(whole.adds)
    whole.adds[path] = {**whole.adds[path], **said}
    with pytest.raises(Damaged, match="no checkpoint can be made"):
        checkpoints.encode(whole, None, "0" * 64)


def test_every_row_group_has_rows(log):
    """Readers refuse a row group without any, and a table from which nothing was taken has no action of that kind."""
    for said in (state(log, 0, 5), state(log, 0, 60)):
        file = pq.ParquetFile(io.BytesIO(checkpoints.encode(said, None, "0" * 64)))
        assert all(file.metadata.row_group(number).num_rows for number in range(file.num_row_groups))


def test_what_the_commits_say_is_what_verify_follows(log):
    """The chain of the commits gives the same state as their files one by one."""
    said = checkpoints.Reconciled()
    for link in chain(log._store, KIND):
        assert link.problems == ()
        said.follow(link.actions or {})
    assert said == state(log, 0, LAST)


def test_a_writer_that_slept_takes_no_hint_back(log, tmp_path):
    """Who makes a checkpoint late leaves the hint to a later one as it is; where that is of no use, it leads to his."""
    shutil.copytree(log._store.uri, tmp_path / "lake")
    late = Log(Folder(str(tmp_path / "lake")), KIND)
    hint = tmp_path / "lake" / late.folder / "_delta_log" / "_last_checkpoint"
    late.checkpoint(20)
    assert json.loads(hint.read_bytes())["version"] == LAST
    (hint.parent / f"{LAST:020d}.checkpoint.parquet").unlink()
    late.checkpoint(20)
    assert json.loads(hint.read_bytes())["version"] == 20


def without_a_file(said: checkpoints.Reconciled) -> None:
    said.adds.pop(min(said.adds))


def with_another_size(said: checkpoints.Reconciled) -> None:
    path = min(said.adds)
    said.adds[path] = {**said.adds[path], "size": said.adds[path]["size"] + 1}


def with_other_statistics(said: checkpoints.Reconciled) -> None:
    path = min(said.adds)
    said.adds[path] = {**said.adds[path], "stats": '{"numRecords": 1000}'}


def with_another_position(said: checkpoints.Reconciled) -> None:
    said.transactions["sequence:p1"] += 1


def with_one_more_removed(said: checkpoints.Reconciled) -> None:
    said.removes["x.parquet"] = {"path": "x.parquet"}


def with_another_name(said: checkpoints.Reconciled) -> None:
    said.about["metaData"] = {**said.about["metaData"], "name": "other"}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (without_a_file, "has other files than the commits have added"),
        (with_another_size, "has other files than the commits have added"),
        (with_other_statistics, "says other things of"),
        (with_another_position, "has other sequences of producers"),
        (with_one_more_removed, "removes what no commit has removed"),
        (with_another_name, "has another metaData than the commits"),
    ],
)
def test_a_sealed_checkpoint_that_says_otherwise_is_told(log, change, problem):
    """Whoever sealed it: what a checkpoint says otherwise than the commits is named, and nothing else is."""
    meant, said = state(log, 0, LAST), state(log, 0, LAST)
    change(said)
    data = checkpoints.encode(said, None, "0" * 64)
    assert checkpoints.commit_sealed_in(data) is not None
    assert problem in (checkpoints.problem_with_checkpoint(data, meant) or "")
    assert checkpoints.problem_with_checkpoint(data, said) is None


def test_what_no_commit_of_the_lake_says_is_told(log):
    """Actions of other types, and more than the lake says of a file, are named; so is a hint that counts otherwise."""
    said, data = state(log, 0, LAST), made(log, LAST)
    table = checkpoints.read(data)
    kinds = pa.struct({"path": pa.string()})
    more = table.append_column("sidecar", pa.array([{"path": "x"}, *[None] * (len(table) - 1)], kinds))
    assert "has a sidecar" in (checkpoints.problem_with_checkpoint(written(more), said) or "")
    type_ = table.schema.field("add").type
    adds = [one and {**one, "partitionValues": [("day", "1")]} for one in table.column("add").to_pylist()]
    parted = table.set_column(table.schema.get_field_index("add"), "add", pa.array(adds, type_))
    assert "says partitionValues of a file" in (checkpoints.problem_with_checkpoint(written(parted), said) or "")
    for hint in (checkpoints.Hint(LAST, size=1), checkpoints.Hint(LAST, files=1)):
        assert "other entries than" in (checkpoints.problem_with_checkpoint(data, said, hint) or "")


def written(table: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file that nobody sealed."""
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(None), sink)
    return sink.getvalue()


@pytest.mark.parametrize("data", [b"", b"PAR1", b"x" * 100])
def test_no_hint_leads_to_what_cannot_be_read(data):
    """What is no Parquet is no checkpoint to lead to."""
    with pytest.raises(Damaged, match="version 20 cannot be read"):
        checkpoints.hint_to(20, data)
