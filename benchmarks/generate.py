"""Data to measure with: a million attempts at 125 000 tasks, with a verdict each, as JSON lines.

`python benchmarks/generate.py` makes it; the benchmarks make what they need themselves.

Text is drawn from a seeded vocabulary whose words are as unequally frequent as those of a language, in lengths that
are as unequal as answers are (log-normal, 90 words on average), with line ends, quotes and some words that are not
ASCII. zstd makes a quarter of it, which is near what it makes of prose. Eight runs of a task share its prompt.

Parts continue each other: part 1 has other runs and tasks than part 0. Not here: rows that are bad in some way, which
the tests are about; a benchmark of these says nothing.
"""

import argparse
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np

__all__ = ["DATA", "Files", "generate", "main"]

DATA = Path(__file__).parent / "data"
RUNS_PER_TASK = 8
START = datetime(2026, 1, 1, tzinfo=UTC)
CATEGORIES = ("accepted", "partially_accepted", "rejected", "needs_human_review")
SHARES = (0.42, 0.13, 0.4, 0.05)
MODELS = ("wren-1b", "finch-8b", "heron-32b", "osprey-70b")

_VOCABULARY = 30_000
# Words to cut answers out of: so many that an answer repeats no other within what a compressor remembers.
_POOL_WORDS = 10_000_000
_MEAN_WORDS = 90
_SPREAD = 0.7


class Files(msgspec.Struct, frozen=True):
    """Where the generated files are."""

    evidence: Path
    scores: Path
    tasks: Path


def generate(rows: int, part: int = 0, data: Path = DATA) -> Files:
    """The files of a part, made if they are not there yet. `rows` is the number of runs, and of verdicts."""
    folder = data / f"{rows}-{part}"
    files = Files(folder / "evidence.jsonl", folder / "scores.jsonl", folder / "tasks.jsonl")
    if not folder.is_dir():
        print(f"generating part {part} of {rows:,} runs in {folder}")
        unfinished = folder.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        _write(rows, part, unfinished)
        # Renamed last, so a folder that is there is whole.
        unfinished.rename(folder)
    return files


def main() -> None:
    """Generate the data of one part."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--part", type=int, default=0)
    parser.add_argument("--data", type=Path, default=DATA)
    options = parser.parse_args()
    print(generate(options.rows, options.part, options.data).evidence.parent)


def _write(rows: int, part: int, folder: Path) -> None:
    random = np.random.default_rng([20260101, part])
    pool = _Pool(random, min(_POOL_WORDS, 100_000 + 100 * rows))
    answers = pool.texts(random, rows, _MEAN_WORDS)
    tasks = -(-rows // RUNS_PER_TASK)
    prompts = list(pool.texts(random, tasks, 25))
    categories = random.choice(len(CATEGORIES), rows, p=SHARES).tolist()
    models = random.choice(len(MODELS), rows).tolist()
    scores = (random.random(rows) * 1000).astype(int).tolist()
    encode = msgspec.json.Encoder().encode
    with (
        (folder / "tasks.jsonl").open("wb") as task_file,
        (folder / "evidence.jsonl").open("wb") as evidence_file,
        (folder / "scores.jsonl").open("wb") as score_file,
    ):
        for number, prompt in enumerate(prompts):
            task = {"task_id": f"task-{part:03d}-{number:07d}", "language": "text", "description": prompt}
            task_file.write(encode(task) + b"\n")
        for number, text in enumerate(answers):
            time = START + timedelta(seconds=part * rows + number)
            run = {
                "run_id": f"run-{part:03d}-{number:08d}",
                "task_id": f"task-{part:03d}-{number // RUNS_PER_TASK:07d}",
                "role": "executor",
                "kind": "completion",
                "model": MODELS[models[number]],
                "prompt": prompts[number // RUNS_PER_TASK],
                "text": text,
                "recorded_at": time,
            }
            evidence_file.write(encode(run) + b"\n")
            category = CATEGORIES[categories[number]]
            verdict = {
                "run_id": run["run_id"],
                "task_id": run["task_id"],
                "scorer": "judge",
                "scorer_version": "1",
                "category": category,
                "score": scores[number] / 1000,
                "reasons": [f"the answer reads as {category}"],
                "recorded_at": time + timedelta(minutes=1),
            }
            score_file.write(encode(verdict) + b"\n")


class _Pool:
    """A long text to cut others out of."""

    def __init__(self, random: np.random.Generator, words_in_all: int) -> None:
        letters = np.array(list("etaoinshrdlucmfwypvbgkqjxz"))
        weights = 1 / np.arange(2, 28)
        lengths = random.integers(2, 11, _VOCABULARY)
        drawn = random.choice(letters, int(lengths.sum()), p=weights / weights.sum())
        words = ["".join(word) for word in np.split(drawn, np.cumsum(lengths)[:-1])]
        # A few of what JSON escapes, and of what it need not.
        words[40:46] = ['"so"', "is.\n\nThen", "naïve", "\tif", "数", "it's"]
        frequency = 1 / (np.arange(_VOCABULARY) + 2.7)
        order = np.searchsorted(np.cumsum(frequency / frequency.sum()), random.random(words_in_all))
        self._words = [words[number] for number in np.minimum(order, _VOCABULARY - 1).tolist()]

    def texts(self, random: np.random.Generator, count: int, mean: int) -> Iterator[str]:
        """As many texts, of `mean` words on average and never none."""
        middle = np.log(mean) - _SPREAD**2 / 2
        lengths = np.clip(random.lognormal(middle, _SPREAD, count), 1, 20 * mean).astype(int).tolist()
        starts = random.integers(0, len(self._words) - 20 * mean, count).tolist()
        for start, length in zip(starts, lengths, strict=True):
            yield " ".join(self._words[start : start + length])


if __name__ == "__main__":
    main()
