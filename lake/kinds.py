"""Which kinds of event there are, and their columns.

One kind is one append-only table. Every event carries the envelope (`event_id`, `recorded_at`, `schema_version`,
`source`, `batch`) and the columns of its kind. What is filtered or joined on has a column; everything else travels as
JSON text in `extra`. The types are those that Delta, DuckDB, pyarrow and Spark all keep exactly.

Not here: how rows become events of a kind (`events`), or what they mean together (the views).
"""

from dataclasses import dataclass

import pyarrow as pa

from lake.errors import UsageError

SCHEMA_VERSION = 1

EVIDENCE_KINDS = ("completion", "trajectory", "mutation", "document")
ROLES = (
    "executor",
    "reviewer",
    "extractor",
    "verifier",
    "categorizer",
    "tiebreaker",
    "applier",
    "embedder",
    "other",
)
CATEGORIES = ("accepted", "partially_accepted", "rejected", "needs_human_review")
RETRACTION_TARGETS = ("event", "run", "task", "source")
SECTION_TYPES = ("prose", "instruction", "preference")
REPORTS = ("training", "evaluation")

TIMESTAMP = pa.timestamp("us", "UTC")
SOURCE = pa.struct(
    [
        pa.field("file", pa.string()),
        pa.field("line", pa.int64()),
        pa.field("sha256", pa.string()),
    ]
)


@dataclass(frozen=True)
class Kind:
    """One kind of event.

    `columns` are the kind's own, a non-nullable one must be given and, if text, not blank. `enums` lists the values
    that a column may take, `json` the columns that hold JSON text. A `ledger` describes the lake itself and is no part
    of a snapshot. `placed` kinds are facts about a place in a file, so the place is part of what they say. `optional`
    kinds came later than the first lakes, and are no part of a snapshot before they are used: what is pinned again
    after an upgrade has the id that it had.
    """

    name: str
    one_row: str
    columns: pa.Schema
    enums: dict[str, tuple[str, ...]]
    json: tuple[str, ...]
    ledger: bool = False
    placed: bool = False
    optional: bool = False

    @property
    def schema(self) -> pa.Schema:
        """The table's columns: the envelope, then the kind's own."""
        return pa.schema([*ENVELOPE, *self.columns])


ENVELOPE = (
    pa.field("event_id", pa.string(), nullable=False),
    pa.field("recorded_at", TIMESTAMP),
    pa.field("schema_version", pa.int32(), nullable=False),
    pa.field("source", SOURCE),
    pa.field("batch", pa.string(), nullable=False),
)
GIVEN_ENVELOPE = ("recorded_at", "source")


def _text(name: str, *, required: bool = False) -> pa.Field:
    return pa.field(name, pa.string(), nullable=not required)


