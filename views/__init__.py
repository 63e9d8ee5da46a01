"""SQL over a snapshot: what the events, taken together, mean.

`connect(snapshot, policy)` opens every relation. Each is a `.sql` file here, named as the relation is; its first line
says what one row is. `duckdb` is imported on this floor alone.
"""

from views.connect import Pinned, Rules, connect, digest, dumps, loads, sources
from views.policy import Policy

__all__ = ["Pinned", "Policy", "Rules", "connect", "digest", "dumps", "loads", "sources"]
