"""What does looking at every row cost? Against Hugging Face's library, and against the plainest loop.

`python benchmarks/validate.py --rows 200000`. Ours says what is wrong, with file, row and field, and looks for repeated
ids. The library loads the rows into its cache and filters them by a function that looks at the same things and only
counts; the loop reads each line with `json` and does the same. Packed token ids are looked at column by column.
Needs the extra `train`.
"""

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from benchmarks.convert import conversations
from benchmarks.measure import Side, compare, parser, print_ratio, scratch, timed
from exporters.validate import Options, validate

__all__ = ["by_loop", "ids_by_numpy", "main", "our_ids", "ours", "theirs"]

TIME_BAR = 0.5
LOOP_BAR = 1.5
IDS_BAR = 10.0
MEMORY_BAR = 1.0
ROLES = {"system", "user", "assistant"}
VOCABULARY = 32_000


def ours(source: str) -> float:
    """Check every row."""
    return timed(lambda: _agreed(validate(source).found))


def theirs(source: str, cache: str) -> float:
    """Load the rows with the library, and filter those that are wrong."""
    return timed(lambda: _agreed(len(_loaded(source, cache).filter(_wrong))))


def by_loop(source: str) -> float:
    """Read line by line, and count the rows that are wrong."""
    return timed(lambda: _agreed(_loop(Path(source))))


def our_ids(source: str) -> float:
    """Check every token id."""
    return timed(lambda: _agreed(validate(source, options=Options(vocabulary=VOCABULARY)).found))


def ids_by_numpy(source: str) -> float:
    """Ask for the smallest and the largest id of all."""
    return timed(lambda: _agreed(_outside(np.load(source, mmap_mode="r"))))


def main() -> None:
    """Compare on conversations, and on packed rows."""
    made = parser(main.__doc__)
    made.set_defaults(rows=200_000)
    options = made.parse_args()
    with scratch(options.data) as folder:
        source = conversations(folder / "rows.jsonl", options.rows)
        mine, other = compare(
            f"conversations: {options.rows:,} rows",
            [
                Side("lake validate", ours, lambda _: [source]),
                Side("datasets, filter", theirs, lambda turn: [source, folder / f"cache-{turn}"]),
            ],
            TIME_BAR,
            times=options.times,
        )
        print_ratio("memory", mine.peak / other.peak, MEMORY_BAR)
        compare(
            f"conversations: {options.rows:,} rows",
            [Side("lake validate", ours, lambda _: [source]), Side("a loop with json", by_loop, lambda _: [source])],
            LOOP_BAR,
            times=options.times,
        )
        packed = folder / "ids.npy"
        np.save(packed, (np.arange(options.rows * 512, dtype=np.int64) % VOCABULARY).astype(np.int32).reshape(-1, 512))
        compare(
            f"token ids: {options.rows * 512:,}",
            [Side("lake validate", our_ids, lambda _: [packed]), Side("numpy", ids_by_numpy, lambda _: [packed])],
            IDS_BAR,
            times=options.times,
        )


def _agreed(wrong: int) -> None:
    """All rows are good, and a side that finds otherwise is not worth comparing."""
    if wrong:
        raise SystemExit(f"validate: {wrong} rows are said to be wrong")


def _loaded(source: str, cache: str) -> datasets.Dataset:
    datasets.disable_progress_bars()
    return datasets.load_dataset("json", data_files=source, split="train", cache_dir=cache)


def _wrong(row: dict[str, Any]) -> bool:
    turns = row["messages"]
    if not turns or turns[-1]["role"] != "assistant" or not turns[-1]["content"].strip():
        return True
    return any(turn["role"] not in ROLES or not isinstance(turn["content"], str) for turn in turns)


def _loop(source: Path) -> int:
    with source.open() as lines:
        return sum(_wrong(json.loads(line)) for line in lines)


def _outside(ids: np.ndarray) -> int:
    return int(ids.min() < 0) + int(ids.max() >= VOCABULARY)


if __name__ == "__main__":
    main()
