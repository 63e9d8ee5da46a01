"""Files that are written once: whole or not at all, never replaced, named and rooted where every engine reads them."""

import hashlib
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lake.errors import LakeError, UsageError
from lake.files import Folder


@pytest.fixture
def store(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "root"))


def everything(store: Folder) -> list[str]:
    """Every file under the root, hidden ones too."""
    return sorted(str(path.relative_to(Path(store.uri))) for path in Path(store.uri).rglob("*") if path.is_file())


def test_a_file_reads_back_as_it_was_written(store):
    """What was written is there, with its size and hash, and nothing else is."""
    assert store.write_new("a/b/c.bin", b"some bytes") is True
    assert store.read("a/b/c.bin") == b"some bytes"
    assert store.size("a/b/c.bin") == 10
    assert store.sha256("a/b/c.bin") == hashlib.sha256(b"some bytes").hexdigest()
    assert store.exists("a/b/c.bin")
    assert everything(store) == ["a/b/c.bin"]


def test_a_file_is_never_replaced(store):
    """Writing under a name that is taken says so, changes nothing and leaves nothing behind."""
    store.write_new("a", b"first")
    assert store.write_new("a", b"second") is False
    assert store.read("a") == b"first"
    assert everything(store) == ["a"]


def test_of_many_writers_one_wins(store):
    """Of writers that put different bytes under one name at once, one is told that it did, and its bytes are there."""
    count = 8
    barrier = threading.Barrier(count)
    won = {}

    def write(number: int) -> None:
        barrier.wait()
        won[number] = store.write_new("same", bytes([number]) * 100_000)

    for _ in range(10):
        won.clear()
        threads = [threading.Thread(target=write, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners = [number for number, new in won.items() if new]
        assert len(winners) == 1
        assert store.read("same") == bytes([winners[0]]) * 100_000
        assert everything(store) == ["same"]
        (Path(store.uri) / "same").unlink()


def test_a_killed_writer_leaves_nothing_that_counts(store):
    """What a process was writing when it was killed is no file of the store."""
    program = (
        "import os, sys; from lake.files import Folder; import lake.files;"
        "lake.files.os.link = lambda *_: os._exit(9);"
        "Folder(sys.argv[1]).write_new('folder/name', b'half')"
    )
    done = subprocess.run([sys.executable, "-c", program, store.uri], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 9
    assert list(store.names("folder")) == []
    assert not store.exists("folder/name")
    assert store.write_new("folder/name", b"whole") is True


def test_a_full_disk_is_one_clean_error_and_no_file(store):
    """When the disk refuses the bytes there is a LakeError with a hint, and no file, whole or half."""
    program = """
import resource, sys
from lake.errors import LakeError
from lake.files import Folder
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
store = Folder(sys.argv[1])
try:
    store.write_new("big", bytes(2000))
except LakeError as error:
    print(error.message, "|", error.hint)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(store.write_new("big", bytes(2000)))
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program, store.uri], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{store.url('big')}: File too large | make room or mend the disk; then try again\nTrue\n"
    assert everything(store) == ["big"]


def test_what_the_disk_refuses_is_a_lake_error(store):
    """A folder where a file should be, and a file where a folder should be, end in a LakeError."""
    (Path(store.uri) / "folder").mkdir(parents=True)
    with pytest.raises(LakeError, match="folder: Is a directory"):
        store.read("folder")
    store.write_new("file", b"")
    with pytest.raises(LakeError, match="File exists"):
        store.write_new("file/below", b"")


def test_a_missing_file_is_told_apart(store):
    """That there is no such file is not a fault of the disk: the caller knows what it means."""
    store.write_new("file", b"")
    for name in ("none", "none/below", "file/below"):
        assert not store.exists(name)
        for ask in (store.read, store.size, store.sha256, store.sync):
            with pytest.raises(FileNotFoundError):
                ask(name)
    assert list(store.names("none")) == []


def test_names_are_sorted_and_hide_what_is_being_written(store):
    """The files of a folder, in order, without folders and those that begin with a dot."""
    for name in ("b", "a", "c/d"):
        store.write_new(name, b"")
    (Path(store.uri) / ".half.tmp").write_bytes(b"")
    assert list(store.names("")) == ["a", "b"]


def test_a_store_travels_between_processes(store):
    """A store pickles to the same root."""
    assert pickle.loads(pickle.dumps(store)).uri == store.uri


@pytest.mark.parametrize(
    "name",
    [
        "with space",
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
        "é",
        "a\nb",
        "~x",
        "a:b",
        "$x",
    ],
)
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_awkward_roots_are_refused(tmp_path, name, scheme):
    """A path that some engine would read as another one is refused, and the message shows the character."""
    with pytest.raises(UsageError, match="may not contain") as caught:
        Folder(f"{scheme}{tmp_path}/{name}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("uri", ["s3://bucket/lake", "gs://bucket", "http://host/lake", "hdfs://h/x", "://x", "S3://x"])
def test_unknown_schemes_are_refused(uri):
    """What this version cannot reach it does not take for a folder."""
    with pytest.raises(UsageError, match="cannot be opened by this version"):
        Folder(uri)


@pytest.mark.parametrize("uri", ["file://host/lake", "file://", "file://[", "file://localhost.example/x"])
def test_a_file_address_names_no_host(uri):
    """An address of another machine's file is refused."""
    with pytest.raises(UsageError, match="names no host"):
        Folder(uri)


def test_an_empty_address_is_refused():
    """An empty setting does not mean the current folder."""
    with pytest.raises(UsageError, match="may not be empty"):
        Folder("")


def test_one_folder_has_one_address(tmp_path, monkeypatch):
    """Relative, absolute, file:// and doubled slashes all mean the same root."""
    monkeypatch.chdir(tmp_path)
    root = os.path.realpath(tmp_path) + "/lake"
    same = ["lake", "./lake", root, f"file://{root}", f"file://localhost{root}", f"/{root}", "x/../lake", f"{root}/"]
    assert {Folder(uri).uri for uri in same} == {root}
