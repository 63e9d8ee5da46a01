"""Sources: what files, folders and globs mean, and their bytes."""

import gzip
import os
import random
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.sources import Limits, Source, Stream, find, promised
from lake import Lake, LakeError
from lake.errors import UsageError


def unpacked(path: Path, limits: Limits | None = None, step: int = 1000) -> tuple[bytes, str | None]:
    with Stream(Source(path.name, path), limits) as stream:
        parts = []
        while part := stream.read(step):
            parts.append(part)
        return b"".join(parts), stream.failure.reason if stream.failure else None


def zstd(data: bytes, *, checksum: bool = True) -> bytes:
    packer = zstandard.ZstdCompressor(write_checksum=checksum).compressobj()
    return packer.compress(data) + packer.flush()


PACKERS = {
    "plain": bytes,
    "gzip": gzip.compress,
    "gzip members": lambda data: gzip.compress(data[:77]) + gzip.compress(data[77:]) + bytes(600),
    "zstd": zstandard.compress,
    "zstd streamed": zstd,
    "zstd frames": lambda data: (
        b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc" + zstd(data[:50], checksum=False) + zstd(data[50:])
    ),
}


@pytest.mark.parametrize("name", PACKERS)
@given(data=st.binary(max_size=300), repeat=st.sampled_from([1, 3000]), step=st.sampled_from([7, 5000, 1 << 20]))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_packed_is_unpacked(name, data, repeat, step, tmp_path):
    """Whatever the compression and the steps in which it is read, the bytes are those that were packed."""
    path = tmp_path / "f"
    data = b"x" + data * repeat
    path.write_bytes(PACKERS[name](data))
    assert unpacked(path, Limits(ratio=10**6), step) == (data, None)


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress, zstd])
def test_what_is_cut_gives_what_came_before(pack, tmp_path):
    """Cut anywhere, a compressed file gives the start of its bytes, and says that it is cut."""
    data = random.Random(3).randbytes(300_000)
    packed = pack(data)
    path = tmp_path / "f"
    for size in [*range(5, 40), *range(40, len(packed), 30_000), *range(len(packed) - 9, len(packed))]:
        path.write_bytes(packed[:size])
        got, failure = unpacked(path)
        assert data.startswith(got)
        assert failure == "truncated", size
        assert len(got) > size - 140_000


def test_what_is_damaged_gives_what_came_before(tmp_path):
    """A flipped bit in zstd data ends it there, and is said; of gzip, at the latest its checksum tells."""
    data = random.Random(3).randbytes(300_000).hex().encode()
    for pack in (gzip.compress, zstd):
        packed = bytearray(pack(data))
        packed[len(packed) // 2] ^= 0x55
        path = tmp_path / "f"
        path.write_bytes(packed)
        got, failure = unpacked(path)
        assert failure == "corrupt"
        assert got[:100_000] == data[:100_000]


def test_a_stream_can_be_looked_into(tmp_path):
    """What was peeked at or given back is read again."""
    path = tmp_path / "f"
    path.write_bytes(b"abcdef")
    with Stream(Source("f", path)) as stream:
        assert stream.peek(3) == b"abc"
        assert stream.read(2) == b"ab"
        stream.unread(b"AB")
        assert stream.read(100) == b"ABcdef"
        assert stream.read(1) == b""


def test_a_total_is_a_limit(tmp_path):
    """However well it is packed, a source grows to no more than the limit."""
    path = tmp_path / "f"
    path.write_bytes(gzip.compress(random.Random(3).randbytes(3_000_000)))
    got, failure = unpacked(path, Limits(total_bytes=1_500_000))
    assert failure == "decompression_bomb"
    assert len(got) <= 1_500_000


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("a.jsonl", ("jsonl", None)),
        ("a.NDJSON.GZ", ("jsonl", "gzip")),
        ("a.b.parquet.zst", ("parquet", "zstd")),
        ("a.gz", (None, "gzip")),
        ("a", (None, None)),
    ],
)
def test_names_promise(name, what):
    """A name promises a format, a compression, both or nothing."""
    assert promised(name) == what


def test_a_folder_means_its_files(tmp_path, monkeypatch):
    """Files of a folder at any depth count by their names, in order; hidden ones, other ones and lakes do not."""
    monkeypatch.chdir(tmp_path)
    for name in ("in/b.jsonl", "in/a.csv.gz", "in/sub/c.json", "in/.hidden/d.jsonl", "in/.e.jsonl", "in/notes.txt"):
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    Lake.create("in/lakehouse")
    assert [source.name for source in find(["in"])] == ["in/a.csv.gz", "in/b.jsonl", "in/sub/c.json"]
    assert [source.name for source in find(["in/*.jsonl", "./in/b.jsonl"])] == ["in/b.jsonl"]
    assert [source.name for source in find(["in/*"])] == ["in/a.csv.gz", "in/b.jsonl", "in/notes.txt", "in/sub/c.json"]
    assert [source.name for source in find(["in/**/c.*"])] == ["in/sub/c.json"]
    assert [source.name for source in find(["-", "-"])] == ["-"]


def test_a_file_with_the_name_of_a_pattern_is_that_file(tmp_path, monkeypatch):
    """What exists is meant as it is written."""
    monkeypatch.chdir(tmp_path)
    for name in ("[a].jsonl", "a.jsonl"):
        Path(name).touch()
    assert [source.name for source in find(["[a].jsonl"])] == ["[a].jsonl"]


def test_a_name_that_is_no_text_can_be_read(tmp_path):
    """A file whose name is not UTF-8 has a name that can be written down."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jsonl"))
    path.write_bytes(b"{}")
    (source,) = find([str(path)])
    source.name.encode()
    assert unpacked(path) == (b"{}", None)


def test_a_file_that_may_not_be_read_is_said_at_once(tmp_path, monkeypatch):
    """Before anything is read, every file is known to be readable."""
    path = tmp_path / "f.jsonl"
    path.touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UsageError, match="may not be read"):
        find([str(path)])


def test_a_file_that_goes_away_is_an_error(tmp_path):
    """A source that cannot be opened or looked at is an error of one line."""
    gone = Source("f", tmp_path / "f")
    with pytest.raises(LakeError, match="f: No such file"):
        Stream(gone)
    with pytest.raises(LakeError, match="f: No such file"):
        _ = gone.size
