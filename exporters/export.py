"""The pipe: a snapshot, a dataset and a policy in; one folder of files, a card and a receipt out.

A folder appears whole or not at all. Rows are streamed from the views through the second firewall layer into a hidden
folder beside the target; then the books are closed (every record that was considered was written or is in quarantine,
and in one of them only), the receipt is written last, everything is brought to the disk, and one rename publishes it.
The same snapshot, dataset, policy, views and options give the same bytes.

Not here: what a row may hold (`datasets`), how it is encoded (`formats`), and what a user typed (the command line).
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from exporters import card, decontamination, receipt
from exporters.dataset import KEY, SPLIT, Dataset, Rows
from exporters.datasets import DATASETS, dataset_named
from exporters.faults import FirewallBreach, check, repeated_ids
from exporters.formats import FILE_BYTES, SLICE_ROWS, File, Writer, library_versions, sliced, takes_lines
from exporters.mixing import Mixed, is_fresh, mix, needs
from exporters.packed import NPY, PackedWriter, Packing, checked_lengths
from exporters.places import Place, address, appearing, fetched, refuse_taken
from exporters.receipt import Counts, Receipt
from exporters.rendering import render
from exporters.tokenizing import Tokenizer, revived
from lake import Lake, LakeError, Snapshot
from lake.errors import UsageError
from views.connect import connect, digest, dumps, loads, needed, sources
from views.gates import as_they_stand
from views.policy import Policy

RECEIPT_FORMAT = 2
TRAIN, VALIDATION = "train", "validation"
# The engine's share of the 2 GiB that an export may take; a row group, a few slices and the libraries are the rest.
MEMORY_LIMIT = "1400MiB"

_PAIRS = "pair_candidates"
_GATES = "gate_faults"
_PACKED = "packed"


Progress = Callable[[int, int | None], None]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How to export. `at` is any reference to a snapshot; without it the current state is pinned.

    `shape` is one that the dataset offers, by default its first. Without `provenance` a row is its id and what a
    trainer reads. `val` is the share of rows that goes into a split of its own, `validation`: by the hash of `seed` and
    of what the row's task says, so a row stays on its side as the lake grows, and copies are on the same one. `views`
    is the digest of older SQL that the lake keeps. A file is closed once it holds `file_bytes` of text. A dry run does
    all the work and writes nothing, neither files nor to the lake.

    `replay` is the share of all rows that is of past training, drawn as `policy.replay` says.

    With a `tokenizer`, documents are packed into rows of each of `lengths`; the format may then be `npy`, too.
    """

    at: str | None = None
    format: str = "jsonl"
    shape: str | None = None
    provenance: bool = True
    policy: Policy = Policy()
    val: float = 0.0
    seed: int = 0
    replay: float = 0.0
    views: str | None = None
    tokenizer: Tokenizer | None = None
    lengths: tuple[int, ...] = ()
    file_bytes: int = FILE_BYTES
    dry_run: bool = False

    @property
    def packing(self) -> Packing | None:
        """How documents are packed, if they are."""
        return None if self.tokenizer is None else Packing(self.tokenizer.identity, checked_lengths(self.lengths))

    def __post_init__(self) -> None:
        if not 0 <= self.val < 1:
            raise UsageError(f"the share for validation cannot be {self.val}", "name one of at least 0, and below 1")
        if not 0 <= self.replay < 1:
            raise UsageError(f"the replayed share cannot be {self.replay}", "name one of at least 0, and below 1")


class OffBalance(LakeError):
    """Rows considered are not rows exported plus rows quarantined; nothing was written."""


class VerifyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an export. Each field lists paths; all empty is well.

    `missing`, `extra` and `changed` compare the folder with its receipt; `differing` lists what a rebuild from the
    snapshot gives otherwise than the receipt says; `versions` the libraries that were others then, as `name then now`.
    """

    dataset: str
    snapshot: str
    files: int
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    changed: tuple[str, ...]
    differing: tuple[str, ...]
    versions: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the folder holds exactly what its snapshot gives."""
        return not (self.missing or self.extra or self.changed or self.differing)


