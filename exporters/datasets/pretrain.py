"""Pre-training: documents whose text is trained on as it is, as texts or packed into rows of token ids."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from exporters import runs
from exporters.dataset import Dataset, Fault, Rows, Shape
from exporters.faults import blank, not_in, provenance
from views.policy import Policy

# This only ever grows. A policy chooses among what it leaves.
NEVER = frozenset({"rejected"})
_COLUMNS = {"text": "text", "domain": "domain"}

# A row says of its run that a score has this category, or that none counts: then none may be there that stands.
_EVIDENT = """
select hash(event_id, run_id, category) as key
from events.scores
union all
select hash(cast(null as varchar), run_id, cast(null as varchar)) as key
from events.evidence
anti join (
    select score.run_id
    from events.scores as score
    anti join events.retractions as gone on gone.target_type = 'event' and score.event_id = gone.target
    anti join events.retractions as gone on gone.target_type = 'run' and score.run_id = gone.target
    anti join events.retractions as gone on gone.target_type = 'task' and score.task_id = gone.target
    anti join events.retractions as gone on gone.target_type = 'source' and score.source.file = gone.target
) as judged using (run_id)
"""


def allowed(policy: Policy) -> frozenset[str]:
    """The categories that a judged document may have. What it may never have is taken off, whatever was asked for."""
    known = ("accepted", "partially_accepted", *(("needs_human_review",) * policy.include_review))
    return frozenset(known) - NEVER


def _faults(rows: Rows, batch: pa.RecordBatch) -> Iterator[Fault]:
    yield from blank(batch, "id", "task_id", "text")
    kinds = ("document", *(("completion",) * rows.policy.include_completions))
    kind, category = batch.column("kind"), batch.column("category")
    yield not_in(kind, frozenset(kinds)), lambda place: f"evidence of kind {kind[place].as_py()!r} is no document"
    bad = pc.or_(not_in(category, allowed(rows.policy)), pc.invert(not_in(category, NEVER)))
    judged_bad = pc.and_(pc.is_valid(category), bad)
    yield judged_bad, lambda place: f"category {category[place].as_py()!r} is not allowed in pretrain"
    unaccepted = pc.and_(pc.equal(kind, "completion"), not_in(category, frozenset({"accepted"})))
    yield unaccepted, "a completion that nobody accepted is no document"
    yield pc.not_equal(pc.is_valid(category), pc.is_valid(batch.column("score_event_id"))), "half a verdict"
    yield from blank(batch, "source_run_id", "event_id")
    yield from provenance(batch.column("provenance"), "provenance")


DATASET = Dataset(
    name="pretrain",
    one_row="One row is one document that may be trained on as it is; packed, one row holds as much of them as fits.",
    shapes={"text": Shape(_COLUMNS), "packed": Shape(_COLUMNS, packed=True)},
    provenance=("kind", *runs.PROVENANCE),
    record=runs.RECORD,
    claims={"claim": ("hash(score_event_id, source_run_id, category)", _EVIDENT)},
    faults=_faults,
    said="text",
    group="id",
)
