"""How busy do the trainers keep an accelerator? Against TRL on the same batches, side by side in one run.

`python -m benchmarks.gpu` needs one CUDA device with 141 GB (80 with `--split 2`), ten minutes, the
packages of the extra `train` (those of TRL's side are left out where TRL is not installed), and neither a lake nor a
network: its shards are random tokens, its models random weights. `--tiny` runs the same on a CPU in a minute, with
models so small that its figures say nothing but that it runs.

What runs: pre-training and supervised fine-tuning of a model of about a billion weights, pre-training again through
lengths that grow, and LoRA on one of about seven billion; all in bfloat16, on packed rows. Each side is a process of
its own. TRL takes the rows as they are, where documents that share a row see each other, and once more in its own way
of keeping them apart, which lays all rows of a batch end to end.

What is said of each: tokens a second, and those that a loss counts; the share of the time in which the process was busy
making batches rather than giving the device its work; the most memory; and MFU, which is what the model needs by the
device's peak: tokens a second times 6 N + 12 L d S operations (PaLM, arXiv 2204.02311, appendix B; N without the input
embeddings, L layers of width d, rows of S tokens; nothing is counted twice where it is computed twice). Weights that
are frozen need no gradient of their own: LoRA counts 4 N, and 6 for each weight of an adapter.
"""

import argparse
import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.generate import DATA
from benchmarks.measure import ROOT, gigabytes, print_ratio, scratch
from trainers.shards import writing

__all__ = ["CASES", "Case", "Measured", "Order", "Stage", "floating_point_operations", "main", "peak_of"]

MFU_BAR = 0.45
WAIT_BAR = 0.01
# Dense bfloat16 operations a second, by the vendors' data sheets: without sparsity, which doubles what they print.
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "B200": 2250e12}