def export(
    lake: Lake, dataset: str, out: Place, options: Options | None = None, progress: Progress | None = None
) -> Receipt:
    """Write one dataset into the folder or bucket prefix `out`, where there is nothing yet, and return the receipt.

    `progress` is called with the rows written so far and None. Raises UsageError, FirewallBreach, OffBalance,
    UnknownRef; after any of them there is nothing at `out`.
    """
    options = options or Options()
    named = dataset_named(dataset)
    sql = _rules(lake, options)
    if named.relation not in sql:
        raise UsageError(f"the rules {options.views} have no dataset {dataset!r}", "export without --views")
    shape = _PACKED if options.shape is None and options.tokenizer is not None else options.shape
    plans = {Path(): _Plan(named, named.shape_named(shape), options, sql)}
    [made] = _export(lake, plans, out, options, progress)
    return made


def export_all(
    lake: Lake, out: Place, options: Options | None = None, progress: Progress | None = None
) -> tuple[Receipt, ...]:
    """Write every dataset, from one snapshot, into a folder of its own under `out`: all of them appear, or none.

    One that nothing in the lake was considered for has no folder, and no receipt among those returned. A `shape` is for
    the datasets that have it, and one of them must; the others take their first. Else as `export`. Raises LakeError
    where there is nothing for any of them.
    """
    options = options or Options()
    shapes = dict.fromkeys(shape for dataset in DATASETS.values() for shape in dataset.offered)
    if options.shape is not None and options.shape not in shapes:
        raise UsageError(f"no dataset has the shape {options.shape!r}", f"the shapes are {', '.join(shapes)}")
    sql = _rules(lake, options)
    plans = {}
    for name, dataset in DATASETS.items():
        if dataset.relation in sql:
            shape = options.shape if options.shape in dataset.offered else None
            plans[Path(name)] = _Plan(dataset, dataset.shape_named(shape), options, sql)
    return _export(lake, plans, out, options, progress)


def verify(lake: Lake, place: Place, progress: Progress | None = None) -> VerifyReport:
    """Compare an export with its receipt, and the receipt with what its snapshot gives today, file by file.

    The rebuild uses the SQL that the lake has kept under the receipt's digest, and is hashed rather than written.
    Raises LakeError where there is no receipt, or the snapshot or the SQL is gone.
    """
    with fetched(place, _options(lake)) as folder:
        return _verify(lake, folder, address(place), progress)


def _verify(lake: Lake, folder: Path, called: str, progress: Progress | None) -> VerifyReport:
    said = receipt.read(folder, called)
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    named = {file.path: file for file in said.files}
    snapshot = lake.snapshot(said.snapshot)
    snapshot.prove()
    again = _build(snapshot, _plan_of(lake, said), None, progress)
    rebuilt = {file.path: file for file in again.files}
    differing = {path for path in named.keys() | rebuilt.keys() if named.get(path) != rebuilt.get(path)}
    told = msgspec.json.decode((folder / receipt.NAME).read_bytes())
    found = msgspec.json.decode(receipt.encode(again))
    if said.receipt < RECEIPT_FORMAT:
        # An older version told less, and its card was another one; what it did tell must hold.
        differing.discard(card.NAME)
        found = {**_as_far_as(found, told), "receipt": said.receipt}
        found |= {part: _as_far_as(found[part], told[part]) for part in ("policy", "counts")}
    if any(found.get(name) != told.get(name) for name in (found.keys() | told.keys()) - {"files", "versions"}):
        differing.add(receipt.NAME)
    return VerifyReport(
        dataset=said.dataset,
        snapshot=said.snapshot,
        files=len(named),
        missing=tuple(sorted(named.keys() - present)),
        extra=tuple(sorted(present - named.keys() - {receipt.NAME})),
        changed=tuple(mismatches(folder, said)),
        differing=tuple(sorted(differing)),
        versions=tuple(
            f"{name} {said.versions.get(name)} {again.versions.get(name)}"
            for name in sorted(said.versions.keys() | again.versions.keys())
            if said.versions.get(name) != again.versions.get(name)
        ),
    )


def _options(lake: Lake) -> Mapping[str, str] | None:
    """How to reach a bucket: as the lake's own, if it is in one."""
    return lake.store.options or None


