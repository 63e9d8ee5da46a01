"""With the gate against contamination shut, no training export holds an eval task, or nearly one."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from cli.app import main
from exporters import receipt
from exporters.datasets import DATASETS
from exporters.decontamination import Unchecked
from exporters.export import export, verify
from exporters.plan import Options
from ingest.annotating import annotate
from ingest.annotators import registry
from ingest.annotators.text import words
from lake import Lake
from views import Policy, connect, needed
from views.gates import Quality
from views.policy import Replay

GATED = Options(policy=Policy(quality=Quality(gates=("contamination",))))
SOURCE = {"file": "given.jsonl", "line": 1, "sha256": "0" * 64}
VOCABULARY = [f"word{number}" for number in range(300)]


def strings(value: Any) -> Iterator[str]:
    """Every text in a row."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from strings(inner)


def alike(text: str, question: str) -> bool:
    """Whether a text holds thirteen words on end of a question, or nearly all of its runs of five words."""
    mine, theirs = words(text), words(question)
    long, short = ({tuple(one[at : at + 13]) for at in range(len(one) - 12)} for one in (mine, theirs))
    if long & short:
        return True
    pieces = [{tuple(one[at : at + 5]) for at in range(len(one) - 4)} for one in (mine, theirs)]
    return bool(pieces[1]) and len(pieces[0] & pieces[1]) >= 0.8 * len(pieces[1])


def written(chance: random.Random, question: str) -> str:
    """A question as somebody else might have it: as it is, shouted, quoted, punctuated, or with a few words changed."""
    said = question.split()
    match chance.randrange(5):
        case 0:
            return question
        case 1:
            return f"They asked: {question.upper()} And then they left."
        case 2:
            return ", ".join(said) + "!"
        case 3:
            said[chance.randrange(len(said))] = "changed"
            return " ".join(said)
        case _:
            return " ".join(chance.choices(VOCABULARY, k=chance.randint(5, 40)))


def fill(lake: Lake, chance: random.Random) -> list[str]:
    """Eval tasks, and tasks and runs some of which are made from them; the eval tasks' questions."""
    questions = [" ".join(chance.choices(VOCABULARY, k=chance.randint(5, 60))) for _ in range(4)]
    tasks: list[dict[str, Any]] = [
        {"task_id": f"eval{number}", "description": question, "split": "test", "tests": "assert True"}
        for number, question in enumerate(questions)
    ]
    tasks += [
        {"task_id": f"t{number}", "description": written(chance, chance.choice(questions)), "tests": "assert True"}
        for number in range(8)
    ]
    runs: list[dict[str, Any]] = []
    for number in range(40):
        asked = {"prompt": written(chance, chance.choice(questions))} if chance.random() < 0.5 else {}
        kind = chance.choice(["completion", "completion", "document"])
        run = {"run_id": f"r{number}", "task_id": chance.choice(tasks)["task_id"], "kind": kind, "role": "executor"}
        runs.append({**run, **asked, "text": f"{number} {written(chance, chance.choice(questions))}"})
    scores = [
        {"run_id": run["run_id"], "scorer": "judge", "scorer_version": "1", "category": category}
        for run in runs
        for category in [chance.choice(["accepted", "rejected"])]
    ]
    for kind, rows in (("tasks", tasks), ("evidence", runs), ("scores", scores)):
        lake.append(kind, [{"source": SOURCE, **row} for row in rows], producer="test", sequence=0)
    return questions


