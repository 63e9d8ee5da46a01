"""The scorer `tests`: honest and hostile code against tests, in the sandbox."""

import gzip
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from ingest import sandbox
from ingest.scorers.scorer import NotScored, Verdict
from ingest.scorers.task_tests import Options, Report, TaskTests, code_in, concluded
from lake.errors import LakeError
from tests.scoring.cases import (
    CHEATS,
    DATA_TASKS,
    HONEST_FAILURES,
    RIGHT,
    SHAPES,
    SHOW_NOTHING,
    STARTER,
    TASK,
    TEXTS,
    WRONG,
)


@pytest.fixture(scope="module")
def scorer() -> TaskTests:
    return TaskTests(Options(wall_seconds=5))


def tried(scorer, text, **task):
    verdict = scorer({"text": text}, TASK | task)
    assert isinstance(verdict, Verdict)
    return verdict


def test_right_code_is_accepted(scorer):
    """With how many checks held, and what the sandbox was worth."""
    verdict = tried(scorer, RIGHT)
    assert verdict.category == "accepted"
    assert verdict.score == 1.0
    figures = dict(verdict.sub_scores)
    assert figures.pop("duration") > 0
    assert figures == {
        "compiled": True,
        "passed": 2,
        "failed": 0,
        "skipped": 0,
        "total": 2,
        "network_isolated": sandbox.strength().network_cut,
        "files_protected": sandbox.strength().files_protected,
    }


def test_code_that_is_partly_right_is_rejected_with_its_share(scorer):
    """A failing assert does not hide the ones after it, and is quoted."""
    verdict = tried(scorer, "def add(a, b):\n    return 4\n")
    assert (verdict.category, verdict.score) == ("rejected", 0.5)
    assert verdict.reasons == ("1 of 2 checks fail", "line 1: assert add(1, 2) == 3")


@pytest.mark.parametrize("code", HONEST_FAILURES.values(), ids=HONEST_FAILURES)
def test_code_that_is_wrong_is_not_accepted(scorer, code):
    """However it is wrong, it is rejected, or a person is asked; with a reason."""
    verdict = tried(scorer, code)
    assert verdict.category in ("rejected", "needs_human_review")
    assert verdict.reasons[0]


@pytest.mark.parametrize("code", CHEATS.values(), ids=CHEATS)
def test_code_that_cheats_is_not_accepted(scorer, code):
    """Whatever the candidate does in its process, only right answers pass."""
    assert tried(scorer, code).category in ("rejected", "needs_human_review")


@pytest.mark.skipif(sys.platform != "linux", reason="the layers are those of Linux")
@pytest.mark.parametrize("code", [RIGHT, WRONG, CHEATS["exits at once"], CHEATS["kills everything"], CHEATS["forks"]])
def test_without_namespaces_verdicts_are_the_same(scorer, code):
    """Where a kernel gives no namespaces, the other layers carry the verdict."""
    weaker = TaskTests(Options(wall_seconds=5, without=("user",)))
    assert tried(weaker, code).category == tried(scorer, code).category


@pytest.mark.parametrize("code", ["raise ValueError('\\ud800')", "def add(a, b): raise ValueError('\\udfff')"])
def test_what_code_says_of_itself_can_be_written_down(scorer, code):
    """Half a character in an error's message is spelled out, and so no reason for a file to refuse the verdict."""
    verdict = tried(scorer, code)
    assert verdict.category == "rejected"
    assert "\\ud" in "".join(verdict.reasons).encode().decode()


@pytest.mark.parametrize("code", ["while True: pass", "def add(a, b):\n    while True: pass"])
def test_code_that_goes_on_is_stopped(code):
    """And rejected, saying so."""
    verdict = tried(TaskTests(Options(wall_seconds=0.5)), code)
    assert verdict.category == "rejected"
    assert "stopped after" in verdict.reasons[0]


def test_code_that_needs_a_package_is_for_a_person(scorer):
    """What the sandbox does not have is no fault of the code."""
    verdict = tried(scorer, "import numpy_that_is_not_there\n" + RIGHT)
    assert verdict.category == "needs_human_review"
    assert "numpy_that_is_not_there" in verdict.reasons[0]


