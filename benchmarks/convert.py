"""What does a change of format cost? Against Hugging Face's library, which most people would use for it.

`python benchmarks/convert.py --rows 200000`. Ours looks at every row first to find the types that hold all of them
exactly, and brings the file to the disk before it has a name. The library guesses types from the first rows, and keeps
a copy of all rows in its cache on the way. Both write the same rows, which is checked. Needs the extra `train`.
"""

import random
from pathlib import Path

import datasets
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.measure import Side, compare, parser, print_ratio, scratch, timed
from exporters.convert import convert

__all__ = ["conversations", "in_chunks", "main", "ours", "theirs", "theirs_to_disk"]

TIME_BAR = 2.0
MEMORY_BAR = 1.0
WORDS = [f"word{number}" for number in range(997)]


def conversations(path: Path, rows: int) -> Path:
    """Rows of turns as JSON lines, of a few hundred bytes each, the same every time."""
    chance = random.Random(7)
    with path.open("wb") as file:
        for number in range(rows):
            turns = [
                {"role": role, "content": " ".join(chance.choices(WORDS, k=chance.randrange(5, 60)))}
                for role in ("system", "user", "assistant")
            ]
            row = {"id": f"row-{number}", "messages": turns, "task_id": f"task-{number % 999}", "score": number / rows}
            file.write(msgspec.json.encode(row) + b"\n")
    return path


def ours(source: str, out: str) -> float:
    """Write the rows in another format, of which the name tells."""
    return timed(lambda: convert(source, out))


def theirs(source: str, out: str) -> float:
    """Load the rows with the library, and have it write Parquet."""
    return timed(lambda: _loaded(source, out).to_parquet(out))


def theirs_to_disk(source: str, out: str) -> float:
    """Load the rows with the library, and have it write a dataset on disk."""
    return timed(lambda: _loaded(source, out).save_to_disk(out))


def in_chunks(source: str, out: str) -> float:
    """Read batches of the Parquet file of the library, and write its rows with JSON's encoder, one by one."""
    return timed(lambda: _in_chunks(source, out))


def main() -> None:
    """Compare the two from JSON lines to Parquet and to a dataset on disk, and back from Parquet."""
    made = parser(main.__doc__)
    made.set_defaults(rows=200_000)
    options = made.parse_args()
    with scratch(options.data) as folder:
        source = conversations(folder / "rows.jsonl", options.rows)
        mine, other = compare(
            f"JSON lines to Parquet: {options.rows:,} rows",
            [
                Side("lake convert", ours, lambda turn: [source, folder / f"ours-{turn}.parquet"]),
                Side("datasets", theirs, lambda turn: [source, folder / f"theirs-{turn}.parquet"]),
            ],
            TIME_BAR,
            times=options.times,
        )
        print_ratio("memory", mine.peak / other.peak, MEMORY_BAR)
        _refuse_different(folder / "ours-0.parquet", folder / "theirs-0.parquet")
        mine, other = compare(
            f"JSON lines to a dataset on disk: {options.rows:,} rows",
            [
                Side("lake convert", ours, lambda turn: [source, folder / f"ours-{turn}"]),
                Side("datasets", theirs_to_disk, lambda turn: [source, folder / f"theirs-{turn}"]),
            ],
            TIME_BAR,
            times=options.times,
        )
        print_ratio("memory", mine.peak / other.peak, MEMORY_BAR)
        parquet = folder / "ours-0.parquet"
        compare(
            f"Parquet to JSON lines: {options.rows:,} rows",
            [
                Side("lake convert", ours, lambda turn: [parquet, folder / f"ours-{turn}.jsonl"]),
                Side("a loop over batches", in_chunks, lambda turn: [parquet, folder / f"theirs-{turn}.jsonl"]),
            ],
            TIME_BAR,
            times=options.times,
        )


def _loaded(source: str, out: str) -> datasets.Dataset:
    datasets.disable_progress_bars()
    return datasets.load_dataset("json", data_files=source, split="train", cache_dir=f"{out}-cache")


def _in_chunks(source: str, out: str) -> None:
    encode = msgspec.json.encode
    with pq.ParquetFile(source) as file, Path(out).open("wb") as target:
        for batch in file.iter_batches():
            target.writelines(encode(row) + b"\n" for row in batch.to_pylist())


def _refuse_different(mine: Path, other: Path) -> None:
    """Two sides that do not write the same rows are not worth comparing."""
    one = pq.read_table(mine)
    if not one.equals(pq.read_table(other).select(one.column_names).cast(pa.schema(list(one.schema)))):
        raise SystemExit("convert: the two sides wrote different rows")


if __name__ == "__main__":
    main()
