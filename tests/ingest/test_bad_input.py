"""Bad input: what becomes of each kind of it. Never a traceback, never a lost good row."""

import gzip
import io
import json
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from ingest.blocks import Sizes
from ingest.run import Options, Summary, ingest
from ingest.sources import Limits
from lake import Lake
from lake.errors import UsageError

GOOD = [{"run_id": f"r{number}", "task_id": "t", "text": f"text {number}", "other": number} for number in range(40)]
LINES = [json.dumps(row).encode() for row in GOOD]
BEFORE, AFTER = LINES[:20], LINES[20:]


def joined(*lines: bytes) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def row(**changes: object) -> bytes:
    return json.dumps({"run_id": "x", "task_id": "t", "text": "x", **changes}).encode()


def parquet(rows: list[dict[str, object]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def stored(lake: Lake) -> set[str]:
    return set(lake.read("evidence").column("run_id").to_pylist())


def rejects(lake: Lake) -> list[dict[str, object]]:
    return lake.read("rejects").to_pylist()


def put(tmp_path: Path, lake: Lake, name: str, data: bytes, options: Options | None = None) -> Summary:
    path = tmp_path / name
    path.write_bytes(data)
    return ingest(lake, "evidence", [str(path)], options)


BAD_ROWS = {
    "no JSON": (b"{run_id: x}", "not_json"),
    "cut off": (b'{"run_id": "x", "task', "not_json"),
    "trailing comma": (b'{"run_id":"x","task_id":"t",}', "not_json"),
    "two objects": (row() + row(), "not_json"),
    "NUL bytes": (b"\0" * 100, "not_json"),
    "NUL in text": (b'{"run_id":"x","task_id":"t","text":"a\0b"}', "not_json"),
    "an array": (b"[1, 2]", "not_an_object"),
    "a number": (b"3", "not_an_object"),
    "NaN": (b'{"run_id":"x","task_id":"t","text":"x","temperature":NaN}', "not_finite"),
    "1e999": (b'{"run_id":"x","task_id":"t","text":"x","temperature":1e999}', "not_finite"),
    "a long number": (b'{"run_id":"x","task_id":"t","n":' + b"9" * 5000 + b"}", "number_out_of_range"),
    "duplicate keys": (b'{"run_id":"x","run_id":"y","task_id":"t","text":"x"}', "duplicate_key"),
    "depth 100 000": (b'{"run_id":"x","task_id":"t","m":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too_deep"),
    "unclosed depth": (b'{"a":' * 40_000, "too_deep"),
    "a lone surrogate": (row(text="\ud800"), "lone_surrogate"),
    "invalid UTF-8": (b'{"run_id":"x","task_id":"t","text":"\xff\xfe"}', "invalid_utf8"),
    "a BOM inside": (b"\xef\xbb\xbf" + row(), "not_json"),
    "wrong type": (row(text=["x"]), "wrong_type"),
    "missing field": (row(run_id=None), "missing_field"),
    "blank field": (row(task_id=" \t"), "blank_field"),
    "bad value": (row(role="exekutor"), "unknown_value"),
    "bad time": (row(recorded_at="yesterday"), "bad_time"),
    "unknown schema_version": (row(schema_version=2), "unknown_schema_version"),
    "too long": (row(text="x" * 200_000), "too_long"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_is_rejected_and_its_neighbours_are_kept(name, tmp_path, lake):
    """A bad row becomes one reject, with its bytes and its line; every row around it is stored."""
    raw, reason = BAD_ROWS[name]
    options = Options(sizes=Sizes(block=300_000, row=210_000 if reason != "too_long" else 100_000))
    summary = put(tmp_path, lake, "f.jsonl", joined(*BEFORE, raw, *AFTER), options)
    assert stored(lake) == {good["run_id"] for good in GOOD}
    assert (summary.rows, summary.added, summary.rejected) == (41, 40, {reason: 1})
    (reject,) = rejects(lake)
    assert (reject["reason"], reject["kind"], reject["reader"]) == (reason, "evidence", "native")
    assert (reject["source"]["file"], reject["source"]["line"]) == (str(tmp_path / "f.jsonl"), 21)
    assert reject["errors"]
    if reason != "too_long":
        assert reject["raw"].encode(reject["raw_encoding"]) == raw


@pytest.mark.parametrize("name", [name for name, (raw, _) in BAD_ROWS.items() if raw.isascii() and len(raw) < 9000])
def test_a_bad_element_of_an_array_is_rejected(name, tmp_path, lake):
    """What holds for lines holds for the elements of an array, as far as they can be told apart."""
    raw, reason = BAD_ROWS[name]
    if raw.count(b"{") > raw.count(b"}") or raw.endswith(row()):
        pytest.skip("these are more or fewer than one element")
    summary = put(tmp_path, lake, "f.json", b"[" + b",\n".join([*BEFORE, raw, *AFTER]) + b"]")
    if name != "an array":
        assert summary.rejected == {reason: 1}
    assert stored(lake) == {good["run_id"] for good in GOOD}


ODD_FILES: dict[str, tuple[str, bytes, int, dict[str, int]]] = {
    "empty": ("f.jsonl", b"", 0, {}),
    "blank": ("f.jsonl", b"\n \r\n\t\n", 0, {}),
    "an empty array": ("f.json", b" [ ] ", 0, {}),
    "a BOM": ("f.jsonl", b"\xef\xbb\xbf" + joined(*LINES), 40, {}),
    "a BOM before an array": ("f.json", b"\xef\xbb\xbf[" + b",".join(LINES) + b"]", 40, {}),
    "CRLF and blank lines": ("f.jsonl", b"\r\n\r\n".join(LINES), 40, {}),
    "JSON lines in .json": ("f.json", joined(*LINES), 40, {}),
    "JSON lines in .json, the first one bad": ("f.json", joined(b'{"a": }', *LINES), 40, {"not_json": 1}),
    "one object over many lines": ("f.json", json.dumps(GOOD[0], indent=2).encode(), 1, {}),
    "objects over many lines": ("f.json", b"\n".join(json.dumps(good, indent=1).encode() for good in GOOD), 40, {}),
    "no line feed at the end": ("f.jsonl", b"\n".join(LINES), 40, {}),
    "no suffix": ("f", joined(*LINES), 40, {}),
    "gzip without a suffix": ("f.jsonl", gzip.compress(joined(*LINES)), 40, {}),
    "a suffix without gzip": ("f.jsonl.gz", joined(*LINES), 40, {}),
    "gzip in two members": ("f.jsonl.gz", gzip.compress(joined(*BEFORE)) + gzip.compress(joined(*AFTER)), 40, {}),
    "zstd in two frames": (
        "f.jsonl.zst",
        zstandard.compress(joined(*BEFORE)) + zstandard.compress(joined(*AFTER)),
        40,
        {},
    ),
    "gzip with something after it": (
        "f.jsonl.gz",
        gzip.compress(joined(*LINES)) + b"more than this",
        40,
        {"corrupt": 1},
    ),
    "truncated gzip": ("f.jsonl.gz", gzip.compress(joined(*LINES), 0)[:-100], -1, {"truncated": 1}),
    "gzip cut within its trailer": ("f.jsonl.gz", gzip.compress(joined(*LINES))[:-3], 40, {"truncated": 1}),
    "truncated zstd": ("f.jsonl.zst", zstandard.compress(joined(*LINES))[:-10], -1, {"truncated": 1}),
    "an array that is not closed": ("f.json", b"[" + b",".join(LINES), 40, {"truncated": 1}),
    "an array that is cut": ("f.json", (b"[" + b",".join(LINES))[:-3], 39, {"truncated": 1}),
    "something after an array": ("f.json", b"[" + b",".join(LINES) + b"] x", 40, {"not_json": 1}),
    "a binary file": ("f.bin", bytes(range(256)) * 40, 0, {"unknown_format": 1}),
    "a binary file named .jsonl": ("f.jsonl", bytes(range(256)) * 40, 0, {"unknown_format": 1}),
    "a zip archive": ("f.jsonl", b"PK\x03\x04" + bytes(100), 0, {"unknown_format": 1}),
    "UTF-16": ("f.jsonl", joined(*LINES).decode().encode("utf-16"), 0, {"unknown_format": 1}),
    "prose": ("f.txt", b"Dear reader,\n", 0, {"unknown_format": 1}),
    "no Parquet": ("f.parquet", b"hello", 0, {"unknown_format": 1}),
    "damaged Parquet": ("f.parquet", parquet(GOOD)[:-40], 0, {"corrupt": 1}),
    "Parquet that is cut in front": ("f.parquet", b"PAR1" + bytes(40) + b"PAR1", 0, {"corrupt": 1}),
    "a small zstd bomb": ("f.jsonl.zst", zstandard.compress(b" " * (100 << 20)), 0, {"decompression_bomb": 1}),
    "zeros in zstd": ("f.jsonl.zst", zstandard.compress(bytes(100 << 20)), 0, {"unknown_format": 1}),
    "CSV without a header": ("f.csv", b",,\n1,2,3\n", 0, {"csv_shape": 1}),
}


@pytest.mark.parametrize("name", ODD_FILES)
def test_an_odd_file_is_read_or_rejected(name, tmp_path, lake):
    """Every good row of a file is stored whatever else it holds, and what is not read is rejected with its place."""
    file, data, good, reasons = ODD_FILES[name]
    summary = put(tmp_path, lake, file, data)
    assert summary.rejected == reasons
    assert [reject["reason"] for reject in rejects(lake)] == list(reasons)
    if good >= 0:
        assert (summary.added, len(stored(lake))) == (good, good)
    else:
        # Cut off: what was whole before the cut.
        assert stored(lake) == {f"r{number}" for number in range(len(stored(lake)))}
        assert rejects(lake)[0]["source"]["line"] == len(stored(lake)) + 1


def test_a_cut_after_a_whole_line_loses_nothing(tmp_path, lake):
    """Of a compressed file that is cut in the middle of a line, all whole lines are stored, and the rest is shown."""
    whole = joined(*LINES)
    for name, pack in (("f.jsonl.gz", _gzip), ("f.jsonl.zst", _zstd)):
        summary = put(tmp_path, lake, name, pack(whole[:-10])[0])
        assert summary.events == 39
        reject = next(reject for reject in rejects(lake) if reject["source"]["file"].endswith(name))
        assert (reject["reason"], reject["source"]["line"]) == ("truncated", 40)
        assert reject["raw"].encode() == LINES[-1][: len(reject["raw"])]


def _gzip(data: bytes) -> tuple[bytes]:
    # Flushed, but never ended.
    packer = zlib.compressobj(wbits=31)
    return (packer.compress(data) + packer.flush(zlib.Z_FULL_FLUSH),)


def _zstd(data: bytes) -> tuple[bytes]:
    packer = zstandard.ZstdCompressor().compressobj()
    return (packer.compress(data) + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK),)


def test_a_bomb_is_refused_while_it_is_small(tmp_path, lake):
    """A gigabyte of zeros in some kilobytes is refused before it is unpacked, and the rows before it are kept."""
    packer = zstandard.ZstdCompressor().compressobj()
    data = packer.compress(joined(*LINES)) + packer.compress(bytes(1 << 28)) + packer.flush()
    summary = put(tmp_path, lake, "f.jsonl.zst", data, Options(limits=Limits(free_bytes=1 << 20)))
    assert summary.rejected == {"decompression_bomb": 1}
    assert summary.added == 40


def test_a_frame_that_wants_much_memory_is_refused(tmp_path, lake):
    """A zstd frame whose window is larger than allowed is not unpacked."""
    parameters = zstandard.ZstdCompressionParameters(window_log=25)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = packer.compress(joined(*LINES)) + packer.flush()
    summary = put(tmp_path, lake, "f.jsonl.zst", data, Options(limits=Limits(window_bytes=1 << 20)))
    assert summary.rejected == {"decompression_bomb": 1}
    assert "window" in rejects(lake)[0]["errors"][0]


def test_a_line_of_ten_megabytes_is_fine(tmp_path, lake):
    """A long line is a row like any other."""
    text = "x" * 10_000_000
    put(tmp_path, lake, "f.jsonl", joined(row(text=text), *LINES), Options(sizes=Sizes(block=1 << 20)))
    assert lake.read("evidence").column("text").to_pylist()[0] == text
    assert len(stored(lake)) == 41


def test_a_line_without_end_is_passed_over(tmp_path, lake):
    """Of a line that is longer than a row may be, the start is kept, and the rows after it are read."""
    options = Options(sizes=Sizes(block=1 << 16, row=1 << 18))
    summary = put(tmp_path, lake, "f.jsonl", joined(*BEFORE, b"x" * 3_000_000, *AFTER), options)
    assert (summary.added, summary.rejected) == (40, {"too_long": 1})
    (reject,) = rejects(lake)
    assert reject["source"]["line"] == 21
    assert json.loads(reject["extra"]) == {"raw_bytes": 3_000_001}
    assert reject["raw"] == "x" * (1 << 16)


def test_nul_as_an_escape_is_kept(tmp_path, lake):
    """An escaped NUL is a character of JSON, and of every engine under the lake."""
    put(tmp_path, lake, "f.jsonl", joined(row(text="a\0b")))
    assert lake.read("evidence").column("text").to_pylist() == ["a\0b"]


def test_all_errors_of_a_row_are_kept(tmp_path, lake):
    """A reject lists everything that is wrong, with JSON and with the fields."""
    put(tmp_path, lake, "f.jsonl", b'{"run_id":"","a":NaN,"role":"boss","a":1,"text":3}\n')
    (reject,) = rejects(lake)
    assert [error.split(":")[0] for error in reject["errors"]] == [
        *("the key 'a' stands 2 times in one object", "run_id", "task_id", "role", "text"),
    ]
    assert reject["reason"] == "duplicate_key"


CSV = b"run_id,task_id,text,source_files,note\n"
CSV_ROWS: dict[str, tuple[bytes, dict[str, int]]] = {
    "good": (b'a,t,"two\nlines","[""x.py"",""y.py""]",n\n', {}),
    "no line feed at the end": (b"a,t,x,y.py,n", {}),
    "too few cells": (b"a,t\n", {"csv_shape": 1}),
    "too many cells": (b"a,t,x,y,z,more\n", {"csv_shape": 1}),
    "a quote in the middle": (b'"a"b,t,x,y,z\n', {"csv_shape": 1}),
    "a quote without end": (b'a,t,"x,y,z\nb,t,x,y,z\n', {"csv_shape": 1}),
    "invalid UTF-8": (b"a,t,\xff,y,z\n", {"invalid_utf8": 1}),
    "a blank id": (b" ,t,x,y,z\n", {"blank_field": 1}),
    "an empty id": (b",t,x,y,z\n", {"missing_field": 1}),
}


@pytest.mark.parametrize("name", CSV_ROWS)
def test_csv_rows_are_read_or_rejected(name, tmp_path, lake):
    """Records of CSV become events or rejects, the rows before them are kept."""
    raw, reasons = CSV_ROWS[name]
    summary = put(tmp_path, lake, "f.csv", CSV + b"r0,t,x,y,z\n" + raw)
    assert summary.rejected == reasons
    assert "r0" in stored(lake)
    assert all(reject["source"]["line"] == 2 for reject in rejects(lake))
    if not reasons:
        assert stored(lake) == {"r0", "a"}


def test_a_bomb_of_parquet_is_refused(tmp_path, lake):
    """Parquet that unpacks to far more than it is stops where that shows."""
    path = tmp_path / "f.parquet"
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 200_000, pa.int8()), pa.array(["x" * 10_000]))
    pq.write_table(pa.table({"run_id": texts}), path)
    summary = ingest(lake, "evidence", [str(path)], Options(limits=Limits(free_bytes=1)))
    assert summary.rejected["decompression_bomb"] == 1


@pytest.mark.parametrize(
    "rows",
    [
        [{"run_id": "a", "task_id": "t", "blob": b"\xff"}],
        [{"run_id": "a", "task_id": "t", "number": float("nan")}],
        [{"run_id": 3, "task_id": "t"}],
    ],
)
def test_cells_without_a_form_in_json_are_rejected(rows, tmp_path, lake):
    """A row of a table with bytes that are no text, a number that is none, or an id that is no text is rejected."""
    summary = put(tmp_path, lake, "f.parquet", parquet(rows))
    assert (summary.rows, sum(summary.rejected.values()), len(rejects(lake))) == (1, 1, 1)


@pytest.mark.parametrize("given", ["nothing.jsonl", "empty", "*.jsonl", "\0", "x" * 5000])
def test_inputs_that_are_not_there_are_wrong_usage(given, tmp_path, lake, monkeypatch):
    """A missing file, an empty folder and a pattern without a match are said in one line, with advice."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    with pytest.raises(UsageError) as error:
        ingest(lake, "evidence", [given])
    assert "\n" not in error.value.message
    assert error.value.hint


class _Stdin:
    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
def test_stdin_is_read_like_a_file(pack: Callable[[bytes], bytes], lake, monkeypatch):
    """`-` reads what comes on stdin, compressed or not; told twice, it adds nothing."""
    for added in (40, 0):
        monkeypatch.setattr(sys, "stdin", _Stdin(pack(joined(*LINES, b"bad"))))
        summary = ingest(lake, "evidence", ["-"])
        assert (summary.added, summary.held, summary.rejected) == (added, 40 - added, {"not_json": 1})
    assert len(rejects(lake)) == 1
    assert rejects(lake)[0]["source"]["file"] == "-"


def test_a_row_of_too_many_values_is_rejected_unread(tmp_path, lake):
    """A value takes more memory than its text, so there is a limit to them, too; strings count as one each."""
    many = b'{"run_id":"many","task_id":"t","a":[' + b"[]," * 600_000 + b"[]]}"
    text = row(text="[],:{}" * 300_000)
    for name, data in (("f.jsonl", joined(*BEFORE, many, text, *AFTER)), ("f.json", b"[" + b",".join(LINES) + b"]")):
        put(tmp_path, lake, name, data)
    assert stored(lake) == {good["run_id"] for good in GOOD} | {"x"}
    (reject,) = rejects(lake)
    assert (reject["reason"], reject["source"]["line"]) == ("too_many_values", 21)
    assert "--max-row-bytes" in reject["errors"][0]


def test_more_bytes_allow_more_values(tmp_path, lake):
    """Who lets rows be longer lets them have more in them."""
    many = b'{"run_id":"x","task_id":"t","text":"x","a":[' + b"0," * 1_200_000 + b"0]}"
    assert put(tmp_path, lake, "f.jsonl", many + b"\n").rejected == {"too_many_values": 1}
    assert put(tmp_path, lake, "f.jsonl", many + b"\n", Options(sizes=Sizes(row=64 << 20))).added == 1


@pytest.mark.parametrize("element", [b"[]," * 7_000_000, b"[{" * 2_300_000, b'{"a":' * 2_000_000])
def test_an_element_without_end_ends_the_file(element, tmp_path, lake):
    """Of an array, the elements before one that has too much in it are stored, and the rest is one reject."""
    summary = put(tmp_path, lake, "f.json", b"[" + b",".join(LINES) + b",[" + element)
    assert stored(lake) == {good["run_id"] for good in GOOD}
    assert set(summary.rejected) <= {"too_many_values", "too_deep", "too_long"}
    (reject,) = rejects(lake)
    assert reject["source"]["line"] == 41
    assert "nothing behind it is read" in reject["errors"][0] or "what follows it is not read" in reject["errors"][0]


def test_elements_that_are_larger_than_what_is_looked_at_are_read(tmp_path, lake):
    """An element of some megabytes, a number at its end and all, is one row, and so are those around it."""
    large = json.dumps({"run_id": "large", "task_id": "t", "text": "\\n" * 3_000_000, "n": 12}).encode()
    summary = put(tmp_path, lake, "f.json", b"[" + b",".join([*BEFORE, large, *AFTER]) + b"]")
    assert (summary.added, summary.rejected) == (41, {})


def test_a_csv_field_without_end_is_passed_over(tmp_path, lake):
    """A quote that is never closed costs what it swallowed, and rows after the line at hand are read."""
    data = CSV + b'r0,t,x,y,z\nr1,t,"' + b"x" * 300_000 + b"\nr2,t,x,y,z\n"
    summary = put(tmp_path, lake, "f.csv", data, Options(sizes=Sizes(row=100_000)))
    assert summary.rejected == {"too_long": 1}
    assert stored(lake) == {"r0", "r2"}
    assert "--max-row-bytes" in rejects(lake)[0]["errors"][0]


def test_a_table_of_too_many_columns_is_refused(tmp_path, lake):
    """Ten thousand columns are enough."""
    names = [f"c{number}" for number in range(10_001)]
    put(tmp_path, lake, "f.csv", ",".join(names).encode() + b"\n1\n")
    put(tmp_path, lake, "f.parquet", parquet([dict.fromkeys(names, 1)]))
    assert {reject["reason"] for reject in rejects(lake)} == {"csv_shape", "too_many_values"}
    assert all("columns" in reject["errors"][0] for reject in rejects(lake))


@pytest.mark.parametrize("name", ["f.jsonl.zst", "f.jsonl.gz", "f.json.zst", "f.csv.zst"])
def test_the_same_row_over_and_over_is_a_bomb(name, tmp_path, lake):
    """What unpacks to the same few bytes without end is given up after some thousands of rows."""
    same, start, comma = b'{"run_id":"r","task_id":"t","text":"' + b"x" * 200 + b'"}', b"", b"\n"
    if name == "f.json.zst":
        start, comma = b"[", b","
    if name == "f.csv.zst":
        same, start = b"r,t," + b"x" * 200, b"run_id,task_id,text\n"
    pack = gzip.compress if name.endswith(".gz") else zstandard.compress
    limits = Limits(repeated_rows=1000, ratio=50)
    data = pack(start + (same + comma) * 60_000)
    summary = put(tmp_path, lake, name, data, Options(sizes=Sizes(block=1 << 20, rows=2000), limits=limits))
    assert summary.rejected["decompression_bomb"] == 1
    assert summary.rows < 20_000
    assert stored(lake) == {"r"}


@pytest.mark.parametrize("again", [False, True])
def test_rows_that_differ_are_no_bomb_however_well_they_pack(again, tmp_path, lake):
    """Ratio alone refuses nothing, and neither does going on where the file ended."""
    prompt = "You are a helpful assistant. " * 200
    lines = [
        json.dumps({"run_id": f"r{n}", "task_id": "t", "prompt": prompt, "text": "y"}).encode() for n in range(3000)
    ]
    options = Options(limits=Limits(free_bytes=5 << 20, repeated_rows=10), sizes=Sizes(block=1 << 19, rows=100))
    if again:
        put(tmp_path, lake, "f.jsonl.zst", zstandard.compress(joined(*lines[:2000])), options)
    data = zstandard.compress(joined(*lines))
    assert len(joined(*lines)) > 250 * len(data)
    summary = put(tmp_path, lake, "f.jsonl.zst", data, options)
    assert summary.rejected == {}
    assert len(stored(lake)) == 3000
    assert summary.files[0].resumed == again


def test_parquet_files_of_different_schemas_are_read_side_by_side(tmp_path, lake):
    """A folder whose files disagree on a column's type gives the rows that fit, and a reject for each that does not."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name, files in (("a", ["x.py"]), ("b", [1]), ("c", None), ("d", "y.py")):
        pq.write_table(
            pa.Table.from_pylist([{"run_id": name, "task_id": "t", "text": "x", "source_files": files}]),
            folder / f"{name}.parquet",
        )
    summary = ingest(lake, "evidence", [str(folder)])
    assert stored(lake) == {"a", "c"}
    assert summary.rejected == {"wrong_type": 2}
    assert {reject["source"]["file"][-9:] for reject in rejects(lake)} == {"b.parquet", "d.parquet"}
