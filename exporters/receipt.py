"""The receipt of an export: what went in, what came out, and what it takes to make it again.

A receipt holds no time, no path outside its folder and no machine's name, so the same export has the same receipt, byte
for byte. When and where it ran is in the lake's own ledger.
"""

import importlib.metadata
from pathlib import Path
from typing import Any

import msgspec

from exporters.decontamination import Standing
from exporters.formats import File
from exporters.packed import PackedCounts, Packing, Profile
from lake.errors import Damaged, LakeError

NAME = "receipt.json"
DISTRIBUTION = "evidence-lake"


class Counts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows by what became of them: considered = exported + quarantined.

    `tasks_without_pair` is there for pairs alone, `splits` where rows are held out: how many rows each split has. Where
    documents are packed, `packed` says what became of them, by the name of the packed rows, and `profile` how long they
    are; all other numbers are of documents. `replay` says which rows of past training are there too; of the other
    numbers only `splits` counts them.
    """

    considered: int
    exported: int
    quarantined: int
    reasons: dict[str, int]
    tasks_without_pair: int | None = None
    splits: dict[str, int] | None = None
    packed: dict[str, PackedCounts] | None = None
    profile: Profile | None = None
    replay: "ReplayCounts | None" = None


class ReplayCounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was replayed: rows `wanted` and `exported`, of so many `sections` out of a `pool` that might be drawn.

    Rows passed over: `leaked` say what a fresh row says, `repeated` what a section drawn before says. `now` is what the
    ages of sections were counted from, by ISO 8601.
    """

    wanted: int
    exported: int
    sections: int
    pool: int
    leaked: int
    repeated: int
    now: str | None


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One export. `views` is the digest of the SQL that the lake keeps, `versions` what else the bytes depend on.

    `decontamination` says how the snapshot stands with the registered eval tasks; older rules did not ask.
    """

    receipt: int
    dataset: str
    snapshot: str
    tables: dict[str, int]
    policy: dict[str, Any]
    views: str
    format: str
    shape: str
    provenance: bool
    file_bytes: int
    counts: Counts
    files: tuple[File, ...]
    versions: dict[str, str]
    val: float = 0.0
    seed: int = 0
    packing: Packing | None = None
    replay: float = 0.0
    decontamination: Standing | None = None

    @property
    def rows(self) -> int:
        """How many rows the export has."""
        return self.counts.exported


def encode(receipt: Receipt) -> bytes:
    """The receipt as it is written: JSON with sorted keys, two spaces deep, one final line feed."""
    return msgspec.json.format(msgspec.json.encode(receipt, order="sorted"), indent=2) + b"\n"


def read(folder: Path, called: str | None = None) -> Receipt:
    """The receipt in a folder, which a user calls otherwise. Raises LakeError if there is none, Damaged if not ours."""
    path = folder / NAME
    shown = f"{called or folder}/{NAME}"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        inner = sorted(child.parent.name for child in folder.glob(f"*/{NAME}"))
        raise LakeError(
            f"{shown}: there is no receipt here",
            f"name one of the exports in it: {', '.join(inner)}" if inner else "name a folder that 'lake export' wrote",
        ) from None
    except OSError as error:
        raise LakeError(f"{shown}: {error.strerror}", "name a folder that 'lake export' wrote") from None
    try:
        return msgspec.json.decode(data, type=Receipt)
    except msgspec.DecodeError as error:
        raise Damaged(f"{shown}: {error}", "export again under another name, and compare") from None


def policy_of(data: bytes) -> bytes | None:
    """The JSON of the policy that a receipt names; None if these bytes are no receipt."""
    try:
        return bytes(msgspec.json.decode(data, type=_OfReceipt).policy)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class _OfReceipt(msgspec.Struct):
    receipt: int
    policy: msgspec.Raw


def lake_version() -> str:
    """The version of this software; '0' where it runs from a folder that was never installed."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "0"
