"""Scores what has not been scored: asks a scorer for verdicts on runs and appends them as events.

    summary = score(lake, registry.find("final-answer"))

A score says in `extra` which evidence and which task it was made from, and in `source` which scorer made it, with a
sha256 of the two: so what was judged is known by what it was, and is not judged again by the same version, also if the
score is withdrawn since. Scores are committed in batches as they come, so a killed scoring goes on where it was.

`recorded_at` is when the verdict was given, which makes two tellings of one verdict two events. So that two processes
do not both tell it, each batch takes the scorer's next sequence number in the lake, read before the state that it is
made from: of two processes one gets it, and the other looks again at what is left.

Not here: what a scorer thinks (`scorers`), and which of several verdicts counts (the view `verdicts`).
"""

import functools
import hashlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from ingest.scorers.configuration import numbered
from ingest.scorers.relation import Relation
from ingest.scorers.scorer import BadVerdict, NotScored, Scorer, Verdict
from lake.errors import SequenceTooLow
from lake.lake import Lake
from views import connect, needed
from views.query import query

READ_ROWS = 1024
AHEAD = 64  # runs in hand for each worker, so that one that hangs does not keep the others waiting
_HERE = Path(__file__).parent

Connection = Any  # what views.connect opens; its type has a name on that floor alone
Progress = Callable[[int, int | None], object]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`batch_rows` scores, or what comes in `batch_seconds`, make one commit. `limit` stops after so many runs."""

    batch_rows: int = 10_000
    batch_seconds: float = 5.0
    limit: int | None = None
    dry_run: bool = False


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a scoring did. `considered` = the sum of `categories` + the sum of `not_scored`, whose keys are reasons.

    `added` is how many scores were stored: all of `categories`, or none in a dry run.
    """

    scorer: str
    version: str
    considered: int
    added: int
    categories: dict[str, int]
    not_scored: dict[str, int]
    duration: float


class _Judged(msgspec.Struct, frozen=True):
    """A run, what its verdict is made from, and the verdict."""

    run_id: str
    task_id: str
    evidence: str
    task: str | None
    verdict: Verdict | NotScored

    @property
    def basis(self) -> str:
        """The sha256 of what the verdict is made from, as pending.sql has it."""
        return hashlib.sha256(" ".join(filter(None, (self.evidence, self.task))).encode()).hexdigest()


def score(
    lake: Lake, scorer: Scorer | Relation, options: Options | None = None, progress: Progress | None = None
) -> Summary:
    """Append the verdicts of a scorer on all runs that this version of it has not judged yet.

    `progress` is called with the runs done and all there are. Raises BadVerdict, and what the scorer raises.
    """
    work = _Work(lake, scorer, options or Options(), progress or _silent)
    while not work.round():
        pass
    return work.summary()


def version_of(con: Connection, scorer: Scorer | Relation) -> str:
    """The version under which a scorer scores now."""
    told = con.execute(
        "select distinct scorer_version from events.scores where scorer = $scorer", {"scorer": scorer.name}
    ).fetchall()
    return numbered(scorer.version or "0", scorer.digest, (version for (version,) in told))


def _silent(_done: int, _total: int | None) -> None:
    """Tell nobody how far the work has come."""


