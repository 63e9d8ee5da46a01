"""What a run trained on becomes what can be trained on again: its rows as sightings of the kind `replay`.

The rows are made once more from the snapshot, by the rules that the run's shards were made by; those that the run's
ledger has taken so far are told, as `lake replay add --export` would tell them. A run of `grpo` learns from its own
answers, which are in the lake already, so there is nothing to tell of it.

This room needs a lake. Not here: what a section is, and when it is another sighting of one that is there (`ingest`).
"""

from collections.abc import Callable, Iterator

import msgspec

from exporters.plan import Options
from ingest.replay import add, exports
from lake import Lake
from lake.errors import UsageError
from trainers import ledger
from trainers.receipts import Kept, record_of
from trainers.record import Run
from trainers.shards import TRAIN
from trainers.sources import of_snapshot
from trainers.spec import KINDS
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
    options = Options(
        policy=msgspec.convert(made_from["policy"], Policy),
        **{name: made_from[name] for name in ("views", "val", "seed", "replay", "shape")},
    )
    assert run.dataset is not None
    source = of_snapshot(lake, run.snapshot, run.dataset, KINDS[run.method], options)
    taken = (row for split, rows in source.read() if split == TRAIN for row in rows if row["id"] in seen)
    for line, row in enumerate(taken, 1):
        yield exports.from_values(run.run, line, row)
