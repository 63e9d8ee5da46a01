"""Annotating a lake: what is looked at, what is stored, and what is not told twice."""

import json
import multiprocessing
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ingest import annotating
from ingest.annotating import NothingToCompare, Options, annotate
from ingest.annotators import registry
from ingest.annotators.annotator import Finding, Known, Look, Target, fields_of
from ingest.annotators.near_duplicate import NearDuplicate
from ingest.annotators.near_duplicate import Options as NearOptions
from ingest.annotators.pii import Pii
from ingest.scorers.configuration import BadConfiguration
from lake import Lake
from lake.errors import UsageError

Tell = Callable[..., None]
MOMENTS = [datetime(2026, 1, day, tzinfo=UTC) for day in range(1, 5)]
LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"


@pytest.fixture
def tell(lake: Lake) -> Tell:
    """Appends rows to a kind of the test's lake."""
    told = {"sequence": 0}

    def append(kind: str, *rows: dict[str, Any]) -> None:
        told["sequence"] += 1
        filled = [{"kind": "completion", "role": "executor", **row} if kind == "evidence" else row for row in rows]
        lake.append(kind, filled, producer="test", sequence=told["sequence"])

    return append


def run(number: int, text: str = LONG, **more: Any) -> dict[str, Any]:
    return {"run_id": f"r{number}", "task_id": f"t{number}", "text": text, **more}


def findings(lake: Lake, annotator: str) -> dict[str, dict[str, Any]]:
    """The findings of an annotator by run; no run has two."""
    rows = [row for row in lake.read("annotations").to_pylist() if row["annotator"] == annotator]
    made = {row["run_id"]: row for row in rows}
    assert len(made) == len(rows)
    return made


class Length:
    """Says how long an event is; an annotator of the simplest kind."""

    name = "length"
    version = "1"
    kinds = ("evidence",)
    known = Known.nothing

    def __init__(self, digest: str | None = None) -> None:
        self.digest = digest
        self.seen: list[str | None] = []

    def over(self, known: Iterable[Target]) -> Look:
        """Look at each event by itself."""
        assert not list(known)

        def look(targets: Iterable[Target]) -> list[Finding]:
            targets = list(targets)
            self.seen += [target.run_id for target in targets]
            return [Finding("long", float(sum(len(field.text) for field in target.fields))) for target in targets]

        return look


def test_what_was_not_looked_at_is_looked_at_once(lake: Lake, tell: Tell) -> None:
    """Every event gets one finding, a second run has nothing to do, and new events alone are looked at."""
    tell("evidence", *(run(number) for number in range(5)))
    annotator = Length()
    before = datetime.now(UTC)
    summary = annotate(lake, annotator)
    assert (summary.considered, summary.added, summary.found) == (5, 5, {"long": 5})
    assert annotate(lake, annotator).considered == 0
    tell("evidence", run(5))
    assert annotate(lake, annotator).added == 1
    assert sorted(filter(None, annotator.seen)) == [f"r{number}" for number in range(6)]
    row = findings(lake, "length")["r5"]
    assert row["target"] in lake.read("evidence")["event_id"].to_pylist()
    assert (row["annotator_version"], row["label"], row["value"], row["task_id"]) == ("1", "long", len(LONG), "t5")
    assert row["source"]["file"] == "annotator:length@1"
    assert before <= row["recorded_at"] <= datetime.now(UTC)


def test_evidence_told_anew_is_looked_at_anew(lake: Lake, tell: Tell) -> None:
    """Of a run told twice, only the newest evidence is looked at."""
    tell("evidence", run(1, recorded_at=datetime(2026, 1, 1, tzinfo=UTC)))
    annotate(lake, Pii())
    tell("evidence", run(1, text="now a@corp.com", recorded_at=datetime(2026, 1, 2, tzinfo=UTC)))
    assert annotate(lake, Pii()).found == {"email": 1}


def test_other_settings_are_another_version(lake: Lake, tell: Tell) -> None:
    """Settings are numbered, so that those of today count, and going back to older ones looks again."""
    tell("evidence", run(1))
    versions = [annotate(lake, Length(digest)).version for digest in (None, "abcdefghijkl", None, None)]
    assert versions[0] == "1"
    assert versions[1] == "1.1-abcdefghijkl"
    assert versions[2] == versions[3] == "1.2-default"
    assert lake.read("annotations").num_rows == 3


