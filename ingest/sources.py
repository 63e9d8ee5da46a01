"""Where input comes from: files, globs, folders and stdin, and their bytes, unpacked.

A source's bytes come as a `Stream`, which ends where the source ends or where it is damaged, and then says so in
`failure`: what came before the damage is good and stays. Compression is recognised by magic bytes.

A compressed source may grow as much as it likes while what it grows to is rows that differ from one another: a million
answers to one long prompt are small when they are packed. What has a budget is bytes that are no such rows: one row
without end, blanks, the same row over and over. Whoever makes rows of the bytes says so with `Stream.settle`.

Not here: what the bytes mean (`blocks`), and how far they were read before (`bookmarks`).
"""

import glob
import os
import stat
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

import msgspec
import zstandard

from ingest.rows import Problem
from lake.errors import LakeError, UsageError

STDIN = "-"
FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}

PIECE = 1 << 20  # bytes that are unpacked in one go, at most
RAW_PIECE = 1 << 16  # compressed bytes that are read in one go
ZSTD_BLOCK = 1 << 17  # bytes that one block of a zstd frame unpacks to, at most
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
GZIP_MAGIC = b"\x1f\x8b"


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a compressed source, or one of Parquet, may grow to.

    Bytes that no new row came of may be `ratio` times the packed ones, and `free_bytes` whatever the ratio: more than a
    block has. The same rows over and over may be `repeated_rows` or `repeated_bytes` beyond that ratio, whichever is
    reached first. zstd frames that need a larger window than `window_bytes` are refused. Parquet of which no row comes
    for `silence_seconds` is given up.
    """

    ratio: int = 250
    free_bytes: int = 64 << 20
    repeated_rows: int = 50_000
    repeated_bytes: int = 16 << 20
    total_bytes: int = 1 << 40
    window_bytes: int = 128 << 20
    silence_seconds: float = 30.0


class Source(NamedTuple):
    """One input: its name as the user gave it, with forward slashes, and its path (None for stdin)."""

    name: str
    path: Path | None

    @property
    def size(self) -> int | None:
        """How many bytes it has, None if that cannot be told."""
        if self.path is None:
            return None
        try:
            found = self.path.stat()
        except OSError as error:
            raise _unreadable(self, error) from error
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    @property
    def suffixes(self) -> tuple[str | None, str | None]:
        """The format and the compression that the name promises."""
        return promised(self.name)


class Cut(Exception):
    """The bytes of a source end before the source does."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.problem = Problem(reason, message)


def promised(name: str) -> tuple[str | None, str | None]:
    """The format and the compression that a file's name promises, each None if it says nothing."""
    stem, suffix = os.path.splitext(name.lower())
    compression = COMPRESSIONS.get(suffix)
    if compression:
        suffix = os.path.splitext(stem)[1]
    return FORMATS.get(suffix), compression


def find(inputs: Iterable[str]) -> list[Source]:
    """The sources that files, globs, folders and `-` mean: each once, a folder's in the order of their names.

    Of a folder, at any depth, the files with a known suffix count; hidden ones and those of a lake do not. Raises
    UsageError.
    """
    found: dict[str, Source] = {}
    for given in inputs:
        for source in _find_one(given):
            key = STDIN if source.path is None else os.path.abspath(source.path)
            found.setdefault(key, source)
    if not found:
        raise UsageError("there is nothing to ingest", "name files, folders or globs, or '-' for stdin")
    for source in found.values():
        if source.path is not None and not os.access(source.path, os.R_OK):
            raise UsageError(f"{source.name}: this file may not be read", "change its permissions")
    return list(found.values())


def _find_one(given: str) -> list[Source]:
    if given == STDIN:
        return [Source(STDIN, None)]
    path = Path(given)
    try:
        if path.is_dir():
            return _folder(path)
        if path.exists():
            return [_source(path)]
        matches = sorted(glob.glob(given, recursive=True)) if glob.has_magic(given) else None
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{given[:80]!r} is no file: {what}", "look at the path") from None
    if matches is None:
        raise UsageError(f"{given}: there is no such file or folder", "look at the path; a glob needs quotes")
    sources = [source for match in matches for source in _matched(Path(match))]
    if not sources:
        raise UsageError(f"{given}: no file matches", "look at the pattern; '**' goes through folders")
    return sources


def _matched(path: Path) -> list[Source]:
    return list(_walk(path)) if path.is_dir() else [_source(path)]


def _folder(folder: Path) -> list[Source]:
    sources = list(_walk(folder))
    if not sources:
        raise UsageError(
            f"{folder.as_posix()}: this folder has no file to ingest",
            f"known names end in {', '.join(FORMATS)}, with or without .gz or .zst; others are named one by one",
        )
    return sources