def test_printing_is_fine(scorer):
    """Code that prints, threads and catches its own failure to fork is as right as any."""
    code = (
        "import os, threading\nprint('loading')\n"
        "def add(a, b):\n    print('adding', a, b)\n    try: os.fork()\n    except OSError: pass\n"
        "    thread = threading.Thread(target=print); thread.start(); thread.join()\n    return a + b"
    )
    assert tried(scorer, code).category == "accepted"


@pytest.mark.parametrize(
    ("tests", "total"),
    SHAPES,
)
def test_tests_are_found_in_the_usual_shapes(scorer, tests, total):
    """unittest, functions and classes as pytest finds them, HumanEval's check, and bare asserts."""
    right, wrong = tried(scorer, RIGHT, tests=tests), tried(scorer, WRONG, tests=tests)
    assert (right.category, right.sub_scores["total"]) == ("accepted", total), right
    assert wrong.category == "rejected", wrong


@pytest.mark.parametrize(
    "tests",
    SHOW_NOTHING,
)
def test_tests_that_show_nothing_accept_nothing(scorer, tests):
    """Right code is for a person to see where no test ran against it."""
    assert tried(scorer, RIGHT, tests=tests).category == "needs_human_review"


def test_tests_that_exit_have_failed(scorer):
    """A test that calls sys.exit is a check that does not hold."""
    assert tried(scorer, RIGHT, tests="import sys\nassert add(1, 2) == 3\nsys.exit(0)").category == "rejected"


@pytest.mark.parametrize(("code", "tests"), DATA_TASKS)
def test_what_tests_do_across_two_processes_works(scorer, code, tests):
    """In-place changes, generators, callbacks, classes, exceptions, printing: as in one process."""
    verdict = tried(scorer, code, tests=tests, entry_point="f")
    assert verdict.category == "accepted", verdict


def test_an_object_of_the_tests_shows_no_more_than_its_fields(scorer):
    """The candidate reaches nothing of the judge's through an object that it was handed."""
    code = (
        "def f(node):\n    found = []\n    for name in ('_secret', '__globals__', '__dict__'):\n"
        "        try: found.append(getattr(node, name))\n"
        "        except AttributeError: pass\n"
        "    try: node.method.__globals__; found.append(1)\n    except AttributeError: pass\n    return found"
    )
    tests = (
        "class Node:\n    _secret = 1\n    def method(self): pass\nassert f(Node()) == []\n"
        "def walk():\n    yield 1\nassert g(walk()) == 'hidden'"
    )
    code += "\ndef g(steps):\n    try: return steps.gi_frame\n    except AttributeError: return 'hidden'"
    assert tried(scorer, code, tests=tests, entry_point="f").category == "accepted"


@pytest.mark.parametrize(
    "text",
    TEXTS,
)
def test_code_is_taken_from_the_text_and_joined_to_the_starter(scorer, text):
    """A continuation of the starter code or a whole program, bare or fenced, the last definition of several."""
    verdict = tried(scorer, text, starter_code=STARTER, tests="assert f(1) == 4", entry_point="f")
    assert verdict.category == "accepted", verdict


CHECKED_WITH = """\
import math

def poly(xs, x):
    return sum(c * x**i for i, c in enumerate(xs))

def find_zero(xs):
    \"\"\"Where poly(xs, x) is zero.\"\"\"
"""
CHECKS = """\
def check(candidate):
    assert abs(poly([-4, 2], candidate([-4, 2]))) < 1e-6
    assert math.fabs(poly([3, -1], candidate([3, -1]))) < 1e-6
    assert isinstance(candidate([0, 1]), float)
    assert all(candidate([-n, 1]) == n for n in range(3))
"""


def test_what_tests_check_with_is_not_the_candidates(scorer):
    """Python's own functions, and those that the starter code gives, are none of the candidate's to change."""
    task = {"starter_code": CHECKED_WITH, "tests": CHECKS, "entry_point": "find_zero"}
    assert tried(scorer, "    return -xs[0] / xs[1]\n", **task).category == "accepted"
    zeros = "\n".join(f"def {name}(*_): return 0" for name in ("poly", "abs"))
    yes = "\n".join(f"def {name}(*_): return True" for name in ("isinstance", "all"))
    module = "class math:\n    fabs = staticmethod(lambda x: 0)"
    cheat = f"{zeros}\n{yes}\n{module}\ndef find_zero(xs): return 0"
    assert tried(scorer, cheat, **task).category == "rejected"


