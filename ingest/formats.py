"""What a source is, by its first bytes and its name, and its rows as blocks.

Nothing is ever unpickled, or run: files that hold such things are known by their first bytes and refused.
"""

import json
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

from ingest import lines, parquet
from ingest.blocks import BOM, PEEK, Block, Cursor, Mark, Sizes, Variety
from ingest.elements import Elements
from ingest.records import Records, header
from ingest.rows import Refused, refuse
from ingest.sources import Limits, Stream

# Files that are not what is asked for, and what they are; by their first bytes.
_FOREIGN = (
    (b"PK\x03\x04", "a zip archive, as PyTorch's .pt and .pt2 and NumPy's .npz are"),
    *((b"\x80" + bytes([protocol]), "a pickle, which is never loaded") for protocol in (2, 3, 4, 5)),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (b"GGUF", "a GGUF model"),
    (b"BZh", "compressed by bzip2"),
    (b"\xfd7zXZ", "compressed by xz"),
    (b"\x04\x22\x4d\x18", "compressed by lz4"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
    (b"SQLite format 3", "an SQLite database"),
    (b"%PDF", "a PDF document"),
    (b"\x7fELF", "a program"),
    (b"ARROW1", "an Arrow file"),
    (b"FEA1", "a Feather file"),
    (b"ORC", "an ORC file"),
    (b"Obj\x01", "an Avro file"),
)
# Endings of files that hold pickles, whatever they begin with: the oldest ones begin with text.
_PICKLES = (".pkl", ".pickle", ".pt", ".pt2", ".pth", ".ckpt", ".joblib", ".dill")
_SAFETENSORS = 100 << 20  # bytes that the header of such a file has at most
_DELIMITERS = {"csv": ",", "tsv": "\t"}


def recognise(stream: Stream, forced: str | None = None) -> str:
    """The format of a source: `jsonl`, `array`, `documents`, `csv`, `tsv` or `parquet`. Raises Refused.

    What the bytes say counts; the name decides where they could be several things.
    """
    head = stream.peek(PEEK)
    promised = forced or stream.source.suffixes[0]
    if head.startswith(parquet.MAGIC):
        return "parquet"
    if what := _foreign(head, stream.source.name):
        raise refuse("unknown_format", f"this is {what}: such files are not read; unpack or convert it first")
    text = head.removeprefix(BOM).lstrip(b" \t\r\n")
    if not text and stream.failure is None:
        return "jsonl"
    if promised == "parquet":
        raise refuse("unknown_format", "this is no Parquet file, although its name says so")
    first = text[:1]
    if b"\0" in head[:4096] and first not in (b"{", b"["):
        raise refuse("unknown_format", "this is a binary file")
    if promised in ("jsonl", "csv", "tsv"):
        return promised
    if first == b"[":
        return "array"
    if first == b"{":
        return "jsonl" if _is_lines(text) else "documents"
    if promised == "json" or not text:
        return "jsonl"
    raise refuse("unknown_format", "this is neither JSON nor Parquet, and CSV is known by its name: *.csv or *.tsv")


def _foreign(head: bytes, name: str) -> str | None:
    """What a file is that is not read at all, None if it may be one that is."""
    for magic, what in _FOREIGN:
        if head.startswith(magic):
            return what
    if name.lower().endswith(_PICKLES):
        return "named as a pickle or a PyTorch file, which is never loaded"
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") <= _SAFETENSORS:
        return "a safetensors file"
    return "a tar archive" if head[257:262] == b"ustar" else None


def _is_lines(text: bytes) -> bool:
    """Whether text that begins with an object is one object a line, or one object over many lines."""
    lines = text.split(b"\n", 2)
    if len(lines) == 1 or _is_json(lines[0]):
        return True
    # One bad line does not make its file a document; but a document's second line may be JSON, after an opening one.
    return not lines[0].rstrip().endswith((b"{", b"[", b",", b":")) and lines[1].startswith(b"{") and _is_json(lines[1])


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _seekable(stream: Stream) -> BinaryIO:
    """A Parquet file as one that can be read from its end: itself, or unpacked into a temporary one."""
    if stream.regular and stream.compression is None:
        return stream.file
    file: BinaryIO = stream.closing.enter_context(tempfile.TemporaryFile(prefix="lake-"))  # noqa: SIM115 -- the stack closes it
    while data := stream.read(4 << 20):
        file.write(data)
    if stream.failure is not None:
        raise Refused([stream.failure])
    return file


class Input:
    """A source whose format is known. Raises Refused where nothing can be read from it."""

    def __init__(self, stream: Stream, limits: Limits, forced: str | None = None) -> None:
        self.form = recognise(stream, forced)
        self.stream = stream
        self._limits = limits
        self._cursor = Cursor()
        self._names: list[str] = []
        self._file: BinaryIO | None = None
        self._digest = ""
        if self.form in _DELIMITERS:
            self._names = header(stream, self._cursor, _DELIMITERS[self.form])
        elif self.form == "parquet":
            self._file = _seekable(stream)
            self._digest = parquet.sha256(self._file)

    @property
    def format(self) -> str:
        """The format by its usual name."""
        return {"array": "json", "documents": "json", "tsv": "csv"}.get(self.form, self.form)

    def resume(self, mark: Mark) -> bool:
        """Go on from a mark. False if what is before it is not what it was; then nothing can be read any more."""
        if self.form == "parquet":
            self._cursor.line = mark.line
            return mark.digest == self._digest
        self._cursor.skip(self.stream, mark.offset)
        self._cursor.line = mark.line
        return self._cursor.mark() == mark

    def mark(self) -> Mark:
        """Where the source stands now."""
        return Mark(0, self._cursor.line, self._digest) if self.form == "parquet" else self._cursor.mark()

    def blocks(self, sizes: Sizes) -> Iterator[Block]:
        """The rows that are left, in order."""
        if self._file is not None:
            return parquet.blocks(self._file, self._cursor, sizes, self._digest, self._limits)
        if self.form in _DELIMITERS:
            records = Records(self.stream, self._cursor, sizes, self._names, _DELIMITERS[self.form])
            return records.blocks(Variety(self.stream, self._limits))
        if self.form == "jsonl":
            return lines.blocks(self.stream, self._cursor, sizes, self._limits)
        return Elements(self.stream, self._cursor, sizes, self._limits, in_array=self.form == "array").blocks()
