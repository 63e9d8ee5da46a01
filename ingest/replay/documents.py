"""Cuts a Markdown document into sections.

There are two ways to write one. A document with fence lines (`::prose::`, `::instruction::`, `::preference::`) is cut
at them alone; what comes before the first is prose. Any other is cut where it changes: a `### Q` begins an instruction,
a `### Prompt` a preference, a heading of the first or second level begins prose, and each lasts until the next of
these. What is in a fenced code block begins nothing. The front matter (`---` to `---`, at the top), and prose that is
nothing but headings, are no sections.

Each section keeps the line on which it begins, so that what is wrong with one is said with the document's own line.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from ingest.replay.provenance import marked
from ingest.replay.sections import INSTRUCTION, PREFERENCE, CodeBlocks, header_of, normalised, trimmed

_EXPLICIT = re.compile(r"::(prose|instruction|preference)::[ \t]*")
_CHAPTER = re.compile(r" {0,3}#{1,2}(?:[ \t].*)?")
_HEADING = re.compile(r" {0,3}#{1,6}(?:[ \t].*)?")
# On the way from prose to a section: also headers that lack their space or have a colon, so that they are told of.
_BEGINS = re.compile(r" {0,3}###[ \t]*(Q|A|Prompt|Chosen|Rejected)(?:[ \t]+!probe)?[ \t]*[:.]?[ \t]*")


class Found(NamedTuple):
    """A section as a document has it: `line` is the 1-based line of its first one, `mined` what its marker says."""

    section_type: str
    content: str
    line: int
    mined: dict[str, object]


class _Part:
    def __init__(self, section_type: str, mined: dict[str, object] | None = None) -> None:
        self.section_type = section_type
        self.mined = mined or {}
        self.lines: list[tuple[int, str]] = []

    def found(self) -> Iterator[Found]:
        """The section that this part is, if there is any text in it."""
        content = trimmed("\n".join(line for _, line in self.lines))
        if self.section_type == "prose":
            spoken = (line for _, line in self.lines if line.strip() and not _HEADING.fullmatch(line))
            if next(spoken, None) is None:
                return
        elif not content and not self.mined:
            return
        first = next((number for number, line in self.lines if line.strip()), 1)
        yield Found(self.section_type, content, first, self.mined)


def sections_of(text: str) -> Iterator[Found]:
    """The sections of a document, in order. Whether one is sound, `sections.rows_of` says."""
    lines = list(enumerate(normalised(text).split("\n"), 1))
    lines = lines[_front_matter([line for _, line in lines]) :]
    explicit = _has_fences(lines)
    code = CodeBlocks()
    part = _Part("prose")
    for number, line in lines:
        following = None if code.holds(line) else _next(line, part, explicit=explicit)
        if following is not None:
            yield from part.found()
            part = following
            if _EXPLICIT.fullmatch(line) or part.mined:
                continue
        elif explicit and (mined := marked(line)) is not None and not any(said.strip() for _, said in part.lines):
            part.mined = mined
            continue
        part.lines.append((number, line))
    yield from part.found()


def _has_fences(lines: list[tuple[int, str]]) -> bool:
    code = CodeBlocks()
    return any(not code.holds(line) and _EXPLICIT.fullmatch(line) for _, line in lines)


def _next(line: str, part: _Part, *, explicit: bool) -> _Part | None:
    """The part that a line begins, None if it goes on with the one at hand."""
    if explicit:
        fence = _EXPLICIT.fullmatch(line)
        return _Part(fence[1]) if fence else None
    if (mined := marked(line)) is not None:
        return _Part("preference", mined)
    if _CHAPTER.fullmatch(line):
        return _Part("prose")
    named = header_of(line)
    if named is None and part.section_type == "prose" and (found := _BEGINS.fullmatch(line)):
        named = found[1]
    for section_type, headers in (("instruction", INSTRUCTION), ("preference", PREFERENCE)):
        if named in headers and part.section_type != section_type:
            return _Part(section_type)
    return None


def _front_matter(lines: list[str]) -> int:
    """How many lines the front matter takes: 0 where there is none, or it does not end."""
    if lines[0].rstrip() != "---":
        return 0
    ends = (place for place, line in enumerate(lines[1:], 2) if line.rstrip() in ("---", "..."))
    return next(ends, 0)
