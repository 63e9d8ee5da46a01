"""How long from the name of some data to the first batch? From shards and from a snapshot, warm and cold.

`python -m benchmarks.first_batch`. Seconds by the clock, in a new process each, imports not counted.

* From shards: open, plan, one batch. Warm is with the files in memory, cold with none of them there. On the other side
  is what TRL does with the same tokens: load the dataset, pack it, collate one batch.
* From a snapshot's id: with the shards there, and without, when its rows become tokens first. On the other side is what
  TRL does with an export of the same rows: `datasets.map`, the chat template with a mask of what the assistant says.
  The texts through the same tokenizer alone, in batches, are the least that it takes.
"""

import importlib
import importlib.util
import os
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.generate import Files, generate
from benchmarks.loader import FIELD, LENGTH, ROWS, shards
from benchmarks.measure import Measured, Side, alternate, in_process, parser, print_ratio, scratch
from ingest.run import ingest
from lake import Lake
from trainers import batches
from trainers.plan import Stage, plan
from trainers.shards import Shards

__all__ = [
    "by_map",
    "by_trl",
    "from_shards",
    "from_snapshot",
    "main",
    "prepare_lake",
    "prepare_shards",
    "tokenizer_alone",
]

# Seconds, for 50 million tokens.
WARM_BAR, COLD_BAR = 0.5, 3.0
WANTED = 50e6
MAP_BAR = 1.0
BATCH = 1024
TURN, END = "<|turn|>", "<|end|>"
TEMPLATE = (
    "{%- for message in messages -%}{{ '<|turn|>' + message.role + '\n' }}"
    "{%- if message.role == 'assistant' -%}{%- generation -%}{{ message.content + '<|end|>' }}{%- endgeneration -%}"
    "{%- else -%}{{ message.content + '<|end|>' }}{%- endif -%}{{ '\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|turn|>assistant\n' }}{%- endif -%}"
)


def prepare_shards(folder: str, rows: int, as_dataset: int) -> float:
    """Make shards, and a dataset of their documents for the other side."""
    place = Path(folder)
    shards(place / "shards", rows)
    if as_dataset:
        datasets, pa = importlib.import_module("datasets"), importlib.import_module("pyarrow")
        field = Shards.open(place / "shards").fields[FIELD]
        ids = pa.LargeListArray.from_arrays(pa.array(field.offsets), pa.array(field.tokens))
        datasets.disable_progress_bars()
        datasets.Dataset(pa.table({"input_ids": ids, "labels": ids})).save_to_disk(str(place / "documents"))
    return 0.0


def from_shards(folder: str, cold: int) -> float:
    """Open shards, plan an epoch, make its first batch."""
    if cold:
        _forget(Path(folder) / "shards")
    began = time.perf_counter()
    _first(Shards.open(f"{folder}/shards"))
    return time.perf_counter() - began


def by_trl(folder: str, _cold: int) -> float:
    """Load documents, pack them with TRL, collate the first rows."""
    datasets, trl = importlib.import_module("datasets"), importlib.import_module("trl.data_utils")
    collators = importlib.import_module("trl.trainer.sft_trainer")
    datasets.disable_progress_bars()
    datasets.disable_caching()
    began = time.perf_counter()
    given = datasets.load_from_disk(f"{folder}/documents")
    rows = trl.pack_dataset(given, LENGTH, "bfd_split")
    collate = collators.DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    collate([rows[number] for number in range(ROWS)])
    return time.perf_counter() - began


