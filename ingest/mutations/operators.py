"""The small changes that can be made to a Python text, each as a place in it and what is put there.

They are the usual mutation operators: another comparison, boolean or arithmetic operator, another constant, a range
one shorter, a negated condition, a lost return value, a removed statement, two arguments swapped. Places come from the
syntax tree, so nothing but the change differs, comments and layout included.
"""

import ast
import io
import tokenize
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "+"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
}
REMOVABLE = (ast.Expr, ast.Assign, ast.AugAssign, ast.Raise, ast.Break, ast.Continue, ast.Delete)
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Change(NamedTuple):
    """One change: the characters from `start` to `end` become `instead`. `line` is 1-based."""

    start: int
    end: int
    instead: str
    operator: str
    line: int

    def applied(self, text: str) -> str:
        """The changed text."""
        return text[: self.start] + self.instead + text[self.end :]


class Part(NamedTuple):
    """A stretch of a text, in whole lines, by its characters and its first line."""

    start: int
    end: int


class Source:
    """A Python text with its tree and its tokens. Raises SyntaxError, ValueError or TokenError without."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tree = ast.parse(text)
        # Lines as Python counts them, which is not as str.splitlines does.
        self.lines = [line.encode() for line in io.StringIO(text, newline="")]
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line.decode()))
        self.tokens = [
            (self.starts[token.start[0] - 1] + token.start[1], token.string)
            for token in tokenize.generate_tokens(io.StringIO(text, newline="").readline)
            if token.type in (tokenize.OP, tokenize.NAME)
        ]

    def place(self, line: int, column: int) -> int:
        """The character at a line (1-based) and a column in UTF-8 bytes, as the tree has them."""
        return self.starts[line - 1] + len(self.lines[line - 1][:column].decode())

    def span(self, node: ast.AST) -> tuple[int, int]:
        """The characters of a node."""
        place: Any = node
        return self.place(place.lineno, place.col_offset), self.place(place.end_lineno, place.end_col_offset)

    def code(self, node: ast.AST) -> str:
        """The text of a node."""
        start, end = self.span(node)
        return self.text[start:end]

    def operator(self, after: int, before: int, words: str) -> tuple[int, int] | None:
        """Where an operator, of one or two words, stands between two places."""
        between = [(at, word) for at, word in self.tokens if after <= at < before and word not in "()"]
        if " ".join(word for _, word in between) != words:
            return None
        return between[0][0], between[-1][0] + len(between[-1][1])

    def part_of(self, start: int) -> Part:
        """The smallest function around a place, decorators included; outside of any, the statement of the module."""
        best: Part | None = None
        for node in ast.walk(self.tree):
            if isinstance(node, Function) or node in self.tree.body:
                place: Any = node
                first = min([place.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
                part = Part(self.starts[first - 1], self.starts[place.end_lineno])
                if part.start <= start < part.end and (best is None or part.end - part.start < best.end - best.start):
                    best = part
        return best or Part(0, len(self.text))


def changes(source: Source) -> Iterator[Change]:
    """Every change that these operators make of a text. Hardly any is no program: whoever tries one finds out."""
    for node in _walk(source.tree):
        yield from _of_node(source, node)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a tree, but for those in f-strings, whose places Python gives rightly since 3.12 alone."""
    yield node
    if not isinstance(node, ast.JoinedStr):
        for child in ast.iter_child_nodes(node):
            yield from _walk(child)


def _of_node(source: Source, node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.Compare):
        yield from _comparisons(source, node)
    elif isinstance(node, ast.BoolOp):
        yield from _boolean(source, node)
    elif isinstance(node, ast.BinOp):
        yield from _between(source, node.left, node.right, ARITHMETIC.get(type(node.op)), "arithmetic")
    elif isinstance(node, ast.AugAssign):
        known = ARITHMETIC.get(type(node.op))
        pair = (known[0] + "=", known[1] + "=") if known else None
        yield from _between(source, node.target, node.value, pair, "assignment")
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield _change(source, node, source.code(node.operand), "negation")
    elif isinstance(node, ast.Constant):
        yield from _constants(source, node)
    elif isinstance(node, ast.Call):
        yield from _calls(source, node)
    elif isinstance(node, ast.If | ast.While):
        yield _change(source, node.test, f"not ({source.code(node.test)})", "condition")
    elif isinstance(node, ast.Return) and node.value is not None and source.code(node.value) != "None":
        yield _change(source, node.value, "None", "return")
    if isinstance(node, REMOVABLE) and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
        yield _change(source, node, "pass", "removal")


def _change(source: Source, node: ast.AST, instead: str, operator: str) -> Change:
    start, end = source.span(node)
    return Change(start, end, instead, operator, getattr(node, "lineno", 1))


def _between(
    source: Source, left: ast.AST, right: ast.AST, pair: tuple[str, str] | None, operator: str
) -> Iterator[Change]:
    found = source.operator(source.span(left)[1], source.span(right)[0], pair[0]) if pair else None
    if pair and found:
        line = source.text.count("\n", 0, found[0]) + 1
        yield Change(*found, pair[1], operator, line)


def _comparisons(source: Source, node: ast.Compare) -> Iterator[Change]:
    for (left, right), one in zip(pairwise([node.left, *node.comparators]), node.ops, strict=True):
        yield from _between(source, left, right, COMPARISONS[type(one)], "comparison")


def _boolean(source: Source, node: ast.BoolOp) -> Iterator[Change]:
    pair = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
    for left, right in pairwise(node.values):
        yield from _between(source, left, right, pair, "boolean")


def _constants(source: Source, node: ast.Constant) -> Iterator[Change]:
    value = node.value
    if isinstance(value, bool):
        yield _change(source, node, str(not value), "constant")
    elif isinstance(value, int) and source.code(node).isdigit():
        yield _change(source, node, str(value + 1), "constant")
        if value > 0:
            yield _change(source, node, str(value - 1), "constant")


def _calls(source: Source, node: ast.Call) -> Iterator[Change]:
    arguments = node.args
    if any(isinstance(one, ast.Starred) for one in arguments):
        return
    if isinstance(node.func, ast.Name) and node.func.id == "range" and arguments:
        stop = arguments[0 if len(arguments) == 1 else 1]
        yield _change(source, stop, f"{source.code(stop)} - 1", "range")
    for first, second in pairwise(arguments):
        one, other = source.code(first), source.code(second)
        if one != other:
            (start, middle), (after, end) = source.span(first), source.span(second)
            swapped = other + source.text[middle:after] + one
            yield Change(start, end, swapped, "arguments", first.lineno)