def test_a_dry_run_stores_nothing(lake: Lake, tell: Tell) -> None:
    """It looks and counts, and the next run finds the same to do."""
    tell("evidence", run(1), run(2))
    summary = annotate(lake, Length(), Options(dry_run=True))
    assert (summary.considered, summary.added) == (2, 0)
    assert lake.read("annotations").num_rows == 0


def test_what_is_kept_stays_kept(lake: Lake, tell: Tell) -> None:
    """The first of near copies is kept and named, and copies that come later name it too, however late they are."""
    tell("evidence", run(1, recorded_at=datetime(2026, 1, 5, tzinfo=UTC)), run(2, text="something else altogether"))
    annotate(lake, NearDuplicate())
    tell("evidence", run(3, LONG.upper(), recorded_at=datetime(2026, 1, 1, tzinfo=UTC)), run(4, f"{LONG} sixteen"))
    tell("evidence", run(5, ""))
    summary = annotate(lake, NearDuplicate(), Options(batch_rows=1))
    assert summary.found == {"kept": 1, "near copy": 2}
    made = findings(lake, "near-duplicate")
    first = made["r1"]["target"]
    assert [made[name]["label"] for name in ("r1", "r2", "r3", "r4", "r5")] == [None, None, first, first, None]
    assert made["r3"]["value"] == 1.0
    assert made["r4"]["value"] == pytest.approx(11 / 12)


def test_what_was_asked_is_part_of_what_is_alike(lake: Lake, tell: Tell) -> None:
    """Two short answers alike are no near copies of each other where other tasks were asked, and are where the same."""
    tell("tasks", {"task_id": "t1", "description": LONG}, {"task_id": "t2", "description": LONG[::-1]})
    tell("tasks", {"task_id": "t3", "description": LONG})
    tell("evidence", run(1, "It is 4."), run(2, "It is 4."), run(3, "It is 4."))
    annotate(lake, NearDuplicate())
    made = findings(lake, "near-duplicate")
    assert made["r2"]["label"] is None
    assert {made["r1"]["label"], made["r3"]["label"]} in ({None, made["r1"]["target"]}, {None, made["r3"]["target"]})


def test_what_was_kept_is_no_copy_of_itself(lake: Lake, tell: Tell) -> None:
    """Where a task asks something else by now, its runs are looked at again: what was kept is, and its copy is one."""
    tell("tasks", {"task_id": "t1", "language": "en", "description": "Count to fifteen."})
    tell("evidence", *({**run(number), "task_id": "t1", "recorded_at": MOMENTS[number]} for number in (1, 2)))
    assert annotate(lake, NearDuplicate()).found == {"kept": 1, "near copy": 1}
    tell("tasks", {"task_id": "t1", "language": "en", "description": "Count.", "recorded_at": MOMENTS[3]})
    assert annotate(lake, NearDuplicate()).found == {"kept": 1, "near copy": 1}
    labels = {(row["run_id"], row["label"] is None) for row in lake.read("annotations").to_pylist()}
    assert labels == {("r1", True), ("r2", False)}


def test_other_eval_tasks_are_a_reason_to_compare_again(lake: Lake, tell: Tell) -> None:
    """A finding says which version of the eval tasks it is against, and holds for no other."""
    contamination = registry.find("contamination")
    herring = {"task_id": "e1", "description": "Is a herring a fish or a bird?", "split": "test"}
    tell("evidence", run(1))
    with pytest.raises(NothingToCompare, match="no eval task") as refusal:
        annotate(lake, contamination)
    assert refusal.value.hint is not None
    tell("tasks", herring)
    first = annotate(lake, contamination)
    assert (first.considered, first.found) == (1, {"clean": 1})
    tell(
        "tasks", {"task_id": "e1", "description": "Is a herring a fish or a bird?", "split": "test", "entry_point": "f"}
    )
    assert annotate(lake, contamination).considered == 0
    tell("tasks", {"task_id": "e2", "description": f"Count on: {LONG}", "split": "eval"})
    second = annotate(lake, contamination)
    assert (second.considered, second.found) == (1, {"overlap": 1})
    assert second.against != first.against
    rows = lake.read("annotations").to_pylist()
    assert [row["against"] for row in rows] == [first.against, second.against]
    assert json.loads(rows[1]["spans"]) == [[0, len(LONG), "text", "e2"]]


