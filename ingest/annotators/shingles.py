"""Words as numbers, and the runs of so many words that a text is compared by.

    hashes = WordHashes()
    [found] = runs([hashes.of(words("to be or not to be"))], 2)  # five numbers

Two runs have the same 64-bit number if they are the same words, and hardly ever otherwise; the numbers are the same on
every machine.

Not here: what a word is (`text`), and what runs in common mean (`minhash`, `contamination`).
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["BASE", "Keys", "WordHashes", "mixed", "runs", "whole"]

Keys = NDArray[np.uint64]

BASE = np.uint64(0x9E3779B97F4A7C15)

_VOCABULARY = 1 << 20  # words whose hash is remembered
_MIX = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53), np.uint64(33))  # of MurmurHash3's finish


class WordHashes(dict[str, int]):
    """The hash of each word, made once: the first eight bytes of its BLAKE2b."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _VOCABULARY:
            self.clear()
        # Half a surrogate pair is no UTF-8, and still a character that a text can have.
        made = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        self[word] = number = int.from_bytes(made, "little")
        return number

    def of(self, found: Sequence[str]) -> Keys:
        """The hashes of some words, in order."""
        return np.fromiter(map(self.__getitem__, found), np.uint64, len(found))


def runs(hashed: Sequence[Keys], size: int) -> list[Keys]:
    """The hashes of the runs of `size` words of texts that have so many."""
    if not hashed:
        return []
    every = np.concatenate(hashed)
    count = len(every) - size + 1
    made = np.zeros(count, np.uint64)
    for place in range(size):
        made = made * BASE + every[place : place + count]
    ends = np.cumsum([len(one) for one in hashed])
    found = mixed(made)  # those that begin in one text and end in the next are left out
    return [found[end - len(one) : end - size + 1] for one, end in zip(hashed, ends.tolist(), strict=True)]


def whole(hashed: Keys) -> Keys:
    """The one run of a text of few words, or of none."""
    return runs([hashed], len(hashed))[0] if len(hashed) else hashed


def mixed(values: Keys) -> Keys:
    """The finish of MurmurHash3: each bit changes about half of the others."""
    first, second, shift = _MIX
    values = (values ^ (values >> shift)) * first
    values = (values ^ (values >> shift)) * second
    return values ^ (values >> shift)
