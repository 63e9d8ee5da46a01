"""Does a lake slow down as it grows? Ingesting a file into a large lake against the same into an empty one.

`python benchmarks/ingest_large.py --rows 1000000 --into 10000000`. The large lake is made first, part by part, and
takes about 0.4 GB a million rows; the rows that are ingested are new to it.
"""

import shutil

from benchmarks.generate import generate
from benchmarks.measure import Side, compare, in_process, parser, scratch, timed
from ingest.run import ingest
from lake import Lake

__all__ = ["into_lake", "main"]

BAR = 1.3
PART = 1_000_000


def into_lake(evidence: str, folder: str) -> float:
    """Ingest a file into a lake, which is made if it is not there."""
    lake = Lake.create(folder, exist_ok=True)
    return timed(lambda: ingest(lake, "evidence", [evidence]))


def main() -> None:
    """Compare the two on generated data."""
    arguments = parser(main.__doc__)
    arguments.add_argument("--into", type=int, default=10_000_000, help="how many rows the large lake holds")
    options = arguments.parse_args()
    with scratch(options.data) as folder:
        large = folder / "large"
        part_rows = min(PART, options.into)
        for part in range(-(-options.into // part_rows)):
            # Parts of the large lake come after those that are measured, and are not kept.
            files = generate(part_rows, options.times + part, folder)
            in_process(into_lake, [files.evidence, large])
            shutil.rmtree(files.evidence.parent)
        held = Lake.open(str(large)).snapshot().rows("evidence")
        parts = [generate(options.rows, turn, options.data).evidence for turn in range(options.times)]
        compare(
            f"ingest into a large lake: {options.rows:,} rows into {held:,}",
            [
                Side("into the large lake", into_lake, lambda turn: [parts[turn], large]),
                Side("into an empty lake", into_lake, lambda turn: [parts[turn], folder / f"empty-{turn}"]),
            ],
            BAR,
            times=options.times,
        )


if __name__ == "__main__":
    main()
