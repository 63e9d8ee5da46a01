"""What `lake export` is told in files, as it is typed."""

import json
from pathlib import Path

import pytest

from lake import Lake
from tests.exporters.conftest import fill, verdict
from tests.exporters.conftest import run as a_run


def test_known_files_are_a_path_a_line(run, lake_uri, tmp_path):
    """Whichever way its lines end, evidence that names a path of the file passes, and another is refused."""
    lake = Lake.create(lake_uri)
    named = {"kept": "src/there.py", "invented": "src/nowhere.py"}
    lake.append(
        "evidence",
        [a_run(name, "t", f"an answer of {name}", source_files=[path]) for name, path in named.items()],
        producer="test",
        sequence=1,
    )
    lake.append("scores", [verdict(name, "t", "accepted") for name in named], producer="test", sequence=1)
    (tmp_path / "known.txt").write_bytes(b"src/there.py\r\n\r\nsrc/more.py\n")
    ran = run("export", "rag", tmp_path / "out", "--known-files", tmp_path / "known.txt")
    assert ran.code == 0, ran.err
    [row] = (tmp_path / "out" / "data" / "train-00000-of-00001.jsonl").read_text().splitlines()
    assert json.loads(row)["source_run_id"] == "kept"


@pytest.mark.parametrize("option", ["--known-files", "--policy"])
@pytest.mark.parametrize("made", ["nothing", "folder", "binary"])
def test_a_file_that_cannot_be_read_is_a_wrong_use(run, lake_uri, tmp_path, option, made):
    """A file that is missing, a folder or binary is named in one line, with what to do, and nothing is written."""
    fill(Lake.create(lake_uri))
    file = tmp_path / "said"
    if made == "folder":
        file.mkdir()
    elif made == "binary":
        file.write_bytes(b"\xac\x00\xff")
    ran = run("export", "sft", tmp_path / "out", option, file)
    assert ran.code == 2
    assert ran.err.count("\n") == 2
    assert "Traceback" not in ran.err
    assert "hint: " in ran.err
    assert not Path(tmp_path / "out").exists()
