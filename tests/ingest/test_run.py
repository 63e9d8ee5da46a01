"""The pipe: what is read, stored, and never stored twice."""

import gzip
import hashlib
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from ingest import bookmarks
from ingest.blocks import Sizes
from ingest.bookmarks import producer_of
from ingest.run import Options, Step, Summary, ingest
from ingest.sources import Source
from lake import Lake, LakeError
from lake.errors import UsageError

SMALL = Options(sizes=Sizes(block=2000))


def rows(start: int, stop: int) -> list[dict[str, object]]:
    """Every third row is not plain, so both ways of reading take part."""
    return [
        {"run_id": f"r{number}", "task_id": f"t{number % 7}", "text": f"text é {number}\n"}
        | ({} if number % 3 else {"tokens": {"in": number}})
        for number in range(start, stop)
    ]


def lines(start: int, stop: int) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows(start, stop))


def runs(lake: Lake) -> list[str]:
    return sorted(lake.read("evidence").column("run_id").to_pylist(), key=lambda run: int(run[1:]))


def counts(summary: Summary) -> tuple[int, int, int, int]:
    return summary.rows, summary.added, summary.held, summary.unchanged


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "f.jsonl"
    path.parent.mkdir()
    path.write_bytes(lines(0, 100))
    return path


def test_rows_become_events_with_their_source(file, lake):
    """Each event names the file as it was given, its line and the sha256 of its row's canonical JSON."""
    summary = ingest(lake, "evidence", [str(file)], SMALL)
    assert counts(summary) == (100, 100, 0, 0)
    events = sorted(lake.read("evidence").to_pylist(), key=lambda event: event["source"]["line"])
    for number, (event, row) in enumerate(zip(events, rows(0, 100), strict=True), 1):
        canonical = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        assert event["source"] == {"file": str(file), "line": number, "sha256": digest}
        assert (event["run_id"], event["text"]) == (row["run_id"], row["text"])
        assert (event["role"], event["kind"], event["recorded_at"]) == ("executor", "completion", None)
    assert list(lake.verify(deep=True)) == []


def test_an_unchanged_file_is_not_read_again(file, lake):
    """A file that looks as it did is skipped, says so, and nothing is committed."""
    ingest(lake, "evidence", [str(file)])
    versions = lake.versions()
    summary = ingest(lake, "evidence", [str(file)])
    assert counts(summary) == (0, 0, 0, 1)
    assert lake.versions() == versions


def test_a_grown_file_is_read_from_where_it_ended(file, lake):
    """Appended lines are read, the others are not; line numbers go on."""
    ingest(lake, "evidence", [str(file)], SMALL)
    with file.open("ab") as grown:
        grown.write(lines(100, 130))
    summary = ingest(lake, "evidence", [str(file)], SMALL)
    assert counts(summary) == (30, 30, 0, 0)
    assert summary.files[0].resumed
    assert runs(lake) == [f"r{number}" for number in range(130)]
    places = {event["source"]["line"] for event in lake.read("evidence").to_pylist()}
    assert places == set(range(1, 131))


def test_a_touched_file_is_compared_and_not_stored_again(file, lake):
    """A new time alone means no new rows; the next look costs nothing again."""
    ingest(lake, "evidence", [str(file)])
    os.utime(file, ns=(1, 1))
    assert counts(ingest(lake, "evidence", [str(file)])) == (0, 0, 0, 0)
    assert counts(ingest(lake, "evidence", [str(file)])) == (0, 0, 0, 1)


def test_a_changed_file_is_read_from_the_start(file, lake):
    """Where the beginning is not what it was, everything is read, and what is known is not stored again."""
    ingest(lake, "evidence", [str(file)], SMALL)
    file.write_bytes(lines(99, 100) + lines(0, 99) + lines(100, 110))
    assert counts(ingest(lake, "evidence", [str(file)], SMALL)) == (110, 10, 100, 0)
    file.write_bytes(lines(0, 5))
    assert counts(ingest(lake, "evidence", [str(file)], SMALL)) == (5, 0, 5, 0)
    assert runs(lake) == [f"r{number}" for number in range(110)]


def test_reading_again_on_request_adds_nothing(file, lake):
    """`again` reads from the start whatever the bookmark says."""
    ingest(lake, "evidence", [str(file)], SMALL)
    again = Options(again=True, sizes=SMALL.sizes)
    assert counts(ingest(lake, "evidence", [str(file)], again)) == (100, 0, 100, 0)


