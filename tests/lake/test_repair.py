"""Repair: what the commits say is made anew, a torn end is put aside, and nothing is invented or lost."""

import json
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lake import Lake
from lake.commits import commit_name
from lake.errors import LakeError, UsageError
from lake.findings import Code
from lake.kinds import KINDS
from lake.repair import Act, Did, repair
from lake.verify import ASIDE
from tests.faults.injector import injected
from tests.lake.damage import everything_read, files_of, flip, log_of
from tests.lake.rows import evidence

DAY = 86_400


@pytest.fixture(scope="session")
def before(original: Path) -> dict[str, Any]:
    """All that the lake says as long as it is whole."""
    return everything_read(Lake.open(str(original)))


def last_commit(lake: Lake) -> Path:
    """The newest commit of evidence, one that nothing pins, just written."""
    lake.append("evidence", evidence("late"), producer="late", sequence=1)
    return Path(lake.uri, commit_name(KINDS["evidence"], lake.logs["evidence"].head().version))


def did(acts: list[Act]) -> set[Did]:
    return {act.did for act in acts}


def contents(lake: Lake) -> dict[str, bytes]:
    """Every file of a lake, but for the ledger that repair writes to."""
    root = Path(lake.uri)
    paths = (path for path in root.rglob("*") if path.is_file() and "receipts" not in path.parts)
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def test_a_whole_lake_is_left_alone(told):
    """Where nothing is wrong nothing is done, and no receipt is written."""
    before, receipts = contents(told), len(told.read("receipts"))
    assert repair(told, remove_orphans=True) == []
    assert contents(told) == before
    assert len(told.read("receipts")) == receipts


# what is made from the commits


@pytest.mark.parametrize("version", [20, 40])
@pytest.mark.parametrize("length", [0, 1, 4, 8, 100, 0.25, 0.5, 0.9, -8, -4, -1])
def test_a_cut_checkpoint_is_made_anew(told, before, version, length):
    """A checkpoint that was cut, wherever, is made anew: every version of the table opens with the same files."""
    path = log_of(told) / f"{version:020d}.checkpoint.parquet"
    whole = path.read_bytes()
    versions = {number: told.logs["evidence"].head(number).files for number in (0, 19, 20, 21, 39, 40, 41, 45)}
    size = int(length * len(whole)) if isinstance(length, float) else length % len(whole)
    path.write_bytes(whole[:size])
    acts = repair(Lake.open(told.uri))
    assert did(acts) == {Did.PUT_ASIDE, Did.REBUILT}
    again = Lake.open(told.uri)
    assert list(again.verify(deep=True)) == []
    assert everything_read(again) | {"now receipts": 0, "at receipts lake": 0} == before | {
        "now receipts": 0,
        "at receipts lake": 0,
    }
    log = again.logs["evidence"]
    assert {number: key(log.head(number).files) for number in versions} == {n: key(f) for n, f in versions.items()}
    [kept] = (Path(told.uri, act.to) for act in acts if act.to and "checkpoint.parquet" in act.to)
    assert kept.read_bytes() == whole[:size]


def key(files: list) -> list[str]:
    return sorted(file.path for file in files)


@pytest.mark.parametrize("data", [b"", b"\0" * 60, b"{}", b"[1]", b"\xff\xfe", b'{"version":33}', b'{"version":6000}'])
def test_a_bad_hint_is_made_anew(told, before, data):
    """A hint that is unreadable or leads nowhere names the newest checkpoint again; no row differs."""
    hint = log_of(told) / "_last_checkpoint"
    hint.write_bytes(data)
    assert did(repair(Lake.open(told.uri))) == {Did.PUT_ASIDE, Did.REBUILT}
    assert b'"version":40' in hint.read_bytes()
    again = Lake.open(told.uri)
    assert list(again.verify(deep=True)) == []
    after = everything_read(again)
    assert {name for name in before if before[name] != after[name]} <= {"now receipts", "at receipts lake"}


