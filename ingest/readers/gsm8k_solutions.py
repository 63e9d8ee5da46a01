"""GSM8K's example_model_solutions.jsonl: a question, a worked answer, and models' solutions with published verdicts.

A row is one task, a piece of evidence for each model, and a score for each; the kind asked for says which is made.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ingest.readers.gsm8k import task_id, texts
from ingest.rows import Place, Problem, Refused, refuse

MARK = "A:"
SCORER = "published"

Row = dict[str, Any]


def read(row: Row, place: Place) -> Iterable[Mapping[str, Any]]:
    """One task a row, or as many pieces of evidence or scores as models answered it."""
    question, worked = texts(row, "question", "ground_truth")
    if MARK not in worked:
        raise refuse("unknown_value", f"ground_truth: has no final answer after {MARK}")
    solutions = _solutions(row)
    task = task_id(question)
    if place.kind == "tasks":
        answer = worked.rpartition(MARK)[2].strip()
        return [{"task_id": task, "description": question, "answer": answer, "split": "test", "solution": worked}]
    if place.kind == "evidence":
        return [
            {
                "run_id": f"{task}:{model}",
                "task_id": task,
                "kind": "completion",
                "role": "executor",
                "model": model,
                "prompt": question,
                "text": solution,
            }
            for model, solution, _ in solutions
        ]
    return [
        {
            "run_id": f"{task}:{model}",
            "task_id": task,
            "scorer": SCORER,
            "scorer_version": "1",
            "category": "accepted" if correct else "rejected",
            "score": float(correct),
            "reasons": ["published as correct" if correct else "published as wrong"],
        }
        for model, _, correct in solutions
    ]


def _solutions(row: Row) -> list[tuple[str, str, bool]]:
    """Model, solution and verdict, for each model of a row. Raises Refused."""
    problems: list[Problem] = []
    found = list(_of_models(row, problems))
    if not found and not problems:
        problems.append(Problem("missing_field", "no model has a solution in this row"))
    if problems:
        raise Refused(problems)
    return found


def _of_models(row: Row, problems: list[Problem]) -> Iterator[tuple[str, str, bool]]:
    for model, said in row.items():
        if model in ("question", "ground_truth"):
            continue
        if not isinstance(said, dict):
            problems.append(Problem("wrong_type", f"{model}: must be an object of solution and is_correct"))
        elif not isinstance(said.get("solution"), str):
            problems.append(Problem("wrong_type", f"{model}.solution: must be text"))
        elif not isinstance(said.get("is_correct"), bool):
            problems.append(Problem("wrong_type", f"{model}.is_correct: must be true or false"))
        else:
            yield model, said["solution"], said["is_correct"]
