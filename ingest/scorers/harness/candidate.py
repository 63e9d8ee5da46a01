"""The candidate's process: runs the candidate's code and does what the judge asks of it.

Nothing here is to be trusted once the candidate's code has run, and nothing is: the judge takes answers, checks them in
its own process, and treats everything unexpected as the candidate's end.
"""

import ast
import contextlib
import copy
import io
import operator
import os
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingest.scorers.harness import codec, wire
else:
    import codec  # this file is started by path, where the product is not to be had
    import wire

PRINTED_CHARACTERS = 1 << 20
MODULE = "solution"


class Printed(io.TextIOBase):
    """A stdout that keeps what is printed until the next answer takes it to the judge; what is too much is lost."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.length = 0

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, text: str) -> int:
        """Keep a text."""
        if self.length < PRINTED_CHARACTERS:
            self.parts.append(text[: PRINTED_CHARACTERS - self.length])
            self.length += len(self.parts[-1])
        return len(text)

    def taken(self) -> str:
        """What was printed since the last time."""
        text = "".join(self.parts)
        self.parts, self.length = [], 0
        return text


def composed(starter: str, code: str, entry_point: str) -> str:
    """The program: the candidate's code, after the task's starter code or as its continuation.

    The first of these that is a program and defines the entry point: the starter code followed by the code (which may
    define everything again); the starter code continued by the code, also where its first indentation was lost; the
    code alone. If none does, the code alone, whose error is then the candidate's.
    """
    unfinished = starter.rstrip() + "\n    pass\n"
    stripped = code.lstrip("\n")
    texts = [starter + "\n\n" + code, unfinished + "\n\n" + code] if defines(code, entry_point) else []
    if starter.strip():
        texts += [starter.rstrip("\n") + "\n" + stripped, starter.rstrip("\n") + "\n    " + stripped]
    texts.append(code)
    return next((text for text in texts if defines(text, entry_point)), code)


def defines(text: str, name: str) -> bool:
    """Whether a text is a program that gives `name` a meaning at its top level (any meaning, if no name is asked)."""
    try:
        tree = compile(text, MODULE, "exec", ast.PyCF_ONLY_AST)
        compile(text, MODULE, "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return not name or name in top_level_names(tree)


def top_level_names(tree: Any) -> set[str]:
    """The names that a module's own statements bind."""
    names = set()
    for statement in ast.walk(ast.Module(body=tree.body, type_ignores=[])):
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and statement in tree.body:
            names.add(statement.name)
        elif isinstance(statement, ast.alias):
            names.add((statement.asname or statement.name).split(".")[0])
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            names |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return names


def load(orders: dict[str, Any], module: types.ModuleType) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """Run the program: (state, message, its names), where state is loaded, syntax, missing or raised."""
    text = composed(orders["starter_code"], orders["code"], orders["entry_point"])
    try:
        program = compile(text, f"{MODULE}.py", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return "syntax", f"{type(error).__name__}: {error}", ()
    try:
        exec(program, vars(module))  # noqa: S102  this process is there for it
    except ModuleNotFoundError as error:
        known = (error.name or "").split(".")[0] in sys.stdlib_module_names
        return "raised" if known else "missing", f"{type(error).__name__}: {error}", ()
    except BaseException as error:  # noqa: BLE001  SystemExit and whatever else it likes to end with
        return "raised", f"{type(error).__name__}: {error}"[:400], ()
    names = [
        (name, value.__name__ if isinstance(value, types.ModuleType) else "")
        for name, value in list(vars(module).items())
        if not str(name).startswith("__")
    ]
    return "loaded", "", tuple(names)


def plain_value(value: object) -> tuple[bool, Any]:
    """The value that a subclass of a plain type adds something to."""
    if isinstance(value, dict):
        return True, dict(dict.items(value))
    kinds: tuple[Any, ...] = (tuple, list, set, frozenset, int, float, str, bytes)
    for kind in kinds:
        if isinstance(value, kind):
            return True, kind(value)
    return False, None


def describe(value: object) -> tuple[str, tuple[Any, ...]]:
    """What an object of the candidate's is."""
    if isinstance(value, type):
        return "class", (value.__name__, False, None, False)
    if isinstance(value, types.CoroutineType | types.AsyncGeneratorType):
        return "coroutine", (type(value).__name__, False, None, True)
    own_equality = type(value).__eq__ is not object.__eq__
    kind = "callable" if callable(value) else "object"
    return kind, (type(value).__name__, *plain_value(value), own_equality)


def operations(orders: dict[str, Any], module: types.ModuleType) -> dict[str, Any]:
    """What the judge may ask for."""
    table: dict[str, Any] = {
        "load": lambda: load(orders, module),
        "name": lambda name: getattr(module, name),
        "call": lambda function, arguments, named: function(*arguments, **named),
        "getattr": getattr,
        "setattr": setattr,
        "delattr": delattr,
        "contains": operator.contains,
        "getitem": operator.getitem,
        "setitem": operator.setitem,
        "delitem": operator.delitem,
        "eq": operator.eq,
        "hash": hash,
        "bool": bool,
        "copy": copy.copy,
        "deepcopy": copy.deepcopy,
        "dir": dir,
        "isinstance": isinstance,
        "issubclass": issubclass,
        "len": len,
        "str": str,
        "repr": repr,
        "iter": iter,
        "next": next,
        "reversed": reversed,
        "int": int,
        "float": float,
        "index": operator.index,
        "format": format,
        "round": round,
        "enter": lambda manager: type(manager).__enter__(manager),
        "exit": lambda manager: type(manager).__exit__(manager, None, None, None),
    }
    for name in (*wire.MIXED, *wire.SIGNS):
        table[name] = getattr(operator, f"__{name}__")
    for name in wire.REFLECTED:
        table[name] = lambda right, left, name=name: getattr(operator, f"__{name[1:]}__")(left, right)
    return table


def main() -> None:
    """Serve the judge until it has seen enough."""
    with open("orders", "rb") as file:
        orders = codec.loads(file.read())
    os.unlink("orders")
    printed = sys.stdout = Printed()
    module = sys.modules[MODULE] = types.ModuleType(MODULE)
    serve(orders, printed, module)
    # The judge has what it needs; threads of the candidate's, or its atexit, are of no interest.
    os._exit(0)


def serve(orders: dict[str, Any], printed: Printed, module: types.ModuleType) -> None:
    """Do what the judge asks until it closes the connection."""
    table = operations(orders, module)

    def refuse(message: str) -> None:
        raise TypeError(message)

    link = wire.Link(
        orders["connection"],
        serve=lambda operation, arguments: table[operation](*arguments),
        describe=describe,
        refuse=refuse,
    )
    link.printed = printed.taken
    try:
        with contextlib.suppress(wire.Gone):
            link.serve_forever()
    finally:
        link.close()
