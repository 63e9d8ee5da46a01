"""The judge's process: runs the tests, and has the candidate's functions called in the candidate's own process.

No byte of the candidate's runs here. Its functions and classes are stand-ins (`wire.Remote`); what they return is data,
compared here. So a verdict can only be earned by giving the right answers.

What counts as a check: an `assert` that was reached (in straight-line test code it does not end the test when it fails,
so that later ones count as well), and a test function or method that has no `assert` of its own but called the
candidate. Found and run are: the asserts of the module itself, `check(candidate)`, functions `test_*`, methods `test*`
of classes `Test*` and of `unittest.TestCase`.

What is not covered, and said to be so rather than failed: fixtures and other help of pytest's, patching names inside
the candidate's module, deriving from its classes, coroutines, and comparing objects of its classes with plain data.
"""

import ast
import builtins
import contextlib
import os
import sys
import types
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingest.scorers.harness import codec, wire
else:
    import codec  # this file is started by path, where the product is not to be had
    import wire

TESTS = "tests.py"
MESSAGES = 10
EXPORTED_TYPES = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.GeneratorType)
PATCHES = ("unittest.mock", "mock", "subprocess", "multiprocessing", "asyncio", "socket")


class Unsupported(Exception):
    """The tests need something that cannot be done across two processes."""


class Ledger:
    """What was checked so far. `__judge__` in the rewritten tests."""

    catch = Exception

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.passed_checks = 0
        self.failed_checks = 0
        self.skipped = 0
        self.messages: list[str] = []
        self.unsupported: list[str] = []

    def passed(self) -> None:
        """One check held."""
        self.passed_checks += 1

    def failed(self, line: int, error: BaseException) -> None:
        """One check did not hold."""
        self.failed_checks += 1
        if len(self.messages) < MESSAGES:
            source = self.lines[line - 1].strip() if 0 < line <= len(self.lines) else ""
            said = "" if type(error) is AssertionError and not error.args else f" -> {type(error).__name__}: {error}"
            self.messages.append(f"line {line}: {source[:120]}{said[:200]}")

    def refuse(self, message: str) -> None:
        """Note what cannot be done, and stop this test."""
        if message not in self.unsupported:
            self.unsupported.append(message[:200])
        raise Unsupported(message)


class Rewriter(ast.NodeTransformer):
    """Makes every assert of the tests count, and go on after a failure where that changes nothing else."""

    def __init__(self) -> None:
        self.guarded = 0

    def visit_Assert(self, node: ast.Assert) -> ast.AST | list[ast.stmt]:
        """An assert, counted."""
        passed = _statement("__judge__.passed()")
        if self.guarded:
            return [ast.copy_location(statement, node) for statement in (node, passed)]
        handler = ast.ExceptHandler(
            type=_expression("__judge__.catch"),
            name="__judge_error__",
            body=[_statement(f"__judge__.failed({node.lineno}, __judge_error__)")],
        )
        attempt = ast.Try(body=[node, passed], handlers=[handler], orelse=[], finalbody=[])
        return ast.fix_missing_locations(ast.copy_location(attempt, node))

    def guard(self, node: ast.AST) -> ast.AST:
        """Inside, a failing assert must go on to whoever is waiting for it."""
        self.guarded += 1
        self.generic_visit(node)
        self.guarded -= 1
        return node

    visit_Try = visit_TryStar = visit_With = visit_AsyncWith = guard  # noqa: N815  the names that ast asks for

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """In a class the method is the check, not the assert."""
        return node


def _statement(source: str) -> ast.stmt:
    return ast.parse(source).body[0]


def _expression(source: str) -> ast.expr:
    return ast.parse(source, mode="eval").body