def test_all_at_once_is_mended_in_one_go(told, before):
    """Both checkpoints, the hint and a torn commit, and a file that does not belong there: all in one run."""
    path = last_commit(told)
    path.write_bytes(path.read_bytes()[:77])
    for version in (20, 40):
        log_of(told).joinpath(f"{version:020d}.checkpoint.parquet").write_bytes(b"PAR1")
    log_of(told).joinpath("_last_checkpoint").write_bytes(b"?")
    log_of(told).joinpath(f"{7:020d}.checkpoint.0000000001.0000000002.parquet").write_bytes(b"x")
    assert Did.REFUSED not in did(repair(Lake.open(told.uri)))
    again = Lake.open(told.uri)
    assert list(again.verify(deep=True)) == []
    assert repair(again) == [act for act in repair(again) if act.did is Did.KEPT]
    after = everything_read(again)
    assert {name for name in before if before[name] != after[name]} <= {"now receipts", "at receipts lake"}


def test_a_receipt_says_what_was_done(told):
    """A repair is an event of the lake, with each file that it changed."""
    log_of(told).joinpath("_last_checkpoint").write_bytes(b"?")
    repair(Lake.open(told.uri))
    row = told.read("receipts").sort_by("recorded_at").to_pylist()[-1]
    assert row["stage"] == "repair"
    assert "_last_checkpoint" in row["outputs"]


def test_a_dry_run_writes_nothing(told):
    """A dry run says the same as the run after it, and leaves every byte as it was."""
    path = last_commit(told)
    path.write_bytes(b"")
    log_of(told, "scores").joinpath("_last_checkpoint").write_bytes(b"?")
    before = contents(told)
    planned = repair(Lake.open(told.uri), dry_run=True)
    assert contents(told) == before
    done = repair(Lake.open(told.uri))
    assert [(act.did, act.file) for act in planned] == [(act.did, act.file) for act in done]


# a torn end


