import json
import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.dataset import Rows
from exporters.datasets import DATASETS, dataset_named, rag, sft
from exporters.faults import FirewallBreach, check, conversation_fault, repeated_ids
from exporters.plan import Options, Plan
from exporters.relations import without_others
from exporters.shapes import ROLES
from lake.errors import UsageError
from lake.kinds import CATEGORIES
from tests.exporters.columns import SOURCE, TURNS, source
from views import lineage
from views.connect import sources
from views.policy import Policy

TYPES = {"provenance": SOURCE, "messages": TURNS}
CHAT = [{"role": "user", "content": "ask"}, {"role": "assistant", "content": "answer"}]


def sft_row(**more: object) -> dict[str, object]:
    """A row of sft without fault, but for what is given."""
    row = {"id": "sft-1", "task_id": "t", "category": "accepted", "source_run_id": "r", "event_id": "e"}
    return {**row, "score_event_id": "s", "provenance": source(), "messages": CHAT, **more}


def rag_row(**more: object) -> dict[str, object]:
    row = {"id": "rag-1", "task_id": "t", "source_category": "accepted", "source_run_id": "r", "event_id": "e"}
    return {**row, "score_event_id": "s", "provenance": source(), "content": "known", **more}


def pair(**more: object) -> dict[str, object]:
    """A row of preference without fault, but for what is given."""
    row = {"id": "pref-1", "task_id": "t", "prompt": "ask", "chosen": "good", "rejected": "bad"}
    ids = {"chosen_run_id": "a", "rejected_run_id": "b", "chosen_event_id": "c", "rejected_event_id": "d"}
    return {**row, **ids, "provenance": {"chosen": source(), "rejected": source()}, **more}


def refusal(rows: Rows, *given: dict[str, object], types: dict[str, pa.DataType] = TYPES) -> FirewallBreach | None:
    """What the check says of some rows."""
    names = given[0].keys()
    batch = pa.record_batch(
        {name: pa.array([row[name] for row in given], types.get(name, pa.string())) for name in names}
    )
    try:
        assert list(check(rows, [batch])) == [batch]
    except FirewallBreach as breach:
        return breach
    return None


SFT = Rows(DATASETS["sft"], "conversational", True, Policy())
RAG = Rows(DATASETS["rag"], "document", True, Policy())
PAIRS = Rows(DATASETS["preference"], "plain", True, Policy())
PAIR_TYPES = {"provenance": pa.struct([("chosen", SOURCE), ("rejected", SOURCE)])}


def test_rows_without_fault_pass():
    """Rows that are as their dataset wants them go through unchanged."""
    assert refusal(SFT, sft_row()) is None
    assert refusal(RAG, rag_row()) is None
    assert refusal(PAIRS, pair(), types=PAIR_TYPES) is None


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"category": "rejected"}, "category 'rejected' is not allowed in sft"),
        ({"category": "needs_human_review"}, "category 'needs_human_review' is not allowed in sft"),
        ({"category": "partially_accepted"}, "category 'partially_accepted' is not allowed in sft"),
        ({"category": None}, "category None is not allowed in sft"),
        ({"category": "Accepted"}, "category 'Accepted' is not allowed in sft"),
        ({"id": " "}, "id is empty after stripping"),
        ({"task_id": None}, "task_id is missing"),
        ({"source_run_id": ""}, "source_run_id is empty after stripping"),
        ({"score_event_id": None}, "score_event_id is missing"),
        ({"provenance": None}, "provenance is missing"),
        ({"provenance": source(file="")}, "provenance.file is missing"),
        ({"provenance": source(sha256=None)}, "provenance.sha256 is missing"),
        ({"provenance": source(sha256="abc")}, "provenance.sha256 is no sha256"),
        ({"messages": None}, "messages must be a list of turns"),
        ({"messages": []}, "messages must be a list of turns"),
        ({"messages": CHAT[:1]}, "messages must end with a turn of the assistant"),
        ({"messages": [{"role": "robot", "content": "x"}, CHAT[1]]}, "messages: a role is unknown"),
        ({"messages": [{"role": None, "content": "x"}, CHAT[1]]}, "messages: a role is unknown"),
        ({"messages": [{"role": "user", "content": None}, CHAT[1]]}, "messages: a content is missing"),
        (
            {"messages": [CHAT[0], {"role": "assistant", "content": "\u2003\n"}]},
            "messages: the last content is empty after stripping",
        ),
    ],
)
def test_a_bad_row_of_sft_is_refused(more, why):
    """Each rule of sft refuses a row that breaks it, names the row, and says why."""
    breach = refusal(SFT, sft_row(), sft_row(**{"id": "sft-2", **more}))
    assert [(bad.row, bad.why) for bad in breach.rows] == [(2, why)]
    assert why in breach.message
    assert "nothing was written" in breach.message


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"source_category": "rejected"}, "category 'rejected' is not allowed in rag"),
        ({"source_category": "needs_human_review"}, "category 'needs_human_review' is not allowed in rag"),
        ({"content": " "}, "content is empty after stripping"),
        ({"content": None}, "content is missing"),
    ],
)
def test_a_bad_row_of_rag_is_refused(more, why):
    """Each rule of rag refuses a row that breaks it."""
    assert [bad.why for bad in refusal(RAG, rag_row(**more)).rows] == [why]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"chosen": " bad\n"}, "chosen and rejected are the same text"),
        ({"rejected": "\u2009"}, "rejected is empty after stripping"),
        ({"prompt": None}, "prompt is missing"),
        ({"rejected_run_id": "a"}, "a run is paired with itself"),
        ({"provenance": {"chosen": source(), "rejected": None}}, "provenance.rejected is missing"),
        (
            {"provenance": {"chosen": source(sha256="F" * 64), "rejected": source()}},
            "provenance.chosen.sha256 is no sha256",
        ),
    ],
)
def test_a_bad_pair_is_refused(more, why):
    """Each rule of preference refuses a pair that breaks it."""
    assert [bad.why for bad in refusal(PAIRS, pair(**more), types=PAIR_TYPES).rows] == [why]


