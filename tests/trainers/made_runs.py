"""A lake, shards of a dataset of it, and the folder of a run over them: as training leaves one, without training."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from exporters.datasets import dataset_named
from exporters.export import parts
from exporters.plan import Options, Plan, rules
from lake import Lake
from trainers.curves import Curve, Point
from trainers.plan import Stage, plan
from trainers.recorder import Record
from trainers.shards import TRAIN, Shards, writing
from views.connect import digest, dumps
from views.policy import Policy

MOMENT = datetime(2026, 4, 23, 12, tzinfo=UTC)


def filled(lake: Lake, runs: int = 12) -> Lake:
    """A lake with so many accepted runs, each of a task of its own."""
    names = [f"run-{number}" for number in range(runs)]
    evidence = [
        {
            "run_id": name,
            "task_id": f"task-{name}",
            "kind": "completion",
            "role": "executor",
            "prompt": f"Say {name}.",
            "text": f"This is {name}." * (1 + number % 3),
            "recorded_at": MOMENT,
            "source": {"file": "runs.jsonl", "line": number + 1, "sha256": "0" * 64},
        }
        for number, name in enumerate(names)
    ]
    scores = [
        {"run_id": name, "task_id": f"task-{name}", "scorer": "tests", "scorer_version": "1", "category": "accepted"}
        for name in names
    ]
    lake.append("evidence", evidence, producer="test", sequence=1)
    lake.append("scores", scores, producer="test", sequence=1)
    return lake


def built(lake: Lake, folder: Path, dataset: str = "sft") -> Shards:
    """Shards of a dataset, as its rows are: one token a character, and a snapshot that is pinned."""
    snapshot = lake.pin()
    named = dataset_named(dataset)
    options = Options(policy=Policy(), format="parquet")
    made = Plan(named, named.shape_named("conversational"), options, rules(lake, options))
    lake.put_object(dumps(made.sql))
    with writing(folder, ("text",)) as writer:
        for _, batch, _ in parts(snapshot, made):
            for row in batch.to_pylist():
                size = 5 + len(row["id"]) % 7
                writer.add({"id": row["id"]}, {"text": ([1] * size, [True] * size)})
        said: dict[str, Any] = {
            "snapshot": snapshot.id,
            "tables": {kind: pin.version for kind, pin in snapshot.tables.items()},
            "dataset": dataset,
            "shape": "conversational",
            "views": digest(made.sql),
            "policy": msgspec.to_builtins(Policy()),
            "val": 0.0,
            "seed": 0,
            "replay": 0.0,
            "provenance": True,
        }
        writer.finish(said, {"offered": writer.count, "kept": writer.count})
    return Shards.open(folder)


class Made:
    """A run that takes steps of three rows when it is told to."""

    def __init__(self, out: Path, shards: Shards, *, method: str = "sft", epochs: int = 1, **more: Any) -> None:
        self.out, self.shards = out, shards
        self.spec = {"method": method, "seed": 0, "out": str(out), "optimizer": {"learning_rate": 0.001}}
        self.plan = plan(shards.keys, shards.fields["text"].lengths, [Stage(rows=3, epochs=epochs)], 0)
        self.record = Record.begin(out, self.spec, shards={TRAIN: shards}, plan=self.plan, **more)
        self.step = 0

    def steps(self, count: int, *, save: bool = True) -> "Made":
        """Take steps, report each, and save the last."""
        curve = Curve(self.out)
        for _ in range(count):
            self.step += 1
            moment = MOMENT + timedelta(minutes=self.record.session, seconds=self.step)
            more = {"entropy": 0.5}
            told = {"tokens": 30, "trained_tokens": 20, "seconds": 0.5, "tokens_per_second": 60.0, "data_wait": 0.01}
            loss = 2.0 / self.step
            curve.add(
                Point(step=self.step, at=moment, session=self.record.session, loss=loss, more=more, **told),
                durably=False,
            )
        if save:
            folder = self.out / f"checkpoint-{self.step}"
            folder.mkdir()
            (folder / "model.safetensors").write_bytes(bytes([self.step]))
            self.record.checkpoint(self.step, folder)
        return self

    def resume(self, step: int) -> "Made":
        """Go on from a checkpoint."""
        self.record = Record.resume(self.out, self.spec, shards={"train": self.shards}, plan=self.plan, step=step)
        Curve(self.out).cut(step)
        self.step = step
        return self

    def end(self) -> "Made":
        """Complete the record."""
        self.record.finish(self.step, metrics={"loss": 2.0 / self.step})
        return self
