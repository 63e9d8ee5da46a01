"""Annotates what has not been looked at: asks an annotator for its findings and appends them as events.

    summary = annotate(lake, registry.find("pii"))

A finding says in `target` which event it is of, in `against` what that was compared with, and in `source` which
annotator made it, with a sha256 of what it was made from: so an event is not looked at again by the same version, and
is compared again once there are other eval tasks. Findings are committed in batches as they come, so a killed run goes
on where it was.

`recorded_at` is when something was found, which makes two tellings of one finding two events. So that two processes do
not both tell it, each batch takes the annotator's next sequence number in the lake, read before the state that it is
made from: of two processes one gets it, and the other looks again at what is left.

Not here: what an annotator looks for (`annotators`), and what bars a row from training (the view `gate_faults`).
"""

import functools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from ingest.annotators.annotator import Annotator, Finding, Known, Target, fields_of
from ingest.scorers.configuration import numbered
from lake.errors import LakeError, SequenceTooLow
from lake.lake import Lake
from lake.snapshots import Snapshot
from views import Policy, connect, needed

READ_ROWS = 1024
LOOK_ROWS = 4096
_HERE = Path(__file__).parent / "annotators"
_TARGETS = ("evidence", "tasks", "prompts", "replay")

Connection = Any  # what views.connect opens; its type has a name on that floor alone
Progress = Callable[[int, int | None], object]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`at` is a reference to the state whose events are looked at; the current one without it. The eval tasks are those
    that `policy` names. `batch_rows` findings, or what comes in `batch_seconds`, make one commit.
    """

    at: str | None = None
    policy: Policy = Policy()
    batch_rows: int = 20_000
    batch_seconds: float = 10.0
    dry_run: bool = False


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a run did. `considered` events were looked at, each of which has one finding; `found` of them by what it is.

    `added` is how many findings were stored: all of them, or none in a dry run. `against` is the version of what they
    were compared with, if they were.
    """

    annotator: str
    version: str
    against: str | None
    considered: int
    added: int
    found: dict[str, int]
    duration: float


class NothingToCompare(LakeError):
    """Contamination is asked for, and no eval task is registered."""


def annotate(
    lake: Lake, annotator: Annotator, options: Options | None = None, progress: Progress | None = None
) -> Summary:
    """Append the findings of an annotator on all events that this version of it has not looked at yet.

    `progress` is called with the events done and all there are. Raises NothingToCompare, UnknownRef.
    """
    work = _Work(lake, annotator, options or Options(), progress or _silent)
    while not work.round():
        pass
    return work.summary()


def version_of(con: Connection, annotator: Annotator) -> str:
    """The version under which an annotator finds now, numbered where its settings differ, as a scorer's is."""
    told = con.execute(
        "select distinct annotator_version from events.annotations where annotator = $name", {"name": annotator.name}
    ).fetchall()
    return numbered(annotator.version, annotator.digest, (version for (version,) in told))


def _silent(_done: int, _total: int | None) -> None:
    """Tell nobody how far the work has come."""


class _Looked(msgspec.Struct, frozen=True):
    """An event, what its finding is made from, and the finding."""

    target: Target
    basis: str
    finding: Finding


