"""Makes the sample data: `python -m cli.sample.make_sample` writes the files beside this one, always the same bytes.

Each file of `problems/` is one task with its tests and with solutions that are right, wrong, broken (no Python), that
hang, or that know the tests by heart. Four invented models draw from these by their skill and wrap them in their own
way of talking. A few attempts are there for what goes wrong in real collections: empty answers, one that leaves before
its tests run, a text sent twice, a file that does not exist, a run id used twice.

The verdict of an attempt is not in the data. `lake score tests` finds it by running the tests, and the tests of this
module do the same to the labels that are kept here.

Not here: reading the files, or anything that the lake would do with them.
"""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import msgspec

__all__ = ["FOLDER", "Attempt", "Problem", "Solution", "attempts", "files", "main", "problems"]

FOLDER = Path(__file__).parent
SEED = 20260302
START = datetime(2026, 3, 2, 9, tzinfo=UTC)
OUTCOMES = ("right", "wrong", "broken", "hangs", "memorised", "reference")
PASSING = ("right", "memorised", "reference")

# Each model: how often it is right where it can choose, and how it talks around its code.
MODELS = {
    "wren-1b": (0.25, ["{code}", "Answer:\n\n{code}"]),
    "finch-8b": (
        0.5,
        [
            "Sure! Here is `{name}`:\n\n{code}\n\nLet me know if you have any questions!",
            "Here's a solution to the problem:\n\n{code}\n\nThis handles the edge cases as well.",
        ],
    ),
    "heron-32b": (
        0.7,
        [
            "The description fixes the edge cases, so I go through them first and then write `{name}`.\n\n{code}",
            "{code}\n\nIt goes over the input once and keeps no more than it returns.",
        ],
    ),
    "osprey-70b": (
        0.85,
        [
            "I keep to the standard library.\n\n{code}",
            "Two things need care: the empty input, and the last item.\n\n{code}\n\nBoth follow from the code above.",
        ],
    ),
}


class Solution(msgspec.Struct, frozen=True):
    """Code for one problem. `why` says what is the matter with it, empty where nothing is."""

    outcome: str
    why: str
    code: str

    @property
    def passes(self) -> bool:
        """Whether the problem's tests pass with it."""
        return self.outcome in PASSING


class Problem(msgspec.Struct, frozen=True):
    """One programming task with its tests and the solutions that the models draw from."""

    name: str
    entry_point: str
    description: str
    starter: str
    tests: str
    solutions: tuple[Solution, ...]


class Attempt(msgspec.Struct, frozen=True):
    """One row of `attempts.jsonl`, and what its author knows about it: whether the tests pass, and what is wrong."""

    row: dict[str, object]
    passes: bool
    outcome: str
    why: str = ""

    @property
    def run_id(self) -> str:
        """The run's id."""
        return str(self.row["run_id"])


def problems() -> list[Problem]:
    """Every problem, by name. Raises ValueError, naming the file, for one that is not written as the others are."""
    return [_read_problem(path) for path in sorted((FOLDER / "problems").glob("*.md"))]


def attempts(given: list[Problem]) -> list[Attempt]:
    """All attempts at the problems, in the order in which they were made."""
    random = Random(SEED)
    drawn = [
        (problem, solution, model)
        for problem in given
        for solution, model in [*_draw(problem, random), *_mishaps(problem)]
    ]
    # Models answer at the same time, so what belongs to one problem is spread over the file.
    drawn.sort(key=lambda _: random.random())
    made = [_attempt(number, *each, random) for number, each in enumerate(drawn, 1)]
    return [*made, *_afterthoughts(made, len(made) + 1)]


def files() -> dict[str, bytes]:
    """Every file of the sample data: its name and its bytes."""
    given = problems()
    made = attempts(given)
    return {
        "tasks.jsonl": _lines(_task_row(problem) for problem in given),
        "attempts.jsonl": _lines(attempt.row for attempt in made),
        "attempts-from-a-crashed-worker.jsonl": _crashed(made[0]),
        "judge.jsonl": _lines(_judge(made)),
        "rescored.jsonl": _lines(_rescored(made)),
        "known-files.txt": "".join(f"{_file_of(problem.name)}\n" for problem in given).encode(),
    }


def main() -> None:
    """Write every file, and say how large it is."""
    for name, content in files().items():
        (FOLDER / name).write_bytes(content)
        print(f"{name}: {len(content)} bytes")


