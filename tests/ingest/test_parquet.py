"""Parquet from elsewhere: what its rows are, and what becomes of a reader that is not what it should be."""

import json
import struct
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingest import parquet, sandbox
from ingest.blocks import Sizes
from ingest.run import Options, Summary, ingest
from ingest.sources import Limits
from lake import Lake, LakeError

ROW = {"run_id": "r", "task_id": "t", "text": "x"}


def put(lake: Lake, path: Path, table: pa.Table, options: Options | None = None, **written: object) -> Summary:
    pq.write_table(table, path, **written)
    return ingest(lake, "evidence", [str(path)], options)


def errors(lake: Lake) -> list[str]:
    return [error for reject in lake.read("rejects").to_pylist() for error in reject["errors"]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "f.parquet"


def test_text_that_is_none_costs_its_own_row(path, lake):
    """Bytes that are not UTF-8, in a column that says it is text, reject their row and no other."""
    texts = pa.array([b"good", b"b\xffd", b"fine"]).view(pa.string())
    table = pa.table({"run_id": ["a", "b", "c"], "task_id": ["t"] * 3, "text": texts})
    summary = put(lake, path, table)
    assert summary.rejected == {"invalid_utf8": 1}
    assert set(lake.read("evidence")["run_id"].to_pylist()) == {"a", "c"}
    assert lake.read("rejects").to_pylist()[0]["source"]["line"] == 2


def test_a_row_that_is_too_long_costs_itself(path, lake):
    """A row of more bytes than a row may have is rejected, with its place and size; the others are kept."""
    texts = ["short", "x" * 300_000, "short"]
    table = pa.table({"run_id": ["a", "b", "c"], "task_id": ["t"] * 3, "text": texts})
    summary = put(lake, path, table, Options(sizes=Sizes(row=100_000)))
    assert (summary.added, summary.rejected) == (2, {"too_long": 1})
    (reject,) = lake.read("rejects").to_pylist()
    assert reject["source"]["line"] == 2
    assert json.loads(reject["extra"])["raw_bytes"] >= 300_000
    assert "--max-row-bytes" in reject["errors"][0]


def test_rows_that_take_much_memory_are_read_in_smaller_batches(path, lake):
    """Where a thousand rows do not fit into the memory there is, fewer are read at once, and each once."""
    count, texts = 110, pa.array(["x" * 1_000_000])
    column = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), texts)
    table = pa.table({"run_id": [f"r{n}" for n in range(count)], "task_id": ["t"] * count, "text": column})
    summary = put(lake, path, table, Options(dry_run=True, sizes=Sizes(row=2 << 20)))
    assert (summary.rows, summary.events, summary.rejected) == (count, count, {})


def test_dictionaries_are_read_at_any_depth(path, lake):
    """A column that is a dictionary, also inside of a struct or list, gives its values."""
    inner = pa.array(["a", "b", "a"]).dictionary_encode()
    nested = pa.StructArray.from_arrays([inner], ["tag"])
    table = pa.table({"run_id": pa.array(["r1", "r2", "r3"]).dictionary_encode(), "task_id": ["t"] * 3, "more": nested})
    summary = put(lake, path, table.append_column("text", [["x"] * 3]))
    assert (summary.added, summary.rejected) == (3, {})
    found = {row["run_id"]: json.loads(row["extra"]) for row in lake.read("evidence").to_pylist()}
    assert found == {"r1": {"more": {"tag": "a"}}, "r2": {"more": {"tag": "b"}}, "r3": {"more": {"tag": "a"}}}


def test_an_encrypted_file_is_said_to_be_one(path, lake):
    """It is refused by its last bytes."""
    path.write_bytes(b"PAR1" + bytes(100) + b"\x10\0\0\0PARE")
    assert ingest(lake, "evidence", [str(path)]).rejected == {"unknown_format": 1}
    assert "encrypted" in errors(lake)[0]


def test_a_footer_has_a_limit(path, lake):
    """A file whose description of itself is larger than all that is reasonable is refused unread."""
    path.write_bytes(b"PAR1" + bytes(20 << 20) + struct.pack("<I", 20 << 20) + b"PAR1")
    assert ingest(lake, "evidence", [str(path)]).rejected == {"decompression_bomb": 1}
    assert "footer" in errors(lake)[0]


def test_rows_without_columns_and_rows_of_nulls_end(path, lake):
    """Rows that take no space in the file are rejected as any other, and no more than some thousands of them."""
    summary = put(lake, path, pa.table({"run_id": pa.nulls(1_000_000)}))
    assert set(summary.rejected) == {"missing_field", "decompression_bomb"}
    assert summary.rows < 100_000


