"""KTO: what was asked, what was answered, and whether that was wanted, from single verdicts."""

import json

import pyarrow as pa
import pytest

from exporters.dataset import Rows
from exporters.datasets import DATASETS, kto
from exporters.export import export, verify
from exporters.faults import FirewallBreach, check
from exporters.plan import Options
from lake.kinds import CATEGORIES
from tests.exporters.columns import SOURCE, TURNS, source
from tests.exporters.conftest import run, verdict
from tests.exporters.row_files import by_run
from views.connect import dumps, sources
from views.policy import Policy

CHAT = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "So."},
    {"role": "user", "content": "Really?"},
    {"role": "assistant", "content": "Yes."},
]
CALL = {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]}


@pytest.fixture(scope="module")
def exported(filled, tmp_path_factory):
    """The lake of every fate as kto, plain."""
    folder = tmp_path_factory.mktemp("kto") / "plain"
    receipt = export(filled, "kto", folder, Options(shape="plain"))
    return receipt, by_run(folder), folder


def test_accepted_is_wanted_and_rejected_is_not(exported):
    """Each run with a verdict for or against it is a row with its label; nothing else is."""
    _, found, _ = exported
    assert {run_id: row["label"] for run_id, row in found.items()} == {
        "good-1": True,
        "good-2": True,
        "good-3": True,
        "alone": True,
        "bad-1": False,
        "bad-2": False,
    }
    assert (found["bad-1"]["prompt"], found["bad-1"]["completion"]) == ("Do t1.", "a wrong answer")


def test_what_is_neither_is_in_quarantine_with_its_reason(exported):
    """Runs that a person must look at, that are half right, that nobody judged, or that say nothing, have reasons."""
    receipt, _, _ = exported
    assert receipt.counts.reasons == {
        "empty_content": 1,
        "missing_source_run_id": 1,
        "needs_review": 1,
        "no_verdict": 1,
        "partially_accepted": 1,
    }
    assert receipt.counts.considered == receipt.counts.exported + receipt.counts.quarantined


@pytest.mark.parametrize("label", [True, False])
def test_a_policy_labels_what_is_partially_accepted(filled, tmp_path, label):
    """Half right is wanted or not, as the policy says; the export can be made again from what it says of itself."""
    made = export(filled, "kto", tmp_path / "kto", Options(policy=Policy(partial_label=label)))
    assert by_run(tmp_path / "kto")["half-1"]["label"] is label
    assert "partially_accepted" not in made.counts.reasons
    assert "--policy FOLDER/receipt.json" in (tmp_path / "kto" / "README.md").read_text()


def test_the_same_bytes_again(filled, exported):
    """Rebuilt from its snapshot the export is what it was."""
    assert verify(filled, exported[2]).ok


def test_a_conversation_is_cut_before_its_last_answer(own, tmp_path):
    """The prompt is all turns but the last; a lone answer is one to the task."""
    own.append(
        "evidence",
        [
            run("chat", "t4", None, prompt=None, messages=json.dumps(CHAT)),
            run("alone-again", "t5", None, prompt=None, messages=json.dumps(CHAT[-1:])),
        ],
        producer="chats",
        sequence=1,
    )
    scores = [verdict("chat", "t4", "rejected"), verdict("alone-again", "t5", "accepted")]
    own.append("scores", scores, producer="chats", sequence=1)
    export(own, "kto", tmp_path / "kto")
    found = by_run(tmp_path / "kto")
    assert (found["chat"]["prompt"], found["chat"]["completion"]) == (CHAT[:-1], CHAT[-1:])
    assert found["alone-again"]["completion"] == CHAT[-1:]
    assert [turn["role"] for turn in found["alone-again"]["prompt"]] == ["user"]
    assert found["good-1"]["prompt"] == [{"role": "user", "content": "Do t1."}]


def test_tool_calls_are_kept_as_they_were_sent(own, tmp_path):
    """Where turns are more than roles and texts, every key of them is in the rows."""
    result = {"role": "tool", "content": "1", "tool_call_id": "1"}
    messages = [CHAT[1], CALL, result, CHAT[-1]]
    own.append(
        "evidence",
        [run("calls", "t4", None, messages=json.dumps(messages, indent=1), extra='{"tools":[{"name":"f"}]}')],
        producer="chats",
        sequence=1,
    )
    own.append("scores", [verdict("calls", "t4", "rejected")], producer="chats", sequence=1)
    export(own, "kto", tmp_path / "kto")
    found = by_run(tmp_path / "kto")
    assert (found["calls"]["prompt"], found["calls"]["completion"]) == (messages[:-1], messages[-1:])
    assert (found["calls"]["tools"], found["calls"]["label"]) == ([{"name": "f"}], False)
    assert found["good-1"]["completion"] == [{"role": "assistant", "content": "the first answer"}]


