"""What one export is made of: how it was asked for, and all that its bytes depend on.

Not here: doing it (`export`).
"""

from collections.abc import Mapping

import msgspec

from exporters.dataset import Dataset
from exporters.datasets import dataset_named
from exporters.formats import FILE_BYTES
from exporters.packed import Packing, checked_lengths
from exporters.receipt import Receipt
from exporters.tokenizing import Tokenizer, revived
from lake import Lake
from lake.errors import UsageError
from views.connect import loads, sources
from views.policy import Policy


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How to export. `at` is any reference to a snapshot; without it the current state is pinned.

    `shape` is one that the dataset offers, by default its first. Without `provenance` a row is its id and what a
    trainer reads. `val` is the share of rows that goes into a split of its own, `validation`: by the hash of `seed` and
    of what the row's task says, so a row stays on its side as the lake grows, and copies are on the same one. `views`
    is the digest of older SQL that the lake keeps. A file is closed once it holds `file_bytes` of text. A dry run does
    all the work and writes nothing, neither files nor to the lake.

    `replay` is the share of all rows that is of past training, drawn as `policy.replay` says.

    With a `tokenizer`, documents are packed into rows of each of `lengths`; the format may then be `npy`, too.
    """

    at: str | None = None
    format: str = "jsonl"
    shape: str | None = None
    provenance: bool = True
    policy: Policy = Policy()
    val: float = 0.0
    seed: int = 0
    replay: float = 0.0
    views: str | None = None
    tokenizer: Tokenizer | None = None
    lengths: tuple[int, ...] = ()
    file_bytes: int = FILE_BYTES
    dry_run: bool = False

    @property
    def packing(self) -> Packing | None:
        """How documents are packed, if they are."""
        return None if self.tokenizer is None else Packing(self.tokenizer.identity, checked_lengths(self.lengths))

    def __post_init__(self) -> None:
        if not 0 <= self.val < 1:
            raise UsageError(f"the share for validation cannot be {self.val}", "name one of at least 0, and below 1")
        if not 0 <= self.replay < 1:
            raise UsageError(f"the replayed share cannot be {self.replay}", "name one of at least 0, and below 1")


class Plan(msgspec.Struct, frozen=True):
    """All that the bytes of an export depend on, besides its snapshot."""

    dataset: Dataset
    shape: str
    options: Options
    sql: Mapping[str, str]


def plan_of(lake: Lake, said: Receipt) -> Plan:
    """The plan of an export that has this receipt. Raises UnknownRef, Damaged."""
    used = None if said.packing is None else said.packing.tokenizer
    options = Options(
        format=said.format,
        provenance=said.provenance,
        policy=msgspec.convert(said.policy, Policy),
        val=said.val,
        seed=said.seed,
        replay=said.replay,
        tokenizer=None if used is None else revived(lake.get_object(used.sha256), used.specials),
        lengths=() if said.packing is None else said.packing.lengths,
        file_bytes=said.file_bytes,
    )
    return Plan(dataset_named(said.dataset), said.shape, options, loads(lake.get_object(said.views)))


def rules(lake: Lake, options: Options) -> Mapping[str, str]:
    """The SQL of the views: the installed ones, or those that the options name by digest. Raises UnknownRef."""
    return sources() if options.views is None else loads(lake.get_object(options.views))
