"""What the tests of scoring share: the harness as it is seen in the sandbox, and runs with tasks."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import ingest.scorers.harness
from lake import Lake

HARNESS = Path(ingest.scorers.harness.__file__).parent


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """The modules of the harness by name, imported as the sandbox imports them: from their folder."""
    monkeypatch.syspath_prepend(str(HARNESS))
    yield importlib.import_module
    for name in ("codec", "wire", "judge", "candidate", "solution", "main", "elsewhere"):
        sys.modules.pop(name, None)


@pytest.fixture
def tell(lake: Lake) -> Callable[..., None]:
    """Appends rows to a kind of the test's lake."""
    told = {"sequence": 0}

    def append(kind: str, *rows: dict[str, object]) -> None:
        told["sequence"] += 1
        filled = [{"kind": "completion", "role": "executor", **row} if kind == "evidence" else row for row in rows]
        lake.append(kind, filled, producer="test", sequence=told["sequence"])

    return append
