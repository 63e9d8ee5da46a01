"""Judge and candidate in one process, as two threads: what they say to one another, without the sandbox around them."""

import os
import socket
import threading
import types

import pytest

from tests.scoring.cases import DATA_TASKS, HONEST_FAILURES, RIGHT, SHAPES, SHOW_NOTHING, STARTER, TASK, TEXTS, WRONG


@pytest.fixture
def judged(harness):
    """Runs tests against code, and returns what the judge reports."""
    judge, candidate, codec = (harness(name) for name in ("judge", "candidate", "codec"))

    def run(code, tests, starter_code="", entry_point="add"):
        ours, theirs = socket.socketpair()
        printed = candidate.Printed()
        orders = {
            "starter_code": starter_code,
            "code": code,
            "entry_point": entry_point,
            "connection": os.dup(theirs.fileno()),
        }
        thread = threading.Thread(target=serve, args=(candidate, codec, orders, printed), daemon=True)
        thread.start()
        report = judge.judged(
            {
                "entry_point": entry_point,
                "starter_code": starter_code,
                "tests": tests,
                "connection": os.dup(ours.fileno()),
            }
        )
        for one in (ours, theirs):
            one.close()
        thread.join(10)
        return report

    return run


def serve(candidate, codec, orders, printed):
    try:
        candidate.serve(orders, printed, types.ModuleType("solution"))
    except codec.Broken:
        return


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
class TestInOneProcess:
    """The same code and tests as in the sandbox."""

    @pytest.mark.parametrize(("tests", "total"), SHAPES)
    def test_shapes(self, judged, tests, total):
        """Tests are found in their usual shapes, and each check is counted."""
        right, wrong = judged(RIGHT, tests), judged(WRONG, tests)
        assert (right["passed"], right["failed"], right["complete"]) == (total, 0, True), right
        assert wrong["failed"] > 0

    @pytest.mark.parametrize(("code", "tests"), DATA_TASKS)
    def test_data(self, judged, code, tests):
        """What tests do with data, callbacks and objects works across the wire."""
        report = judged(code, tests, entry_point="f")
        assert (report["failed"], report["unsupported"]) == (0, []), report
        assert report["passed"] > 0

    @pytest.mark.parametrize("code", HONEST_FAILURES.values(), ids=HONEST_FAILURES)
    def test_failures(self, judged, code):
        """Wrong code is loaded or not, and never right."""
        report = judged(code, TASK["tests"])
        assert report["failed"] or report["state"] != "loaded"
        assert not report["passed"]

    @pytest.mark.parametrize(
        "tests", [tests for tests in SHOW_NOTHING if "_exit" not in tests and "pytest" not in tests]
    )
    def test_nothing(self, judged, tests):
        """Tests that show nothing say why, or count nothing."""
        report = judged(RIGHT, tests)
        shown = report["passed"] and report["asked"] and not report["unsupported"] and not report["tests_error"]
        assert not shown, report

    @pytest.mark.parametrize("text", [text for text in TEXTS if "```" not in text])
    def test_starters(self, judged, text):
        """Code continues the starter code, or replaces it."""
        assert judged(text, "assert f(1) == 4", STARTER, "f")["passed"] == 1


def test_a_program_that_ends_its_process_is_gone(judged):
    """A module that exits is not loaded, and says what it raised."""
    assert judged("import sys\nsys.exit(0)", TASK["tests"])["state"] == "raised"
    assert judged("import no_such_package_at_all", TASK["tests"])["state"] == "missing"


def test_an_object_of_its_own_is_no_number(judged):
    """An object that equals everything is reported, not believed."""
    code = "class E:\n    def __eq__(self, other): return True\ndef add(a, b): return E()"
    report = judged(code, TASK["tests"])
    assert report["passed"] == 0
    assert "plain data" in report["unsupported"][0]


def test_an_answer_that_breaks_the_wire_is_the_end(judged):
    """The judge says that the candidate is gone, and how far it had come."""
    code = (
        "import gc\ndef add(a, b):\n    for one in gc.get_objects():\n"
        "        if type(one).__name__ == 'Link' and not one.writer.closed: one.writer.write(b'x' * 99)\n    return 3"
    )
    report = judged(code, TASK["tests"])
    assert not report["complete"]
    assert report["message"]


def test_what_the_tests_hand_over_is_limited(judged):
    """Modules, and operations that are not offered, are refused; private fields are not to be had."""
    code = "def f(x): return x.public + len(x._private)"
    tests = "class Box:\n    public = 1\n    _private = 'x'\nassert f(Box()) == 2"
    assert judged(code, tests, entry_point="f")["failed"] == 1
    assert judged("def f(x): return -x", tests, entry_point="f")["unsupported"]


def test_printing_has_a_largest_size(harness):
    """What is printed beyond it is lost, not kept."""
    candidate = harness("candidate")
    printed = candidate.Printed()
    assert printed.writable()
    for _ in range(3):
        assert printed.write("x" * candidate.PRINTED_CHARACTERS) == candidate.PRINTED_CHARACTERS
    assert len(printed.taken()) == candidate.PRINTED_CHARACTERS
    assert printed.taken() == ""


def test_a_unittest_that_should_fail_and_does_not_is_a_failure(judged):
    """An expected failure that succeeds does not count as one that holds."""
    tests = (
        "import unittest\nclass T(unittest.TestCase):\n    @unittest.expectedFailure\n"
        "    def test(self): self.assertEqual(add(1, 2), 3)"
    )
    assert judged(RIGHT, tests)["failed"] == 1


def test_the_judge_quotes_no_more_than_it_should(judged):
    """A long list of failures is cut."""
    report = judged(WRONG, "\n".join(f"assert add({n}, 1) == {n + 1}" for n in range(50)))
    assert report["failed"] == 50
    assert len(report["messages"]) == 10
