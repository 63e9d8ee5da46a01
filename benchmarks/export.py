"""What does a training set cost? Exports against SQL by hand, and against a program that holds everything in memory.

`python benchmarks/export.py --rows 1000000`. Ours checks every row a second time, accounts for each that it leaves
out, and writes a receipt. The SQL by hand reads bare Parquet files with the same columns and writes the same rows in
the same order, and knows that the data is clean: no duplicates, no empty texts, one verdict a run. The program reads
the JSON lines.
"""

import json
from collections import defaultdict
from hashlib import sha256
from itertools import islice, product
from pathlib import Path

import duckdb

from benchmarks.generate import Files, generate
from benchmarks.measure import Side, compare, in_process, parser, print_ratio, scratch, timed
from exporters.export import export
from ingest.run import ingest
from lake import Lake

__all__ = ["by_hand", "in_memory", "main", "ours", "prepare"]

SQL_BAR = 1.2
PROGRAM_TIME_BAR = 10.0
PROGRAM_MEMORY_BAR = 0.1
DATASETS = ("sft", "rag", "preference")

_RUNS = """
    select
        run.prompt, run.text, run.run_id, run.task_id, verdict.category, run.role, run.model, verdict.score,
        verdict.reasons, run.recorded_at, run.source, run.event_id, verdict.event_id as score_event_id
    from read_parquet('{bare}/evidence.parquet') as run
    inner join read_parquet('{bare}/scores.parquet') as verdict on run.run_id = verdict.run_id
"""
_PROVENANCE = """
    run_id as source_run_id, task_id, category, role, model, score as quality_score, recorded_at as created_at,
    source as provenance, event_id, score_event_id
"""
BY_HAND = {
    "sft": f"""
        select
            concat('sft-', substr(sha256(run_id), 1, 16)) as id,
            [{{'role': 'user', 'content': prompt}}, {{'role': 'assistant', 'content': text}}] as messages,
            {_PROVENANCE}
        from ({_RUNS})
        where category = 'accepted'
        order by task_id, id
    """,
    "rag": f"""
        select
            concat('rag-', substr(sha256(run_id), 1, 16)) as id, text as content, category as source_category,
            {_PROVENANCE}
        from ({_RUNS})
        where category in ('accepted', 'partially_accepted')
        order by task_id, id
    """,
    # Pairs are spread over the runs of a task as the view spreads them; without that, the rows would be others.
    "preference": f"""
        with
        runs as ({_RUNS}),
        places as (
            select
                run_id, task_id, category,
                row_number() over (partition by task_id, category order by run_id) - 1 as place,
                count(*) over (partition by task_id, category) as side
            from runs
        ),
        settled as (select distinct task_id from places where category = 'rejected'),
        rivals as (
            from places where category = 'rejected'
            union all
            from places anti join settled using (task_id) where category = 'partially_accepted'
        ),
        pairs as (
            select chosen.task_id, chosen.run_id as chosen_run_id, rival.run_id as rejected_run_id
            from places as chosen inner join rivals as rival on chosen.task_id = rival.task_id
            where chosen.category = 'accepted'
            qualify row_number() over (
                partition by chosen.task_id
                order by case
                    when chosen.side <= rival.side
                        then (chosen.place - rival.place + chosen.side * rival.side) % chosen.side * rival.side
                            + rival.place
                    else (rival.place - chosen.place + chosen.side * rival.side) % rival.side * chosen.side
                        + chosen.place
                end
            ) <= 5
        )
        select
            concat(
                'pref-', substr(sha256(concat(chosen_run_id, '|', rejected_run_id, '|', pairs.task_id)), 1, 16)
            ) as id,
            [{{'role': 'user', 'content': chosen.prompt}}] as prompt,
            [{{'role': 'assistant', 'content': chosen.text}}] as chosen,
            [{{'role': 'assistant', 'content': rejected.text}}] as rejected,
            1 as schema_version,
            concat('accepted: ', chosen.reasons[1][:80], ' | ', rejected.category, ': ', rejected.reasons[1][:80])
                as reason,
            chosen_run_id, rejected_run_id, pairs.task_id,
            sha256(concat(least(chosen_run_id, rejected_run_id), '|', greatest(chosen_run_id, rejected_run_id)))
                as sig_hash,
            greatest(chosen.recorded_at, rejected.recorded_at) as created_at,
            {{'chosen': chosen.source, 'rejected': rejected.source}} as provenance,
            chosen.event_id as chosen_event_id, rejected.event_id as rejected_event_id
        from pairs
        inner join runs as chosen on pairs.chosen_run_id = chosen.run_id
        inner join runs as rejected on pairs.rejected_run_id = rejected.run_id
        order by pairs.task_id, id
    """,
}
# What of a row decides whether two files hold the same rows in the same order.
_SAME = {
    "sft": "id, messages, source_run_id, score_event_id",
    "rag": "id, content, source_category, score_event_id",
    "preference": "id, prompt, chosen, rejected, reason, sig_hash",
}


def prepare(evidence: str, scores: str, tasks: str, folder: str) -> float:
    """Make a lake of the files, and bare Parquet files of what it holds."""
    lake = Lake.create(f"{folder}/lake")
    for kind, path in (("tasks", tasks), ("evidence", evidence), ("scores", scores)):
        ingest(lake, kind, [path])
    snapshot = lake.pin()
    connection = duckdb.connect()
    for kind in ("evidence", "scores"):
        connection.execute(
            f"copy (from read_parquet({snapshot.paths(kind)})) to '{folder}/{kind}.parquet' (compression zstd)"
        )
    return 0.0


