"""Plain rows, many at once: the same as one by one."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.blocks import Block, Mark
from ingest.checks import DEFAULTS
from ingest.columns import PlainRows
from ingest.parse import Parsed, Parser
from ingest.readers import READERS
from lake import KINDS
from lake.kinds import CATEGORIES, EVIDENCE_KINDS, ROLES

LIMIT = 4000
SPECIAL = (
    *(
        "",
        " ",
        "\t",
        "\n",
        "\r\n",
        "\x00",
        "\x0b",
        "\x1c",
        "\x1f",
        " \x7f",
        "\x85",
        "\xa0",
        "\u2028",
        "\u3000",
        "\ufeff",
    ),
    *("😀", "é", "e\u0301", '"', "\\", "\\\\u0000", "\\u0001", "/", ",]", ",}", '":', "NaN", "null", "{}", "a" * 700),
    *("\ud800", "\udc00x", "completion", "executor", "reviewer", "accepted", "Accepted", "1", "01", "-0"),
    *("2026-01-02T03:04:05Z", "2026-01-02 03:04:05", "2026-01-02T03:04:05.123456+05:30", "2026-02-30T00:00:00Z"),
    *("2026-01-02T03:04:05.1234567Z", "2026-01-02", "20260102T030405Z", "2026-01-02T24:00:00Z", "2026-01-02T23:59:60Z"),
    *(
        "1969-12-31T23:59:59Z",
        "2099-12-31T23:59:59.9-14:59",
        "2026-1-2T03:04:05Z",
        "2026-01-02T03:04:05 Z",
        "yesterday",
    ),
)
TEXTS = st.sampled_from(SPECIAL) | st.text(max_size=12)
NUMBERS = (
    st.integers(-(10**17), 10**17)
    | st.floats()
    | st.floats(-2, 2)
    | st.sampled_from(
        [0, -0.0, 1e16, 1e-5, 1e22, 123456789012345.6, 0.1 + 0.2, 5e-324, 1.7976931348623157e308, 2**53 + 1]
    )
)
LITERALS = st.sampled_from(
    [
        "NaN",
        "-Infinity",
        "Infinity",
        "nan",
        "1e999",
        "-0",
        "-0.0",
        "1E5",
        "1.0",
        "01",
        "1.",
        "+1",
        "1e5",
        "0.5e-3",
        "true",
    ]
)


def quoted(text: str, ascii_only: bool) -> str:
    return json.dumps(text, ensure_ascii=ascii_only or not text.isprintable())


CHOICES = {"kind": EVIDENCE_KINDS, "role": ROLES, "category": CATEGORIES}
LISTS = ("source_files", "reasons")
NESTED = ("messages", "extra", "sub_scores")
IDS = st.sampled_from(["r1", "task 7", "é", "~", "x\n", "A" * 90])


@st.composite
def fitting(draw, name: str, ascii_only: bool) -> str:
    """JSON of a value that this key should have."""
    if name in CHOICES:
        return quoted(draw(st.sampled_from(CHOICES[name])), ascii_only)
    if name == "score":
        return json.dumps(draw(NUMBERS), allow_nan=True)
    if name in LISTS:
        return json.dumps(draw(st.lists(TEXTS, max_size=3)), ensure_ascii=True)
    if name == "recorded_at":
        return quoted(draw(st.sampled_from(SPECIAL[-15:])), ascii_only)
    texts = IDS if name in ("run_id", "task_id", "scorer", "scorer_version") else TEXTS
    return quoted(draw(texts), ascii_only) if draw(st.integers(0, 6)) else "null"


@st.composite
def values(draw, name: str) -> str:
    """JSON, or nearly JSON, of anything."""
    shape = draw(st.integers(0, 9))
    if name in LISTS and shape < 5:
        items = draw(st.lists(TEXTS.map(json.dumps) | LITERALS | st.just("null"), max_size=3))
        return "[" + draw(st.sampled_from([",", ", "])).join(items) + draw(st.sampled_from(["]", ",]", ", ]"]))
    if shape < 7:
        return draw(fitting(name, draw(st.booleans())))
    return draw(st.sampled_from(["null", "{}", '{"a":[1,{"b":null}]}', "[]", "3", "true"]) | LITERALS)


@st.composite
def tame(draw, kind: str) -> bytes:
    """A line that is a row of this kind, or nearly."""
    schema = KINDS[kind].columns
    required = [field.name for field in schema if not field.nullable and field.name not in DEFAULTS[kind]]
    optional = [name for name in [*schema.names, "recorded_at"] if name not in (*required, *NESTED)]
    names = draw(st.permutations(required + draw(st.lists(st.sampled_from(optional), max_size=4, unique=True))))
    colon, comma = draw(st.sampled_from([(":", ","), (": ", ", "), (" : ", "  ,\t")]))
    ascii_only = draw(st.booleans())
    members = [f'"{name}"{colon}{draw(fitting(name, ascii_only))}' for name in names]
    text = "{" + comma.join(members) + draw(st.sampled_from(["}", "}", "} ", " }", ",}", "}\r"]))
    return text.encode(errors="surrogatepass").replace(b"\n", b" ")


@st.composite
def wild(draw, kind: str) -> bytes:
    """A line with anything that may be wrong with it."""
    names = [*KINDS[kind].columns.names, "recorded_at", "schema_version", "other", "run_id\\u0000"]
    members = [f'"{name}": {draw(values(name))}' for name in draw(st.lists(st.sampled_from(names), max_size=7))]
    end = draw(st.sampled_from(["}", ",}", " , } ", "}}", "", "} x", "   }    ", "}\x00"]))
    text = draw(st.sampled_from(["{", "{", "", " {", "[{", "\ufeff{", "//{"])) + ", ".join(members) + end
    raw = text.encode(errors="surrogatepass") if draw(st.integers(0, 3)) else text.encode("latin-1", "replace")
    return raw.replace(b"\n", b" ")


@st.composite
def lines(draw, kind: str) -> bytes:
    """A line that may be a row of this kind: good, scratched or wild."""
    if not draw(st.integers(0, 3)):
        return draw(wild(kind))
    raw = draw(tame(kind))
    if draw(st.integers(0, 3)):
        return raw
    at = draw(st.integers(0, len(raw) - 1))
    return (
        raw[:at] + draw(st.sampled_from([b"", b'"', b"\\", b",", b"\xff", b"\x01", b" ", b"{", b"]"])) + raw[at + 1 :]
    )


def block_of(rows: list[bytes]) -> Block:
    data = b"".join(row + b"\n" for row in rows)
    offsets = np.concatenate([[0], np.cumsum([len(row) + 1 for row in rows], dtype=np.int64)]).astype(np.int64)
    return Block(Mark(0, 0, ""), data, offsets, np.arange(1, len(rows) + 1, dtype=np.int64))


def parsed(kind: str, rows: list[bytes], *, columns: bool) -> Parsed:
    with Parser(kind, READERS["native"], LIMIT) as parser:
        if not columns:
            parser.close()
            parser._plain = None
        return parser.parse(block_of(rows), "f.jsonl", "jsonl")


@pytest.mark.parametrize("kind", ["evidence", "scores", "tasks"])
def test_columns_and_rows_agree(kind):
    """Whatever the lines, reading them as columns gives the same events and rejects as reading them one by one."""

    @settings(max_examples=40)
    @given(st.lists(lines(kind), min_size=1, max_size=30))
    def agree(rows):
        fast, slow = parsed(kind, rows, columns=True), parsed(kind, rows, columns=False)
        assert fast.events.to_pylist() == slow.events.to_pylist()
        assert fast.rejects.to_pylist() == slow.rejects.to_pylist()
        assert (fast.rows, fast.reasons) == (slow.rows, slow.reasons)

    agree()


def test_plain_rows_are_read_as_columns():
    """Rows of known keys and ordinary values are plain, whatever the order of keys, white space, escapes and nulls."""
    rows = {
        "evidence": [
            b'{"run_id":"r","task_id":"t","text":"x"}',
            b' {"task_id": "t", "text": "a\\n\\"b\\" \\u00e9 \xc3\xa9 \\ud83d\\ude00","run_id": "r", "model": null} \r',
            b'{"run_id":"r","task_id":"t","source_files":["a","b"],"kind":"document"}',
            b'{"recorded_at":"2026-01-02T03:04:05.5+01:00","run_id":"r","task_id":"t"}',
        ],
        "scores": [
            b'{"run_id":"r","scorer":"s","category":"accepted","score":0.25,"reasons":["why"]}',
            b'{"run_id":"r","scorer":"s","scorer_version":"2","category":"rejected","score":1}',
        ],
        "tasks": [b'{"task_id":"t","tests":"assert f(1) == [2]\\n","answer":"18"}'],
    }
    for kind, given_rows in rows.items():
        block = block_of(given_rows)
        assert len(PlainRows(kind).read(block.data, block.offsets)) == len(given_rows)


def test_a_malformed_row_does_not_slow_its_neighbours():
    """Plain rows beside one that is no JSON, and one that is no UTF-8, are still read as columns."""
    rows = [b'{"task_id":"a"}', b'{"task_id":"b"', b'{"task_id":"b"]}', b'{"task_id":"\xff"}', b'{"task_id":"c"}']
    block = block_of(rows)
    read = PlainRows("tasks").read(block.data, block.offsets)
    assert read.column("number").to_pylist() == [0, 4]


def test_nothing_is_read_of_no_rows():
    """A block without rows has no plain ones."""
    assert len(PlainRows("tasks").read(b"", np.zeros(1, np.int64))) == 0


@pytest.mark.parametrize("kind", ["evidence", "scores", "tasks"])
def test_the_columns_are_those_of_the_kind(kind):
    """Each text, list and number column of the kind is read, except the ones that hold JSON."""
    block = block_of([])
    names = set(PlainRows(kind).read(block.data, block.offsets).column_names)
    schema = KINDS[kind].columns
    assert names - {"number", "recorded_at", "sha256"} == set(schema.names) - set(KINDS[kind].json)
    assert all(pa.types.is_string(field.type) or field.name in names for field in schema)
