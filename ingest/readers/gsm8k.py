"""Tasks of GSM8K's train.jsonl and test.jsonl: a question, and a worked answer that ends in `#### <answer>`.

The questions alone are prompts, too. A task's id is a function of its question, so `gsm8k_solutions` names the same
tasks.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from ingest.readers.prompts import prompt
from ingest.rows import Place, Problem, Refused, refuse

MARK = "####"


def read(row: dict[str, Any], place: Place) -> Iterable[Mapping[str, Any]]:
    """One task a row, or one prompt; its split is the file's name."""
    question, worked = texts(row, "question", "answer")
    if MARK not in worked:
        raise refuse("unknown_value", f"answer: has no final answer after {MARK}")
    split = PurePosixPath(place.file).name.split(".")[0]
    if place.kind == "prompts":
        return [prompt(question) | {"split": split, "task_id": task_id(question)}]
    task = {
        "task_id": task_id(question),
        "description": question,
        "answer": worked.rpartition(MARK)[2].strip(),
        "split": split,
        "solution": worked,
    }
    return [task | {name: value for name, value in row.items() if name not in ("question", "answer")}]


def task_id(question: str) -> str:
    """The id of the task that asks this question."""
    return f"gsm8k-{hashlib.sha256(question.encode()).hexdigest()[:16]}"


def texts(row: dict[str, Any], *names: str) -> list[str]:
    """The values of these keys, which must be text that is not blank. Raises Refused."""
    problems = []
    for name in names:
        value = row.get(name)
        if value is None:
            problems.append(Problem("missing_field", f"{name}: is missing"))
        elif not isinstance(value, str):
            problems.append(Problem("wrong_type", f"{name}: must be text"))
        elif not value.strip():
            problems.append(Problem("blank_field", f"{name}: is blank"))
    if problems:
        raise Refused(problems)
    return [row[name] for name in names]