def _walk(folder: Path) -> Iterator[Source]:
    for root, folders, files in os.walk(folder):
        if "lake.json" in files and "tables" in folders:
            # A lake that lies among its inputs is no input.
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(root) / name
            if not name.startswith(".") and promised(name)[0] and path.is_file():
                yield _source(path)


def _source(path: Path) -> Source:
    # A name that is not UTF-8 can be opened, but not written down: no column could hold it.
    return Source(os.fsencode(path.as_posix()).decode(errors="replace"), path)


class Stream:
    """The unpacked bytes of a source, in order. A context manager.

    `failure` is None until the bytes end where the source does not. `compression` is `gzip`, `zstd` or None, `raw_done`
    counts the bytes of the source itself that were read, `raw_size` is how many it has (None if that is not known).
    `closing` holds what is closed with it.
    """

    def __init__(self, source: Source, limits: Limits | None = None) -> None:
        self.source = source
        self.failure: Problem | None = None
        self.raw_done = 0
        self._limits = limits or Limits()
        self.closing = ExitStack()
        try:
            self.file: BinaryIO = (
                sys.stdin.buffer if source.path is None else self.closing.enter_context(source.path.open("rb"))
            )
            self.stat = os.fstat(self.file.fileno()) if source.path is not None else None
            head = self._raw(8)
        except OSError as error:
            self.closing.close()
            raise _unreadable(source, error) from error
        self.regular = self.stat is not None and stat.S_ISREG(self.stat.st_mode)
        self.raw_size = self.stat.st_size if self.regular and self.stat else None
        self.compression = _compression(head)
        self._held = b""
        self._unpacked_bytes = 0
        self._settled = (0, 0)
        self._pieces = self._budgeted(self._unpacked(head))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.close()

    def read(self, size: int) -> bytes:
        """The next `size` bytes; fewer only at the end. Raises LakeError if the source cannot be read."""
        parts = [self._held] if self._held else []
        have = len(self._held)
        while have < size:
            piece = self._next()
            if not piece:
                break
            parts.append(piece)
            have += len(piece)
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self._held = data[size:]
        return data[:size] if self._held else data

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, which `read` will give again."""
        data = self.read(size)
        self.unread(data)
        return data

    def unread(self, data: bytes) -> None:
        """Put bytes back, so that `read` gives them next."""
        self._held = data + self._held

    @property
    def strained(self) -> bool:
        """Whether what was unpacked since it was last settled is more than the ratio allows."""
        raw, unpacked = self._settled
        grown, read = self._unpacked_bytes - unpacked, self.raw_done - raw
        return self.compression is not None and grown > self._limits.ratio * read

    def settle(self) -> None:
        """What was read so far came to rows that differ: it counts no more."""
        self._settled = (self.raw_done, self._unpacked_bytes)

    def _next(self) -> bytes:
        """The next piece that is not empty; an empty one means the end."""
        try:
            return next(filter(None, self._pieces), b"")
        except Cut as cut:
            self.failure = cut.problem
            self._pieces = iter(())
            return b""
        except OSError as error:
            raise _unreadable(self.source, error) from error

    def _unpacked(self, head: bytes) -> Iterator[bytes]:
        if self.compression is None:
            yield head
            while piece := self._raw(PIECE):
                yield piece
            return
        raw = _Raw(head, self._raw)
        yield from _gunzip(raw) if self.compression == "gzip" else _unzstd(raw, self._limits)

    def _raw(self, size: int) -> bytes:
        data = self.file.read(size)
        self.raw_done += len(data)
        return data

    def _budgeted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        limits = self._limits
        for piece in pieces:
            self._unpacked_bytes += len(piece)
            if self.compression is not None:
                grown = self._unpacked_bytes - self._settled[1]
                if grown > limits.free_bytes and self.strained:
                    raise Cut(
                        "decompression_bomb",
                        f"it unpacks to {grown:,} bytes that no row comes of, more than {limits.ratio} times the "
                        "compressed ones",
                    )
                if self._unpacked_bytes > limits.total_bytes:
                    raise Cut("decompression_bomb", f"it unpacks to more than {limits.total_bytes:,} bytes")
            yield piece


def _unreadable(source: Source, error: OSError) -> LakeError:
    return LakeError(f"{source.name}: {error.strerror or error}", "what was committed is safe; run it again to go on")


def _compression(head: bytes) -> str | None:
    if head.startswith(GZIP_MAGIC):
        return "gzip"
    return "zstd" if head.startswith(ZSTD_MAGIC) or _is_skippable(head) else None


def _is_skippable(head: bytes) -> bool:
    """Whether a frame of zstd begins here that holds no data (pzstd and others begin with one)."""
    return len(head) >= 4 and head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F


class _Raw:
    """The raw bytes of a source, with as many of the next ones at hand as are asked for."""

    def __init__(self, head: bytes, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._bytes = head
        self._at = 0

    def take(self, size: int) -> bytes:
        """The next `size` bytes. Fewer only at the end."""
        self._fill(size)
        taken = self._bytes[self._at : self._at + size]
        self._at += len(taken)
        return taken

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, which stay."""
        self._fill(size)
        return self._bytes[self._at : self._at + size]

    def rest(self) -> bytes:
        """Some bytes, as many as are at hand; none only at the end."""
        self._fill(1)
        taken, self._bytes, self._at = self._bytes[self._at :], b"", 0
        return taken

    def give_back(self, data: bytes) -> None:
        """Put bytes back before the next ones."""
        self._bytes, self._at = data + self._bytes[self._at :], 0

    def _fill(self, size: int) -> None:
        while len(self._bytes) - self._at < size:
            piece = self._read(RAW_PIECE)
            if not piece:
                return
            self._bytes, self._at = self._bytes[self._at :] + piece, 0