def _read_problem(path: Path) -> Problem:
    title, *parts = re.split(r"^## (.+)$", path.read_text(), flags=re.MULTILINE)
    head = re.fullmatch(r"# (?P<name>[a-z0-9-]+): `(?P<entry>\w+)`\n\n(?P<description>.+?)\s*", title, re.DOTALL)
    if head is None or head["name"] != path.stem:
        raise ValueError(f"{path}: the title is not '# {path.stem}: `function`' with a description below it")
    sections = [(name.strip(), _code(path, body)) for name, body in zip(parts[::2], parts[1::2], strict=True)]
    (starter_name, starter), (tests_name, tests), *rest = sections
    if (starter_name, tests_name) != ("starter", "tests"):
        raise ValueError(f"{path}: the first two sections are not 'starter' and 'tests'")
    solutions = []
    for name, code in rest:
        outcome, _, why = name.partition(": ")
        if outcome not in OUTCOMES:
            raise ValueError(f"{path}: a solution is one of {', '.join(OUTCOMES)}, not {outcome!r}")
        solutions.append(Solution(outcome, why, code))
    return Problem(head["name"], head["entry"], head["description"], starter, tests, tuple(solutions))


def _code(path: Path, section: str) -> str:
    block = re.fullmatch(r"\s*```python\n(.+?\n)```\s*", section, re.DOTALL)
    if block is None:
        raise ValueError(f"{path}: a section is not one block of Python")
    return block[1]


def _draw(problem: Problem, random: Random) -> Iterator[tuple[Solution, str]]:
    """Each solution once, from a model that is likely to write it, then as many again until there are enough."""
    offered = [solution for solution in problem.solutions if solution.outcome != "reference"]
    for solution in offered:
        skill = [right if solution.passes else 1 - right for right, _ in MODELS.values()]
        yield solution, random.choices(list(MODELS), skill)[0]
    # What fails once is enough of an endless loop: each costs whoever runs it the whole time limit.
    again = [solution for solution in offered if solution.outcome != "hangs"]
    for _ in range(len(offered), random.choice((4, 5, 5, 6))):
        model = random.choice(list(MODELS))
        right, _ = MODELS[model]
        weights = [right if solution.passes else 1 - right for solution in again]
        yield random.choices(again, weights)[0], model


def _mishaps(problem: Problem) -> Iterator[tuple[Solution, str]]:
    """What some collections hold besides honest attempts, at the problems where it happened."""
    if problem.name in {"merge-intervals", "split-bill"}:
        yield Solution("empty", "the model said nothing", ""), "wren-1b"
    if problem.name == "wrap-words":
        yield Solution("empty", "the model said nothing but spaces", "  \n"), "finch-8b"
    if problem.name in {"compare-versions", "edit-distance"}:
        code = f"import sys\n\n{problem.starter}\nprint('all tests passed')\nsys.exit(0)\n"
        yield Solution("exits", "leaves with success before its tests run", code), "finch-8b"
    if problem.name == "grid-paths":
        words = "I cannot write this function without seeing the rest of the program. Could you share it?"
        yield Solution("refuses", "there is no code", words), "heron-32b"


def _attempt(number: int, problem: Problem, solution: Solution, model: str, random: Random) -> Attempt:
    if solution.outcome in {"empty", "refuses"}:
        text = solution.code
    else:
        _, ways = MODELS[model]
        text = random.choice(ways).format(name=problem.entry_point, code=f"```python\n{solution.code}```")
    row = {
        "run_id": f"attempt-{number:04d}",
        "task_id": problem.name,
        "model": model,
        "text": text,
        "recorded_at": _at(number),
        "source_files": [_file_of(problem.name)],
        "temperature": random.choice((0.2, 0.7, 1.0)),
    }
    return Attempt(row, solution.passes, solution.outcome, solution.why)


def _afterthoughts(made: list[Attempt], number: int) -> Iterator[Attempt]:
    """Attempts that refer to earlier ones."""
    right = [attempt for attempt in made if attempt.outcome == "right"]
    twin, invented, second = right[0], right[1], right[2]
    yield Attempt(
        twin.row | {"run_id": f"attempt-{number:04d}", "recorded_at": _at(number)},
        twin.passes,
        "right",
        f"says word for word what {twin.run_id} says",
    )
    path = f"src/{invented.row['task_id']}/core_utils.py"
    yield Attempt(
        invented.row
        | {
            "run_id": f"attempt-{number + 1:04d}",
            "recorded_at": _at(number + 1),
            "text": f"I put this into `{path}`, next to the other helpers.\n\n{invented.row['text']}",
            "source_files": [path],
        },
        invented.passes,
        "right",
        "names a file that does not exist",
    )
    yield Attempt(
        second.row | {"recorded_at": _at(number + 2), "text": f"{second.row['text']}\n\nThat is my final answer."},
        second.passes,
        "right",
        f"has the run id of an earlier attempt, {second.run_id}",
    )
    yield Attempt(
        {
            "run_id": f"attempt-{number + 3:04d}",
            "task_id": "flatten",
            "role": "extractor",
            "model": "finch-8b",
            "text": "The task is about nested lists. Texts are items there, which three of five attempts overlook.",
            "recorded_at": _at(number + 3),
            "source_files": [_file_of("flatten")],
        },
        False,
        "refuses",
        "is a note about the task, no attempt at it",
    )


