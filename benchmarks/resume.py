"""What does it cost to go on? The first batch at 90 % of an epoch, and at step a million, against that of a cold start.

`python -m benchmarks.resume`. Each side is a new process that opens the shards, plans the run and makes the batch of
its step; what it imports is not counted, and neither is what a trainer's own state takes to load. The seconds are those
that the process computes. A run of a million steps has short rows here, so that its tokens fit a small machine.

What a loader does that has to read its way there is measured beside it: all batches before the step.
"""

import time
from pathlib import Path

from benchmarks.loader import FIELD, shards
from benchmarks.measure import Side, alternate, compare, in_process, parser, print_ratio, scratch
from trainers import batches
from trainers.plan import Stage, plan
from trainers.shards import Shards

__all__ = ["begin", "main", "prepare", "read_through"]

BAR = 1.2
EPOCH = 8, 2048
MILLION = 1_000_000
LONG = 1, 64


def prepare(folder: str, rows: int) -> float:
    """Make the shards."""
    shards(Path(folder) / "shards", rows)
    return 0.0


def begin(folder: str, rows: int, length: int, steps: int, step: int) -> float:
    """Open, plan, and make the batch of a step; 0 steps are an epoch, and a step below 0 is a percentage of them."""
    began = time.process_time()
    opened = Shards.open(f"{folder}/shards")
    field = opened.fields[FIELD]
    one = plan(opened.keys, field.lengths, [Stage(rows=rows, length=length, steps=steps or None)], seed=0)
    at = one.steps * -step // 100 if step < 0 else step
    batches.packed(one.stage_at(at), one.rows(at), field, 0)
    return time.process_time() - began


def read_through(folder: str, rows: int, length: int, percent: int) -> float:
    """The same, making every batch on the way there."""
    began = time.process_time()
    opened = Shards.open(f"{folder}/shards")
    field = opened.fields[FIELD]
    one = plan(opened.keys, field.lengths, [Stage(rows=rows, length=length)], seed=0)
    for step in range(one.steps * percent // 100 + 1):
        batches.packed(one.stage_at(step), one.rows(step), field, 0)
    return time.process_time() - began


def main() -> None:
    """Compare beginnings."""
    asked = parser(main.__doc__)
    asked.set_defaults(rows=100_000)
    asked.add_argument("--steps", type=int, default=MILLION, help="at which step the long run goes on")
    options = asked.parse_args()
    with scratch(options.data) as folder:
        in_process(prepare, [folder, options.rows])
        documents = f"{options.rows:,} documents"
        there, _ = compare(
            f"first batch of an epoch, {EPOCH[0]} rows of {EPOCH[1]}, {documents}",
            [
                Side("at 90 % of the epoch", begin, lambda _: [folder, *EPOCH, 0, -90]),
                Side("at its beginning", begin, lambda _: [folder, *EPOCH, 0, 0]),
            ],
            BAR,
            times=options.times,
        )
        [through] = alternate([Side("", read_through, lambda _: [folder, *EPOCH, 90])], times=1)
        print(f"  {'reading through to 90 %':<36} {through.seconds:8.2f} s")
        print_ratio("of that", there.seconds / through.seconds, 1.0)
        steps = options.steps
        compare(
            f"first batch of {steps + 10:,} steps, {LONG[0]} row of {LONG[1]}, {documents}",
            [
                Side(f"at step {steps:,}", begin, lambda _: [folder, *LONG, steps + 10, steps]),
                Side("at step 0", begin, lambda _: [folder, *LONG, steps + 10, 0]),
            ],
            BAR,
            times=options.times,
        )


if __name__ == "__main__":
    main()
