"""What a row of each training set is, and the second look at every row before it is written.

The firewall has two layers, and either alone would hold. The first is SQL: the dataset views select nothing that is
forbidden. This is the second, and it trusts the views with nothing: it checks each finished row, by columns, against
what a dataset may never hold. A row that fails here got past a view that should have stopped it, so the whole export
is refused and nothing is written.

Not here: which records become rows (the views), and how rows become bytes (`formats`).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lake.errors import LakeError, UsageError

DATASETS = ("sft", "rag", "preference")
SHAPES: dict[str, tuple[str, ...]] = {
    "sft": ("conversational", "prompt-completion", "instruction"),
    "rag": ("document",),
    "preference": ("conversational", "plain"),
}
KEY = "key_"
ROLES = ("system", "developer", "user", "assistant", "tool", "function")

# These two only ever grow. A policy chooses among what they leave.
SFT_NEVER = frozenset({"rejected", "needs_human_review"})
RAG_NEVER = frozenset({"rejected"})

_SHOWN = 10
_SHA256 = r"^[0-9a-f]{64}$"

_SFT_PROVENANCE = (
    "source_run_id",
    "task_id",
    "category",
    "role",
    "model",
    "quality_score",
    "created_at",
    "provenance",
    "event_id",
    "score_event_id",
)
_RAG_PROVENANCE = tuple(name for name in _SFT_PROVENANCE if name != "category")
_PREFERENCE_PROVENANCE = (
    "schema_version",
    "reason",
    "chosen_run_id",
    "rejected_run_id",
    "task_id",
    "sig_hash",
    "created_at",
    "provenance",
    "chosen_event_id",
    "rejected_event_id",
)

_ASKED = "concat(instruction, case when trim(context) <> '' then chr(10) || chr(10) || context end)"
_CHAT = f"[{{'role': 'user', 'content': {_ASKED}}}, {{'role': 'assistant', 'content': response}}]"
_TURNS = """'[{"role": "VARCHAR", "content": "VARCHAR"}]'"""
# JSON text keeps every key as it was sent; its own line ends can only be white space between tokens.
_UNBROKEN = "translate({0}, chr(10) || chr(13), '  ')"

_TRAINING: dict[tuple[str, str], dict[str, str]] = {
    ("sft", "conversational"): {
        "messages": f"case when messages is null then {_CHAT} else from_json(messages, {_TURNS}) end"
    },
    ("sft", "free-form"): {
        "messages": f"coalesce({_UNBROKEN.format('messages')}, cast(to_json({_CHAT}) as varchar))",
        "tools": _UNBROKEN.format("tools"),
    },
    ("sft", "prompt-completion"): {"prompt": _ASKED, "completion": "response"},
    ("sft", "instruction"): {"instruction": "instruction", "context": "context", "response": "response"},
    ("rag", "document"): {"content": "content", "source_category": "source_category"},
    ("preference", "conversational"): {
        "prompt": "[{'role': 'user', 'content': prompt}]",
        "chosen": "[{'role': 'assistant', 'content': chosen}]",
        "rejected": "[{'role': 'assistant', 'content': rejected}]",
    },
    ("preference", "plain"): {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"},
}
_PROVENANCE = {"sft": _SFT_PROVENANCE, "rag": _RAG_PROVENANCE, "preference": _PREFERENCE_PROVENANCE}

_CLAIMS = {
    "sft": {"claim": "hash(score_event_id, source_run_id, category)"},
    "rag": {"claim": "hash(score_event_id, source_run_id, source_category)"},
    "preference": {"chosen": "hash(chosen_run_id)", "rejected": "hash(rejected_run_id)"},
}
# What bears a claim out: scores as they are pinned, under no view's rules.
EVIDENT = {
    "claim": "select hash(event_id, run_id, category) as key from events.scores",
    "chosen": "select hash(run_id) as key from events.scores where category = 'accepted'",
    "rejected": "select hash(run_id) as key from events.scores where category in ('rejected', 'partially_accepted')",
}

# Whether every conversation is turns of a role and a text and nothing else, so that columns hold it without loss.
ONLY_TURNS = f"""
select coalesce(bool_and(
    tools is null
    and case when json_valid(messages) then cast(json(messages) as varchar) end
        is not distinct from cast(to_json(from_json(messages, {_TURNS})) as varchar)
), true)
from sft
where messages is not null
"""


class FirewallBreach(LakeError):
    """A view let through rows that its dataset must never hold; nothing was written. `rows` are the first of them."""

    def __init__(self, message: str, hint: str | None = None, rows: "tuple[BadRow, ...]" = ()) -> None:
        super().__init__(message, hint)
        self.rows = rows


class BadRow(msgspec.Struct, frozen=True):
    """A row that may not be written: its place in the export, from 1, its id, and why."""

    row: int
    id: str
    why: str


@dataclass(frozen=True)
class Rows:
    """The rows of one export: which dataset, in which shape, and which columns are written.

    `shape` is one of SHAPES, or `free-form` for conversations that carry more than roles and texts; their `messages`
    and `tools` are JSON. `allowed` are the categories that the policy leaves.
    """

    dataset: str
    shape: str
    provenance: bool
    allowed: frozenset[str]

    @property
    def training(self) -> tuple[str, ...]:
        """The columns that a trainer reads."""
        return tuple(_TRAINING[self.dataset, self.shape])

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are written, in order."""
        return ("id", *self.training, *(_PROVENANCE[self.dataset] if self.provenance else ()))

    @property
    def json(self) -> tuple[str, ...]:
        """The columns whose text is JSON and is written as such."""
        return self.training if self.shape == "free-form" else ()

    @property
    def keys(self) -> dict[str, str]:
        """64-bit keys of a row, as SQL, that the accounts are kept by: its record, id, task, and verdicts claimed."""
        record = "hash('pair', id)" if self.dataset == "preference" else "hash('event', event_id)"
        return {"record": record, "id": "hash(id)", "task": "hash(task_id)", **_CLAIMS[self.dataset]}

    def query(self, *, lines: bool, within: str = "true") -> str:
        """The rows in their order, with keys for the accounts, and as JSON `line` too if wanted.

        `within` is a condition on the view's columns, for exports that go piece by piece.
        """
        made = _TRAINING[self.dataset, self.shape]
        columns = ["id", *(f"{sql} as {name}" for name, sql in made.items()), *_PROVENANCE[self.dataset]]
        columns += [f"{sql} as {KEY}{name}" for name, sql in self.keys.items()]
        rows = f"select {', '.join(columns)} from {self.dataset} where {within} order by task_id, id"
        return f"select *, {self._line()} as line from ({rows})" if lines else rows

    def schema(self, given: pa.Schema) -> pa.Schema:
        """The columns that are written, with the types that they are stored in."""
        fields = [given.field(name) for name in self.columns]
        return pa.schema([pa.field(f.name, pa.json_(pa.string())) if f.name in self.json else f for f in fields])

    def _line(self) -> str:
        plain = ", ".join(f"'{name}': {_PLAIN.get(name, name)}" for name in self.columns if name not in self.json)
        line = f"cast(to_json({{{plain}}}) as varchar)"
        if self.json:
            raw = " || ".join(f"""',"{name}":' || coalesce({name}, 'null')""" for name in self.json)
            line = f"left({line}, -1) || {raw} || '}}'"
        return f"{line} || chr(10)"