def _texts(name: str) -> pa.Field:
    return pa.field(name, pa.list_(pa.field("element", pa.string())))


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "evidence",
            "one thing that a model or a person produced",
            pa.schema(
                [
                    _text("run_id", required=True),
                    _text("task_id", required=True),
                    _text("kind", required=True),
                    _text("role", required=True),
                    _text("model"),
                    _text("stream"),
                    _text("prompt"),
                    _text("messages"),
                    _text("text"),
                    _texts("source_files"),
                    _text("extra"),
                ]
            ),
            enums={"kind": EVIDENCE_KINDS, "role": ROLES},
            json=("messages", "extra"),
        ),
        Kind(
            "scores",
            "one verdict of one version of a scorer on one run",
            pa.schema(
                [
                    _text("run_id", required=True),
                    _text("task_id"),
                    _text("scorer", required=True),
                    _text("scorer_version", required=True),
                    _text("category", required=True),
                    pa.field("score", pa.float64()),
                    _text("sub_scores"),
                    _texts("reasons"),
                    _text("actor"),
                    _text("extra"),
                ]
            ),
            enums={"category": CATEGORIES},
            json=("sub_scores", "extra"),
        ),
        Kind(
            "tasks",
            "one task, with what its runs are checked against",
            pa.schema(
                [
                    _text("task_id", required=True),
                    _text("language"),
                    _text("description"),
                    _text("starter_code"),
                    _text("tests"),
                    _text("entry_point"),
                    _text("answer"),
                    _text("split"),
                    _text("extra"),
                ]
            ),
            enums={},
            json=("extra",),
        ),
        Kind(
            "annotations",
            "one finding of one version of an annotator on one event",
            pa.schema(
                [
                    _text("target", required=True),
                    _text("run_id"),
                    _text("task_id"),
                    _text("annotator", required=True),
                    _text("annotator_version", required=True),
                    _text("label"),
                    pa.field("value", pa.float64()),
                    _text("spans"),
                    _text("against"),
                    _text("extra"),
                ]
            ),
            enums={},
            json=("spans", "extra"),
            optional=True,
        ),
        Kind(
            "prompts",
            "one prompt, or its place in a pool",
            pa.schema(
                [
                    _text("prompt_id", required=True),
                    _text("text", required=True),
                    _text("messages"),
                    _text("domain"),
                    _text("language"),
                    _text("split"),
                    _text("pool"),
                    _text("extra"),
                ]
            ),
            enums={},
            json=("messages", "extra"),
            optional=True,
        ),
        Kind(
            "replay",
            "one sighting of a section of a training document",
            pa.schema(
                [
                    _text("section_id", required=True),
                    _text("section_type", required=True),
                    _text("content", required=True),
                    pa.field("content_bytes", pa.int64()),
                    _text("document"),
                    _text("training_run"),
                    pa.field("weight", pa.float64()),
                    pa.field("auto_mined", pa.bool_()),
                    _text("judge_name"),
                    pa.field("judge_score_chosen", pa.float64()),
                    pa.field("judge_score_rejected", pa.float64()),
                    pa.field("mined_at", TIMESTAMP),
                    pa.field("mined_run_id", pa.int64()),
                    _text("extra"),
                ]
            ),
            enums={"section_type": SECTION_TYPES},
            json=("extra",),
            optional=True,
        ),
        Kind(
            "retractions",
            "one withdrawal of events, by event, run, task or source",
            pa.schema(
                [
                    _text("target_type", required=True),
                    _text("target", required=True),
                    _text("reason"),
                    _text("actor"),
                    _text("extra"),
                ]
            ),
            enums={"target_type": RETRACTION_TARGETS},
            json=("extra",),
        ),
        Kind(
            "rejects",
            "one input that could not become an event",
            pa.schema(
                [
                    _text("kind", required=True),
                    _text("reader", required=True),
                    _text("reason", required=True),
                    _texts("errors"),
                    _text("raw"),
                    _text("raw_encoding"),
                    _text("extra"),
                ]
            ),
            enums={"raw_encoding": ("utf-8", "latin-1")},
            json=("extra",),
            placed=True,
        ),
        Kind(
            "snapshots",
            "one name or note given to a pin",
            pa.schema(
                [
                    _text("snapshot_id", required=True),
                    _text("name"),
                    _text("note"),
                    _text("actor"),
                ]
            ),
            enums={},
            json=(),
            ledger=True,
        ),
        Kind(
            "receipts",
            "one thing that the lake did",
            pa.schema(
                [
                    _text("stage", required=True),
                    _text("inputs"),
                    _text("outputs"),
                    _text("counts"),
                    _text("versions"),
                    pa.field("duration_s", pa.float64()),
                    pa.field("passed", pa.bool_()),
                    _text("extra"),
                ]
            ),
            enums={},
            json=("inputs", "outputs", "counts", "versions", "extra"),
            ledger=True,
        ),
        Kind(
            "metrics",
            "one report of how a training run goes",
            pa.schema(
                [
                    _text("run", required=True),
                    _text("what", required=True),
                    pa.field("step", pa.int64()),
                    pa.field("session", pa.int64()),
                    pa.field("loss", pa.float64()),
                    pa.field("learning_rate", pa.float64()),
                    pa.field("grad_norm", pa.float64()),
                    pa.field("seconds", pa.float64()),
                    pa.field("tokens", pa.int64()),
                    pa.field("trained_tokens", pa.int64()),
                    pa.field("tokens_per_second", pa.float64()),
                    pa.field("data_wait", pa.float64()),
                    _text("extra"),
                ]
            ),
            enums={"what": REPORTS},
            json=("extra",),
            ledger=True,
        ),
    )
}

# Dependent before depended-on: a pin reads versions in this order, so no pinned score lacks its evidence and no pinned
# fact its withdrawal, although tables commit one by one.
PIN_ORDER = ("rejects", "annotations", "scores", "evidence", "replay", "prompts", "tasks", "retractions")
LEDGERS = tuple(kind.name for kind in KINDS.values() if kind.ledger)


def kind_named(name: str) -> Kind:
    """The kind of this name. Raises UsageError."""
    try:
        return KINDS[name]
    except KeyError:
        raise UsageError(
            f"there is no kind of event named {name!r}",
            f"the kinds are {', '.join(KINDS)}",
        ) from None