@pytest.mark.parametrize(
    "tear",
    [
        lambda data: b"",
        lambda data: bytes(len(data)),
        lambda data: data[:1],
        lambda data: data[: len(data) // 2],
        lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
        lambda data: data[: data.index(b"\n") + 1],
        lambda data: data[:-1],
        lambda data: data[: data[:-1].rindex(b"\n") + 1],
    ],
    ids=["empty", "zeros", "one byte", "half", "half, then zeros", "one line", "no line feed", "a line less"],
)
def test_a_torn_last_commit_is_put_aside_and_sent_again(told, before, tear: Callable[[bytes], bytes]):
    """Whatever a power failure left of a commit that was never acknowledged: all others stay, and it is sent again."""
    path = last_commit(told)
    torn = tear(path.read_bytes())
    path.write_bytes(torn)
    start = time.monotonic()
    hurt = Lake.open(told.uri)
    assert [one.code for one in hurt.verify()] == [Code.COMMIT_TORN]
    with pytest.raises(LakeError):
        hurt.append("evidence", evidence("late"), producer="late", sequence=1)
    acts = repair(hurt)
    again = Lake.open(told.uri)
    assert list(again.verify()) == []
    assert time.monotonic() - start < 10
    assert Path(told.uri, acts[0].to).read_bytes() == torn
    after = everything_read(again)
    assert {name for name in before if before[name] != after[name]} <= {"now receipts", "at receipts lake"}
    sent = again.append("evidence", evidence("late"), producer="late", sequence=1)
    assert (sent.added, sent.repeated) == (1, False)
    assert list(again.verify(deep=True)) == []


@pytest.mark.parametrize("witness", ["pin", "checkpoint", "export"])
def test_a_torn_commit_that_somebody_knows_is_not_touched(told, witness, monkeypatch):
    """Where a pin, a checkpoint or an export shows that a commit was whole, it is not put aside but refused."""
    if witness == "checkpoint":
        told.logs["evidence"].checkpoint(45)
        path = Path(told.uri, commit_name(KINDS["evidence"], 45))
    else:
        path = last_commit(told)
        pin = told.pin()
        if witness == "export":
            said = told.read("receipts").to_pylist()[0]
            inputs = said["inputs"].replace('"evidence":45', '"evidence":46')
            told.record("receipts", {"stage": "export-rag", "inputs": inputs, "outputs": said["outputs"]})
            Path(told.uri, "snapshots", f"{pin.id}.json").unlink()
    if witness != "pin":
        for pinned in Path(told.uri, "snapshots").iterdir():
            pinned.unlink()
    torn = path.read_bytes()[:300]
    path.write_bytes(torn)
    [refused] = [act for act in repair(Lake.open(told.uri)) if act.file.endswith(path.name)]
    assert refused.did is Did.REFUSED
    assert "acknowledged" in refused.why
    assert "backup" in refused.hint
    assert path.read_bytes() == torn


@pytest.mark.parametrize("how", ["flip", "middle", "edit"])
def test_any_other_commit_is_not_touched(told, how):
    """A last commit that is damaged otherwise, or one with others after it, is refused."""
    path = last_commit(told)
    if how == "middle":
        path = path.with_name(f"{30:020d}.json")
    data = path.read_bytes()
    damaged = {
        "flip": flip(data, 8 * data.index(b"lake.rows") + 91),
        "middle": data[:200],
        "edit": data.replace(b'"lake.sequence":1', b'"lake.sequence":2'),
    }[how]
    path.write_bytes(damaged)
    acts = repair(Lake.open(told.uri))
    assert Did.REFUSED in did(acts)
    assert not any(act.changes for act in acts)
    assert path.read_bytes() == damaged


def test_a_checkpoint_over_damaged_commits_is_not_made(told):
    """From commits that are not whole nothing is made: the checkpoint that is left may be the last that knows.

    The hint to it needs no commit, and makes the table readable again.
    """
    log_of(told).joinpath(f"{5:020d}.json").unlink()
    hint = log_of(told) / "_last_checkpoint"
    hint.write_bytes(b'{"version":6000}')
    path = log_of(told) / f"{40:020d}.checkpoint.parquet"
    whole = path.read_bytes()
    acts = repair(Lake.open(told.uri))
    assert [act.file for act in acts if act.did is Did.REBUILT] == ["tables/evidence/_delta_log/_last_checkpoint"]
    assert path.read_bytes() == whole
    assert len(told.read("evidence")) == 90
    old = log_of(told) / f"{20:020d}.checkpoint.parquet"
    old.write_bytes(b"PAR1")
    path.write_bytes(b"PAR1")
    repair(Lake.open(told.uri))
    assert (old.read_bytes(), path.read_bytes()) == (b"PAR1", b"PAR1")


@pytest.mark.parametrize("what", ["file", "pin", "object", "rollback"])
def test_what_only_a_backup_has_is_refused(told, what):
    """A lost file, manifest, object or log is refused with what to restore, and nothing is changed."""
    if what == "file":
        files_of(told, "evidence")[3].unlink()
    elif what == "pin":
        next(Path(told.uri, "snapshots").iterdir()).write_bytes(b"?")
    elif what == "object":
        next(Path(told.uri, "objects").iterdir()).unlink()
    else:
        Path(told.uri, commit_name(KINDS["scores"], 3)).unlink()
    before = contents(told)
    acts = repair(Lake.open(told.uri), remove_orphans=True)
    assert Did.REFUSED in did(acts)
    assert all(act.hint for act in acts if act.did is Did.REFUSED)
    assert not any(act.changes for act in acts)
    assert contents(told) == before


# what writers left


def leave(lake: Lake, age: float) -> list[Path]:
    """An orphan and two scratch files of an age in seconds."""
    table = Path(lake.uri, "tables", "evidence")
    made = [table / f"{'a' * 64}.parquet", table / ".x.parquet.1.ab.tmp", log_of(lake) / ".y.json.1.ab.tmp"]
    for path in made:
        path.write_bytes(files_of(lake, "scores")[0].read_bytes())
        os.utime(path, (time.time() - age, time.time() - age))
    return made


def test_orphans_are_listed_and_kept(told):
    """Without being asked to, repair takes nothing away, however old."""
    left = leave(told, 400 * DAY)
    acts = repair(told)
    assert {Path(told.uri, act.file) for act in acts} == set(left)
    assert did(acts) == {Did.KEPT}
    assert all(path.exists() for path in left)


def test_old_orphans_are_taken_away_and_young_ones_kept(told, before):
    """Only what is older than the safe age goes, and nothing that a commit or a pin names, however old."""
    for path in Path(told.uri).rglob("*"):
        if path.is_file():
            os.utime(path, (1, 1))
    young = leave(told, 6 * DAY)
    assert did(repair(told, remove_orphans=True)) == {Did.KEPT}
    assert all(path.exists() for path in young)
    acts = repair(told, remove_orphans=True, older_than=timedelta(days=5))
    assert did(acts) == {Did.REMOVED}
    assert not any(path.exists() for path in young)
    after = everything_read(Lake.open(told.uri))
    assert {name for name in before if before[name] != after[name]} <= {"now receipts", "at receipts lake"}
    assert list(told.verify(deep=True)) == []


def test_an_orphan_is_given_up_in_the_chain_before_it_goes(told):
    """The table's own log says which files are given up, all in one commit: a writer that slept over them sees it."""
    left = [path for path in leave(told, 400 * DAY) if path.suffix == ".parquet"]
    newest = told.versions()["evidence"]
    repair(told, remove_orphans=True, dry_run=True)
    assert told.versions()["evidence"] == newest
    repair(told, remove_orphans=True)
    assert told.versions()["evidence"] == newest + 1
    said = json.loads((log_of(told) / f"{newest + 1:020d}.json").read_text().splitlines()[0])
    assert said["commitInfo"]["lake.released"] == [path.name for path in left]
    assert list(told.verify(deep=True)) == []


def test_a_hint_stays_while_it_is_all_that_speaks_for_the_last_commit(told):
    """A hint beyond a torn last commit shows that it was acknowledged: both stay, however often repair runs."""
    path = last_commit(told)
    path.write_bytes(path.read_bytes()[:40])
    (log_of(told) / "_last_checkpoint").write_bytes(b'{"version":4000,"size":1}')
    before = contents(told)
    for _ in range(2):
        acts = repair(Lake.open(told.uri))
        assert Did.REFUSED in did(acts)
        assert not any(act.changes for act in acts)
        assert contents(told) == before


def test_two_repairs_do_not_work_at_once(told):
    """A second repair is told to wait, a dry run is not; when the first is done, or killed, the next one works."""
    with told.store.alone():
        with pytest.raises(LakeError, match="another repair is at work"):
            repair(Lake.open(told.uri))
        assert repair(Lake.open(told.uri), dry_run=True) == []
    assert repair(Lake.open(told.uri)) == []


def test_an_age_that_is_no_age_is_refused(told):
    """Less than an hour is refused: a writer may be about to commit the file."""
    with pytest.raises(UsageError, match="an hour"):
        repair(told, remove_orphans=True, older_than=timedelta(minutes=59))


def test_while_commits_are_missing_no_data_file_is_taken_away(told):
    """Files that a lost commit added look like orphans, and are kept; so are all while a manifest cannot be read."""
    path = last_commit(told)
    for file in files_of(told, "evidence"):
        os.utime(file, (1, 1))
    path.write_bytes(path.read_bytes().replace(b'"lake.rows":1', b'"lake.rows":2').replace(b'"add"', b'"bad"'))
    files = files_of(told, "evidence")
    acts = repair(Lake.open(told.uri), remove_orphans=True)
    assert Did.REMOVED not in did(acts)
    assert files_of(told, "evidence") == files
    next(Path(told.uri, "snapshots").iterdir()).write_bytes(b"?")
    [orphan, *_] = leave(told, 400 * DAY)
    repair(Lake.open(told.uri), remove_orphans=True)
    assert orphan.exists()


def test_what_somebody_writes_meanwhile_is_left(told):
    """A torn commit that is whole by the time its copy is put aside stays where it is, and repair says so."""
    path = last_commit(told)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])

    def meanwhile(kind: str, given: tuple[Any, ...], _done: Any) -> None:
        if kind == "link" and f"/{ASIDE}/" in str(given[1]):
            path.write_bytes(whole)

    with injected() as calls:
        calls.watch = meanwhile
        acts = repair(Lake.open(told.uri))
    [act] = [act for act in acts if act.file.endswith(path.name)]
    assert (act.did, act.why) == (Did.REFUSED, "somebody has written it in the meantime")
    assert path.read_bytes() == whole
    assert Lake.open(told.uri).logs["evidence"].head().version == int(path.stem)
