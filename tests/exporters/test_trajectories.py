"""Trajectories: from evidence to messages, Harmony and tags."""

import json

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters import harmony
from exporters.datasets.trajectories import TEXT_FAULTS
from exporters.export import export, verify
from exporters.faults import FirewallBreach
from exporters.plan import Options
from ingest.run import Options as IngestOptions
from ingest.run import ingest
from lake import Lake
from lake.errors import UsageError
from tests.exporters.conftest import run, verdict
from views.connect import connect, dumps, needed, sources
from views.policy import Harmony, Policy

ASKED = {"role": "user", "content": "Mend it."}
CALL = {"id": "c1", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls <|end|>"}'}}
CALLING = {"role": "assistant", "content": "", "thinking": "Look first.", "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "a.py <|call|>", "extra": [1, {"kept": None}]}
ANSWER = {"role": "assistant", "content": "Done."}
GOOD = [{"role": "system", "content": "You mend."}, ASKED, CALLING, RESULT, ANSWER]
TOOLS = [{"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}}]

BAD = {
    "no list": ({}, "schema_violation"),
    "nothing": ([], "schema_violation"),
    "a role of its own": ([ASKED, {"role": "narrator", "content": "x"}, ANSWER], "schema_violation"),
    "content of another type": ([{**ASKED, "content": 3}, ANSWER], "schema_violation"),
    "thinking of another type": ([ASKED, {**ANSWER, "reasoning": []}], "schema_violation"),
    "calls of another type": ([ASKED, {**ANSWER, "tool_calls": {}}], "schema_violation"),
    "nobody answers": ([ASKED], "no_answer"),
    "a system message in the middle": ([ASKED, {"role": "system", "content": "x"}, ANSWER], "role_order"),
    "the assistant begins": ([ANSWER, ASKED], "role_order"),
    "a picture": ([{**ASKED, "content": [{"type": "image_url"}]}, ANSWER], "content_without_text"),
    "nothing said": ([ASKED, {"role": "assistant", "content": " \n"}, ANSWER], "empty_content"),
    "no name of a function": ([ASKED, {**CALLING, "tool_calls": [{"function": {"name": "a b"}}]}], "bad_tool_call"),
    "a comma too many": (
        [ASKED, {**CALLING, "tool_calls": [{"name": "f", "arguments": '{"a": 1,}'}]}],
        "bad_tool_call",
    ),
    "a result of nothing": ([ASKED, CALLING, {"role": "tool", "content": "x"}, ANSWER], "missing_tool_name"),
    "a result too many": ([ASKED, CALLING, RESULT, RESULT, ANSWER], "unmatched_tool_result"),
    "a result of another call": ([ASKED, CALLING, {**RESULT, "tool_call_id": "c2"}], "unmatched_tool_result"),
    "a call without a result": ([ASKED, CALLING, ANSWER], "missing_tool_result"),
}


def trajectory(run_id, messages, tools=None, **more):
    extra = {} if tools is None else {"extra": json.dumps({"tools": tools})}
    given = {"kind": "trajectory", "messages": json.dumps(messages), "prompt": None, **extra, **more}
    return run(run_id, f"t-{run_id}", None, **given)


def fill(lake, *runs, category="accepted"):
    lake.append("evidence", list(runs), producer="test", sequence=1)
    scores = [verdict(row["run_id"], row["task_id"], category) for row in runs]
    lake.append("scores", scores, producer="test", sequence=1)
    return lake


def rows(folder):
    [file] = folder.glob("data/*.jsonl")
    return {row["source_run_id"]: row for row in map(json.loads, file.read_text("utf-8").splitlines())}


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A good trajectory with tools, one that ends with a result, and every bad one."""
    lake = Lake.create(str(tmp_path_factory.mktemp("trajectories") / "lake"))
    bad = [trajectory(name, messages) for name, (messages, _) in BAD.items()]
    return fill(lake, trajectory("good", GOOD, TOOLS), trajectory("open", GOOD[:-1]), *bad)


def reasons(lake):
    """Why each run is in quarantine for this dataset, '' where it is not."""
    with connect(lake.snapshot(), sql=needed("trajectories_checks")) as connection:
        found = connection.sql("select run_id, errors from trajectories_checks").fetchall()
    return {run_id: errors.partition(",")[0] for run_id, errors in found}


def test_messages_are_kept_unchanged_and_every_bad_conversation_is_held_back(filled, tmp_path):
    """Tool calls, thinking and keys that nobody knows are those of the evidence; the books balance."""
    counts = export(filled, "trajectories", tmp_path / "out").counts
    made = rows(tmp_path / "out")
    assert made.keys() == {"good", "open"}
    assert (made["good"]["messages"], made["good"]["tools"]) == (GOOD, TOOLS)
    assert (made["open"]["messages"], made["open"]["tools"]) == (GOOD[:-1], None)
    assert (counts.considered, counts.exported, counts.quarantined) == (len(BAD) + 2, 2, len(BAD))


def test_each_fault_has_a_reason_of_its_own(filled):
    """What no form can tell is in quarantine for what is wrong with it."""
    expected = {name: reason for name, (_, reason) in BAD.items()}
    assert reasons(filled) == {"good": "", "open": "", **expected}


def test_harmony_is_rendered_from_the_same_messages(filled, tmp_path):
    """Each text is the conversation's, valid, and the same whenever it is made again."""
    export(filled, "trajectories", tmp_path / "out", Options(shape="harmony"))
    made = rows(tmp_path / "out")
    assert made["good"]["text"] == harmony.render(harmony.read_chat(GOOD, TOOLS))
    assert made["open"]["text"].endswith("<|end|>")
    assert harmony.parse(made["good"]["text"]).turns[2].text == "a.py <|call|>"
    assert verify(filled, tmp_path / "out").ok


def test_a_policy_names_the_day_and_the_effort(filled, tmp_path):
    """The system message says what the policy says, in Parquet as well."""
    told = Options(shape="harmony", format="parquet", policy=Policy(harmony=Harmony(date="2026-01-31", effort="low")))
    export(filled, "trajectories", tmp_path / "out", told)
    [file] = (tmp_path / "out").glob("data/*.parquet")
    for text in pq.read_table(file).column("text").to_pylist():
        assert "Current date: 2026-01-31\n\nReasoning: low\n" in text


@pytest.mark.parametrize("wrong", [{"effort": "much"}, {"date": "today"}])
def test_a_policy_that_no_system_message_can_say_is_refused(wrong):
    """It is refused when it is made, before anything is exported."""
    with pytest.raises(UsageError, match="cannot be"):
        Harmony(**wrong)


def test_tags_are_rendered_too(filled, tmp_path):
    """The older form ends with its end of text, and holds no tag that a message brought along."""
    export(filled, "trajectories", tmp_path / "out", Options(shape="tags"))
    text = rows(tmp_path / "out")["good"]["text"]
    assert text.endswith("Done.<|endoftext|>")
    assert "<\\|call|>" in text


@pytest.mark.parametrize("category", ["rejected", "needs_human_review", "partially_accepted"])
def test_only_what_is_accepted_is_imitated(lake, category):
    """Runs of another verdict or none, and runs of somebody other than an agent, are in quarantine."""
    fill(lake, trajectory("a", GOOD), category=category)
    fresh = [trajectory("b", GOOD), run("plain", "t1", "an answer"), trajectory("c", GOOD, role="extractor")]
    lake.append("evidence", fresh, producer="more", sequence=1)
    lake.append("scores", [verdict("c", "t-c", "accepted")], producer="more", sequence=1)
    unsafe = "unsafe_trajectory_category"
    assert reasons(lake) == {"a": unsafe, "b": unsafe, "c": "category_disallowed"}


@pytest.mark.parametrize(
    ("shape", "fault"),
    [("conversational", "a call without a result"), ("harmony", "a call without a result"), ("tags", "no list")],
)
def test_a_view_that_lets_a_bad_conversation_through_is_refused(filled, tmp_path, shape, fault):
    """The second layer finds it by itself, in each shape, and names the row."""
    rules = dict(sources())
    rules["checked_before"] = rules["trajectories_checks"]
    rules["trajectories_checks"] = f"""
        select * replace (case when run_id = '{fault}' then '' else errors end as errors) from checked_before
    """
    options = Options(shape=shape, views=filled.put_object(dumps(rules)))
    with pytest.raises(FirewallBreach, match="nothing was written"):
        export(filled, "trajectories", tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("told", "found"), [("category", "is not allowed in trajectories"), ("'accepted'", "no pinned score bears out")]
)
def test_a_view_that_lets_a_forbidden_category_through_is_refused(lake, tmp_path, told, found):
    """A verdict that the view makes up is against the pinned scores, one that it passes on against the dataset."""
    fill(lake, trajectory("a", GOOD), category="rejected")
    rules = dict(sources())
    rules["checked_before"] = rules["trajectories_checks"]
    rules["trajectories_checks"] = f"select * replace ('' as errors, {told} as category) from checked_before"
    rules["trajectories"] = rules["trajectories"].replace("category in ('accepted', 'partially_accepted')", "true")
    with pytest.raises(FirewallBreach, match=found):
        export(lake, "trajectories", tmp_path / "out", Options(views=lake.put_object(dumps(rules))))


def test_the_second_layer_knows_the_older_tags():
    """A text in tags ends with the end of text, and has a turn of the assistant."""
    assert TEXT_FAULTS["tags"]("<|user|>a<|assistant|>b<|endoftext|>") is None
    for text in ("<|user|>a<|endoftext|>", "<|assistant|>a", None):
        assert TEXT_FAULTS["tags"](text) is not None


def sometimes(usual, *rest):
    """Mostly the usual value, and now and then one of the others."""
    return st.sampled_from([*(usual for _ in range(3 * len(rest) + 3)), *rest])


CONTENTS = sometimes("x", "", " ", None, 3, ["x"], [], [{"text": "x"}], [{"text": 1}], [{"type": "image_url"}])
ARGUMENTS = sometimes(
    "{}", {}, None, "[]", '{"a": NaN}', '{"a": -Infinity}', '{"a": 1e999}', '{"a":1,}', '{"nan,}": 1}'
)
CALLS = st.fixed_dictionaries(
    {"function": st.fixed_dictionaries({"name": sometimes("f", "g", "a b", None, 3), "arguments": ARGUMENTS})},
    optional={"id": sometimes("c1", "c2", 3)},
) | st.fixed_dictionaries({"name": sometimes("f", ""), "arguments": ARGUMENTS, "function": sometimes({}, None)})


@st.composite
def conversations(draw):
    """Conversations with and without faults."""
    messages = draw(st.lists(st.just({"role": "system", "content": "x"}), max_size=1))
    messages += [{"role": draw(sometimes("user", "assistant")), "content": draw(CONTENTS)}]
    for _ in range(draw(st.integers(0, 3))):
        calls = draw(st.lists(CALLS, max_size=3) | sometimes(None, {}, "x"))
        thinking = {draw(sometimes("thinking", "reasoning")): draw(sometimes("x", None, 3))}
        messages.append({"role": "assistant", "content": draw(CONTENTS), "tool_calls": calls, **thinking})
        for call in calls if isinstance(calls, list) else []:
            told = call.get("function") if isinstance(call.get("function"), dict) else call
            names = {
                "tool_call_id": draw(sometimes(call.get("id"), "c1", "c2", "", 3, None)),
                "name": draw(sometimes(told.get("name"), "f", "g", None, 3)),
            }
            role = draw(sometimes("tool", "function"))
            messages.append({"role": role, **names, "content": draw(CONTENTS)})
        messages += draw(st.lists(st.builds(dict, role=sometimes("user", "system", "x", None), content=CONTENTS)))[:1]
    return messages


@settings(max_examples=6)
@given(st.lists(conversations(), min_size=60, max_size=60))
def test_the_view_finds_every_conversation_that_cannot_be_rendered_and_no_other(tmp_path_factory, given_conversations):
    """What the checks in SQL let through, the renderer takes; what they hold back, it refuses."""
    lake = Lake.create(str(tmp_path_factory.mktemp("faults") / "lake"))
    evidence = [trajectory(str(number), messages) for number, messages in enumerate(given_conversations)]
    lake.append("evidence", evidence, producer="test", sequence=1)
    with connect(lake.snapshot(), sql=needed("trajectories_faults evidence")) as connection:
        found = dict(
            connection.sql("""
                select evidence.run_id, faults.errors
                from trajectories_faults as faults
                inner join evidence on faults.event_id = evidence.event_id
            """).fetchall()
        )
    for number, messages in enumerate(given_conversations):
        assert (found[str(number)] == "") == is_told(messages), (found[str(number)], messages)


def is_told(messages):
    try:
        harmony.read_chat(messages)
    except harmony.Unrenderable:
        return False
    return True


def test_definitions_of_tools_are_checked(lake):
    """What cannot be defined in Harmony is in quarantine, and what can be is not."""
    good = [TOOLS[0], {"name": "f", "parameters": None}]
    bad = [{"name": "f g"}, {"function": None, "name": "f"}, {"name": "f", "parameters": []}, "f"]
    fill(lake, *(trajectory(str(number), GOOD, [tool]) for number, tool in enumerate(good + bad)))
    assert [reasons(lake)[str(number)] for number in range(len(good + bad))] == ["", "", *["bad_tool_definition"] * 4]
    for tool in bad:
        with pytest.raises(harmony.Unrenderable):
            harmony.read_chat(GOOD, [tool])


def test_published_trajectories_come_out_as_valid_harmony(public_data, lake, tmp_path):
    """Three documents of SWE-agent go in through their reader; each comes out whole, call by call."""
    files = sorted(map(str, (public_data / "swe_agent").glob("*.traj")))
    ingest(lake, "evidence", files, IngestOptions(reader="swe-agent"))
    events = lake.read("evidence").to_pylist()
    scores = [verdict(event["run_id"], event["task_id"], "accepted") for event in events]
    lake.append("scores", scores, producer="test", sequence=1)
    assert export(lake, "trajectories", tmp_path / "out", Options(shape="harmony")).counts.exported == len(files) == 3
    made = rows(tmp_path / "out")
    for event in events:
        text, messages = made[event["run_id"]]["text"], json.loads(event["messages"])
        assert harmony.problems(text) == []
        found = harmony.parse(text)
        assert found.instructions == messages[0]["content"]
        assert [turn.text for turn in found.turns] == [message["content"] for message in messages[1:]]
        called = [(call.name, call.arguments) for turn in found.turns for call in turn.calls]
        assert called == [
            (call["function"]["name"], call["function"]["arguments"])
            for message in messages
            for call in message.get("tool_calls", ())
        ]