def test_the_same_answer_is_not_both_wanted_and_not(own, tmp_path):
    """Runs that give one answer to one prompt and have verdicts for and against it are all left out."""
    evidence = [run(name, "t9", "the very same") for name in ("for", "against")] + [run("other", "t9", "another")]
    own.append("evidence", evidence, producer="more", sequence=1)
    given = {"for": "accepted", "against": "rejected", "other": "rejected"}
    scores = [verdict(name, "t9", category) for name, category in given.items()]
    own.append("scores", scores, producer="more", sequence=1)
    made = export(own, "kto", tmp_path / "kto")
    assert made.counts.reasons["contradicted_label"] == 2
    assert {"for", "against", "other"} & by_run(tmp_path / "kto").keys() == {"other"}


def row(**more):
    """A row of kto without fault, but for what is given."""
    made = {"id": "kto-1", "task_id": "t", "prompt": "ask", "completion": "answer", "label": True}
    ids = {"category": "accepted", "source_run_id": "r", "event_id": "e", "score_event_id": "s"}
    return {**made, **ids, "provenance": source(), **more}


def refusal(shape, *given, policy=None):
    """What the second look at some rows says."""
    types = {"provenance": SOURCE, "label": pa.bool_()}
    if shape == "conversational":
        types |= {"prompt": TURNS, "completion": TURNS}
    batch = pa.record_batch(
        {name: pa.array([one[name] for one in given], types.get(name, pa.string())) for name in given[0]}
    )
    try:
        list(check(Rows(DATASETS["kto"], shape, True, policy or Policy()), [batch]))
    except FirewallBreach as breach:
        return breach.message
    return None


TURN = {"role": "user", "content": "ask"}


@pytest.mark.parametrize(
    ("shape", "more", "why"),
    [
        ("plain", {}, None),
        ("plain", {"label": False}, "label is not that of the verdict"),
        ("plain", {"label": None}, "label is not that of the verdict"),
        ("plain", {"category": "rejected"}, "label is not that of the verdict"),
        ("plain", {"category": "rejected", "label": False}, None),
        ("plain", {"category": "partially_accepted"}, "category 'partially_accepted' is not allowed in kto"),
        ("plain", {"category": "needs_human_review"}, "category 'needs_human_review' is not allowed in kto"),
        ("plain", {"category": None}, "category None is not allowed in kto"),
        ("plain", {"completion": " \n"}, "completion is empty after stripping"),
        ("plain", {"prompt": None}, "prompt is missing"),
        ("plain", {"provenance": source(sha256="x")}, "provenance.sha256 is no sha256"),
        ("conversational", {"prompt": [TURN], "completion": [{"role": "assistant", "content": "a"}]}, None),
        ("conversational", {"prompt": [], "completion": [{"role": "assistant", "content": "a"}]}, "prompt must be"),
        ("conversational", {"prompt": [TURN], "completion": [TURN]}, "must end with a turn of the assistant"),
        ("free-form", {"prompt": "[]", "completion": '[{"role":"assistant","content":"a"}]'}, "prompt must be"),
        ("free-form", {"prompt": '[{"role":"user"}]', "completion": "[]"}, "must be a list of turns"),
    ],
)
def test_the_second_look_refuses_what_may_not_be_there(shape, more, why):
    """A row that a view should have stopped stops the export."""
    found = refusal(shape, row(**more))
    assert (found is None) if why is None else (why in found)


@pytest.mark.parametrize("label", [True, False, None])
def test_no_policy_lets_in_what_a_person_must_look_at(label):
    """The categories that have a label are accepted, rejected, and partially accepted if it is given one."""
    known = kto.labels(Policy(partial_label=label, include_partial=True, include_review=True))
    assert set(known) == set(CATEGORIES) - {"needs_human_review"} - ({"partially_accepted"} if label is None else set())


def test_a_verdict_that_no_score_bears_out_stops_the_export(filled, tmp_path):
    """A view that turns rejected runs into accepted ones is found out by the pinned scores."""
    forged = dict(sources())
    forged["kto"] = (
        forged["kto"]
        .replace("record.label,", "true as label,")
        .replace("record.category,\n", "'accepted' as category,\n")
    )
    digest = filled.put_object(dumps(forged))
    with pytest.raises(FirewallBreach, match="claim a verdict that no pinned score bears out"):
        export(filled, "kto", tmp_path / "kto", Options(views=digest))
