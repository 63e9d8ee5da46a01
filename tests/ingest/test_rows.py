"""Rows: strict JSON, and the canonical form that anyone can recheck."""

import hashlib
import json
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.rows import MAX_DEPTH, Decoder, Refused, json_text, speakable

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def problems(raw: bytes) -> list[str]:
    return [problem.reason for problem in Decoder().decode(raw).problems]


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4), st.booleans())
def test_the_sha256_is_that_of_the_canonical_json(row, ascii_only):
    """However a row is written, its sha256 is that of json.dumps with sorted keys and nothing escaped."""
    raw = json.dumps(row, ensure_ascii=ascii_only, indent=1).encode()
    decoded = Decoder().decode(raw)
    canonical = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert decoded.values == row
    assert decoded.problems == []
    assert decoded.sha256 == hashlib.sha256(canonical.encode()).hexdigest()


@pytest.mark.parametrize(
    ("raw", "reasons"),
    [
        (b"{", ["not_json"]),
        (b"{'a': 1}", ["not_json"]),
        (b'{"a": 1,}', ["not_json"]),
        (b'{"a": 1} x', ["not_json"]),
        (b'\xef\xbb\xbf{"a": 1}', ["not_json"]),
        (b'{"a": "\x00"}', ["not_json"]),
        (b"[1]", ["not_an_object"]),
        (b"null", ["not_an_object"]),
        (b"3", ["not_an_object"]),
        (b"true", ["not_an_object"]),
        (b'"x"', ["not_an_object"]),
        (b'{"a": "\xff"}', ["invalid_utf8"]),
        (b'{"a": "\xed\xa0\x80"}', ["invalid_utf8"]),
        (b'{"a": 1, "a": 2, "b": {"c": 1, "c": 1}}', ["duplicate_key", "duplicate_key"]),
        (b'{"a": NaN, "b": [-Infinity], "c": {"d": 1e999}}', ["not_finite"] * 3),
        (b'{"a": "\\ud800", "\\udc00": ["\\ud800"]}', ["lone_surrogate"] * 3),
        (b'{"a": ' + b"9" * 5000 + b"}", ["number_out_of_range"]),
        (b'{"a": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", ["too_deep"]),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", ["too_deep"]),
        (b'{"a":' * 100_000, ["too_deep"]),
        (b'{"a": 1, "a": NaN, "b": "\\ud800"}', ["duplicate_key", "not_finite", "lone_surrogate"]),
    ],
)
def test_what_is_not_strict_json_is_refused_with_all_of_its_problems(raw, reasons):
    """Everything that Python's parser lets pass and JSON does not is found."""
    assert problems(raw) == reasons


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a": "\\u0000"}',
        b'{"a": ' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}",
        b'{"a": "' + b"[" * 1000 + b'"}',
        b'{"a": ' + b"9" * 400 + b"}",
        b'{"a": "\\ud83d\\ude00"}',
        b'\t {"a": 1} \r',
    ],
)
def test_what_is_strict_json_is_taken(raw):
    """Unusual is not wrong: escaped NUL, large integers, deep but bounded nesting."""
    assert problems(raw) == []


def test_a_row_that_cannot_be_read_has_the_digest_of_its_bytes():
    """Where there is no canonical JSON, the digest is that of the bytes."""
    for raw in (b"{", b'{"a": NaN}', b'{"a": "\\ud800"}', b"\xff"):
        assert Decoder().decode(raw).sha256 == hashlib.sha256(raw).hexdigest()


def test_problems_of_one_row_do_not_reach_the_next():
    """A decoder forgets."""
    decoder = Decoder()
    decoder.decode(b'{"a": 1, "a": 2}')
    assert decoder.decode(b'{"a": 1}').problems == []


def test_json_text_keeps_the_order_of_keys():
    """Text for columns says what was said, in the order in which it was said."""
    assert json_text({"b": "é", "a": [1.0]}) == '{"b":"é","a":[1.0]}'


def test_parsed_text_is_checked_like_a_row():
    """JSON inside a cell is as strict as a row."""
    assert Decoder().parse("[1]") == [1]
    with pytest.raises(Refused, match="stands 2 times"):
        Decoder().parse('{"a": 1, "a": 2}')
    with pytest.raises(Refused, match="no number of JSON"):
        Decoder().parse("[NaN]")


def test_cells_are_said_in_json():
    """Times, decimals and bytes of a table become text, in lists and structs too; an empty cell is no value."""
    cells = {
        "time": datetime(2026, 1, 2, tzinfo=UTC),
        "day": date(2026, 1, 2),
        "decimal": Decimal("1.50"),
        "bytes": "é".encode(),
        "list": [b"a", None],
        "struct": {"x": Decimal(1)},
        "empty": None,
    }
    assert speakable(cells.items()) == {
        "time": "2026-01-02T00:00:00+00:00",
        "day": "2026-01-02",
        "decimal": "1.50",
        "bytes": "é",
        "list": ["a", None],
        "struct": {"x": "1"},
    }
    for cell, reason in ((b"\xff", "invalid_utf8"), (object(), "wrong_type")):
        with pytest.raises(Refused) as refused:
            speakable([("a", cell)])
        assert refused.value.problems[0].reason == reason