@settings(max_examples=1, phases=[Phase.generate])
@given(seed=st.integers(0, 2**32))
def test_no_training_export_holds_an_eval_task(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Whatever the lake holds, no row of any training set has an eval task in it, and there were some to bar."""
    folder = tmp_path_factory.mktemp("lake")
    lake = Lake.create(str(folder / "lake"))
    questions = fill(lake, random.Random(seed))
    annotate(lake, registry.find("contamination"))
    for dataset in ("sft", "preference", "pretrain", "grpo"):
        one = export(lake, dataset, folder / dataset, GATED)
        files = (folder / dataset / "data").glob("*.jsonl")
        rows = [json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()]
        assert not [text for row in rows for text in strings(row) if any(alike(text, asked) for asked in questions)]
        assert not [row for row in rows if str(row.get("task_id")).startswith("eval")]
        barred = sum(one.counts.reasons.get(name, 0) for name in ("contaminated", "eval_task"))
        assert barred or dataset == "preference"


def test_every_training_set_is_behind_the_gate() -> None:
    """What each training set considers is asked of the gates, so that what holds for some holds for all."""
    barred = {"gate_faults", "barred_tasks", "barred_prompts"}
    for name, dataset in DATASETS.items():
        assert barred & needed(f"{dataset.relation} {name}_checks").keys() or name == "eval", name


def test_prompts_and_replayed_sections_are_behind_the_gate(lake: Lake) -> None:
    """A prompt and a section that overlap an eval task, or were not compared, are barred; none with the gate open."""
    eval_task = {"task_id": "e", "description": " ".join(VOCABULARY[:20]), "split": "test"}
    lake.append("tasks", [eval_task], producer="test", sequence=0)
    for place, text in enumerate((" ".join(VOCABULARY[:20]), "Something of its own.", "What came later.")):
        if place == 2:
            annotate(lake, registry.find("contamination"))
        prompt = {"prompt_id": f"p{place}", "text": text}
        section = {"section_id": f"s{place}", "section_type": "prose", "content": text, "weight": 1.0}
        lake.append("prompts", [prompt], producer="test", sequence=place)
        lake.append("replay", [section], producer="test", sequence=place)
    asked = "select errors, count(*) from barred_{} group by all order by all"
    pool = "select section_id from replay_pool order by all"
    for policy, barred, left in (
        (GATED.policy, [("contaminated", 1), ("contamination_unchecked", 1)], ["s1"]),
        (Policy(), [], ["s0", "s1", "s2"]),
    ):
        every = msgspec.structs.replace(policy, replay=Replay(retention=0.0))
        with connect(lake.snapshot(), every, sql=needed("barred_prompts barred_sections replay_pool")) as con:
            assert con.sql(asked.format("prompts")).fetchall() == barred
            assert con.sql(asked.format("sections")).fetchall() == barred
            assert [row[0] for row in con.sql(pool).fetchall()] == left


@pytest.fixture
def judged(lake: Lake) -> Lake:
    """A lake with an eval task, and an accepted run that is clean."""
    task = {"task_id": "e", "description": "Which of these seven birds cannot fly at all?", "split": "eval"}
    run = {"run_id": "r", "task_id": "t", "kind": "completion", "role": "executor", "text": "A short answer."}
    score = {"run_id": "r", "scorer": "judge", "scorer_version": "1", "category": "accepted"}
    for kind, row in (("tasks", task), ("evidence", run), ("scores", score)):
        lake.append(kind, [{"source": SOURCE, **row}], producer="test", sequence=0)
    return lake


def test_an_export_is_refused_while_the_comparison_is_older_than_the_tasks(judged: Lake, tmp_path: Path) -> None:
    """Before the first comparison, and again once other eval tasks are registered, nothing is written."""
    for number in range(2):
        with pytest.raises(Unchecked, match="as they are now") as refusal:
            export(judged, "sft", tmp_path / "sft", GATED)
        assert refusal.value.hint == "run 'lake annotate contamination'"
        assert refusal.value.exit_code == 1
        assert not (tmp_path / "sft").exists()
        annotate(judged, registry.find("contamination"))
        assert export(judged, "sft", tmp_path / f"sft{number}", GATED).counts.exported == 1
        more = {"task_id": "e2", "description": "How many legs has a spider, if one is lost?", "split": "test"}
        judged.append("tasks", [more], producer="test", sequence=1)


def test_a_gate_without_eval_tasks_is_refused(lake: Lake, tmp_path: Path) -> None:
    """Who asks for decontamination where there is nothing to compare with is told so."""
    with pytest.raises(Unchecked, match="no eval task is registered"):
        export(lake, "sft", tmp_path / "sft", GATED)


def test_what_came_after_the_comparison_is_barred(judged: Lake, tmp_path: Path) -> None:
    """Runs that were told since are in quarantine, and the receipt and the card say how many were compared."""
    annotate(judged, registry.find("contamination"))
    run = {"run_id": "r2", "task_id": "t", "kind": "completion", "role": "executor", "text": "More.", "source": SOURCE}
    judged.append("evidence", [run], producer="test", sequence=1)
    score = {"run_id": "r2", "scorer": "judge", "scorer_version": "1", "category": "accepted"}
    judged.append("scores", [score], producer="test", sequence=1)
    made = export(judged, "sft", tmp_path / "sft", GATED)
    assert made.counts.reasons == {"contamination_unchecked": 1}
    assert made.decontamination is not None
    assert (made.decontamination.compared, made.decontamination.evidence) == (1, 2)
    card = (tmp_path / "sft" / "README.md").read_text("utf-8")
    assert "1 of 2 evidence events were compared with the 1 registered eval tasks" in card
    assert "--policy FOLDER/receipt.json" in card
    assert verify(judged, tmp_path / "sft").ok


def test_every_export_says_how_it_stands(judged: Lake, tmp_path: Path) -> None:
    """With the gate open too, receipt and card say what was compared, and that nothing is barred."""
    made = export(judged, "sft", tmp_path / "sft")
    assert made.counts.exported == 1
    said = receipt.read(tmp_path / "sft").decontamination
    assert said is not None
    assert (said.gate, said.eval_tasks, said.compared, said.contaminated) == (False, 1, 0, 0)
    assert "The gate is open" in (tmp_path / "sft" / "README.md").read_text("utf-8")
    assert verify(judged, tmp_path / "sft").ok


def test_the_commands_annotate_and_gate(judged: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`lake annotate` says what was found, `lake export --gate` bars by it, and both say what to do first."""
    out = str(tmp_path / "sft")
    assert main(["export", "sft", out, "--gate", "contamination", "--lake", judged.uri]) == 1
    assert "lake annotate contamination" in capsys.readouterr().err
    assert main(["annotate", "all", "--lake", judged.uri, "--format", "json", "--dry-run"]) == 0
    assert "none stored (a dry run)" in capsys.readouterr().err
    assert main(["annotate", "all", "--lake", judged.uri, "--format", "json"]) == 0
    told = capsys.readouterr()
    assert {(row["annotator"], row["found"], row["events"]) for row in json.loads(told.out)} == {
        ("contamination", "clean", 1),
        ("near-duplicate", "kept", 1),
        ("pii", "none", 1),
        ("language", "en", 1),
    }
    assert "contamination version 1 against eval tasks" in told.err
    assert main(["annotate", "pii", "--lake", judged.uri]) == 0
    assert main(["export", "sft", out, "--gate", "contamination", "--gate", "pii", "--lake", judged.uri]) == 0
    policy = receipt.read(tmp_path / "sft").policy
    assert policy["quality"]["gates"] == ["contamination", "pii"]
    assert main(["export", "sft", f"{out}2", "--gate", "nonsense", "--lake", judged.uri]) == 2
    assert main(["annotate", "nonsense", "--lake", judged.uri]) == 2
    assert main(["annotate", "all", "--config", "x.toml", "--lake", judged.uri]) == 2


def test_a_lake_without_eval_tasks_is_annotated_with_the_rest(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    """`lake annotate all` leaves out what has nothing to compare with, and says so; asked for alone it is refused."""
    assert main(["annotate", "all", "--lake", lake.uri]) == 0
    assert "contamination: no eval task is registered" in capsys.readouterr().err
    assert main(["annotate", "contamination", "--lake", lake.uri]) == 1
