"""A lake of word problems that were answered, right and wrong."""

from typing import Any

from cli.sample import sums
from ingest.readers.gsm8k import task_id
from lake import Lake


def source(line: int) -> dict[str, Any]:
    """Where a row comes from."""
    return {"file": "answers.jsonl", "line": line + 1, "sha256": "0" * 64}


def filled(lake: Lake, problems: list[dict[str, str]]) -> None:
    """Append answers to problems, right and wrong, with the verdicts that they deserve, and one document each."""
    right = {problem["question"]: problem["answer"] for problem in problems}
    told = [(answer, answer["answer"] == right[answer["question"]]) for answer in sums.attempts(problems)]
    evidence: list[dict[str, Any]] = []
    scores = []
    for line, (answer, good) in enumerate(told):
        task = task_id(answer["question"])
        name = {"run_id": f"{answer['model']}:{task}", "task_id": task}
        said = {"kind": "completion", "role": "executor", "model": answer["model"], "source": source(line)}
        evidence.append({**name, **said, "prompt": answer["question"], "text": answer["answer"]})
        category = "accepted" if good else "rejected"
        scores.append({**name, "scorer": "tests", "scorer_version": "1", "category": category, "score": float(good)})
    for line, problem in enumerate(problems, len(told)):
        name = {"run_id": f"document-{line}", "task_id": f"document-{line}"}
        said = {"kind": "document", "role": "other", "source": source(line)}
        evidence.append({**name, **said, "text": f"{problem['question']}\n{problem['answer']}"})
    lake.append("evidence", evidence, producer="test", sequence=1)
    lake.append("scores", scores, producer="test", sequence=1)
