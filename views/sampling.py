"""Draws sections of past training: weighted, without replacement, and the same ones wherever it is done.

A draw is a function of the snapshot, the policy's `replay` (scheme, seed, now) and what is asked for. Each section that
may be drawn (the view `replay_pool`) has the key ln(u) / w, with its weight w and a u in (0, 1) made from a hash of the
seed and its id, and the k largest keys are drawn: Efraimidis and Spirakis, "Weighted random sampling with a reservoir"
(2006), algorithm A-ES. So neither the order of rows nor any generator's stream plays a part, and a smaller draw is a
part of a larger one.

Only ids, types, weights and times are read, never what a section says: from ten million sections it takes seconds.

Not here: which sections may be drawn, and at what weight (`views/replay`), and which rows they hold (`replay_rows`).
"""

import hashlib
from collections.abc import Collection
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lake.errors import UsageError
from lake.kinds import SECTION_TYPES

Connection = Any  # what views.connect opens

NEEDS = "replay_pool"
ID_LENGTH = 16

_BATCH_ROWS = 1 << 17
_POOL = "select section_id, draw_weight from replay_pool where list_contains(?, section_type)"
_MULTIPLIERS = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))  # MurmurHash3's finalizer
_SHIFT = np.uint64(33)


class Drawn(msgspec.Struct, frozen=True):
    """What a draw gave: the ids, the first drawn first, and how many sections there were to draw from."""

    ids: tuple[str, ...]
    pool: int


def draw(con: Connection, k: int, *, seed: int, types: Collection[str] = SECTION_TYPES) -> Drawn:
    """The ids of `k` sections of these types, or of all that may be drawn if they are fewer.

    `con` has the relation that `NEEDS` names, and what that one needs. Raises UsageError for a `k` below 0, and for a
    type that is none.
    """
    if k < 0:
        raise UsageError(f"{k} sections cannot be drawn", "ask for 0 or more")
    if unknown := sorted(set(types) - set(SECTION_TYPES)):
        raise UsageError(f"there is no section type {unknown[0]!r}", f"the types are {', '.join(SECTION_TYPES)}")
    best = _Largest(k)
    pool = 0
    for batch in con.sql(_POOL, params=[sorted(types)]).to_arrow_reader(_BATCH_ROWS):
        ids, weights = batch.column("section_id"), np.asarray(batch.column("draw_weight"))
        best.add(draw_keys(ids, weights, seed), ids)
        pool += len(batch)
    return Drawn(best.ids(), pool)


def draw_keys(ids: pa.StringArray, weights: np.ndarray, seed: int) -> np.ndarray:
    """The key ln(u) / w of each section, shape (n,), float64, all below 0. `weights` are above 0.

    u is (h + 1/2) / 2^53, where h is the upper 53 bits of a 64-bit hash: the id's two halves, each mixed with 64 bits
    of sha256(seed) by MurmurHash3's finalizer. An id that has not 16 characters goes by the start of its sha256.
    """
    halves = _halves(ids)
    salts = np.frombuffer(hashlib.sha256(str(seed).encode()).digest()[:16], "<u8")
    mixed = _mix(_mix(halves[:, 0] ^ salts[0]) + halves[:, 1] ^ salts[1])
    uniform = ((mixed >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return np.log(uniform) / weights


def retention_delta(current: float | None, previous: float | None) -> float | None:
    """How a measure on the reserved sections has changed since the run before; None where either is not known."""
    return None if current is None or previous is None else current - previous


def _halves(ids: pa.StringArray) -> np.ndarray:
    """The 16 characters of each id as two numbers, shape (n, 2), uint64."""
    whole = pc.equal(pc.binary_length(ids), ID_LENGTH)
    if not pc.all(whole, min_count=0).as_py():
        ids = pa.array([one if len(one.encode()) == ID_LENGTH else _short(one) for one in ids.to_pylist()], pa.string())
    fixed = ids.cast(pa.binary()).cast(pa.binary(ID_LENGTH))
    data = np.frombuffer(fixed.buffers()[1] or b"", "<u8")
    return data[2 * fixed.offset : 2 * (fixed.offset + len(fixed))].reshape(-1, 2)


def _short(section_id: str) -> str:
    return hashlib.sha256(section_id.encode()).hexdigest()[:ID_LENGTH]


def _mix(values: np.ndarray) -> np.ndarray:
    for multiplier in _MULTIPLIERS:
        values = (values ^ (values >> _SHIFT)) * multiplier
    return values ^ (values >> _SHIFT)


class _Largest:
    """The `k` largest keys of those that came, with their ids; what cannot be among them is let go."""

    def __init__(self, k: int) -> None:
        self._k = k
        self._keys = np.empty(0)
        self._ids = np.empty(0, "S1")

    def add(self, keys: np.ndarray, ids: pa.StringArray) -> None:
        """Take these into account."""
        if len(self._keys) >= self._k:
            worth = keys >= self._least()
            keys, ids = keys[worth], ids.filter(pa.array(worth))
        texts = np.array([one.encode() for one in ids.to_pylist()], dtype=bytes)
        self._keys = np.concatenate([self._keys, keys])
        self._ids = np.concatenate([self._ids, texts]) if len(texts) else self._ids
        if len(self._keys) > 2 * self._k:
            kept = self._keys >= self._least()  # equal ones too: which of them count, their ids decide
            self._keys, self._ids = self._keys[kept], self._ids[kept]

    def ids(self) -> tuple[str, ...]:
        """The ids, that of the largest key first, of equal keys the lower id first."""
        order = np.lexsort((self._ids, -self._keys))[: self._k]
        return tuple(one.decode() for one in self._ids[order].tolist())

    def _least(self) -> float:
        """The smallest key that is among the largest so far."""
        if not self._k:
            return np.inf
        return float(np.partition(self._keys, len(self._keys) - self._k)[len(self._keys) - self._k])
