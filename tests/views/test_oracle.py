"""Every relation against the oracle, on generated histories."""

import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from random import Random

import hypothesis
import pytest
from hypothesis import strategies as st

from tests.views import histories, world
from tests.views.oracle import Oracle
from views import Policy, connect, sources
from views.connect import needed, of_dataset

CATEGORY_RELATIONS = {
    "accepted": "accepted",
    "partially_accepted": "partially_accepted",
    "rejected": "rejected",
    "needs_review": "needs_human_review",
    "unscored": None,
}


# The datasets that the oracle works out; each of the others has tests of its own. Not every row is a dataset's.
KNOWN = ("sft", "rag", "preference", None)
# What is over all datasets takes ten times as long to plan as what is over these.
RULES = {
    **sources(),
    **{
        name: "\nunion all\n".join(of_dataset(sources()[name], each) for each in KNOWN if each)
        for name in ("dataset_checks", "exported_rows")
    },
}


class Relations:
    """The relations over some events, as lists of rows."""

    def __init__(self, events, policy, names=None):
        with tempfile.TemporaryDirectory() as folder:
            self.world = world.make(Path(folder), **events)
            self.con = connect(self.world, policy, sql=needed(" ".join(names or READ), RULES), threads=1)
            self.rows = {}
            for name in names or READ:
                rows = self.con.sql(f"from {name}").to_arrow_table().to_pylist()
                self.rows[name] = [row for row in rows if row.get("dataset") in KNOWN]
            self.con.close()

    def __getitem__(self, name):
        return self.rows[name]


READ = [
    "evidence", "scores", "tasks", "rejects", "retractions", "runs", "verdicts", *CATEGORY_RELATIONS, "sft", "rag",
    "preference", "quarantine", "considered", "unpaired_tasks", "health", "task_prompts", "exported_rows",
]  # fmt: skip


def same(found, expected):
    """The same rows, however ordered, each as often."""
    assert Counter(map(repr, found)) == Counter(map(repr, expected))


def pick(row, *names):
    return tuple(row[name] for name in names)


def examples(oracle, dataset):
    """The rows of sft or rag as the oracle would write them."""
    for row in oracle.sft if dataset == "sft" else oracle.rag:
        verdict = oracle.verdicts[row["run_id"]]
        yield {
            "run": row["run_id"],
            "task_id": row["task_id"],
            "said": (oracle.prompt(row), oracle.response(row), row["messages"])
            if dataset == "sft"
            else oracle.response(row),
            "rest": pick(row, "role", "model", "recorded_at", "source", "event_id"),
            "verdict": pick(verdict, "category", "score", "event_id"),
        }


def check(events, policy):
    relations = Relations(events, policy)
    oracle = Oracle(relations.world.events, policy)

    for kind in ("evidence", "scores", "tasks", "rejects", "retractions"):
        same((row["event_id"] for row in relations[kind]), (row["event_id"] for row in getattr(oracle, kind)))
    same(((row["task_id"], row["prompt"]) for row in relations["task_prompts"]), oracle.prompts.items())
    columns = [
        "run_id", "task_id", "category", "score", "sub_scores", "scorer", "scorer_version", "reasons", "recorded_at",
        "event_id", "scorers", "dissenting",
    ]  # fmt: skip
    same(
        (pick(row, *columns) for row in relations["verdicts"]),
        (pick(row, *columns) for row in oracle.verdicts.values()),
    )
    same(
        (pick(row, "event_id", "run_id", "category") for row in relations["runs"]),
        ((row["event_id"], row["run_id"], oracle.category(row["run_id"])) for row in oracle.runs()),
    )
    for name, category in CATEGORY_RELATIONS.items():
        expected = {row["run_id"] for row in oracle.runs() if oracle.category(row["run_id"]) == category}
        same((row["run_id"] for row in relations[name]), expected)

    same(
        (
            {
                "run": row["source_run_id"],
                "task_id": row["task_id"],
                "said": pick(row, "instruction", "response", "messages"),
                "rest": pick(row, "role", "model", "created_at", "provenance", "event_id"),
                "verdict": pick(row, "category", "quality_score", "score_event_id"),
            }
            for row in relations["sft"]
        ),
        examples(oracle, "sft"),
    )
    same(
        (
            {
                "run": row["source_run_id"],
                "task_id": row["task_id"],
                "said": row["content"],
                "rest": pick(row, "role", "model", "created_at", "provenance", "event_id"),
                "verdict": pick(row, "source_category", "quality_score", "score_event_id"),
            }
            for row in relations["rag"]
        ),
        examples(oracle, "rag"),
    )
    same(relations["preference"], oracle.preference)
    same(relations["quarantine"], oracle.quarantine)
    same((pick(row, "dataset", "record_type", "record_id") for row in relations["considered"]), oracle.considered)
    same((pick(row, "task_id", "reason") for row in relations["unpaired_tasks"]), oracle.unpaired.items())
    keys = ("stage", "dataset", "source", "category", "reason")
    assert {pick(row, *keys): row["records"] for row in relations["health"]} == oracle.health()
    check_accounts(relations)