def test_functions_that_the_starter_asks_for_are_the_candidates(scorer):
    """Each function without a body, also one named as one of Python's, and each class."""
    starter = "class Box:\n    size = 1\ndef sum(xs):\n    ...\ndef product(xs):\n    raise NotImplementedError\n"
    code = "def sum(xs): return xs[0] + xs[1]\ndef product(xs): return xs[0] * xs[1]\nclass Box:\n    size = 2\n"
    tests = "assert sum([1, 2]) == 3\nassert product([2, 3]) == 6\nassert Box().size == 2\nassert Box.size == 2"
    verdict = tried(scorer, code, starter_code=starter, tests=tests, entry_point="")
    assert verdict.category == "accepted", verdict


def test_a_starter_without_a_body_is_filled_in(scorer):
    """A signature alone is no program, and does not stand in the way of one."""
    verdict = tried(scorer, RIGHT, starter_code="def add(a: int, b: int) -> int:\n")
    assert verdict.category == "accepted", verdict


def test_blocks_without_the_entry_point_are_joined():
    """All of a text's code, where no block of it defines what is asked for."""
    assert code_in("```python\na = 1\n```\nand\n```python\nb = 2\n```", "f") == "a = 1\n\nb = 2\n"
    assert code_in("```rust\nfn f() {}\n```", "f") == "fn f() {}\n"


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (None, "not known"),
        ({**TASK, "tests": None}, "no tests"),
        ({**TASK, "tests": " \n"}, "no tests"),
        ({**TASK, "language": "cobol"}, "cobol"),
    ],
)
def test_what_has_no_tests_to_run_is_not_scored(scorer, task, reason):
    """A run without such a task has no verdict of this scorer's."""
    answer = scorer({"text": RIGHT}, task)
    assert isinstance(answer, NotScored)
    assert reason in answer.reason


def test_a_text_without_code_is_rejected(scorer):
    """Without starting anything."""
    assert scorer({"text": None, "messages": None}, TASK).category == "rejected"


def test_no_report_is_no_acceptance():
    """Whatever ended, and however well: without the judge's word nothing is accepted."""
    fine = sandbox.run(sandbox.Program(argv=("true",)))
    assert concluded(Report(), fine)[0] == "needs_human_review"
    assert concluded(Report(reported=True), fine)[0] == "rejected"
    assert concluded(Report(reported=True, state="loaded", complete=True), fine)[0] == "needs_human_review"
    assert concluded(Report(reported=True, state="loaded", complete=True, passed=3), fine)[0] == "needs_human_review"
    assert concluded(Report(reported=True, state="loaded", complete=True, passed=3, asked=1), fine)[0] == "accepted"


@pytest.mark.skipif(sys.platform != "linux", reason="the layers are those of Linux")
def test_options_are_kept_apart_by_digest():
    """A scorer set up differently is another version, but for how many runs it tries at once."""
    assert TaskTests().digest is None
    assert TaskTests(Options(workers=7)).digest is None
    assert TaskTests(Options(wall_seconds=1)).digest


def test_a_sandbox_that_cannot_start_is_an_error(monkeypatch):
    """A broken sandbox is no verdict."""
    outcome = sandbox.run(sandbox.Program(argv=("true",), files={"no/folder": b""}))
    from ingest.scorers import task_tests

    with pytest.raises(LakeError, match="cannot start"):
        task_tests.verdict(None, outcome, outcome, sandbox.strength())


def test_human_eval_is_judged_right(scorer, public_data):
    """Every solution of a sample of HumanEval is accepted; the same functions doing nothing are rejected."""
    with gzip.open(public_data / "humaneval" / "HumanEval.jsonl.gz", "rt") as file:
        problems = [json.loads(line) for line in file][::4]
    cases = [(one, text) for one in problems for text in (one["canonical_solution"], "    return None\n")]

    def judged(case):
        one, text = case
        task = {"starter_code": one["prompt"], "tests": one["test"], "entry_point": one["entry_point"]}
        return one["task_id"], scorer({"text": text}, TASK | task).category

    with ThreadPoolExecutor(2) as pool:
        verdicts = list(pool.map(judged, cases))
    assert [one for one in verdicts[::2] if one[1] != "accepted"] == []
    assert [one for one in verdicts[1::2] if one[1] != "rejected"] == []
