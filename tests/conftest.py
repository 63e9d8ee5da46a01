"""What every test may rely on: a lake of its own, nothing of the environment's, and examples that do not time out."""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from lake import Lake

# No deadline: a machine that others use too is slow now and then, which says nothing about the code.
hypothesis.settings.register_profile("lake", deadline=None, print_blob=True)
hypothesis.settings.load_profile("lake")

# An object store on this machine, for those who ask for it.
pytest_plugins = ["tests.stores.server"]

PUBLIC_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_a_disk() -> Iterator[None]:
    """What is to be on the disk for good need not be there yet: half of the time would go into waiting for it.

    No power goes while tests run. Those about its going see which calls are made, and commands of their own make them.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)
        yield


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lake and the terminal that whoever runs the tests has set up play no part in them."""
    for name in list(os.environ):
        if name.startswith(("LAKE_", "AWS_")) or name in {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}:
            monkeypatch.delenv(name)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake with nothing in it."""
    return Lake.create(str(tmp_path / "lake"))


@pytest.fixture(scope="session")
def public_data() -> Path:
    """A folder of public data sets beside the checkout. Tests that need it are skipped where there is none."""
    if not PUBLIC_DATA.is_dir():
        pytest.skip("there are no public data sets beside this checkout")
    return PUBLIC_DATA
