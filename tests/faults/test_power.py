"""The power goes at any moment: what was acknowledged is there when it is back, and the lake can be used at once."""

import random
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from lake import Lake
from lake.compact import compact
from lake.errors import LakeError
from lake.repair import repair
from lake.vacuum import vacuum
from tests.faults.checker import check
from tests.faults.injector import NONE, Fault, injected
from tests.faults.operations import append
from tests.faults.power import NAMES, TAILS, Disk


def work(root: str, told: Callable[[object], None]) -> None:
    """A lake's first day: made, appended to by two producers, past a checkpoint, pinned, compacted, tidied, named."""
    Lake.create(root)
    for sequence in range(11):
        for producer in ("p", "q"):
            append(root, producer, sequence)
            told((producer, sequence))
        if sequence in {2, 8}:
            told(Lake.open(root).pin().id)
    lake = Lake.open(root)
    list(compact(lake, ["evidence"]))
    vacuum(lake, timedelta(0), force=True)
    lake.name(lake.snapshot(), "release")
    told("release")
    told(lake.put_object(b"bytes to keep"))


def journal(root: str, fault: Fault = NONE, do: Callable[..., None] = work) -> Disk:
    disk = Disk(root)
    Path(root).parent.mkdir()
    with injected(fault) as injector:
        injector.watch = disk.watch
        do(root, disk.told)
    return disk


def problems(root: str, told: list[object]) -> list[str]:
    """What was told and is not so after the power came back, and what else is wrong."""
    if not told:
        # A creation that nobody was told of may have to be done again.
        Lake.create(root, exist_ok=True)
    batches = [what for what in told if isinstance(what, tuple)]
    found = check(root, batches)
    lake = Lake.open(root)
    found += list(lake.verify(deep=True))
    kept = [*lake.snapshots(), *lake.names(), *(path.name for path in Path(root, "objects").glob("*"))]
    found += [f"{what} is lost" for what in told if isinstance(what, str) and what not in kept]
    for producer in ("p", "q"):
        # And it goes on from where it is.
        position = lake.position("evidence", producer)
        append(root, producer, position.sequence + 1 if position else 0)
    return found + check(root, batches)


def lost(disk: Disk, target: Path, seed: int, most: int | None) -> tuple[int, float, list[str]]:
    """Let the power go after each entry of a journal, or after some: how often, the slowest return, what is wrong."""
    chance = random.Random(seed)
    lengths = list(range(len(disk.journal) + 1))
    if most is not None:
        lengths = sorted(chance.sample(lengths, most))
    cases = [(length, names, chance.choice(TAILS)) for length in lengths for names in NAMES]
    if most is not None:
        cases = [(length, chance.choice(NAMES), chance.choice(TAILS)) for length in lengths]
    slowest, wrong = 0.0, []
    for length, names, tail in cases:
        told = disk.after(length, str(target), random.Random(f"{seed} {length}"), names, tail)
        since = time.monotonic()
        try:
            found = problems(str(target / "lake"), told)
        except (LakeError, OSError) as error:
            found = [f"cannot be used: {error!r}"]
        slowest = max(slowest, time.monotonic() - since)
        wrong += [f"after {length} of {len(disk.journal)} ({names}, {tail}): {problem}" for problem in found]
    return len(cases), slowest, wrong


@pytest.mark.parametrize("most", [25, pytest.param(None, marks=pytest.mark.long)])
def test_what_was_acknowledged_survives_a_power_loss(tmp_path, most, seed, report):
    """Wherever the power goes, each acknowledged batch, pin, name and object is there, and the next append works."""
    disk = journal(str(tmp_path / "before" / "lake"))
    times, slowest, wrong = lost(disk, tmp_path / "after", seed, most)
    assert wrong == []
    assert slowest < 10
    report(
        "power loss after the n-th call",
        times,
        "no acknowledged event lost, no repair needed",
        f"usable in {slowest:.2f} s",
    )


def test_the_model_finds_a_store_that_does_not_sync(tmp_path, seed, monkeypatch):
    """The same on a store that never brings anything onto the disk loses what was acknowledged: the model can tell."""
    monkeypatch.setattr("lake.files._sync", lambda path: None)
    disk = journal(str(tmp_path / "before" / "lake"))
    _, _, wrong = lost(disk, tmp_path / "after", seed, 12)
    assert wrong


@pytest.mark.parametrize("tail", [tail for tail in TAILS if tail != "whole"])
def test_a_torn_last_commit_is_put_aside_and_sent_again(tmp_path, tail, report):
    """A disk that kept a half of the last commit, of which nobody was told: verify says so, repair mends it at once."""
    root = str(tmp_path / "lake")
    lake = Lake.create(root)
    for sequence in range(24):
        append(root, "p", sequence)
    last = Path(root, "tables/evidence/_delta_log", f"{24:020d}.json")
    whole = last.read_bytes()
    last.write_bytes({"empty": b"", "nul": bytes(len(whole)), "half": whole[: len(whole) // 2]}[tail])
    since = time.monotonic()
    assert [finding.code for finding in lake.verify() if finding.table == "evidence"]
    assert [act for act in repair(lake) if act.changes]
    assert list(lake.verify(deep=True)) == []
    append(root, "p", 23)
    took = time.monotonic() - since
    assert took < 10
    assert check(root, [("p", sequence) for sequence in range(24)]) == []
    report(f"the last commit is torn ({tail})", 1, "told, put aside, sent again", f"usable in {took:.2f} s")


def insisted(root: str, told: Callable[[object], None]) -> None:
    """A lake's first minute, by somebody who does each thing again when it fails."""
    steps: list[tuple[object, Callable[[], object]]] = [
        ("lake", lambda: Lake.create(root, exist_ok=True)),
        (("p", 1), lambda: append(root, "p", 1)),
        ("object", lambda: Lake.open(root).put_object(b"bytes to keep")),
        ("pin", lambda: Lake.open(root).pin()),
        (("q", 1), lambda: append(root, "q", 1)),
    ]
    for what, do in steps:
        try:
            do()
        except LakeError:
            do()
        told(what)


@pytest.mark.parametrize("most", [8, pytest.param(None, marks=pytest.mark.long)])
def test_what_was_acknowledged_at_the_second_attempt_survives_too(tmp_path, most, seed, report):
    """A write that failed halfway and was done again is as durable as one that went well, folders included."""
    kinds = frozenset({"fsync", "mkdir", "link"})
    count = sum(kind in kinds for kind, _ in _calls(tmp_path))
    numbers = range(1, count + 1)
    for number in numbers if most is None else sorted(random.Random(seed).sample(numbers, most)):
        disk = journal(str(tmp_path / f"before{number}" / "lake"), Fault(number, "fail", kinds), insisted)
        told = disk.after(len(disk.journal), str(tmp_path / "after"), random.Random(seed), "none", "empty")
        root = tmp_path / "after" / "lake"
        batches = [what for what in told if isinstance(what, tuple)]
        assert check(root, batches) == [], number
        assert list((root / "snapshots").glob("*.json")), number
        assert list((root / "objects").glob("[0-9a-f]*")), number
    report(
        "power loss after an fsync, mkdir or link that failed and was done again",
        len(told),
        "nothing acknowledged lost",
    )


def _calls(tmp_path: Path) -> list[tuple[str, str]]:
    (tmp_path / "clean").mkdir()
    with injected() as injector:
        insisted(str(tmp_path / "clean" / "lake"), lambda what: None)
    return injector.calls