def test_the_same_rows_from_elsewhere_add_nothing(file, tmp_path, lake):
    """A copy in another format, folder or compression tells nothing new."""
    ingest(lake, "evidence", [str(file)])
    data = file.read_bytes()
    others = tmp_path / "others"
    others.mkdir()
    (others / "copy.jsonl").write_bytes(data)
    (others / "copy.jsonl.gz").write_bytes(gzip.compress(data))
    (others / "copy.ndjson.zst").write_bytes(zstandard.compress(data))
    (others / "array.json").write_text(json.dumps(rows(0, 100), indent=2))
    texts = [{**row, "tokens": json.dumps(row["tokens"]) if "tokens" in row else None} for row in rows(0, 100)]
    plain = [{name: row[name] for name in ("run_id", "task_id", "text")} for row in texts if row["tokens"] is None]
    pq.write_table(pa.Table.from_pylist(plain), others / "plain.parquet")
    summary = ingest(lake, "evidence", [str(others)], SMALL)
    assert (summary.added, summary.held) == (0, 400 + len(plain))
    assert [Path(file.file).name for file in summary.files] == [
        *("array.json", "copy.jsonl", "copy.jsonl.gz", "copy.ndjson.zst", "plain.parquet"),
    ]


@pytest.mark.parametrize(
    "name", ["f.jsonl", "f.jsonl.gz", "f.jsonl.zst", "f.json", "f.csv", "f.parquet", "f.parquet.gz"]
)
def test_a_cut_short_ingest_goes_on_where_it_was(name, tmp_path, lake, monkeypatch):
    """When storing fails after some blocks, the next attempt reads only the others, whatever the format."""
    path = tmp_path / name
    total = 300 if "parquet" not in name else 5000
    _write(path, total)
    append, calls = Lake.append, []

    def failing(self, kind, batch, **rest):
        calls.append(len(batch))
        if len(calls) == 3:
            raise LakeError("no space")
        return append(self, kind, batch, **rest)

    monkeypatch.setattr(Lake, "append", failing)
    with pytest.raises(LakeError, match="no space"):
        ingest(lake, "evidence", [str(path)], SMALL)
    monkeypatch.setattr(Lake, "append", append)
    held = len(runs(lake))
    assert 0 < held < total
    summary = ingest(lake, "evidence", [str(path)], SMALL)
    assert (summary.rows, summary.added, summary.files[0].resumed) == (total - held, total - held, True)
    assert runs(lake) == [f"r{number}" for number in range(total)]
    assert sorted(event["source"]["line"] for event in lake.read("evidence").to_pylist()) == list(range(1, total + 1))
    assert counts(ingest(lake, "evidence", [str(path)], SMALL)) == (0, 0, 0, 1)


