"""Near duplicates among many texts: MinHash finds candidates, the exact Jaccard similarity of their shingles decides.

    finder = NearDuplicates(threshold=0.8)
    finder.add("a", "the first text …")  # None: it is kept
    finder.add("b", "the first text, …")  # Match(kept="a", similarity=0.83)

A text is compared as the set of its runs of `shingle` words, one of fewer words as the single run of all of them. Texts
are met in the order in which they come: what is similar to a kept one is not kept, so that nothing is named a copy of
a copy, and the answers on the first texts stay what they are when more come after them.

Candidates share a band of `permutations` minima (Broder, "On the resemblance and containment of documents", 1997; the
bands: Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", 3.4). Bands are as long as they can be while fewer
than one in a hundred of the pairs at the very threshold is overlooked; above it the share falls fast. Nothing below the
threshold is ever taken for a duplicate.

Texts that begin with one long template share bands without being alike, each with a part of all the others. So of those
that more than `_CROWD` kept texts share, only the `_COMPARED` texts that share the most bands are compared; bands that
hold something of a text's own bring its candidates as ever. 4,000 texts of which three fifths are a template took 19
seconds without that bound, and 16 times as long for each four times as many.

Memory: `bytes_per_text` for each kept text, at most three times that while the index is sorted; shingles lie in a
temporary file, 8 bytes each. A million texts of which a fifth were copies took 0.9 kB each at the peak.

Not here: which order is right, and texts that mean the same in other words.
"""

import hashlib
import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingest.annotators.shingles import BASE, Keys, WordHashes, mixed, runs, whole
from ingest.annotators.text import words
from lake.errors import UsageError

__all__ = ["Match", "NearDuplicates", "similarity"]

PERMUTATIONS = 128
OVERLOOKED = 0.01  # at most, of the pairs at the threshold

_TOGETHER = 4096  # texts whose signatures are made, and looked up, at once
_SETTLED = 256  # kept texts after which single ones are sorted
_RECENT = 16 * _TOGETHER  # kept texts after which the recent index joins the large one
_CROWD = 64  # kept texts that share a band: where there are more, it is of what all of them have in common
_COMPARED = 256  # of those that are in crowds, at most
_PART = 2048  # shingles whose permutations are at hand at once: a megabyte


class Match(NamedTuple):
    """The id of the kept text that a text is a near copy of, and their Jaccard similarity."""

    kept: str
    similarity: float


