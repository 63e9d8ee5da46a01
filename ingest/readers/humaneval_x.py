"""HumanEval-X (THUDM/CodeGeeX), the Rust form: HumanEval's tasks with a declaration, a solution and tests in Rust.

A row is a task, or the published solution as evidence for it; the kind asked for says which. The declaration ends in
the brace that opens the function to be written, and the solution goes on from there.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ingest.readers.gsm8k import texts
from ingest.readers.humaneval import SPLIT, others, solution_of
from ingest.rows import Place, refuse

FIELDS = ("task_id", "prompt", "declaration", "canonical_solution", "test")
DROPPED = (*FIELDS, "example_test")  # a part of `test`, shown to a reader
FUNCTION = re.compile(r"\bfn\s+(\w+)")


def read(row: dict[str, Any], place: Place) -> Iterable[Mapping[str, Any]]:
    """One task a row, or the published solution of it."""
    task_id, prompt, declaration, solution, tests = texts(row, *FIELDS)
    if not task_id.startswith("Rust/"):
        raise refuse("unknown_value", f"task_id: {task_id!r:.60} is no task in Rust")
    head, _, rest = declaration.rpartition("{")
    function = FUNCTION.search(re.split("[{}]", head)[-1])
    if function is None or rest.strip():
        raise refuse("unknown_value", "declaration: does not end with the function to be written, as in 'fn f() {'")
    if place.kind == "evidence":
        return [solution_of(task_id, declaration, solution)]
    task = {
        "task_id": task_id,
        "language": "rust",
        "description": description(prompt),
        "starter_code": declaration,
        "tests": tests,
        "entry_point": function[1],
        "split": SPLIT,
        "solution": solution,
    }
    return [task | others(row, DROPPED)]


def description(prompt: str) -> str:
    """The words of a prompt, which is one comment."""
    text = prompt.strip().removeprefix("/*").removesuffix("*/")
    return "\n".join(line.strip() for line in text.strip().splitlines()).strip()
