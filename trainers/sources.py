"""Rows to train on, of a snapshot of a lake or of an export that names one, and all that they depend on.

Rows of a snapshot come through the exporters' own pipe: the same views, the same second look at each row, the same
accounts. An export is compared with its receipt, byte for byte, before a row of it is read.

This room needs the lake's engines. Not here: which tokens rows become (`rendering`), and where they are kept (`build`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from exporters import receipt
from exporters.datasets import dataset_named
from exporters.export import mismatches, parts
from exporters.plan import Options, Plan, rules
from exporters.reading import COLUMNAR, Unreadable, batches, data_files, objects
from exporters.reading import rows as json_rows
from lake import Lake, Snapshot
from lake.errors import Damaged, UsageError
from trainers.spec import RECENT, Kind
from views.connect import digest, dumps
from views.policy import Policy

Row = dict[str, Any]

# The datasets that a kind of row is made of, and the shape that each is taken in.
DATASETS: Mapping[Kind, Mapping[str, str]] = {
    "text": {
        "pretrain": "text",
        "sft": "conversational",
        "domain": "conversational",
        "trajectories": "conversational",
    },
    "pair": {"preference": "conversational", "ipo": "conversational"},
    "answer": {"kto": "conversational"},
    "prompt": {"grpo": "conversational"},
}
# Shapes whose rows are conversations; those of the others are texts.
_CHATS = frozenset({"conversational", "free-form"})
_TEXTS = frozenset({"text", "plain", "prompt-completion"})
_CHUNK_ROWS = 256


class Rows(NamedTuple):
    """Some rows of a split, in their order."""

    split: str
    rows: list[Row]


class Source(Protocol):
    """Rows of one dataset. `said` is all that they depend on; those of a `chat` are conversations."""

    @property
    def said(self) -> Mapping[str, Any]:
        """The snapshot, the dataset and its shape, the rules, and how rows were chosen."""
        ...

    @property
    def chat(self) -> bool:
        """Whether rows are conversations."""
        ...

    @property
    def date(self) -> str | None:
        """The day that a chat template is to be told, as the policy says it."""
        ...

    def read(self) -> Iterator[Rows]:
        """The rows, a few at a time. What is made of them holds only once this has ended. Raises LakeError."""
        ...


def _shape(dataset: str, kind: Kind, asked: str | None) -> str:
    """The shape in which a kind of row takes a dataset. Raises UsageError."""
    dataset_named(dataset)
    known = DATASETS[kind]
    if dataset not in known:
        raise UsageError(f"this method cannot learn from the dataset {dataset!r}", f"it takes {', '.join(known)}")
    shape = asked or known[dataset]
    if shape not in _CHATS | _TEXTS:
        raise UsageError(f"rows of {dataset} in the shape {shape!r} cannot be learned from", f"take {known[dataset]}")
    return shape


@dataclass(frozen=True)
class SnapshotSource:
    """Rows of a pinned snapshot."""

    lake: Lake
    snapshot: Snapshot
    plan: Plan

    @property
    def said(self) -> dict[str, Any]:
        """As a receipt says it."""
        options = self.plan.options
        return {
            "snapshot": self.snapshot.id,
            "tables": {kind: pin.version for kind, pin in self.snapshot.tables.items()},
            "dataset": self.plan.dataset.name,
            "shape": self.plan.shape,
            "views": digest(self.plan.sql),
            "policy": msgspec.to_builtins(options.policy),
            "val": options.val,
            "seed": options.seed,
            "replay": options.replay,
            "provenance": True,
        }

    @property
    def chat(self) -> bool:
        """Whether rows are conversations."""
        return self.plan.shape in _CHATS

    @property
    def date(self) -> str | None:
        """The day that the policy says."""
        return self.plan.options.policy.harmony.date

    def read(self) -> Iterator[Rows]:
        """The rows of both splits, as they come. Raises LakeError."""
        self.snapshot.prove()
        # So that the same rows can be made under these rules when newer ones are installed.
        self.lake.put_object(dumps(self.plan.sql))
        for split, batch, json in parts(self.snapshot, self.plan):
            for start in range(0, len(batch), _CHUNK_ROWS):
                yield Rows(split, [_decoded(row, json) for row in batch.slice(start, _CHUNK_ROWS).to_pylist()])


def of_snapshot(
    lake: Lake, ref: str | None, dataset: str, kind: Kind, options: Options | None = None
) -> SnapshotSource:
    """The rows of a dataset at a snapshot, named by its id or by a name. Raises UsageError, UnknownRef.

    Of the options those count that rows depend on: the policy, `val`, `seed`, `replay`, `views`, and a `shape`.
    """
    if ref is None or ref.lower() in RECENT:
        raise UsageError(
            "which snapshot? the newest is another one tomorrow",
            "name one: lake snapshot create --name NAME, and data.snapshot",
        )
    snapshot = lake.snapshot(ref)
    if not snapshot.id.startswith(ref) and lake.names().get(ref) != snapshot.id:
        raise UsageError(
            f"{ref!r} is a state of the lake and no snapshot, which would outlast it",
            f"lake snapshot create --name NAME --at {ref}, and name that",
        )
    options = options or Options()
    shape = _shape(dataset, kind, options.shape)
    named = dataset_named(dataset)
    sql = rules(lake, options)
    if named.relation not in sql:
        raise UsageError(f"the rules {options.views} have no dataset {dataset!r}", "leave the rules out")
    # Rows are taken as columns.
    options = msgspec.structs.replace(options, format="parquet")
    return SnapshotSource(lake, snapshot, Plan(named, named.shape_named(shape), options, sql))


@dataclass(frozen=True)
class ExportSource:
    """Rows of an export, whose receipt names its snapshot."""

    folder: Path
    receipt: receipt.Receipt

    @property
    def said(self) -> dict[str, Any]:
        """As the receipt says it: the rows are those of the snapshot."""
        names = ("snapshot", "tables", "dataset", "shape", "views", "policy", "val", "seed", "replay", "provenance")
        told = msgspec.to_builtins(self.receipt)
        return {name: told[name] for name in names}

    @property
    def chat(self) -> bool:
        """Whether rows are conversations."""
        return self.receipt.shape in _CHATS

    @property
    def date(self) -> str | None:
        """The day that the policy says."""
        return msgspec.convert(self.receipt.policy, Policy).harmony.date

    def read(self) -> Iterator[Rows]:
        """The rows of both splits, in the order of the export. Raises Damaged where a file is not the receipt's."""
        missing = [file.path for file in self.receipt.files if not (self.folder / file.path).is_file()]
        for path in (*missing, *mismatches(self.folder, self.receipt)):
            raise Damaged(f"{self.folder / path}: it is not what the receipt says", "copy the export again")
        named = {file.path for file in self.receipt.files}
        for file in data_files(self.folder, str(self.folder)):
            if file.name not in named:
                raise Damaged(f"{self.folder / file.name}: the receipt has no such file", "copy the export again")
            made = (
                (row for batch in batches(file) for row in objects(batch))
                if file.form in COLUMNAR
                else (row for _, row in json_rows(file))
            )
            for rows in _chunks(made):
                if any(not isinstance(row, dict) or isinstance(row, Unreadable) for row in rows):
                    raise Damaged(f"{self.folder / file.name}: a row cannot be read", "export again")
                yield Rows(file.split, rows)


def of_export(folder: Path, kind: Kind) -> ExportSource:
    """The rows of an export of a dataset and a shape that a kind of row can be made of. Raises LakeError."""
    said = receipt.read(folder)
    _shape(said.dataset, kind, said.shape)
    return ExportSource(folder, said)


def policy_in(path: Path) -> Policy:
    """The policy in a file, or that of the receipt that the file is. Raises UsageError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", "name a policy, or an export's receipt.json") from None
    return Policy.from_json(receipt.policy_of(data) or data)


def _decoded(row: Row, names: tuple[str, ...]) -> Row:
    for name in names:
        if isinstance(text := row.get(name), str):
            row[name] = msgspec.json.decode(text)
    return row


def _chunks(rows: Iterator[Any]) -> Iterator[list[Any]]:
    held = []
    for row in rows:
        held.append(row)
        if len(held) == _CHUNK_ROWS:
            yield held
            held = []
    if held:
        yield held
