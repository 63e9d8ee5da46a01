"""Every command on a lake in a bucket, told how to reach it by the environment or by options."""

import json
import os

import pytest

from cli.commands import command
from lake import bucket
from tests.stores.server import CREDENTIALS


@pytest.fixture
def bucket_uri(s3_uri, lake_uri, monkeypatch) -> str:
    """The commands of a test mean a lake in a bucket; there is none there yet, and nothing says how to reach it."""
    monkeypatch.setenv("LAKE_URI", s3_uri)
    return s3_uri


def flags(options: dict[str, str]) -> list[str]:
    return [part for name, value in options.items() for part in ("--storage-option", f"{name}={value}")]


def commands(node, path=()):
    for name, child in getattr(node, "commands", {}).items():
        yield from commands(child, (*path, name))
    if not hasattr(node, "commands"):
        yield path, node


def test_every_command_that_opens_a_lake_takes_storage_options():
    """Whatever has --lake has --storage-option, once; so has what looks at a folder that may be in a bucket."""
    for path, child in commands(command):
        names = [parameter.name for parameter in child.params]
        assert names.count("storage_option") == ("lake" in names or path == ("validate",)), path


def test_options_say_how_to_reach_the_bucket(run, door, bucket_uri, monkeypatch):
    """Without any variable set, options suffice; they hold for one command, and no output has the secret."""
    told = flags(door.options)
    assert run("init", *told).code == 0
    ran = run("sql", "select count(*) as n from evidence", "--format", "jsonl", *told)
    assert json.loads(ran.out) == {"n": 0}
    assert not any(name.startswith("AWS_") for name in os.environ)
    monkeypatch.setattr(bucket, "FIRST_PATIENCE", 1.0)
    refused = run("sql", "select 1", *flags({**door.options, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}))
    assert refused.code == 1
    for outcome in (ran, refused):
        assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in outcome.out + outcome.err


def test_an_option_comes_before_every_variable(run, door, bucket_uri, monkeypatch):
    """An endpoint that is given counts, also where the variable for S3 alone says another."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    assert run("init", *flags(door.options)).code == 0


@pytest.mark.parametrize("said", ["quite-secret", "=quite-secret", "AWS_SECRETS=quite-secret", "AWS_REGION="])
def test_wrong_options_are_refused_without_their_values(run, lake_uri, said):
    """A mistake in an option is wrong usage, and the message does not repeat what may be a secret."""
    ran = run("init", "--storage-option", said)
    assert ran.code == 2
    assert "quite-secret" not in ran.err
    assert len(ran.err.splitlines()) == 2


ROWS = [
    {
        "run_id": f"r{number}",
        "task_id": f"t{number // 2}",
        "kind": "completion",
        "prompt": "p",
        "text": f"answer {number}",
    }
    for number in range(8)
]
VERDICTS = [
    {**{name: row[name] for name in ("run_id", "task_id")}, "scorer": "judge", "category": category}
    for row, category in zip(ROWS, ["accepted", "rejected"] * 4, strict=True)
]


@pytest.mark.usefixtures("s3")
def test_the_whole_story_in_a_bucket(run, bucket_uri, tmp_path, monkeypatch):
    """Every command does on a lake in a bucket what it does on one in a folder, told by the environment alone."""
    for kind, rows in (("evidence", ROWS), ("scores", VERDICTS)):
        (tmp_path / f"{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def story(where: str, out: str) -> list[tuple[int, str]]:
        monkeypatch.setenv("LAKE_URI", where)
        return [
            (ran.code, ran.out.replace(out, "OUT"))
            for ran in (
                run("init"),
                run("ingest", "evidence", tmp_path / "evidence.jsonl", "--format", "jsonl"),
                run("ingest", "scores", tmp_path / "scores.jsonl", "--format", "jsonl"),
                run("ingest", "evidence", tmp_path / "evidence.jsonl", "--format", "jsonl"),
                run("score", "has-content", "--format", "jsonl"),
                run("sql", "select run_id, category from verdicts order by all", "--format", "csv"),
                run("snapshot", "create", "--name", "one"),
                run("snapshot", "show", "one", "--format", "jsonl"),
                run("quarantine", "--format", "jsonl"),
                run("health", "--format", "jsonl"),
                run("export", "all", f"{out}/sets", "--at", "one"),
                run("export", "--verify", f"{out}/sets/sft"),
                run("validate", f"{out}/sets/preference", "--format", "jsonl"),
                run("retract", "run", "r0", "--reason", "leaked"),
                run("compact", "--dry-run"),
                run("vacuum"),
                run("verify", "--deep"),
                run("log", "--format", "jsonl"),
            )
        ]

    here = story(str(tmp_path / "here"), str(tmp_path / "out"))
    there = story(bucket_uri, f"{bucket_uri}-out")
    assert [code for code, _ in there] == [code for code, _ in here]
    # The others print versions and hashes that hold the time, or say where the lake is.
    for step in (5, 8, 9, 10, 11, 12):
        assert there[step] == here[step]
    assert run("export", "sft", tmp_path / "local").code == 0
    assert run("catalog", tmp_path / "lake.duckdb").code == 0
    assert run("init").code == 1
