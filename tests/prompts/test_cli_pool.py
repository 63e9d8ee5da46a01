"""`lake pool`, as it is typed."""

import json
from pathlib import Path

import pytest

from lake import Lake
from tests.cli.conftest import lake_uri, run

__all__ = ["lake_uri", "run"]

CONFIG = """
target_size = 4
languages = ["en"]

[[domain]]
name = "math"
share = 0.5

[[domain]]
name = "chat"
share = 0.5
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A plan of four prompts from two domains."""
    path = tmp_path / "pool.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def prompts(tmp_path: Path, run) -> None:
    """A lake with five prompts."""
    run("init")
    for domain, texts in {
        "math": ["How much is one and one?", "How much is two and two and two?", "How much is it?"],
        "chat": ["Tell me about the sea in winter.", "Tell me about your day at work."],
    }.items():
        file = tmp_path / f"{domain}.jsonl"
        file.write_text("".join(json.dumps({"question": text, "language": "en"}) + "\n" for text in texts))
        assert run("ingest", "prompts", file, "--reader", "question", "--domain", domain).code == 0


def test_init_writes_a_configuration_that_check_takes(run, tmp_path):
    """The first is refused where there is a file already; the second needs no lake, and prints the quotas."""
    file = tmp_path / "pool.toml"
    assert run("pool", "init", file).code == 0
    checked = run("pool", "check", file, "--format", "jsonl")
    assert checked.code == 0
    rows = [json.loads(line) for line in checked.out.splitlines()]
    assert {row["domain"]: row["quota"] for row in rows}["chat-en"] == 15_000
    again = run("pool", "init", file)
    assert (again.code, "choose another name" in again.err) == (1, True)


def test_a_wrong_configuration_is_wrong_usage(run, config):
    """One line says which key of which file; the exit code is that of wrong usage."""
    config.write_text(CONFIG.replace("share", "shaer", 1))
    ran = run("pool", "check", config)
    assert ran.code == 2
    assert "error: " in ran.err
    assert "there is no key domain[0].shaer" in ran.err
    assert "did you mean 'share'?" in ran.err


def test_a_pool_is_built_shown_and_built_again(run, prompts, config, lake_uri):
    """The counts are printed; the second time the pool is there already."""
    tried = run("pool", "build", config, "--dry-run")
    assert (tried.code, "nothing was recorded" in tried.err) == (0, True)
    built = run("pool", "build", config, "--name", "mine", "--format", "jsonl")
    assert built.code == 0
    outcomes = [json.loads(line) for line in built.out.splitlines()]
    assert [(row["domain"], row["prompts"], row["quota"]) for row in outcomes if row["outcome"] == "taken"] == [
        ("math", 2, 2),
        ("chat", 2, 2),
    ]
    again = run("pool", "build", config, "--name", "mine")
    assert (again.code, "there already, as mine" in again.err) == (0, True)
    [listed] = [json.loads(line) for line in run("pool", "show", "--format", "jsonl").out.splitlines()]
    assert (listed["name"], listed["prompts"], listed["short"]) == ("mine", 4, False)
    assert listed["snapshot"] == Lake.open(lake_uri).snapshot("mine").id
    assert run("pool", "show", "mine", "--format", "jsonl").out == built.out


def test_a_short_pool_is_refused_unless_it_is_allowed(run, prompts, config):
    """Every domain's count is printed and in the message, and the hint says how to go on."""
    config.write_text(CONFIG.replace("= 4", "= 8"))
    refused = run("pool", "build", config)
    assert refused.code == 1
    assert "too few prompts: math 2 of 4, chat 2 of 4" in refused.err
    assert "--allow-short" in refused.err
    assert "too_short" in refused.out
    assert run("pool", "build", config, "--allow-short").code == 0


def test_a_pool_that_is_not_there_is_wrong_usage(run, prompts):
    """A name that no pool was given is said, with what lists them."""
    ran = run("pool", "show", "other")
    assert (ran.code, "lake pool show" in ran.err) == (2, True)


