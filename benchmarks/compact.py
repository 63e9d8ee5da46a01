"""What does compaction cost, and what is it for? Questions over a file for each hundred rows, and over the same as one.

`python benchmarks/compact.py --rows 300000`. Both sides ask the same lake: its version before the compaction, and the
one after it. A look-up is by the view that users ask, an event, a run and a task, each drawn from all of them.
"""

import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.generate import generate
from benchmarks.measure import (
    Measured,
    Side,
    alternate,
    gigabytes,
    in_process,
    parser,
    print_ratio,
    scratch,
    timed,
)
from ingest.run import ingest
from lake import Lake
from lake.compact import compact
from lake.datafiles import write
from views import connect, needed

__all__ = ["ask", "build", "compacting", "look_up", "main", "name", "names"]

BATCH = 100
LOOK_UPS = 15
MANY, FEW = 0.5, 0.02  # seconds that a question over all rows may take before and after
BAR = 1.0
QUESTION = "select kind, role, count(*), min(recorded_at), max(recorded_at) from events.evidence group by all"


def build(evidence: str, folder: str) -> float:
    """A lake of the rows of a file in the order of their times, in a data file for each hundred."""
    whole = Lake.create(f"{folder}-whole")
    ingest(whole, "evidence", [evidence])
    rows = whole.read("evidence").sort_by("event_id").combine_chunks()
    lake = Lake.create(folder)
    log = lake.logs["evidence"]

    def fill() -> None:
        # As appends would leave them, but for a commit each, which no question looks at.
        made = [write(lake.store, log.folder, rows.slice(start, BATCH)) for start in range(0, len(rows), BATCH)]
        log.commit_after(log.head(), {"lake.rows": len(rows)}, adds=made)

    return timed(fill)


def name(folder: str, count: int) -> float:
    """Name the newest state so many times."""
    lake = Lake.open(folder)
    state = lake.snapshot()

    def give() -> None:
        for number in range(count):
            lake.name(state, f"name-{number}")

    return timed(give)


def compacting(folder: str, kind: str) -> float:
    """Compact one table."""
    lake = Lake.open(folder)
    return timed(lambda: list(compact(lake, [kind])))


def names(folder: str) -> float:
    """Read all names."""
    lake = Lake.open(folder)
    return statistics.median(timed(lake.names) for _ in range(5))


def ask(folder: str, at: str, _: int) -> float:
    """Ask a question of all rows, the middle of five times."""
    with connect(Lake.open(folder).snapshot(at), sql=needed(QUESTION) or None) as connection:
        return statistics.median(timed(lambda: connection.sql(QUESTION).fetchall()) for _ in range(5))


def look_up(folder: str, at: str, column: str, turn: int) -> float:
    """Look up the rows of one value, the middle of several; each turn draws others."""
    snapshot = Lake.open(folder).snapshot(at)
    values = snapshot.read("evidence", [column])[column].unique().sort()
    drawn = np.random.default_rng(turn).integers(0, len(values), LOOK_UPS)
    statement = f"select * from evidence where {column} = ?"
    with connect(snapshot, sql=needed(statement)) as connection:
        wanted = [values[int(number)].as_py() for number in drawn]
        return statistics.median(
            timed(lambda value=value: connection.execute(statement, [value]).fetchall())  # type: ignore[misc]
            for value in wanted
        )


def size_on_disk(lake: Lake, at: str) -> int:
    """The bytes of the files of a version."""
    return sum(file.size for file in lake.snapshot(at).tables["evidence"].files)


def main() -> None:
    """Compare questions before and after a compaction, and say what it took."""
    options = parser(main.__doc__)
    options.set_defaults(rows=300_000)
    given = options.parse_args()
    files = generate(given.rows, data=given.data)
    with scratch(given.data) as folder:
        root = str(Path(folder, "lake"))
        in_process(build, [files.evidence, root])
        lake = Lake.open(root)
        many = lake.snapshot().vector
        counted = len(lake.snapshot(many).tables["evidence"].files)
        held = lake.snapshot(many).read("evidence").nbytes
        print(f"\n{given.rows:,} rows in {counted:,} files")
        took, peak = in_process(compacting, [root, "evidence"])
        few = lake.snapshot().vector
        before, after = size_on_disk(lake, many), size_on_disk(lake, few)
        left = len(lake.snapshot(few).tables["evidence"].files)
        print(
            f"  compacted to {left} in {took:.1f} s: {held / took / 1e6:.0f} MB of data a second, peak"
            f" {gigabytes(peak)}; {before / 1e6:.1f} MB became {after / 1e6:.1f} MB, {after / before:.2f} ×"
        )
        sides = [("compacted", few), ("many files", many)]
        question = _compare("a question of all rows", [Side(n, ask, _given(root, at)) for n, at in sides], given.times)
        for each, bar in zip(question, (FEW, MANY), strict=True):
            met = "met" if each.seconds <= bar else "MISSED"
            print(f"  {each.seconds * 1000:.1f} ms, bar: at most {bar * 1000:.0f} ms, {met}")
        for column in ("event_id", "run_id", "task_id"):
            looking = [Side(n, look_up, _given(root, at, column)) for n, at in sides]
            _compare(f"a look-up by {column}", looking, given.times)
        count = max(10, given.rows // 1000)
        in_process(name, [root, count])
        slow, _ = in_process(names, [root])
        in_process(compacting, [root, "snapshots"])
        fast, _ = in_process(names, [root])
        print(f"\n{count} names of snapshots: {slow * 1000:.0f} ms, compacted {fast * 1000:.0f} ms")


def _given(*arguments: str) -> Callable[[int], list[object]]:
    """The arguments of a side, which ends with the number of the turn."""
    return lambda turn: [*arguments, turn]


def _compare(title: str, sides: list[Side], times: int) -> list[Measured]:
    """Print what both sides took, and the first one's time by the second's."""
    print(f"\n{title}", flush=True)
    measured = alternate(sides, times)
    for side, each in zip(sides, measured, strict=True):
        turns = " ".join(f"{seconds * 1000:.1f}" for seconds in each.all_seconds)
        print(f"  {side.name:<12} {each.seconds * 1000:8.1f} ms   peak {gigabytes(each.peak)}   ({turns})")
    print_ratio("time", measured[0].seconds / measured[1].seconds, BAR)
    return measured


if __name__ == "__main__":
    main()
