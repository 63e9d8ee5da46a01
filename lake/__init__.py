"""The ground floor: what an event is, the log that keeps it, and snapshots of it.

`Lake` is the door; a `Snapshot` is what everything above reads.
"""

from typing import TYPE_CHECKING

from lake.lazy import looked_up

if TYPE_CHECKING:
    from lake.commits import Commit
    from lake.errors import LakeError
    from lake.kinds import KINDS, Kind
    from lake.lake import Lake
    from lake.log import Appended, Position
    from lake.snapshots import Snapshot

__all__ = ["KINDS", "Appended", "Commit", "Kind", "Lake", "LakeError", "Position", "Snapshot"]

__getattr__ = looked_up(
    __name__,
    {
        "KINDS": "lake.kinds",
        "Appended": "lake.log",
        "Commit": "lake.commits",
        "Kind": "lake.kinds",
        "Lake": "lake.lake",
        "LakeError": "lake.errors",
        "Position": "lake.log",
        "Snapshot": "lake.snapshots",
    },
)
