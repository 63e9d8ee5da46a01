"""Files of rows for tests to read, and what is found in them."""

import gzip
import json
from pathlib import Path

import zstandard

from exporters.validate import Options, validate

USER, ASSISTANT = {"role": "user", "content": "ask"}, {"role": "assistant", "content": "answer"}
PAIR = {"prompt": "ask", "chosen": "good", "rejected": "bad"}
KTO = {"prompt": "ask", "completion": "answer", "label": True}


def put(path: Path, rows: object) -> Path:
    """Rows as JSON lines, compressed as the name says."""
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    if path.suffix == ".gz":
        data = gzip.compress(data)
    path.write_bytes(zstandard.compress(data) if path.suffix == ".zst" else data)
    return path


def got(path: Path) -> list[object]:
    """The rows of JSON lines."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def by_run(folder: Path) -> dict[str, dict[str, object]]:
    """The rows of an export of one file, by the run that each comes from."""
    [file] = folder.glob("data/*.jsonl")
    return {row["source_run_id"]: row for row in got(file)}


def written(folder, *rows, name="train.jsonl"):
    """A folder with one file of rows; a row of bytes is written as it is."""
    folder.mkdir(exist_ok=True)
    data = b"".join(row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows)
    if name.endswith(".gz"):
        data = gzip.compress(data)
    if name.endswith(".zst"):
        data = zstandard.ZstdCompressor(write_checksum=True).compress(data)
    (folder / name).write_bytes(data)
    return folder


def found(folder):
    """Row, field and text of each problem."""
    return [(problem.row, problem.field, problem.problem) for problem in validate(folder).problems]


def found_as(folder, shape, *rows):
    """Row, field and text of each problem of rows that are meant to be of a shape."""
    report = validate(written(folder / "as", *rows), options=Options(shape=shape))
    return [(problem.row, problem.field, problem.problem) for problem in report.problems]
