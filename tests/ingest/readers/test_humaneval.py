"""The readers of HumanEval, in Python and in Rust."""

import pytest

from ingest.readers import humaneval, humaneval_x
from ingest.rows import Place, Refused
from ingest.run import Options, ingest

PYTHON = {
    "task_id": "HumanEval/900",
    "prompt": 'from math import floor\n\n\ndef half(n: int) -> int:\n    """ Half of n,\n    rounded down.\n    """\n',
    "entry_point": "half",
    "canonical_solution": "    return floor(n / 2)\n",
    "test": "def check(candidate):\n    assert candidate(5) == 2\n",
}
RUST = {
    "task_id": "Rust/900",
    "prompt": "\n/*\n Half of n,\n    rounded down.\n    \n*/\n",
    "declaration": "\nuse std::cmp::max;\n\nfn half(n: i32) -> i32 {\n",
    "canonical_solution": "    n / 2\n}\n",
    "test": "\n#[cfg(test)]\nmod tests {\n    use super::*;\n"
    "    #[test]\n    fn halves() { assert_eq!(half(5), 2); }\n}\n",
    "example_test": "None",
}
FORMS = {"python": (humaneval, PYTHON, "prompt"), "rust": (humaneval_x, RUST, "declaration")}


def place(kind):
    return Place("f.jsonl", 1, "", kind, "jsonl")


@pytest.mark.parametrize("language", FORMS)
def test_a_row_is_a_task_and_its_published_solution(language):
    """The starter code is what the solution continues; the tests and the entry point are the row's; the split, test."""
    reader, row, starter = FORMS[language]
    (task,) = reader.read(row, place("tasks"))
    assert task["task_id"] == row["task_id"]
    assert (task["language"], task["entry_point"], task["split"]) == (language, "half", "test")
    assert (task["starter_code"], task["tests"]) == (row[starter], row["test"])
    assert task["description"] == "Half of n,\nrounded down."
    (run,) = reader.read(row, place("evidence"))
    assert (run["task_id"], run["text"]) == (row["task_id"], row["canonical_solution"])
    assert run["run_id"].startswith(row["task_id"])


@pytest.mark.parametrize(
    ("body", "said"),
    [("    import math\n    'Twice n.'\n", "Twice n."), ("    # Twice n.\n", "def twice(n):\n    # Twice n.")],
)
def test_a_description_is_found_wherever_it_stands(body, said):
    """The first text in the function describes it; where there is none, the starter code does."""
    prompt = "def twice(n):\n" + body
    (task,) = humaneval.read(PYTHON | {"prompt": prompt, "entry_point": "twice"}, place("tasks"))
    assert task["description"] == said


@pytest.mark.parametrize("language", FORMS)
def test_what_else_a_row_has_is_kept(language):
    """A split of the row's own counts, and a key that nobody knows travels along."""
    reader, row, _ = FORMS[language]
    (task,) = reader.read(row | {"split": "train", "level": 3}, place("tasks"))
    assert (task["split"], task["level"]) == ("train", 3)


@pytest.mark.parametrize("kind", ["tasks", "evidence"])
@pytest.mark.parametrize(
    ("language", "change"),
    [
        ("python", {"prompt": None}),
        ("python", {"test": "  "}),
        ("python", {"entry_point": 3}),
        ("python", {"entry_point": "double"}),
        ("python", {"prompt": "def half(n:"}),
        ("python", {"prompt": "(" * 5000}),
        ("rust", {"declaration": None}),
        ("rust", {"declaration": "fn half(n: i32) -> i32;"}),
        ("rust", {"declaration": "fn half(n: i32) -> i32 { n"}),
        ("rust", {"declaration": "fn half() {} struct Half {"}),
        ("rust", {"declaration": "fn " * 100_000}),
        ("rust", {"task_id": "Go/900"}),
        ("rust", {"test": 1}),
    ],
)
def test_a_row_of_another_shape_is_refused(language, change, kind):
    """No part of a row that is not understood is read."""
    reader, row, _ = FORMS[language]
    with pytest.raises(Refused):
        list(reader.read(row | change, place(kind)))


@pytest.mark.parametrize(
    ("reader", "file"), [("humaneval", "HumanEval.jsonl.gz"), ("humaneval-x", "humaneval_rust.jsonl.gz")]
)
def test_the_published_tasks_are_read(public_data, lake, reader, file):
    """All 164 tasks of each form, and a solution for each."""
    path = str(public_data / "humaneval" / file)
    for kind in ("tasks", "evidence"):
        summary = ingest(lake, kind, [path], Options(reader=reader))
        assert (summary.added, summary.rejected) == (164, {})
    tasks = lake.read("tasks").to_pylist()
    assert all(task["description"] and task["tests"] and task["entry_point"] for task in tasks)
    assert {task["task_id"] for task in tasks} == set(lake.read("evidence").column("task_id").to_pylist())