# What JSON has no type for.
_PLAIN = {"created_at": "strftime(make_timestamp(epoch_us(created_at)), '%Y-%m-%dT%H:%M:%S.%fZ')"}


def shape_named(dataset: str, shape: str | None) -> str:
    """The shape to write a dataset in, its first one by default. Raises UsageError."""
    if dataset not in DATASETS:
        raise UsageError(f"there is no dataset named {dataset!r}", f"the datasets are {', '.join(DATASETS)}, or all")
    shapes = SHAPES[dataset]
    if shape is not None and shape not in shapes:
        raise UsageError(f"{dataset} has no shape {shape!r}", f"its shapes are {', '.join(shapes)}")
    return shape or shapes[0]


def allowed_categories(dataset: str, *, include_partial: bool, include_review: bool) -> frozenset[str]:
    """The categories that a row of `sft` or `rag` may have; for `preference`, those of a rejected side.

    What a dataset may never hold is taken off at the end, whatever was asked for.
    """
    if dataset == "preference":
        return frozenset({"rejected", "partially_accepted"})
    if dataset == "rag":
        return frozenset({"accepted", "partially_accepted", *(("needs_human_review",) * include_review)}) - RAG_NEVER
    return frozenset({"accepted", *(("partially_accepted",) * include_partial)}) - SFT_NEVER