def test_tasks_prompts_and_sections_are_compared_too(lake: Lake, tell: Tell) -> None:
    """Whatever may be trained on is compared with the eval tasks, and these with nothing."""
    tell("tasks", {"task_id": "e", "description": LONG, "split": "test"}, {"task_id": "t", "description": LONG})
    tell("prompts", {"prompt_id": "p", "text": LONG})
    tell("replay", {"section_id": "s", "section_type": "prose", "content": LONG})
    tell("evidence", run(1, "x", extra=json.dumps({"code": [{"buggy": LONG}]})))
    summary = annotate(lake, registry.find("contamination"))
    assert (summary.considered, summary.found) == (4, {"overlap": 4})


def test_an_older_state_is_looked_at_with_what_is_known_now(lake: Lake, tell: Tell) -> None:
    """Events of an older state alone are looked at, and not again if that was done since."""
    tell("evidence", run(1))
    old = lake.pin()
    tell("evidence", run(2))
    assert annotate(lake, Length(), Options(at=old.id)).considered == 1
    assert annotate(lake, Length(), Options(at=old.id)).considered == 0
    assert annotate(lake, Length()).considered == 1
    assert set(findings(lake, "length")) == {"r1", "r2"}


def _annotate_all(uri: str) -> int:
    return annotate(Lake.open(uri), NearDuplicate(), Options(batch_rows=7)).considered


def test_processes_at_once_tell_nothing_twice(lake: Lake, tell: Tell) -> None:
    """Two runs at the same time leave one finding for each event, as one run would."""
    tell("evidence", *(run(number, f"{LONG} {number // 2}") for number in range(40)))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(_annotate_all, [lake.uri, lake.uri])
    made = findings(lake, "near-duplicate")
    assert len(made) == 40
    kept = {row["target"] for row in made.values() if row["label"] is None}
    assert {row["label"] for row in made.values()} <= kept | {None}


def test_who_comes_second_looks_again(lake: Lake, tell: Tell) -> None:
    """A run whose place another process has taken starts over with what is left then, and tells nothing twice."""
    tell("evidence", run(1), run(2))
    others = [annotate]

    class Late(Length):
        def over(self, known: Iterable[Target]) -> Look:
            """Let another one come first, once."""
            if others:
                others.pop()(lake, Length())
            return super().over(known)

    summary = annotate(lake, Late())
    assert (summary.considered, summary.added) == (0, 0)
    assert set(findings(lake, "length")) == {"r1", "r2"}


def test_a_killed_run_goes_on_where_it_was(lake: Lake, tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was committed before an interruption is neither lost nor told again."""
    tell("evidence", *(run(number) for number in range(10)))
    tell_it = annotating._Work.tell
    left = iter(range(2))

    def interrupted(work: Any, *batch: Any) -> bool:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return tell_it(work, *batch)

    monkeypatch.setattr(annotating._Work, "tell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        annotate(lake, Length(), Options(batch_rows=3))
    monkeypatch.undo()
    assert len(findings(lake, "length")) == 6
    assert annotate(lake, Length()).considered == 4
    assert len(findings(lake, "length")) == 10


def test_every_text_of_a_row_is_looked_at() -> None:
    """Texts are columns and whatever the JSON of one holds; roles and ids are none, and JSON that is broken is text."""
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"tool_calls": [{"id": "1", "arguments": "{}"}]},
    ]
    row = {"prompt": "p", "text": " ", "messages": json.dumps(messages), "extra": "{broken", "answer": None}
    assert [tuple(field) for field in fields_of(row)] == [
        ("prompt", "p"),
        ("messages/0/content/0/text", "hi"),
        ("messages/1/tool_calls/0/arguments", "{}"),
        ("extra", "{broken"),
    ]


def test_annotators_are_found_by_name(tmp_path: Path) -> None:
    """Each name gives its annotator, two of them with settings; everything else is refused with what there is."""
    assert [registry.find(name).name for name in registry.NAMES] == list(registry.NAMES)
    config = tmp_path / "near.toml"
    config.write_text("threshold = 0.9\n")
    assert registry.find("near-duplicate", config).digest == NearDuplicate(NearOptions(threshold=0.9)).digest
    config.write_text("run = 8\n")
    assert registry.find("contamination", config).digest
    for name in ("pii", "nonsense"):
        with pytest.raises(UsageError):
            registry.find(name, config)
    with pytest.raises(BadConfiguration, match="run"):
        registry.find("near-duplicate", config)
    config.write_text('threshold = "high"\n')
    with pytest.raises(BadConfiguration) as wrong:
        registry.find("near-duplicate", config)
    assert wrong.value.hint == "see docs/quality.md for what can be set"
