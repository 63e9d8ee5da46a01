"""Events: what may be one, exactly kept, and an id that is a function of what it says and of nothing else."""

import dataclasses
import datetime as dt
import decimal
import hashlib
import itertools
import json
import random
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lake.errors import InvalidRows, UsageError
from lake.events import DEEPEST_JSON, slices, to_table, with_ids
from lake.ids import ID_LENGTH, keys_of
from lake.kinds import KINDS, PIN_ORDER, SOURCE, kind_named
from tests.lake.arrow_types import AT, EPOCH, EVIDENCE, EXACT, MATRIX, RUN, SCORE, SCORES, TARGETS, same

TASKS, REJECTS = KINDS["tasks"], KINDS["rejects"]
REJECT = {"kind": "evidence", "reader": "native", "reason": "schema"}


def ids(kind, rows):
    return with_ids(kind, to_table(kind, rows), "batch").column("event_id").to_pylist()


def the_id(kind, row):
    return ids(kind, [row])[0]


def plain_id(kind, row):
    """The id as the docstring of `with_ids` tells it, in plain Python, one row at a time."""
    at = row.get("recorded_at")
    micros = None if at is None else (at - EPOCH) // dt.timedelta(microseconds=1)
    said = hashlib.sha256(kind.name.encode())
    said.update(b"\n?" if micros is None else f"\n{micros:x}".encode())
    for name in [*kind.columns.names, *(["source"] if kind.placed else [])]:
        value = row.get(name)
        if name == "source":
            place = None if value is None else {key: value.get(key) for key in ("file", "line", "sha256")}
            value = json.dumps(place, ensure_ascii=False, separators=(",", ":"))
        elif isinstance(value, bool):
            value = str(value).lower()
        elif isinstance(value, float):
            value = str(struct.unpack("<q", struct.pack("<d", value))[0])
        elif isinstance(value, list):
            value = ",".join(f"{len(item.encode())}:{item}" for item in value)
        if value is not None:
            said.update(f"\n{name}={len(value.encode())}:{value}".encode())
    return f"{micros or 0:014x}-{said.hexdigest()[:32]}"


# Text in which one column could pass for two, if lengths did not tell them apart.
AWKWARD = st.text(alphabet="\n=:,0123 aé\U0001f600text_id", max_size=12)
TEXTS = st.none() | AWKWARD | st.text(max_size=20)
LISTS = st.none() | st.lists(AWKWARD, max_size=3)
REQUIRED = TEXTS.map(lambda text: f"x{text or ''}")
TIMES = st.none() | st.integers(0, 72 * 10**15).map(lambda micros: EPOCH + dt.timedelta(microseconds=micros))
RUNS = st.fixed_dictionaries(
    {"run_id": REQUIRED, "task_id": REQUIRED, "kind": st.just("completion"), "role": st.just("executor")},
    optional={"model": TEXTS, "prompt": TEXTS, "text": TEXTS, "source_files": LISTS, "recorded_at": TIMES},
)
NUMBERS = st.none() | st.floats(allow_nan=False, allow_infinity=False)
VERDICTS = st.fixed_dictionaries(
    {"run_id": REQUIRED, "scorer": REQUIRED, "scorer_version": REQUIRED, "category": st.just("rejected")},
    optional={"score": NUMBERS, "reasons": LISTS, "actor": TEXTS, "recorded_at": TIMES},
)
PLACES = st.none() | st.fixed_dictionaries(
    {},
    optional={"file": TEXTS, "line": st.none() | st.integers(-(2**63), 2**63 - 1), "sha256": TEXTS},
)
REFUSED = st.fixed_dictionaries(
    {"kind": REQUIRED, "reader": REQUIRED, "reason": REQUIRED},
    optional={"errors": LISTS, "raw": TEXTS, "source": PLACES, "recorded_at": TIMES},
)
RECEIPTS = st.fixed_dictionaries(
    {"stage": REQUIRED}, optional={"duration_s": NUMBERS, "passed": st.none() | st.booleans(), "recorded_at": TIMES}
)
ROWS = st.one_of(
    *(
        st.tuples(st.just(KINDS[name]), st.lists(rows, min_size=1, max_size=8))
        for name, rows in (("evidence", RUNS), ("scores", VERDICTS), ("rejects", REFUSED), ("receipts", RECEIPTS))
    )
)


# ids


