"""How many tokens a second do packed shards give? Against loaders that people use, and against a bare memory map.

`python -m benchmarks.loader`. Every side makes the batches of one epoch: 8 rows of 2,048 tokens, in a shuffled order,
as int64 tensors of torch, in one process without workers, with one thread. Ours begins with documents of lognormal
lengths, which are packed as batches are made. For all others the rows are laid out beforehand, which is not counted.
What planning takes, once a run, is told beside it, and counted in the tokens a second that are wanted.

* a memory map: the very same tensors (ids, labels, positions), three arrays on disk, one slice a row. A second one
  gives ids and shifted labels alone, of blocks that begin anywhere, as most small training programs do.
* Hugging Face datasets in torch format, which hands out the same tensors: through torch's DataLoader, as its pages say,
  and asked for a batch of rows by itself, which is faster.
* TRL's collator over such a dataset, without padding: the same tokens, in one long row.
* LitData's blocks of tokens, where litdata is installed: ids alone, of fixed blocks, without labels or boundaries.

Seconds are those that a process computes, so that other work on the machine counts little; the files are in memory.
"""

import importlib
import importlib.util
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from benchmarks.measure import Side, alternate, in_process, parser, print_ratio, scratch
from trainers import batches
from trainers.order import splitmix64
from trainers.plan import Plan, Stage, plan
from trainers.shards import Shards, writing

__all__ = ["by_datasets", "by_litdata", "by_trl", "directly", "laid_out", "main", "ours", "prepare", "shards", "slices"]

LENGTH = 2048
ROWS = 8
TOKENS_BAR = 20e6
LIBRARY_BAR = 3.0
BARE_BAR = 0.7
OURS, LAID_OUT, SLICES = "packed shards", "a memory map, laid out before", "a memory map, ids alone"
DATASETS, DIRECTLY = "datasets in torch format", "datasets, without a DataLoader"
TRL, LITDATA = "datasets, TRL's collator", "LitData, blocks of ids alone"
# Mean and deviation of the logarithm of a document's length.
MIX = (5.8, 0.8)
FIELD = "text"
SPAN = 50  # tokens of a question, which does not count, and then of an answer, which does

Tensors = Any
Int32 = npt.NDArray[np.int32]


class Seen(msgspec.Struct):
    """What a side made: how many tokens, the sum of their ids, that of the labels, and how long planning took."""

    tokens: int
    ids: int
    labels: int
    planned: float = 0.0