class _Work:
    """One run: what is counted so far, and the rounds it takes."""

    def __init__(self, lake: Lake, annotator: Annotator, options: Options, progress: Progress) -> None:
        self.lake = lake
        self.annotator = annotator
        self.version = ""
        self.against: str | None = None
        self.producer = f"annotator:{annotator.name}"
        self.options = options
        self.progress = progress
        self.began = time.monotonic()
        self.found: Counter[str] = Counter()

    def round(self) -> bool:
        """Look at what is pending now, and tell it; false if another process came between, and one must look again."""
        position = self.lake.position("annotations", self.producer)
        sequence = position.sequence if position else 0
        text = " ".join((*map(_sql, ("pending", "kept", "texts")), "eval_sets"))
        with closing(connect(self.snapshot(), self.options.policy, sql=needed(text))) as con:
            self.version = version_of(con, self.annotator)
            total = self.found.total() + self.prepare(con)
            for batch in self.batches(self.looked_at(con), total):
                if not self.tell(batch, sequence := sequence + 1):
                    return False
                self.found.update(self.outcome(one.finding) for one in batch)
        return True

    def snapshot(self) -> Snapshot:
        """The events of the state that is asked for, and all that is known of them by now."""
        if self.options.at is None:
            return self.lake.snapshot()
        tables = self.lake.snapshot(self.options.at).tables
        versions = {kind: tables[kind].version if kind in tables else 0 for kind in _TARGETS}
        return self.lake.snapshot(",".join(f"{kind}={version}" for kind, version in versions.items()))

    def prepare(self, con: Connection) -> int:
        """Find what is pending; how many events. Raises NothingToCompare."""
        annotator = self.annotator
        sets = con.execute("select eval_version from eval_sets").fetchall()
        if annotator.known is Known.eval_tasks:
            if not sets:
                raise NothingToCompare(
                    "no eval task is registered, so there is nothing to compare with",
                    f"ingest tasks whose split is {' or '.join(self.options.policy.quality.eval_splits)}",
                )
            [(self.against,)] = sets
        con.execute("create temp table asked (annotator varchar, version varchar, against varchar, uses_task boolean)")
        con.execute(
            "insert into asked values (?, ?, ?, ?)",
            [annotator.name, self.version, self.against, annotator.known is Known.kept],
        )
        con.execute("create temp table asked_kinds as select unnest(?::varchar[]) as kind", [list(annotator.kinds)])
        con.execute(f"create temp table pending as {_sql('pending')}")
        ((count,),) = con.execute("select count(*) from pending").fetchall()
        return int(count)

    def looked_at(self, con: Connection) -> Iterator[_Looked]:
        """The pending events with what is found of them, as they come."""
        look = self.annotator.over(target for target, _ in self.known(con))
        rows = self.rows(con, "pending")
        while some := list(islice(rows, LOOK_ROWS)):
            findings = look([target for target, _ in some])
            for (target, basis), finding in zip(some, findings, strict=True):
                yield _Looked(target, basis, finding)

    def known(self, con: Connection) -> Iterator[tuple[Target, str]]:
        """What the annotator has to know first."""
        if self.annotator.known is Known.kept:
            con.execute(f"create temp table kept as {_sql('kept')}")
            return self.rows(con, "kept")
        if self.annotator.known is Known.eval_tasks:
            con.execute("create temp table registered as select 'tasks' as kind, event_id, '' as basis from eval_tasks")
            return self.rows(con, "registered")
        return iter(())

    def rows(self, con: Connection, table: str) -> Iterator[tuple[Target, str]]:
        """The events that a table names, in their order, each with what its finding is made from."""
        con.execute(f"create or replace temp view looked_at as from {table}")
        for batch in con.sql(_sql("texts")).to_arrow_reader(READ_ROWS):
            for row in batch.to_pylist():
                fields = fields_of(row)
                target = Target(row["event_id"], row["kind"], row["run_id"], row["task_id"], fields, row["asked"])
                yield target, row["basis"]

    def batches(self, looked: Iterable[_Looked], total: int) -> Iterator[list[_Looked]]:
        """What is told in one commit each: so many, or what came in so many seconds."""
        batch: list[_Looked] = []
        since = time.monotonic()
        for one in looked:
            batch.append(one)
            self.progress(self.found.total() + len(batch), total)
            late = time.monotonic() - since > self.options.batch_seconds
            if len(batch) >= self.options.batch_rows or late:
                yield batch
                batch, since = [], time.monotonic()
        if batch:
            yield batch

    def tell(self, batch: list[_Looked], sequence: int) -> bool:
        """Append a batch's findings; false if another process has taken this sequence."""
        if self.options.dry_run:
            return True
        now = datetime.now(UTC)
        rows = [self.event(one, now) for one in batch]
        try:
            return not self.lake.append("annotations", rows, producer=self.producer, sequence=sequence).repeated
        except SequenceTooLow:
            return False

    def event(self, one: _Looked, now: datetime) -> dict[str, object]:
        """A finding as a row of annotations."""
        finding = one.finding
        return {
            "recorded_at": now,
            "source": {"file": f"{self.producer}@{self.version}", "line": None, "sha256": one.basis},
            "target": one.target.event_id,
            "run_id": one.target.run_id,
            "task_id": one.target.task_id,
            "annotator": self.annotator.name,
            "annotator_version": self.version,
            "label": finding.label,
            "value": finding.value,
            "spans": _json(finding.spans) if finding.spans else None,
            "against": self.against,
            "extra": None if finding.extra is None else _json(finding.extra),
        }

    def outcome(self, finding: Finding) -> str:
        """What a finding is counted as: its label; where that is an event's id, that it is there or not."""
        if self.annotator.known is Known.kept:
            return "kept" if finding.label is None else "near copy"
        return finding.label or "none"

    def summary(self) -> Summary:
        """What was done."""
        return Summary(
            annotator=self.annotator.name,
            version=self.version,
            against=self.against,
            considered=self.found.total(),
            added=0 if self.options.dry_run else self.found.total(),
            found=dict(sorted(self.found.items())),
            duration=time.monotonic() - self.began,
        )


def _json(value: object) -> str:
    return msgspec.json.encode(value, order="deterministic").decode()


@functools.cache
def _sql(name: str) -> str:
    return (_HERE / f"{name}.sql").read_text("utf-8")