LLAMA = {"model_type": "llama", "vocab_size": 32_000, "max_position_embeddings": 4096, "tie_word_embeddings": False}
LLAMA |= {"bos_token_id": None, "pad_token_id": 1, "eos_token_id": 2}  # as the tokenizer of `gpu_side` has them
MODELS: Mapping[str, dict[str, Any]] = {
    "1b": LLAMA
    | {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 16}
    | {"num_key_value_heads": 8},
    "7b": LLAMA
    | {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
    | {"num_key_value_heads": 32},
    "tiny": LLAMA
    | {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    | {"num_attention_heads": 4, "num_key_value_heads": 2},
}
SIDES = OURS, TRL, TRL_APART = "ours", "TRL", "TRL, documents apart"


class Stage(msgspec.Struct, frozen=True):
    """Steps of so many rows of so many tokens."""

    rows: int
    length: int


class Case(msgspec.Struct, frozen=True):
    """What is trained, how: each step in so many `parts`, one after the other. Each of the sides does the same."""

    name: str
    method: str
    model: str
    stages: tuple[Stage, ...]
    parts: int
    sides: tuple[str, ...] = SIDES


class Order(msgspec.Struct, frozen=True):
    """What one side is to do, in its own process: `steps` of each stage, of which the first `warm` are not measured."""

    case: Case
    side: str
    steps: int
    warm: int
    folder: str
    compiled: bool = False
    attention: str = "sdpa"


class Measured(msgspec.Struct, frozen=True):
    """What one side took for one stage. `wait` is a share of the time, `peak` in bytes, `loss` the last step's."""

    case: str
    side: str
    length: int
    seconds: float
    tokens_per_second: float
    trained_per_second: float
    wait: float
    peak: int
    loss: float
    device: str
    mfu: float | None


LONG = (Stage(16, 2048),)
GROWING = (Stage(64, 512), Stage(32, 1024), Stage(16, 2048))
CASES = (
    Case("pretrain", "pretrain", "1b", LONG, 4),
    Case("sft", "sft", "1b", LONG, 4, (OURS, TRL)),
    Case("pretrain, growing", "pretrain", "1b", GROWING, 4, (OURS,)),
    Case("lora", "lora", "7b", (Stage(8, 2048),), 4, (OURS, TRL)),
)


def floating_point_operations(config: Mapping[str, Any], weights: int, adapters: int, length: int) -> float:
    """What a token takes, forward and backward, in rows of `length`.

    `weights` are all but the input embeddings, adapters included; where `adapters` are not 0, the others are frozen.
    """
    attention = 12 * config["num_hidden_layers"] * config["hidden_size"] * length
    if adapters:
        return 4.0 * (weights - adapters) + 6.0 * adapters + attention
    return 6.0 * weights + attention


def peak_of(device: str) -> float | None:
    """How many operations a second a device could do at most, if it is a known one."""
    return next((peak for name, peak in PEAKS.items() if name in device), None)


def main() -> int:
    """Run every case with every side, and print both and what they are held to."""
    asked = argparse.ArgumentParser(description=main.__doc__)
    asked.add_argument("--tiny", action="store_true", help="tiny models, also on a CPU: shows that it runs")
    asked.add_argument("--json", action="store_true", help="print one JSON line a measurement, and nothing else")
    asked.add_argument("--steps", type=int, default=14, help="steps of each stage")
    asked.add_argument("--warm", type=int, default=4, help="of which the first ones are not measured; 0: all are")
    names = [case.name for case in CASES]
    asked.add_argument("--case", action="append", choices=names, help="only this one; may be repeated")
    asked.add_argument("--side", action="append", choices=SIDES, help="only this one; may be repeated")
    asked.add_argument("--split", type=int, default=1, help="so many times as many parts of a step: takes less memory")
    asked.add_argument("--compile", action="store_true", help="compile the model, on every side")
    asked.add_argument("--attention", default="sdpa", help="transformers' name of an implementation")
    asked.add_argument("--data", type=Path, default=DATA, help="where a scratch folder may be made")
    options = asked.parse_args()
    if not 0 <= options.warm < options.steps:
        asked.error("--warm has to be at least 0, and less than --steps")
    if options.split < 1:
        asked.error("--split has to be at least 1")
    if missing := _missing(tiny=options.tiny):
        print(f"nothing measured: {missing}. This needs one CUDA device of 141 GB, or of 80 GB with --split 2,")
        print("and the packages of the extra 'train'; --tiny needs these alone, and takes tiny models and any CPU")
        return 0
    failed = []
    found: list[Measured] = []
    with scratch(options.data) as folder:
        for case in (_sized(case, options.split, tiny=options.tiny) for case in CASES):
            if options.case and case.name not in options.case:
                continue
            place = folder / case.name.replace(", ", "-")
            _write(place, case, options.steps)
            for side in _sides(case, options.side):
                order = Order(case, side, options.steps, options.warm, str(place), options.compile, options.attention)
                measured = _run(order, place)
                if measured is None:
                    failed.append(f"{case.name}: {side}")
                for one in measured or ():
                    found.append(one)
                    print(msgspec.json.encode(one).decode() if options.json else _line(one), flush=True)
    if not options.json and not options.tiny:
        _compare(found)
    for which in failed:
        print(f"{which}: failed", file=sys.stderr)
    return 1 if failed or not found else 0


def _missing(*, tiny: bool) -> str | None:
    """What keeps this from running, if anything does."""
    for name in ("torch", "transformers", "peft", "accelerate"):
        if importlib.util.find_spec(name) is None:
            return f"{name} is not installed"
    # Here and not above: without it, this says so.
    return None if tiny or importlib.import_module("torch").cuda.is_available() else "there is no CUDA device"


def _sides(case: Case, wanted: list[str] | None) -> list[str]:
    there = importlib.util.find_spec("trl") is not None
    return [side for side in case.sides if (there or side == OURS) and (not wanted or side in wanted)]


def _sized(case: Case, split: int = 1, *, tiny: bool = False) -> Case:
    """The same case in more parts, or with a tiny model and short rows."""
    if tiny:
        stages = tuple(Stage(stage.rows // 2, stage.length // 32) for stage in case.stages)
        case = msgspec.structs.replace(case, model="tiny", stages=stages)
    return msgspec.structs.replace(case, parts=case.parts * split)


def _write(folder: Path, case: Case, steps: int) -> None:
    """Shards of random documents, more than the steps take, and the model's configuration."""
    folder.mkdir()
    config = MODELS[case.model]
    (folder / "config.json").write_bytes(msgspec.json.encode(config))
    draw = np.random.default_rng(0)
    # Examples that are never cut must fit; what is pre-trained on may be longer than a row.
    longest = min(stage.length for stage in case.stages) * (1 if case.method != "pretrain" else 4)
    wanted = int(1.1 * steps * sum(stage.rows * stage.length for stage in case.stages)) + longest
    with writing(folder / "shards", ["text"]) as writer:
        while wanted > 0:
            length = int(np.clip(draw.lognormal(np.log(longest / 4), 0.8), 2, longest))
            tokens = draw.integers(4, config["vocab_size"], length, dtype=np.int32)
            trained = np.arange(length) >= (0 if case.method == "pretrain" else length // 3)
            writer.add({"id": f"{writer.count:016x}"}, {"text": (tokens, trained)})
            wanted -= length
        writer.finish({"benchmark": case.name}, {"written": writer.count})


def _run(order: Order, place: Path) -> list[Measured] | None:
    """One side in a new process; None where it fails, which it says itself."""
    asked, told = place / "order.json", place / "measured.json"
    asked.write_bytes(msgspec.json.encode(order))
    told.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.gpu_side", str(asked), str(told)]
    done = subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False)
    if done.returncode or not told.exists():
        return None
    return msgspec.json.decode(told.read_bytes(), type=list[Measured])


def _line(one: Measured) -> str:
    mfu = "" if one.mfu is None else f"   MFU {one.mfu:.1%}"
    return (
        f"  {one.case:<18} {one.side:<21} S={one.length:<5} {one.tokens_per_second:12,.0f} tokens/s"
        f" ({one.trained_per_second:,.0f} trained){mfu}   wait {one.wait:.2%}   peak {gigabytes(one.peak)}"
        f"   loss {one.loss:.4f}"
    )


def _compare(found: list[Measured]) -> None:
    for one in (one for one in found if one.side == OURS):
        print(f"\n{one.case}, rows of {one.length}, on {one.device}")
        if one.mfu is not None:
            print_ratio("MFU", one.mfu, MFU_BAR, at_least=True)
        print_ratio("of the time waiting for batches", one.wait, WAIT_BAR)
        for other in found:
            if (other.case, other.length) == (one.case, one.length) and other.side != OURS:
                ratio = one.tokens_per_second / other.tokens_per_second
                print_ratio(f"tokens a second by those of {other.side}", ratio, 1.0, at_least=True)


if __name__ == "__main__":
    sys.exit(main())