def _gunzip(raw: _Raw) -> Iterator[bytes]:
    """Unpack gzip, one member after the other. Raises Cut where it is damaged, after all that can be unpacked."""
    while raw.peek(1):
        member = zlib.decompressobj(31)
        pending = raw.rest()
        ended = False
        while not ended:
            before = member.copy()
            try:
                piece = member.decompress(pending, PIECE)
            except zlib.error as error:
                yield from _salvaged(before, pending)
                raise Cut("corrupt", f"the gzip data is damaged: {error}") from None
            pending = member.unconsumed_tail
            if piece:
                yield piece
            ended = member.eof
            if not pending and not ended and len(piece) < PIECE:
                pending = raw.rest()
                if not pending:
                    raise Cut("truncated", "the gzip data ends too early: this file is cut off")
        # Some tools fill the last block of a tape or disk with zeros.
        rest = member.unused_data.lstrip(b"\0")
        raw.give_back(rest)
        while not rest and raw.peek(1) == b"\0":
            raw.take(1)


def _salvaged(member: "zlib._Decompress", pending: bytes) -> Iterator[bytes]:
    """What a damaged piece unpacks to before the damage shows."""
    try:
        for at in range(len(pending)):
            yield member.decompress(pending[at : at + 1])
    except zlib.error:
        return


def _unzstd(raw: _Raw, limits: Limits) -> Iterator[bytes]:
    """Unpack zstd, block by block, so that each step is small. Raises Cut where it is damaged or cut off."""
    while head := raw.peek(18):
        if _is_skippable(head):
            if len(head) < 8 or not _skip(raw, int.from_bytes(head[4:8], "little") + 8):
                raise _zstd_cut()
            continue
        yield from _zstd_frame(raw, head, limits)


def _zstd_frame(raw: _Raw, head: bytes, limits: Limits) -> Iterator[bytes]:
    if not ZSTD_MAGIC.startswith(head[:4]) and not head.startswith(ZSTD_MAGIC):
        raise Cut("corrupt", "the zstd data is damaged: what follows is no frame of zstd")
    if len(head) < 18 and (len(head) < 6 or len(head) < zstandard.frame_header_size(head)):
        raise _zstd_cut()
    try:
        size = zstandard.frame_header_size(head)
        header = zstandard.get_frame_parameters(head)
    except zstandard.ZstdError as error:
        raise Cut("corrupt", f"the zstd data is damaged: {error}") from None
    if header.window_size > limits.window_bytes:
        raise Cut(
            "decompression_bomb",
            f"the zstd data needs a window of {header.window_size:,} bytes; {limits.window_bytes:,} are allowed",
        )
    frame = zstandard.ZstdDecompressor(max_window_size=limits.window_bytes).decompressobj()
    try:
        yield frame.decompress(raw.take(size))
        last = False
        while not last:
            block = raw.take(3)
            if len(block) < 3:
                raise _zstd_cut()
            word = int.from_bytes(block, "little")
            last, kind, length = bool(word & 1), word >> 1 & 3, word >> 3
            data = raw.take(1 if kind == 1 else length)
            if len(data) < (1 if kind == 1 else length):
                raise _zstd_cut()
            if length > ZSTD_BLOCK:
                raise Cut("corrupt", "the zstd data is damaged: a block is too large")
            yield frame.decompress(block + data)
        if header.has_checksum:
            checksum = raw.take(4)
            if len(checksum) < 4:
                raise _zstd_cut()
            yield frame.decompress(checksum)
    except zstandard.ZstdError as error:
        raise Cut("corrupt", f"the zstd data is damaged: {error}") from None


def _zstd_cut() -> Cut:
    return Cut("truncated", "the zstd data ends too early: this file is cut off")


def _skip(raw: _Raw, size: int) -> bool:
    while size:
        taken = len(raw.take(min(size, RAW_PIECE)))
        if not taken:
            return False
        size -= taken
    return True