class NearDuplicates:
    """What has been kept so far, and which of it a text is a near copy of. Raises UsageError on odd settings."""

    def __init__(self, threshold: float = 0.8, shingle: int = 5) -> None:
        if not 0.3 <= threshold <= 1:
            raise UsageError(f"a threshold of {threshold} is none", "near duplicates share 0.3 to 1 of their shingles")
        if shingle < 1:
            raise UsageError(f"a shingle of {shingle} words is none", "a shingle is one word or more")
        self.threshold = threshold
        self.shingle = shingle
        self.rows, self.bands = _banding(threshold)
        self._factors, self._flips = _permutations(self.rows * self.bands)
        self._hashes = WordHashes()
        self._ids: list[str] = []
        self._ends = [0]  # of each kept text's shingles in the file
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it lives as long as this does
        weakref.finalize(self, self._file.close)
        self._index = _Index()

    @property
    def bytes_per_text(self) -> int:
        """What a kept text holds in memory: 12 bytes for each band, and its id with where its shingles are."""
        return 12 * self.bands + 120

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, key: str, text: str) -> Match | None:
        """The match of a text, which is kept under this key if it has none."""
        return next(self.matches([(key, text)]))

    def keep(self, key: str, text: str) -> None:
        """Keep a text under this key, whatever it is similar to."""
        made = self._shingles([text])
        if len(made[0]):
            here = self._index.open(self._band_keys(made))
            here.keep(0, len(self._ids))
            self._keep(key, made[0])
            self._index.close(here)

    def matches(self, texts: Iterable[tuple[str, str]]) -> Iterator[Match | None]:
        """The match of each (key, text), in order; one that has none is kept before the next is looked at.

        Many at once are much faster than one by one. Whoever stops early has kept nothing of what was not yet given.
        """
        left = iter(texts)
        while some := list(islice(left, _TOGETHER)):
            made = self._shingles([text for _, text in some])
            keys = self._band_keys(made)
            here = self._index.open(keys)
            try:
                for place, (key, _) in enumerate(some):
                    match = self._best(made[place], here.candidates(place))
                    if match is None and len(made[place]):
                        here.keep(place, len(self._ids))
                        self._keep(key, made[place])
                    yield match
            finally:
                self._index.close(here)

    def match(self, text: str) -> Match | None:
        """The match of a text, which is not kept."""
        made = self._shingles([text])
        return self._best(made[0], self._index.open(self._band_keys(made)).candidates(0))

    def _best(self, shingles: Keys, candidates: set[int]) -> Match | None:
        """The most similar candidate at or above the threshold, the earliest of equals. Without shingles, none."""
        if not candidates or not len(shingles):
            return None
        mine = frozenset(shingles.tolist())
        share, earliest = max((similarity(mine, self._kept(one)), -one) for one in candidates)
        return Match(self._ids[-earliest], share) if share >= self.threshold else None

    def _keep(self, key: str, shingles: Keys) -> None:
        self._ids.append(key)
        data = shingles.tobytes()
        os.pwrite(self._file.fileno(), data, self._ends[-1])
        self._ends.append(self._ends[-1] + len(data))

    def _kept(self, position: int) -> frozenset[int]:
        start, end = self._ends[position], self._ends[position + 1]
        return frozenset(np.frombuffer(os.pread(self._file.fileno(), end - start, start), np.uint64).tolist())

    def _shingles(self, texts: Sequence[str]) -> list[Keys]:
        """The hashes of each text's shingles, as they come."""
        hashed = [self._hashes.of(words(text)) for text in texts]
        long = [one for one in hashed if len(one) >= self.shingle]
        found = iter(runs(long, self.shingle))
        return [next(found) if len(one) >= self.shingle else whole(one) for one in hashed]

    def _band_keys(self, made: Sequence[Keys]) -> Keys:
        """A key for each band of each text, shape (texts, bands): those who share one are candidates."""
        signatures = np.full((len(made), self.rows * self.bands), np.iinfo(np.uint32).max, np.uint32)
        for places, part in _parts(made):
            low = np.concatenate(part).astype(np.uint32)
            starts = np.cumsum([0, *(len(one) for one in part[:-1])])
            minima = np.minimum.reduceat((low[:, None] * self._factors) ^ self._flips, starts, axis=0)
            signatures[places] = np.minimum(signatures[places], minima)
        keys = np.broadcast_to(np.arange(self.bands, dtype=np.uint64), (len(made), self.bands))
        parts = signatures.reshape(len(made), self.bands, self.rows)
        for row in range(self.rows):
            keys = mixed(keys * BASE + parts[:, :, row])
        return keys