@given(ROWS)
def test_ids_agree_with_a_plain_telling(many):
    """The ids are those that hashlib gives row by row, whatever the texts, times, numbers and lists."""
    kind, rows = many
    assert ids(kind, rows) == [plain_id(kind, row) for row in rows]


def content(kind, row):
    """What an event says, as a value that is equal exactly when it says the same."""
    names = [*kind.columns.names, "recorded_at", *(["source"] if kind.placed else [])]
    said = {name: row.get(name) for name in names}
    if said.get("source") is not None:
        said["source"] = {key: said["source"].get(key) for key in ("file", "line", "sha256")}
    return repr(said)


@given(ROWS)
@example((EVIDENCE, [{**RUN, "text": value} for value in (None, "", "0:", "\n", "1:x")]))
@example((EVIDENCE, [{**RUN, "prompt": "a", "text": "b"}, {**RUN, "prompt": "a\ntext=1:b"}, {**RUN, "text": "ab"}]))
@example((EVIDENCE, [{**RUN, "source_files": v} for v in (None, [], [""], ["", ""], ["0:"], [","], ["0:,0:"])]))
@example((EVIDENCE, [{**RUN, "source_files": v} for v in (["a", "b"], ["a,1:b"], ["b", "a"], ["ab"], ["a", "b", ""])]))
@example((EVIDENCE, [{**RUN, "recorded_at": at} for at in (None, EPOCH, EPOCH + dt.timedelta(microseconds=1))]))
@example((REJECTS, [{**REJECT, "source": v} for v in (None, {}, {"line": 1}, {"line": 2}, {"file": "null"})]))
@example((SCORES, [{**SCORE, "score": v} for v in (None, 0.0, -0.0, 5e-324, 1.0)]))
def test_different_contents_have_different_ids(many):
    """Two events have one id exactly when they say the same: no text can pass for another column, length or null."""
    kind, rows = many
    pairs = list(zip([content(kind, row) for row in rows], ids(kind, rows), strict=True))
    for (said, event_id), (other, other_id) in itertools.combinations(pairs, 2):
        assert (said == other) == (event_id == other_id)


def test_the_same_content_is_another_event_in_another_kind():
    """The kind is part of what an event says."""
    bare = pa.schema([pa.field("run_id", pa.string(), nullable=False)])
    one, other = (dataclasses.replace(kind, columns=bare, enums={}, json=()) for kind in (EVIDENCE, SCORES))
    assert the_id(one, {"run_id": "r"}) != the_id(other, {"run_id": "r"})


@settings(max_examples=40)
@given(st.lists(RUNS, min_size=1, max_size=12), st.randoms())
def test_ids_know_nothing_of_order_or_company(rows, shuffler):
    """An event has the same id alone, in any batch, and at any place in it."""
    known = dict(zip(map(repr, rows), ids(EVIDENCE, rows), strict=True))
    mixed = [*rows, *rows]
    shuffler.shuffle(mixed)
    assert ids(EVIDENCE, mixed) == [known[repr(row)] for row in mixed]
    assert the_id(EVIDENCE, mixed[0]) == known[repr(mixed[0])]


def test_ids_know_nothing_of_how_the_rows_are_held():
    """Chunks, slices, offsets, dictionaries, large strings, views and JSON null columns change no id."""
    rows = [{**RUN, "run_id": f"r{i % 7}", "text": f"é{i}", "source_files": ["a"] * (i % 3)} for i in range(40)]
    wanted = ids(EVIDENCE, rows)
    table = pa.Table.from_pylist(rows)
    held = [table, table.combine_chunks().to_batches()[0], pa.concat_tables([table[:7], table[7:7], table[7:]])]
    held += [pa.concat_tables([table, table]).slice(40), table.append_column("extra", pa.nulls(40))]
    for given_type in (pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())):
        held.append(table.set_column(0, "run_id", table["run_id"].cast(given_type)))
    held.append(table.set_column(5, "source_files", table["source_files"].cast(pa.large_list(pa.large_string()))))
    for rows_held in held:
        assert ids(EVIDENCE, rows_held) == wanted


