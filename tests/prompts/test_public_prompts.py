"""The seven domains of a real pool, filled from public data as far as it goes."""

import json

import pytest

from ingest.annotators.text import words
from ingest.prompts.blacklist import Blacklist
from ingest.prompts.config import Domain, Plan, PoolConfig
from ingest.prompts.pool import Options, Short, build
from ingest.run import Options as Reading
from ingest.run import ingest
from lake import Lake

# What each domain is filled from: a file, and how it is read.
GIVEN = [
    ("math", "gsm8k/train.jsonl", "gsm8k"),
    ("math", "gsm8k/test.jsonl", "gsm8k"),
    ("code", "humaneval/HumanEval.jsonl.gz", "question"),
    ("code", "humaneval/humaneval_rust.jsonl.gz", "question"),
    ("chat-en", "prompts/mt_bench_question.jsonl", "opening"),
    ("chat-zh", "prompts/belle_eval_set.json", "question"),
    ("multi-turn", "prompts/mt_bench_question.jsonl", "turns"),
    ("tool", "swe_agent/function_calling_simple.traj", "opening"),
    ("long-context", "swe_agent/marshmallow-1867.function_calling.traj", "opening"),
]
DOMAINS = (
    Domain(name="chat-en", share=0.30, language="en"),
    Domain(name="chat-zh", share=0.20, language="zh"),
    Domain(name="code", share=0.15),
    Domain(name="math", share=0.10, language="en"),
    Domain(name="long-context", share=0.10, min_words=500),
    Domain(name="multi-turn", share=0.10),
    Domain(name="tool", share=0.05),
)


@pytest.fixture(scope="module")
def filled(public_data, tmp_path_factory) -> Lake:
    """A lake with the prompts of all seven domains."""
    lake = Lake.create(str(tmp_path_factory.mktemp("public") / "lake"))
    for domain, name, reader in GIVEN:
        if not (public_data / name).exists():
            pytest.skip(f"there is no {name}")
        summary = ingest(lake, "prompts", [str(public_data / name)], Reading(reader=reader, domain=domain))
        assert (summary.rejected, summary.added) == ({}, summary.rows)
    return lake


def test_the_seven_domains_are_filled_as_far_as_the_data_goes(filled):
    """Every domain has prompts of its own, in its language; what is missing is said, and not made up."""
    plan = Plan(PoolConfig(target_size=200, domain=DOMAINS), Blacklist(), "pool.toml")
    with pytest.raises(Short, match=r"long-context 1 of 20, .*tool 1 of 10"):
        build(filled, plan)
    made = build(filled, plan, Options(allow_short=True, name="seven"))
    taken = {domain.name: domain.taken for domain in made.domains}
    assert taken == {
        "chat-en": 60,
        "chat-zh": 40,
        "code": 30,
        "math": 20,
        "long-context": 1,
        "multi-turn": 20,
        "tool": 1,
    }
    rows = [row for row in filled.read("prompts").to_pylist() if row["pool"] == made.pool]
    assert {row["domain"]: row["language"] for row in rows}["chat-zh"] == "zh"
    assert all(row["language"] == "en" for row in rows if row["domain"] in ("chat-en", "math"))
    assert all(json.loads(row["messages"]) for row in rows if row["domain"] in ("multi-turn", "tool"))
    assert not {"question", "test"} & {row["split"] for row in rows}


def test_the_test_questions_are_held_back(filled):
    """A question of the test split is in no pool, however large."""
    plan = Plan(PoolConfig(target_size=9000, domain=(Domain(name="math", share=1.0),)), Blacklist(), "pool.toml")
    made = build(filled, plan, Options(allow_short=True, dry_run=True))
    [math] = made.domains
    assert {(one.domain, one.reason): one.prompts for one in made.elsewhere}["math", "evaluation_split"] == 1319
    assert math.considered == 7473
    assert 7000 < math.taken <= 7473


def test_almost_no_chinese_prompt_is_dropped_for_its_length(filled):
    """A sentence without spaces has as many words as characters, so that a bound of five words drops hardly any."""
    plan = Plan(PoolConfig(target_size=1000, domain=(Domain(name="chat-zh", share=1.0),)), Blacklist(), "pool.toml")
    [chinese] = build(filled, plan, Options(allow_short=True, dry_run=True)).domains
    assert chinese.refused.get("too_short", 0) < 10
    assert chinese.taken > 950


def test_words_are_no_blanks():
    """What a bound of words counts, of Chinese, is characters."""
    assert len(words("中国有多少个省？")) == 7
