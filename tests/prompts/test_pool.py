"""A pool is filled by its plan: shares, reasons for what is passed over, the same pool from the same prompts."""

import json
import random
from itertools import combinations

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.annotators.text import words
from ingest.prompts.blacklist import Blacklist
from ingest.prompts.config import Domain, HeldBack
from ingest.prompts.pool import Options, Short, build
from ingest.prompts.pools import Pool, pool_named, pools
from ingest.readers.prompts import prompt_id
from lake import Lake
from lake.errors import UnknownRef, UsageError
from tests.prompts.filling import fill, plan, row, text


def members(lake: Lake, pool: str) -> list[dict[str, object]]:
    rows = lake.read("prompts").to_pylist()
    return sorted((row for row in rows if row["pool"] == pool), key=lambda row: row["event_id"])


def refused(pool: Pool) -> dict[str, dict[str, int]]:
    return {domain.name: domain.refused for domain in pool.domains}


def test_a_pool_has_its_quotas_and_its_prompts_are_events(lake):
    """Each domain has exactly its share, and every prompt of the pool names it, its domain, language and source."""
    fill(lake, [row(text(number), "ab"[number % 2]) for number in range(40)])
    made = build(lake, plan(20, Domain(name="a", share=0.75), Domain(name="b", share=0.25)))
    assert {domain.name: domain.taken for domain in made.domains} == {"a": 15, "b": 5}
    found = members(lake, made.pool)
    assert len(found) == len({event["prompt_id"] for event in found}) == 20
    for event in found:
        assert event["prompt_id"] == prompt_id(event["text"])
        assert event["source"]["file"] == "given.jsonl"
        assert json.loads(event["extra"]) == {"words": len(words(event["text"]))}
        assert event["language"] == "en"


def test_what_is_built_again_is_there_already(lake):
    """The same plan over the same prompts has the same id, and adds nothing to any table."""
    fill(lake, [row(text(number)) for number in range(30)])
    first = build(lake, plan(10), Options(name="mine"))
    versions = lake.versions()
    again = build(lake, plan(10), Options(name="mine"))
    assert (again.pool, again.snapshot, again.is_new) == (first.pool, first.snapshot, False)
    assert lake.versions() == versions
    assert build(lake, plan(10), Options(name="mine", at="mine")).pool == first.pool


def test_a_pool_is_a_named_snapshot_with_a_receipt(lake):
    """The name means a snapshot that has the pool's prompts; the receipt has the plan and each domain's counts."""
    fill(lake, [row(text(number)) for number in range(30)])
    made = build(lake, plan(10, seed=7), Options(name="mine"))
    snapshot = lake.snapshot("mine")
    assert snapshot.id == made.snapshot
    assert snapshot.rows("prompts") == 40
    [receipt] = [row for row in lake.read("receipts").to_pylist() if row["stage"] == "pool"]
    assert json.loads(receipt["inputs"])["config"]["seed"] == 7
    assert json.loads(receipt["outputs"]) == {"name": "mine", "pool": made.pool, "snapshot": snapshot.id}
    assert msgspec.json.decode(receipt["counts"], type=Pool) == made


def test_a_pool_is_found_by_its_id_and_by_the_name_that_it_was_given_last(lake):
    """A name that moved to another pool means that one; an id means the same one for good."""
    fill(lake, [row(text(number)) for number in range(30)])
    first, second = (build(lake, plan(10, seed=seed), Options(name="mine")) for seed in (1, 2))
    assert first.pool != second.pool
    assert pool_named(lake, "mine") == second
    assert pool_named(lake, first.pool) == first
    assert [pool.pool for pool in pools(lake)] == [second.pool, first.pool]
    with pytest.raises(UnknownRef, match="no pool 'other'"):
        pool_named(lake, "other")


