"""SQL over a snapshot: what the events, taken together, mean.

`connect(snapshot, policy)` opens every relation. Each is a `.sql` file here, named as the relation is; its first line
says what one row is. `duckdb` is imported on this floor alone.
"""

from views.catalog import write as write_catalog
from views.connect import Pinned, Rules, connect, digest, dumps, loads, needed, sources
from views.lineage import Change, Step, diff, why
from views.policy import Policy
from views.query import QueryFailed, Refused, query

__all__ = [
    "Change",
    "Pinned",
    "Policy",
    "QueryFailed",
    "Refused",
    "Rules",
    "Step",
    "connect",
    "diff",
    "digest",
    "dumps",
    "loads",
    "needed",
    "query",
    "sources",
    "why",
    "write_catalog",
]
