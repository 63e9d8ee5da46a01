"""Which ids a table holds: always the answer of a plain set, whatever the files, keys and memory."""

import random
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.errors import Damaged
from lake.held import HeldIds
from lake.ids import keys_of
from lake.snapshots import FilePin


class Files:
    """Files of ids in a folder, and which of them have been opened."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pins: list[FilePin] = []
        self.opened: list[str] = []

    def add(self, ids: list[str]) -> None:
        name = f"{len(list(self.folder.iterdir()))}.parquet"
        pq.write_table(pa.table({"event_id": ids}), self.folder / name, write_page_checksum=True)
        self.pins.append(FilePin(name, (self.folder / name).stat().st_size, len(ids), "", min(ids), max(ids)))

    def locate(self, name: str) -> str:
        self.opened.append(name)
        return str(self.folder / name)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def event(moment: int, said: int) -> str:
    return f"{moment:014x}-{random.Random(said).getrandbits(128):032x}"


def strangers(number: int) -> pa.Array:
    """Ids that no file holds, before and after all that are held at moment 0."""
    return pa.array([f"{0:014x}-{number:032x}", f"{0:014x}-{'f' * 31}{number:x}"])


EVENTS = st.builds(event, st.integers(0, 3), st.integers(0, 25))
BATCHES = st.lists(st.lists(EVENTS, max_size=12), max_size=12)


@settings(max_examples=40)
@given(BATCHES, st.sampled_from([0, 5, 20, 10_000]))
def test_the_answer_is_that_of_a_set(batches, capacity):
    """Whatever is added and asked, in any order and with any room, what is held is what a set would hold."""
    with tempfile.TemporaryDirectory() as folder:
        files = Files(Path(folder))
        held = HeldIds(files.locate, capacity)
        known: set[str] = set()
        for batch in batches:
            mask = held.held(pa.array(batch, pa.string()), files.pins)
            assert mask.tolist() == [event_id in known for event_id in batch]
            if new := sorted(set(batch) - known):
                files.add(new)
                known.update(new)


def colliding() -> tuple[str, str]:
    """Two ids of one key: the last eight bytes make up for the others, as the mixing can be run backwards."""
    dice = random.Random(3)
    first = event(0, 1)
    target = int(keys_of(pa.array([first]))[0])
    target ^= target >> 32
    modulus, factor = 1 << 64, 0x9E3779B97F4A7C15
    while True:
        words = [f"{dice.getrandbits(32):08x}".encode() for _ in range(3)]
        mixed = int.from_bytes(words[0], "little")
        for word in words[1:]:
            mixed = ((mixed ^ (mixed >> 29)) * factor + int.from_bytes(word, "little")) % modulus
        last = (target - (mixed ^ (mixed >> 29)) * factor) % modulus
        data = last.to_bytes(8, "little")
        if data.isascii():
            return first, f"{0:014x}-" + b"".join([*words, data]).decode()


def test_a_collision_of_keys_loses_no_event(files):
    """An id whose key is that of another one is told from it: both are kept."""
    first, second = colliding()
    assert first != second
    assert keys_of(pa.array([first])) == keys_of(pa.array([second]))
    held = HeldIds(files.locate)
    files.add([first])
    assert held.held(pa.array([second, first]), files.pins).tolist() == [False, True]
    files.add([second])
    assert held.held(pa.array([second, first]), files.pins).tolist() == [True, True]


def test_only_files_of_that_time_are_opened(files):
    """Of many files, those whose range of ids the batch does not touch are left alone."""
    for moment in range(50):
        files.add([event(moment, said) for said in range(3)])
    held = HeldIds(files.locate)
    assert held.held(pa.array([event(20, 100), event(21, 100)]), files.pins).tolist() == [False, False]
    assert set(files.opened) <= {"20.parquet", "21.parquet"}


def test_each_file_is_read_once(files):
    """Asked again and again about new ids, a file that has been read is not opened again."""
    for said in range(0, 40, 4):
        files.add([event(0, said + i) for i in range(4)])
    held = HeldIds(files.locate)
    for question in range(5):
        assert not held.held(strangers(question), files.pins).any()
    assert sorted(files.opened) == sorted(pin.path for pin in files.pins)


def test_what_comes_again_opens_the_files_that_hold_it(files):
    """However many files there are for that time, full ids are compared in those alone whose keys were found."""
    for said in range(0, 40, 4):
        files.add([event(0, said + i) for i in range(4)])
    held = HeldIds(files.locate)
    held.held(strangers(1), files.pins)
    files.opened.clear()
    again = [event(0, 5), *strangers(1).to_pylist(), event(0, 21), event(0, 22)]
    assert held.held(pa.array(again), files.pins).tolist() == [True, False, False, True, True]
    assert sorted(files.opened) == ["1.parquet", "5.parquet"]


def test_what_does_not_fit_is_left_out_alone(files):
    """A file too large for the room that is left does not keep smaller ones out of it."""
    for size in (3, 100, 3):
        files.add([event(0, len(files.pins) * 1000 + i) for i in range(size)])
    held = HeldIds(files.locate, capacity=10)
    for question in range(3):
        assert not held.held(strangers(question), files.pins).any()
    assert files.opened.count("0.parquet") == files.opened.count("2.parquet") == 1
    assert files.opened.count("1.parquet") == 3


def test_an_earlier_version_holds_less(files):
    """Ids are looked up in the files that are given, not in all that were ever read."""
    files.add([event(0, 1)])
    files.add([event(0, 2)])
    held = HeldIds(files.locate)
    batch = pa.array([event(0, 1), event(0, 2)])
    assert held.held(batch, files.pins).tolist() == [True, True]
    assert held.held(batch, files.pins[:1]).tolist() == [True, False]


def test_keys_of_replaced_files_are_let_go(files):
    """However often files are replaced by others with the same ids, no more is kept than twice what the files hold."""
    ids = [event(0, said) for said in range(64)]
    for said in range(0, 64, 4):
        files.add(ids[said : said + 4])
    held = HeldIds(files.locate)
    for size in (8, 16, 32, 64):
        assert held.held(pa.array(ids), files.pins).all()
        files.pins = []
        for said in range(0, 64, size):
            files.add(ids[said : said + size])
        assert held.held(pa.array([*ids, *strangers(1).to_pylist()]), files.pins).tolist() == [True] * 64 + [False] * 2
        assert sum(len(keys) for keys, _ in held._runs) <= 2 * len(ids)


def test_a_damaged_file_is_named(files):
    """A file that is gone, cut short or flipped ends in an error that names it, not in a guess."""
    files.add([event(0, i) for i in range(1000)])
    path = files.folder / "0.parquet"
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[200] ^= 4
    for damaged in (whole[:100], whole[:-100], b"", bytes(flipped)):
        path.write_bytes(damaged)
        with pytest.raises(Damaged, match=r"0\.parquet"):
            HeldIds(files.locate).held(pa.array([event(0, 1)]), files.pins)
    path.unlink()
    with pytest.raises(Damaged, match=r"0\.parquet"):
        HeldIds(files.locate).held(pa.array([event(0, 1)]), files.pins)


def test_nothing_asked_is_nothing_held(files):
    """No ids, or no files: nothing is held and nothing is opened."""
    held = HeldIds(files.locate)
    assert held.held(pa.array([event(0, 1)]), []).tolist() == [False]
    files.add([event(0, 1)])
    assert held.held(pa.array([], pa.string()), files.pins).shape == (0,)
    assert files.opened == []
    assert np.array_equal(held.held(pa.array([event(0, 1)] * 3), files.pins), [True] * 3)