def test_too_few_prompts_are_refused_with_every_count(lake):
    """No pool is short in silence: the message has each domain's count and quota, and nothing was recorded."""
    fill(lake, [row(text(number), "a") for number in range(3)] + [row(text(number), "b") for number in range(50, 90)])
    wanted = plan(20, Domain(name="a", share=0.5), Domain(name="b", share=0.5))
    versions = lake.versions()
    with pytest.raises(Short, match="a 3 of 10, b 10 of 10") as caught:
        build(lake, wanted)
    assert lake.versions() == versions
    assert caught.value.pool.taken == 13
    short = build(lake, wanted, Options(allow_short=True))
    assert (short.taken, short.is_short) == (13, True)
    [receipt] = lake.read("receipts").to_pylist()
    assert json.loads(receipt["extra"])["is_short"] is True


def test_no_prompt_at_all_is_no_pool(lake):
    """A pool of nothing is refused even where a short one is allowed."""
    with pytest.raises(Short, match="there is no prompt"):
        build(lake, plan(5), Options(allow_short=True))


def test_a_dry_run_records_nothing(lake):
    """It counts all the same."""
    fill(lake, [row(text(number)) for number in range(30)])
    versions = lake.versions()
    assert build(lake, plan(10), Options(dry_run=True)).taken == 10
    assert lake.versions() == versions


def test_everything_that_is_passed_over_is_counted_under_its_reason(lake):
    """Too short, too long, in another language, blacklisted, a copy, and a near copy; what is left is not needed."""
    long = text(1, 60)
    rows = [
        row(long),
        row(long.replace(long.split()[-1], "changed")),
        row(text(2)),
        row(text(2), split="train"),
        row("one two three four"),
        row(text(3, 61)),
        row(text(4), language="fr"),
        row("this one has a slur in it"),
        row("five words are just enough"),
    ]
    fill(lake, rows)
    domain = Domain(name="a", share=1.0, language="en", max_words=60)
    black = Blacklist((("slur",),))
    made = build(lake, plan(9, domain, blacklist=black), Options(allow_short=True, dry_run=True))
    reasons = ("blacklisted", "exact_duplicate", "language", "near_duplicate", "too_long", "too_short")
    assert refused(made)["a"] == dict.fromkeys(reasons, 1)
    assert made.taken == 3
    enough = build(lake, plan(1, domain, blacklist=black), Options(dry_run=True))
    counts = refused(enough)["a"]
    assert counts["over_quota"] >= 2
    assert sum(counts.values()) == len(rows) - 1


def test_both_bounds_are_let_in(lake):
    """A prompt of exactly as many words as a bound says is in, one more or less is out."""
    fill(lake, [row(text(length, length)) for length in range(3, 12)])
    made = build(lake, plan(9, Domain(name="a", share=1.0, min_words=5, max_words=9)), Options(allow_short=True))
    assert sorted(len(words(event["text"])) for event in members(lake, made.pool)) == [5, 6, 7, 8, 9]
    assert refused(made)["a"] == {"too_short": 2, "too_long": 2}


def test_a_chinese_sentence_is_not_one_word(lake):
    """Each character counts, so that five words are no bar to a language without spaces."""
    fill(lake, [row("请你写出一个可以生成五个不同随机数的程序。", language=None)])
    made = build(lake, plan(1, Domain(name="a", share=1.0, language="zh")))
    [event] = members(lake, made.pool)
    assert event["language"] == "zh"


def test_a_copy_in_another_domain_is_taken_once(lake):
    """Domains are filled in order, and what one has no other takes."""
    fill(lake, [row(text(number), domain) for number in range(5) for domain in "ab"] + [row(text(99), "b")])
    domains = (Domain(name="b", share=0.5), Domain(name="a", share=0.5))
    made = build(lake, plan(10, *domains), Options(allow_short=True))
    assert [(domain.name, domain.taken) for domain in made.domains] == [("b", 5), ("a", 1)]
    assert sum(counts.get("exact_duplicate", 0) for counts in refused(made).values()) == 4


