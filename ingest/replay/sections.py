"""A section: its type, its content, the id that these two give it, and the rows that it holds.

    ### Q                      ### Prompt
    What is a lake?            Name a lake.
    ### A                      ### Chosen
    Still water.               Baikal.
                               ### Rejected
                               The Nile.

An instruction section is one or more questions with their answers, a preference section one or more triples, prose is
text. A header stands alone on its line; as in Markdown up to three spaces may precede it, four make it code. `### Q
!probe` is `### Q`. Blank lines within a body stay, around it they go. What the grammar cannot hold (a conversation of
several turns, a text that has a header's line in it) is one JSON object of the section's type instead.

The views expand a stored section by the same rules (`views/replay/replay_rows.sql`), so what passes here has the same
rows there.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from lake.kinds import SECTION_TYPES

Row = dict[str, Any]

INSTRUCTION, PREFERENCE = ("Q", "A"), ("Prompt", "Chosen", "Rejected")
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
ID_LENGTH = 16

_HEADER = re.compile(r" {0,3}### (Q|A|Prompt|Chosen|Rejected)(?:(?<=Q)[ \t]+!probe)?[ \t]*")
# What was meant as a header and is none: more on its line, another case, no space.
_MEANT = re.compile(
    r" {0,3}###[ \t]*(?:(?:Q|A|Question|Answer|Prompt|Chosen|Rejected)\b.*|(?i:q|a|prompt|chosen|rejected)[ \t:.]*)"
)
_FENCE = re.compile(r" {0,3}(?P<mark>`{3,}|~{3,})(?P<info>.*)")


class Malformed(Exception):
    """A section that breaks its grammar: a reason to count by, the 1-based line of the section, what is wrong there."""

    def __init__(self, reason: str, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}")
        self.reason = reason
        self.line = line
        self.message = message


class _Body(NamedTuple):
    header: str
    line: int
    text: str


def normalised(text: str) -> str:
    """A text as its id is made from it: without byte order marks before it, every line end a line feed."""
    return text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def section_id(section_type: str, content: str) -> str:
    """The first 16 hexadecimal digits of sha256(type, line feed, normalised content).

    Nothing else is in it: tags, weights and where a section was found do not make it another one.
    """
    return hashlib.sha256(f"{section_type}\n{normalised(content)}".encode()).hexdigest()[:ID_LENGTH]


def trimmed(text: str) -> str:
    """A text without the blank lines around it."""
    lines = text.split("\n")
    said = [place for place, line in enumerate(lines) if line.strip(" \t")]
    return "\n".join(lines[said[0] : said[-1] + 1]) if said else ""


def header_of(line: str) -> str | None:
    """The header that a line is: Q, A, Prompt, Chosen or Rejected."""
    found = _HEADER.fullmatch(line)
    return found[1] if found else None


def is_meant_as_header(line: str) -> bool:
    """Whether a line was meant as a header, although it is none."""
    return _MEANT.fullmatch(line) is not None and header_of(line) is None


class CodeBlocks:
    """Follows a Markdown text line by line, and says which lines are in a fenced code block."""

    def __init__(self) -> None:
        self._open: str | None = None

    def holds(self, line: str) -> bool:
        """Whether this line, the next one of the text, is code or the fence of a code block."""
        found = _FENCE.fullmatch(line)
        mark = found["mark"] if found else ""
        if self._open is None:
            if found and not (mark[0] == "`" and "`" in found["info"]):
                self._open = mark
                return True
            return False
        if found and mark[0] == self._open[0] and len(mark) >= len(self._open) and not found["info"].strip():
            self._open = None
        return True


def rows_of(section_type: str, content: str) -> list[Row]:
    """The rows that a section holds, in order. Raises Malformed.

    Prose is one `{text}`, an instruction `{messages}` for each question (and `tools` where it has some), a preference
    `{prompt, chosen, rejected}` for each triple. Texts are without the white space around them; JSON is as it came.
    """
    if section_type not in SECTION_TYPES:
        raise Malformed("bad_type", 1, f"there is no section type {section_type!r}")
    text = normalised(content)
    if section_type == "prose":
        if not text.strip():
            raise Malformed("empty_section", 1, "there is no text in it")
        return [{"text": text.strip()}]
    if text.lstrip().startswith("{"):
        return [_from_json(section_type, text)]
    if section_type == "instruction":
        return [_turns(question, answer) for question, answer in pairs(text)]
    return [dict(zip(("prompt", "chosen", "rejected"), triple, strict=True)) for triple in triples(text)]


def pairs(content: str) -> list[tuple[str, str]]:
    """The questions and answers of an instruction section. Raises Malformed."""
    found: list[tuple[str, str]] = []
    question: _Body | None = None
    for body in _bodies(content, INSTRUCTION, "no_pairs", "there is no '### Q' with its '### A' in it"):
        if body.header == "Q":
            if question is not None:
                raise Malformed(
                    "two_questions", body.line, f"a second '### Q' before the '### A' of line {question.line}"
                )
            question = body
            continue
        if question is None:
            raise Malformed("answer_without_question", body.line, "'### A' without a '### Q' before it")
        if not question.text:
            raise Malformed("empty_question", question.line, "there is no text under '### Q'")
        if not body.text:
            raise Malformed("empty_answer", body.line, "there is no text under '### A'")
        found.append((question.text, body.text))
        question = None
    if question is not None:
        raise Malformed("question_without_answer", question.line, "'### Q' without a '### A' after it")
    return found


def triples(content: str) -> list[tuple[str, str, str]]:
    """The prompts of a preference section, each with its chosen and its rejected response. Raises Malformed."""
    bodies = list(_bodies(content, PREFERENCE, "no_triples", "there is no '### Prompt' in it"))
    for place, body in enumerate(bodies):
        wanted = PREFERENCE[place % 3]
        if body.header != wanted:
            raise Malformed("out_of_order", body.line, f"'### {body.header}' where '### {wanted}' belongs")
        if not body.text:
            raise Malformed("empty_body", body.line, f"there is no text under '### {body.header}'")
    if len(bodies) % 3:
        wanted = PREFERENCE[len(bodies) % 3]
        raise Malformed("missing_header", bodies[-1].line, f"no '### {wanted}' after this '### {bodies[-1].header}'")
    texts = [body.text for body in bodies]
    return list(zip(texts[::3], texts[1::3], texts[2::3], strict=True))


def written(section_type: str, row: Row) -> str:
    """The content of a section that holds one row, of the columns that `rows_of` gives: the grammar, or else JSON."""
    if section_type == "prose":
        return trimmed(normalised(row["text"]))
    if section_type == "instruction":
        bodies = _two_turns(row)
    else:
        bodies = [row[name] for name in ("prompt", "chosen", "rejected")]
    if bodies is not None and all(isinstance(body, str) for body in bodies):
        headers = INSTRUCTION if section_type == "instruction" else PREFERENCE
        content = "\n".join(f"### {header}\n{body}" for header, body in zip(headers, bodies, strict=True))
        try:
            if rows_of(section_type, content) == [row]:
                return content
        except Malformed:
            # It holds a header's line, or is blank: JSON says it as it is, and is judged as such.
            pass
    return json.dumps(row, ensure_ascii=False, sort_keys=True)


def _bodies(content: str, headers: tuple[str, ...], none: str, message: str) -> Iterator[_Body]:
    """The headers with the texts under them. `none` and `message` are what to say if there are none."""
    code = CodeBlocks()
    header, begun, lines = "", 0, list[str]()
    for number, line in enumerate(content.split("\n"), 1):
        in_code = code.holds(line)
        found = header_of(line)
        if found in headers and in_code:
            raise Malformed("header_in_code", number, f"{line.strip()!r} in a code block: indent it by four spaces")
        if found in headers:
            if header:
                yield _Body(header, begun, "\n".join(lines).strip())
            header, begun, lines = found, number, []
        elif not in_code and (found or is_meant_as_header(line)):
            raise Malformed(
                "bad_header", number, f"{line.strip()!r} is no header of this section: {_expected(headers)}"
            )
        elif header:
            lines.append(line)
        elif line.strip():
            raise Malformed("bad_header", number, f"{line.strip()[:40]!r} before the first '### {headers[0]}'")
    if not header:
        raise Malformed(none, 1, message)
    yield _Body(header, begun, "\n".join(lines).strip())


def _expected(headers: tuple[str, ...]) -> str:
    return f"{', '.join(f'### {header}' for header in headers)} stand alone on their line"


def _turns(question: str, answer: str) -> Row:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def _two_turns(row: Row) -> list[Any] | None:
    """The question and answer of a row that is nothing more than these."""
    turns = row["messages"]
    if row.keys() != {"messages"} or [turn.get("role") for turn in turns] != ["user", "assistant"]:
        return None
    if any(turn.keys() != {"role", "content"} for turn in turns):
        return None
    return [turn["content"] for turn in turns]


def _from_json(section_type: str, text: str) -> Row:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Malformed("bad_json", 1, f"it begins like JSON and is none: {error}") from None
    if not isinstance(row, dict):
        raise Malformed("bad_json", 1, "a section as JSON is one object")
    if section_type == "instruction":
        messages = row.get("messages")
        if not (row.keys() <= {"messages", "tools"} and isinstance(messages, list) and messages):
            raise Malformed("bad_json", 1, "an instruction as JSON has 'messages', a list, and may have 'tools'")
        if not all(isinstance(turn, dict) and _is_turn(turn) for turn in messages):
            said = f"each message has a role ({', '.join(ROLES)}), and a content or tool_calls"
            raise Malformed("bad_json", 1, said)
        last = messages[-1]
        if last["role"] != "assistant" or not (_is_said(last.get("content")) or last.get("tool_calls") is not None):
            raise Malformed("bad_json", 1, "the last message of a conversation is the assistant's, and says something")
    elif row.keys() != {"prompt", "chosen", "rejected"} or not all(
        isinstance(value, str) and value.strip() for value in row.values()
    ):
        raise Malformed("bad_json", 1, "a preference as JSON has 'prompt', 'chosen' and 'rejected', texts all")
    return row


def _is_turn(turn: Row) -> bool:
    return turn.get("role") in ROLES and (turn.get("content") is not None or turn.get("tool_calls") is not None)


def _is_said(content: object) -> bool:
    return bool(content.strip() if isinstance(content, str) else content)
