"""`lake audit`, as it is typed."""

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("trl")

from tests.trainers import toys


@pytest.fixture
def settings(tmp_path):
    """The file of a run of packed rows, with its shards, its tokenizer and a model's configuration beside it."""
    toys.toy(tmp_path)
    toys.write_texts(tmp_path / "shards")
    toys.settings(tmp_path, "sft", "run", stages=[{"rows": 4, "length": 64}])
    return tmp_path / "run.toml"


def test_a_run_that_is_well_is_said_to_be(run, settings):
    """Each check says what must hold, and a line says how many did; nothing is left behind."""
    ran = run("audit", "--config", settings, "--format", "jsonl")
    assert ran.code == 0, ran.err
    found = [json.loads(line) for line in ran.out.splitlines()]
    assert {one["result"] for one in found} == {"pass", "skip"}
    passed = sum(one["result"] == "pass" for one in found)
    assert f"{passed} checks passed, {len(found) - passed} had nothing to look at" in ran.err
    assert not settings.with_suffix("").exists()


def test_a_run_that_is_not_is_refused(run, settings):
    """Exit code 1, and the row of the check that fails says where."""
    array = settings.parent / "shards" / "text.trained.npy"
    array.write_bytes(array.read_bytes()[:-1] + b"\x07")
    ran = run("audit", "--config", settings, "--format", "jsonl")
    assert ran.code == 1
    assert "1 check failed" in ran.err
    [failed] = [one for one in map(json.loads, ran.out.splitlines()) if one["result"] == "fail"]
    assert str(array) in failed["where"]


def test_the_map_names_code_and_settings(run, settings):
    """Each boundary has its owners, each with a line of a file, and the values of the settings that decide it."""
    ran = run("audit", "--config", settings, "--map", "--format", "jsonl")
    assert ran.code == 0, ran.err
    rows = [json.loads(line) for line in ran.out.splitlines()]
    assert {"what": "setting", "name": "optimizer.parts", "value": 2} in [
        {key: row[key] for key in ("what", "name", "value")} for row in rows
    ]
    assert any(row["what"] == "code" and row["name"].endswith(" plan") for row in rows)
    whole = json.loads(run("audit", "--config", settings, "--format", "json").out)
    assert len({row["boundary"] for row in rows}) == len(whole[0]["boundaries"])