def test_prompts_of_other_domains_are_not_relabelled(lake):
    """What says another domain, or has the sources of another one, is passed over, and counted with its reason."""
    fill(
        lake,
        [
            row(text(1), "a", file="in/a.jsonl"),
            row(text(2), "a", file="in/b.jsonl"),
            row(text(3), "a", file="in/c.jsonl"),
            row(text(4), None, file="in/b.jsonl"),
            row(text(5), None, file="in/c.jsonl"),
            row(text(6), "other", file="in/c.jsonl"),
            row(text(7), "other", file="in/a.jsonl"),
            row(text(8), "a", split="test"),
        ],
    )
    domains = (
        Domain(name="a", share=0.5, sources=("*/a.jsonl",)),
        Domain(name="b", share=0.5, sources=("*/b.jsonl",)),
    )
    made = build(lake, plan(4, *domains), Options(allow_short=True))
    assert {event["text"]: event["domain"] for event in members(lake, made.pool)} == {text(1): "a", text(4): "b"}
    assert {(one.domain, one.reason): one.prompts for one in made.elsewhere} == {
        (None, "no_domain"): 1,
        ("a", "evaluation_split"): 1,
        ("a", "other_source"): 1,
        ("a", "wrong_domain"): 1,
        ("other", "other_domain"): 1,
        ("other", "wrong_domain"): 1,
    }


def changed(said: str, first: int = 0, last: int = 0, by: str = "other") -> str:
    """A text with so many of its first and last words changed; four of sixty leave it a near copy, eight do not."""
    found = said.split()
    return " ".join(
        f"{by}{place}" if place < first or place >= len(found) - last else found[place] for place in range(60)
    )


def test_what_is_held_back_is_a_pool_of_its_own_and_nothing_like_it_is_in_the_pool(lake):
    """Held-back prompts are for evaluation: neither they nor near copies of any are taken, be they alike or not."""
    attack = text(1, 60)
    second = changed(attack, last=4)
    near = [changed(attack, first=4, by="one"), changed(second, first=4, by="two")]
    held = [row(said, "adversarial") for said in (attack, second, text(2, 60))]
    fill(lake, [*held, row(attack, "adversarial", split="eval")])
    fill(lake, [row(said) for said in (attack, *near, text(3), text(4))], "other")
    made = build(lake, plan(5, held_back=(HeldBack(name="adversarial", size=2),)), Options(allow_short=True))
    assert refused(made) == {"adversarial": {"exact_duplicate": 1, "over_quota": 1}, "a": {"held_back": 3}}
    assert {event["text"] for event in members(lake, made.pool)} == {text(3), text(4)}
    kept = members(lake, made.held("adversarial"))
    assert [event["split"] for event in kept] == ["eval", "eval"]


def test_prompts_of_an_evaluation_split_are_held_against_the_pool(lake):
    """A test question that stands among the training ones too is in no pool."""
    fill(lake, [row(text(1), split="test"), row(text(1), split="train"), row(text(2), split="train")])
    made = build(lake, plan(2), Options(allow_short=True))
    assert [event["text"] for event in members(lake, made.pool)] == [text(2)]
    assert refused(made)["a"] == {"held_back": 1}


def test_what_was_held_back_short_is_refused(lake):
    """A size that is not reached is a shortfall as a quota is."""
    fill(lake, [row(text(1), "x"), row(text(2))])
    with pytest.raises(Short, match="x 1 of 5"):
        build(lake, plan(1, held_back=(HeldBack(name="x", size=5),)))


def test_a_name_that_cannot_be_one_is_refused(lake):
    """A name that reads as an id is none."""
    fill(lake, [row(text(1))])
    with pytest.raises(UsageError, match="cannot be a snapshot's name"):
        build(lake, plan(1), Options(name="abcdef"))


