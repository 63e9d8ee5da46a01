"""States: what the lake reads of a log by itself is what the commits say, whatever was remembered or summed up."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from lake.checkpoints import Reconciled, commit_sealed_in, encode, hint_to
from lake.commits import History, chain, commit_name, digest
from lake.errors import Damaged
from lake.events import to_table, with_ids
from lake.files import Folder
from lake.log import Log
from lake.states import CLOSE, States
from tests.lake.rows import evidence
from tests.lake.writers import KIND, opened, send


@pytest.fixture
def log(tmp_path: Path) -> Log:
    log = Log(Folder(str(tmp_path / "lake")), KIND)
    log.create()
    return log


def fill(log: Log, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        send(log, evidence(f"r{number}"), f"p{number % 3}", number)


def logged(log: Log) -> Path:
    return Path(log._store.url(log.folder), "_delta_log")


def by_commits(log: Log, version: int) -> dict[str, object]:
    """The files of a version, by its commits alone."""
    history = History()
    for link in chain(log._store, KIND):
        if link.version <= version:
            history.follow(link)
    return history.live


def agree(log: Log, states: States, version: int) -> None:
    """A state, read by a process that remembers and by one that does not, is what the commits and deltalake say."""
    raw = DeltaTable(str(logged(log).parent), version=version)
    wanted = by_commits(log, version)
    for state in (states.at(version), States(log._store, KIND).at(version)):
        assert dict(state.files.own) == wanted
        assert {name.rpartition("/")[2] for name in raw.file_uris()} == wanted.keys()
        assert (state.version, state.metadata.id) == (version, str(raw.metadata().id))
        assert state.metadata.schema_string == raw.schema().to_json()
        for producer in ("p0", "p1", "p2"):
            assert state.transactions.get(f"sequence:{producer}") == raw.transaction_version(f"sequence:{producer}")


def test_every_version_is_what_its_commits_say(log):
    """Newest or old, across checkpoints, a compaction and a commit of no files: files, positions and table agree."""
    states = States(log._store, KIND)
    fill(log, 22)
    head = log.head()
    assert log.commit_after(head, {"lake.rows": -5}, removes=head.files[:5], rewrite=True)
    assert log.commit_after(log.head(), {"lake.rows": 0})
    fill(log, 20, 22)
    assert states.newest().version == 44
    for version in (0, 1, 19, 20, 21, 22, 23, 24, 40, 43, 44):
        agree(log, states, version)


@pytest.mark.parametrize("remembered", [1, 3, 256])
def test_files_are_the_same_whenever_they_are_asked_for(log, monkeypatch, remembered):
    """Asked for at once, or only when many commits have come since a checkpoint was read, the files are the same."""
    monkeypatch.setattr("lake.live.LONG", remembered)
    fill(log, 22)
    late, early = States(log._store, KIND), States(log._store, KIND)
    for number in range(22, 30):
        fill(log, 1, number)
        assert late.newest().version == number + 1
        assert early.newest().files.own == by_commits(log, number + 1)
    assert late.newest().files.own == early.newest().files.own


def test_what_others_commit_is_seen_at_once(log):
    """A process that remembers a state sees the next commit of another, and one that is far behind sees them all."""
    states, other = States(log._store, KIND), opened(log._store.uri)
    for number in range(3):
        fill(other, 1, number)
        assert states.newest().version == number + 1
    fill(other, CLOSE + 3, 3)
    assert states.newest().version == CLOSE + 6
    agree(log, states, CLOSE + 6)


def test_a_log_that_was_rolled_back_is_read_afresh(log):
    """What is remembered of commits that are gone, or that others have taken the place of, is forgotten."""
    fill(log, 10)
    shutil.copytree(logged(log).parent.parent.parent, older := logged(log).parents[3] / "older")
    fill(log, 15, 10)
    states = States(log._store, KIND)
    states.newest()
    for path in logged(log).iterdir():
        if path.suffix == ".json" and int(path.stem) > 18:
            path.unlink()
    assert states.newest().version == 18
    agree(log, states, 18)
    shutil.rmtree(logged(log))
    shutil.copytree(older / "tables" / "evidence" / "_delta_log", logged(log))
    assert states.newest().version == 10
    fill(opened(log._store.uri), 9, 100)
    assert states.newest().version == 19
    agree(log, states, 19)


@pytest.mark.parametrize("damage", ["hint", "dangling", "no hint", "checkpoint", "other", "commit of it"])
def test_a_checkpoint_that_is_no_use_is_passed_over(log, damage):
    """A hint or a checkpoint that is bad, gone or of another kind costs time alone: the commits say the same."""
    fill(log, 45)
    wanted = by_commits(log, 45)
    hint, checkpoint = logged(log) / "_last_checkpoint", logged(log) / f"{40:020d}.checkpoint.parquet"
    if damage == "hint":
        hint.write_bytes(b"\xff{")
    elif damage == "dangling":
        hint.write_text('{"version":60,"size":1}')
    elif damage == "no hint":
        hint.unlink()
    elif damage == "checkpoint":
        checkpoint.write_bytes(checkpoint.read_bytes()[:-50])
    elif damage == "other":
        pq.write_table(pq.read_table(checkpoint).slice(0, 5), checkpoint)
    if damage == "commit of it":
        Path(log._store.url(commit_name(KIND, 40))).unlink()
        with pytest.raises(Damaged, match=r"40\.json: this commit is missing"):
            States(log._store, KIND).newest()
    else:
        assert dict(States(log._store, KIND).newest().files.own) == wanted
        assert dict(States(log._store, KIND).at(43).files.own) == by_commits(log, 43)


def test_a_gap_is_no_end(log):
    """A commit that is missing before others is damage, and not the end of the table, whatever was remembered."""
    fill(log, 26)
    Path(log._store.url(commit_name(KIND, 23))).unlink()
    with pytest.raises(Damaged, match=r"23\.json: this commit is missing"):
        States(log._store, KIND).newest()
    with pytest.raises(Damaged, match=r"23\.json: this commit is missing"):
        log.head(24)
    assert len(log.head(22).files) == 22


@pytest.mark.parametrize(("first", "last"), [(21, 45), (25, 51), (24, 24), (23, 60)])
def test_a_long_gap_behind_an_old_hint_is_no_end(log, first, last):
    """Where the hint was set back and many commits after it are lost, and later ones are there, nothing is opened."""
    fill(log, 79)
    data = log._store.read(f"{log.folder}/_delta_log/{20:020d}.checkpoint.parquet")
    (logged(log) / "_last_checkpoint").write_bytes(hint_to(20, data))
    for version in range(first, last + 1):
        Path(log._store.url(commit_name(KIND, version))).unlink()
    with pytest.raises(Damaged, match=rf"{first}\.json: this commit is missing"):
        opened(log._store.uri).head()


def test_a_sealed_checkpoint_that_says_too_little_is_passed_over(log):
    """A seal is no secret: what a checkpoint does not say of the table is taken from the commits."""
    fill(log, 45)
    commit = digest(log._store.read(commit_name(KIND, 40)))
    name = f"{log.folder}/_delta_log/{40:020d}.checkpoint.parquet"
    about = {"metaData": {"id": "x"}, "protocol": {"minReaderVersion": 1}}
    log._store.replace(name, encode(Reconciled(about=about), None, commit))
    assert commit_sealed_in(log._store.read(name)) == commit
    assert opened(log._store.uri)._states.newest().files.own == by_commits(log, 45)
    log.checkpoint(45)
    agree(log, States(log._store, KIND), 45)


@pytest.mark.parametrize(
    "said", [{"txn": {"appId": "a", "version": "x"}}, {"metaData": {"id": 3}}, {"protocol": {"minReaderVersion": "1"}}]
)
def test_a_commit_that_says_nonsense_is_damage(log, said):
    """A foreign commit whose actions are of the wrong types is refused by its name, not with a traceback."""
    fill(log, 1)
    info = {"commitInfo": {"timestamp": 1}}
    Path(log._store.url(commit_name(KIND, 2))).write_text(f"{json.dumps(info)}\n{json.dumps(said)}\n")
    with pytest.raises(Damaged, match=r"02\.json: not a commit"):
        opened(log._store.uri).head()


def test_what_the_lake_did_not_write_is_no_file_of_its_own(log):
    """Files under other names, and such that a deletion vector belongs to, are told; a later reader's table too."""
    fill(log, 1)
    write_deltalake(str(logged(log).parent), with_ids(KIND, to_table(KIND, evidence("x")), "b"), mode="append")
    assert len(States(log._store, KIND).newest().files.foreign) == 1
    own = next(iter(log.head(1).files)).path
    said = Path(log._store.url(commit_name(KIND, 1))).read_text().splitlines()
    [add] = [line for line in said if '"add"' in line]
    # Another program seals nothing.
    info = json.loads(said[0])
    del info["commitInfo"]["lake.seal"], info["commitInfo"]["lake.prev"]
    said[0] = json.dumps(info)
    vector = add.replace('"dataChange"', '"deletionVector":{"storageType":"p","pathOrInlineDv":"/x"},"dataChange"')
    path = Path(log._store.url(commit_name(KIND, 3)))
    path.write_text(said[0] + "\n" + vector + '\n{"protocol":{"minReaderVersion":3,"minWriterVersion":7}}\n')
    assert own in States(log._store, KIND).newest().files.foreign
    with pytest.raises(Damaged, match="needs other readers"):
        log.head()
    assert len(log.head(1).files) == 1


def test_a_checkpoint_remembers_what_others_wrote(log):
    """A file that the lake did not write stays foreign behind a checkpoint, and so does one without statistics."""
    fill(log, 3)
    write_deltalake(str(logged(log).parent), with_ids(KIND, to_table(KIND, evidence("x")), "b"), mode="append")
    said = [json.loads(line) for line in Path(log._store.url(commit_name(KIND, 4))).read_text().splitlines()]
    bare = {"size": 1, "modificationTime": 1, "dataChange": True, "partitionValues": {}}
    said += [{"add": {"path": f"{'0' * 64}.parquet", **bare}}]
    Path(log._store.url(commit_name(KIND, 4))).write_text("\n".join(map(json.dumps, said)))
    by_log = States(log._store, KIND).newest().files
    assert len(by_log.foreign) == 2
    log.checkpoint(4)
    summed = States(log._store, KIND).newest().files
    assert summed.foreign == by_log.foreign
    assert summed.own == by_log.own
    assert len(summed.own) == 3
