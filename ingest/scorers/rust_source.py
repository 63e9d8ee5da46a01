"""Reads as much of a Rust program's text as is needed to join a candidate, its task's starter code and its tests.

It finds functions, their signatures, imports and tests by words and brackets, in a text whose comments and literals are
blanked out. It is no parser: what it does not understand it does not find, and the compiler has the last word.
"""

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

# One token that may hide brackets or words: the Rust Reference, "Tokens" and "Comments". What is not closed hides all
# the rest, so that each character is looked at once.
_HIDING = re.compile(
    r"""//[^\n]*
    | /\*
    | \b(?:b|c)?r(?P<hashes>\#*)".*?(?:"(?P=hashes)|\Z)
    | "(?:\\(?:.|\Z)|[^"\\])*(?:"|\Z)
    | '(?:\\(?:u\{[^}]*\}|x..|.)|[^'\\])'
    """,
    re.VERBOSE | re.DOTALL,
)
_FUNCTION = re.compile(r"\bfn\s+(\w+)")
_QUALIFIED = re.compile(r"\b(?:async|unsafe|extern|const)\s*$")
_IMPORT = re.compile(r"(?:\bpub(?:\s*\([^)]*\))?\s+)?\buse\s+(?:::\s*)?(\w+)[^;]*;")
_ATTRIBUTES = r"(?:#\s*\[[^\]]*\]\s*)+"
_TEST = re.compile(rf"(?P<attributes>{_ATTRIBUTES})(?:pub(?:\s*\([^)]*\))?\s+)?fn\s+(?P<name>\w+)\s*\(\s*\)")
_MODULE = re.compile(rf"(?P<attributes>{_ATTRIBUTES})?(?:pub(?:\s*\([^)]*\))?\s+)?\bmod\s+(?P<name>\w+)\s*\{{")
_TYPE = re.compile(rf"(?P<attributes>{_ATTRIBUTES})pub\s+(?:struct|enum)\s+(?P<name>\w+)")
_PAIRS = {"(": ")", "[": "]", "{": "}"}


class Function(NamedTuple):
    """A function of a program's top level: its name, where its item begins, its body's braces, and its type.

    `end` is None for a body that the text breaks off in. `pointer` is its type as a function pointer, None where it has
    none that can be written down: generics, `impl Trait`, `self`, or one that is async or unsafe.
    """

    name: str
    start: int
    body: int
    end: int | None
    pointer: str | None


class Test(NamedTuple):
    """A test: its path in the text's modules, and whether it holds by panicking."""

    path: str
    must_panic: bool
    ignored: bool


def masked(text: str) -> str:
    """The text with every comment, string and character blanked out; each character keeps its place."""
    parts: list[str] = []
    at = 0
    while match := _HIDING.search(text, at):
        end = _comment_end(text, match.start()) if match[0] == "/*" else match.end()
        parts += [text[at : match.start()], re.sub(r"[^\n]", " ", text[match.start() : end])]
        at = end
    return "".join((*parts, text[at:]))


def _comment_end(text: str, start: int) -> int:
    """Where a block comment ends, those inside it included."""
    depth = 0
    for mark in re.finditer(r"/\*|\*/", text[start:]):
        depth += 1 if mark[0] == "/*" else -1
        if not depth:
            return start + mark.end()
    return len(text)


def functions(text: str) -> list[Function]:
    """The functions that a program has at its top level."""
    plain = masked(text)
    depths = _depths(plain)
    found = []
    for match in _FUNCTION.finditer(plain):
        body = plain.find("{", match.end())
        if depths[match.start()] or body < 0:
            continue
        start = max(plain.rfind(mark, 0, match.start()) for mark in ";}") + 1
        end = _closing(plain, body)
        head = plain[start : match.start()]
        known = None if _QUALIFIED.search(head) else _pointer(plain, match.end(), body)
        found.append(Function(match[1], start, body, end, known))
    return found


def _depths(plain: str) -> list[int]:
    depths, depth = [], 0
    for character in plain:
        depth -= character == "}"
        depths.append(depth)
        depth += character == "{"
    return depths


def _closing(plain: str, opening: int) -> int | None:
    """Where the bracket that opens here is closed."""
    opener, depth = plain[opening], 0
    for place in range(opening, len(plain)):
        depth += (plain[place] == opener) - (plain[place] == _PAIRS[opener])
        if not depth:
            return place
    return None


