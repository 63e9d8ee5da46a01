"""What deltalake does when two of its operations set out from the same version of a table: every pair, played out.

`races.txt`, beside this file, has what each pair is expected to end in. `python -m tests.faults.races` prints that
table anew for the installed deltalake, to be read against the one that is there: see `test_guard.py` for what to do
then.

The lake commits through its own store and none of this; its users may open its tables with other programs, and which
races these win or lose is the first thing that shows that a new release treats the log in another way.
"""

import contextlib
import itertools
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction

EXPECTED = Path(__file__).with_name("races.txt")
REFUSED = "no"
WRONG = "!"  # rows are doubled, or outlive what replaced them
FIRST, SECOND = 10, 11  # the rows that the first and the second operation bring, if they bring any


def rows(*numbers: int) -> pa.Table:
    """A row for each number."""
    return pa.table({"id": pa.array(numbers, pa.int64()), "of": pa.array(numbers, pa.int64())})


def transaction(table: DeltaTable, number: int) -> None:
    """Add a file by a commit that lands on the next version or not at all."""
    folder = table.table_uri.removeprefix("file://").rstrip("/")
    name = f"own-{number}.parquet"
    pq.write_table(rows(number), f"{folder}/{name}")
    size = os.path.getsize(f"{folder}/{name}")
    add = AddAction(name, size, {}, int(time.time() * 1000), True, json.dumps({"numRecords": 1}))
    once = CommitProperties(max_commit_retries=0)
    table.create_write_transaction([add], mode="append", schema=table.schema(), commit_properties=once)


def merge(table: DeltaTable, number: int) -> None:
    """Update one row and insert another."""
    into = table.merge(rows(1, number), "new.id = old.id", "new", "old")
    into.when_matched_update_all().when_not_matched_insert_all().execute()


OPERATIONS: dict[str, Callable[[DeltaTable, int], object]] = {
    "transaction": transaction,
    "append": lambda table, number: write_deltalake(table, rows(number), mode="append"),
    "overwrite": lambda table, number: write_deltalake(table, rows(number), mode="overwrite"),
    "delete": lambda table, _: table.delete("id = 1"),
    "update": lambda table, number: table.update(updates={"of": str(number)}, predicate="id = 2"),
    "merge": merge,
    "compact": lambda table, _: table.optimize.compact(),
    "z_order": lambda table, _: table.optimize.z_order(["id"]),
    "restore": lambda table, _: table.restore(1),
    "vacuum": lambda table, _: table.vacuum(0, dry_run=False, enforce_retention_duration=False),
    "properties": lambda table, number: table.alter.set_table_properties({"delta.checkpointInterval": str(number)}),
}


def race(first: str, second: str) -> str:
    """What a pair ends in: REFUSED, or the rows of the newest version (a and b are those that the two brought)."""
    with table_of_four() as folder:
        one, two = DeltaTable(folder), DeltaTable(folder)
        OPERATIONS[first](one, FIRST)
        before = read(folder)
        try:
            OPERATIONS[second](two, SECOND)
        except DeltaError:
            return REFUSED if read(folder) == before else f"{REFUSED}-and-yet-{told(read(folder))}"
        return told(read(folder))


def orders(first: str, second: str) -> set[str]:
    """What a pair ends in when one comes after the other, in either order."""
    ends = set()
    for pair in itertools.permutations([(first, FIRST), (second, SECOND)]):
        with table_of_four() as folder:
            for operation, number in pair:
                OPERATIONS[operation](DeltaTable(folder), number)
            ends.add(told(read(folder)))
    return ends


@contextlib.contextmanager
def table_of_four() -> Iterator[str]:
    """A table of four versions and files, with one row each, for as long as it is played with."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(4):
            write_deltalake(folder, rows(number), mode="append")
        yield folder


def read(folder: str) -> list[int]:
    """The ids in the files of the newest version."""
    paths = pa.table(DeltaTable(folder).get_add_actions()).column("path").to_pylist()
    return sorted(i for path in paths for i in pq.read_table(f"{folder}/{path}").column("id").to_pylist())


def told(ids: Iterable[int]) -> str:
    """Ids, a character each."""
    return "".join("0123456789ab"[i] for i in ids)


def expected() -> dict[tuple[str, str], str]:
    """What each pair is expected to end in, by the table; with WRONG at its end where no order of the two does."""
    header, *lines = (line.split() for line in EXPECTED.read_text().splitlines() if line and not line.startswith("#"))
    return {(line[0], name): cell for line in lines for name, cell in zip(header[1:], line[1:], strict=True)}


def main() -> None:
    """Print the table of the installed deltalake."""
    print(f"# deltalake {version('deltalake')}")
    print("first\\second", *(f"{name:>11}" for name in OPERATIONS))
    found = {}
    for pair in itertools.product(OPERATIONS, repeat=2):
        end = race(*pair)
        found[pair] = end if end == REFUSED or end in orders(*pair) else end + WRONG
    for first in OPERATIONS:
        print(f"{first:<12}", *(f"{found[first, second]:>11}" for second in OPERATIONS))


if __name__ == "__main__":
    main()
