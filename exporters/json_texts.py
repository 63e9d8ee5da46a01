"""The JSON texts of the rows of a file, one by one: JSON lines or one array, plain, gzip or zstd.

A text is what the file has, byte for byte; whether it is JSON, `said` tells. What is held at a time is the
longest row, and of that no more than LINE_BYTES.
"""

import codecs
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import zstandard

LINE_BYTES = 64 << 20

_CHUNK = 1 << 20
_WINDOW_BYTES = 1 << 27
# At most 128 KiB come out of four bytes, so this many give 32 MiB at once.
_ZSTD_BYTES = 1 << 10
_SPACE = " \t\n\r"
_decode = msgspec.json.Decoder().decode

if TYPE_CHECKING:
    from typing_extensions import Buffer


def texts(path: Path, form: str) -> Iterator[tuple[int, bytes]]:
    """The text of each row with its number from 1, in lines that of the line; blank lines are no rows.

    Raises EOFError where the file ends too early, a row is longer than LINE_BYTES, or an array goes wrong.
    """
    with path.open("rb") as raw, _plain(raw, form) as plain:
        data: io.BufferedReader[Any] = plain if isinstance(plain, io.BufferedReader) else io.BufferedReader(plain)
        if form.startswith("jsonl") or not _is_array(data):
            yield from _lines(data)
        else:
            yield from _elements(data)


def said(text: bytes) -> object:
    """What a text says, as Python objects. Raises ValueError with why it is not JSON."""
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        why = "half of a surrogate pair" if _is_halved(text, str(error)) else error
        raise ValueError(f"not JSON: {why}") from None


def _is_halved(text: bytes, error: str) -> bool:
    """Whether a text that seems to end too early is whole, and has an escape in it that is but half a character."""
    try:
        return "truncated" in error and bool(json.loads(text))
    except (ValueError, RecursionError):
        return False


def _is_array(data: "io.BufferedReader[Any]") -> bool:
    head = data.peek(_CHUNK).removeprefix(codecs.BOM_UTF8).lstrip()
    return head.startswith(b"[")


def _lines(data: "io.BufferedReader[Any]") -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := data.readline(LINE_BYTES + 1):
        number += 1
        if len(line) > LINE_BYTES:
            raise EOFError(f"line {number} is longer than {LINE_BYTES >> 20} MiB")
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if line := line.strip():
            yield number, line


class _Elements:
    """The elements of an array that is read in chunks."""

    # It only has to find where an element ends, so numbers need not be made.
    _scan = json.JSONDecoder(parse_float=str, parse_int=str, strict=False).raw_decode

    def __init__(self, data: "io.BufferedReader[Any]") -> None:
        self._data = data
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._text = ""
        self._at = 0
        self._ended = False

    def _more(self) -> bool:
        """Read on, as much as is there unread, so that a long element is not scanned more than a few times."""
        if self._ended:
            return False
        self._text = self._text[self._at :]
        self._at = 0
        data = self._data.read(max(_CHUNK, len(self._text)))
        self._ended = not data
        self._text += self._decode(data, self._ended)
        return True

    def sign(self) -> str:
        """The next character that is no space, which is gone past; '' at the end."""
        while True:
            while self._at < len(self._text):
                found = self._text[self._at]
                self._at += 1
                if found not in _SPACE:
                    return found
            if not self._more():
                return ""

    def skip_space(self) -> None:
        """Go to the next character that is no space, or to the end."""
        if self.sign():
            self._at -= 1

    def ends(self) -> bool:
        """Whether the array's end is next, which is gone past."""
        self.skip_space()
        ended = self._text.startswith("]", self._at)
        self._at += ended
        return ended

    def element(self, number: int) -> bytes:
        while True:
            try:
                _, end = self._scan(self._text, self._at)
            except (json.JSONDecodeError, RecursionError) as error:
                if len(self._text) - self._at > LINE_BYTES:
                    raise EOFError(f"element {number} is longer than {LINE_BYTES >> 20} MiB, or no JSON") from None
                if isinstance(error, RecursionError) or not self._more():
                    raise EOFError(f"element {number} is no JSON: {error}") from None
                continue
            # Only a number could go on in the next chunk, and a number is no row.
            text = self._text[self._at : end]
            self._at = end
            return text.encode()


def _elements(data: "io.BufferedReader[Any]") -> Iterator[tuple[int, bytes]]:
    array = _Elements(data)
    assert array.sign() == "["
    number = 0
    while not array.ends():
        if number and array.sign() != ",":
            raise EOFError(f"after element {number}: there must be , or ]")
        number += 1
        array.skip_space()
        yield number, array.element(number)
    if array.sign():
        raise EOFError("there is something after the array")


def _plain(raw: io.BufferedReader, form: str) -> io.BufferedReader | gzip.GzipFile:
    if form.endswith(".gz"):
        return gzip.GzipFile(fileobj=raw, mode="rb")
    return io.BufferedReader(_Zstd(raw)) if form.endswith(".zst") else raw


class _Zstd(io.RawIOBase):
    """The bytes of zstd frames. It takes in little at a time, which bounds what comes out, and notices a cut end."""

    def __init__(self, raw: io.BufferedReader) -> None:
        super().__init__()
        self._raw = raw
        self._context = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES)
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._out = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "Buffer") -> int:
        into = memoryview(buffer).cast("B")
        while not self._out:
            data = self._raw.read(_ZSTD_BYTES)
            if not data and self._frame is not None:
                raise EOFError("the zstd stream is cut short")
            if not data:
                return 0
            self._out = memoryview(self._decompressed(data))
        taken = min(len(into), len(self._out))
        into[:taken] = self._out[:taken]
        self._out = self._out[taken:]
        return taken

    def _decompressed(self, data: bytes) -> bytes:
        parts = []
        while data:
            if self._frame is None:
                self._frame = self._context.decompressobj()
            parts.append(self._frame.decompress(data))
            data = b""
            if self._frame.eof:
                data, self._frame = self._frame.unused_data, None
        return b"".join(parts)
