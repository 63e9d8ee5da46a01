"""Copies on this machine: never stale, bounded, and never taken from under a process that uses them."""

import fcntl
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lake import cache
from lake.cache import Cache, cache_folder, cache_limit
from lake.errors import LakeError, UsageError
from lake.files import Content

ROOT = Path(__file__).parents[2]


def a_file(number: int, size: int = 100) -> tuple[Content, bytes]:
    """One of many files, each with other bytes."""
    data = bytes([number]) * size
    return Content(f"{number}.parquet", size, hashlib.sha256(data).hexdigest()), data


def fetched(*files: tuple[Content, bytes]):
    """What a store would do, with a list of what it was asked for."""
    asked = []
    held = {content.sha256: data for content, data in files}

    def fetch(content, sink):
        asked.append(content.name)
        sink.write(held[content.sha256])

    return fetch, asked


def copies(folder: Path) -> int:
    return sum(not path.name.startswith(".") for path in folder.iterdir())


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """Each test is as a process of its own, which has asked for nothing yet."""
    monkeypatch.setattr(cache, "_process", cache._Process())


def ends(monkeypatch):
    """As if the process had ended and another had begun: its locks are gone, and so is what it knew."""
    for _, file in cache._process._files.values():
        fcntl.flock(file, fcntl.LOCK_UN)
        os.close(file)
    monkeypatch.setattr(cache, "_process", cache._Process())


def test_a_copy_serves_every_name(tmp_path):
    """Two lakes that hold the same bytes share one copy, and it is fetched once."""
    content, data = a_file(1)
    fetch, asked = fetched((content, data))
    other = Content("elsewhere/2.parquet", content.size, content.sha256)
    [first], [second] = (Cache(tmp_path / "new").paths([one], fetch, 2) for one in (content, other))
    assert first == second
    assert Path(first).read_bytes() == data
    assert asked == ["1.parquet"]


def test_a_copy_of_another_size_is_fetched_again(tmp_path):
    """A copy that a crash has cut short is not handed out."""
    content, data = a_file(1)
    fetch, _ = fetched((content, data))
    [path] = Cache(tmp_path).paths([content], fetch, 1)
    Path(path).write_bytes(b"")
    assert Path(Cache(tmp_path).paths([content], fetch, 1)[0]).read_bytes() == data


def test_what_was_asked_for_longest_ago_makes_room(tmp_path, monkeypatch):
    """Past the limit the oldest copies go, but none that was asked for since."""
    files = [a_file(number) for number in range(4)]
    fetch, asked = fetched(*files)
    small = Cache(tmp_path, limit=300)
    for age, (content, _) in zip((30, 20, 10), files, strict=False):
        [path] = small.paths([content], fetch, 1)
        os.utime(path, (time.time() - age,) * 2)
    ends(monkeypatch)
    small.paths([files[0][0]], fetch, 1)
    ends(monkeypatch)
    small.paths([files[3][0]], fetch, 1)
    assert copies(tmp_path) == 3
    asked.clear()
    small.paths([content for content, _ in files], fetch, 2)
    assert asked == ["1.parquet"]


def test_nothing_of_one_call_makes_room_for_the_rest_of_it(tmp_path):
    """What is asked for at once is there at once, though it is more than the limit."""
    files = [a_file(number) for number in range(5)]
    fetch, _ = fetched(*files)
    paths = Cache(tmp_path, limit=150).paths([content for content, _ in files], fetch, 3)
    assert [Path(path).read_bytes() for path in paths] == [data for _, data in files]


def test_a_running_process_keeps_what_it_asked_for(tmp_path, monkeypatch):
    """Another process makes no room with it; once it has ended, it may."""
    program = (
        "import sys, hashlib; from pathlib import Path; from lake.cache import Cache; from lake.files import Content;"
        "data = bytes([1]) * 100;"
        "file = Content('1.parquet', 100, hashlib.sha256(data).hexdigest());"
        "print(*Cache(Path(sys.argv[1]), 100).paths([file], lambda _, sink: sink.write(data), 1), flush=True);"
        "sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, tmp_path], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with other:
        path = Path(other.stdout.readline().strip())
        two, three = a_file(2), a_file(3)
        fetch, _ = fetched(two, three)
        Cache(tmp_path, 100).paths([two[0]], fetch, 1)
        assert path.exists()
        other.stdin.close()
    ends(monkeypatch)
    Cache(tmp_path, 100).paths([three[0]], fetch, 1)
    assert not path.exists()
    assert len(list(tmp_path.glob(".user-*"))) == 1


def test_what_a_killed_process_left_is_removed(tmp_path):
    """Half copies go after a day; one that may still be growing stays."""
    for name, age in ((".old.tmp", 2 * 86_400), (".new.tmp", 60)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    fetch, _ = fetched(a_file(1))
    Cache(tmp_path).paths([a_file(1)[0]], fetch, 1)
    assert not (tmp_path / ".old.tmp").exists()
    assert (tmp_path / ".new.tmp").exists()


def test_a_failed_fetch_leaves_no_copy(tmp_path):
    """What could not be fetched is not there, not even half."""

    def fetch(content, sink):
        sink.write(b"half")
        raise LakeError("no more")

    with pytest.raises(LakeError, match="no more"):
        Cache(tmp_path).paths([a_file(1)[0]], fetch, 1)
    assert copies(tmp_path) == 0
    assert list(tmp_path.glob("*.tmp")) == []


def test_where_nothing_can_be_kept_is_said(tmp_path):
    """A cache that cannot be written is one line, with the variable that moves it."""
    (tmp_path / "file").touch()
    with pytest.raises(LakeError, match="copies cannot be kept here") as refused:
        Cache(tmp_path / "file" / "cache").paths([a_file(1)[0]], fetched()[0], 1)
    assert "LAKE_CACHE" in refused.value.hint


def test_the_environment_says_where_and_how_much(monkeypatch, tmp_path):
    """LAKE_CACHE, or the user's folder of caches; LAKE_CACHE_BYTES, in whole bytes."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "evidence-lake"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "evidence-lake"
    monkeypatch.setenv("LAKE_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    assert cache_limit() is None
    monkeypatch.setenv("LAKE_CACHE_BYTES", "1000")
    assert cache_limit() == 1000
    for name, value in (("LAKE_CACHE", "/a b"), ("LAKE_CACHE_BYTES", "10 GB")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="letters, digits"):
        cache_folder()
    with pytest.raises(UsageError, match="no number of bytes"):
        cache_limit()
