"""The command on an export's card makes the export again, whatever it was made with."""

import re
import shlex
from pathlib import Path

import pytest

from lake import Lake
from tests.exporters.conftest import fill


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--include-partial", "--pairs-per-task", "2"],
        ["--shape", "instruction", "--no-provenance", "--format", "jsonl.zst"],
        ["--val", "0.5", "--seed", "7", "--format", "parquet"],
        ["--policy", "policy.json"],
    ],
)
def test_the_cards_command_makes_the_same_bytes(run, lake_uri, tmp_path, monkeypatch, options):
    """Typed as it stands there, with the folders' names put in, it gives every file again byte for byte."""
    monkeypatch.chdir(tmp_path)
    fill(Lake.create(lake_uri))
    Path("policy.json").write_text('{"precedence": ["someone", "human"], "include_partial": true}')
    assert run("export", "sft", "first", *options).code == 0
    [command] = re.findall(r"^lake (export sft .*)$", Path("first/README.md").read_text(), re.MULTILINE)
    words = [word.replace("FOLDER", "first").replace("OUT", "again") for word in shlex.split(command)]
    again = run(*words)
    assert again.code == 0, again.err
    assert files(Path("again")) == files(Path("first"))
