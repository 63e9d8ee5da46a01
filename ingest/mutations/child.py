"""Runs a project's tests inside the sandbox: with pytest where the interpreter has it, else with unittest.

Ends with what became of them: 0 all passed, 1 a test failed, 2 the tests could not be collected, 5 there were none.
"""

import importlib.util
import json
import os
import sys
import unittest
from typing import Any

PASSED, FAILED, NOT_COLLECTED, NONE = 0, 1, 2, 5


def main() -> None:
    """Carry out the orders, and end with what became of the tests."""
    with open("orders", encoding="utf-8") as file:
        orders = json.load(file)
    os.environ["TMPDIR"] = os.getcwd()
    os.environ["HOME"] = os.getcwd()
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    os.environ["COLUMNS"] = "100"
    if not orders["plugins"]:
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.dont_write_bytecode = True
    project = orders["project"]
    os.chdir(project)
    sys.path[:0] = [place for place in (project, os.path.join(project, "src")) if os.path.isdir(place)]
    code = with_pytest(orders["arguments"]) if importlib.util.find_spec("pytest") else with_unittest()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def with_pytest(arguments: list[str]) -> int:
    """Up to the first failure."""
    pytest = importlib.import_module("pytest")  # which the interpreter may not have
    code = int(pytest.main(["-x", "-q", "--tb=short", "--no-header", "-p", "no:cacheprovider", *arguments]))
    return code if code in (PASSED, FAILED, NONE) else NOT_COLLECTED


def with_unittest() -> int:
    """Up to the first failure."""
    loader: Any = unittest.TestLoader()
    suite = loader.discover(".")
    if loader.errors:
        sys.stderr.write(loader.errors[0])
        return NOT_COLLECTED
    result = unittest.TextTestRunner(stream=sys.stderr, failfast=True, verbosity=0).run(suite)
    if not result.wasSuccessful():
        return FAILED
    return PASSED if result.testsRun else NONE