def _task_row(problem: Problem) -> dict[str, object]:
    return {
        "task_id": problem.name,
        "language": "python",
        "description": problem.description,
        "starter_code": problem.starter,
        "entry_point": problem.entry_point,
        "tests": problem.tests,
        "split": "train",
        "recorded_at": _at(0),
    }


def _judge(made: list[Attempt]) -> Iterator[dict[str, object]]:
    """What a model thinks of most attempts by reading them: mostly right, now and then fooled."""
    random = Random(SEED + 1)
    for number, attempt in enumerate(made):
        if random.random() < 0.3 or attempt.outcome in {"empty", "memorised"}:
            continue
        if attempt.passes:
            weights = {"accepted": 90, "partially_accepted": 6, "rejected": 4}
        elif attempt.outcome == "exits":
            weights = {"accepted": 1}
        else:
            weights = {"rejected": 76, "partially_accepted": 14, "accepted": 6, "needs_human_review": 4}
        category = random.choices(list(weights), list(weights.values()))[0]
        score, reason = {
            "accepted": (0.9, "reads as a correct solution"),
            "partially_accepted": (0.6, "close, but an edge case looks doubtful"),
            "needs_human_review": (0.5, "cannot tell from reading"),
            "rejected": (0.1, attempt.why or "the loop looks off by one"),
        }[category]
        yield {
            "run_id": attempt.run_id,
            "task_id": attempt.row["task_id"],
            "scorer": "judge",
            "scorer_version": "1",
            "category": category,
            "score": score,
            "sub_scores": {"correctness": score, "style": random.choice((0.4, 0.6, 0.8))},
            "reasons": [reason],
            "recorded_at": _at(2000 + number),
        }
    yield {
        "run_id": "attempt-9999",
        "task_id": "flatten",
        "scorer": "judge",
        "scorer_version": "1",
        "category": "accepted",
        "score": 0.9,
        "reasons": ["reads as a correct solution"],
        "recorded_at": _at(3000),
    }


def _rescored(made: list[Attempt]) -> Iterator[dict[str, object]]:
    """What a person said later: passing the tests is not solving the task."""
    for number, attempt in enumerate(attempt for attempt in made if attempt.outcome == "memorised"):
        yield {
            "run_id": attempt.run_id,
            "task_id": attempt.row["task_id"],
            "scorer": "human",
            "scorer_version": "1",
            "category": "rejected",
            "reasons": ["looks its answers up in a table of the tests"],
            "actor": "reviewer",
            "recorded_at": _at(4000 + number),
        }


def _crashed(example: Attempt) -> bytes:
    """Attempts from a worker that died while it wrote: two good lines among lines of every bad kind."""
    good = example.row | {"run_id": "attempt-8001", "recorded_at": _at(5000)}
    whole = _line(good)
    lines = [
        whole,
        whole[: len(whole) // 2] + b"\n",
        _line(good | {"run_id": "attempt-8002", "temperature": 0}).replace(b'"temperature": 0', b'"temperature": NaN'),
        _line(good | {"run_id": 8003}),
        _line(good | {"run_id": "attempt-8004", "text": ["a", "list"], "source_files": "no list"}),
        _line(good | {"run_id": "attempt-8005", "role": "wizard"}),
        _line({name: value for name, value in good.items() if name != "task_id"}),
        _line(good | {"run_id": "attempt-8007", "recorded_at": "yesterday"}),
        _line(good | {"run_id": "attempt-8008", "schema_version": 99}),
        b'["attempt-8009", "flatten", "an array"]\n',
        b'{"run_id": "attempt-8010", "task_id": "flatten", "text": "half a pair: \\ud83d"}\n',
        b'{"run_id": "attempt-8011", "task_id": "flatten", "text": "caf\xe9"}\n',
        b"\n",
        b"Traceback (most recent call last):\n",
        _line(good | {"run_id": "attempt-8012"}),
        _line(good | {"run_id": "attempt-8013"})[:90],
    ]
    return b"".join(lines)


def _file_of(name: str) -> str:
    return f"solutions/{name.replace('-', '_')}.py"


def _at(number: int) -> str:
    """The time of the event with this number: some seconds apart, never the clock's."""
    return (START + timedelta(seconds=47 * number)).isoformat().replace("+00:00", "Z")


def _lines(rows: Iterator[dict[str, object]]) -> bytes:
    return b"".join(map(_line, rows))


def _line(row: dict[str, object]) -> bytes:
    return json.dumps(row).encode() + b"\n"


if __name__ == "__main__":
    main()