def test_ids_do_not_depend_on_the_process():
    """Another process, with another hash seed, gives the same ids."""
    program = (
        "from lake.events import to_table, with_ids; from lake.kinds import KINDS; kind = KINDS['evidence'];"
        f"print(with_ids(kind, to_table(kind, [{RUN!r}]), 'other')['event_id'][0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        env={"PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == the_id(EVIDENCE, RUN)


def test_batch_source_and_time_of_arrival_are_not_said():
    """The same fact from another file, line or batch is the same event; for a reject the place is part of it."""
    place = {"file": "a", "line": 1, "sha256": "x"}
    assert the_id(EVIDENCE, {**RUN, "source": place}) == the_id(EVIDENCE, RUN)
    assert the_id(REJECTS, {**REJECT, "source": place}) != the_id(REJECTS, REJECT)
    one, other = (with_ids(EVIDENCE, to_table(EVIDENCE, [RUN]), batch) for batch in ("one", "other"))
    assert one["event_id"] == other["event_id"]


@pytest.mark.parametrize("kind", KINDS.values(), ids=str)
def test_a_column_that_is_added_later_changes_no_id(kind):
    """What an older version stored has the same id under a version that knows more columns."""
    row = {field.name: kind.enums.get(field.name, ["x"])[0] for field in kind.columns if not field.nullable}
    wider = dataclasses.replace(kind, columns=kind.columns.append(pa.field("later", pa.string())))
    assert the_id(wider, row) == the_id(kind, row)
    assert the_id(wider, {**row, "later": ""}) != the_id(kind, row)


@settings(max_examples=40)
@given(st.lists(TIMES, min_size=2, max_size=20))
def test_ids_sort_by_time(times):
    """In the order of their ids events are in the order of their times, unknown ones first."""
    rows = [{**RUN, "recorded_at": at} for at in times]
    in_order = [row["recorded_at"] or EPOCH for _, row in sorted(zip(ids(EVIDENCE, rows), rows, strict=True), key=str)]
    assert in_order == sorted(in_order)


@pytest.mark.parametrize(
    ("kind", "row", "event_id"),
    [
        (EVIDENCE, RUN, "00000000000000-23add2aa2ca0b32af7c33d112c69b826"),
        (
            EVIDENCE,
            {**RUN, "recorded_at": AT, "text": "naïve \U0001f600\n", "source_files": ["a.py", ""]},
            "0660c372eac4d8-730eb41a074fe77379866349d036af7a",
        ),
        (
            SCORES,
            {**SCORE, "recorded_at": AT, "score": 0.1, "reasons": []},
            "0660c372eac4d8-a33e8aca2e8e6c2bf32358036eae0e57",
        ),
        (
            TASKS,
            {"task_id": "t", "tests": "assert f(1) == 2", "extra": '{"b":1,"a":[]}'},
            "00000000000000-0f6e7435933ed10e337f1392fca5cbfc",
        ),
        (
            REJECTS,
            {**REJECT, "errors": ["a", "b"], "source": {"file": "f", "line": 3, "sha256": "0"}},
            "00000000000000-6a56a1d0ed563078a542849d48d5c873",
        ),
        (
            KINDS["receipts"],
            {"stage": "export", "passed": True, "duration_s": 1.5},
            "00000000000000-76d9681c31b10b76c85e90d9c9d493b2",
        ),
    ],
)
def test_ids_are_for_good(kind, row, event_id):
    """These ids are in lakes that exist: a release of ours or of a library that changes them splits every event."""
    assert the_id(kind, row) == event_id


def test_an_id_has_one_shape():
    """Fourteen hexadecimal digits, a hyphen, thirty-two more."""
    for event_id in (the_id(EVIDENCE, RUN), the_id(EVIDENCE, {**RUN, "recorded_at": AT})):
        time_part, _, digest = event_id.partition("-")
        assert (len(event_id), len(time_part), len(digest)) == (ID_LENGTH, 14, 32)
        assert int(time_part, 16) in (0, (AT - EPOCH) // dt.timedelta(microseconds=1))


# keys


def test_equal_ids_have_equal_keys_wherever_they_lie():
    """A key depends on the id alone, not on the chunk, slice or offset in which the array holds it."""
    texts = ids(EVIDENCE, [{**RUN, "run_id": str(i)} for i in range(50)])
    array = pa.array(texts)
    keys = keys_of(array)
    assert len(set(keys.tolist())) == 50
    assert keys_of(array.slice(13, 20)).tolist() == keys[13:33].tolist()
    assert keys_of(pa.chunked_array([array[:9], array[9:9], array[9:]])).tolist() == keys.tolist()
    data = b"??" + "".join(texts).encode()
    offsets = np.arange(2, len(data) + 1, ID_LENGTH, dtype=np.int32)
    shifted = pa.StringArray.from_buffers(50, pa.py_buffer(offsets), pa.py_buffer(data))
    assert keys_of(shifted).tolist() == keys.tolist()
    assert keys_of(array[:0]).tolist() == []


def test_keys_spread():
    """Among many ids hardly two share a key, nor do keys share their lower or upper bits."""
    maker = random.Random(1)
    keys = keys_of(pa.array([f"{0:014x}-{maker.getrandbits(128):032x}" for _ in range(100_000)]))
    assert len(np.unique(keys)) == len(keys)
    for part in (keys & np.uint64(0xFF), keys >> np.uint64(56)):
        assert np.bincount(part.astype(int), minlength=256).min() > 250


# what may be an event


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("given_type", MATRIX)
def test_a_value_is_kept_exactly_or_refused(given_type, target):
    """For every type that Arrow has, into every type that a table has: no value changes on its way in."""
    kind, row = TARGETS[target]
    column = MATRIX[given_type]
    rows = pa.table({**{name: [value] * len(column) for name, value in row.items()}, target: column})
    if given_type in EXACT[target]:
        kept = to_table(kind, rows).column(target)
        assert kept.type == kind.schema.field(target).type
        if given_type == "timestamp[ns, UTC], whole":
            assert kept.cast(pa.int64()).to_pylist() == [10**15, None]
        else:
            assert all(same(*pair) for pair in zip(kept.to_pylist(), column.to_pylist(), strict=True))
    else:
        with pytest.raises(InvalidRows, match=rf"^{kind.name}: column '{target}'"):
            to_table(kind, rows)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *[("text", value) for value in (1, 1.5, True, b"a", ["a"], {"a": 1}, AT, "\ud800")],
        *[("source_files", value) for value in ("ab", {"a"}, {"a": 1}, [1], [b"a"], ["a", None], [["a"]])],
        *[("source", value) for value in ("f", [("file", "f")], {"line": 1.0}, {"line": "1"}, {"line": True})],
        *[("source", value) for value in ({"file": "f", "more": 1}, {"line": 2**63}, {"file": b"f"}, {1: 2})],
        *[("recorded_at", value) for value in ("2026-01-01", 1, AT.replace(tzinfo=None), AT.date(), EPOCH.time())],
        *[("score", value) for value in (True, "1", decimal.Decimal("0.1"), 2**53 + 1, float("nan"), float("inf"))],
        *[("passed", value) for value in (1, 0.0, "true")],
    ],
)
def test_python_values_are_not_converted(column, value):
    """What Arrow would take for the type, though it is something else, is refused; so is what does not fit."""
    kind, row = TARGETS[column]
    with pytest.raises(InvalidRows, match=rf"^{kind.name}: column '{column}'"):
        to_table(kind, [row, {**row, column: value}])