def test_text_in_a_column_is_text_whatever_it_would_run(path, lake):
    """A pickle in a column is bytes like any other: text where it is text, else rejected, and never loaded."""
    table = pa.table(
        {
            "run_id": ["a", "b"],
            "task_id": ["t"] * 2,
            "text": ["cos\nsystem\n(S'true'\ntR.", "x"],
            "blob": [b"x", b"\x80\x04."],
        }
    )
    summary = put(lake, path, table)
    assert summary.rejected == {"invalid_utf8": 1}
    assert lake.read("evidence")["text"].to_pylist() == ["cos\nsystem\n(S'true'\ntR."]


STRANGERS = {
    "ends": "pass",
    "crashes": "os.abort()",
    "is killed": "os.kill(os.getpid(), 9)",
    "fails": "raise ValueError('no idea')",
    "hangs": "time.sleep(600)",
    "goes round": "exec('while True: pass')",
    "babbles": "os.write(pipe, b'x' * 100)",
    "announces more than there is": "os.write(pipe, b'B' + struct.pack('<Q', 1 << 60))",
    "says half of it": "os.write(pipe, b'B' + struct.pack('<Q', 1000) + b'x' * 10)",
    "sends no Arrow": "os.write(pipe, b'B' + struct.pack('<Q', 100) + b'x' * 100)",
    "sends an empty stream": "os.write(pipe, b'B' + struct.pack('<Q', 0))",
    "sends no JSON": "os.write(pipe, b'E' + struct.pack('<Q', 3) + b'{{{')",
    "floods": "exec('while True: sys.stderr.write(chr(120) * 65536)')",
    "takes memory": "exec('held = []\\nwhile True: held.append(bytes(1 << 24))')",
}


@pytest.mark.parametrize("stranger", STRANGERS)
def test_whatever_reads_the_file_the_ingest_goes_on(stranger, path, tmp_path, lake, monkeypatch):
    """A reader that crashes, hangs or lies costs the file a reject that says so, and the next file is read."""
    program = (
        "import json, os, struct, sys, time\n"
        "def main():\n    pipe = json.load(open('orders.json'))['pipe']\n    " + STRANGERS[stranger] + "\n"
    )
    (tmp_path / "stranger.py").write_text(program)
    monkeypatch.setattr(parquet, "_CHILD", tmp_path / "stranger.py")
    pq.write_table(pa.table({name: [value] for name, value in ROW.items()}), path)
    (tmp_path / "g.jsonl").write_text(json.dumps(ROW) + "\n")
    began = time.monotonic()
    summary = ingest(
        lake, "evidence", [str(path), str(tmp_path / "g.jsonl")], Options(limits=Limits(silence_seconds=0.7))
    )
    assert time.monotonic() - began < 10
    assert (summary.added, summary.rejected) == (1, {"corrupt": 1})
    (error,) = errors(lake)
    assert "\n" not in error
    assert "Parquet file" in error


def test_values_that_are_not_what_they_say_are_not_taken(path, tmp_path, lake, monkeypatch):
    """Arrow whose offsets point outside of its bytes is refused before anything looks at it."""
    good = pa.array(["abc", "def"])
    bad = pa.StringArray.from_buffers(2, pa.py_buffer(struct.pack("<3i", 0, 1 << 20, 6)), good.buffers()[2])
    sink = pa.BufferOutputStream()
    batch = pa.RecordBatch.from_arrays([bad], ["run_id"])
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    data = sink.getvalue().to_pybytes()
    program = (
        "import json, os, struct\n"
        f"def main():\n    pipe = json.load(open('orders.json'))['pipe']\n    data = {data!r}\n"
        "    os.write(pipe, b'B' + struct.pack('<Q', len(data)) + data)\n"
    )
    (tmp_path / "liar.py").write_text(program)
    monkeypatch.setattr(parquet, "_CHILD", tmp_path / "liar.py")
    path.write_bytes(b"PAR1" + bytes(8) + b"PAR1")
    assert ingest(lake, "evidence", [str(path)]).rejected == {"corrupt": 1}


def test_where_there_is_no_sandbox_parquet_is_not_read(path, tmp_path, lake, monkeypatch):
    """A sandbox that cannot start is an error of the machine, not of the file: one line, and nothing is rejected."""
    monkeypatch.setattr(sandbox, "_INTERPRETER", ("/bin/false",))
    pq.write_table(pa.table({name: [value] for name, value in ROW.items()}), path)
    with pytest.raises(LakeError, match="sandbox"):
        ingest(lake, "evidence", [str(path)])
    assert len(lake.read("rejects")) == 0
