"""Prompts that are like no others, and a plan of a pool of them."""

import random

from ingest.prompts.blacklist import Blacklist
from ingest.prompts.config import Domain, Plan, PoolConfig
from ingest.readers.prompts import prompt_id
from lake import Lake

NOUNS = ["river", "engine", "garden", "number", "letter", "window", "planet", "basket", "violin", "harbour", "lantern"]


def text(number: int, length: int = 12) -> str:
    """A question of so many words that is like no other number's."""
    chance = random.Random(number)
    return " ".join([chance.choice(NOUNS) + str(chance.randrange(1000)) for _ in range(length)])


def row(said: str, domain: str | None = "a", **more: object) -> dict[str, object]:
    file = more.pop("file", "given.jsonl")
    source = {"file": file, "line": 1, "sha256": "0" * 64}
    made = {"prompt_id": prompt_id(said), "text": said, "domain": domain, "language": "en", "source": source}
    return made | more


def fill(lake: Lake, rows: list[dict[str, object]], producer: str = "test") -> None:
    known = lake.position("prompts", producer)
    lake.append("prompts", rows, producer=producer, sequence=known.sequence + 1 if known else 1)


def plan(target: int, *domains: Domain, blacklist: Blacklist | None = None, **more: object) -> Plan:
    shares = domains or (Domain(name="a", share=1.0),)
    return Plan(PoolConfig(target_size=target, domain=shares, **more), blacklist or Blacklist(), "pool.toml")