def serve(ledger: Ledger) -> Callable[[str, list[Any]], Any]:
    """What the candidate may ask of the tests' objects: to call them, to walk them, to read and set public fields."""

    def answer(operation: str, arguments: list[Any]) -> Any:
        subject, *rest = arguments
        if operation == "call":
            return subject(*rest[0], **rest[1])
        if operation in ("getattr", "setattr"):
            if str(rest[0]).startswith("_") or isinstance(subject, (*EXPORTED_TYPES, type, types.ModuleType)):
                raise AttributeError(f"{rest[0]!r} of the tests' object is not to be had")
            return getattr(subject, rest[0]) if operation == "getattr" else setattr(subject, rest[0], rest[1])
        simple: dict[str, Callable[..., Any]] = {
            "len": len,
            "iter": iter,
            "next": next,
            "bool": bool,
            "str": str,
            "repr": repr,
            "hash": hash,
            "eq": lambda left, right: left == right,
            "lt": lambda left, right: left < right,
            "gt": lambda left, right: left > right,
            "getitem": lambda box, key: box[key],
            "contains": lambda box, item: item in box,
            "isinstance": isinstance,
        }
        if operation not in simple:
            ledger.refuse(f"the candidate needs {operation!r} of an object of the tests'")
        return simple[operation](subject, *rest)

    return answer


def describe(ledger: Ledger, namespace: dict[str, Any]) -> Callable[[object], tuple[str, tuple[Any, ...]]]:
    """What an object of the tests' is, if the candidate may have it at all."""

    def answer(value: object) -> tuple[str, tuple[Any, ...]]:
        kind = value if isinstance(value, type) else type(value)
        iterator = isinstance(value, Iterator) and kind.__module__ in ("builtins", "itertools")
        if not (isinstance(value, EXPORTED_TYPES) or kind.__module__ == namespace["__name__"] or iterator):
            ledger.refuse(f"an object of type {kind.__module__}.{kind.__name__} is handed to the candidate")
        return "object", (kind.__name__, False, None, True)

    return answer


