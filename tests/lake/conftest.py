"""A lake with some of everything in it, and a copy of it for each test that damages one."""

import shutil
from pathlib import Path

import pytest

from lake import Lake
from tests.lake.damage import built


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with old and new checkpoints, pins, names, receipts and an export. Not to be written to."""
    return built(tmp_path_factory.mktemp("original"))


@pytest.fixture
def told(original: Path, tmp_path: Path) -> Lake:
    """The same, to be damaged."""
    shutil.copytree(original, tmp_path / "lake", symlinks=True)
    return Lake.open(str(tmp_path / "lake"))
