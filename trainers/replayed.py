"""What a run trained on becomes what can be trained on again: its rows as sightings of the kind `replay`.

The rows are made once more from the snapshot, by the rules that the run's shards were made by; those that the run's
ledger has taken so far are told, as `lake replay add --export` would tell them. A run of `grpo` learns from its own
answers, which are in the lake already, so there is nothing to tell of it.

This room needs a lake. Not here: what a section is, and when it is another sighting of one that is there (`ingest`).
"""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from exporters.datasets import dataset_named
from exporters.export import parts
from exporters.plan import Options, Plan, rules
from ingest.replay import add, exports
from lake import Lake
from lake.errors import UsageError
from trainers import ledger
from trainers.receipts import Kept, record_of
from trainers.record import Run
from trainers.shards import TRAIN
from views.policy import Policy

Progress = Callable[[int, int | None], object]


def replay(lake: Lake, kept: Kept, *, dry_run: bool = False, progress: Progress | None = None) -> add.Summary:
    """Append the rows that a run trained on as sightings, at the time when it ended. Raises LakeError.

    Told again, they add nothing; a run that has gone on adds what it has taken since.
    """
    run = record_of(lake, kept)
    if run.method == "grpo":
        raise UsageError(
            f"{run.run}: a run of grpo learns from its own answers, not from rows",
            'they are in the lake, with what they were worth: lake sql "select * from runs"',
        )
    if run.snapshot is None or run.dataset is None:
        raise UsageError(f"{run.run}: its shards name no snapshot that its rows could be made from")
    seen = frozenset(ledger.rows_of(lake.get_object(kept.ledger), run.steps)["id"].to_pylist())
    last = run.sessions[-1]
    options = add.Options(run=run.run, seen_at=last.ended_at or last.began_at, dry_run=dry_run)
    [summary] = add.add_rows(lake, f"{run.dataset}@{run.snapshot}", lambda: _rows(lake, run, seen), options, progress)
    return summary


def _rows(lake: Lake, run: Run, seen: frozenset[str]) -> Iterator[exports.Given]:
    """The rows of these ids, in the order of the dataset."""
    made_from = run.shards[TRAIN].made_from
    assert run.dataset is not None
    named = dataset_named(run.dataset)
    options = Options(
        policy=msgspec.convert(made_from["policy"], Policy),
        views=made_from["views"],
        val=made_from["val"],
        seed=made_from["seed"],
        replay=made_from["replay"],
        format="parquet",
    )
    plan = Plan(named, named.shape_named(made_from["shape"]), options, rules(lake, options))
    line = 0
    for split, batch, json in parts(lake.snapshot(run.snapshot), plan):
        for row in batch.to_pylist() if split == TRAIN else ():
            if row["id"] in seen:
                line += 1
                yield exports.from_values(run.run, line, _decoded(row, json))


def _decoded(row: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {
        name: msgspec.json.decode(value) if name in names and isinstance(value, str) else value
        for name, value in row.items()
    }
