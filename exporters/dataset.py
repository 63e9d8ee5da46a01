"""What a training set is: the shapes that its rows have, the columns that are written, and what each row stands for.

Each dataset is one file of `exporters.datasets` with one `Dataset`, and one view of the same name.

Not here: which records become rows (the views), what may never be written (`faults`), and how rows become bytes
(`formats`).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from lake.errors import UsageError
from views.policy import Policy

KEY = "key_"
SPLIT = "split_"  # of a row: true is validation

Fault = tuple[pa.Array, str | Callable[[int], str]]  # which rows of a batch are bad, and why, or why by the row's place

# What JSON has no type for.
_PLAIN = {"created_at": "strftime(make_timestamp(epoch_us(created_at)), '%Y-%m-%dT%H:%M:%S.%fZ')"}
# What a text says, apart from how it is written: copies of it are on the same side of a split.
SAID = "trim(regexp_replace(lower({0}), '[^\\p{{L}}\\p{{N}}]+', ' ', 'g'))"


@dataclass(frozen=True)
class Shape:
    """How a row looks to a trainer: its columns, as SQL over the dataset's view.

    `json` are the columns whose text is JSON and is written as such. Where a shape cannot hold every row, `fits` is a
    query that answers true or false, and `otherwise` the shape to take instead. A shape that is not `offered` comes
    only so. Rows of a `packed` shape have columns `id` and `text`, and their texts are written as token ids, packed
    into rows of one length. `render` makes what SQL cannot: it takes a batch of the columns and gives as many rows, in
    order, with the columns of the same names; the same rows for the same rows, whatever the batches.
    """

    columns: Mapping[str, str]
    json: tuple[str, ...] = ()
    fits: str | None = None
    otherwise: str | None = None
    offered: bool = True
    packed: bool = False
    render: "Callable[[Rows, pa.RecordBatch], pa.RecordBatch] | None" = None


@dataclass(frozen=True)
class Dataset:
    """One training set. `one_row` says in a sentence what a row is.

    `shapes` begin with the default. `provenance` are further columns of the view. `record` is SQL for the 64-bit key of
    the record that a row stands for, as `hash(record_type, record_id)` in the view `considered`. `claims` are keys of
    what a row says of verdicts, each with the query of all keys that the pinned scores bear out, under no view's rules.
    `faults` finds the rows of a finished batch that may not be written. `said` is SQL for the text whose copies must
    not be on both sides of a split; rows of one `group`, which is SQL too, never are. A dataset of `pairs` counts the
    tasks without one. About `block_bytes` of evidence are gone through at a time. `view` is the relation of its rows,
    the one of its name by default.
    """

    name: str
    one_row: str
    shapes: Mapping[str, Shape]
    provenance: tuple[str, ...]
    record: str
    faults: "Callable[[Rows, pa.RecordBatch], Iterator[Fault]]"
    said: str
    group: str = "task_id"
    claims: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    pairs: bool = False
    block_bytes: int = 1 << 30
    view: str = ""

    @property
    def relation(self) -> str:
        """The view of its rows."""
        return self.view or self.name

    @property
    def offered(self) -> tuple[str, ...]:
        """The shapes that one may ask for, the default first."""
        return tuple(name for name, shape in self.shapes.items() if shape.offered)

    def shape_named(self, name: str | None) -> str:
        """The shape to write, the first by default. Raises UsageError."""
        if name is not None and name not in self.offered:
            raise UsageError(f"{self.name} has no shape {name!r}", f"its shapes are {', '.join(self.offered)}")
        return name or self.offered[0]


@dataclass(frozen=True)
class Rows:
    """The rows of one export: of which dataset, in which shape, under which policy, and which columns are written.

    `val` is the share of rows that is held out for validation, between 0 and 1, drawn by `seed`.
    """

    dataset: Dataset
    shape: str
    provenance: bool
    policy: Policy
    val: float = 0.0
    seed: int = 0

    @property
    def made(self) -> Shape:
        """The shape itself."""
        return self.dataset.shapes[self.shape]

    @property
    def training(self) -> tuple[str, ...]:
        """The columns that a trainer reads."""
        return tuple(self.made.columns)

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are written, in order."""
        return ("id", *self.training, *(self.dataset.provenance if self.provenance else ()))

    @property
    def json(self) -> tuple[str, ...]:
        """The columns whose text is JSON and is written as such."""
        return self.made.json

    @property
    def keys(self) -> dict[str, str]:
        """64-bit keys of a row, as SQL, that the accounts are kept by: its record, id, task, and verdicts claimed."""
        claims = {name: sql for name, (sql, _) in self.dataset.claims.items()}
        return {"record": self.dataset.record, "id": "hash(id)", "task": "hash(task_id)", **claims}

    def query(self, *, lines: bool, within: str = "true") -> str:
        """The rows in their order, with keys for the accounts, and as JSON `line` too if wanted.

        `within` is a condition on the view's columns, for exports that go piece by piece.
        """
        columns = ["id", *(f"{sql} as {name}" for name, sql in self.made.columns.items()), *self.dataset.provenance]
        columns += [f"{sql} as {KEY}{name}" for name, sql in self.keys.items()]
        columns.append(f"{self._split()} as {SPLIT}")
        rows = f"select {', '.join(columns)} from {self.dataset.relation} where {within} order by task_id, id"
        return f"select *, {self.line()} as line from ({rows})" if lines else rows

    def schema(self, given: pa.Schema) -> pa.Schema:
        """The columns that are written, with the types that they are stored in."""
        fields = [given.field(name) for name in self.columns]
        return pa.schema([pa.field(f.name, pa.json_(pa.string())) if f.name in self.json else f for f in fields])

    def line(self) -> str:
        """A row's JSON line with its line feed, as SQL over the columns."""
        plain = ", ".join(f"'{name}': {_PLAIN.get(name, name)}" for name in self.columns if name not in self.json)
        line = f"cast(to_json({{{plain}}}) as varchar)"
        if self.json:
            raw = " || ".join(f"""',"{name}":' || coalesce({name}, 'null')""" for name in self.json)
            line = f"left({line}, -1) || {raw} || '}}'"
        return f"{line} || chr(10)"

    def _split(self) -> str:
        """Whether a row is held out, as SQL: by the hash of what its group says, so that no copy is on the other side.

        A group with several texts goes by the first of them in order.
        """
        if not self.val:
            return "false"
        below = f"{int(self.val * 2**64):016x}"
        said = f"min({SAID.format(self.dataset.said)}) over (partition by {self.dataset.group})"
        return f"left(sha256(concat('{self.seed}', chr(0), {said})), 16) < '{below}'"