def check_accounts(relations):
    """Each considered record is in its dataset or in quarantine, once, and nothing else is."""
    considered = Counter(pick(row, "dataset", "record_type", "record_id") for row in relations["considered"])
    refused = Counter(pick(row, "dataset", "record_type", "record_id") for row in relations["quarantine"])
    exported = Counter(
        [(name, "event", row["event_id"]) for name in ("sft", "rag") for row in relations[name]]
        + [("preference", "pair", row["id"]) for row in relations["preference"]]
    )
    assert considered == refused + exported
    assert not considered or max(considered.values()) == 1
    assert len({row["id"] for row in relations["exported_rows"]}) == exported.total()


@hypothesis.settings(max_examples=3, phases=[hypothesis.Phase.generate])
@hypothesis.given(st.integers(0, 2**32))
def test_every_relation_says_what_the_oracle_says(seed):
    """Whatever happened, the SQL and a plain fold over the same events agree on every relation."""
    check(histories.history(seed), histories.policy(seed))


def contest(rng, task_id):
    """Sound runs of one task, with few texts and prompts among them, so that pairs are hard to find."""
    texts = ["a", "a ", "b", "c"][: rng.randint(1, 4)]
    prompts = [None, None, "p", "q"][: rng.randint(1, 4)]
    categories = rng.choices(["accepted", "rejected", "partially_accepted"], k=rng.randint(1, 3))
    runs = [f"{task_id}-{number:02}" for number in range(rng.randint(0, 16))]
    return (
        [world.run(run_id, task_id, rng.choice(texts), prompt=rng.choice(prompts)) for run_id in runs],
        [world.score(run_id, rng.choice(categories)) for run_id in runs],
    )


@hypothesis.settings(max_examples=2, phases=[hypothesis.Phase.generate])
@hypothesis.given(st.integers(0, 2**32), st.integers(1, 4))
def test_the_cap_counts_valid_pairs_only(seed, cap):
    """A task gives as many pairs as the cap allows or as there are, whatever else its grid holds."""
    rng = Random(seed)
    contests = [contest(rng, f"t{number:02}") for number in range(40)]
    events = {
        "evidence": [row for told, _ in contests for row in told],
        "scores": [row for _, told in contests for row in told],
    }
    relations = Relations(events, Policy(pairs_per_task=cap), ["preference"])
    every = defaultdict(set)
    for pair in Oracle(relations.world.events, Policy(pairs_per_task=1000)).preference:
        every[pair["task_id"]].add(pair["id"])
    found = defaultdict(set)
    for pair in relations["preference"]:
        found[pair["task_id"]].add(pair["id"])
    assert {task_id: len(ids) for task_id, ids in found.items()} == {
        task_id: min(cap, len(ids)) for task_id, ids in every.items()
    }
    assert all(found[task_id] <= ids for task_id, ids in every.items())


@pytest.mark.parametrize(("accepted", "rejected"), [(1, 5), (3, 4), (40, 3), (700, 900)])
def test_pairs_are_spread_over_the_runs(accepted, rejected):
    """Where all texts differ, no run is in many more pairs than another of its side."""
    events = {
        "evidence": [world.run(f"r{n:04}", "t1", f"text {n}") for n in range(accepted + rejected)],
        "scores": [
            world.score(f"r{n:04}", "accepted" if n < accepted else "rejected") for n in range(accepted + rejected)
        ],
    }
    relations = Relations(events, Policy(), ["preference"])
    pairs = relations["preference"]
    assert len(pairs) == min(5, accepted * rejected)
    for side, runs in (("chosen_run_id", accepted), ("rejected_run_id", rejected)):
        uses = Counter(pair[side] for pair in pairs)
        most, least = max(uses.values()), min(uses.values()) if len(uses) == runs else 0
        assert most - least <= 1
