"""What the fault tests share: a table of what was tried and what was found, a seed, and how to do a failure again.

`report` adds one line to the table that stands at the end of `make faults` (of any run that does not leave out the
long tests):

    def test_kills(report, seed, rounds):
        ...
        report("kill -9 at random times", rounds, "0 lost, 0 twice", "1,153 acknowledged; 3 orphans")

`report(tried, times, found, figure="")`: what was done, how often, what was found (what the test asserts), and a
figure worth telling. `times` may be a number or a text. Call it when all is asserted: a test that fails before gets a
line that says FAILED. A test may call it several times.

`seed` is where a test's randomness comes from: `random.Random(seed)` and nothing else. It is 1 unless the environment
has FAULTS_SEED, and a failing test prints the command that does the same again.

A test of two sizes takes the size as a parameter, and marks the full one, so that `make test` runs the short one:

    @pytest.mark.parametrize("rounds", [10, pytest.param(500, marks=pytest.mark.long)])
"""

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

SEED = "FAULTS_SEED"

_FAULT = "fault"
_WIDEST = 60


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[..., None]:
    """A line of the table: what was tried, how often, what was found, and a figure."""

    def line(tried: str, times: int | str, found: str, figure: str = "") -> None:
        how_often = f"{times:,}" if isinstance(times, int) else times
        request.node.user_properties.append((_FAULT, [tried, how_often, found, figure]))

    return line


@pytest.fixture
def seed() -> int:
    """Where all randomness of a test comes from."""
    return int(os.environ.get(SEED, "1"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    """Say how to do a failure again."""
    made = yield
    if made.failed and "seed" in getattr(item, "fixturenames", ()):
        again = f'{SEED}={os.environ.get(SEED, "1")} python -m pytest -m "" "{item.nodeid}"'
        made.sections.append(("the same again", again))
    return made


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The table, after a run of all sizes."""
    if config.option.markexpr:
        return
    done = [test for test in terminalreporter.stats.get("passed", ()) if test.when == "call"]
    failed = [*terminalreporter.stats.get("failed", ()), *terminalreporter.stats.get("error", ())]
    lines = [value for test in done for name, value in test.user_properties if name == _FAULT]
    lines += [[test.nodeid.rpartition("/")[2], "", "FAILED", ""] for test in failed]
    if not lines:
        return
    table = [["tried", "times", "found", "figure"], *lines]
    widths = [min(_WIDEST, max(len(line[column]) for line in table)) for column in range(4)]
    terminalreporter.section(f"what was tried and what was found, {time.strftime('%Y-%m-%d')}")
    terminalreporter.write_line(f"load of this machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for line in table:
        cells = [
            text.rjust(width) if at == 1 else text.ljust(width)
            for at, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        terminalreporter.write_line("  ".join(cells).rstrip())
