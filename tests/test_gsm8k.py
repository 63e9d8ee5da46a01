"""The main job on real input: 5 276 solutions of grade-school problems, with published verdicts."""

import json
from pathlib import Path

import pytest

from exporters.export import export, verify
from exporters.plan import Options
from ingest.run import Options as IngestOptions
from ingest.run import ingest
from ingest.scorers import registry
from ingest.scoring import score
from lake import Lake
from views import connect, diff, needed

ACCEPTED, REJECTED, PAIRS, PAIRED_TASKS, TASKS = 2001, 3275, 2429, 731, 1319


@pytest.fixture(scope="module")
def judged(public_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake of the tasks, the solutions and the published verdicts."""
    lake = Lake.create(str(tmp_path_factory.mktemp("gsm8k") / "lake"))
    solutions = str(public_data / "gsm8k" / "example_model_solutions.jsonl")
    for kind in ("tasks", "evidence", "scores"):
        summary = ingest(lake, kind, [solutions], IngestOptions(reader="gsm8k-solutions"))
        assert not summary.rejected
    return lake


def rows(folder: Path) -> dict[str, dict[str, object]]:
    [file] = folder.glob("data/*.jsonl")
    return {row["id"]: row for row in map(json.loads, file.read_text("utf-8").splitlines())}


def test_the_published_verdicts_make_the_training_sets(judged: Lake, tmp_path: Path) -> None:
    """What was accepted is exported, what was not is in quarantine, and nothing is anywhere else."""
    for dataset in ("sft", "rag"):
        counts = export(judged, dataset, tmp_path / dataset).counts
        assert (counts.considered, counts.exported, counts.quarantined) == (ACCEPTED + REJECTED, ACCEPTED, REJECTED)
    counts = export(judged, "preference", tmp_path / "preference").counts
    assert (counts.considered, counts.exported, counts.quarantined) == (PAIRS, PAIRS, 0)
    assert counts.tasks_without_pair == TASKS - PAIRED_TASKS
    pairs = rows(tmp_path / "preference").values()
    assert len({pair["task_id"] for pair in pairs}) == PAIRED_TASKS


def test_the_final_answer_agrees_with_every_published_verdict(judged: Lake) -> None:
    """Comparing the answer after the last marker gives the verdict that was published, each time."""
    summary = score(judged, registry.find("final-answer"))
    assert summary.categories == {"accepted": ACCEPTED, "rejected": REJECTED}
    with connect(judged.snapshot(), sql=needed("verdicts")) as connection:
        agreement = connection.sql("select scorers, dissenting, count(*) from verdicts group by all").fetchall()
    assert agreement == [(2, 0, ACCEPTED + REJECTED)]


def test_a_changed_verdict_moves_what_the_diff_says_and_nothing_else(judged: Lake, tmp_path: Path) -> None:
    """The old snapshot gives the same bytes for good; the new one differs by the rows that the diff names."""
    old = judged.pin()
    for dataset in ("sft", "preference"):
        export(judged, dataset, tmp_path / "old" / dataset, Options(at=old.id))
    with connect(old, sql=needed("accepted")) as connection:
        [(run, task)] = connection.sql("select run_id, task_id from accepted order by run_id limit 1").fetchall()
    verdict = {"run_id": run, "task_id": task, "scorer": "human", "scorer_version": "1", "category": "rejected"}
    judged.record("scores", {**verdict, "reasons": ["right by accident"]})
    new = judged.pin()
    assert new.id != old.id
    for dataset in ("sft", "preference"):
        assert verify(judged, tmp_path / "old" / dataset).ok
        export(judged, dataset, tmp_path / "again" / dataset, Options(at=old.id))
        for file in (tmp_path / "old" / dataset).rglob("*"):
            if file.is_file():
                assert file.read_bytes() == (tmp_path / "again" / file.relative_to(tmp_path / "old")).read_bytes()
        export(judged, dataset, tmp_path / "new" / dataset, Options(at=new.id))
        before, after = rows(tmp_path / "old" / dataset), rows(tmp_path / "new" / dataset)
        said = {(change.change, change.id) for change in diff(old, new, dataset)}
        assert said == (
            {("left", name) for name in before.keys() - after.keys()}
            | {("entered", name) for name in after.keys() - before.keys()}
            | {("changed", name) for name in before.keys() & after.keys() if before[name] != after[name]}
        )
        assert said
