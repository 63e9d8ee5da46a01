"""Reads a replay corpus as an older system kept it: `corpus.zst`, a row of frames, and `index.json`, where each is.

A frame is one zstd frame of one CBOR map: section_id, section_type, content, auto_mined, first_seen_at, last_seen_at
(times without a zone are UTC) and training_runs_seen, a list of numbers. The index is a JSON array of objects:
section_id, byte_offset, length, added_at and weight. Each frame decodes alone, so one that is damaged costs itself and
nothing else: what is wrong is said with its byte offset and length.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import cbor2
import msgspec
import zstandard

from ingest.replay.sightings import is_weight
from lake.errors import LakeError

FRAME_BYTES = 64 << 20  # that a frame may decode to: far more than a section is
_WINDOW_BYTES = 128 << 20
_TOO_LATE = 4253  # the first year that no lake can hold whole
_ID = re.compile(r"[0-9a-f]{16}")


class Snapshot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A section as a frame holds it."""

    section_id: str
    section_type: str
    content: str
    first_seen_at: datetime
    last_seen_at: datetime
    auto_mined: bool = False
    training_runs_seen: list[int] = []


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a frame is, and at what weight its section is drawn. `added_at` is the frame's own last_seen_at."""

    section_id: str
    byte_offset: int
    length: int
    added_at: datetime | None = None
    weight: float = 1.0


class BadIndex(LakeError):
    """An index that cannot be read; nothing was imported."""


class BadFrame(Exception):
    """A frame that cannot be read: a reason to count by, and what is wrong."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Frame(NamedTuple):
    """An entry of the index, the bytes that it points to, and the section in them or what is wrong."""

    entry: Entry
    raw: bytes
    snapshot: Snapshot | None
    bad: BadFrame | None


def read_index(path: Path) -> list[Entry]:
    """The entries of an index in the order of their frames. Raises BadIndex."""
    try:
        entries = msgspec.json.decode(path.read_bytes(), type=list[Entry])
    except OSError as error:
        raise BadIndex(f"{path}: {error.strerror}", "name the index.json of the corpus") from None
    except msgspec.DecodeError as error:
        raise BadIndex(f"{path}: this is no index of a corpus: {error}", "name the index.json of the corpus") from None
    for number, entry in enumerate(entries):
        if (
            entry.byte_offset < 0
            or entry.length <= 0
            or not is_weight(entry.weight)
            or not _ID.fullmatch(entry.section_id)
        ):
            raise BadIndex(
                f"{path}: entry {number + 1} ({entry.section_id[:40]!r}) is not one",
                "an id has 16 digits, an offset and a weight are at least 0, a length is more than 0",
            )
    return sorted(entries, key=lambda entry: (entry.byte_offset, entry.length))


def frames(path: Path, entries: list[Entry]) -> Iterator[Frame]:
    """The frames that the entries point to, read or with what is wrong with each. Raises LakeError without a file."""
    try:
        with path.open("rb") as file:
            for entry in entries:
                yield _frame(file, entry)
    except OSError as error:
        raise LakeError(f"{path}: {error.strerror}", "name the corpus.zst that the index is of") from None


def _frame(file: BinaryIO, entry: Entry) -> Frame:
    file.seek(entry.byte_offset)
    raw = file.read(entry.length)
    try:
        return Frame(entry, raw, decoded(raw, entry), None)
    except BadFrame as bad:
        return Frame(entry, raw, None, bad)


def decoded(raw: bytes, entry: Entry) -> Snapshot:
    """The section in a frame's bytes. Raises BadFrame: short_read, bad_zstd, bad_cbor or bad_snapshot."""
    if len(raw) != entry.length:
        raise BadFrame("short_read", f"{entry.length} bytes are expected, and {len(raw)} are there")
    try:
        said = cbor2.loads(_unpacked(raw))
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise BadFrame("bad_cbor", f"what it unpacks to is no CBOR: {error}") from None
    try:
        snapshot = msgspec.convert(said, Snapshot)
    except msgspec.ValidationError as error:
        raise BadFrame("bad_snapshot", f"it holds no section: {error}") from None
    if snapshot.section_id != entry.section_id:
        raise BadFrame("bad_snapshot", f"it holds {snapshot.section_id!r:.60}, and the index says {entry.section_id}")
    for seen in (snapshot.first_seen_at, snapshot.last_seen_at):
        if not 1970 <= seen.year < _TOO_LATE or _utc(seen).year < 1970:
            raise BadFrame("bad_snapshot", f"it was seen at {seen.isoformat()}, before 1970 or long after now")
    return snapshot


def moments(snapshot: Snapshot) -> list[tuple[datetime, str | None]]:
    """When a section was seen, and by which run: first, and last by each run that saw it; which saw it when is lost."""
    first, last = _utc(snapshot.first_seen_at), _utc(snapshot.last_seen_at)
    runs = [str(run) for run in sorted(set(snapshot.training_runs_seen))]
    seen: list[tuple[datetime, str | None]] = [(last, run) for run in runs] or [(last, None)]
    return seen if first == last else [(first, None), *seen]


def encode(snapshot: Snapshot) -> bytes:
    """The frame of a section, as that system wrote it: canonical CBOR in one zstd frame of level 3."""
    said: dict[str, Any] = msgspec.structs.asdict(snapshot)
    return zstandard.ZstdCompressor(level=3).compress(cbor2.dumps(said, canonical=True, timezone=UTC))


def _unpacked(raw: bytes) -> bytes:
    try:
        size = zstandard.get_frame_parameters(raw).content_size
        if size not in (zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR) and size > FRAME_BYTES:
            raise BadFrame("bad_zstd", f"it says that it unpacks to {size:,} bytes, more than a section has")
        unpacker = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES)
        return unpacker.decompress(raw, max_output_size=FRAME_BYTES, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise BadFrame("bad_zstd", f"it does not unpack: {error}") from None


def _utc(moment: datetime) -> datetime:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
