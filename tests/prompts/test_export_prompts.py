"""The prompts of a pool as a training set, for whatever answers them."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exporters.dataset import Rows
from exporters.datasets import DATASETS
from exporters.export import export, verify
from exporters.faults import FirewallBreach, check
from exporters.plan import Options
from ingest.prompts.config import Domain, HeldBack
from ingest.prompts.pool import Options as Building
from ingest.prompts.pool import build
from tests.prompts.filling import fill, plan, row, text
from views.policy import Policy

TURNS = [{"role": "user", "content": text(100)}, {"role": "user", "content": text(101)}]


@pytest.fixture
def pool(lake):
    """A lake with a pool of six prompts of two domains, one of two turns, and two prompts that are held back."""
    fill(lake, [row(text(number), "ab"[number % 2]) for number in range(5)])
    asked = "\n\n".join(turn["content"] for turn in TURNS)
    fill(lake, [row(asked, "b", messages=json.dumps(TURNS)), row(text(50), "bad"), row(text(51), "bad")], "other")
    halves = (Domain(name="a", share=0.5), Domain(name="b", share=0.5))
    return build(lake, plan(6, *halves, held_back=(HeldBack(name="bad"),)), Building(name="mine"))


def rows(folder):
    return [json.loads(line) for line in next(folder.glob("data/train-*.jsonl")).read_text("utf-8").splitlines()]


def test_every_prompt_of_the_pool_is_a_row_with_its_domain_and_language(lake, pool, tmp_path):
    """Conversations are kept, a text is one turn of the user; nothing that is held back is among them."""
    made = export(lake, "prompts", tmp_path / "out")
    assert (made.counts.considered, made.counts.exported) == (6, 6)
    found = {one["prompt_id"]: one for one in rows(tmp_path / "out")}
    assert len(found) == 6
    assert {one["domain"] for one in found.values()} == {"a", "b"}
    assert {one["language"] for one in found.values()} == {"en"}
    assert {one["pool"] for one in found.values()} == {pool.pool}
    prompts = [one["prompt"] for one in found.values()]
    assert TURNS in prompts
    assert [{"role": "user", "content": text(1)}] in prompts
    assert verify(lake, tmp_path / "out").ok


def test_prompts_are_plain_texts_too(lake, pool, tmp_path):
    """Parquet, text, and a part that is held out by what the prompts say, whatever their domain."""
    export(lake, "prompts", tmp_path / "out", Options(shape="plain", format="parquet", val=0.5, provenance=False))
    tables = [pq.read_table(path) for path in sorted((tmp_path / "out" / "data").glob("*.parquet"))]
    assert tables[0].column_names == ["id", "prompt", "domain", "language"]
    assert sum(map(len, tables)) == 6


def test_what_is_held_back_is_exported_by_its_own_name(lake, pool, tmp_path):
    """An evaluation asks for it, and gets that alone."""
    policy = Policy(pool=pool.held("bad"))
    export(lake, "prompts", tmp_path / "out", Options(policy=policy))
    assert {one["prompt"][0]["content"] for one in rows(tmp_path / "out")} == {text(50), text(51)}
    assert {one["split"] for one in rows(tmp_path / "out")} == {"eval"}


def test_of_several_pools_one_must_be_named(lake, pool, tmp_path):
    """Without a name every prompt is in quarantine for it; with one, that pool's are rows."""
    halves = (Domain(name="a", share=0.5), Domain(name="b", share=0.5))
    other = build(lake, plan(4, *halves))
    made = export(lake, "prompts", tmp_path / "none")
    assert made.counts.reasons == {"pool_not_named": 10}
    made = export(lake, "prompts", tmp_path / "one", Options(policy=Policy(pool=other.pool)))
    assert (made.counts.considered, made.counts.exported) == (4, 4)
    assert "--policy FOLDER/receipt.json" in (tmp_path / "one" / "README.md").read_text()


def test_a_withdrawn_prompt_is_in_quarantine(lake, pool, tmp_path):
    """A prompt whose own event was withdrawn is not handed out by a pool that had taken it."""
    [event] = [one for one in lake.read("prompts").to_pylist() if one["pool"] is None and one["text"] == text(1)]
    lake.record("retractions", {"target_type": "event", "target": event["event_id"], "reason": "not ours"})
    made = export(lake, "prompts", tmp_path / "out")
    assert made.counts.reasons == {"withdrawn_prompt": 1}
    assert text(1) not in [one["prompt"][0]["content"] for one in rows(tmp_path / "out")]


def test_parts_of_a_message_are_kept_as_they_are(lake, tmp_path):
    """Turns that are more than a role and a text are written with every key."""
    parts = [{"role": "user", "content": [{"type": "text", "text": text(1)}]}]
    fill(lake, [row(text(1), messages=json.dumps(parts)), row(text(2))])
    build(lake, plan(2))
    export(lake, "prompts", tmp_path / "out")
    assert parts in [one["prompt"] for one in rows(tmp_path / "out")]


SOURCE = pa.struct([("file", pa.string()), ("line", pa.int64()), ("sha256", pa.string())])


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({}, None),
        ({"split": "eval"}, "it is kept for evaluation"),
        ({"split": "eval", "pool": "p/bad"}, "it is of another pool"),
        ({"pool": "q"}, "it is of another pool"),
        ({"prompt": " "}, "prompt is empty after stripping"),
        ({"language": None}, "language is missing"),
        ({"domain": ""}, "domain is empty after stripping"),
    ],
)
def test_the_second_look_refuses_what_may_not_be_there(more, why):
    """A row that a view should have stopped stops the export."""
    given = {"id": "prompts-1", "prompt_id": "p", "pool": "p", "domain": "a", "language": "en", "prompt": "Why?"}
    given |= {"split": None, "provenance": {"file": "f", "line": 1, "sha256": "0" * 64}} | more
    batch = pa.record_batch(
        {name: pa.array([value], SOURCE if name == "provenance" else pa.string()) for name, value in given.items()}
    )
    rules = Rows(DATASETS["prompts"], "plain", True, Policy(pool="p"))
    if why is None:
        assert list(check(rules, [batch])) == [batch]
    else:
        with pytest.raises(FirewallBreach, match=why):
            list(check(rules, [batch]))
