"""What pools there are: each as its receipt in the lake has it."""

from collections.abc import Iterator

import msgspec

from lake import Lake
from lake.errors import UnknownRef

STAGE = "pool"


class Filled(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What became of a domain, or of what is held back (which has no `share`, and a `quota` only if a size was given).

    Of the prompts `considered`, each was `taken` or is counted under one of the reasons in `refused`.
    """

    name: str
    share: float | None
    quota: int | None
    taken: int
    considered: int
    refused: dict[str, int]

    @property
    def is_short(self) -> bool:
        """Whether it has fewer prompts than it was to have."""
        return self.quota is not None and self.taken < self.quota


class Elsewhere(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many prompts of a domain, None if they have none, were not considered for any of the pool's, and why."""

    domain: str | None
    reason: str
    prompts: int


class Pool(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A pool: its id, the name of the snapshot that has it, and what became of each domain.

    `snapshot` is None, and `is_new` means nothing, where a pool was only tried. `is_new` is false where the lake had
    the pool under that name already.
    """

    pool: str
    name: str
    target: int
    domains: tuple[Filled, ...]
    elsewhere: tuple[Elsewhere, ...] = ()
    snapshot: str | None = None
    is_new: bool = True

    @property
    def taken(self) -> int:
        """Prompts that were taken, those that are held back among them."""
        return sum(domain.taken for domain in self.domains)

    @property
    def is_short(self) -> bool:
        """Whether some domain has fewer prompts than it was to have."""
        return any(domain.is_short for domain in self.domains)

    def held(self, name: str) -> str:
        """The id of the pool of what is held back under this name."""
        return f"{self.pool}/{name}"


def pools(lake: Lake) -> Iterator[Pool]:
    """The pools that were built, the last one first."""
    rows = lake.read("receipts").select(["stage", "batch", "counts"]).to_pylist()
    # By the log's own order, not by clocks that jump: the batch is named by a sequence that only rises.
    rows.sort(key=lambda row: int(row["batch"].rpartition("@")[2]), reverse=True)
    for row in rows:
        if row["stage"] == STAGE:
            yield msgspec.json.decode(row["counts"], type=Pool)


def pool_called(lake: Lake, called: str) -> Pool | None:
    """The pool of this id or name, None if there is none. A name means the pool that was given it last."""
    return next((pool for pool in pools(lake) if called in (pool.pool, pool.name)), None)


def pool_named(lake: Lake, called: str) -> Pool:
    """The pool of this id or name. Raises UnknownRef."""
    pool = pool_called(lake, called)
    if pool is None:
        raise UnknownRef(f"there is no pool {called!r}", "run 'lake pool show'")
    return pool
