"""The ground floor: what an event is, the log that keeps it, and snapshots of it.

`Lake` is the door; a `Snapshot` is what everything above reads.
"""

from lake.commits import Commit
from lake.errors import LakeError
from lake.events import KINDS, Kind
from lake.lake import Lake
from lake.log import Appended, Position
from lake.snapshots import Snapshot

__all__ = ["KINDS", "Appended", "Commit", "Kind", "Lake", "LakeError", "Position", "Snapshot"]