def _pointer(plain: str, at: int, body: int) -> str | None:
    """The type of a function as a pointer, from the text between its name and its body."""
    generics, arguments = re.match(r"\s*(<[^()]*>)?\s*", plain[at:body]), 0
    lifetimes = ""
    if generics is not None:
        arguments = at + generics.end()
        lifetimes = (generics[1] or "")[1:-1]
    if arguments >= body or plain[arguments] != "(" or not all(one.strip()[:1] == "'" for one in _split(lifetimes)):
        return None
    end = _closing(plain, arguments)
    if end is None or re.search(r"\bimpl\b|\bwhere\b", plain[arguments:body]):
        return None
    types = []
    for parameter in _split(plain[arguments + 1 : end]):
        _, colon, kind = parameter.partition(":")
        if not colon or kind.startswith(":"):
            return None
        types.append(" ".join(kind.split()))
    bound = f"for<{lifetimes}> " if lifetimes else ""
    return f"{bound}fn({', '.join(types)}) {' '.join(plain[end + 1 : body].split())}".rstrip()


def _split(text: str) -> list[str]:
    """The parts between the commas that no bracket holds together."""
    parts, depth, start = [], 0, 0
    for place, character in enumerate(text):
        if character in "([<{":
            depth += 1
        elif character in ")]}" or (character == ">" and text[place - 1] not in "-="):
            depth -= 1
        elif character == "," and not depth:
            parts.append(text[start:place])
            start = place + 1
    return [part.strip() for part in (*parts, text[start:]) if part.strip()]


def imported(text: str, known: Collection[str]) -> dict[str, str]:
    """What a program imports at its top level from crates that are not known: each word of it, and its crate."""
    plain = masked(text)
    depths = _depths(plain)
    return {
        word: match[1]
        for match in _IMPORT.finditer(plain)
        if not depths[match.start()] and match[1] not in known
        for word in words(match[0]) - {"use", "pub", "crate", "self", "as"}
    }


def without_imports(text: str, roots: Iterable[str]) -> str:
    """The text without its imports of these crates; every line keeps its place."""
    plain, unwanted = masked(text), set(roots)
    for match in reversed(list(_IMPORT.finditer(plain))):
        if match[1] in unwanted:
            text = text[: match.start()] + re.sub(r"[^\n]", " ", match[0]) + text[match.end() :]
    return text


def plain_types(text: str) -> set[str]:
    """The public types of a program that are compared field by field: `==` is derived, and nothing has an `impl`."""
    plain = masked(text)
    if re.search(r"\b(?:impl|trait|macro_rules|type|union)\b", plain):
        return set()
    found = _TYPE.finditer(plain)
    return {match["name"] for match in found if re.search(r"\bderive\s*\([^)]*\bPartialEq\b", match["attributes"])}


def words(text: str) -> set[str]:
    """Every word of a program outside its comments and literals."""
    return set(re.findall(r"[^\W\d]\w*", masked(text)))


def called(text: str) -> set[str]:
    """The names that a program calls as functions."""
    return set(re.findall(r"(?<![.\w])(\w+)\s*\(", masked(text)))


def opened_tests(text: str) -> tuple[str, list[Test]]:
    """The tests' text, with all that they are in open to the rest of the program, and what tests there are.

    What marks them for another runner is blanked out. Without any, a `main` is the test. Lines keep their numbers.
    """
    plain = masked(text)
    modules = [(match, _closing(plain, match.end() - 1) or len(plain)) for match in _MODULE.finditer(plain)]
    edits: list[tuple[int, int, str]] = []
    found = []
    for match, _ in modules:
        edits.append((match.start(), match.end(), _lines(match) + f"pub(crate) mod {match['name']} {{"))
    marked = [match for match in _TEST.finditer(plain) if _has(match, "test")]
    for match in marked or re.finditer(r"(?P<attributes>)\bfn\s+(?P<name>main)\s*\(\s*\)", plain):
        inside = [module["name"] for module, end in modules if module.end() <= match.start() < end]
        name = match["name"] if marked else "tests_main"
        found.append(Test("::".join((*inside, name)), _has(match, "should_panic"), _has(match, "ignore")))
        edits.append((match.start(), match.end(), _lines(match) + f"pub(crate) fn {name}()"))
    for start, end, instead in sorted(edits, reverse=True):
        text = text[:start] + instead + text[end:]
    return text, found


def _has(match: re.Match[str], attribute: str) -> bool:
    return bool(re.search(rf"\[\s*{attribute}\b", match["attributes"] or ""))


def _lines(match: re.Match[str]) -> str:
    return "\n" * match[0].count("\n")


def unbalanced(text: str) -> int:
    """How many braces a text opens more than it closes."""
    plain = masked(text)
    return plain.count("{") - plain.count("}")
