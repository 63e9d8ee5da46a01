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

Memory: `bytes_per_text` for each kept text, and its id; shingles lie in a temporary file, 8 bytes each.

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

from ingest.annotators.text import words
from lake.errors import UsageError

__all__ = ["Match", "NearDuplicates", "similarity"]

PERMUTATIONS = 128
OVERLOOKED = 0.01  # at most, of the pairs at the threshold

_TOGETHER = 4096  # texts whose signatures are made, and looked up, at once
_RECENT = 16 * _TOGETHER  # kept texts after which the recent index joins the large one
_PART = 2048  # shingles whose permutations are at hand at once: a megabyte
_VOCABULARY = 1 << 20  # words whose hash is remembered

_U64 = NDArray[np.uint64]
_MIX = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53), np.uint64(33))  # of MurmurHash3's finish
_BASE = np.uint64(0x9E3779B97F4A7C15)


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
        self._hashes = _Hashes()
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

    def matches(self, texts: Iterable[tuple[str, str]]) -> Iterator[Match | None]:
        """The match of each (key, text), in order; one that has none is kept before the next is looked at.

        Many at once are much faster than one by one. Whoever stops early has kept nothing of what was not yet given.
        """
        left = iter(texts)
        while some := list(islice(left, _TOGETHER)):
            self._index.settle()
            made = self._shingles([text for _, text in some])
            keys = self._band_keys(made)
            found = self._index.settled(keys)
            for place, (key, _) in enumerate(some):
                shingles = made[place]
                if not len(shingles):
                    yield None
                    continue
                candidates = found[place] | self._index.waiting(keys[place])
                match = self._best(shingles, candidates)
                if match is None:
                    self._keep(key, shingles, keys[place])
                yield match

    def match(self, text: str) -> Match | None:
        """The match of a text, which is not kept."""
        made = self._shingles([text])
        if not len(made[0]):
            return None
        keys = self._band_keys(made)
        return self._best(made[0], self._index.settled(keys)[0] | self._index.waiting(keys[0]))

    def _best(self, shingles: _U64, candidates: set[int]) -> Match | None:
        """The most similar candidate at or above the threshold, the earliest of equals."""
        if not candidates:
            return None
        mine = frozenset(shingles.tolist())
        share, earliest = max((similarity(mine, self._kept(one)), -one) for one in candidates)
        return Match(self._ids[-earliest], share) if share >= self.threshold else None

    def _keep(self, key: str, shingles: _U64, keys: _U64) -> None:
        self._index.add(len(self._ids), keys)
        self._ids.append(key)
        data = shingles.tobytes()
        os.pwrite(self._file.fileno(), data, self._ends[-1])
        self._ends.append(self._ends[-1] + len(data))

    def _kept(self, position: int) -> frozenset[int]:
        start, end = self._ends[position], self._ends[position + 1]
        return frozenset(np.frombuffer(os.pread(self._file.fileno(), end - start, start), np.uint64).tolist())

    def _shingles(self, texts: Sequence[str]) -> list[_U64]:
        """The hashes of each text's shingles, as they come."""
        hashed = [self._hashes.of(words(text)) for text in texts]
        long = [one for one in hashed if len(one) >= self.shingle]
        runs = iter(_runs(long, self.shingle))
        return [next(runs) if len(one) >= self.shingle else _whole(one) for one in hashed]

    def _band_keys(self, made: Sequence[_U64]) -> _U64:
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
            keys = _mixed(keys * _BASE + parts[:, :, row])
        return keys


class _Hashes(dict[str, int]):
    """The hash of each word, made once: the first eight bytes of its BLAKE2b."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _VOCABULARY:
            self.clear()
        # Half a surrogate pair is no UTF-8, and still a character that a text can have.
        made = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        self[word] = number = int.from_bytes(made, "little")
        return number

    def of(self, found: Sequence[str]) -> _U64:
        return np.fromiter(map(self.__getitem__, found), np.uint64, len(found))


class _Index:
    """Which kept texts have a band key: a large sorted index, a recent one, and what waits to be settled."""

    def __init__(self) -> None:
        self._large = _Sorted.empty()
        self._recent = _Sorted.empty()
        self._waiting: dict[int, list[int]] = {}
        self._added: list[tuple[int, _U64]] = []

    def add(self, position: int, keys: _U64) -> None:
        self._added.append((position, keys))
        for key in keys.tolist():
            self._waiting.setdefault(key, []).append(position)

    def waiting(self, keys: _U64) -> set[int]:
        waiting = self._waiting
        return {position for key in keys.tolist() if key in waiting for position in waiting[key]}

    def settled(self, keys: _U64) -> list[set[int]]:
        """For each row of keys, the settled texts that share one of them."""
        found: list[set[int]] = [set() for _ in keys]
        flat = keys.reshape(-1)
        order = np.argsort(flat)
        asked = flat[order]
        for index in (self._large, self._recent):
            low = np.searchsorted(index.keys, asked)
            hit = low < len(index.keys)
            hit[hit] = index.keys[low[hit]] == asked[hit]
            for place in np.flatnonzero(hit).tolist():
                start = low[place]
                end = np.searchsorted(index.keys, asked[place], "right")
                found[order[place] // keys.shape[1]].update(index.positions[start:end].tolist())
        return found

    def settle(self) -> None:
        """Sort what waits, once it is enough to be worth it."""
        if len(self._added) < _TOGETHER:
            return
        keys = np.concatenate([keys for _, keys in self._added])
        positions = np.repeat(np.array([place for place, _ in self._added], np.uint32), len(self._added[0][1]))
        self._recent = self._recent.with_more(keys, positions)
        if len(self._recent.keys) >= _RECENT * len(self._added[0][1]):
            self._large = self._large.with_more(self._recent.keys, self._recent.positions)
            self._recent = _Sorted.empty()
        self._waiting.clear()
        self._added.clear()


class _Sorted(NamedTuple):
    """Band keys in order, each with the kept text that has it."""

    keys: _U64
    positions: NDArray[np.uint32]

    @classmethod
    def empty(cls) -> "_Sorted":
        return cls(np.empty(0, np.uint64), np.empty(0, np.uint32))

    def with_more(self, keys: _U64, positions: NDArray[np.uint32]) -> "_Sorted":
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


def _runs(hashed: Sequence[_U64], size: int) -> list[_U64]:
    """The hashes of the runs of `size` words of texts that have so many."""
    if not hashed:
        return []
    every = np.concatenate(hashed)
    count = len(every) - size + 1
    made = np.zeros(count, np.uint64)
    for place in range(size):
        made = made * _BASE + every[place : place + count]
    ends = np.cumsum([len(one) for one in hashed])
    mixed = _mixed(made)  # those that begin in one text and end in the next are left out
    return [mixed[end - len(one) : end - size + 1] for one, end in zip(hashed, ends.tolist(), strict=True)]


def _whole(hashed: _U64) -> _U64:
    """The one run of a text of few words, or of none."""
    return _runs([hashed], len(hashed))[0] if len(hashed) else hashed


def _mixed(values: _U64) -> _U64:
    """The finish of MurmurHash3: each bit changes about half of the others."""
    first, second, shift = _MIX
    values = (values ^ (values >> shift)) * first
    values = (values ^ (values >> shift)) * second
    return values ^ (values >> shift)


def _parts(made: Sequence[_U64]) -> Iterator[tuple[list[int], list[_U64]]]:
    """Shingles in parts of about so many, each with the places of their texts; a long text is in several parts."""
    places: list[int] = []
    part: list[_U64] = []
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
