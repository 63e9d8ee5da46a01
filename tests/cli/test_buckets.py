"""Every command on a lake in a bucket, told how to reach it by the environment or by options."""

import json
import os

import pytest

from cli.app import command
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
    """Whatever has --lake has --storage-option, once."""
    for path, child in commands(command):
        names = [parameter.name for parameter in child.params]
        assert names.count("storage_option") == names.count("lake"), path


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