def test_conversational_pairs_are_held_to_the_same_rules():
    """A pair of conversations is compared by its last texts, and its prompt ends with the user."""
    shape = Rows(DATASETS["preference"], "conversational", True, Policy())
    types = {**PAIR_TYPES, "prompt": TURNS, "chosen": TURNS, "rejected": TURNS}

    def said(prompt: str, chosen: str, rejected: str) -> dict[str, object]:
        sides = {"prompt": ("user", prompt), "chosen": ("assistant", chosen), "rejected": ("assistant", rejected)}
        return pair(**{name: [{"role": role, "content": text}] for name, (role, text) in sides.items()})

    assert refusal(shape, said("p", "good", "bad"), types=types) is None
    assert "same text" in refusal(shape, said("p", "good", "good "), types=types).message
    assert "empty after stripping" in refusal(shape, said("p", "good", " "), types=types).message
    assert "turn of the user" in refusal(shape, pair(prompt=CHAT, chosen=CHAT, rejected=CHAT), types=types).message


def test_instruction_rows_need_a_context_that_may_be_empty():
    """The instruction shape refuses a missing context, not an empty one."""
    rows = Rows(DATASETS["sft"], "instruction", True, Policy())
    base = {key: value for key, value in sft_row().items() if key != "messages"}
    fields = {"instruction": "i", "context": "", "response": "r"}
    assert refusal(rows, {**base, **fields}) is None
    types = {"provenance": SOURCE, "context": pa.string()}
    assert "context is missing" in refusal(rows, {**base, **fields, "context": None}, types=types).message
    assert "response is empty" in refusal(rows, {**base, **fields, "response": " "}).message


def test_every_bad_row_is_counted_and_the_first_are_named():
    """A breach names the first row and counts the others; the tenth and later ones are only counted."""
    breach = refusal(SFT, *(sft_row(id=f"sft-{number}", category="rejected") for number in range(20)))
    assert "row 1 (sft-0)" in breach.message
    assert "(and 19 more)" in breach.message
    assert len(breach.rows) == 10


def test_rows_are_numbered_across_batches():
    """A row's number is its place in the export, whichever batch it comes in."""
    batches = [
        pa.record_batch({name: pa.array([row[name]], TYPES.get(name)) for name in row})
        for row in (sft_row(), sft_row(), sft_row(category="rejected"))
    ]
    with pytest.raises(FirewallBreach) as breach:
        list(check(SFT, batches))
    assert breach.value.rows[0].row == 3


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("review", [False, True])
def test_no_policy_allows_what_must_never_be(partial, review):
    """Whatever the policy, sft and rag allow none of the categories that they must never hold."""
    policy = Policy(include_partial=partial, include_review=review)
    assert not sft.allowed(policy) & sft.NEVER
    assert not rag.allowed(policy) & rag.NEVER
    assert ("partially_accepted" in sft.allowed(policy)) == partial
    assert ("needs_human_review" in rag.allowed(policy)) == review


def test_the_sets_of_what_must_never_be_only_grow():
    """The categories that no training set may hold are at least those of the first day."""
    assert {"rejected", "needs_human_review"} <= sft.NEVER
    assert "rejected" in rag.NEVER
    assert sft.NEVER | {"accepted", "partially_accepted"} == set(CATEGORIES)


def test_even_an_allowed_category_is_refused_if_it_must_never_be(monkeypatch):
    """The second layer does not trust its own caller: rejected is refused although it is called allowed."""
    monkeypatch.setattr(sft, "allowed", lambda policy: frozenset(CATEGORIES))
    assert "rejected" in refusal(SFT, sft_row(category="rejected")).message