class Tests:
    """The tests of one task, and the candidate that they are run against."""

    def __init__(self, orders: dict[str, Any]) -> None:
        self.entry_point = orders["entry_point"]
        self.source = orders["tests"]
        self.ledger = Ledger(self.source.splitlines())
        self.namespace: dict[str, Any] = {"__name__": "tests", "__judge__": self.ledger}
        self.link = wire.Link(
            orders["connection"], serve(self.ledger), describe(self.ledger, self.namespace), self.ledger.refuse
        )
        self.link.print = lambda text: sys.stdout.write(text)  # noqa: PLW0108  whatever stdout is by then
        self.names: dict[str, str] = {}
        self.state, self.message = "gone", ""
        self.tests_error = ""
        self.prepared_classes: set[type] = set()
        self.called_names: set[str] = set()
        self.given, self.asked_for = starter_names(orders["starter_code"], self.entry_point)

    def run(self) -> None:
        """Load the candidate, then run everything."""
        self.state, self.message, names = self.link.do("load")
        self.names = {str(name): str(module) for name, module in names}
        if self.state != "loaded":
            return
        if self.entry_point and self.entry_point not in self.names:
            self.state, self.message = "undefined", f"{self.entry_point} is not defined"
            return
        module = self.prepared()
        if module is None:
            return
        self.unit(lambda: exec(module, self.namespace))  # noqa: S102  this process is there for it
        for test in self.found():
            self.unit(test)

    def prepared(self) -> types.CodeType | None:
        """The tests, compiled, with the candidate's names that they use in their namespace."""
        try:
            tree = ast.parse(self.source)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            self.tests_error = f"the tests do not compile: {error}"
            return None
        self.called_names = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        bound = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        tree.body = [self.imported(statement) for statement in tree.body]
        if self.tests_error:
            return None
        self.namespace |= {name: self.given[name] for name in used & self.given.keys()}
        for name in sorted(name for name in used & self.names.keys() if self.is_the_candidates(name)):
            self.namespace.setdefault(name, self.value_of(name))
        if "candidate" in used - bound and self.entry_point:
            self.namespace.setdefault("candidate", self.value_of(self.entry_point))
        rewritten = ast.fix_missing_locations(Rewriter().visit(tree))
        return compile(rewritten, TESTS, "exec")

    def imported(self, statement: ast.stmt) -> ast.stmt:
        """An import of the tests; one of the candidate's module becomes that of a stand-in."""
        if isinstance(statement, ast.Import):
            wanted = [alias.name for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom) and not statement.level:
            wanted = [statement.module or ""]
        else:
            return statement
        for name in wanted:
            top = name.split(".")[0]
            if name in PATCHES or top in PATCHES:
                self.tests_error = f"the tests use {name}, which needs the candidate in their own process"
            elif top not in sys.stdlib_module_names and name not in sys.modules:
                self.stand_in_module(name, statement)
        return statement

    def stand_in_module(self, name: str, statement: ast.stmt) -> None:
        """Let a module that is not there be the candidate's, if the candidate has what is asked of it."""
        asked = [alias.name for alias in statement.names] if isinstance(statement, ast.ImportFrom) else []
        missing = [one for one in asked if one != "*" and one not in self.names]
        if missing or "." in name or name in ("pytest", "numpy", "pandas", "hypothesis", "torch"):
            self.tests_error = f"the tests need the module {name}, which the sandbox does not have"
            return
        module = types.ModuleType(name)
        for one in self.names:
            if one in asked or (self.is_the_candidates(one) and not one.startswith("_")):
                setattr(module, one, self.value_of(one))
        sys.modules[name] = module

    def is_the_candidates(self, name: str) -> bool:
        """Whether the tests mean the candidate's by a name: not where the starter code or Python has given it already.

        A candidate's own `abs`, or its own version of a function that the tests check with, would decide.
        """
        if name == self.entry_point or name in self.asked_for:
            return True
        return not (name.startswith("__") or name in self.given or hasattr(builtins, name))

    def value_of(self, name: str) -> Any:
        """A name of the candidate's: data, a stand-in, or this process's own module of that name."""
        if name in sys.stdlib_module_names and (self.names[name] or name not in self.called_names):
            return __import__(name)
        return self.link.do("name", name)

    def unit(self, test: Callable[[], object]) -> None:
        """Run one test; what it raises is one failed check."""
        ledger, asked = self.ledger, self.link.asked
        before = ledger.passed_checks + ledger.failed_checks + ledger.skipped
        try:
            test()
        except wire.Gone:
            raise
        except BaseException as error:  # noqa: BLE001  a test that exits has failed as well
            ledger.failed(_line_of(error), error)
            return
        silent = before == ledger.passed_checks + ledger.failed_checks + ledger.skipped
        if silent and self.link.asked > asked:
            ledger.passed()

    def found(self) -> Iterator[Callable[[], object]]:
        """The test functions and methods that the tests define, in the order of the text."""
        own = [value for value in self.namespace.values() if getattr(value, "__module__", "") == "tests"]
        calls_itself = any(
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "check"
            for statement in ast.parse(self.source).body
            if not isinstance(statement, ast.FunctionDef)
            for node in ast.walk(statement)
        )
        for value in own:
            if isinstance(value, types.FunctionType):
                if value.__name__ == "check" and self.entry_point and not calls_itself:
                    yield partial(self.checked, value)
                elif value.__name__.startswith("test"):
                    yield partial(self.called, value)
            elif isinstance(value, type):
                yield from self.methods(value)

    def checked(self, check: Callable[[Any], object]) -> None:
        """Call `check` with the entry point."""
        check(self.value_of(self.entry_point))

    def called(self, test: Any) -> None:
        """Call a test that takes nothing."""
        code = test.__code__
        if code.co_argcount - len(test.__defaults__ or ()) > (1 if isinstance(test, types.MethodType) else 0):
            self.ledger.refuse(f"{test.__name__} takes fixtures")
        if code.co_flags & 0x80:
            self.ledger.refuse(f"{test.__name__} is a coroutine")
        test()

    def methods(self, kind: type) -> Iterator[Callable[[], object]]:
        """The tests of one class."""
        unittest = sys.modules.get("unittest")
        names = [name for name in dir(kind) if name.startswith("test")]
        if unittest is not None and issubclass(kind, unittest.TestCase):
            for name in names:
                yield partial(self.case, kind, name)
        elif kind.__name__.startswith("Test"):
            for name in names:
                yield partial(self.method, kind, name)

    def method(self, kind: type, name: str) -> None:
        """One test of a plain class."""
        instance = kind()
        for prepare in ("setup_method", "setUp"):
            getattr(instance, prepare, lambda: None)()
        self.called(getattr(instance, name))

    def case(self, kind: Any, name: str) -> None:
        """One test of a unittest.TestCase."""
        result = sys.modules["unittest"].TestResult()
        case = kind(name)
        if kind not in self.prepared_classes:
            self.prepared_classes.add(kind)
            kind.setUpClass()
        case.run(result)
        self.ledger.skipped += len(result.skipped)
        problems = [*result.failures, *result.errors]
        if problems:
            raise AssertionError(f"{case.id()}: {problems[0][1].strip().splitlines()[-1]}")
        if result.unexpectedSuccesses:
            raise AssertionError(f"{case.id()}: succeeded unexpectedly")


