"""Writes a DuckDB file with every relation over a snapshot, for any DuckDB shell.

The file holds views and the policy, no data: its views read the pinned Parquet files where they lie, so it is small,
and stale only in that it shows the snapshot it was made from. It is stored in the format of DuckDB 1.2, which older
shells than the lake's own open, without extension, server or Python. Of a lake in a bucket it can hold the files' URLs,
which a shell reads with DuckDB's extension httpfs.

Not here: keeping such a file up to date. The lake itself never reads one.
"""

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from lake.errors import LakeError
from lake.kinds import KINDS
from views import engine
from views.connect import Pinned, define
from views.policy import Policy
from views.tables import stand_in

STORAGE_VERSION = "v1.2.0"


class Occupied(LakeError):
    """There is something at the path already, and it is not replaced unless asked."""


def write(
    path: str,
    snapshot: Pinned,
    policy: Policy | None = None,
    *,
    ledgers: Mapping[str, Sequence[str]] | None = None,
    remote: Mapping[str, Sequence[str]] | None = None,
    replace: bool = False,
) -> None:
    """Writes the file, whole or not at all. Raises Occupied if there is one, unless `replace`.

    Its views read the files' paths on this machine, or the URLs of each kind's files that `remote` has. The ledgers'
    are `ledgers`, or in `remote` too: those are as they are now, and no snapshot keeps them from being freed.
    """
    target = Path(path)
    if target.exists() and not replace:
        raise Occupied(f"{path} exists already", "give another name, or remove it first")
    con = engine.connection()
    # The file is made in a folder whose name needs no quoting, whatever the target is called.
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "catalog.duckdb")
        try:
            con.execute(f"attach '{made}' as catalog (storage_version '{STORAGE_VERSION}')")
            con.execute("use catalog")
            if remote is not None:
                _stand_in(con, folder, remote)
            define(con, snapshot, policy or Policy(), ledgers=ledgers, remote=remote)
            con.execute("use memory")
            con.execute("detach catalog")
        finally:
            con.close()
        _place(made.read_bytes(), target)


def _stand_in(con: duckdb.DuckDBPyConnection, folder: str, kinds: Iterable[str]) -> None:
    """Lets views be made over files that cannot be opened here: an empty one of each kind, of the same columns."""
    for kind in kinds:
        empty = os.path.join(folder, f"{kind}.parquet")
        pq.write_table(KINDS[kind].schema.empty_table(), empty)
        con.execute(f"set variable {stand_in(kind)} = [?]", [empty])


def _place(data: bytes, target: Path) -> None:
    """Puts the bytes under a name at once, durably."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(file.name, 0o644)
        os.replace(file.name, target)
    except OSError as error:
        raise LakeError(f"{target} cannot be written: {error.strerror}") from None
