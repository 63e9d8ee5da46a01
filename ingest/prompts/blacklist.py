"""Words and patterns that no prompt of a pool may have, one a line of a text file.

    # what follows a '#' at the start of a line is a comment
    some word
    /a (regular)? expression/

A word, or several in a row, is found as words: whatever the case, and not inside of a longer one. In a script without
spaces each character is a word, so such a text is found anywhere. An expression is Python's, searched without regard to
case in the text as it is.
"""

import re
from pathlib import Path
from typing import Self

from ingest.annotators.text import words
from ingest.scorers.configuration import BadConfiguration, content


class Blacklist:
    """Words and patterns; none at all by default. `said` is their canonical text."""

    def __init__(self, phrases: tuple[tuple[str, ...], ...] = (), patterns: tuple[re.Pattern[str], ...] = ()) -> None:
        self._words = frozenset(phrase[0] for phrase in phrases if len(phrase) == 1)
        # What several words begin with, so that a text is gone through once.
        self._phrases: dict[str, list[tuple[str, ...]]] = {}
        for phrase in sorted(set(phrases)):
            if len(phrase) > 1:
                self._phrases.setdefault(phrase[0], []).append(phrase)
        self._patterns = patterns
        lines = {" ".join(phrase) for phrase in phrases} | {f"/{pattern.pattern}/" for pattern in patterns}
        self.said = "\n".join(sorted(lines))

    @classmethod
    def read(cls, path: Path) -> Self:
        """The blacklist in a file. Raises BadConfiguration, with the line."""
        phrases, patterns = [], []
        text = content(path, "a blacklist")
        for number, line in enumerate(text.split("\n"), 1):
            entry = line.strip()
            if not entry or entry.startswith("#"):
                continue
            if len(entry) > 2 and entry.startswith("/") and entry.endswith("/"):
                patterns.append(_compiled(entry[1:-1], f"{path}, line {number}"))
            elif found := words(entry):
                phrases.append(tuple(found))
            else:
                raise BadConfiguration(
                    f"{path}, line {number}: {entry!r:.60} has no word", "write /an expression/ for what is no word"
                )
        return cls(tuple(phrases), tuple(patterns))

    def has(self, text: str, found: list[str]) -> bool:
        """Whether a text, of these words, has any of them."""
        return (
            not self._words.isdisjoint(found)
            or (self._patterns != () and any(pattern.search(text) for pattern in self._patterns))
            or (self._phrases != {} and self._has_phrase(found))
        )

    def _has_phrase(self, found: list[str]) -> bool:
        return any(
            tuple(found[place : place + len(phrase)]) == phrase
            for place, word in enumerate(found)
            for phrase in self._phrases.get(word, ())
        )


def _compiled(pattern: str, where: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise BadConfiguration(f"{where}: no regular expression: {error}", "mend it, or escape its signs") from None
