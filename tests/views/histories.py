"""Generated histories: everything that may happen to some dozens of runs, for the oracle and the SQL to agree on.

A seed is a history. One large history costs the SQL what a small one does, so these are large and few.
"""

from random import Random
from typing import Any

from tests.views import world
from views import Policy

Row = dict[str, Any]

RUNS = [f"r{number:02}" for number in range(70)]
TASKS = [f"t{number:02}" for number in range(12)]
FILES = ["runs.jsonl", "more.jsonl", "scores.jsonl"]
TEXTS = [
    "yes", "yes\u3000", "\x1cyes", "no", " no\n", "maybe", "so", "", "   ", "\u2003\u00a0", "\u200b", "ünïcode 語",
    "a\x00b", None,
]  # fmt: skip
CALL = '{"role":"assistant","content":null,"tool_calls":[{"id":"1"}]}'
ANSWER = '{"role":"assistant","content":"yes"}'
CHATS = [
    f'[{{"role":"user","content":"why?"}},{ANSWER}]',
    f'[{{"role":"system","content":"be brief"}},{{"role":"user","content":"why?"}},{ANSWER}]',
    '[{"role":"user","content":[{"type":"text","text":"wh"},{"type":"image"},{"type":"text","text":"y?"}]},'
    + CALL
    + "]",
    '[{"role":"user","content":"why?"}]',
    f'[{{"role":"user","content":7}},{ANSWER}]',
    f'[{{"role":"narrator","content":"x"}},{ANSWER}]',
    '[1,null,"x"]',
    "[]",
    ANSWER,
]
VERSIONS = ["1", "1.2", "1.10", "1.010", "v2", "2", "99999999999999999999"]


def history(seed: int) -> dict[str, list[Row]]:
    """Events by kind: runs told again, scored again under other versions, withdrawn, and withdrawn no more."""
    rng = Random(seed)
    rows = {
        "evidence": [evidence(rng) for _ in range(rng.randint(0, 90))],
        "scores": [score(rng) for _ in range(rng.randint(0, 110))],
        "tasks": [task(rng) for _ in range(rng.randint(0, 12))],
        "rejects": [reject(rng) for _ in range(rng.randint(0, 4))],
    }
    ids = [event_id for kind, told in rows.items() for event_id in world.told(kind, told)["event_id"].to_pylist()]
    targets = {"event": ids or ["nothing"], "run": RUNS, "task": TASKS, "source": FILES}
    kinds = rng.choices(list(targets), weights=(8, 4, 2, 1), k=rng.randint(0, 5))
    rows["retractions"] = [world.retraction(kind, rng.choice(targets[kind]), recorded_at=moment(rng)) for kind in kinds]
    for _ in range(rng.randint(0, 2) if kinds else 0):
        said = world.told("retractions", rows["retractions"])["event_id"].to_pylist()
        rows["retractions"].append(world.retraction("event", rng.choice(said)))
    return rows


def policy(seed: int) -> Policy:
    """A policy, all of its fields tried."""
    rng = Random(seed)
    return Policy(
        include_partial=rng.random() < 0.5,
        include_review=rng.random() < 0.5,
        pairs_per_task=rng.randint(1, 5),
        precedence=rng.choice([("human",), (), ("tests", "judge")]),
        known_files=rng.choice([None, None, ("src/a.py", "src/b.py"), ()]),
    )


def moment(rng: Random) -> Any:
    """Few moments, so that there are ties, and some unknown."""
    return world.at(rng.choice([None, 1, 2, 2, 3]))


def source(rng: Random, file: str) -> Row | None:
    """A place in a file; rarely none, or half of one."""
    if rng.random() < 0.9:
        return world.place(file, rng.randint(1, 3))
    return rng.choice([None, world.place("", 1), {**world.place(file), "sha256": rng.choice(["", None])}])


def evidence(rng: Random) -> Row:
    """A piece of evidence, usually sound."""
    run_id = rng.choice(RUNS)
    usual_task = TASKS[RUNS.index(run_id) % len(TASKS)]
    return world.run(
        run_id,
        usual_task if rng.random() < 0.95 else rng.choice(TASKS),
        rng.choice(TEXTS[:7] * 4 + TEXTS),
        role=rng.choice(["executor"] * 12 + ["applier", "reviewer", "reviewer", "extractor", "verifier"]),
        prompt=rng.choice([None] * 8 + ["p", "p ", " \u2028"]),
        messages=rng.choice(CHATS) if rng.random() < 0.25 else None,
        source_files=rng.choice([None, None, [], ["src/a.py"], ["src/b.py", "src/a.py"], ["src/a.py", "made_up.py"]]),
        recorded_at=moment(rng),
        source=source(rng, rng.choice(FILES[:2])),
    )


def score(rng: Random) -> Row:
    """A verdict, of any version of one of three scorers."""
    return world.score(
        rng.choice([*RUNS, "unheard-of"]),
        rng.choice(["accepted"] * 3 + ["rejected"] * 3 + ["partially_accepted", "needs_human_review"]),
        task_id=rng.choice(TASKS) if rng.random() < 0.05 else None,
        scorer=rng.choice(["judge", "judge", "tests", "human"]),
        scorer_version=rng.choice(VERSIONS),
        score=rng.choice([None, 0.0, 0.5]),
        reasons=rng.choice([None, [], ["good"], ["x" * 90, "second"]]),
        recorded_at=moment(rng),
        source=source(rng, "scores.jsonl"),
    )


def task(rng: Random) -> Row:
    """A task that may say nothing."""
    return world.task(
        rng.choice(TASKS),
        rng.choice(["Do it.", "Do that.", " ", None]),
        starter_code=rng.choice([None, "def f():"]),
        recorded_at=moment(rng),
    )


def reject(rng: Random) -> Row:
    """An input that came to nothing."""
    return {
        "kind": "evidence",
        "reader": "native",
        "reason": rng.choice(["not_json", "missing_field"]),
        "raw": "{",
        "source": world.place("runs.jsonl", rng.randint(1, 5)),
        "recorded_at": moment(rng),
    }
