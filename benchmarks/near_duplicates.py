"""How fast are near duplicates found, in how much memory, against the libraries that do the same?

`python -m benchmarks.near_duplicates --rows 1000000`. Texts of 20 to 80 words, a fifth of them an earlier one with a
word changed, from a seed. Each side keeps the first of those that are alike, at a Jaccard similarity of 0.8 of shingles
of five words. datasketch and rensa are no dependencies: a side that is not installed is left out. datasketch, which
takes minutes, gets `--few` rows, and its rate is what counts.

Ours checks every candidate exactly, and so does the side with rensa, which finds the candidates alone; its own
deduplicator estimates. Recall is of the copies that were made.
"""

import importlib
import importlib.util
import random
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import gigabytes, in_process, parser, print_ratio, timed
from ingest.annotators.minhash import NearDuplicates, similarity
from ingest.annotators.text import words

__all__ = ["by_datasketch", "by_rensa", "main", "ours", "texts"]

THRESHOLD, SHINGLE = 0.8, 5
BANDS = 21  # of six rows, as ours
RATE_BAR, MEMORY_BAR = 1.0, 1.0


def texts(count: int) -> Iterator[tuple[str, bool]]:
    """The texts, and whether each is a copy of one before with one word changed."""
    chance = random.Random(0)
    known = [f"w{number}" for number in range(20_000)]
    lately: list[str] = []
    for _ in range(count):
        copied = bool(lately) and chance.random() < 0.2
        some = chance.choice(lately).split() if copied else chance.choices(known, k=chance.randint(20, 80))
        if copied:
            some[-1] = chance.choice(known)
        yield " ".join(some), copied
        lately = [*lately[-999:], " ".join(some)] if not copied else lately


def ours(count: int) -> float:
    """The lake's own, many at a time."""
    finder = NearDuplicates(THRESHOLD, SHINGLE)
    given = [(str(number), text) for number, (text, _) in enumerate(texts(count))]
    found: list[bool] = []
    seconds = timed(lambda: found.extend(match is not None for match in finder.matches(given)))
    return _told(found, seconds)


def by_rensa(count: int) -> float:
    """Rensa's signatures and index, and its candidates checked as ours are."""
    rensa = importlib.import_module("rensa")
    given = [text for text, _ in texts(count)]
    index = rensa.RMinHashLSH(THRESHOLD, 6 * BANDS, BANDS)
    kept: dict[int, frozenset[int]] = {}
    found: list[bool] = []

    def work() -> None:
        for start in range(0, len(given), 4096):
            shingles = [_shingles(text) for text in given[start : start + 4096]]
            signatures = rensa.RMinHash.from_token_sets(shingles, 6 * BANDS, 42)
            for place, signature in enumerate(signatures):
                mine = frozenset(map(hash, shingles[place]))
                copy = any(similarity(mine, kept[one]) >= THRESHOLD for one in index.query(signature))
                found.append(copy)
                if not copy:
                    index.insert(start + place, signature)
                    kept[start + place] = mine

    return _told(found, timed(work))


def by_datasketch(count: int) -> float:
    """Datasketch's signatures and index, and its candidates checked as ours are."""
    datasketch = importlib.import_module("datasketch")
    given = [text for text, _ in texts(count)]
    index = datasketch.MinHashLSH(params=(BANDS, 6), num_perm=6 * BANDS)
    kept: dict[int, frozenset[int]] = {}
    found: list[bool] = []

    def work() -> None:
        shingles = ([one.encode() for one in _shingles(text)] for text in given)
        for place, some in enumerate(shingles):
            [signature] = datasketch.MinHash.bulk([some], num_perm=6 * BANDS)
            mine = frozenset(map(hash, some))
            copy = any(similarity(mine, kept[one]) >= THRESHOLD for one in index.query(signature))
            found.append(copy)
            if not copy:
                index.insert(place, signature)
                kept[place] = mine

    return _told(found, timed(work))


def _shingles(text: str) -> list[str]:
    found = words(text)
    return [" ".join(found[at : at + SHINGLE]) for at in range(len(found) - SHINGLE + 1)] or [" ".join(found)]


def _told(found: list[bool], seconds: float) -> float:
    print(f"    {sum(found):,} of {len(found):,} are near copies", file=sys.stderr, flush=True)
    return seconds


def main() -> None:
    """Measure the sides that are there, one after the other."""
    options = parser(main.__doc__)
    options.add_argument("--few", type=int, default=20_000, help="rows for the side that takes minutes")
    given = options.parse_args()
    Path(given.data).mkdir(parents=True, exist_ok=True)
    print(f"\nnear duplicates among {given.rows:,} texts", flush=True)
    made = {count: in_process(_texts_alone, [count])[1] for count in {given.rows, min(given.few, given.rows)}}
    rates: dict[str, float] = {}
    held: dict[str, float] = {}
    for name, side, count in (
        ("ours", ours, given.rows),
        ("rensa", by_rensa, given.rows),
        ("datasketch", by_datasketch, min(given.few, given.rows)),
    ):
        if name != "ours" and importlib.util.find_spec(name) is None:
            print(f"  {name:<12} not installed")
            continue
        seconds, peak = min(in_process(side, [count]) for _ in range(given.times))
        rates[name], held[name] = count / seconds, (peak - made[count]) / count
        print(f"  {name:<12} {rates[name]:>9,.0f} rows/s   {held[name]:>7,.0f} B a row   peak {gigabytes(peak)}")
    for name in rates.keys() - {"ours"}:
        print_ratio(f"rate, ours by {name}", rates["ours"] / rates[name], RATE_BAR, at_least=True)
        print_ratio(f"memory, ours by {name}", held["ours"] / held[name], MEMORY_BAR)


def _texts_alone(count: int) -> float:
    """What the texts take by themselves."""
    return timed(lambda: [(str(number), text) for number, (text, _) in enumerate(texts(count))])


if __name__ == "__main__":
    main()
