from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ingest.replay.sections import section_id
from tests.views import world
from views import Policy, connect
from views.connect import needed
from views.policy import Replay


def section(content: str, kind: str = "prose", at: int = 0, **more: Any) -> dict[str, Any]:
    """A sighting of a section, `at` seconds from the start."""
    return {
        "section_id": section_id(kind, content),
        "section_type": kind,
        "content": content,
        "content_bytes": len(content.encode()),
        "recorded_at": world.at(at),
        **more,
    }


@pytest.fixture
def sighted() -> Callable[..., dict[str, Any]]:
    """Makes sightings."""
    return section


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Any]:
    """Opens relations over sightings, under a policy of replay; nothing is reserved unless the policy says so."""

    def opens(rows: list[dict[str, Any]], names: str, **policy: Any) -> Any:
        asked = Policy(replay=Replay(**{"retention": 0.0, **policy}))
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        return connect(world.make(folder, replay=rows), asked, sql=needed(names), threads=1)

    return opens
