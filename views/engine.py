"""A bare DuckDB connection: in memory, hardened, and the same on every machine.

Nothing is downloaded, no Python variable is taken for a table, times are UTC, and memory has a limit beyond which work
spills to a temporary folder. What it may read, `connect` narrows further.

Not here: what the connection is used for (`connect` puts the relations in; ingest works on columns with it).
"""

import os
import tempfile

import duckdb

# What DuckDB raises, and what of that where memory does not suffice, by names that the floors above may use.
EngineError = duckdb.Error
EngineFull = duckdb.OutOfMemoryException

MEMORY_LIMIT = "1GiB"
SETTINGS = {
    "allow_community_extensions": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
    "TimeZone": "UTC",
    "enable_progress_bar": False,
    # A query binds its files twice and then reads them; each time would parse what stands at the end of each.
    "parquet_metadata_cache": True,
}


def connection(*, threads: int | None = None, memory_limit: str = MEMORY_LIMIT) -> duckdb.DuckDBPyConnection:
    """An in-memory connection that neither downloads nor looks around.

    `threads` is DuckDB's own choice, one a core, unless given. `memory_limit` is a size such as "1GiB"; beyond it work
    spills to the system's temporary folder.
    """
    con = duckdb.connect(":memory:")
    for name, value in SETTINGS.items():
        con.execute(f"set {name} = ?", [value])
    con.execute("set memory_limit = ?", [memory_limit])
    con.execute("set temp_directory = ?", [os.path.join(tempfile.gettempdir(), f"lake-{os.getpid()}")])
    if threads is not None:
        con.execute("set threads = ?", [threads])
    return con
