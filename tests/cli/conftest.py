from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.app import main


@dataclass(frozen=True)
class Ran:
    """What a command did: its exit code, and what it wrote where."""

    code: int
    out: str
    err: str


@pytest.fixture
def lake_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a lake that the commands of a test mean; there is none there yet."""
    uri = str(tmp_path / "lakehouse")
    monkeypatch.setenv("LAKE_URI", uri)
    return uri


@pytest.fixture
def run(lake_uri: str, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs one `lake` command."""

    def command(*arguments: object) -> Ran:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        return Ran(code, *capfd.readouterr())

    return command