def _as_far_as(found: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """What was found, of those things alone that were told."""
    return {name: value for name, value in found.items() if name in told}


def mismatches(folder: Path, said: Receipt) -> Iterator[str]:
    """The files that are there and are not, byte for byte, what the receipt says."""
    for file in said.files:
        path = folder / file.path
        if path.is_file() and not _is_intact(path, file):
            yield file.path


def _is_intact(path: Path, file: File) -> bool:
    with path.open("rb") as data:
        return path.stat().st_size == file.bytes and hashlib.file_digest(data, "sha256").hexdigest() == file.sha256


class _Plan(msgspec.Struct, frozen=True):
    """All that the bytes of an export depend on, besides its snapshot."""

    dataset: Dataset
    shape: str
    options: Options
    sql: Mapping[str, str]


def _plan_of(lake: Lake, said: Receipt) -> _Plan:
    used = None if said.packing is None else said.packing.tokenizer
    options = Options(
        format=said.format,
        provenance=said.provenance,
        policy=msgspec.convert(said.policy, Policy),
        val=said.val,
        seed=said.seed,
        replay=said.replay,
        tokenizer=None if used is None else revived(lake.get_object(used.sha256), used.specials),
        lengths=() if said.packing is None else said.packing.lengths,
        file_bytes=said.file_bytes,
    )
    return _Plan(dataset_named(said.dataset), said.shape, options, loads(lake.get_object(said.views)))


def _rules(lake: Lake, options: Options) -> Mapping[str, str]:
    return sources() if options.views is None else loads(lake.get_object(options.views))


def _export(
    lake: Lake, plans: Mapping[Path, _Plan], out: Place, options: Options, progress: Progress | None
) -> tuple[Receipt, ...]:
    """Each plan's export, at its place under `out`. Of several, those without a record to consider are left out."""
    refuse_taken(out, _options(lake))
    for plan in plans.values():
        _refuse_unpackable(plan)
    if options.dry_run:
        snapshot = lake.snapshot(options.at)
        snapshot.prove()
        made = tuple(_build(snapshot, plan, None, progress) for plan in plans.values())
        return made if len(plans) == 1 else tuple(_those_with_records(made))
    snapshot = lake.pin(options.at)
    snapshot.prove()
    for rules in {digest(plan.sql): plan.sql for plan in plans.values()}.values():
        lake.put_object(dumps(rules))
    for plan in plans.values():
        if plan.options.tokenizer is not None:
            lake.put_object(plan.options.tokenizer.data)
    exports = []
    with appearing(out, _options(lake)) as scratch:
        for place, plan in plans.items():
            since = time.monotonic()
            (scratch / place).mkdir(exist_ok=True)
            one = _build(snapshot, plan, scratch / place, progress)
            if len(plans) > 1 and not one.counts.considered:
                shutil.rmtree(scratch / place)
            else:
                exports.append((place, one, time.monotonic() - since))
        _refuse_nothing([one for _, one, _ in exports])
    for place, one, seconds in exports:
        _record(lake, one.dataset, address(out, *place.parts), one, seconds)
    return tuple(one for _, one, _ in exports)


def _those_with_records(made: Iterable[Receipt]) -> list[Receipt]:
    found = [one for one in made if one.counts.considered]
    _refuse_nothing(found)
    return found


def _refuse_nothing(made: Sequence[Receipt]) -> None:
    if not made:
        raise LakeError("there is nothing to export: no dataset has a record to consider", "ingest evidence first")


def _refuse_unpackable(plan: _Plan) -> None:
    """Raises UsageError where documents should be packed and are not said how to, or where there are none to pack."""
    options = plan.options
    if plan.dataset.shapes[plan.shape].packed:
        if options.packing is None:
            raise UsageError("packed rows are made by which tokenizer?", "say --tokenizer FOLDER, and --length 2048")
    elif options.tokenizer is not None or options.lengths:
        hint = "leave --tokenizer and --length out; 'lake export pretrain' packs"
        raise UsageError(f"{plan.dataset.name} has no packed rows in the shape {plan.shape!r}", hint)
    elif options.format == NPY:
        raise UsageError(f"{NPY} holds packed rows alone", "say --tokenizer FOLDER and --length 2048 with pretrain")


def _build(snapshot: Snapshot, plan: _Plan, folder: Path | None, progress: Progress | None) -> Receipt:
    """Everything of one export but its publication. Without a folder nothing is written; the receipt is the same."""
    options, dataset = plan.options, plan.dataset.name
    relations = _Relations(snapshot, plan)
    try:
        standing = relations.standing()
        writer, files, keys, splits = _write_rows(relations, plan, folder, progress)
        _refuse_repeats(dataset, keys["id"])
        counts = relations.close_books(keys)
        versions = {"lake": receipt.lake_version(), **relations.versions(), **library_versions(options.format)}
    finally:
        relations.close()
    if options.val:
        counts = msgspec.structs.replace(counts, splits=splits)
    if relations.mixed is not None:
        counts = msgspec.structs.replace(counts, replay=relations.mixed.counts)
    if isinstance(writer, PackedWriter):
        counts = msgspec.structs.replace(counts, packed=writer.counts, profile=writer.profile)
        versions |= writer.versions
    policy = msgspec.json.decode(options.policy.to_json())
    tables = {kind: pin.version for kind, pin in snapshot.tables.items()}
    rules = digest(plan.sql)
    text = card.render(
        dataset=plan.dataset,
        schema=writer.schema,
        counts=counts,
        policy=policy,
        snapshot=snapshot.id,
        tables=tables,
        views=rules,
        rebuild=_command(plan, snapshot.id, rules),
        form=options.format,
        packing=options.packing,
        standing=standing,
    )
    made = Receipt(
        receipt=RECEIPT_FORMAT,
        dataset=dataset,
        snapshot=snapshot.id,
        tables=tables,
        policy=policy,
        views=rules,
        format=options.format,
        shape=plan.shape,
        provenance=options.provenance,
        val=options.val,
        seed=options.seed,
        replay=options.replay,
        packing=options.packing,
        file_bytes=options.file_bytes,
        counts=counts,
        decontamination=standing,
        files=(*files, _put(folder, card.NAME, text.encode())),
        versions=versions,
    )
    _put(folder, receipt.NAME, receipt.encode(made))
    return made


def _write_rows(
    relations: "_Relations", plan: _Plan, folder: Path | None, progress: Progress | None
) -> tuple[Writer | PackedWriter, tuple[File, ...], dict[str, np.ndarray], dict[str, int]]:
    rows = relations.rows()
    given, batches = relations.stream(rows)
    keys: dict[str, list[np.ndarray]] = {name: [] for name in rows.keys}
    done = dict.fromkeys((TRAIN, VALIDATION) if plan.options.val else (TRAIN,), 0)
    with _writer(plan, folder, rows.schema(given), tuple(done)) as writer:
        for part in sliced(check(rows, batches)):
            # No record of the lake's stands behind a replayed row; that its id is its own is looked at all the same.
            fresh = part if relations.mixed is None else part.filter(is_fresh(part))
            for name, values in keys.items():
                values.append(np.array((part if name == "id" else fresh).column(f"{KEY}{name}")))
            for split in done:
                rows_of = part if len(done) == 1 else part.filter(_of_split(part, split))
                if len(rows_of):
                    writer.write(rows_of, split)
                    done[split] += len(rows_of)
            if progress is not None:
                progress(sum(done.values()), None)
        files = writer.finish()
    whole = {name: np.concatenate([np.empty(0, np.uint64), *values]) for name, values in keys.items()}
    return writer, files, whole, done


def _writer(plan: _Plan, folder: Path | None, schema: pa.Schema, splits: tuple[str, ...]) -> Writer | PackedWriter:
    options, packing = plan.options, plan.options.packing
    if options.tokenizer is None or packing is None:
        return Writer(folder, options.format, schema, splits=splits, file_bytes=options.file_bytes)
    return PackedWriter(
        folder,
        options.format,
        options.tokenizer,
        packing.lengths,
        splits=splits,
        provenance=options.provenance,
        file_bytes=options.file_bytes,
    )


def _of_split(part: pa.RecordBatch, split: str) -> pa.Array:
    held_out = part.column(SPLIT)
    return held_out if split == VALIDATION else pc.invert(held_out)


def _refuse_repeats(dataset: str, ids: np.ndarray) -> None:
    if repeated := repeated_ids(ids):
        raise FirewallBreach(
            f"{dataset}: {repeated} rows repeat the id of another; nothing was written",
            f"ask 'lake sql' for the ids of {dataset} that come more than once",
        )


class _Relations:
    """The views over one snapshot, for one export."""

    def __init__(self, snapshot: Snapshot, plan: _Plan) -> None:
        self._plan = plan
        replayed = needs(plan.dataset) if plan.options.replay else ""
        asked = f"{plan.dataset.relation} considered quarantine evidence {decontamination.RELATION} {replayed}"
        sql = needed(asked, as_they_stand(_without_others(plan), plan.options.policy.quality))
        self._snapshot = snapshot
        self._sql = sql
        self._con = connect(snapshot, plan.options.policy, sql=sql, memory_limit=MEMORY_LIMIT)
        if plan.options.policy.quality.gates and _GATES in sql:
            self._work_out(_GATES)
        self.mixed: Mixed | None = None
        if plan.options.replay:
            self.mixed = mix(self._con, plan.dataset, plan.options.replay, plan.options.policy.replay)

    def close(self) -> None:
        self._con.close()

    def _work_out(self, name: str) -> None:
        """Put the rows of a relation that is asked more than once into a table of its name."""
        self._con.execute(f"alter view {name} rename to asked_{name}")
        self._con.execute(f"create table {name} as select * from asked_{name}")

    def standing(self) -> decontamination.Standing | None:
        """How the snapshot stands with the registered eval tasks. Raises Unchecked."""
        return decontamination.standing(self._con, self._sql, self._plan.options.policy)

    def versions(self) -> dict[str, str]:
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


def _without_others(plan: _Plan) -> dict[str, str]:
    """The relations without what other datasets consider: to bind all of it takes longer than a small export."""
    checks = plan.sql.get("dataset_checks", "")
    own = [each for each in checks.split("\nunion all\n") if f"'{plan.dataset.name}' as dataset" in each]
    return {**plan.sql, "dataset_checks": own[0]} if len(own) == 1 else dict(plan.sql)


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


def _command(plan: _Plan, snapshot: str, rules: str) -> str:
    """The command that makes the export again, as a user would type it beside its folder."""
    options = plan.options
    words = [f"lake export {plan.dataset.name} OUT --at {snapshot} --views {rules} --format {options.format}"]
    words += [f"--shape {plan.shape}"] * (plan.shape != plan.dataset.offered[0])
    words += ["--no-provenance"] * (not options.provenance)
    words += [f"--val {options.val} --seed {options.seed}"] * bool(options.val)
    words += [f"--replay {options.replay}"] * bool(options.replay)
    words += [] if options.packing is None else options.packing.words
    words += [f"--policy FOLDER/{receipt.NAME}"] * (options.policy != Policy())
    return " ".join(words)


def _put(folder: Path | None, name: str, data: bytes) -> File:
    if folder is not None:
        with (folder / name).open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    return File(name, len(data), hashlib.sha256(data).hexdigest())


def _record(lake: Lake, dataset: str, folder: str, made: Receipt, seconds: float) -> None:
    """Append to the lake that this export was made: what a receipt leaves out is here too."""
    said = msgspec.to_builtins(made)
    inputs = {name: said[name] for name in ("snapshot", "tables", "policy", "views", "format", "shape", "provenance")}
    if made.packing is not None:
        inputs["packing"] = said["packing"]
    digest = hashlib.sha256(receipt.encode(made)).hexdigest()
    outputs = {"folder": folder, "receipt_sha256": digest, "files": said["files"]}
    lake.record(
        "receipts",
        {
            "stage": f"export-{dataset}",
            "inputs": _json(inputs),
            "outputs": _json(outputs),
            "counts": _json(said["counts"]),
            "versions": _json(said["versions"]),
            "duration_s": seconds,
            "passed": True,
        },
    )


def _json(value: object) -> str:
    return msgspec.json.encode(value, order="sorted").decode()
