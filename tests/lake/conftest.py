"""A lake with some of everything in it, a copy of it for each test that damages one, and a store in a bucket."""

import shutil
from pathlib import Path

import pytest

from lake import Lake, bucket
from lake.bucket import Bucket
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


@pytest.fixture
def store(s3, s3_uri):
    """A store with nothing in it, which has been tried already."""
    made = Bucket(s3_uri)
    made._prove()
    s3.faults.log.clear()
    return made


@pytest.fixture
def impatient(monkeypatch):
    """Faults that do not pass are given up after two seconds."""
    monkeypatch.setattr(bucket, "PATIENCE", 2.0)
    monkeypatch.setattr(bucket, "FIRST_PATIENCE", 2.0)