def shards(folder: Path, rows: int) -> None:
    """Write shards of so many documents."""
    lengths = np.maximum(8, np.random.default_rng(0).lognormal(*MIX, rows)).astype(np.int64)
    with writing(folder, (FIELD,)) as writer:
        for number, length in enumerate(lengths.tolist()):
            tokens = (
                splitmix64(np.arange(length, dtype=np.uint64) + np.uint64(number << 24)) >> np.uint64(48)
            ) % 50_000
            writer.add({"id": f"doc-{number}"}, {FIELD: (tokens, np.arange(length) // SPAN % 2 == 1)})
        writer.finish({"documents": rows}, {"offered": rows})


def prepare(folder: str, rows: int, given: str) -> float:
    """Make the shards, and of their plan what each of the other sides begins with."""
    place = Path(folder)
    shards(place / "shards", rows)
    opened, one = _planned(folder)
    laid, field = one.stages[0], opened.fields[FIELD]
    count = laid.count // ROWS * ROWS
    made: dict[str, list[Int32]] = {"input_ids": [], "labels": [], "position_ids": []}
    for step in range(count // ROWS):
        for name, array in batches.packed(laid, one.rows(step), field, 0).items():
            made[name].append(array.astype(np.int32))
    rows_of = {name: np.concatenate(arrays) for name, arrays in made.items()}
    for name, rows_in in rows_of.items():
        np.save(place / f"{name}.npy", rows_in)
    if "datasets" in given:
        _as_dataset(place, rows_of)
    if "litdata" in given:
        _as_litdata(place, rows_of["input_ids"])
    return 0.0


def ours(folder: str, out: str) -> float:
    """Plan, then gather and convert; the seconds of the batches alone."""
    torch = _torch()
    began = time.process_time()
    opened, one = _planned(folder)
    planned = time.process_time() - began
    laid, field = one.stages[0], opened.fields[FIELD]

    def made() -> Iterator[Tensors]:
        for step in range(laid.count // ROWS):
            arrays = batches.packed(laid, one.rows(step), field, 0)
            yield {name: torch.from_numpy(array) for name, array in arrays.items()}

    return _consumed(made, out, planned)


def laid_out(folder: str, out: str) -> float:
    """The same tensors from arrays that hold them as they are wanted."""
    torch = _torch()
    arrays = {name: np.load(f"{folder}/{name}.npy", mmap_mode="r") for name in ("input_ids", "labels", "position_ids")}
    order = _order(len(arrays["labels"]))

    def made() -> Iterator[Tensors]:
        for rows in order:
            yield {
                name: torch.stack([torch.from_numpy(array[row].astype(np.int64)) for row in rows])
                for name, array in arrays.items()
            }

    return _consumed(made, out)


def slices(folder: str, out: str) -> float:
    """Blocks that begin anywhere in a flat array, and the same one further."""
    torch = _torch()
    tokens = np.load(f"{folder}/shards/{FIELD}.tokens.npy", mmap_mode="r")
    begins = splitmix64(np.arange(len(tokens) // LENGTH // ROWS * ROWS, dtype=np.uint64)) % np.uint64(
        len(tokens) - LENGTH
    )

    def block(begin: int) -> Tensors:
        return torch.from_numpy(tokens[begin : begin + LENGTH].astype(np.int64))

    def made() -> Iterator[Tensors]:
        for rows in begins.astype(np.int64).reshape(-1, ROWS).tolist():
            yield {
                "input_ids": torch.stack([block(row) for row in rows]),
                "labels": torch.stack([block(row + 1) for row in rows]),
            }

    return _consumed(made, out)


def by_datasets(folder: str, out: str) -> float:
    """A dataset in torch format, through a DataLoader."""
    torch, given = _torch(), _dataset(folder, "labels", "position_ids").with_format("torch")
    loader = torch.utils.data.DataLoader(given, batch_sampler=_order(len(given)))
    return _consumed(lambda: iter(loader), out)


def directly(folder: str, out: str) -> float:
    """The same, asked for the rows of a batch at once."""
    _torch()
    given = _dataset(folder, "labels", "position_ids").with_format("torch")
    order = _order(len(given))
    return _consumed(lambda: (given[rows] for rows in order), out)


def by_trl(folder: str, out: str) -> float:
    """TRL's collator without padding, over rows that say how long their documents are."""
    torch, given = _torch(), _dataset(folder, "labels", "seq_lengths")
    trl = importlib.import_module("trl.trainer.sft_trainer")
    collate = trl.DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    loader = torch.utils.data.DataLoader(given, batch_sampler=_order(len(given)), collate_fn=collate)
    return _consumed(lambda: iter(loader), out)


def by_litdata(folder: str, out: str) -> float:
    """LitData's blocks."""
    _torch()
    litdata = importlib.import_module("litdata")
    made = litdata.StreamingDataset(
        f"{folder}/litdata", item_loader=litdata.TokensLoader(block_size=LENGTH), shuffle=True, drop_last=True
    )
    loader = litdata.StreamingDataLoader(made, batch_size=ROWS, num_workers=0)
    return _consumed(lambda: ({"input_ids": block} for block in loader), out)


def main() -> None:
    """Compare the loaders."""
    asked = parser(main.__doc__)
    asked.set_defaults(rows=100_000)
    asked.add_argument("--alone", action="store_true", help="compare with memory maps alone")
    options = asked.parse_args()
    libraries = () if options.alone else ("datasets", "trl", "litdata")
    installed = [name for name in libraries if importlib.util.find_spec(name) is not None]
    with scratch(options.data) as folder:
        in_process(prepare, [folder, options.rows, " ".join(installed)])
        print(f"\nload {options.rows:,} documents, {ROWS} rows of {LENGTH} a batch", flush=True)
        _compare(folder, options.times, installed)


def _compare(folder: Path, times: int, installed: list[str]) -> None:
    sides: dict[str, Callable[[str, str], float]] = {
        OURS: ours,
        LAID_OUT: laid_out,
        SLICES: slices,
    }
    libraries = [("datasets", DATASETS, by_datasets), ("datasets", DIRECTLY, directly), ("trl", TRL, by_trl)]
    for name, title, side in [*libraries, ("litdata", LITDATA, by_litdata)]:
        if name in installed:
            sides[title] = side
        else:
            print(f"  {title:<32} without {name}")
    notes = {title: folder / f"{number}.json" for number, title in enumerate(sides)}
    asked = [
        Side(title, function, lambda _, note=notes[title]: [folder, note])  # type: ignore[misc]
        for title, function in sides.items()
    ]
    rates: dict[str, float] = {}
    seen: dict[str, Seen] = {}
    for each, measured in zip(asked, alternate(asked, times), strict=True):
        said = seen[each.name] = msgspec.json.decode(notes[each.name].read_bytes(), type=Seen)
        rates[each.name] = said.tokens / min(measured.all_seconds)
        turns = " ".join(f"{said.tokens / seconds / 1e6:.0f}" for seconds in measured.all_seconds)
        print(f"  {each.name:<32} {rates[each.name] / 1e6:8.1f} M tokens/s   ({turns})")
    _refuse_different(seen)
    mine = seen[OURS]
    whole = mine.tokens / (mine.tokens / rates[OURS] + mine.planned)
    print(f"  planning took {mine.planned:.2f} s for {mine.tokens:,} tokens; with it: {whole / 1e6:.1f} M tokens/s")
    print_ratio("of the tokens a second that are wanted", whole / TOKENS_BAR, 1.0, at_least=True)
    print_ratio("of the memory map's", rates[OURS] / rates[LAID_OUT], BARE_BAR, at_least=True)
    if DATASETS in rates:
        print_ratio("of datasets'", rates[OURS] / rates[DATASETS], LIBRARY_BAR, at_least=True)
        print(f"  of those without a DataLoader: {rates[OURS] / rates[DIRECTLY]:.3g} ×")
    if TRL in rates:
        print(f"  of TRL's: {rates[OURS] / rates[TRL]:.3g} ×")
    if LITDATA in rates:
        print(f"  of LitData's, which makes a third of the tensors: {rates[OURS] / rates[LITDATA]:.3g} ×")


def _refuse_different(seen: dict[str, Seen]) -> None:
    """Sides that do not give the same tokens and labels are not worth comparing."""
    found = {
        title: (said.tokens, said.ids, said.labels) for title, said in seen.items() if title not in {SLICES, LITDATA}
    }
    if len(set(found.values())) != 1:
        raise SystemExit(f"the sides gave different tokens: {found}")


def _consumed(made: Callable[[], Iterator[Tensors]], out: str, planned: float = 0.0) -> float:
    """How many seconds making all batches takes. What they hold is summed in a second pass, which is not counted."""
    began = time.process_time()
    for _ in made():
        pass
    seconds = time.process_time() - began
    tokens = ids = labels = 0
    for batch in made():
        tokens += batch["input_ids"].numel()
        ids += int(batch["input_ids"].sum())
        if "labels" in batch:
            labels += int(batch["labels"][batch["labels"] >= 0].sum())
    Path(out).write_bytes(msgspec.json.encode(Seen(tokens, ids, labels, planned)))
    return seconds


def _planned(folder: str) -> tuple[Shards, Plan]:
    opened = Shards.open(f"{folder}/shards")
    return opened, plan(opened.keys, opened.fields[FIELD].lengths, [Stage(rows=ROWS, length=LENGTH)], seed=0)


def _order(rows: int) -> list[list[int]]:
    """All rows once in a shuffled order, a batch at a time."""
    order = np.argsort(splitmix64(np.arange(rows, dtype=np.uint64)), kind="stable")
    return order[: rows // ROWS * ROWS].reshape(-1, ROWS).tolist()


def _dataset(folder: str, *columns: str) -> Any:
    datasets = importlib.import_module("datasets")
    return datasets.load_from_disk(f"{folder}/dataset").select_columns(["input_ids", *columns])


def _torch() -> Any:
    # Here and not above: it is installed for some only, and takes a second to import.
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    return torch


def _as_dataset(folder: Path, rows_of: dict[str, Int32]) -> None:
    datasets, pa = importlib.import_module("datasets"), importlib.import_module("pyarrow")
    columns = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), LENGTH).cast(pa.list_(pa.int32()))
        for name, array in rows_of.items()
    }
    begins = [np.flatnonzero(row == 0) for row in rows_of["position_ids"]]
    columns["seq_lengths"] = pa.array([np.diff([*begin, LENGTH]) for begin in begins], pa.list_(pa.int32()))
    datasets.disable_progress_bars()
    datasets.Dataset(pa.table(columns)).save_to_disk(str(folder / "dataset"))


def _as_litdata(folder: Path, ids: Int32) -> None:
    litdata, torch = importlib.import_module("litdata"), _torch()

    def blocks(rows: tuple[int, int]) -> Iterator[Tensors]:
        for row in ids[slice(*rows)]:
            yield torch.from_numpy(row.copy())

    litdata.optimize(
        fn=blocks,
        inputs=[(first, first + 1024) for first in range(0, len(ids), 1024)],
        output_dir=str(folder / "litdata"),
        chunk_size=LENGTH * 4096,
        item_loader=litdata.TokensLoader(block_size=LENGTH),
        num_workers=1,
        start_method="fork",
        verbose=False,
    )


if __name__ == "__main__":
    main()
