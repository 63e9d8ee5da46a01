"""JSON that is not in lines, as blocks: the elements of an array, or objects one after the other."""

import json
import re
from collections.abc import Iterator

import numpy as np

from ingest.blocks import BOM, PEEK, WINDOW, Block, Cursor, Refusal, Sizes, Variety, cut
from ingest.rows import MAX_DEPTH, Problem, marks_in, max_marks, too_much
from ingest.sources import Limits, Stream

_BLANK = re.compile(r"[ \t\r\n]*")
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{},"]', re.DOTALL)
_CLOSES = {"}": "{", "]": "["}
_NEAR = 16  # characters before the end of a window within which what is cut off there shows
_TOKENS = 1 << 21  # brackets, commas and strings after which the end of what is no JSON is not looked for


class Elements:
    """The elements of an array, or objects that follow one another, whatever the line breaks in between.

    The mark is after the last element, before the comma or bracket: so an array that is written anew with more elements
    is read on from there.
    """

    def __init__(self, stream: Stream, cursor: Cursor, sizes: Sizes, limits: Limits, *, in_array: bool) -> None:
        self._stream = stream
        self._cursor = cursor
        self._sizes = sizes
        self._variety = Variety(stream, limits)
        self._in_array = in_array
        self._decode = json.JSONDecoder().raw_decode
        self._window = ""
        self._window_at = 0
        self._hopeless: Problem | None = None

    def blocks(self) -> Iterator[Block]:
        """The elements that are left."""
        data = b""
        while True:
            # An element that is larger than what was read is read in growing steps.
            wanted = max(self._sizes.block, len(data))
            fresh = self._stream.read(wanted)
            ended = len(fresh) < wanted
            data += fresh
            # Each byte is a character here: what is looked for is ASCII, and UTF-8 is left to whoever decodes.
            text = data.decode("latin-1")
            self._window = ""
            done, full = 0, True
            while full:
                start = done
                found, done, finished = self._elements(text, start, ended)
                full = len(found) == self._sizes.rows and not finished
                refusals = [] if full else self._refusals(data[done:], len(found), ended=ended, finished=finished)
                if found or refusals or done > start:
                    yield self._block(data, start, done, found, refusals)
                if finished or refusals:
                    return
                if problem := self._variety.seen(data[begin:end] for begin, end in found) if found else None:
                    yield Block(self._cursor.mark(), refusals=[cut(self._cursor.line + 1, b"", problem)])
                    return
            data = data[done:]

    def _refusals(self, rest: bytes, found: int, *, ended: bool, finished: bool) -> list[Refusal]:
        """What is wrong with what follows the elements that were found, if that is the end of them."""
        if finished:
            return self._after_array(rest, found) if self._in_array else []
        if self._hopeless is not None:
            return [cut(self._cursor.line + found + 1, rest, self._hopeless)]
        if ended:
            return self._unfinished(rest, found)
        if len(rest) > self._sizes.row:
            problem = too_much("too_long", "nothing behind it is read: an element is large")
            return [cut(self._cursor.line + found + 1, rest, problem)]
        return []

    def _block(
        self, data: bytes, start: int, done: int, found: list[tuple[int, int]], refusals: list[Refusal]
    ) -> Block:
        self._cursor.advance(memoryview(data)[start:done])
        offsets = np.concatenate([[0], np.cumsum([end - begin for begin, end in found], dtype=np.int64)])
        lines = np.arange(self._cursor.line + 1, self._cursor.line + len(found) + 1, dtype=np.int64)
        self._cursor.line += len(found)
        joined = b"".join(data[begin:end] for begin, end in found)
        return Block(self._cursor.mark(), joined, offsets.astype(np.int64), lines, refusals=refusals)

    def _elements(self, text: str, start: int, ended: bool) -> tuple[list[tuple[int, int]], int, bool]:
        """Where the whole elements from `start` are, up to where it is done with, and whether the array ends there.

        At most as many elements as a block has rows.
        """
        found: list[tuple[int, int]] = []
        done = start
        at = start or self._begin(text)
        while len(found) < self._sizes.rows:
            at = _skip_blank(text, at)
            if self._in_array and at < len(text) and text[at] == "]":
                return found, done, True
            if self._in_array and (found or self._cursor.line) and at < len(text) and text[at] == ",":
                at = _skip_blank(text, at + 1)
            if at >= len(text):
                return found, done, ended and not self._in_array
            end = self._end(text, at, ended)
            if end is None:
                return found, done, False
            found.append((at, end))
            done = at = end
        return found, done, False

    def _begin(self, text: str) -> int:
        if self._cursor.offset or self._cursor.line:
            return 0
        at = _skip_blank(text, len(BOM) if text.startswith(BOM.decode("latin-1")) else 0)
        return at + 1 if self._in_array and text[at : at + 1] == "[" else at

    def _end(self, text: str, at: int, ended: bool) -> int | None:
        """Where the element that begins here ends, or None if that cannot be seen yet."""
        try:
            end = self._decoded_end(text, at)
        except (ValueError, RecursionError):
            return self._scan(text, at)
        if end is None or not self._in_array:
            return end
        after = _skip_blank(text, end)
        if after == len(text):
            return end if ended else None
        # Something stands between this value and the next comma: it is all one element, and none.
        return end if text[after] in ",]" else self._scan(text, at)

    def _decoded_end(self, text: str, at: int) -> int | None:
        """Where the JSON value that begins here ends; None if it has too many values to be read.

        The parser makes twenty bytes of one, so it sees a window of the text, which grows while a value does not end
        in it and has not too many values so far. Raises ValueError, RecursionError.
        """
        if not self._window_at <= at < self._window_at + len(self._window):
            self._see(text, at, WINDOW)
        while True:
            whole = self._window_at + len(self._window) == len(text)
            try:
                end = self._window_at + self._decode(self._window, at - self._window_at)[1]
            except json.JSONDecodeError as error:
                near = error.msg.startswith("Unterminated") or error.pos > len(self._window) - _NEAR
                if whole or not near:
                    raise
            else:
                # A number may go on behind the window.
                if whole or end < self._window_at + len(self._window):
                    return end
            if self._window_at == at and marks_in(self._window) > max_marks(self._sizes.row):
                self._hopeless = too_much("too_many_values", "nothing behind it is read: an element has many values")
                return None
            self._see(text, at, WINDOW if self._window_at < at else 4 * len(self._window))

    def _see(self, text: str, at: int, size: int) -> None:
        self._window, self._window_at = text[at : at + size], at

    def _scan(self, text: str, at: int) -> int | None:
        """The same for what is no JSON: where its brackets are closed, strings left out. Stray ones are passed over."""
        if not self._in_array and text[at] not in "{[":
            end = text.find("\n", at)
            return end if end >= 0 else None
        opened: list[str] = []
        for number, token in enumerate(_TOKEN.finditer(text, at)):
            mark = token[0]
            if mark == '"':
                return None
            if number > _TOKENS:
                self._hopeless = Problem(
                    "too_deep" if len(opened) > MAX_DEPTH else "too_many_values",
                    "an element that is no JSON has no end in sight; what follows it is not read",
                )
                return None
            if mark in "{[":
                opened.append(mark)
            elif mark in ",]}" and not opened:
                if self._in_array and mark != "}":
                    return token.start()
            elif mark in "]}" and _CLOSES[mark] == opened[-1]:
                opened.pop()
                if not opened and not self._in_array:
                    return token.end()
        return None

    def _unfinished(self, rest: bytes, found: int) -> list[Refusal]:
        problem = self._stream.failure
        if problem is None:
            what = "the array is not closed" if self._in_array else "the last object is not closed"
            problem = Problem("truncated", f"{what}: this file is cut off")
        raw = rest.lstrip(b" \t\r\n,") if self._cursor.line or found else rest
        return [cut(self._cursor.line + found + 1, raw, problem)]

    def _after_array(self, rest: bytes, found: int) -> list[Refusal]:
        after = rest.lstrip(b" \t\r\n,").removeprefix(b"]") if self._cursor.line or found else rest.partition(b"]")[2]
        after = (after + self._stream.read(PEEK)).strip(b" \t\r\n")
        if not after and self._stream.failure is None:
            return []
        problem = self._stream.failure or Problem("not_json", "something follows the end of the array")
        return [cut(self._cursor.line + found + 1, after, problem)]


def _skip_blank(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    assert match is not None
    return match.end()