def test_shapes_are_named_or_refused():
    """A dataset's first shape is its own; another's, or none's, is refused by name."""
    for name, dataset in DATASETS.items():
        assert dataset_named(name).shape_named(None) == next(iter(dataset.shapes))
        for shape in dataset.shapes:
            if shape in dataset.offered:
                assert dataset.shape_named(shape) == shape
            else:
                with pytest.raises(UsageError, match=f"{name} has no shape"):
                    dataset.shape_named(shape)
    with pytest.raises(UsageError, match="rag has no shape 'plain'"):
        DATASETS["rag"].shape_named("plain")
    with pytest.raises(UsageError, match="no dataset named 'none'"):
        dataset_named("none")


def test_what_changed_can_be_asked_of_every_dataset():
    """The lives and differences that are told know each dataset but that of prompts, which are no runs and no tasks."""
    assert set(lineage.DATASETS) == DATASETS.keys() - {"prompts"}


def test_repeated_ids_are_counted():
    """Every row beyond the first of an id is a repetition."""
    keys = pa.array([1, 2, 2, 3, 3, 3], pa.uint64()).to_numpy()
    assert repeated_ids(keys) == 3


texts = st.sampled_from(["", " ", "\u00a0", "text", "\ttext "]) | st.none()
turns = st.fixed_dictionaries({"role": st.sampled_from([*ROLES, "robot", ""]) | st.none(), "content": texts})


def is_conversation(value: object) -> bool:
    """The same rule in plain Python."""
    return (
        bool(value)
        and all(turn["role"] in ROLES and turn["content"] is not None for turn in value)
        and value[-1]["role"] == "assistant"
        and bool(value[-1]["content"].strip())
    )


@given(st.lists(st.lists(turns, max_size=3) | st.none(), min_size=1, max_size=5), st.integers(0, 2))
def test_columns_are_judged_as_rows_are(conversations, offset):
    """The check by columns agrees with a check of each row in plain Python, also on sliced memory."""
    given_rows = [
        sft_row(id=f"sft-{number}", messages=value) for number, value in enumerate([CHAT] * offset + conversations)
    ]
    batch = pa.record_batch({name: pa.array([row[name] for row in given_rows], TYPES.get(name)) for name in sft_row()})
    bad = [number for number, value in enumerate(conversations, 1) if not is_conversation(value)]
    try:
        list(check(SFT, [batch.slice(offset)]))
        found = []
    except FirewallBreach as breach:
        found = [row.row for row in breach.rows]
    assert found == bad


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "missing"),
        ("{", "must be a list of turns"),
        ("[]", "must be a list of turns"),
        ('"text"', "must be a list of turns"),
        ([{"role": "robot", "content": "x"}], "robot"),
        ([{"content": "x"}], "role"),
        ([CHAT[0]], "must end with a turn of the assistant"),
        ([{"role": "assistant", "content": " "}], "empty after stripping"),
        ([{"role": "assistant", "content": []}], "empty after stripping"),
        ([{"role": "assistant", "content": None, "tool_calls": []}], "empty after stripping"),
        ([{"role": "assistant", "content": 3}], "must be a list of turns"),
        ("[" * 100_000, "must be a list of turns"),
    ],
)
def test_a_free_form_conversation_is_refused_with_a_reason(value, why):
    """Conversations in JSON are judged row by row, whatever nonsense they hold."""
    assert why in conversation_fault(value if value is None or isinstance(value, str) else json.dumps(value))


def test_a_free_form_conversation_may_call_tools():
    """A last turn that only calls a tool is a turn, and so is one of parts."""
    call = {"type": "function", "function": {"name": "f", "arguments": {"deep": {"er": 1}}}}
    assert conversation_fault(json.dumps([CHAT[0], {"role": "assistant", "tool_calls": [call]}])) is None
    assert conversation_fault(json.dumps([{"role": "assistant", "content": [{"type": "text", "text": "x"}]}])) is None


def test_free_form_rows_are_checked_too():
    """A row of JSON conversations is refused like any other."""
    rows = Rows(DATASETS["sft"], "free-form", True, Policy())
    types = {"provenance": SOURCE, "messages": pa.string()}
    assert refusal(rows, sft_row(messages=json.dumps(CHAT)), types=types) is None
    breach = refusal(rows, sft_row(messages=json.dumps(CHAT)), sft_row(messages=json.dumps(CHAT[:1])), types=types)
    assert [bad.row for bad in breach.rows] == [2]


@pytest.mark.parametrize("name", DATASETS)
def test_an_export_opens_what_its_own_dataset_considers(name):
    """Of the checks of all datasets only its own are bound, by the rules that are installed."""
    plan = Plan(DATASETS[name], DATASETS[name].shape_named(None), Options(), sources())
    kept = without_others(plan)["dataset_checks"]
    assert re.findall(r"'(\w+)' as dataset", kept) == [name]
    assert re.findall(r"\nfrom (\w+)\n", kept + "\n") == [f"{name}_checks"]


def test_checks_that_are_not_one_after_the_other_are_all_opened():
    """Older rules, whose checks are of another form, are taken as they are."""
    plan = Plan(DATASETS["sft"], "conversational", Options(), {**sources(), "dataset_checks": "select 1 as dataset"})
    assert without_others(plan) == plan.sql
