"""Types, all the way: what goes in by the door comes back the same from a pin and by SQL, or is refused with why."""

import json

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from lake import Lake
from lake.commits import decode, seal
from lake.errors import Damaged, InvalidRows, UsageError
from lake.kinds import KINDS
from tests.lake.arrow_types import EXACT, MATRIX, TARGETS, same
from tests.lake.rows import much_evidence
from views.connect import connect


@pytest.mark.parametrize("target", TARGETS)
def test_a_type_comes_back_as_it_went_in_or_is_refused(lake, target, report):
    """Each of Arrow's types, put into a table, pinned, and read by pyarrow and DuckDB, has changed no value."""
    kind, row = TARGETS[target]
    told, refused = {}, 0
    for number, (name, column) in enumerate(MATRIX.items()):
        runs = [f"{name} {i}" for i in range(len(column))]
        key = "run_id" if "run_id" in row else "stage"
        rows = pa.table({**{at: [value] * len(column) for at, value in row.items()}, key: runs, target: column})
        before = lake.versions()
        if name in EXACT[target]:
            assert lake.append(kind.name, rows, producer="p", sequence=number).added == len(column)
            told |= dict(zip(runs, plain(column), strict=True))
        else:
            with pytest.raises(InvalidRows, match=rf"^{kind.name}: column '{target}'"):
                lake.append(kind.name, rows, producer="p", sequence=number)
            assert lake.versions() == before
            refused += 1
    for table in read(lake, kind.name, [key, target]):
        kept = dict(zip(table[key].to_pylist(), plain(table[target]), strict=True))
        assert kept.keys() == told.keys()
        assert all(same(kept[run], told[run]) for run in told)
    assert list(lake.verify(deep=True)) == []
    report(
        f"types into {kind.name}.{target}", len(MATRIX), f"{len(MATRIX) - refused} exact, {refused} refused, 0 other"
    )


def plain(column: pa.ChunkedArray | pa.Array) -> list[object]:
    """Values as Python has them, moments in microseconds since 1970: it has no nanoseconds."""
    if pa.types.is_timestamp(column.type):
        per_unit = {"s": 1_000_000, "ms": 1000, "us": 1, "ns": 0.001}[column.type.unit]
        return [None if at is None else round(at * per_unit) for at in column.cast(pa.int64()).to_pylist()]
    return column.to_pylist()


def read(lake: Lake, kind: str, columns: list[str]) -> list[pa.Table]:
    """A kind's columns by each way in which they are read."""
    if KINDS[kind].ledger:
        return [lake.read(kind).select(columns)]
    snapshot = lake.pin()
    with connect(snapshot) as con:
        by_sql = con.sql(f"select {', '.join(columns)} from events.{kind}").to_arrow_table()
    return [snapshot.read(kind, columns), by_sql, lake.read(kind).select(columns)]


@pytest.mark.parametrize(
    ("column", "given"),
    [
        ("score", pa.array([2**53 + 1], pa.int64())),
        ("score", pa.array(["7"])),
        ("score", pa.array([float("nan")])),
        ("score", pa.array([True])),
        ("text", pa.array([7])),
        ("text", pa.array([2.7])),
        ("text", pa.array([b"\xff"])),
        ("recorded_at", pa.array([10**18 + 1], pa.timestamp("ns", "UTC"))),
        ("recorded_at", pa.array([0], pa.timestamp("us"))),
        ("recorded_at", pa.array(["2026-01-01T00:00:00Z"])),
        ("recorded_at", pa.array([0], pa.int64())),
        ("source_files", pa.array([[1, 2]])),
    ],
)
def test_a_lossy_cast_is_refused(lake, column, given):
    """A value that would have to change to fit, be rounded, or be given a zone, stays out, and the reason is told."""
    kind, row = TARGETS[column]
    rows = pa.table({**{name: [value] for name, value in row.items()}, column: given})
    with pytest.raises(InvalidRows, match=rf"^{kind.name}: column '{column}'"):
        lake.append(kind.name, rows, producer="p", sequence=0)
    assert set(lake.versions().values()) == {0}


TEXTS = [
    "",
    "\0",
    "a\0b",
    "\ufeff",
    "\u2028",
    "\x7f",
    "\U0010ffff",
    "\ufffe",
    "e\u0301",
    "é",
    "'; drop table",
    "{}",
    "null",
]


def test_every_character_comes_back(lake):
    """NUL, marks, separators, the last code point and characters in either form are what they were, in any reader."""
    texts = [*TEXTS, "".join(map(chr, range(0xD800))), "".join(map(chr, range(0xE000, 0x11000)))]
    rows = [{**TARGETS["text"][1], "run_id": f"r{i}", "text": text} for i, text in enumerate(texts)]
    lake.append("evidence", rows, producer="p", sequence=0)
    for table in read(lake, "evidence", ["run_id", "text"]):
        assert sorted(table.to_pylist(), key=lambda row: int(row["run_id"][1:])) == [
            {"run_id": f"r{i}", "text": text} for i, text in enumerate(texts)
        ]