def test_python_values_that_mean_the_type_are_kept():
    """Text, tuples and lists of text, a place, a moment in any zone, whole and numpy numbers arrive as they are."""
    moment = AT.astimezone(dt.timezone(dt.timedelta(hours=-5)))
    place = {"file": "f", "line": np.int64(3)}
    kept = to_table(EVIDENCE, [{**RUN, "source_files": ("a", "b"), "source": place, "recorded_at": moment}, RUN])
    assert kept["source_files"].to_pylist() == [["a", "b"], None]
    assert kept["source"].to_pylist() == [{"file": "f", "line": 3, "sha256": None}, None]
    assert kept["recorded_at"].to_pylist() == [AT, None]
    numbers = [1, -0.5, np.float32(0.5), np.int8(3), None]
    assert to_table(SCORES, [{**SCORE, "score": number} for number in numbers])["score"].to_pylist() == numbers


@pytest.mark.parametrize("blank", ["", " ", "\t\n", "\u3000", None])
def test_a_required_text_is_not_blank(blank):
    """A required column that says nothing is refused, with its row; an optional one may be empty."""
    with pytest.raises(InvalidRows, match=r"'run_id', row 1: .* is missing or blank"):
        to_table(EVIDENCE, [RUN, {**RUN, "run_id": blank}])
    assert to_table(EVIDENCE, [{**RUN, "text": blank}])["text"].to_pylist() == [blank]


