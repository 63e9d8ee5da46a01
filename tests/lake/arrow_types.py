"""Columns of every type that Arrow has, and which of them each column of a table takes exactly. Only data."""

import datetime as dt
import decimal

import numpy as np
import pyarrow as pa

from lake.kinds import KINDS, SOURCE, TIMESTAMP

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
AT = dt.datetime(2026, 11, 21, 6, 27, 3, 141_592, tzinfo=dt.UTC)
EVIDENCE, SCORES = KINDS["evidence"], KINDS["scores"]
RUN = {"run_id": "r", "task_id": "t", "kind": "completion", "role": "executor"}
SCORE = {"run_id": "r", "scorer": "s", "scorer_version": "1", "category": "accepted"}

STRINGS = ["", "a", "é\U0001f600", "2026-01-01", "1", "true", None]
WHOLE = [0, 1, 100, None]
MOMENTS = [AT, EPOCH, None]
MATRIX = {
    **{str(given_type): pa.array(WHOLE, given_type) for given_type in (pa.int8(), pa.int16(), pa.int32(), pa.int64())},
    **{str(kind): pa.array(WHOLE, kind) for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())},
    "int64 past 2^53": pa.array([2**53 + 1], pa.int64()),
    "uint64 past 2^63": pa.array([2**63], pa.uint64()),
    "float16": pa.array([np.float16(0.1), None], pa.float16()),
    "float32": pa.array([0.1, -0.0, None], pa.float32()),
    "float64": pa.array([2.7, 1e308, 5e-324, None], pa.float64()),
    "infinity": pa.array([float("inf")], pa.float64()),
    "bool": pa.array([True, False, None]),
    "string": pa.array(STRINGS),
    "large_string": pa.array(STRINGS, pa.large_string()),
    "string_view": pa.array(STRINGS, pa.string_view()),
    "dictionary": pa.array(STRINGS).dictionary_encode(),
    "dictionary of large strings": pa.array(STRINGS, pa.large_string()).dictionary_encode(),
    "dictionary of integers": pa.array(WHOLE).dictionary_encode(),
    "run_end_encoded": pa.RunEndEncodedArray.from_arrays([2], pa.array(["a"])),
    "binary": pa.array([b"a", b"\xff", None]),
    "large_binary": pa.array([b"a"], pa.large_binary()),
    "binary_view": pa.array([b"a"], pa.binary_view()),
    "fixed_size_binary": pa.array([b"ab"], pa.binary(2)),
    "date32": pa.array([dt.date(2026, 1, 1)]),
    "date64": pa.array([dt.date(2026, 1, 1)], pa.date64()),
    "time32": pa.array([dt.time(1)], pa.time32("s")),
    "time64": pa.array([dt.time(1)], pa.time64("us")),
    "duration": pa.array([dt.timedelta(1)]),
    "interval": pa.array([(1, 2, 3)], pa.month_day_nano_interval()),
    "decimal128": pa.array([decimal.Decimal("0.1")]),
    "decimal256": pa.array([decimal.Decimal("0.1")], pa.decimal256(40, 1)),
    "timestamp[s, UTC]": pa.array([EPOCH, None], pa.timestamp("s", "UTC")),
    "timestamp[ms, UTC]": pa.array([EPOCH, None], pa.timestamp("ms", "UTC")),
    "timestamp[us, UTC]": pa.array(MOMENTS, TIMESTAMP),
    "timestamp[us, Paris]": pa.array(MOMENTS, pa.timestamp("us", "Europe/Paris")),
    "timestamp[us, +02:00]": pa.array(MOMENTS, pa.timestamp("us", "+02:00")),
    "timestamp[ns, UTC], whole": pa.array([10**18, None], pa.timestamp("ns", "UTC")),
    "timestamp[ns, UTC], finer": pa.array([10**18 + 1], pa.timestamp("ns", "UTC")),
    "timestamp[us]": pa.array([AT.replace(tzinfo=None)], pa.timestamp("us")),
    "timestamp[s, UTC], far": pa.array([2**62], pa.timestamp("s", "UTC")),
    "before 1970": pa.array([EPOCH - dt.timedelta(microseconds=1)], TIMESTAMP),
    "after 4253": pa.array([1 << 56], TIMESTAMP),
    "null": pa.nulls(3),
    "list": pa.array([["a", ""], [], None]),
    "large_list": pa.array([["a"], [], None], pa.large_list(pa.string())),
    "list of large strings": pa.array([["a"], [], None], pa.list_(pa.large_string())),
    "list of nulls": pa.array([[None]], pa.list_(pa.null())),
    "list with a hole": pa.array([["a", None]]),
    "list of integers": pa.array([[1]]),
    "list of lists": pa.array([[["a"]]]),
    "fixed_size_list": pa.array([["a", "b"]], pa.list_(pa.string(), 2)),
    "list_view": pa.array([["a"]], pa.list_view(pa.string())),
    "map": pa.array([[("a", "b")]], pa.map_(pa.string(), pa.string())),
    "source": pa.array([{"file": "f", "line": 1, "sha256": None}, None], SOURCE),
    "source with a small line": pa.array(
        [{"file": "f", "line": 1, "sha256": None}],
        pa.struct([("file", pa.large_string()), ("line", pa.uint8()), ("sha256", pa.null())]),
    ),
    "source with a text line": pa.array([{"file": "f", "line": "1", "sha256": None}]),
    "source with more": pa.array([{"file": "f", "line": 1, "sha256": None, "more": 1}]),
    "source with less": pa.array([{"file": "f", "line": 1}]),
    "empty struct": pa.array([{}], pa.struct([])),
    "union": pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array(["a"])]),
    "json": pa.array(["1"], pa.json_()),
    "uuid": pa.array([b"0123456789abcdef"], pa.uuid()),
    "bool8": pa.array([1], pa.bool8()),
}
TARGETS = {
    "text": (EVIDENCE, RUN),
    "source_files": (EVIDENCE, RUN),
    "source": (EVIDENCE, RUN),
    "recorded_at": (EVIDENCE, RUN),
    "score": (SCORES, SCORE),
    "passed": (KINDS["receipts"], {"stage": "s"}),
}
STRING_LIKE = ("string", "large_string", "string_view", "dictionary", "dictionary of large strings")
EXACT = {
    "text": {*STRING_LIKE, "null"},
    "source_files": {"list", "large_list", "list of large strings", "null"},
    "source": {"source", "source with a small line", "null"},
    "recorded_at": {
        *("timestamp[s, UTC]", "timestamp[ms, UTC]", "timestamp[us, UTC]", "timestamp[us, Paris]"),
        *("timestamp[us, +02:00]", "timestamp[ns, UTC], whole", "null"),
    },
    "score": {
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float", "double"),
        *("float32", "float64", "dictionary of integers", "null"),
    },
    "passed": {"bool", "null"},
}


def same(kept, was):
    """Equal, and of one type as far as Python tells: 1 is not True, and a text is no list of letters."""
    if isinstance(was, dict):
        return isinstance(kept, dict) and all(same(kept[name], was[name]) for name in kept.keys() | was.keys())
    if isinstance(was, bool) or isinstance(kept, bool):
        return kept is was
    return kept == was