def prepare_lake(evidence: str, scores: str, tasks: str, folder: str) -> float:
    """Make a lake of the files, a snapshot of it, and a tokenizer of some of its texts."""
    lake = Lake.create(f"{folder}/lake")
    for kind, path in (("tasks", tasks), ("evidence", evidence), ("scores", scores)):
        ingest(lake, kind, [path])
    lake.name(lake.snapshot(), "measured")
    tokenizers = importlib.import_module("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    with Path(evidence).open("rb") as lines:
        texts = [msgspec.json.decode(line)["text"] for line, _ in zip(lines, range(2_000), strict=False)]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=8_000,
        special_tokens=[TURN, END],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    made.save(f"{folder}/tokenizer.json")
    return 0.0


def from_snapshot(folder: str, out: str) -> float:
    """From the name of a snapshot to the first batch, by shards that are in `out` or are built there."""
    build, reading = importlib.import_module("trainers.build"), importlib.import_module("trainers.reading")
    tokenizer = _tokenizer(folder)
    said = {
        "method": "sft",
        "out": f"{folder}/run",
        "data": {"lake": f"{folder}/lake", "snapshot": "measured", "shards": out, "overlong": "drop"},
        "model": {"config": "config.json", "tokenizer": folder},
        "stages": [{"rows": ROWS, "length": LENGTH}],
        "optimizer": {"learning_rate": 1e-4},
    }
    asked = reading.parse(said, "first batch", Path(folder))
    began = time.perf_counter()
    found = build.for_run(asked, tokenizer)["train"]
    _first(found)
    seconds = time.perf_counter() - began
    Path(folder, "tokens.json").write_bytes(msgspec.json.encode(sum(found.description.tokens.values())))
    return seconds


def tokenizer_alone(folder: str, export: str) -> float:
    """The texts of the same rows as ids, many at a time, and nothing else."""
    given = _tokenizer(folder).backend_tokenizer
    texts = [
        "\n".join(message["content"] for message in msgspec.json.decode(line)["messages"])
        for path in sorted(Path(export).glob("data/*.jsonl"))
        for line in path.read_bytes().splitlines()
    ]
    began = time.perf_counter()
    for first in range(0, len(texts), BATCH):
        given.encode_batch_fast(texts[first : first + BATCH], add_special_tokens=False)
    return time.perf_counter() - began


def by_map(folder: str, export: str) -> float:
    """Each row of an export through the chat template, as ids and a mask."""
    datasets = importlib.import_module("datasets")
    tokenizer = _tokenizer(folder)
    datasets.disable_progress_bars()
    datasets.disable_caching()

    def rendered(row: dict[str, Any]) -> dict[str, Any]:
        made = tokenizer.apply_chat_template(row["messages"], return_dict=True, return_assistant_tokens_mask=True)
        return {name: made[name] for name in ("input_ids", "assistant_masks")}

    began = time.perf_counter()
    given = datasets.Dataset.from_json([str(path) for path in Path(export).glob("data/*.jsonl")], cache_dir=folder)
    given.map(rendered, remove_columns=given.column_names)
    return time.perf_counter() - began


def main() -> None:
    """Measure the ways to the first batch."""
    asked = parser(main.__doc__)
    asked.set_defaults(rows=100_000)
    asked.add_argument("--runs", type=int, help="runs of the lake; by default as many as --rows")
    asked.add_argument("--alone", action="store_true", help="leave TRL out")
    options = asked.parse_args()
    library = not options.alone and importlib.util.find_spec("trl") is not None
    with scratch(options.data) as folder:
        _measure_shards(folder, options.rows, options.times, with_trl=library)
        if importlib.util.find_spec("transformers") is None:
            print("\nfirst batch of a snapshot: transformers is not installed")
            return
        runs = options.runs or options.rows
        _measure_snapshot(folder, runs, options.times, generate(runs, data=options.data), with_trl=library)


def _measure_shards(folder: Path, rows: int, times: int, *, with_trl: bool) -> None:
    in_process(prepare_shards, [folder, rows, int(with_trl)])
    tokens = Shards.open(folder / "shards").description.tokens[FIELD]
    print(f"\nfirst batch of shards: {rows:,} documents, {tokens:,} tokens", flush=True)
    sides = [
        Side("with its files in memory", from_shards, lambda _: [folder, 0]),
        Side("with its files on disk", from_shards, lambda _: [folder, 1]),
    ]
    if with_trl:
        sides.append(Side("TRL, from the same tokens", by_trl, lambda _: [folder, 0]))
    warm, cold, *others = _print(sides, alternate(sides, times))
    share = max(tokens / WANTED, 1.0)  # fewer need not be faster
    print_ratio("warm, of what is allowed", warm / (WARM_BAR * share), 1.0)
    print_ratio("cold, of what is allowed", cold / (COLD_BAR * share), 1.0)
    if others:
        print_ratio("warm, by TRL's", warm / others[0], 1.0)


def _measure_snapshot(folder: Path, runs: int, times: int, files: Files, *, with_trl: bool) -> None:
    in_process(prepare_lake, [files.evidence, files.scores, files.tasks, folder])
    exporting = importlib.import_module("exporters.export")
    exporting.export(Lake.open(f"{folder}/lake"), "sft", f"{folder}/export")
    print(f"\nfirst batch of a snapshot: {runs:,} runs", flush=True)
    sides = [
        Side("shards are built", from_snapshot, lambda turn: [folder, folder / f"built-{turn}"]),
        Side("shards are there", from_snapshot, lambda turn: [folder, folder / f"built-{turn}"]),
        Side("the tokenizer alone", tokenizer_alone, lambda _: [folder, folder / "export"]),
    ]
    if with_trl:
        sides.append(Side("datasets.map, as TRL does", by_map, lambda _: [folder, folder / "export"]))
    built, there, alone, *others = _print(sides, alternate(sides, times))
    tokens = msgspec.json.decode((folder / "tokens.json").read_bytes(), type=int)
    print(f"  {tokens:,} tokens, {tokens / built / 1e6:.2f} M tokens/s when they are built")
    print(f"  built, by the tokenizer's time alone: {built / alone:.3g} ×")
    if others:
        print_ratio("built, by datasets.map", built / others[0], MAP_BAR)
    print_ratio("there, of what is allowed", there / WARM_BAR, 1.0)


def _print(sides: list[Side], measured: list[Measured]) -> list[float]:
    """Print what the sides took, and return the least of each: what else a machine does only adds to it."""
    for side, each in zip(sides, measured, strict=True):
        turns = " ".join(f"{seconds:.2f}" for seconds in each.all_seconds)
        print(f"  {side.name:<36} {min(each.all_seconds):8.2f} s   ({turns})")
    return [min(each.all_seconds) for each in measured]


def _first(opened: Shards) -> dict[str, Any]:
    field = opened.fields[FIELD]
    one = plan(opened.keys, np.asarray(field.lengths), [Stage(rows=ROWS, length=LENGTH)], seed=0)
    return batches.packed(one.stage_at(0), one.rows(0), field, 0)


def _forget(folder: Path) -> None:
    """Have the system drop what it holds of a folder's files."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _tokenizer(folder: str) -> Any:
    transformers = importlib.import_module("transformers")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_file=f"{folder}/tokenizer.json",
        eos_token=END,
        pad_token=END,
        additional_special_tokens=[TURN],
        chat_template=TEMPLATE,
    )


if __name__ == "__main__":
    main()
