"""HumanEval (openai/human-eval): a Python function to be written, its published solution, and its tests.

A row is a task, or the published solution as evidence for it; the kind asked for says which. Such tasks are there to
measure with, so their split is `test` unless the row says another.
"""

import ast
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from ingest.readers.gsm8k import texts
from ingest.rows import Place, refuse

SPLIT = "test"
STREAM = "published-solutions"
FIELDS = ("task_id", "prompt", "entry_point", "canonical_solution", "test")

Row = dict[str, Any]


def read(row: Row, place: Place) -> Iterable[Mapping[str, Any]]:
    """One task a row, or the published solution of it."""
    task_id, prompt, entry_point, solution, tests = texts(row, *FIELDS)
    asked = function_asked_for(prompt, entry_point)
    if place.kind == "evidence":
        return [solution_of(task_id, prompt, solution)]
    task = {
        "task_id": task_id,
        "language": "python",
        "description": words(asked) or prompt.strip(),
        "starter_code": prompt,
        "tests": tests,
        "entry_point": entry_point,
        "split": SPLIT,
        "solution": solution,
    }
    return [task | others(row, FIELDS)]


def function_asked_for(prompt: str, entry_point: str) -> ast.FunctionDef:
    """The function that a prompt begins: a program but for the body of its last function. Raises Refused."""
    try:
        tree = ast.parse(prompt.rstrip() + "\n    pass\n")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        said = str(error) or "it nests too deeply"
        raise refuse("unknown_value", f"prompt: is no beginning of a Python program: {said}") from None
    found = [one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == entry_point]
    if not found:
        raise refuse("unknown_value", f"entry_point: the prompt defines no function {entry_point!r:.60}")
    return found[-1]


def words(function: ast.FunctionDef) -> str:
    """What a function says of itself: the first text in it, which an import may come before."""
    found = (
        one.value.value for one in function.body if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant)
    )
    return inspect.cleandoc(next((text for text in found if isinstance(text, str)), "")).strip()


def solution_of(task_id: str, prompt: str, solution: str) -> Row:
    """A published solution as evidence: the continuation of its task's starter code."""
    return {
        "run_id": f"{task_id}:published",
        "task_id": task_id,
        "kind": "completion",
        "role": "executor",
        "stream": STREAM,
        "prompt": prompt,
        "text": solution,
    }


def others(row: Row, used: Iterable[str]) -> Row:
    """What a row has beside the fields that were read; it is kept as it is."""
    return {name: value for name, value in row.items() if name not in used}
