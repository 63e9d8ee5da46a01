"""Damage, at random: bits that flip, files that are cut, swapped, deleted, put back; and what verify makes of it.

Seeded: a failure names the seed, and the same seed does the same again. The full sizes run with `make faults`.
"""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from lake import Lake
from lake.errors import LakeError
from lake.findings import Code
from lake.kinds import KINDS
from lake.log import Log
from lake.repair import Did, repair
from lake.snapshots import scan_files
from lake.stores import store_at
from lake.verify import examine
from tests.lake.damage import built, everything_read, flip
from tests.lake.rows import evidence, much_evidence


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with old and new checkpoints, pins, names, receipts and an export. Not to be written to."""
    root = built(tmp_path_factory.mktemp("original"))
    # Old enough for repair to take away what looks like an orphan.
    for path in root.rglob("*"):
        os.utime(path, (1e9, 1e9))
    return root


@pytest.fixture
def told(original: Path, tmp_path: Path) -> Lake:
    """The same, to be damaged."""
    shutil.copytree(original, tmp_path / "lake")
    return Lake.open(str(tmp_path / "lake"))


def faults(root: str, *, deep: bool = True) -> list[Code]:
    """What verify finds, also where the lake cannot be opened."""
    store = store_at(root)
    return [one.code for one in examine(store, {k: Log(store, kind) for k, kind in KINDS.items()}, deep=deep).faults]


# flipped bits in data files


def long_texts(rows: int, size: int, dice: random.Random) -> pa.Table:
    """Evidence whose pages are nearly all of its file, as where texts are long."""
    more = pa.array([dice.randbytes(size // 2).hex() for _ in range(rows)])
    table = much_evidence(0, rows)
    return table.set_column(table.column_names.index("text"), "text", more)


def footer_of(path: Path) -> int:
    """Where the footer of a Parquet file begins."""
    data = path.read_bytes()
    return len(data) - 8 - int.from_bytes(data[-8:-4], "little")


def flip_in_place(path: Path, bit: int) -> None:
    """Flip one bit of a file; the second time, flip it back."""
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ (1 << bit % 8)]))


@pytest.mark.parametrize(("count", "size"), [(60, 800), pytest.param(1000, 6000, marks=pytest.mark.long)])
def test_a_flipped_bit_in_a_data_file_is_found(told, count, size):
    """Each is found by verify --deep; reading never gives other rows: it fails, or the bit meant nothing."""
    dice = random.Random(11)
    for number in range(2):
        told.append("evidence", long_texts(3000, size, dice), producer="long", sequence=number)
    kind, log = KINDS["evidence"], told.logs["evidence"]
    pins = sorted(log.head().pin().files, key=lambda pin: -pin.size)[:2]
    wanted = {pin.path: list(scan_files(told.store, kind, [pin])) for pin in pins}
    found = {"tried": 0, "error at reading": 0, "same rows": 0, "other rows": 0, "found by verify --deep": 0}
    harmless: list[str] = []
    for number in range(count):
        pin = dice.choice(pins)
        path, bit = Path(told.uri, log.folder, pin.path), dice.randrange(pin.size * 8)
        flip_in_place(path, bit)
        found["tried"] += 1
        try:
            same = list(scan_files(told.store, kind, [pin])) == wanted[pin.path]
            found["same rows" if same else "other rows"] += 1
            harmless += [
                f"byte {bit // 8:,}" + (" (footer)" if bit // 8 >= footer_of(path) else " (before the footer)")
            ]
        except LakeError:
            found["error at reading"] += 1
        # This is what verify asks of a file; all of verify, which takes longer, now and then.
        found["found by verify --deep"] += told.store.sha256(f"{log.folder}/{pin.path}") != pin.sha256
        if number % (count // 5) == 0:
            assert faults(told.uri) == [Code.FILE_CHANGED]
        flip_in_place(path, bit)
    print(f"\nflipped bits in data files of {pins[0].size:,} bytes: {found}; no error for {harmless}")
    assert faults(told.uri) == []
    assert found["found by verify --deep"] == count
    assert found["other rows"] == 0
    # Checksums cover the data of pages: a bit of their headers or of the footer may be one that no reader needs.
    assert found["error at reading"] >= count * 0.95


# flipped bits everywhere else


def other_files(root: Path) -> Iterator[Path]:
    """Every file of a lake that is no data file."""
    for path in sorted(root.rglob("*")):
        if path.is_file() and not (path.suffix == ".parquet" and "_delta_log" not in path.parts):
            yield path


@pytest.mark.parametrize("count", [60, pytest.param(1500, marks=pytest.mark.long)])
def test_a_flipped_bit_anywhere_else_is_found_or_means_nothing(told, count):
    """In commits, manifests, lake.json, objects, checkpoints and hints: a fault, or every read gives the same."""
    root = Path(told.uri)
    before = everything_read(told)
    versions = {v: paths(told, v) for v in (1, 19, 20, 21, 40, 45)}
    dice = random.Random(5)
    table: dict[str, list[int]] = {}
    every = list(other_files(root))
    groups = sorted({sort_of(path) for path in every})
    for number in range(count):
        sort = groups[number % len(groups)]
        path = dice.choice([path for path in every if sort_of(path) == sort])
        data = path.read_bytes()
        bit = dice.randrange(len(data) * 8)
        path.write_bytes(flip(data, bit))
        row = table.setdefault(sort, [0, 0, 0])
        row[0] += 1
        if faults(told.uri):
            row[1] += 1
        else:
            row[2] += 1
            again = Lake.open(told.uri)
            assert everything_read(again) == before, f"{path} bit {bit}"
            assert {v: paths(again, v) for v in versions} == versions, f"{path} bit {bit}"
        path.write_bytes(data)
    print("\nflipped bits elsewhere: tried, found, meant nothing")
    for sort, row in sorted(table.items()):
        print(f"  {sort:<18} {row}")
    for sort in ("commit", "manifest", "object"):
        assert table[sort][0] == table[sort][1]


def sort_of(path: Path) -> str:
    if path.parent.name == "_delta_log":
        return "commit" if path.suffix == ".json" else "hint" if path.name == "_last_checkpoint" else "checkpoint"
    return {"snapshots": "manifest", "objects": "object"}.get(path.parent.name, path.name)


def paths(lake: Lake, version: int) -> list[str]:
    return sorted(file.path for file in lake.logs["evidence"].head(version).files)


# several damages at once

Damage = Callable[[Path, random.Random], str]


def commits(root: Path, dice: random.Random) -> Path:
    kind = dice.choice(["evidence", "evidence", "scores", "tasks", "snapshots", "receipts"])
    return dice.choice(sorted((root / "tables" / kind / "_delta_log").glob("*.json")))


def data_file(root: Path, dice: random.Random) -> Path:
    return dice.choice(sorted(path for path in root.glob("tables/*/*.parquet")))


def any_file(root: Path, dice: random.Random) -> Path:
    return dice.choice(sorted(path for path in root.rglob("*") if path.is_file() and path.stat().st_size))


def flip_one(root: Path, dice: random.Random) -> str:
    path = dice.choice([any_file, commits, data_file])(root, dice)
    data = path.read_bytes()
    if data:
        path.write_bytes(flip(data, dice.randrange(len(data) * 8)))
    return f"flip {path.name}"


def cut_one(root: Path, dice: random.Random) -> str:
    path = dice.choice([any_file, commits])(root, dice)
    data = path.read_bytes()
    cut = dice.randrange(len(data) + 1)
    path.write_bytes(data[:cut] + bytes(dice.choice([0, len(data) - cut])))
    return f"cut {path.name} at {cut}"


def delete_one(root: Path, dice: random.Random) -> str:
    path = dice.choice([any_file, commits, data_file])(root, dice)
    path.unlink()
    return f"delete {path.name}"


def swap_two(root: Path, dice: random.Random) -> str:
    one, other = (dice.choice([data_file, commits])(root, dice) for _ in range(2))
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)
    return f"swap {one.name} and {other.name}"


def delete_last(root: Path, dice: random.Random) -> str:
    kind = dice.choice(["evidence", "scores"])
    path = max((root / "tables" / kind / "_delta_log").glob("*.json"))
    path.unlink()
    return f"delete the last commit of {kind}"


def tear_last(root: Path, dice: random.Random) -> str:
    kind = dice.choice(["evidence", "scores", "tasks"])
    path = max((root / "tables" / kind / "_delta_log").glob("*.json"))
    data = path.read_bytes()
    path.write_bytes(dice.choice([b"", bytes(len(data)), data[: dice.randrange(max(len(data), 1))]]))
    return f"tear the last commit of {kind}"


def roll_back(root: Path, dice: random.Random) -> str:
    log = root / "tables" / dice.choice(["evidence", "scores"]) / "_delta_log"
    last = dice.randrange(len(list(log.glob("*.json"))))
    for path in [*log.glob("*.json"), *log.glob("*.checkpoint.parquet")]:
        if int(path.name[:20]) > last:
            path.unlink()
    if last < 40:
        (log / "_last_checkpoint").unlink(missing_ok=True)
    return f"roll {log.parent.name} back to {last}"


def bad_hint(root: Path, dice: random.Random) -> str:
    log = root / "tables" / "evidence" / "_delta_log"
    data = dice.choice([b"", b"?", b'{"version":33}', b'{"version":6000}', b'{"version":20}', b"\xff"])
    (log / "_last_checkpoint").write_bytes(data)
    return f"hint {data!r}"


def foreign(root: Path, dice: random.Random) -> str:
    log = root / "tables" / dice.choice(["evidence", "scores"]) / "_delta_log"
    last = max(log.glob("*.json"))
    last.with_name(f"{int(last.stem) + 1:020d}.json").write_bytes(dice.choice(sorted(log.glob("*.json"))).read_bytes())
    return f"foreign commit to {log.parent.name}"


DAMAGES: tuple[Damage, ...] = (
    *(flip_one, cut_one, delete_one, swap_two, delete_last, tear_last, roll_back, bad_hint, foreign),
)


def worse(before: dict[str, object], after: dict[str, object]) -> set[str]:
    """What was read before, and is not, or otherwise, now."""
    return {name for name, said in before.items() if said != "failed" and after.get(name) != said}


def reads(root: str) -> dict[str, object]:
    try:
        return everything_read(Lake.open(root))
    except LakeError:
        return {}


@pytest.mark.parametrize("count", [25, pytest.param(600, marks=pytest.mark.long)])
def test_random_damage_is_found_and_repair_makes_nothing_worse(original, tmp_path, count):
    """Whenever a read of now or of a pin differs or fails, verify says so; what can be read repair leaves readable."""
    root = tmp_path / "lake"
    shutil.copytree(original, root)
    whole = reads(str(root))
    table = dict.fromkeys(("tried", "reads hurt", "found", "mended whole", "refused in part", "unseen"), 0)
    for seed in range(count):
        shutil.rmtree(root)
        shutil.copytree(original, root)
        dice = random.Random(seed)
        if dice.random() < 0.5:
            Lake.open(str(root)).append("evidence", evidence("late"), producer="late", sequence=1)
            whole_now = reads(str(root))
        else:
            whole_now = whole
        said = [dice.choice(DAMAGES)(root, dice) for _ in range(dice.choice([1, 1, 2, 3]))]
        told = f"seed {seed}: {said}"
        found = faults(str(root))
        hurt_reads = reads(str(root))
        hurt = worse(whole_now, hurt_reads)
        unseen = {name for name in hurt if name.startswith(("now", "at"))} == hurt
        table["tried"] += 1
        table["reads hurt"] += bool(hurt)
        table["found"] += bool(found)
        if hurt and not found:
            # A last commit that nothing refers to and that is gone, or cleanly went back: nothing in the lake knows it.
            assert unseen, f"{told}: {sorted(hurt)}"
            assert any("last commit" in one or "roll" in one or "delete 0000" in one for one in said), told
            table["unseen"] += 1
        if Code.MARKER in found:
            with pytest.raises(LakeError, match="lake"):
                Lake.open(str(root))
            continue
        acts = repair(Lake.open(str(root)), remove_orphans=True)
        after = reads(str(root))
        lost = {name for name in worse(hurt_reads, after) if "receipts" not in name}
        assert lost == set(), f"{told}: {sorted(lost)}: {acts}"
        refused = any(act.did is Did.REFUSED for act in acts)
        table["refused in part"] += refused
        table["mended whole"] += bool(found) and not refused
        if not refused:
            # What only a deep look finds is not mended.
            assert faults(str(root), deep=False) == [], f"{told}: {acts}"
    print(f"\nrandom damage: {table}")
    assert table["tried"] == count
