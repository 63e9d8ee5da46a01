"""Columns of rows that tests hand to checks: where a row comes from, and its turns."""

import pyarrow as pa

SOURCE = pa.struct([("file", pa.string()), ("line", pa.int64()), ("sha256", pa.string())])
TURNS = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


def source(**more: object) -> dict[str, object]:
    return {"file": "f", "line": 1, "sha256": "0" * 64, **more}
