"""Exports as the lake's own ledger tells of them, and whether they are still what was recorded.

Not here: rebuilding one from its snapshot (the exporters do that).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from lake.findings import Export


class Recorded(msgspec.Struct, frozen=True):
    """An export as the lake's own ledger tells of it."""

    export: Export
    tables: dict[str, int]
    views: str | None
    receipt: str
    files: tuple[tuple[str, int, str], ...]
    tokenizer: str | None = None

    @property
    def objects(self) -> dict[str, str]:
        """What making it again needs of the objects that the lake keeps: their digests, and what each is."""
        named = {self.views: "the views", self.tokenizer: "the tokenizer"}
        return {digest: what for digest, what in named.items() if digest}


def recorded_in(row: Mapping[str, Any]) -> Recorded | None:
    """The export that an event of the ledger tells of, or None if it tells of something else."""
    dataset = str(row["stage"]).removeprefix("export-")
    if dataset == row["stage"]:
        return None
    try:
        inputs, outputs = json.loads(row["inputs"]), json.loads(row["outputs"])
        return Recorded(
            Export(str(outputs["folder"]), dataset, str(inputs["snapshot"])),
            {str(kind): int(version) for kind, version in inputs["tables"].items()},
            inputs.get("views"),
            str(outputs["receipt_sha256"]),
            tuple((str(file["path"]), int(file["bytes"]), str(file["sha256"])) for file in outputs["files"]),
            ((inputs.get("packing") or {}).get("tokenizer") or {}).get("sha256"),
        )
    except (TypeError, ValueError, KeyError, AttributeError):
        return None


def changed_outputs(recorded: Recorded, *, deep: bool) -> Iterator[tuple[str, str]]:
    """The files of an export that are not what was recorded, with what is wrong, if the export is there at all."""
    folder = Path(recorded.export.folder)
    receipt = folder / "receipt.json"
    if not folder.is_absolute() or not receipt.is_file():
        return
    data = receipt.read_bytes()
    if hashlib.sha256(data).hexdigest() != recorded.receipt:
        if not _is_another(data, recorded.export):
            yield str(receipt), "not the receipt that was recorded"
        return
    for name, size, sha256 in recorded.files:
        path = folder / name
        if not path.is_relative_to(folder) or ".." in path.parts:
            yield str(path), "leads out of its folder"
        elif not path.is_file():
            yield str(path), "missing"
        elif path.stat().st_size != size:
            yield str(path), f"{path.stat().st_size} bytes instead of {size}"
        elif deep and _sha256_of(path) != sha256:
            yield str(path), "its bytes are not those that were written"


def _is_another(receipt: bytes, export: Export) -> bool:
    """Whether this is the receipt of another export, which was put in the place of one."""
    try:
        said = json.loads(receipt)
        return (said["dataset"], said["snapshot"]) != (export.dataset, export.snapshot)
    except (ValueError, TypeError, KeyError):
        return False


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