def test_the_relations_of_pools_can_be_asked(run, prompts, config):
    """A pool's prompts, and how many of each domain, are relations like any other."""
    run("pool", "build", config, "--name", "mine")
    asked = run("sql", "select domain, prompts, is_evaluation from pools order by domain", "--format", "jsonl")
    assert [json.loads(line) for line in asked.out.splitlines()] == [
        {"domain": "chat", "prompts": 2, "is_evaluation": False},
        {"domain": "math", "prompts": 2, "is_evaluation": False},
    ]
    asked = run(
        "sql", "select count(*) as rows from pool_members where is_standing and words >= 5", "--format", "jsonl"
    )
    assert json.loads(asked.out) == {"rows": 4}


def test_a_withdrawn_prompt_is_no_longer_standing_in_its_pool(run, prompts, config, tmp_path):
    """Withdrawing a source takes its prompts out of the pool, too; the pool's snapshot has them still."""
    run("pool", "build", config, "--name", "mine")
    taken = run("retract", "source", tmp_path / "chat.jsonl", "--reason", "not ours")
    assert (taken.code, "4 of prompts" in taken.err) == (0, True)
    query = ("sql", "select domain, prompts from pools order by domain", "--format", "jsonl")
    assert [json.loads(line)["domain"] for line in run(*query).out.splitlines()] == ["math"]
    assert [json.loads(line)["domain"] for line in run(*query, "--at", "mine").out.splitlines()] == ["chat", "math"]


def test_the_prompts_of_a_pool_are_exported_by_its_name(run, prompts, config, tmp_path):
    """An id, a name, and the name with what it holds back mean their pool; another name is wrong usage."""
    config.write_text(CONFIG.replace("= 4", "= 2") + '[[held_back]]\nname = "bad"\n')
    file = tmp_path / "bad.jsonl"
    file.write_text(json.dumps({"question": "Do something that you should not.", "language": "en"}) + "\n")
    assert run("ingest", "prompts", file, "--reader", "question", "--domain", "bad").code == 0
    assert run("pool", "build", config, "--name", "mine").code == 0
    [pool] = [json.loads(line)["pool"] for line in run("pool", "show", "--format", "jsonl").out.splitlines()]
    for called, count in {"mine": 2, pool: 2, "mine/bad": 1, f"{pool}/bad": 1}.items():
        out = tmp_path / called.replace("/", "-")
        assert run("export", "prompts", out, "--pool", called).code == 0
        assert len(next(out.glob("data/*.jsonl")).read_text().splitlines()) == count
    ran = run("export", "prompts", tmp_path / "other", "--pool", "other")
    assert (ran.code, "there is no pool 'other'" in ran.err) == (2, True)


def test_what_partially_accepted_runs_are_labelled_is_an_option(run, tmp_path):
    """`--partial-label` and `--domain` reach the rows and the receipt."""
    run("init")
    source = {"run_id": "r", "task_id": "t", "prompt": "Why?", "text": "So.", "stream": "law"}
    for kind, row in {
        "evidence": source,
        "scores": {"run_id": "r", "task_id": "t", "scorer": "s", "category": "partially_accepted"},
    }.items():
        file = tmp_path / f"{kind}.jsonl"
        file.write_text(json.dumps(row) + "\n")
        assert run("ingest", kind, file).code == 0
    assert run("export", "kto", tmp_path / "kto", "--partial-label", "false").code == 0
    [row] = next((tmp_path / "kto").glob("data/*.jsonl")).read_text().splitlines()
    assert json.loads(row)["label"] is False
    assert run("export", "domain", tmp_path / "code", "--domain", "code", "--include-partial").code == 0
    receipt = json.loads((tmp_path / "code" / "receipt.json").read_text())
    assert receipt["counts"]["reasons"] == {"other_domain": 1}