def check(rows: Rows, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same batches, each looked at before it is handed on. Raises FirewallBreach at the first that holds a bad row.

    A batch has the columns of `Rows.query`. That ids are unique is for the end, and for `repeated_ids`.
    """
    seen = 1
    for batch in batches:
        bad = _bad_rows(rows, batch, seen)
        if bad:
            raise _breach(rows.dataset, bad)
        seen += len(batch)
        yield batch


def repeated_ids(keys: np.ndarray) -> int:
    """How many rows repeat the id of another, from 64-bit keys of their ids, shape (rows,)."""
    return len(keys) - len(np.unique(keys))


def _breach(dataset: str, bad: list[BadRow]) -> FirewallBreach:
    first = bad[0]
    more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
    return FirewallBreach(
        f"{dataset}: row {first.row} ({first.id}): {first.why}{more}; nothing was written",
        f"the view '{dataset}' let it through; export without --views to use the installed one",
        tuple(bad[:_SHOWN]),
    )


def _bad_rows(rows: Rows, batch: pa.RecordBatch, start: int) -> list[BadRow]:
    found: dict[int, str] = {}
    for mask, why in _faults(rows, batch):
        if pc.any(mask, min_count=0).as_py():
            for place in np.flatnonzero(np.asarray(pc.fill_null(mask, True))).tolist():
                found.setdefault(place, why if isinstance(why, str) else why(place))
    ids = batch.column("id")
    return [BadRow(start + place, str(ids[place]), found[place]) for place in sorted(found)]


_Fault = tuple[pa.Array, str | Callable[[int], str]]


def _faults(rows: Rows, batch: pa.RecordBatch) -> Iterator[_Fault]:
    yield from _blank(batch, "id", "task_id")
    if rows.dataset == "preference":
        yield from _pair_faults(rows, batch)
        return
    column = batch.column("source_category" if rows.dataset == "rag" else "category")
    never = RAG_NEVER if rows.dataset == "rag" else SFT_NEVER
    bad = pc.or_(_not_in(column, rows.allowed), pc.invert(_not_in(column, never)))
    yield bad, lambda place: f"category {column[place].as_py()!r} is not allowed in {rows.dataset}"
    yield from _blank(batch, "source_run_id", "event_id", "score_event_id")
    yield from _provenance(batch.column("provenance"), "provenance")
    yield from _training_faults(rows, batch)


def _training_faults(rows: Rows, batch: pa.RecordBatch) -> Iterator[_Fault]:
    if rows.shape == "free-form":
        yield from _free_form(batch.column("messages"))
    elif rows.dataset == "sft" and rows.shape == "conversational":
        yield from _turns(batch.column("messages"), "messages", "assistant")
    else:
        yield from _blank(batch, *(name for name in rows.training if name != "context"))
        if "context" in rows.training:
            yield pc.is_null(batch.column("context")), "context is missing"


def _pair_faults(rows: Rows, batch: pa.RecordBatch) -> Iterator[_Fault]:
    sides = {name: batch.column(name) for name in ("prompt", "chosen", "rejected")}
    if rows.shape == "conversational":
        for name, column in sides.items():
            yield from _turns(column, name, "user" if name == "prompt" else "assistant")
        chosen, rejected = (_last(sides[name], "content") for name in ("chosen", "rejected"))
    else:
        yield from _blank(batch, *sides)
        chosen, rejected = sides["chosen"], sides["rejected"]
    same = pc.equal(pc.utf8_trim_whitespace(chosen), pc.utf8_trim_whitespace(rejected))
    yield same, "chosen and rejected are the same text"
    yield from _blank(batch, "chosen_run_id", "rejected_run_id", "chosen_event_id", "rejected_event_id")
    yield pc.equal(batch.column("chosen_run_id"), batch.column("rejected_run_id")), "a run is paired with itself"
    for position, name in enumerate(("chosen", "rejected")):
        yield from _provenance(batch.column("provenance").field(position), f"provenance.{name}")


def _blank(batch: pa.RecordBatch, *names: str) -> Iterator[_Fault]:
    for name in names:
        column = batch.column(name)
        yield pc.is_null(column), f"{name} is missing"
        yield _is_blank(column), f"{name} is empty after stripping"


def _is_blank(column: pa.Array) -> pa.Array:
    # A text of white space alone; it looks no further than the first character that is none.
    return pc.or_(pc.equal(pc.binary_length(column), 0), pc.utf8_is_space(column))


def _not_in(column: pa.Array, values: frozenset[str]) -> pa.Array:
    return pc.invert(pc.is_in(column, pa.array(sorted(values), pa.string())))


def _provenance(column: pa.Array, name: str) -> Iterator[_Fault]:
    yield pc.is_null(column), f"{name} is missing"
    for field in ("file", "sha256"):
        values = pc.struct_field(column, field)
        yield pc.or_(pc.is_null(values), pc.fill_null(_is_blank(values), True)), f"{name}.{field} is missing"
    digest = pc.struct_field(column, "sha256")
    yield pc.invert(pc.match_substring_regex(digest, _SHA256)), f"{name}.sha256 is no sha256"


def _turns(column: pa.Array, name: str, last: str) -> Iterator[_Fault]:
    """Faults of a column of lists of {role, content}."""
    count = pc.fill_null(pc.list_value_length(column), 0)
    yield pc.equal(count, 0), f"{name} must be a list of turns"
    flat = column.flatten()
    parents = np.asarray(pc.list_parent_indices(column))
    roles = pc.struct_field(flat, "role")
    contents = pc.struct_field(flat, "content")
    yield _of_parents(_not_in(roles, frozenset(ROLES)), parents, len(column)), f"{name}: a role is unknown"
    yield _of_parents(pc.is_null(contents), parents, len(column)), f"{name}: a content is missing"
    yield pc.not_equal(_last(column, "role"), last), f"{name} must end with a turn of the {last}"
    yield _is_blank(_last(column, "content")), f"{name}: the last content is empty after stripping"


def _of_parents(bad: pa.Array, parents: np.ndarray, rows: int) -> pa.Array:
    marked = np.zeros(rows, bool)
    marked[parents[np.asarray(pc.fill_null(bad, True))]] = True
    return pa.array(marked)


def _last(column: pa.Array, field: str) -> pa.Array:
    """A field of the last element of each list; null where a list is null or empty."""
    counts = np.asarray(pc.fill_null(pc.list_value_length(column), 0), np.int64)
    ends = np.cumsum(counts) - 1
    places = pa.array(ends, pa.int64(), mask=counts == 0)
    return pc.struct_field(column.flatten(), field).take(places)


class _Turn(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[object] | None = None
    tool_calls: list[object] | None = None


_CONVERSATION = msgspec.json.Decoder(list[_Turn])


def _free_form(column: pa.Array) -> Iterator[_Fault]:
    """Faults of a column of conversations in JSON, row by row: their keys are their own."""
    faults = {place: why for place, text in enumerate(column.to_pylist()) if (why := conversation_fault(text))}
    marked = np.zeros(len(column), bool)
    marked[list(faults)] = True
    yield pa.array(marked), faults.__getitem__


def conversation_fault(text: str | bytes | None) -> str | None:
    """Why a JSON text is no conversation that ends with the assistant; None if it is one."""
    if text is None:
        return "messages is missing"
    try:
        turns = _CONVERSATION.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return f"messages must be a list of turns: {error}"
    if not turns:
        return "messages must be a list of turns"
    last = turns[-1]
    if last.role != "assistant":
        return "messages must end with a turn of the assistant"
    if not (last.content.strip() if isinstance(last.content, str) else last.content) and not last.tool_calls:
        return "messages: the last content is empty after stripping"
    return None