def ours(folder: str, dataset: str, out: str) -> float:
    """Export a dataset from the lake."""
    lake = Lake.open(f"{folder}/lake")
    return timed(lambda: export(lake, dataset, out))


def by_hand(folder: str, dataset: str, out: str) -> float:
    """Write the same rows with one statement."""
    connection = duckdb.connect()
    query = BY_HAND[dataset].replace("{bare}", folder)
    statement = f"copy ({query}) to '{out}' (format json)"
    return timed(lambda: connection.execute(statement))


def in_memory(evidence: str, scores: str, dataset: str, out: str) -> float:
    """Write such rows with a plain program: read all lines, group them, write."""
    return timed(lambda: _in_memory(Path(evidence), Path(scores), dataset, Path(out)))


def main() -> None:
    """Compare the three for each dataset on generated data."""
    options = parser(main.__doc__).parse_args()
    files = generate(options.rows, data=options.data)
    with scratch(options.data) as folder:
        in_process(prepare, [files.evidence, files.scores, files.tasks, folder])
        for dataset in DATASETS:
            _compare(dataset, options.rows, options.times, files, folder)


def _compare(dataset: str, rows: int, times: int, files: Files, folder: Path) -> None:
    mine, _ = compare(
        f"export {dataset}: {rows:,} runs",
        [
            Side("lake export", ours, lambda turn: [folder, dataset, folder / f"{dataset}-{turn}"]),
            Side("SQL by hand", by_hand, lambda turn: [folder, dataset, folder / f"{dataset}-{turn}.jsonl"]),
        ],
        SQL_BAR,
        times=times,
    )
    _refuse_different(dataset, folder / f"{dataset}-0", folder / f"{dataset}-0.jsonl")
    seconds, peak = in_process(in_memory, [files.evidence, files.scores, dataset, folder / "in-memory.jsonl"])
    print(f"  {'a program in memory':<36} {seconds:8.2f} s   peak {peak / (1 << 30):.2f} GiB")
    print_ratio("times faster than the program", seconds / mine.seconds, PROGRAM_TIME_BAR, at_least=True)
    print_ratio("of the program's memory", mine.peak / peak, PROGRAM_MEMORY_BAR)


def _refuse_different(dataset: str, exported: Path, written: Path) -> None:
    """Two sides that do not write the same rows are not worth comparing."""
    counts = []
    for path in (f"{exported}/data/*.jsonl", written):
        query = f"""
            select count(*), sum(hash(number, {_SAME[dataset]}) % 1000003)
            from (select *, row_number() over () as number from read_json('{path}'))
        """
        counts.append(duckdb.connect().execute(query).fetchone())
    if counts[0] != counts[1]:
        raise SystemExit(f"export {dataset}: the two sides wrote different rows: {counts[0]} and {counts[1]}")


def _in_memory(evidence: Path, scores: Path, dataset: str, out: Path) -> None:
    with evidence.open() as lines:
        runs = {row["run_id"]: row for row in map(json.loads, lines)}
    with scores.open() as lines:
        verdicts = {row["run_id"]: row for row in map(json.loads, lines)}
    if dataset == "preference":
        rows = _pairs(runs, verdicts)
    else:
        wanted = ("accepted",) if dataset == "sft" else ("accepted", "partially_accepted")
        rows = [
            {
                "id": _id(dataset, run_id),
                "messages": [
                    {"role": "user", "content": run["prompt"]},
                    {"role": "assistant", "content": run["text"]},
                ],
                "category": verdicts[run_id]["category"],
                "task_id": run["task_id"],
                "run_id": run_id,
            }
            for run_id, run in runs.items()
            if run_id in verdicts and verdicts[run_id]["category"] in wanted and run["text"].strip()
        ]
    rows.sort(key=lambda row: (row["task_id"], row["id"]))
    with out.open("w") as target:
        for row in rows:
            target.write(json.dumps(row) + "\n")


def _pairs(runs: dict[str, dict[str, str]], verdicts: dict[str, dict[str, str]]) -> list[dict[str, object]]:
    tasks: dict[str, dict[str, list[dict[str, str]]]] = defaultdict(lambda: defaultdict(list))
    for run_id, run in runs.items():
        if run_id in verdicts:
            tasks[run["task_id"]][verdicts[run_id]["category"]].append(run)
    pairs: list[dict[str, object]] = []
    for task_id, task in tasks.items():
        rivals = task["rejected"] or task["partially_accepted"]
        different = ((a, b) for a, b in product(task["accepted"], rivals) if a["text"].strip() != b["text"].strip())
        for chosen, rejected in islice(different, 5):
            key = f"{chosen['run_id']}|{rejected['run_id']}|{task_id}"
            pairs.append(
                {
                    "id": _id("pref", key),
                    "prompt": [{"role": "user", "content": chosen["prompt"]}],
                    "chosen": [{"role": "assistant", "content": chosen["text"]}],
                    "rejected": [{"role": "assistant", "content": rejected["text"]}],
                    "chosen_run_id": chosen["run_id"],
                    "rejected_run_id": rejected["run_id"],
                    "task_id": task_id,
                }
            )
    return pairs


def _id(prefix: str, said: str) -> str:
    return f"{prefix}-{sha256(said.encode()).hexdigest()[:16]}"


if __name__ == "__main__":
    main()