def test_an_enum_holds_its_values():
    """A value outside the enum is refused and the allowed ones are named; null is allowed where the column is."""
    with pytest.raises(InvalidRows, match="'category', row 0: 'good' is not one of accepted, partially_accepted"):
        to_table(SCORES, [{**SCORE, "category": "good"}])
    assert len(to_table(REJECTS, [{**REJECT, "raw_encoding": value} for value in ("utf-8", "latin-1", None)])) == 3


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "{", "nul", "{'a':1}", "NaN", "-Infinity", "01", "1.", "[1,]", "{} {}", "// no", "\ufeff{}", '"\t"'),
        *('"\\ud800"', '"\\x"', '{"a"}', "[" * 100_000 + "]" * 100_000, "[" * 100_000),
    ],
)
def test_a_json_column_holds_json(text):
    """Text that is no JSON is refused, whatever is wrong with it, with its row."""
    with pytest.raises(InvalidRows, match="column 'extra', row 1 is not JSON"):
        to_table(EVIDENCE, [RUN, {**RUN, "extra": text}])


@pytest.mark.parametrize(
    "number",
    ["1e999", "-1E+400", "1e0309", "2e308", f"{'9' * 309}.0", f"{'1' * 250}e99", "9" * 5000, "[1,1e1000]"],
)
def test_a_number_in_json_is_one_that_readers_have(number):
    """A number that a double cannot reach, or that Python would not read, is refused: some readers make it infinite."""
    with pytest.raises(InvalidRows, match=r"column 'extra', row 2 is not JSON: .*out of range"):
        to_table(EVIDENCE, [RUN, {**RUN, "extra": "1e30"}, {**RUN, "extra": number}])


@pytest.mark.parametrize("number", ["1.7976931348623157e308", "1e-999", "-0.0", "9" * 300, f"0.{'3' * 400}", '"1e999"'])
def test_any_other_number_is_kept_as_it_is_written(number):
    """Small, long and whole numbers that a reader has are kept to the digit, and a text that looks like one is none."""
    assert to_table(EVIDENCE, [{**RUN, "extra": number}])["extra"].to_pylist() == [number]


@pytest.mark.parametrize("levels", [DEEPEST_JSON - 1, DEEPEST_JSON, DEEPEST_JSON + 1, 900, 5000])
@pytest.mark.parametrize("ends", ["[]", ('{"a":', "}")])
def test_json_is_only_so_deep(levels, ends):
    """JSON is kept up to a depth that every reader takes, whatever its texts look like."""
    text = ends[0] * levels + ('"' + "[{" * 400 + '"') + ends[1] * levels
    rows = [{**RUN, "extra": text}]
    if levels <= DEEPEST_JSON:
        assert to_table(EVIDENCE, rows)["extra"].to_pylist() == [text]
    else:
        with pytest.raises(InvalidRows, match=r"column 'extra', row 0 is (not JSON|deeper than)"):
            to_table(EVIDENCE, rows)


@settings(max_examples=40)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda more: st.lists(more) | st.dictionaries(st.text(), more),
    )
)
def test_json_is_kept_to_the_byte(value):
    """JSON text is not rewritten: spacing, order, escapes and long numbers stay."""
    for text in (json.dumps(value), json.dumps(value, indent=1, ensure_ascii=False)):
        try:
            text.encode()
        except UnicodeEncodeError:
            continue
        if "\\ud" not in text:
            assert to_table(EVIDENCE, [{**RUN, "extra": text}])["extra"].to_pylist() == [text]


def test_half_a_character_never_gets_in():
    """Text that is not UTF-8 is refused, in a column, in a list, in a place and in a dictionary."""
    bad = pa.StringArray.from_buffers(1, pa.array([b"\xff"]).buffers()[1], pa.array([b"\xff"]).buffers()[2])
    lists = pa.ListArray.from_arrays([0, 1], bad)
    places = pa.StructArray.from_arrays([bad, pa.array([1]), pa.array(["x"])], fields=list(SOURCE))
    dictionary = pa.DictionaryArray.from_arrays(pa.array([0]), bad)
    for name, column in (("text", bad), ("source_files", lists), ("source", places), ("model", dictionary)):
        with pytest.raises(InvalidRows, match="UTF8"):
            to_table(EVIDENCE, pa.table({**{key: [value] for key, value in RUN.items()}, name: column}))


@pytest.mark.parametrize("column", ["text", "source_files"])
def test_more_text_than_narrow_offsets_reach_is_taken_in_slices(column, monkeypatch):
    """A chunk of wide text is cast a slice at a time, each with offsets of its own, and stays what it was."""
    monkeypatch.setattr("lake.events._NARROW_BYTES", 100)
    texts = pa.array(["x" * (i * 7 % 30) if i % 5 else None for i in range(60)], pa.large_string())
    lists = pa.array([[f"{i}"] * (i % 4) if i % 3 else None for i in range(60)], pa.large_list(pa.large_string()))
    given_column = {"text": texts, "source_files": lists}[column][3:]
    rows = pa.table({**{name: [value] * 57 for name, value in RUN.items()}, column: given_column})
    kept = to_table(EVIDENCE, rows).column(column)
    assert kept.num_chunks > 3
    assert kept.to_pylist() == given_column.to_pylist()


