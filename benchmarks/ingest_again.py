"""What does it cost to send a file again? Ingesting it a second time against the first.

`python benchmarks/ingest_again.py --rows 1000000`. The second time nothing may be stored.
"""

from benchmarks.generate import generate
from benchmarks.measure import Side, compare, in_process, parser, scratch, timed
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
    options = parser(main.__doc__).parse_args()
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
            times=options.times,
        )


if __name__ == "__main__":
    main()
