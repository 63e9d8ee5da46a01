"""Large and real histories."""

import json
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake.events import to_table, with_ids
from lake.kinds import KINDS
from tests.views import world
from views import Policy, connect

RUNS = 200_000


def huge_task(folder):
    """One task with many runs, a third of which say the same, half accepted and half rejected."""
    numbers = range(RUNS)
    text = [f"text {n}" if n % 3 else "the same" for n in numbers]
    run_ids = [f"r{n:07}" for n in numbers]
    fixed = {"run_id": run_ids, "task_id": ["t"] * RUNS}
    place = [{"file": "runs.jsonl", "line": n, "sha256": "0"} for n in numbers]
    tables = {
        "evidence": {
            **fixed,
            "kind": ["completion"] * RUNS,
            "role": ["executor"] * RUNS,
            "text": text,
            "source": place,
        },
        "scores": {
            **fixed,
            "scorer": ["judge"] * RUNS,
            "scorer_version": ["1"] * RUNS,
            "category": [("accepted", "rejected")[n % 2] for n in numbers],
        },
    }
    files = {kind: [] for kind in ("rejects", "tasks", "retractions")}
    for kind, columns in tables.items():
        pq.write_table(with_ids(KINDS[kind], to_table(KINDS[kind], pa.table(columns)), "b"), folder / f"{kind}.parquet")
        files[kind] = [str(folder / f"{kind}.parquet")]
    return world.World(files, {})


def test_a_task_with_very_many_runs_is_paired_in_bounded_memory(tmp_path):
    """However many runs a task has, only a grid of 2 x cap by 2 x cap of them is looked at, in little memory."""
    cap = 5
    con = connect(huge_task(tmp_path), Policy(pairs_per_task=cap), threads=1, memory_limit="256MiB")
    assert con.execute("select count(*) from pairable_runs").fetchone() == (RUNS,)
    assert con.execute("select count(*), max(side) from pair_places").fetchone() == (2 * 2 * cap, 2 * cap)
    assert con.execute("select count(*) from pair_candidates").fetchone()[0] <= (2 * cap) ** 2
    pairs = con.execute("select chosen, rejected from preference").fetchall()
    assert len(pairs) == cap
    assert len({chosen for chosen, _ in pairs}) == len({rejected for _, rejected in pairs}) == cap


@pytest.fixture(scope="module")
def gsm8k(tmp_path_factory, request):
    """Four models' solutions of 1319 questions, with their published verdicts."""
    path = request.config.rootpath.parent / "shared" / "data" / "gsm8k" / "example_model_solutions.jsonl"
    if not path.exists():
        pytest.skip("there are no public data sets beside this checkout")
    evidence, scores, tasks = [], [], []
    for line, row in enumerate(map(json.loads, path.read_text().splitlines()), 1):
        place = world.place(path.name, line)
        tasks.append(world.task(f"q{line}", row["question"], source=place))
        for model, solution in row.items():
            if isinstance(solution, dict):
                run_id = f"q{line}/{model}"
                evidence.append(world.run(run_id, f"q{line}", solution["solution"], model=model, source=place))
                verdict = "accepted" if solution["is_correct"] else "rejected"
                scores.append(world.score(run_id, verdict, scorer="published", source=place))
    return world.make(tmp_path_factory.mktemp("gsm8k"), evidence=evidence, scores=scores, tasks=tasks)


def test_the_gsm8k_solutions_come_out_as_worked_out_by_others(gsm8k):
    """The figures that are known of this data set come out, and every record is accounted for."""
    con = connect(gsm8k, threads=2)
    counts = {
        name: con.execute(f"select count(*) from {name}").fetchone()[0]
        for name in ("evidence", "accepted", "rejected", "sft", "preference", "unpaired_tasks")
    }
    assert counts == {
        "evidence": 5276, "accepted": 2001, "rejected": 3275, "sft": 2001, "preference": 2429, "unpaired_tasks": 588,
    }  # fmt: skip
    assert con.execute("select count(distinct task_id) from preference").fetchone() == (731,)
    considered = Counter(dict(con.execute("select dataset, count(*) from considered group by all").fetchall()))
    refused = Counter(dict(con.execute("select dataset, count(*) from quarantine group by all").fetchall()))
    exported = Counter(dict(con.execute("select dataset, count(*) from exported_rows group by all").fetchall()))
    assert considered == refused + exported
    assert exported.keys() >= {"sft", "rag", "preference", "kto"}
