"""The views over one snapshot, for one export: its rows in their order, and the closing of its books.

Every record that was considered was written or is in quarantine, and in one of them only; this is compared record by
record, with the keys of the rows that were written. What a row claims of verdicts is held against the pinned scores.

Not here: what becomes of the rows (`export`).
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from exporters import decontamination
from exporters.dataset import Rows
from exporters.faults import FirewallBreach
from exporters.formats import SLICE_ROWS, takes_lines
from exporters.mixing import Mixed, mix, needs
from exporters.plan import Plan
from exporters.receipt import Counts
from exporters.rendering import render
from lake import LakeError, Snapshot
from views.connect import connect, needed, of_dataset
from views.gates import as_they_stand

# The engine's share of the 2 GiB that an export may take; a row group, a few slices and the libraries are the rest.
MEMORY_LIMIT = "1400MiB"

_PAIRS = "pair_candidates"
_GATES = "gate_faults"


class OffBalance(LakeError):
    """Rows considered are not rows exported plus rows quarantined; nothing was written."""


class Relations:
    """The views over one snapshot, for one export."""

    def __init__(self, snapshot: Snapshot, plan: Plan) -> None:
        self._plan = plan
        replayed = needs(plan.dataset) if plan.options.replay else ""
        asked = f"{plan.dataset.relation} considered quarantine evidence {decontamination.RELATION} {replayed}"
        sql = needed(asked, as_they_stand(without_others(plan), plan.options.policy.quality))
        self._snapshot = snapshot
        self._sql = sql
        self._con = connect(snapshot, plan.options.policy, sql=sql, memory_limit=MEMORY_LIMIT)
        if plan.options.policy.quality.gates and _GATES in sql:
            self._work_out(_GATES)
        self.mixed: Mixed | None = None
        if plan.options.replay:
            self.mixed = mix(self._con, plan.dataset, plan.options.replay, plan.options.policy.replay)

    def close(self) -> None:
        """Let go of the database."""
        self._con.close()

    def _work_out(self, name: str) -> None:
        """Put the rows of a relation that is asked more than once into a table of its name."""
        self._con.execute(f"alter view {name} rename to asked_{name}")
        self._con.execute(f"create table {name} as select * from asked_{name}")

    def standing(self) -> decontamination.Standing | None:
        """How the snapshot stands with the registered eval tasks. Raises Unchecked."""
        return decontamination.standing(self._con, self._sql, self._plan.options.policy)

    def versions(self) -> dict[str, str]:
        """The version of the engine, by its name."""
        [(engine,)] = self._con.execute("select version()").fetchall()
        return {"duckdb": engine.removeprefix("v")}

    def rows(self) -> Rows:
        """What a row of this export is. Conversations decide it: columns hold those that are roles and texts alone."""
        options, dataset, shape = self._plan.options, self._plan.dataset, self._plan.shape
        if self.mixed is not None:
            dataset = self.mixed.dataset
        made = dataset.shapes[shape]
        conversations = self.mixed is not None or self._has_conversations()
        if made.fits is not None and made.otherwise is not None and conversations:
            [(fits,)] = self._con.execute(made.fits).fetchall()
            shape = shape if fits else made.otherwise
        return Rows(dataset, shape, options.provenance, options.policy, options.val, options.seed)

    def _has_conversations(self) -> bool:
        return any(
            self._con.execute(f"select 1 from events.{kind} where messages is not null limit 1").fetchall()
            for kind in ("evidence", "prompts")
        )

    @property
    def _lines(self) -> bool:
        return takes_lines(self._plan.options.format) and self._plan.options.tokenizer is None

    def stream(self, rows: Rows) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """The rows in their order: their schema, and the batches as they come.

        Sorting and joining long texts beyond what memory holds costs more than reading them again, so a large lake is
        gone through in ranges of task ids, one after the other.
        """
        if rows.dataset.pairs and _PAIRS in self._sql:
            # Which pairs there are is asked for each range and twice for the accounts, so it is worked out once.
            self._work_out(_PAIRS)
        ranges = self._ranges(rows.dataset.block_bytes)
        readers = (self._read(rows, after, upto) for after, upto in pairwise(ranges))
        first = next(readers)
        batches = chain(first, chain.from_iterable(readers))
        if rows.made.render is None:
            return first.schema, batches
        rendered = (render(rows, batch, lines=self._lines) for batch in batches)
        empty = render(rows, pa.RecordBatch.from_pylist([], first.schema), lines=self._lines)
        return empty.schema, rendered

    def _read(self, rows: Rows, after: str | None, upto: str | None) -> pa.RecordBatchReader:
        within = ["true"]
        for name, sign, bound in (("after", ">", after), ("upto", "<=", upto)):
            if bound is not None:
                self._con.execute(f"set variable {name} = ?", [bound])
                within.append(f"task_id {sign} getvariable('{name}')")
        lines = self._lines and rows.made.render is None
        return self._con.sql(rows.query(lines=lines, within=" and ".join(within))).to_arrow_reader(SLICE_ROWS)

    def _ranges(self, block_bytes: int) -> list[str | None]:
        """The task ids between blocks of about so many bytes of evidence, from None to None."""
        held = sum(
            metadata.row_group(number).total_byte_size
            for metadata in map(pq.read_metadata, self._snapshot.paths("evidence"))
            for number in range(metadata.num_row_groups)
        )
        blocks = -(-held // block_bytes)
        if blocks <= 1:
            return [None, None]
        tasks = self._con.execute(_LAST_TASKS, [blocks]).fetchall()
        return [None, *dict.fromkeys(task for (task,) in tasks[:-1]), None]

    def close_books(self, keys: Mapping[str, np.ndarray]) -> Counts:
        """Set what was written against what was considered and what is in quarantine, record by record.

        The written side are the keys of the rows that were written, not another look at the view. Raises OffBalance.
        """
        dataset = self._plan.dataset.name
        self._con.register("exported", pa.table({name: values for name, values in keys.items() if name != "id"}))
        tally = self._con.execute(_TALLY, [dataset, dataset]).fetchall()
        off = [
            (considered, exported, held, number)
            for considered, exported, held, _, number in tally
            if (considered, exported, held) not in ((1, 1, 0), (1, 0, 1))
        ]
        if off:
            raise _off_balance(dataset, off)
        for name, (_, evident) in self._plan.dataset.claims.items():
            self._refuse_unfounded(dataset, name, evident)
        reasons = {reason: number for _, _, held, reason, number in tally if held}
        exported = sum(number for _, written, _, _, number in tally if written)
        quarantined = sum(reasons.values())
        without = self._tasks() - len(np.unique(keys["task"])) if self._plan.dataset.pairs else None
        return Counts(exported + quarantined, exported, quarantined, dict(sorted(reasons.items())), without)

    def _tasks(self) -> int:
        [(tasks,)] = self._con.execute("select count(distinct task_id) from evidence").fetchall()
        return tasks

    def _refuse_unfounded(self, dataset: str, name: str, evident: str) -> None:
        [(unfounded,)] = self._con.execute(
            f"select count(*) from exported anti join ({evident}) as evident on exported.{name} = evident.key"
        ).fetchall()
        if unfounded:
            raise FirewallBreach(
                f"{dataset}: {unfounded} rows claim a verdict that no pinned score bears out; nothing was written",
                f"the view '{dataset}' made them up; export without --views to use the installed one",
            )


def without_others(plan: Plan) -> dict[str, str]:
    """The relations without what other datasets consider: to bind all of it takes longer than a small export."""
    checks = {name: of_dataset(text, plan.dataset.name) for name, text in plan.sql.items() if name == "dataset_checks"}
    return {**plan.sql, **checks}


# The last task of each block of evidence, in order.
_LAST_TASKS = """
select max(task_id) as task_id
from (
    select
        task_id,
        ntile(?) over (order by task_id) as block
    from evidence
)
group by block
order by block
"""

# Every record once on the considered side, and once on one of the other two; a key is 64 bits of the record's own.
_TALLY = """
with
entries as (
    select hash(record_type, record_id) as key, 1 as considered, 0 as exported, 0 as quarantined, null as reason
    from considered
    where dataset = ?
    union all
    select record, 0, 1, 0, null
    from exported
    union all
    select hash(record_type, record_id), 0, 0, 1, reason
    from quarantine
    where dataset = ?
),

records as (
    select
        cast(sum(considered) as bigint) as considered,
        cast(sum(exported) as bigint) as exported,
        cast(sum(quarantined) as bigint) as quarantined,
        any_value(reason) as reason
    from entries
    group by key
)

select considered, exported, quarantined, reason, count(*) as records
from records
group by all
order by all
"""


def _off_balance(dataset: str, off: Iterable[tuple[int, int, int, int]]) -> OffBalance:
    said = {"considered and in neither": 0, "in both": 0, "never considered": 0, "counted more than once": 0}
    for considered, exported, quarantined, number in off:
        if considered == 0:
            said["never considered"] += number
        elif max(considered, exported, quarantined) > 1:
            said["counted more than once"] += number
        elif exported + quarantined == 0:
            said["considered and in neither"] += number
        else:
            said["in both"] += number
    found = ", ".join(f"{number} {what}" for what, number in said.items() if number)
    return OffBalance(
        f"{dataset}: the books do not balance, records are exported or quarantined: {found}; nothing was written",
        "export without --views to use the installed views; if these are they, report it",
    )
