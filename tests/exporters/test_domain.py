"""Domain: runs that may be imitated, by the domain that they are of."""

import json

import pyarrow as pa
import pytest

from exporters.dataset import Rows
from exporters.datasets import DATASETS
from exporters.export import export, verify
from exporters.faults import FirewallBreach, check
from exporters.plan import Options
from lake import Lake
from tests.exporters.columns import SOURCE, source
from tests.exporters.conftest import run, verdict
from tests.exporters.row_files import by_run
from views.policy import Policy


@pytest.fixture(scope="module")
def placed(tmp_path_factory):
    """A lake with runs of several domains, said by themselves, by their stream, or by their task."""
    lake = Lake.create(str(tmp_path_factory.mktemp("domain") / "lake"))
    evidence = [
        run("said", "t1", "by itself", extra='{"domain":"law"}', stream="code"),
        run("streamed", "t2", "by its stream", stream="code"),
        run("tasked", "t3", "by its task"),
        run("blank", "t3", "by its task, too", extra='{"domain":" "}', stream=" "),
        run("nowhere", "t4", "by nothing"),
        run("wrong", "t3", "a wrong answer"),
        run("page", "t5", "A text by itself.", kind="document", prompt=None, stream="law"),
    ]
    lake.append("evidence", evidence, producer="test", sequence=1)
    fates = {row["run_id"]: "rejected" if row["run_id"] == "wrong" else "accepted" for row in evidence}
    scores = [verdict(row["run_id"], row["task_id"], fates[row["run_id"]]) for row in evidence]
    lake.append("scores", scores, producer="test", sequence=1)
    task = {"task_id": "t3", "description": "Do t3.", "extra": '{"domain":"maths"}'}
    lake.append("tasks", [task], producer="test", sequence=1)
    return lake


def test_a_run_is_of_the_domain_that_it_says_or_its_stream_or_its_task(placed, tmp_path):
    """What it says itself counts before its stream, and that before its task; without any it is not considered."""
    made = export(placed, "domain", tmp_path / "domain")
    assert {run_id: row["domain"] for run_id, row in by_run(tmp_path / "domain").items()} == {
        "said": "law",
        "streamed": "code",
        "tasked": "maths",
        "blank": "maths",
        "page": "law",
    }
    assert made.counts.reasons == {"unsafe_domain_category": 1}
    found = by_run(tmp_path / "domain")["said"]["messages"]
    assert found == [{"role": "user", "content": "Do t1."}, {"role": "assistant", "content": "by itself"}]


def test_one_domain_can_be_asked_for(placed, tmp_path):
    """The others are in quarantine, with a reason of their own; the export is rebuilt as it was."""
    made = export(placed, "domain", tmp_path / "law", Options(policy=Policy(domain="law"), shape="text"))
    assert made.counts.reasons == {"other_domain": 3, "unsafe_domain_category": 1}
    assert {run_id: row["text"] for run_id, row in by_run(tmp_path / "law").items()} == {
        "said": "Do t1.\n\nby itself",
        "page": "A text by itself.",
    }
    assert "--policy FOLDER/receipt.json" in (tmp_path / "law" / "README.md").read_text()
    assert verify(placed, tmp_path / "law").ok


def test_turns_with_more_than_texts_are_kept_as_they_are(own, tmp_path):
    """Tool calls, and the tools themselves, are in the rows with every key."""
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f"}}]}
    messages = [{"role": "user", "content": "Why?"}, call]
    given = {"messages": json.dumps(messages), "extra": '{"tools":[{"name":"f"}],"domain":"law"}'}
    own.append("evidence", [run("calls", "t7", None, **given)], producer="more", sequence=1)
    own.append("scores", [verdict("calls", "t7", "accepted")], producer="more", sequence=1)
    export(own, "domain", tmp_path / "domain")
    found = by_run(tmp_path / "domain")
    assert found["calls"]["messages"] == messages
    assert found["calls"]["tools"] == [{"name": "f"}]


def row(**more):
    made = {"id": "domain-1", "task_id": "t", "domain": "law", "text": "words", "category": "accepted"}
    return {**made, "source_run_id": "r", "event_id": "e", "score_event_id": "s", "provenance": source(), **more}


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({}, None),
        ({"domain": None}, "domain is missing"),
        ({"domain": "code"}, "it is of another domain"),
        ({"category": "rejected"}, "category 'rejected' is not allowed in domain"),
        ({"category": "partially_accepted"}, "category 'partially_accepted' is not allowed in domain"),
        ({"text": "\n"}, "text is empty after stripping"),
    ],
)
def test_the_second_look_refuses_what_may_not_be_there(more, why):
    """A row that a view should have stopped stops the export."""
    given = row(**more)
    batch = pa.record_batch(
        {name: pa.array([value], SOURCE if name == "provenance" else pa.string()) for name, value in given.items()}
    )
    rules = Rows(DATASETS["domain"], "text", True, Policy(domain="law"))
    if why is None:
        assert list(check(rules, [batch])) == [batch]
    else:
        with pytest.raises(FirewallBreach, match=why):
            list(check(rules, [batch]))
