"""Which event ids a table already holds: what makes telling the same fact twice harmless.

Each data file's ids are read once per process and kept as 64-bit keys, sorted, in a few runs. A batch is looked up in
those; only where a key is found are full ids compared. Files whose id range the batch does not touch are never opened,
so with known times a look-up reads only the files of that time. Past `CAPACITY` keys nothing more is kept and files are
read again each time: slower, but the memory stays bounded.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.errors import Damaged
from lake.events import keys_of
from lake.snapshots import FilePin

CAPACITY = 64_000_000  # keys of 8 bytes
READERS = 2


class HeldIds:
    """The ids in a growing set of immutable files, by key. `source` gives what pyarrow reads a file of a name from."""

    def __init__(self, source: Callable[[str], Any], capacity: int = CAPACITY) -> None:
        self._source = source
        self._capacity = capacity
        self._loaded: dict[str, int] = {}  # rows of each file whose keys are kept
        self._runs: list[np.ndarray] = []

    def held(self, ids: pa.Array, files: Sequence[FilePin]) -> np.ndarray:
        """Which of the ids are in the files: a boolean mask of shape (n,)."""
        mask = np.zeros(len(ids), bool)
        if len(ids) == 0:
            return mask
        self._forget(files)
        new = _near(ids, [file for file in files if file.path not in self._loaded])
        for found in self._lookups(keys_of(ids), new):
            mask |= found
        if mask.any():
            mask[mask] = self._confirm(ids.filter(pa.array(mask)), files)
        return mask

    def _forget(self, files: Sequence[FilePin]) -> None:
        """Begin again once most keys are of files that a compaction has replaced: others hold the same ids now."""
        gone = self._loaded.keys() - {file.path for file in files}
        if 2 * sum(self._loaded[path] for path in gone) > sum(self._loaded.values()):
            self._loaded, self._runs = {}, []

    def _lookups(self, keys: np.ndarray, new: Sequence[FilePin]) -> Iterable[np.ndarray]:
        room = self._capacity - sum(map(len, self._runs))
        kept: list[FilePin] = []
        passing: list[FilePin] = []
        for file in new:
            fits = file.rows <= room
            (kept if fits else passing).append(file)
            room -= file.rows if fits else 0
        if kept:
            with ThreadPoolExecutor(READERS) as pool:
                self._add(np.concatenate(list(pool.map(self._keys, kept))))
            self._loaded.update((file.path, file.rows) for file in kept)
        for run in self._runs:
            at = np.searchsorted(run, keys)
            at[at == len(run)] = 0
            yield run[at] == keys
        for file in passing:
            yield np.isin(keys, self._keys(file))

    def _add(self, keys: np.ndarray) -> None:
        """Keep runs of at least doubling length, so that there are few of them and each key is sorted seldom."""
        while self._runs and len(self._runs[-1]) < 2 * len(keys):
            keys = np.concatenate([self._runs.pop(), keys])
        keys.sort()
        self._runs.append(keys)

    def _keys(self, file: FilePin) -> np.ndarray:
        return keys_of(self._ids(file))

    def _ids(self, file: FilePin) -> pa.Array:
        try:
            table = pq.read_table(self._source(file.path), columns=["event_id"], page_checksum_verification=True)
        except (OSError, pa.ArrowException, ValueError, KeyError) as error:
            first = str(error).partition("\n")[0]
            raise Damaged(f"{file.path}: {first}", "run 'lake verify'; nothing was stored") from None
        return table.column(0).combine_chunks()

    def _confirm(self, ids: pa.Array, files: Sequence[FilePin]) -> np.ndarray:
        """Compare whole ids, so that two events whose keys collide are both kept."""
        mask = np.zeros(len(ids), bool)
        for file in _near(ids, files):
            mask |= np.asarray(pc.is_in(ids, self._ids(file)))
            if mask.all():
                break
        return mask


def _near(ids: pa.Array, files: Sequence[FilePin]) -> list[FilePin]:
    """The files that, by their range of ids, may hold any of these."""
    bounds = pc.min_max(ids).as_py()
    return [file for file in files if file.last_id >= bounds["min"] and file.first_id <= bounds["max"]]
