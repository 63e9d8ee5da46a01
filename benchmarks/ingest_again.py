"""What does it cost to send a file again? Ingesting it a second time against the first.

`python benchmarks/ingest_again.py --rows 1000000`. The second time nothing may be stored.
"""

import argparse
from pathlib import Path

from benchmarks.generate import DATA, generate
from benchmarks.measure import Side, compare, in_process, scratch, timed
from ingest.run import ingest
from lake import Lake

__all__ = ["again", "first", "main"]

BAR = 0.02


def first(evidence: str, folder: str) -> float:
    """Ingest a file into a lake of its own."""
    lake = Lake.create(folder)
    return timed(lambda: ingest(lake, "evidence", [evidence]))


def again(evidence: str, folder: str) -> float:
    """Ingest a file into the lake that holds it."""
    lake = Lake.open(folder)
    before = lake.versions()["evidence"], lake.snapshot().rows("evidence")
    seconds = timed(lambda: ingest(lake, "evidence", [evidence]))
    after = lake.versions()["evidence"], lake.snapshot().rows("evidence")
    if before != after:
        raise SystemExit(f"sending the file again changed the table: {before} became {after}")
    return seconds


def main() -> None:
    """Compare the second time with the first on generated data."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--data", type=Path, default=DATA, help="where the generated files are kept")
    options = parser.parse_args()
    files = generate(options.rows, data=options.data)
    with scratch(options.data) as folder:
        # Each turn sends again what the turn before, or this line, has sent first.
        in_process(first, [files.evidence, folder / "lake-0"])
        compare(
            f"re-ingest: {options.rows:,} rows, the same file again",
            [
                Side("the same file again", again, lambda turn: [files.evidence, folder / f"lake-{turn}"]),
                Side("the first time", first, lambda turn: [files.evidence, folder / f"lake-{turn + 1}"]),
            ],
            BAR,
        )


if __name__ == "__main__":
    main()