def test_offsets_out_of_bounds_are_refused():
    """An array that points outside its own buffer is refused before anything reads it."""
    offsets = pa.py_buffer(np.array([0, 1 << 30, 3], np.int32))
    wild = pa.StringArray.from_buffers(2, offsets, pa.py_buffer(b"abc"))
    with pytest.raises(InvalidRows, match="offset"):
        to_table(EVIDENCE, pa.table({**{key: [value] * 2 for key, value in RUN.items()}, "text": wild}))


def test_columns_are_the_kinds():
    """An unknown, doubled or missing column is refused by name; the envelope is the lake's to make."""
    with pytest.raises(InvalidRows, match="has no column 'colour', 'event_id'") as caught:
        to_table(EVIDENCE, [{**RUN, "colour": 1, "event_id": "x"}])
    assert "'extra'" in caught.value.hint
    with pytest.raises(InvalidRows, match="has no column '1'"):
        to_table(EVIDENCE, [{**RUN, 1: 2}])
    with pytest.raises(InvalidRows, match="'run_id' is there twice"):
        to_table(EVIDENCE, pa.table([["a"], ["b"]], names=["run_id", "run_id"]))
    with pytest.raises(InvalidRows, match="needs the column 'run_id'"):
        to_table(EVIDENCE, [{name: RUN[name] for name in RUN if name != "run_id"}])


def test_no_rows_are_no_events():
    """Nothing, as a list, a table or a batch, becomes an empty table of the kind's schema."""
    empty = EVIDENCE.columns.empty_table()
    for rows in ([], empty, pa.RecordBatch.from_pylist([], EVIDENCE.columns)):
        events = with_ids(EVIDENCE, to_table(EVIDENCE, rows), "b")
        assert (len(events), events.schema) == (0, EVIDENCE.schema)


def test_events_have_the_tables_schema():
    """The envelope and the kind's columns, in order and exactly typed."""
    events = with_ids(EVIDENCE, to_table(EVIDENCE, [RUN]), "p@1")
    assert events.schema == EVIDENCE.schema
    assert events.select(["schema_version", "batch", "recorded_at"]).to_pylist() == [
        {"schema_version": 1, "batch": "p@1", "recorded_at": None}
    ]


@given(st.lists(st.integers(0, 2000), max_size=30), st.integers(1, 5000))
def test_slices_hold_all_rows_within_the_limit(sizes, limit):
    """Slices together are the table, and only a single row may be larger than the limit."""
    table = pa.table({"text": pa.array(["x" * size for size in sizes], pa.string())})
    parts = list(slices(table, limit))
    assert [row for part in parts for row in part["text"].to_pylist()] == table["text"].to_pylist()
    assert all(part.nbytes <= limit or len(part) == 1 for part in parts)


def test_ids_are_the_same_in_slices(monkeypatch):
    """A table too large for one array of text is told slice by slice, to the same ids."""
    rows = [{**RUN, "run_id": str(i), "text": "x" * (i * 37 % 400)} for i in range(50)]
    wanted = ids(EVIDENCE, rows)
    monkeypatch.setattr("lake.events._SLICE_BYTES", 1000)
    events = with_ids(EVIDENCE, to_table(EVIDENCE, rows), "b")
    assert events["event_id"].num_chunks > 10
    assert events["event_id"].to_pylist() == wanted


def test_an_unknown_kind_is_wrong_usage():
    """A kind that is not there is refused, and the kinds are named."""
    with pytest.raises(UsageError, match="no kind of event named 'evidences'") as caught:
        kind_named("evidences")
    assert "evidence, scores" in caught.value.hint


def test_kinds_are_consistent():
    """Each enum and JSON column is one of the kind's own text columns, and all but the ledgers are pinned."""
    for kind in KINDS.values():
        for name in (*kind.enums, *kind.json):
            assert kind.columns.field(name).type == pa.string()
        assert kind.one_row
    assert sorted(PIN_ORDER) == sorted(name for name, kind in KINDS.items() if not kind.ledger)
    places = [PIN_ORDER.index(kind) for kind in ("annotations", "scores", "evidence", "tasks", "retractions")]
    assert places == sorted(places)
