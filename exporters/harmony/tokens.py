r"""The special tokens of o200k_harmony, and Harmony as a sequence of them and of ordinary text.

As tokens, text can hold whatever it likes: `encode` gives special ids for special segments alone. As one string it
cannot, because a tokenizer that reads `<|end|>` in a text takes it for the token. There, what looks like a special
token gets a backslash behind its first character, `<\|end|>`, and what already looks so gets one more; `split` takes
one off.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

# https://github.com/openai/harmony, docs/format.md and the encoding o200k_harmony.
SPECIAL = {
    "startoftext": 199998,
    "endoftext": 199999,
    "return": 200002,
    "constrain": 200003,
    "channel": 200005,
    "start": 200006,
    "end": 200007,
    "message": 200008,
    "call": 200012,
}
_NAMES = {number: name for name, number in SPECIAL.items()}
_FIRST, _LAST = 199998, 201088  # every id in between is special: those without a name are reserved

_NAMED = rf"(?:{'|'.join(SPECIAL)}|endofprompt|reserved_\d+)"
_TOKEN = re.compile(rf"<\|({'|'.join(SPECIAL)})\|>")
_LIKE = re.compile(rf"<(\\*)(\|{_NAMED}\|>)")
_ESCAPED = re.compile(rf"<\\(\\*\|{_NAMED}\|>)")


class Segment(NamedTuple):
    """A special token by its name, such as `end`, or ordinary text, just as it is meant."""

    text: str
    special: bool = False

    def __str__(self) -> str:
        return f"<|{self.text}|>" if self.special else escaped(self.text)


def special(name: str) -> Segment:
    """The special token of this name, one of SPECIAL."""
    return Segment(name, special=True)


def escaped(text: str) -> str:
    """Text in which nothing is a special token any more."""
    return _LIKE.sub(r"<\1\\\2", text)


def unescaped(text: str) -> str:
    """The text that `escaped` made this of."""
    return _ESCAPED.sub(r"<\1", text)


def text_of(segments: Iterable[Segment]) -> str:
    """The segments as one string, which `split` takes apart again."""
    return "".join(map(str, segments))


def split(text: str) -> list[Segment]:
    """The special tokens and texts that a string is made of. Empty texts are left out."""
    found: list[Segment] = []
    # Every other piece is the name of a special token.
    for number, piece in enumerate(_TOKEN.split(text)):
        if number % 2:
            found.append(special(piece))
        elif piece:
            found.append(Segment(unescaped(piece)))
    return found


def encode(segments: Iterable[Segment], ordinary: Callable[[str], Sequence[int]]) -> list[int]:
    """The ids of the segments.

    `ordinary` encodes text and knows no special token, such as `tiktoken`'s `encode_ordinary`. Raises ValueError if it
    gives the id of one all the same.
    """
    ids: list[int] = []
    for segment in segments:
        made = [SPECIAL[segment.text]] if segment.special else list(ordinary(segment.text))
        if not segment.special and any(_FIRST <= number <= _LAST for number in made):
            raise ValueError(f"ordinary text was encoded as a special token: {segment.text[:60]!r}")
        ids += made
    return ids


def from_ids(ids: Iterable[int], decode: Callable[[list[int]], str]) -> list[Segment]:
    """The segments that these ids are. `decode` makes text of ids that are not special.

    Raises ValueError for a reserved id.
    """
    return list(_from_ids(ids, decode))


def _from_ids(ids: Iterable[int], decode: Callable[[list[int]], str]) -> Iterator[Segment]:
    waiting: list[int] = []
    for number in ids:
        if not _FIRST <= number <= _LAST:
            waiting.append(number)
            continue
        if number not in _NAMES:
            raise ValueError(f"{number} is a reserved token, and Harmony has no use for it")
        if waiting:
            yield Segment(decode(waiting))
            waiting = []
        yield special(_NAMES[number])
    if waiting:
        yield Segment(decode(waiting))
