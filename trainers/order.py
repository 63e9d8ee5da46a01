"""In which order rows are trained on: a pure function of their keys and a seed, the same on every machine.

A row's key comes from what it says, not from where it is stored, so compaction, another file layout or further commits
change no order. Nothing is drawn from a generator whose stream a library may change: orders come from splitmix64, as in
Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def splitmix64(states: Keys) -> Keys:
    """The output of splitmix64 for each state, uint64 of the same shape. Additions and products are modulo 2^64."""
    mixed = states + _GAMMA
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
    return mixed ^ (mixed >> np.uint64(31))


def keys_of(ids: Iterable[str]) -> Keys:
    """A key for each row id, uint64 of shape (n,): the first eight bytes of its sha256, the lowest first."""
    data = b"".join(hashlib.sha256(text.encode()).digest()[:8] for text in ids)
    return np.frombuffer(data, "<u8").astype(np.uint64)


def shuffled(keys: Keys, seed: int, epoch: int = 0) -> Places:
    """The places of the rows in the order of an epoch, int64 of shape (n,).

    Rows of equal keys, which say the same, keep the order in which they come.
    """
    salt = splitmix64(splitmix64(np.array([seed], np.int64).view(np.uint64)) ^ np.uint64(epoch))
    mixed = splitmix64(keys ^ salt)
    return np.lexsort((keys, mixed)).astype(np.int64)
