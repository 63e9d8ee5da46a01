"""What does packing cost, and how full are the rows? Against a plain greedy packer, and TRL's where it is installed.

`python -m benchmarks.packing --rows 100000`. Documents have lognormal lengths, a third of them longer than a row, or
all a little over half of one, where no two fit together. The greedy packer is what most people write: documents in
order into the current row, the next row where one does not fit, and what is longer than a row cut off. TRL's is
`bfd_split`, which keeps every token. What each leaves out is counted, and how many of the places hold a token.
"""

import importlib.util
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.measure import Side, alternate, gigabytes, parser, print_ratio, scratch, timed
from exporters import packing

__all__ = ["by_trl", "greedy", "main", "ours"]

LENGTH = 1024
FILL_BAR = 0.998
TOKENS_BAR = 10e6  # a second: a hundred times what one accelerator takes in
TRL_BAR = 0.5
# Mean and deviation of the logarithm of a length.
MIXES = {"lognormal": (6.2, 1.2), "alike": (6.4, 0.05)}


class Packed(msgspec.Struct):
    """What a packer made of how many tokens."""

    tokens: int
    kept: int
    rows: int

    @property
    def fill(self) -> float:
        """The share of places that hold a token."""
        return self.kept / (self.rows * LENGTH)


def ours(folder: str, out: str) -> float:
    """Plan, and copy the tokens into rows."""
    documents = _documents(folder)
    made: list[packing.Plan] = []

    def pack() -> None:
        made.append(packing.plan(documents.lengths, LENGTH))
        packing.fill(made[0], documents, 0)

    seconds = timed(pack)
    _note(out, Packed(len(documents.tokens), made[0].tokens, made[0].rows))
    return seconds


def greedy(folder: str, out: str) -> float:
    """One document after the other into the current row, or else into the next one."""
    documents = _documents(folder)
    rows: list[np.ndarray] = []
    kept = 0

    def pack() -> None:
        nonlocal kept
        used = LENGTH
        for start, stop in zip(documents.offsets[:-1].tolist(), documents.offsets[1:].tolist(), strict=True):
            piece = documents.tokens[start : min(stop, start + LENGTH)]
            if used + len(piece) > LENGTH:
                rows.append(np.zeros(LENGTH, np.int32))
                used = 0
            rows[-1][used : used + len(piece)] = piece
            used += len(piece)
            kept += len(piece)
        np.stack(rows)

    seconds = timed(pack)
    _note(out, Packed(len(documents.tokens), kept, len(rows)))
    return seconds


def by_trl(folder: str, out: str) -> float:
    """TRL's best fit with what is too long cut into pieces."""
    # Here and not above: it is installed for some only, and brings torch.
    datasets, trl = importlib.import_module("datasets"), importlib.import_module("trl.data_utils")
    documents = _documents(folder)
    pa = importlib.import_module("pyarrow")
    ids = pa.LargeListArray.from_arrays(pa.array(documents.offsets), pa.array(documents.tokens))
    given = datasets.Dataset(pa.table({"input_ids": ids})).with_format("arrow")
    datasets.disable_progress_bars()
    made = []
    seconds = timed(lambda: made.append(trl.pack_dataset(given, LENGTH, "bfd_split")))
    counts = made[0].with_format("arrow")[:]["input_ids"]
    kept = sum(len(chunk.flatten()) for chunk in counts.chunks)
    _note(out, Packed(len(documents.tokens), kept, len(made[0])))
    return seconds


def main() -> None:
    """Compare the packers on two mixes of lengths."""
    asked = parser(main.__doc__)
    asked.add_argument("--without-trl", action="store_true", help="compare with the greedy packer alone")
    options = asked.parse_args()
    with_trl = not options.without_trl and importlib.util.find_spec("trl") is not None
    with scratch(options.data) as folder:
        for mix, (mean, deviation) in MIXES.items():
            place = folder / mix
            place.mkdir()
            _generate(place, options.rows, mean, deviation)
            print(f"\npack {mix}: {options.rows:,} documents into rows of {LENGTH}", flush=True)
            _compare(place, options.times, with_trl=with_trl)


def _compare(folder: Path, times: int, *, with_trl: bool) -> None:
    sides = {"exporters.packing": ours, "greedy, in order": greedy}
    if with_trl:
        sides["TRL, bfd_split"] = by_trl
    notes = {name: folder / f"{number}.json" for number, name in enumerate(sides)}
    asked = [
        Side(name, side, lambda _, note=notes[name]: [folder, note])  # type: ignore[misc]
        for name, side in sides.items()
    ]
    found = {}
    for side, measured in zip(asked, alternate(asked, times), strict=True):
        said = msgspec.json.decode(notes[side.name].read_bytes(), type=Packed)
        found[side.name] = measured.seconds, said
        print(
            f"  {side.name:<20} {measured.seconds:8.2f} s   peak {gigabytes(measured.peak)}"
            f"   {said.tokens / measured.seconds / 1e6:7.1f} M tokens/s   fill {said.fill:.4f}"
            f"   {said.tokens - said.kept:,} of {said.tokens:,} tokens lost"
        )
    seconds, mine = found["exporters.packing"]
    full = min(FILL_BAR, mine.tokens / (-(-mine.tokens // LENGTH) * LENGTH))
    print_ratio("fill", mine.fill, full, at_least=True)
    print_ratio("of the tokens kept", mine.kept / mine.tokens, 1.0, at_least=True)
    print_ratio("of the tokens a second that are wanted", mine.tokens / seconds / TOKENS_BAR, 1.0, at_least=True)
    print(f"  time by the greedy packer's: {seconds / found['greedy, in order'][0]:.3g} ×")
    if "TRL, bfd_split" in found:
        print_ratio("time by TRL's", seconds / found["TRL, bfd_split"][0], TRL_BAR)


def _generate(folder: Path, count: int, mean: float, deviation: float) -> None:
    lengths = np.maximum(1, np.random.default_rng(0).lognormal(mean, deviation, count)).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    np.save(folder / "offsets.npy", offsets)
    np.save(folder / "tokens.npy", np.arange(offsets[-1], dtype=np.int32) % 50_000)


def _documents(folder: str) -> packing.Documents:
    return packing.Documents(np.load(f"{folder}/tokens.npy"), np.load(f"{folder}/offsets.npy"))


def _note(out: str, made: Packed) -> None:
    Path(out).write_bytes(msgspec.json.encode(made))


if __name__ == "__main__":
    main()