chosen = st.sets(st.integers(0, 200), min_size=12, max_size=40)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers=chosen, seed=st.integers(0, 5), order=st.randoms(use_true_random=False))
def test_the_order_in_which_prompts_came_changes_nothing(tmp_path_factory, numbers, seed, order):
    """The same prompts and seed are the same pool, whatever came first and however many batches it took."""
    rows = [row(text(number), "ab"[number % 2]) for number in numbers]
    domains = (Domain(name="a", share=0.5), Domain(name="b", share=0.5))
    made = []
    for shuffled in (rows, order.sample(rows, len(rows))):
        lake = Lake.create(str(tmp_path_factory.mktemp("lake") / "lake"))
        cut = order.randrange(len(shuffled))
        for part in (shuffled[:cut], shuffled[cut:]):
            fill(lake, part)
        made.append(build(lake, plan(10, *domains, seed=seed), Options(allow_short=True, dry_run=True)))
    assert made[0] == made[1]


def test_another_seed_is_another_choice(lake):
    """A seed chooses among prompts that would all do."""
    fill(lake, [row(text(number)) for number in range(60)])
    pools = [build(lake, plan(10, seed=seed)).pool for seed in range(3)]
    assert len({frozenset(event["prompt_id"] for event in members(lake, pool)) for pool in pools}) == 3


def test_no_two_prompts_of_a_pool_are_near_copies(lake):
    """Every two are less alike than the threshold, by the Jaccard similarity of their shingles, pair by pair."""
    chance = random.Random(3)
    rows = []
    for number in range(60):
        base = text(number, 40).split()
        for _ in range(4):
            changed = list(base)
            for _ in range(chance.choice([0, 1, 2, 4, 8])):
                changed[chance.randrange(len(changed))] = f"other{chance.randrange(10_000)}"
            rows.append(row(" ".join(changed), "ab"[number % 2]))
    fill(lake, rows)
    halves = (Domain(name="a", share=0.5), Domain(name="b", share=0.5))
    made = build(lake, plan(240, *halves), Options(allow_short=True))
    sets = [_shingles(event["text"]) for event in members(lake, made.pool)]
    assert 60 <= len(sets) < 240
    assert all(len(one & other) / len(one | other) < 0.85 for one, other in combinations(sets, 2))


def _shingles(said: str) -> set[tuple[str, ...]]:
    found = words(said)
    return {tuple(found[place : place + 5]) for place in range(max(1, len(found) - 4))}


def test_considered_is_taken_and_passed_over(lake):
    """For each domain the counts add up to the prompts that the lake has of it."""
    fill(lake, [row(text(number, 3 + number % 8), "ab"[number % 2]) for number in range(80)])
    halves = (Domain(name="a", share=0.5), Domain(name="b", share=0.5))
    made = build(lake, plan(30, *halves), Options(allow_short=True))
    for domain in made.domains:
        assert domain.considered == 40
        assert domain.taken + sum(domain.refused.values()) == domain.considered


def test_a_build_that_was_cut_short_is_gone_on_with(lake, monkeypatch):
    """Prompts that were appended before a crash are stored once, and the pool is whole after the second time."""
    fill(lake, [row(text(number)) for number in range(30)])
    monkeypatch.setattr("ingest.prompts.pool.CHUNK_ROWS", 1)
    real, calls = Lake.append, []

    def dying(self, kind, rows, **more):
        if kind == "prompts" and len(calls) == 1:
            raise KeyboardInterrupt
        calls.append(kind)
        return real(self, kind, rows, **more)

    monkeypatch.setattr("ingest.prompts.pool._READ_ROWS", 4)
    monkeypatch.setattr(Lake, "append", dying)
    with pytest.raises(KeyboardInterrupt):
        build(lake, plan(10))
    monkeypatch.setattr(Lake, "append", real)
    seen: list[int] = []
    made = build(lake, plan(10), progress=lambda done, _: seen.append(done))
    assert len(members(lake, made.pool)) == 10
    assert seen == sorted(seen)
    assert seen[-1] <= 30
