"""Does checking cost much? Ingesting a file of JSON lines against DuckDB's bare COPY of it, which checks nothing.

`python benchmarks/ingest_new.py --rows 1000000`. Ours validates each row, gives it an id, notes where it came from,
looks whether the lake holds it already, and syncs to the disk. The other side parses and compresses.
"""

import duckdb

from benchmarks.generate import generate
from benchmarks.measure import Side, compare, parser, scratch, timed
from ingest.run import ingest
from lake import Lake

__all__ = ["bare_copy", "into_new_lake", "main"]

BAR = 2.0


def into_new_lake(evidence: str, folder: str) -> float:
    """Ingest a file into a lake of its own."""
    lake = Lake.create(folder)
    return timed(lambda: ingest(lake, "evidence", [evidence]))


def bare_copy(evidence: str, target: str) -> float:
    """Turn a file into Parquet by what is the shortest way of all."""
    connection = duckdb.connect()
    statement = f"copy (from read_json('{evidence}')) to '{target}' (compression zstd)"
    return timed(lambda: connection.execute(statement))


def main() -> None:
    """Compare the two on generated data."""
    options = parser(main.__doc__).parse_args()
    files = generate(options.rows, data=options.data)
    size = files.evidence.stat().st_size / 1e9
    with scratch(options.data) as folder:
        compare(
            f"ingest: {options.rows:,} rows, {size:.2f} GB of JSON lines",
            [
                Side("lake ingest", into_new_lake, lambda turn: [files.evidence, folder / f"lake-{turn}"]),
                Side("DuckDB, bare COPY", bare_copy, lambda turn: [files.evidence, folder / f"{turn}.parquet"]),
            ],
            BAR,
            times=options.times,
        )


if __name__ == "__main__":
    main()