class _Together:
    """Texts that are looked up together: what they share with settled texts, and with each other as they are kept."""

    def __init__(self, keys: Keys, settled: Sequence["_Sorted"], waiting: dict[int, list[int]]) -> None:
        self.keys = keys
        self.places: list[int] = []
        self.positions: list[int] = []
        self._waiting = waiting
        self._kept: dict[int, list[int]] = {}
        order = np.argsort(keys, axis=None)
        asked = keys.reshape(-1)[order]
        self._hits = [(index, *index.hits(asked, order // keys.shape[1], len(keys))) for index in settled]
        twice = np.zeros(len(asked), bool)  # few keys are there twice, and no others need to be remembered meanwhile
        twice[1:] = asked[1:] == asked[:-1]
        twice[:-1] |= twice[1:]
        self._shared: dict[int, list[int]] = {}
        for place, key in zip((order[twice] // keys.shape[1]).tolist(), asked[twice].tolist(), strict=True):
            self._shared.setdefault(place, []).append(key)

    def candidates(self, place: int) -> set[int]:
        """The kept texts that share a band with the text at this place; of a crowd, those that share the most."""
        found: set[int] = set()
        by_key: dict[int, list[Sequence[int] | NDArray[np.uint32]]] = {}
        for index, low, high, bounds in self._hits:
            for hit in range(bounds[place], bounds[place + 1]):
                there = index.positions[low[hit] : high[hit]]
                by_key.setdefault(int(index.keys[low[hit]]), []).append(there)
        for key in self._shared.get(place, ()):
            by_key.setdefault(key, []).append(self._kept.get(key, ()))
        if self._waiting:
            for key in self.keys[place].tolist():
                by_key.setdefault(key, []).append(self._waiting.get(key, ()))
        crowds: list[Sequence[int] | NDArray[np.uint32]] = []
        for lists in by_key.values():
            if sum(map(len, lists)) > _CROWD:
                crowds += lists
            else:
                for one in lists:
                    found.update(one.tolist() if isinstance(one, np.ndarray) else one)
        return found | _most_often(crowds) if crowds else found

    def keep(self, place: int, position: int) -> None:
        """Remember that the text at this place is kept, as the one at that position of all."""
        self.places.append(place)
        self.positions.append(position)
        for key in self._shared.get(place, ()):
            self._kept.setdefault(key, []).append(position)


def _most_often(crowds: Sequence[Sequence[int] | NDArray[np.uint32]]) -> set[int]:
    """Those that are in the most of these, as many as are compared at all; of equal ones the earlier."""
    positions, counts = np.unique(np.concatenate([np.asarray(one, np.int64) for one in crowds]), return_counts=True)
    return set(positions[np.argsort(-counts, kind="stable")[:_COMPARED]].tolist())


class _Index:
    """Which kept texts have a band key: a large sorted index, a recent one, and single ones that wait to be sorted."""

    def __init__(self) -> None:
        self._large = _Sorted.empty()
        self._recent = _Sorted.empty()
        self._waiting: dict[int, list[int]] = {}
        self._added: list[tuple[Keys, NDArray[np.uint32]]] = []

    def open(self, keys: Keys) -> _Together:
        """Look up texts by their band keys, shape (texts, bands)."""
        return _Together(keys, (self._large, self._recent), self._waiting)

    def close(self, here: _Together) -> None:
        """Take in what was kept of texts that were looked up together."""
        bands = here.keys.shape[1]
        keys = here.keys[here.places].reshape(-1)
        positions = np.repeat(np.array(here.positions, np.uint32), bands)
        self._added.append((keys, positions))
        if len(keys) + len(self._waiting) >= _SETTLED * bands:
            self._settle(_RECENT * bands)
        else:
            for key, position in zip(keys.tolist(), positions.tolist(), strict=True):
                self._waiting.setdefault(key, []).append(position)

    def _settle(self, most: int) -> None:
        keys, positions = (np.concatenate(parts) for parts in zip(*self._added, strict=True))
        self._recent = self._recent.with_more(keys, positions)
        if len(self._recent.keys) >= most:
            self._large = self._large.with_more(self._recent.keys, self._recent.positions)
            self._recent = _Sorted.empty()
        self._waiting.clear()
        self._added.clear()


class _Sorted(NamedTuple):
    """Band keys in order, each with the kept text that has it."""

    keys: Keys
    positions: NDArray[np.uint32]

    @classmethod
    def empty(cls) -> "_Sorted":
        return cls(np.empty(0, np.uint64), np.empty(0, np.uint32))

    def hits(
        self, asked: Keys, rows: NDArray[np.int64], count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], list[int]]:
        """Where in the index each sorted key that is there begins and ends, and the first hit of each of the rows."""
        low = np.searchsorted(self.keys, asked)
        hit = np.flatnonzero(low < len(self.keys))
        hit = hit[self.keys[low[hit]] == asked[hit]]
        hit = hit[np.argsort(rows[hit], kind="stable")]
        bounds = np.searchsorted(rows[hit], np.arange(count + 1)).tolist()
        return low[hit], np.searchsorted(self.keys, asked[hit], "right"), bounds

    def with_more(self, keys: Keys, positions: NDArray[np.uint32]) -> "_Sorted":
        every = np.concatenate([self.keys, keys])
        order = np.argsort(every, kind="stable")
        return _Sorted(every[order], np.concatenate([self.positions, positions])[order])


def similarity(first: frozenset[int], second: frozenset[int]) -> float:
    """The Jaccard similarity of two sets: the share of what is in either that is in both; of empty sets 0."""
    both = len(first & second)
    either = len(first) + len(second) - both
    return both / either if either else 0.0


def _banding(threshold: float) -> tuple[int, int]:
    """The rows of a band and how many bands: the longest bands that overlook few enough at the threshold."""
    for rows in range(PERMUTATIONS, 1, -1):
        bands = PERMUTATIONS // rows
        if (1 - threshold**rows) ** bands <= OVERLOOKED:
            return rows, bands
    return 1, PERMUTATIONS


def _permutations(count: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """The factors and flips of that many permutations of the 32-bit numbers, always the same."""
    made = np.frombuffer(hashlib.shake_256(b"near duplicates").digest(8 * count), np.uint32).reshape(2, count)
    return made[0] | np.uint32(1), made[1]


def _parts(made: Sequence[Keys]) -> Iterator[tuple[list[int], list[Keys]]]:
    """Shingles in parts of about so many, each with the places of their texts; a long text is in several parts."""
    places: list[int] = []
    part: list[Keys] = []
    size = 0
    for place, shingles in enumerate(made):
        for start in range(0, len(shingles), _PART):
            places.append(place)
            part.append(shingles[start : start + _PART])
            size += len(part[-1])
            if size >= _PART:
                yield places, part
                places, part, size = [], [], 0
    if part:
        yield places, part