def _write(path: Path, count: int) -> None:
    data = lines(0, count)
    plain = [{name: str(row[name]) for name in ("run_id", "task_id")} | {"text": "x" * 60} for row in rows(0, count)]
    if ".json." in path.name + ".":
        data = json.dumps(rows(0, count)).encode()
    elif ".csv" in path.name:
        data = b"run_id,task_id,text\n" + b"".join(",".join(row.values()).encode() + b"\r\n" for row in plain)
    elif ".parquet" in path.name:
        table = pa.table({name: [row[name] for row in plain] for name in plain[0]})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, row_group_size=50)
        data = sink.getvalue().to_pybytes()
    pack = {".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)
    path.write_bytes(pack(data))


def test_a_grown_array_is_read_from_where_it_ended(tmp_path, lake):
    """An array that is written anew with more elements is read on after its last one."""
    path = tmp_path / "f.json"
    path.write_text(json.dumps(rows(0, 50), indent=1))
    ingest(lake, "evidence", [str(path)])
    path.write_text(json.dumps(rows(0, 60), indent=1))
    summary = ingest(lake, "evidence", [str(path)])
    assert counts(summary) == (10, 10, 0, 0)


def test_the_last_line_without_a_line_feed_is_read_again(file, lake):
    """A half-written last line is a reject now and an event later; a whole one is an event at once."""
    row = json.dumps({"run_id": "r100", "task_id": "t"}).encode()
    file.write_bytes(lines(0, 100) + row[:-4])
    assert ingest(lake, "evidence", [str(file)]).rejected == {"not_json": 1}
    file.write_bytes(lines(0, 100) + row)
    assert counts(ingest(lake, "evidence", [str(file)])) == (1, 1, 0, 0)
    file.write_bytes(lines(0, 100) + row + b"\n" + lines(101, 103))
    assert counts(ingest(lake, "evidence", [str(file)])) == (3, 2, 1, 0)
    assert runs(lake) == [f"r{number}" for number in range(103)]


def test_rejects_are_told_once(file, lake):
    """A bad row that is read again is the same reject; its line says where it stands."""
    file.write_bytes(lines(0, 3) + b"bad\n\nworse\n" + lines(3, 5))
    for _ in range(2):
        summary = ingest(lake, "evidence", [str(file)], Options(again=True))
        assert summary.rejected == {"not_json": 2}
    assert sorted(reject["source"]["line"] for reject in lake.read("rejects").to_pylist()) == [4, 6]


def test_a_crash_between_rejects_and_events_loses_and_doubles_nothing(file, lake, monkeypatch):
    """Rejects are stored first: if their events are not, both are told again, and each is stored once."""
    file.write_bytes(lines(0, 50) + b"bad\n" + lines(50, 100))
    append = Lake.append

    def failing(self, kind, batch, **rest):
        if kind == "evidence":
            raise LakeError("killed")
        return append(self, kind, batch, **rest)

    monkeypatch.setattr(Lake, "append", failing)
    with pytest.raises(LakeError):
        ingest(lake, "evidence", [str(file)])
    assert (len(lake.read("rejects")), len(lake.read("evidence"))) == (1, 0)
    monkeypatch.setattr(Lake, "append", append)
    assert counts(ingest(lake, "evidence", [str(file)])) == (101, 100, 0, 0)
    assert (len(lake.read("rejects")), len(lake.read("evidence"))) == (1, 100)


def test_who_is_overtaken_goes_on_from_the_other_ones_bookmark(file, lake, monkeypatch):
    """When another process has stored the block at hand, what was parsed is dropped and the rest is read once."""
    append, overtaken = Lake.append, []

    def late(self, kind, batch, **rest):
        if kind == "evidence" and not overtaken:
            overtaken.append(True)
            ingest(self, "evidence", [str(file)], Options(sizes=Sizes(block=3000)))
        return append(self, kind, batch, **rest)

    monkeypatch.setattr(Lake, "append", late)
    summary = ingest(lake, "evidence", [str(file)], SMALL)
    assert summary.rows == 0
    assert runs(lake) == [f"r{number}" for number in range(100)]
    file.write_bytes(lines(0, 200))
    overtaken.clear()
    ingest(lake, "evidence", [str(file)], SMALL)
    assert runs(lake) == [f"r{number}" for number in range(200)]


def test_a_note_of_another_version_is_not_gone_on_from(file, lake):
    """A bookmark that cannot be read means reading from the start, which stores nothing twice."""
    producer = producer_of("evidence", "native", Source(str(file), file))
    ingest(lake, "evidence", [str(file)])
    position = lake.position("evidence", producer)
    empty = lake.read("evidence").select(["run_id", "task_id", "kind", "role"]).slice(0, 0)
    for note in ({"version": 99}, {**position.note, "version": 99}):
        sequence = lake.position("evidence", producer).sequence + 1
        lake.append("evidence", empty, producer=producer, sequence=sequence, note=note)
        assert counts(ingest(lake, "evidence", [str(file)])) == (100, 0, 100, 0)


def test_a_larger_row_limit_reads_again(file, lake):
    """Rows that were too long are read once the limit allows them."""
    file.write_bytes(lines(0, 10) + json.dumps({"run_id": "r10", "task_id": "t", "text": "x" * 9000}).encode() + b"\n")
    small = Options(sizes=Sizes(block=20_000, row=5000))
    assert ingest(lake, "evidence", [str(file)], small).rejected == {"too_long": 1}
    assert counts(ingest(lake, "evidence", [str(file)])) == (11, 1, 10, 0)


def test_a_dry_run_stores_nothing(file, lake):
    """Everything is read and counted, and the lake stays as it is."""
    versions = lake.versions()
    file.write_bytes(lines(0, 10) + b"bad\n")
    summary = ingest(lake, "evidence", [str(file)], Options(dry_run=True))
    assert (summary.rows, summary.events, summary.added, summary.rejected) == (11, 10, 0, {"not_json": 1})
    (file.parent / "f.bin").write_bytes(bytes(100))
    assert ingest(lake, "evidence", [str(file.parent / "f.bin")], Options(dry_run=True)).rejected
    assert lake.versions() == versions


def test_a_source_can_be_named(file, lake):
    """`source` stands in every event and reject in place of the file."""
    file.write_bytes(lines(0, 3) + b"bad\n")
    ingest(lake, "evidence", [str(file)], Options(source="run 7"))
    places = lake.read("evidence").to_pylist() + lake.read("rejects").to_pylist()
    assert {event["source"]["file"] for event in places} == {"run 7"}


def test_progress_is_told_in_bytes_and_rows(file, lake):
    """What is done only rises, and ends at the total."""
    steps: list[Step] = []
    ingest(lake, "evidence", [str(file)], SMALL, steps.append)
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert (steps[-1].done, steps[-1].total, steps[-1].rows) == (file.stat().st_size, file.stat().st_size, 100)


def test_a_pipe_is_read_without_a_bookmark(tmp_path, lake):
    """A named pipe can be read once, so nothing is remembered of it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for added in (20, 0):
        if os.fork() == 0:
            pipe.write_bytes(lines(0, 20))
            os._exit(0)
        summary = ingest(lake, "evidence", [str(pipe)])
        os.wait()
        assert (summary.added, summary.held) == (added, 20 - added)
    assert summary.rows_per_second > 0


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("evidence", Options(reader="nothing")),
        ("evidence", Options(reader="gsm8k")),
        ("receipts", Options()),
        ("evidence", Options(format="xml")),
        ("evidence", Options(reader="no.such:thing")),
        ("evidence", Options(reader="json:nothing")),
        ("evidence", Options(reader="json:__doc__")),
    ],
)
def test_what_cannot_be_asked_for_is_said_at_once(kind, options, file, lake):
    """Wrong usage is refused before anything is read."""
    with pytest.raises(UsageError) as error:
        ingest(lake, kind, [str(file)], options)
    assert error.value.hint


def test_nothing_to_ingest_is_wrong_usage(lake):
    """Without an input there is nothing to do, and that is said."""
    with pytest.raises(UsageError, match="nothing to ingest"):
        ingest(lake, "evidence", [])


READER = """
import json

def read(row, place):
    if row.get("n") == 1:
        raise KeyError("no such thing")
    if row.get("n") == 2:
        return []
    if row.get("n") == 3:
        return ["text"]
    if row.get("n") == 4:
        return [{"run_id": "\\ud800", "task_id": "t"}]
    return [{"run_id": f"r{row['n']}{part}", "task_id": "t", "text": place.file, "more": row} for part in "ab"]
"""


def test_a_reader_of_ones_own(file, tmp_path, lake, monkeypatch):
    """A function of the user's makes events of rows; what it raises becomes a reject with its text."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_reader_for_a_test.py").write_text(READER)
    file.write_bytes(b"".join(b'{"n": %d}\n' % number for number in range(6)))
    summary = ingest(lake, "evidence", [str(file)], Options(reader="my_reader_for_a_test:read"))
    assert summary.rejected == {"reader_error": 2, "no_event": 1, "lone_surrogate": 1}
    assert sorted(lake.read("evidence").column("run_id").to_pylist()) == ["r0a", "r0b", "r5a", "r5b"]
    errors = {reject["source"]["line"]: reject["errors"] for reject in lake.read("rejects").to_pylist()}
    assert errors[2] == ["KeyError: 'no such thing'"]


def test_the_bookmark_names_kind_reader_and_file(tmp_path):
    """What is read the same way has the same producer, from wherever it is named, even if the name is no text."""
    here = Source("f.jsonl", Path("f.jsonl"))
    there = Source("x", Path.cwd() / "f.jsonl")
    assert producer_of("evidence", "native", here) == producer_of("evidence", "native", there)
    odd = Source("x", Path(os.fsdecode(b"/\xff")))
    producer_of("evidence", "native", odd).encode()
    assert bookmarks.producer_of("evidence", "native", Source("-", None)).endswith(":-")