@pytest.mark.long
def test_a_chunk_of_more_than_two_gibibytes(lake, report):
    """A chunk of wide text that no narrow one can hold goes in and comes out; one value of that size is refused."""
    million = 1 << 20
    texts = pa.concat_arrays([pa.array([f"{i:04}" + "y" * million for i in range(700)], pa.large_string())] * 3)
    rows = pa.table(
        {
            **{name: pa.repeat(value, len(texts)) for name, value in TARGETS["text"][1].items()},
            "run_id": [f"r{i}" for i in range(len(texts))],
            "text": texts,
        }
    )
    assert lake.append("evidence", rows, producer="p", sequence=0).added == len(texts)
    sizes, starts = [], set()
    for batch in lake.snapshot().scan("evidence", ["text"]):
        sizes += pc.binary_length(batch.column(0)).to_pylist()
        starts |= set(pc.utf8_slice_codeunits(batch.column(0), 0, 4).to_pylist())
    assert sizes == [million + 4] * len(texts)
    assert starts == {f"{i:04}" for i in range(700)}
    one = pa.array(["z" * (1 << 31)], pa.large_string())
    alone = pa.table({**{name: [value] for name, value in TARGETS["text"][1].items()}, "text": one})
    with pytest.raises(InvalidRows, match="column 'text'"):
        lake.append("evidence", alone, producer="p", sequence=1)
    report("a chunk of text of 2.1 GiB, and one value of 2 GiB", 1, "kept; refused")


def nested(levels: int) -> object:
    value: object = "end"
    for level in range(levels):
        value = {"a": value} if level % 2 else [value]
    return value


NOTES = [
    {},
    {"": ""},
    {"a" * 75: "b" * 75},
    {"x": "0" * 10 + "-" + "0" * 64},
    {"lake.prev": "x", "lake.seal": "0" * 75, "lake.rows": -1, "lake.released": ["y"]},
    {"text": '\n"}}\r\u2028\u0085\0{"add":{}}'},
    {"numbers": [0, -1, 2**63 - 1, -(2**63), 2**64 - 1, 1.7976931348623157e308, 5e-324, -0.0, 0.1]},
    {"constants": [None, True, False], "long": [2**70, -(10**400)]},
    {"deep": nested(31)},
    {"wide": ["x" * 1000] * 1000},
]


@pytest.mark.parametrize("note", NOTES, ids=range(len(NOTES)))
def test_a_note_comes_back_as_it_was(lake, note):
    """Whatever a note holds, it comes back whole, and the commit that holds it is read, continued and proved."""
    for number in range(22):
        lake.append("evidence", much_evidence(number, number + 1), producer="p", sequence=number, note=note)
    found = lake.position("evidence", "p").note
    assert json.dumps(found) == json.dumps(note)
    assert list(lake.verify(deep=True)) == []


@pytest.mark.parametrize(
    "note",
    [
        *({"a": value} for value in (float("nan"), float("inf"), 1e308 * 10, (1, 2), {1, 2}, b"x", "\ud800", object())),
        *({"a": value} for value in (10**5000, nested(40), nested(100_000), "x" * (1 << 20), {1: 2})),
        *({key: 1} for key in (1, None, True, 1.5, "\ud800", ("a",))),
        ["a list"],
        "text",
        1,
    ],
    ids=lambda note: f"{type(note).__name__}",
)
def test_a_note_that_would_not_come_back_is_refused(lake, note):
    """What JSON has not, or not exactly, what is too deep or too long, and what is no object, is wrong usage."""
    with pytest.raises(UsageError, match="a note"):
        lake.append("evidence", much_evidence(0, 1), producer="p", sequence=0, note=note)
    assert lake.versions()["evidence"] == 0


def test_what_an_older_version_said_last_is_no_seal():
    """A commit that was never sealed is read whatever it ends in; a seal by another name is no seal that holds."""
    last = b'{"commitInfo":{"timestamp":1,"%s":"%s"}}\n'
    assert decode(last % (b"lake.producer", b"p" * 75), "")["commitInfo"] == [
        {"timestamp": 1, "lake.producer": "p" * 75}
    ]
    sealed = seal(b'{"commitInfo":{"timestamp":1}}\n')
    assert decode(sealed, "")["commitInfo"][0]["timestamp"] == 1
    for changed in (sealed.replace(b"lake.seal", b"lake.seam"), sealed.replace(b'p":1', b'p":2')):
        with pytest.raises(Damaged):
            decode(changed, "")
