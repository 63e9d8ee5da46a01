"""Words: what the gates count, compare and look for.

    words("Don't panic: 42, 你好")  # ["don't", "panic", "42", "你", "好"]

Texts are compared without regard to case, width or composition (Unicode NFKC, lower case). A word is a run of letters,
marks, digits and underscores, with apostrophes inside it; of a script that is written without spaces between words
(Chinese, Japanese, Thai, Lao, Khmer, Burmese) each character is one, so that a sentence of it is not a single word.

The classes are those of the `regex` library, not of the interpreter, so that each Python finds the same words.

Not here: sentences, tokens of a model, stemming.
"""

import re
import unicodedata
from typing import NamedTuple

import regex

__all__ = ["Word", "located", "normalised", "words"]

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_FIRST = rf"[[\p{{L}}\p{{N}}_]--[{_UNSPACED}]]"
_RUN = rf"{_FIRST}[[\p{{L}}\p{{M}}\p{{N}}_]--[{_UNSPACED}]]*"
_WORD = regex.compile(rf"(?V1)[[{_UNSPACED}]&&[\p{{L}}\p{{N}}]]\p{{M}}*|{_RUN}(?:['’]{_RUN})*")
_ASCII_WORD = re.compile(r"[a-z0-9_]+(?:'[a-z0-9_]+)*")  # what _WORD finds in ASCII, in a third of the time
_CLUSTER = regex.compile(r"\X")


class Word(NamedTuple):
    """A normalised word, and the characters [start, end) of the text as given that it comes from."""

    text: str
    start: int
    end: int


def normalised(text: str) -> str:
    """The text as it is compared: NFKC, lower case."""
    if text.isascii():
        return text.lower()
    # Lower case can bring forth what has a composed form.
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())


def words(text: str) -> list[str]:
    """The normalised words of a text, in order."""
    found = normalised(text)
    return _ASCII_WORD.findall(found) if found.isascii() else _WORD.findall(found)


def located(text: str) -> list[Word]:
    """The words of a text with where they are in it.

    Where normalising makes a character several, or several one, all of them are the word's.
    """
    found = normalised(text)
    pattern = _ASCII_WORD if found.isascii() else _WORD
    starts, ends = _origins(text, len(found))
    return [Word(hit[0], starts[hit.start()], ends[hit.end() - 1]) for hit in pattern.finditer(found)]


def _origins(text: str, length: int) -> tuple[list[int], list[int]]:
    """For each normalised character, where what it was made from begins and ends.

    Characters that belong together are normalised by clusters, which is the same as all at once but for oddities; a
    text with one of those is located as a whole.
    """
    if len(text) == length and text.isascii():
        return list(range(length)), list(range(1, length + 1))
    starts: list[int] = []
    ends: list[int] = []
    for hit in _CLUSTER.finditer(text):
        size = len(normalised(hit[0]))
        starts += [hit.start()] * size
        ends += [hit.end()] * size
    return (starts, ends) if len(starts) == length else ([0] * length, [len(text)] * length)
