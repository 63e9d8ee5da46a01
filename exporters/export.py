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
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from exporters import card, hugging_face, receipt
from exporters.dataset import KEY, SPLIT, Rows
from exporters.datasets import DATASETS, dataset_named
from exporters.faults import FirewallBreach, check, repeated_ids
from exporters.formats import File, Writer, library_versions, sliced
from exporters.mixing import is_fresh
from exporters.packed import NPY, PackedWriter
from exporters.places import Place, address, appearing, fetched, refuse_taken
from exporters.plan import Options, Plan, plan_of, rules
from exporters.receipt import Receipt
from exporters.relations import Relations
from lake import Lake, LakeError, Snapshot
from lake.errors import UsageError
from views.connect import digest, dumps
from views.policy import Policy

RECEIPT_FORMAT = 2
TRAIN, VALIDATION = "train", "validation"

_PACKED = "packed"


Progress = Callable[[int, int | None], None]


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
    sql = rules(lake, options)
    if named.relation not in sql:
        raise UsageError(f"the rules {options.views} have no dataset {dataset!r}", "export without --views")
    packs = options.tokenizer is not None or bool(options.lengths)
    shape = _PACKED if options.shape is None and packs and _PACKED in named.offered else options.shape
    plans = {Path(): Plan(named, named.shape_named(shape), options, sql)}
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
    sql = rules(lake, options)
    plans = {}
    for name, dataset in DATASETS.items():
        if dataset.relation in sql:
            shape = options.shape if options.shape in dataset.offered else None
            plans[Path(name)] = Plan(dataset, dataset.shape_named(shape), options, sql)
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
    present = files_of(folder, said)
    named = {file.path: file for file in said.files}
    snapshot = lake.snapshot(said.snapshot)
    snapshot.prove()
    again = _build(snapshot, plan_of(lake, said), None, progress)
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


class Part(NamedTuple):
    """Some rows of a split, in their order, as a batch of the columns that are written and some that are not.

    Texts of the columns `json` are JSON.
    """

    split: str
    batch: pa.RecordBatch
    json: tuple[str, ...]


def parts(snapshot: Snapshot, plan: Plan) -> Iterator[Part]:
    """The rows of an export that no folder is made of: by the same views, checks and accounts.

    The books are closed behind the last part, so nothing made of them may be published before this has ended. Raises
    FirewallBreach, OffBalance, Unchecked.
    """
    relations = Relations(snapshot, plan)
    try:
        relations.standing()
        rows = relations.rows()
        _, batches = relations.stream(rows)
        keys: dict[str, list[np.ndarray]] = {name: [] for name in rows.keys}
        splits = (TRAIN, VALIDATION) if plan.options.val else (TRAIN,)
        for split, batch in _checked(relations, rows, batches, keys, splits):
            yield Part(split, batch, rows.json)
        whole = _whole(keys)
        _refuse_repeats(plan.dataset.name, whole["id"])
        relations.close_books(whole)
    finally:
        relations.close()


def _options(lake: Lake) -> Mapping[str, str] | None:
    """How to reach a bucket: as the lake's own, if it is in one."""
    return lake.store.options or None


def _as_far_as(found: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """What was found, of those things alone that were told."""
    return {name: value for name, value in found.items() if name in told}


def files_of(folder: Path, said: Receipt) -> set[str]:
    """The files of an export that are there, without what the library that reads `hf` leaves beside them."""
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    return {path for path in present if said.format != "hf" or not hugging_face.is_cache(path)}


def mismatches(folder: Path, said: Receipt) -> Iterator[str]:
    """The files that are there and are not, byte for byte, what the receipt says."""
    for file in said.files:
        path = folder / file.path
        if path.is_file() and not _is_intact(path, file):
            yield file.path


def _is_intact(path: Path, file: File) -> bool:
    with path.open("rb") as data:
        return path.stat().st_size == file.bytes and hashlib.file_digest(data, "sha256").hexdigest() == file.sha256


def _export(
    lake: Lake, plans: Mapping[Path, Plan], out: Place, options: Options, progress: Progress | None
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
    for sql in {digest(plan.sql): plan.sql for plan in plans.values()}.values():
        lake.put_object(dumps(sql))
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


def _refuse_unpackable(plan: Plan) -> None:
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


def _build(snapshot: Snapshot, plan: Plan, folder: Path | None, progress: Progress | None) -> Receipt:
    """Everything of one export but its publication. Without a folder nothing is written; the receipt is the same."""
    options, dataset = plan.options, plan.dataset.name
    relations = Relations(snapshot, plan)
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
    views = digest(plan.sql)
    text = card.render(
        dataset=plan.dataset,
        schema=writer.schema,
        counts=counts,
        policy=policy,
        snapshot=snapshot.id,
        tables=tables,
        views=views,
        rebuild=_command(plan, snapshot.id, views),
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
        views=views,
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
    relations: "Relations", plan: Plan, folder: Path | None, progress: Progress | None
) -> tuple[Writer | PackedWriter, tuple[File, ...], dict[str, np.ndarray], dict[str, int]]:
    rows = relations.rows()
    given, batches = relations.stream(rows)
    keys: dict[str, list[np.ndarray]] = {name: [] for name in rows.keys}
    done = dict.fromkeys((TRAIN, VALIDATION) if plan.options.val else (TRAIN,), 0)
    with _writer(plan, folder, rows.schema(given), tuple(done)) as writer:
        for split, part in _checked(relations, rows, batches, keys, tuple(done)):
            writer.write(part, split)
            done[split] += len(part)
            if progress is not None:
                progress(sum(done.values()), None)
        files = writer.finish()
    return writer, files, _whole(keys), done


def _checked(
    relations: Relations,
    rows: Rows,
    batches: Iterable[pa.RecordBatch],
    keys: dict[str, list[np.ndarray]],
    splits: tuple[str, ...],
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The rows of each split, looked at once more, slice by slice; their keys are noted for the closing of the books.

    No record of the lake's stands behind a replayed row; that its id is its own is looked at all the same.
    """
    for part in sliced(check(rows, batches)):
        fresh = part if relations.mixed is None else part.filter(is_fresh(part))
        for name, values in keys.items():
            values.append(np.array((part if name == "id" else fresh).column(f"{KEY}{name}")))
        for split in splits:
            rows_of = part if len(splits) == 1 else part.filter(_of_split(part, split))
            if len(rows_of):
                yield split, rows_of


def _whole(keys: Mapping[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([np.empty(0, np.uint64), *values]) for name, values in keys.items()}


def _writer(plan: Plan, folder: Path | None, schema: pa.Schema, splits: tuple[str, ...]) -> Writer | PackedWriter:
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


def _command(plan: Plan, snapshot: str, views: str) -> str:
    """The command that makes the export again, as a user would type it beside its folder."""
    options = plan.options
    words = [f"lake export {plan.dataset.name} OUT --at {snapshot} --views {views} --format {options.format}"]
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
