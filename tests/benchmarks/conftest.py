"""Runs benchmarks, tiny, in the process of the tests."""

import importlib
import sys
from collections.abc import Callable

import pytest

from benchmarks import measure


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a benchmark and gives what it printed. Its sides have no processes of their own: only figures need them."""

    def here(function: Callable[..., float], arguments: list[object]) -> tuple[float, int]:
        return function(*(item if isinstance(item, str | int) else str(item) for item in arguments)), measure._peak()

    def run(name: str, *options: object) -> str:
        module = importlib.import_module(f"benchmarks.{name}")
        for place in (measure, module):
            monkeypatch.setattr(place, "in_process", here, raising=False)
        monkeypatch.setattr(sys, "argv", [name, *map(str, options)])
        capfd.readouterr()
        module.main()
        return capfd.readouterr().out

    return run