class _Work:
    """One scoring: what is counted so far, and the rounds it takes."""

    def __init__(self, lake: Lake, scorer: Scorer | Relation, options: Options, progress: Progress) -> None:
        self.lake = lake
        self.scorer = scorer
        self.version = ""
        self.producer = f"scorer:{scorer.name}"
        self.options = options
        self.progress = progress
        self.began = time.monotonic()
        self.categories: Counter[str] = Counter()
        self.not_scored: Counter[str] = Counter()
        self.known: dict[str, Verdict | NotScored] = {}

    @property
    def considered(self) -> int:
        """How many runs have been judged, or found to be none of this scorer's."""
        return self.categories.total() + self.not_scored.total()

    def round(self) -> bool:
        """Judge and tell what is pending now; false if another process came between and it must be looked at again."""
        self.not_scored.clear()  # they are pending still, and will be met again
        position = self.lake.position("scores", self.producer)
        sequence = position.sequence if position else 0
        rule = self.scorer.text if isinstance(self.scorer, Relation) else ""
        asked = needed(" ".join((_sql("pending"), _sql("pending_runs"), rule)))
        with closing(connect(self.lake.snapshot(), sql=asked)) as con:
            self.version = self.version or version_of(con, self.scorer)
            total = self.considered + self.prepare(con)
            for batch in self.batches(self.judged(con), total):
                if not self.tell(batch, sequence := sequence + 1):
                    self.known = {one.basis: one.verdict for one in batch}
                    return False
                for one in batch:
                    if isinstance(one.verdict, Verdict):
                        self.categories[one.verdict.category] += 1
                    else:
                        self.not_scored[one.verdict.reason] += 1
        return True

    def prepare(self, con: Connection) -> int:
        """Find what is pending; how many runs."""
        con.execute("create temp table asked (scorer varchar, version varchar, uses_task boolean)")
        con.execute("insert into asked values (?, ?, ?)", [self.scorer.name, self.version, self.scorer.uses_task])
        con.execute(f"create temp table pending as {_sql('pending')}")
        ((count,),) = con.execute("select count(*) from pending").fetchall()
        return int(count)

    def judged(self, con: Connection) -> Iterator[_Judged]:
        """The pending runs with their verdicts, as they come, up to the limit."""
        scorer = self.scorer
        found = _by_relation(con, scorer) if isinstance(scorer, Relation) else self.by_scorer(con, scorer)
        left = None if self.options.limit is None else max(0, self.options.limit - self.considered)
        return islice(found, left)

    def by_scorer(self, con: Connection, scorer: Scorer) -> Iterator[_Judged]:
        """Ask a scorer about each run, several at once if it allows that; in the order of the rows."""
        rows = _rows(con, _sql("pending_runs"))
        if scorer.workers == 1:
            yield from (self.asked(scorer, row) for row in rows)
            return
        pending: deque[Future[_Judged]] = deque()
        with ThreadPoolExecutor(scorer.workers) as pool:
            try:
                for row in rows:
                    pending.append(pool.submit(self.asked, scorer, row))
                    if len(pending) > AHEAD * scorer.workers:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()

    def asked(self, scorer: Scorer, row: dict[str, Any]) -> _Judged:
        """One run with a scorer's verdict, which may be known from a round that was lost."""
        task = row.pop("asked_task")
        task_event = row.pop("task_event_id")
        judged = _Judged(row["run_id"], row["task_id"], row["event_id"], task_event, NotScored("not asked"))
        known = self.known.get(judged.basis)
        if known is None:
            known = scorer(_read(row, "extra", "messages"), None if task is None else _read(task, "extra"))
        return msgspec.structs.replace(judged, verdict=known)

    def batches(self, judged: Iterable[_Judged], total: int) -> Iterator[list[_Judged]]:
        """What is told in one commit each: so many, or what came in so many seconds."""
        batch: list[_Judged] = []
        since = time.monotonic()
        for one in judged:
            batch.append(one)
            self.progress(self.considered + len(batch), total)
            late = time.monotonic() - since > self.options.batch_seconds
            if len(batch) >= self.options.batch_rows or late:
                yield batch
                batch, since = [], time.monotonic()
        if batch:
            yield batch

    def tell(self, batch: list[_Judged], sequence: int) -> bool:
        """Append a batch's verdicts; false if another process has taken this sequence."""
        now = datetime.now(UTC)
        rows = [self.event(one, one.verdict, now) for one in batch if isinstance(one.verdict, Verdict)]
        if not rows or self.options.dry_run:
            return True
        try:
            return not self.lake.append("scores", rows, producer=self.producer, sequence=sequence).repeated
        except SequenceTooLow:
            return False

    def event(self, one: _Judged, verdict: Verdict, now: datetime) -> dict[str, object]:
        """A verdict as a row of scores."""
        figures = verdict.sub_scores
        return {
            "recorded_at": now,
            "source": {"file": f"{self.producer}@{self.version}", "line": None, "sha256": one.basis},
            "run_id": one.run_id,
            "task_id": one.task_id,
            "scorer": self.scorer.name,
            "scorer_version": self.version,
            "category": verdict.category,
            "score": verdict.score,
            "sub_scores": None if figures is None else _json(figures),
            "reasons": list(verdict.reasons),
            "extra": _json({"evidence": one.evidence, "task": one.task}),
        }

    def summary(self) -> Summary:
        """What was done."""
        return Summary(
            scorer=self.scorer.name,
            version=self.version,
            considered=self.considered,
            added=0 if self.options.dry_run else self.categories.total(),
            categories=dict(sorted(self.categories.items())),
            not_scored=dict(self.not_scored.most_common()),
            duration=time.monotonic() - self.began,
        )


def _by_relation(con: Connection, relation: Relation) -> Iterator[_Judged]:
    """The pending runs with the verdicts of a relation."""
    define(con, relation)
    for row in _rows(con, _sql("pending_verdicts")):
        verdict = NotScored("the relation has no verdict on it")
        given = row["verdict"]
        yield _Judged(
            row["run_id"],
            row["task_id"],
            row["event_id"],
            row["task_event_id"],
            verdict if given is None or given["category"] is None else relation.verdict(given),
        )


def define(con: Connection, relation: Relation) -> None:
    """Put a relation's rows into the table that pending_verdicts.sql reads. Raises UsageError, BadVerdict.

    It runs as any query that a user types, which may only read.
    """
    rows = query(con, relation.text)
    if missing := {"run_id", "category"} - set(rows.schema.names):
        rows.close()
        raise BadVerdict(f"{relation.name}: its rows have no {' and no '.join(sorted(missing))}", "see docs/scoring.md")
    con.register("given_rows", rows)
    con.execute("create temp table given as select * from given_rows")
    con.unregister("given_rows")
    twice = con.execute(
        "select run_id, count(*) from given group by run_id having count(*) > 1 order by run_id limit 1"
    ).fetchall()
    if twice:
        raise BadVerdict(f"{relation.name}: {twice[0][1]} rows for run {twice[0][0]}", "return one row a run")


def agreement(con: Connection, first: str, second: str) -> list[dict[str, Any]]:
    """How two scorers' newest verdicts on the same runs agree: rows of category, other_category, runs.

    The pairs that agree come first.
    """
    con.execute("create or replace temp table asked as select ? as first_scorer, ? as second_scorer", [first, second])
    return con.sql(_sql("agreement")).to_arrow_table().to_pylist()


def _rows(con: Connection, query: str) -> Iterator[dict[str, Any]]:
    for batch in con.sql(query).to_arrow_reader(READ_ROWS):
        yield from batch.to_pylist()


def _read(row: dict[str, Any], *columns: str) -> dict[str, Any]:
    """A row with its JSON columns read."""
    return row | {name: msgspec.json.decode(row[name]) for name in columns if row[name] is not None}


def _json(value: object) -> str:
    return msgspec.json.encode(value, order="deterministic").decode()


@functools.cache
def _sql(name: str) -> str:
    return (_HERE / f"{name}.sql").read_text("utf-8")
