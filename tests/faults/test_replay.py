"""What is sent again, comes late, or comes while the clock jumps: nothing new, nothing lost, the log's own order."""

import datetime as dt
import random
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from lake import Lake
from lake.compact import compact
from lake.errors import SequenceTaken, SequenceTooLow
from lake.vacuum import vacuum
from tests.faults.checker import batch_runs, check, read_table
from tests.faults.operations import append
from tests.lake.rows import evidence

DAY = 86_400


def files(root: str) -> set[str]:
    return {path.name for path in Path(root, "tables/evidence").glob("*.parquet")}


@pytest.mark.parametrize("batches", [25, pytest.param(1440, marks=pytest.mark.long)])
def test_a_day_that_is_sent_again_adds_nothing(tmp_path, batches, seed, report):
    """A whole day's batches again, by the same producer and by another, in order and in none: no row, no data file."""
    root = str(tmp_path / "lake")
    lake = Lake.create(root)
    for sequence in range(batches):
        lake.append("evidence", evidence(*batch_runs("day", sequence)), producer="day", sequence=sequence)
    before, rows = files(root), read_table(root).ids
    again = list(range(batches))
    random.Random(seed).shuffle(again)
    refused = 0
    for sequence in again:
        batch = evidence(*batch_runs("day", sequence))
        try:
            assert lake.append("evidence", batch, producer="day", sequence=sequence).repeated
        except SequenceTooLow:
            refused += 1
    assert refused == batches - 1
    for number, sequence in enumerate(again):
        batch = evidence(*batch_runs("day", sequence))
        assert lake.append("evidence", batch, producer="other", sequence=number).added == 0
    table = read_table(root)
    assert table.ids == rows
    assert files(root) == before
    assert table.problems == []
    report(
        "a day's batches sent again, in order and in none",
        2 * batches,
        "0 new rows, 0 new data files",
        f"{len(rows):,} rows",
    )


def test_a_late_sequence_is_refused_and_moves_nothing(tmp_path, seed, report):
    """A lower sequence is refused, so is other content under the same one; the position that is kept never falls."""
    root, chance = str(tmp_path / "lake"), random.Random(seed)
    lake = Lake.create(root)
    late = taken = 0
    reached = -1
    for _ in range(40):
        sequence = chance.randint(0, reached + 3)
        rows = evidence(*batch_runs("p", sequence))
        if sequence < reached:
            with pytest.raises(SequenceTooLow):
                lake.append("evidence", rows, producer="p", sequence=sequence)
            late += 1
        elif sequence == reached:
            with pytest.raises(SequenceTaken):
                lake.append("evidence", evidence("something else"), producer="p", sequence=sequence)
            assert lake.append("evidence", rows, producer="p", sequence=sequence).repeated
            taken += 1
        else:
            lake.append("evidence", rows, producer="p", sequence=sequence)
            reached = sequence
        assert lake.position("evidence", "p").sequence == reached
    assert late > 5
    assert taken > 1
    assert check(root) == []
    report(
        "a sequence comes late, or again with other events",
        late + taken,
        "refused, positions never fall",
    )


def test_a_clock_that_jumps_changes_no_order(tmp_path, seed, monkeypatch, report):
    """The clock jumps a day back or a month on between commits: versions, times, pins and all that is kept stay."""
    root, chance = str(tmp_path / "lake"), random.Random(seed)
    jump = [0]
    clock = SimpleNamespace(**{name: getattr(time, name) for name in dir(time) if not name.startswith("_")})
    clock.time_ns = lambda: time.time_ns() + jump[0] * 10**9
    clock.time = lambda: time.time() + jump[0]
    monkeypatch.setattr("lake.commits.time", clock)

    class Jumping(dt.datetime):
        """The time as this clock has it."""

        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
            return dt.datetime.now(tz) + dt.timedelta(seconds=jump[0])

    monkeypatch.setattr("lake.vacuum.datetime", Jumping)
    monkeypatch.setattr("lake.lake.datetime", Jumping)
    lake = Lake.create(root)
    freed = 0
    pins, moments, versions = {}, [], []
    for sequence in range(30):
        append(root, "p", sequence)
        commit = next(lake.commits("evidence"))
        assert commit.sequence == sequence
        moments.append(commit.at)
        versions.append(commit.version)
        if sequence % 7 == 3:
            pins[lake.pin().id] = sorted(lake.read("evidence")["event_id"].to_pylist())
        jump[0] += chance.choice([-DAY, 30 * DAY])
        if sequence % 10 == 9:
            # In the middle of a month that may seem to pass in a moment: whatever is freed, no pin needs it.
            list(compact(lake))
            freed += sum(table.files for table in vacuum(lake, dt.timedelta(days=7)))
    assert moments == sorted(set(moments))
    log = lake.logs["evidence"]
    for version, moment in zip(versions, moments, strict=True):
        assert log.version_at(moment) == version
        assert log.version_at(moment - dt.timedelta(microseconds=1)) == version - 1
    assert lake.snapshot(moments[-1].isoformat()).tables["evidence"].version == versions[-1]
    for pin, ids in pins.items():
        assert sorted(lake.snapshot(pin).read("evidence")["event_id"].to_pylist()) == ids
    assert check(root, [("p", sequence) for sequence in range(30)]) == []
    assert list(lake.verify(deep=True)) == []
    report(
        "the clock jumps -1 day or +30 days between commits",
        30,
        "order, times, pins and old versions as ever",
        f"{len(pins)} pins, {freed} files freed meanwhile",
    )
