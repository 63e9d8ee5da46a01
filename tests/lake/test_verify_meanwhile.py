"""Verify: what writers do while a lake is examined is no finding."""

import contextlib
import os
from collections.abc import Iterator

import pytest

from lake import Lake
from lake.commits import COMMIT, chain
from lake.errors import Damaged
from lake.files import Entry, Folder
from lake.kinds import KINDS
from lake.log import Log
from lake.verify import examine
from tests.lake.damage import commit, log_of
from tests.lake.rows import evidence


def test_writers_meanwhile_are_no_fault(told, monkeypatch):
    """What is committed, pinned and exported while a lake is examined is no finding."""
    number = iter(range(1000))

    def write(*_: object) -> None:
        n = next(number)
        if n < 8:
            told.append("evidence", evidence(f"meanwhile-{n}"), producer="m", sequence=n)
            told.name(told.pin(), f"m{n}")

    findings = examine(told.store, told.logs, progress=write).findings
    assert [one for one in findings if one.is_fault] == []
    assert next(number) > 8


class Busy(Folder):
    """A folder in which a commit lands between any two looks at it."""

    def entries(self, folder: str) -> Iterator[Entry]:
        found = list(super().entries(folder))
        lake = Lake.open(self.uri)
        last = lake.position("evidence", "busy")
        lake.append("evidence", evidence(f"busy{last}"), producer="busy", sequence=last.sequence + 1 if last else 0)
        return iter(found)


def test_a_commit_that_lands_meanwhile_is_nothing_strange(told):
    """What other readers find is asked while others commit; only what lies there all the time can be no file."""
    before = told.logs["evidence"].as_others_read()
    log = Log(Busy(told.uri), KINDS["evidence"])
    assert log.as_others_read() >= before
    (log_of(told) / "folder").mkdir()
    with pytest.raises(Damaged, match="folder: no file of the log"):
        log.as_others_read()


class Summing(Busy):
    """A busy folder in which each commit is followed by a checkpoint."""

    def entries(self, folder: str) -> Iterator[Entry]:
        found = super().entries(folder)
        log = Lake.open(self.uri).logs["evidence"]
        log.checkpoint(log.head().version)
        return found


def test_a_checkpoint_that_is_made_meanwhile_is_nothing_strange(told):
    """A hint may name a checkpoint that was made since the folder was read."""
    store = Summing(told.uri)
    findings = examine(store, {name: Log(store, kind) for name, kind in KINDS.items()}).findings
    assert [one for one in findings if one.is_fault] == []


class Lagging(Folder):
    """A folder whose listing lacks some commits that landed while it was read, and shows a later one."""

    def entries(self, folder: str) -> Iterator[Entry]:
        found = list(super().entries(folder))
        commits = [entry.name for entry in found if COMMIT.fullmatch(entry.name)]
        return iter([entry for entry in found if entry.name not in commits[-5:-1]])


def test_commits_that_a_listing_lacks_are_looked_up(told):
    """What a large folder does not show, because it landed meanwhile, is no gap; what is not there is one."""
    assert len(list(chain(told.store, KINDS["evidence"]))) > 5
    links = list(chain(Lagging(told.uri), KINDS["evidence"]))
    assert [(link.version, link.sha256, link.problems) for link in links] == [
        (link.version, link.sha256, link.problems) for link in chain(told.store, KINDS["evidence"])
    ]
    assert all(not link.problems for link in links)
    commit(told, links[-3].version).unlink()
    assert [link.version for link in chain(Lagging(told.uri), KINDS["evidence"]) if link.problems] == [
        links[-3].version
    ]


def test_an_entry_that_a_folder_shows_twice_is_one(told, monkeypatch):
    """A file system may tell of a file twice where others come meanwhile; the lake sees it once."""
    before = list(told.store.entries("tables/evidence/_delta_log"))
    scandir = os.scandir

    @contextlib.contextmanager
    def twice(path):
        with scandir(path) as entries:
            yield [entry for entry in entries for _ in range(2)]

    monkeypatch.setattr("lake.files.os.scandir", twice)
    assert list(told.store.entries("tables/evidence/_delta_log")) == before
    assert list(told.verify()) == []
