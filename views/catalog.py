"""Writes a DuckDB file with every relation over a snapshot, for any DuckDB shell.

The file holds views and the policy, no data: its views read the pinned Parquet files where they lie, so it is small,
and stale only in that it shows the snapshot it was made from. It is stored in the format of DuckDB 1.2, which older
shells than the lake's own open, without extension, server or Python.

Not here: keeping such a file up to date. The lake itself never reads one.
"""

import os
import tempfile
from pathlib import Path

from lake.errors import LakeError
from views import engine
from views.connect import Pinned, define
from views.policy import Policy

STORAGE_VERSION = "v1.2.0"


class Occupied(LakeError):
    """There is something at the path already, and it is not replaced unless asked."""


def write(path: str, snapshot: Pinned, policy: Policy | None = None, *, replace: bool = False) -> None:
    """Writes the file, whole or not at all. Raises Occupied if there is one, unless `replace`."""
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
            define(con, snapshot, policy or Policy())
            con.execute("use memory")
            con.execute("detach catalog")
        finally:
            con.close()
        _place(made.read_bytes(), target)


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