def starter_names(text: str, entry_point: str) -> tuple[dict[str, Any], set[str]]:
    """What the starter code gives: its imports, constants and whole functions, run here; and what it asks for.

    Asked for are the functions that have no body yet, and all classes, whose instances live with the candidate. The
    starter code is the task's, as the tests are.
    """
    for whole in (text, text.rstrip() + "\n    pass\n"):
        try:
            tree = ast.parse(whole)
            break
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    else:
        return {}, set()
    asked_for = {entry_point}
    kept: list[ast.stmt] = []
    for statement in tree.body:
        if isinstance(statement, ast.ClassDef) or (isinstance(statement, ast.FunctionDef) and is_stub(statement)):
            asked_for.add(statement.name)
        elif isinstance(statement, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.Assign | ast.AnnAssign):
            kept.append(statement)
    given: dict[str, Any] = {"__name__": "starter"}
    for statement in kept:
        # One by one: what needs a class of the candidate's, or a package that is not here, is not given.
        with contextlib.suppress(Exception):
            exec(compile(ast.Module([statement], []), "starter.py", "exec"), given)  # noqa: S102  the task's own code
    return {name: value for name, value in given.items() if not name.startswith("__")}, asked_for - {""}


def is_stub(function: ast.FunctionDef) -> bool:
    """Whether a function is there to be written: nothing but a docstring, pass, ... or a raise."""
    return all(
        isinstance(statement, ast.Pass | ast.Raise)
        or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
        for statement in function.body
    )


def _line_of(error: BaseException) -> int:
    line, place = 0, error.__traceback__
    while place is not None:
        line = place.tb_lineno if place.tb_frame.f_code.co_filename == TESTS else line
        place = place.tb_next
    return line


def main() -> None:
    """Run the tests and send the parent what came of them."""
    with open("orders", "rb") as file:
        orders = codec.loads(file.read())
    data = codec.dumps(judged(orders))
    while data:
        data = data[os.write(orders["report"], data) :]


def judged(orders: dict[str, Any]) -> dict[str, Any]:
    """What comes of the tests, for the parent."""
    tests = Tests(orders)
    complete = False
    try:
        tests.run()
        complete = True
    except wire.Gone as gone:
        tests.message = tests.message or str(gone)
    finally:
        tests.link.close()
    ledger = tests.ledger
    return {
        "reported": True,
        "complete": complete,
        "state": tests.state,
        "message": str(tests.message)[:400],  # short enough for the pipe, which nobody reads before this process ends
        "tests_error": tests.tests_error[:400],
        "passed": ledger.passed_checks,
        "failed": ledger.failed_checks,
        "skipped": ledger.skipped,
        "asked": tests.link.asked,
        "messages": ledger.messages,
        "unsupported": ledger.unsupported[:MESSAGES],
    }
