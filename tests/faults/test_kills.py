"""kill -9 at random moments, again and again: the lake opens each time, and no batch is lost, partial or twice."""

import random
import time
from pathlib import Path

import pytest

from lake import Lake
from tests.faults.checker import check, orphans, read_table
from tests.faults.processes import WORKERS
from tests.faults.victims import acknowledged, append_until_killed, checkpoint_until_killed, compact_until_killed

WHOLE_CHECK = 25  # rounds between two looks at everything; each round looks at what opening a lake does


def killed_round(root: str, folder: str, chance: random.Random, moment: float) -> int:
    """Two writers, one that makes checkpoints, one that compacts, each killed at a moment of its own; how many were."""
    jobs = [
        (append_until_killed, (root, folder, "a")),
        (append_until_killed, (root, folder, "b")),
        (checkpoint_until_killed, (root, chance.getrandbits(32))),
        (compact_until_killed, (root,)),
    ]
    victims = [WORKERS.Process(target=target, args=given) for target, given in jobs]
    for victim in victims:
        victim.start()
    moments = sorted((chance.uniform(0, moment), at) for at in range(len(victims)))
    since = time.monotonic()
    for due, at in moments:
        time.sleep(max(0.0, since + due - time.monotonic()))
        victims[at].kill()
    for victim in victims:
        victim.join()
    return sum(victim.exitcode == -9 for victim in victims)


@pytest.mark.parametrize("rounds", [8, pytest.param(500, marks=pytest.mark.long)])
def test_kills_lose_nothing(tmp_path, rounds, seed, report):
    """Writers, checkpoints and compaction, killed at any moment: each open works, each acknowledged batch is there."""
    root, chance = str(tmp_path / "lake"), random.Random(seed)
    Lake.create(root)
    killed = 0
    slowest = 0.0
    for number in range(rounds):
        killed += killed_round(root, str(tmp_path), chance, 0.7)
        since = time.monotonic()
        lake = Lake.open(root)
        said = lake.versions()["evidence"]
        slowest = max(slowest, time.monotonic() - since)
        assert said == len(list(Path(root, "tables/evidence/_delta_log").glob("[0-9]*.json"))) - 1, number
        if (number + 1) % WHOLE_CHECK == 0 or number + 1 == rounds:
            assert check(root, (batch for batch, _ in acknowledged(tmp_path))) == [], number
    acks = list(acknowledged(tmp_path))
    assert list(lake.verify(deep=True)) == []
    table = read_table(root)
    assert sorted(lake.read("evidence")["event_id"].to_pylist()) == sorted(table.ids)
    compactions = sum(info["operation"] == "OPTIMIZE" for info in table.commits)
    left = [name for name in orphans(root) if not name.startswith("_")]
    figure = (
        f"{len(acks):,} acknowledged, {compactions} compactions, {len(left)} orphans, opened in {slowest:.2f} s at most"
    )
    report(
        "kill -9 at random moments (writers, checkpoints, compaction)",
        f"{rounds} ({killed})",
        "0 open failures, 0 lost, 0 partial, 0 twice",
        figure,
    )
