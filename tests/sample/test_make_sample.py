"""The sample data is what its generator makes, and its labels are what running the tests says."""

import subprocess
import sys

import msgspec
import pytest

from cli.sample import make_sample

PROBLEMS = make_sample.problems()
ATTEMPTS = make_sample.attempts(PROBLEMS)
TESTS = {problem.name: problem.tests for problem in PROBLEMS}


def passes(code: str, tests: str, folder) -> bool:
    """Run code, then its tests, in an interpreter of their own; only one that says so at its end has passed."""
    program = f"{code}\n{tests}\nprint('every test ran')\n"
    command = [sys.executable, "-I", "-S", "-c", program]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=4, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0 and done.stdout.endswith("every test ran\n")


def rows(name: str) -> list[dict]:
    return [msgspec.json.decode(line) for line in make_sample.files()[name].splitlines()]


def test_the_files_are_what_the_generator_makes():
    """Making the data again gives the committed bytes, so nobody edits them by hand."""
    made = make_sample.files()
    assert {name: (make_sample.FOLDER / name).read_bytes() for name in made} == made
    assert sum(map(len, made.values())) < 200_000


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_solutions_do_what_their_label_says(problem, tmp_path):
    """Right solutions pass the tests of their problem, and every other one fails them, each being run."""
    # One run of an endless loop is enough to know it, and each takes the whole time limit.
    found = {solution.code: passes(solution.code, problem.tests, tmp_path) for solution in problem.solutions}
    assert found == {solution.code: solution.passes for solution in problem.solutions}
    assert any(found.values())
    assert problem.entry_point in problem.starter
    assert problem.tests.count("assert ") >= 4


def test_mishaps_fail():
    """An empty answer, an early exit and a refusal are labelled as failures, and fail when run."""
    odd = [attempt for attempt in ATTEMPTS if attempt.outcome in {"empty", "exits", "refuses"}]
    assert {attempt.outcome for attempt in odd} == {"empty", "exits", "refuses"}
    assert not any(attempt.passes for attempt in odd)
    for attempt in odd:
        text = str(attempt.row["text"])
        code = text.partition("```python\n")[2].partition("```")[0] or text
        assert not passes(code or "raise SystemExit(1)", TESTS[str(attempt.row["task_id"])], None)


def test_an_early_exit_looks_like_success_to_a_careless_runner(tmp_path):
    """The attempts that fake success leave with status 0, so a status alone proves nothing."""
    fakes = [attempt for attempt in ATTEMPTS if attempt.outcome == "exits"]
    assert fakes
    for attempt in fakes:
        code = str(attempt.row["text"]).partition("```python\n")[2].partition("```")[0]
        program = f"{code}\n{TESTS[str(attempt.row['task_id'])]}"
        assert subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, check=False).returncode == 0


def test_there_is_something_of_everything():
    """Each problem has attempts, most have both a right and a wrong one, some only one sort."""
    sorts = {problem.name: {a.passes for a in ATTEMPTS if a.row["task_id"] == problem.name} for problem in PROBLEMS}
    assert len(PROBLEMS) >= 36
    assert all(4 <= sum(a.row["task_id"] == name for a in ATTEMPTS) <= 9 for name in sorts)
    assert sum(sort == {True, False} for sort in sorts.values()) > 30
    assert {True} in sorts.values()
    assert {False} in sorts.values()
    assert len({a.row["model"] for a in ATTEMPTS}) == 4


def test_one_text_is_sent_twice_and_one_run_id_is_used_twice():
    """One attempt repeats another word for word under its own id; one run id stands for two texts."""
    seen = rows("attempts.jsonl")
    twins = [(a, b) for a in seen for b in seen if a["run_id"] < b["run_id"] and a["text"] == b["text"].strip() != ""]
    assert any(a["task_id"] == b["task_id"] and a["model"] == b["model"] for a, b in twins)
    assert len(seen) - len({row["run_id"] for row in seen}) == 1


def test_the_judge_agrees_mostly_and_the_person_disagrees_with_the_tests():
    """The judge differs from the tests now and then, and the later verdicts reject what passes them."""
    passing = {attempt.run_id: attempt.passes for attempt in ATTEMPTS}
    judged = [row for row in rows("judge.jsonl") if row["run_id"] in passing]
    differing = sum((row["category"] == "accepted") != passing[row["run_id"]] for row in judged)
    assert 0 < differing < len(judged) / 4
    assert {row["category"] for row in judged} == {
        "accepted",
        "partially_accepted",
        "rejected",
        "needs_human_review",
    }
    rescored = rows("rescored.jsonl")
    assert rescored
    assert all(passing[row["run_id"]] and row["category"] == "rejected" for row in rescored)


def test_the_crashed_file_has_two_good_lines_and_many_bad_ones():
    """Only the first and the last whole line can be read as attempts; the rest is bad, each in its own way."""
    lines = make_sample.files()["attempts-from-a-crashed-worker.jsonl"].split(b"\n")
    assert len(lines) > 12
    good = []
    for line in lines:
        try:
            row = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
            text = {name: msgspec.json.decode(row[name], type=str) for name in ("run_id", "task_id", "text")}
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
            continue
        good.append(text["run_id"])
    assert {"attempt-8001", "attempt-8012"} <= set(good)
    assert len(good) < len(lines) / 2


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("# other: `f`\n\nWhat.\n", "the title is not"),
        ("# bad: `f`\n\nWhat.\n\n## tests\n\n```python\nx\n```\n\n## starter\n\n```python\nx\n```\n", "first two"),
        ("# bad: `f`\n\nWhat.\n\n## starter\n\nno code\n", "not one block"),
        (
            "# bad: `f`\n\nWhat.\n"
            + "".join(f"\n## {name}\n\n```python\nx\n```\n" for name in ("starter", "tests", "nice")),
            "not 'nice'",
        ),
    ],
)
def test_a_problem_that_is_written_differently_is_named(text, complaint, tmp_path):
    """A file of the material that cannot be read stops the generator with its path."""
    path = tmp_path / "bad.md"
    path.write_text(text)
    with pytest.raises(ValueError, match=complaint) as caught:
        make_sample._read_problem(path)
    assert str(path) in str(caught.value)
