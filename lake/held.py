"""Which event ids a table already holds: what makes telling the same fact twice harmless.

Each data file's ids are read once per process and kept as 64-bit keys, sorted, in a few runs, each with the number of
its file. A batch is looked up in those; where a key is found, full ids are compared, in just those files. Files whose
id range the batch does not touch are never opened, so with known times a look-up reads only the files of that time.
Past `CAPACITY` keys nothing more is kept and files are read again each time: slower, but the memory stays bounded.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.errors import Damaged
from lake.ids import keys_of
from lake.snapshots import FilePin

CAPACITY = 64_000_000  # keys, of 12 bytes with the number of their file
READERS = 2

_Run = tuple[np.ndarray, np.ndarray]  # sorted keys, uint64 (n,), and the number of each one's file, uint32 (n,)


class HeldIds:
    """The ids in a growing set of immutable files, by key. `source` gives what pyarrow reads a file of a name from."""

    def __init__(self, source: Callable[[str], Any], capacity: int = CAPACITY) -> None:
        self._source = source
        self._capacity = capacity
        self._loaded: dict[str, int] = {}  # rows of each file whose keys are kept
        self._numbered: list[str] = []  # the files by their numbers
        self._runs: list[_Run] = []

    def held(self, ids: pa.Array, files: Sequence[FilePin]) -> np.ndarray:
        """Which of the ids are in the files: a boolean mask of shape (n,)."""
        mask = np.zeros(len(ids), bool)
        if len(ids) == 0:
            return mask
        self._forget(files)
        near = _near(ids, files)
        found, suspects = self._look_up(keys_of(ids), [file for file in near if file.path not in self._loaded])
        if not suspects:
            return mask
        # Whole ids are compared, so that two events whose keys collide are both kept.
        maybe = ids.filter(pa.array(found))
        sure = np.zeros(len(maybe), bool)
        for file in near:
            if file.path in suspects:
                sure |= np.asarray(pc.is_in(maybe, self._ids(file)))
        mask[found] = sure
        return mask

    def _forget(self, files: Sequence[FilePin]) -> None:
        """Begin again once most keys are of files that a compaction has replaced: others hold the same ids now."""
        gone = self._loaded.keys() - {file.path for file in files}
        if 2 * sum(self._loaded[path] for path in gone) > sum(self._loaded.values()):
            self._loaded, self._numbered, self._runs = {}, [], []

    def _look_up(self, keys: np.ndarray, new: Sequence[FilePin]) -> tuple[np.ndarray, set[str]]:
        """Which keys are found at all, shape (n,), and in which files; `new` are those whose keys are not kept yet."""
        room = self._capacity - sum(len(run) for run, _ in self._runs)
        kept: list[FilePin] = []
        passing: list[FilePin] = []
        for file in new:
            fits = file.rows <= room
            (kept if fits else passing).append(file)
            room -= file.rows if fits else 0
        if kept:
            self._keep(kept)
        found = np.zeros(len(keys), bool)
        suspects: set[str] = set()
        for run, numbers in self._runs:
            first, after = (np.searchsorted(run, keys, side) for side in ("left", "right"))
            found |= first < after
            # A key stands there more than once if its file was compacted into another, or by chance.
            while (first < after).any():
                first, after = first[first < after], after[first < after]
                suspects |= {self._numbered[number] for number in np.unique(numbers[first])}
                first = first + 1
        for file in passing:
            if (here := np.isin(keys, self._keys(file))).any():
                found |= here
                suspects.add(file.path)
        return found, suspects

    def _keep(self, files: Sequence[FilePin]) -> None:
        """Keep runs of at least doubling length, so that there are few of them and each key is sorted seldom."""
        with ThreadPoolExecutor(READERS) as pool:
            found = list(pool.map(self._keys, files))
        numbers = np.arange(len(self._numbered), len(self._numbered) + len(files), dtype=np.uint32)
        run = np.concatenate(found), np.repeat(numbers, [len(keys) for keys in found])
        while self._runs and len(self._runs[-1][0]) < 2 * len(run[0]):
            before = self._runs.pop()
            run = np.concatenate([before[0], run[0]]), np.concatenate([before[1], run[1]])
        order = np.argsort(run[0])
        self._runs.append((run[0][order], run[1][order]))
        self._numbered += [file.path for file in files]
        self._loaded.update((file.path, file.rows) for file in files)

    def _keys(self, file: FilePin) -> np.ndarray:
        return keys_of(self._ids(file))

    def _ids(self, file: FilePin) -> pa.Array:
        try:
            with pq.ParquetFile(self._source(file.path), page_checksum_verification=True, pre_buffer=False) as source:
                table = source.read(columns=["event_id"], use_threads=False)
        except (OSError, pa.ArrowException, ValueError, KeyError) as error:
            first = str(error).partition("\n")[0]
            raise Damaged(f"{file.path}: {first}", "run 'lake verify'; nothing was stored") from None
        return table.column(0).combine_chunks()


def _near(ids: pa.Array, files: Sequence[FilePin]) -> list[FilePin]:
    """The files that, by their range of ids, may hold any of these."""
    bounds = pc.min_max(ids).as_py()
    return [file for file in files if file.last_id >= bounds["min"] and file.first_id <= bounds["max"]]
