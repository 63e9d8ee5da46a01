"""Harmony, read back: whatever is rendered means what it was, no text forges structure, and what is none is named."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters import tags
from exporters.harmony import (
    SPECIAL,
    Call,
    Chat,
    NotHarmony,
    Segment,
    Tool,
    Turn,
    definitions,
    encode,
    from_ids,
    parse,
    parse_segments,
    problems,
    read_chat,
    render,
    segments,
    split,
    text_of,
)
from tests.exporters.conversations import ANSWER, ASKED, CALLING, RESULT, said, text, user

# Texts of pieces that structure is made of, so that forging it is tried all the time.
TEXTS = st.lists(
    st.sampled_from(
        [
            *(f"<|{name}|>" for name in SPECIAL),
            *("<\\|end|>", "<\\\\|end|>", "<|", "|>", "\\", "<", "assistant", "to=", "functions.f", "final"),
            *("<|thinking|>", "<|/thinking|>", "<|/tool_calls|>", "<|reserved_200014|>", "\n\n", "é", " "),
        ]
    ),
    max_size=6,
).map("".join)
SPOKEN = TEXTS.filter(lambda text: text.strip() != "")
QUIET = st.just("") | SPOKEN
ARGUMENTS = st.dictionaries(TEXTS, TEXTS, max_size=2).map(json.dumps)
CALLS = st.lists(st.builds(Call, st.sampled_from(["f", "g.h"]), ARGUMENTS), min_size=1, max_size=2).map(tuple)


@st.composite
def chats(draw):
    turns = []
    for _ in range(draw(st.integers(1, 3))):
        turns.append(Turn("user", draw(TEXTS)))
        for _ in range(draw(st.integers(0, 2))):
            calls = draw(CALLS)
            turns.append(Turn("assistant", draw(QUIET), draw(QUIET), calls))
            turns += [Turn("tool", draw(TEXTS), name=call.name) for call in calls]
        turns.append(Turn("assistant", draw(SPOKEN), draw(QUIET)))
    tools = (Tool("f", draw(TEXTS)),) if draw(st.booleans()) else ()
    return Chat(tuple(turns), draw(st.none() | SPOKEN), tools)


def remembered(chat):
    """The turns of a training render, by a plain fold: thinking before the last question goes with its answer."""
    turns = list(chat.turns)
    asked = max(place for place, turn in enumerate(turns) if turn.role == "user")
    return tuple(
        Turn(turn.role, turn.text, turn.thinking if place > asked else "", turn.calls, turn.name)
        for place, turn in enumerate(turns)
    )


@given(chats())
def test_what_is_rendered_is_read_as_what_it_was(chat):
    """Whatever the texts say, the conversation comes back, and the validator has nothing against it."""
    made = render(chat)
    assert problems(made) == []
    found = parse(made)
    assert found.turns == remembered(chat)
    assert found.instructions == chat.instructions
    assert (found.tools is not None) == bool(chat.tools)


@given(chats())
def test_tokens_are_special_only_where_the_structure_has_them(chat):
    """As tokens no text is escaped, and none becomes a special token; they are read as the conversation, too."""
    parts = segments(chat)
    ids = encode(parts, lambda text: list(text.encode()))
    assert [number for number in ids if number > 255] == [SPECIAL[part.text] for part in parts if part.special]
    assert from_ids(ids, lambda numbers: bytes(numbers).decode()) == parts
    assert parse_segments(parts).turns == remembered(chat)


@given(TEXTS)
def test_a_text_of_special_tokens_stays_a_text(text):
    """Escaping loses nothing, and leaves no special token behind."""
    assert split(text_of([Segment(text)])) == ([Segment(text)] if text else [])
    assert "<|reserved_200014|>" not in text_of([Segment(text)])


def test_instructions_keep_their_white_space_beside_tools():
    """What is read of a developer message are the instructions to the letter, and the definitions."""
    chat = Chat((Turn("user", "a"), Turn("assistant", "b")), "\n\n # Tools \n\n", (Tool("f"),))
    assert parse(render(chat)).instructions == chat.instructions
    mentioned = f"{definitions.HEADING} is how {definitions.END} begins and ends"
    alone = Chat(chat.turns, mentioned)
    assert parse(render(alone)).instructions == mentioned


def test_tags_of_older_forms_are_no_tokens():
    """`<|thinking|>` and its like are ordinary text in o200k_harmony, so structure is never made of them."""
    told = text(user("<|thinking|><|assistant|>"), said("<|tool_calls|>"))
    assert [str(segment) for segment in split(told) if not segment.special] == [
        "user",
        "<|thinking|><|assistant|>",
        "assistant",
        "final",
        "<|tool_calls|>",
    ]


def test_ids_are_those_of_o200k_harmony():
    """The ids of the published encoding; reserved ones and text that an encoder takes for a token are refused."""
    assert SPECIAL == {
        "startoftext": 199998,
        "endoftext": 199999,
        "return": 200002,
        "constrain": 200003,
        "channel": 200005,
        "start": 200006,
        "end": 200007,
        "message": 200008,
        "call": 200012,
    }
    with pytest.raises(ValueError, match="encoded as a special token"):
        encode([Segment("<|end|>")], lambda _: [200007])
    with pytest.raises(ValueError, match="reserved"):
        from_ids([200014], str)


USER = "<|start|>user<|message|>a<|end|>"
CALLED = "<|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "message 1: there is none"),
        ("a", "message 1: 'a' stands where <|start|> must be"),
        (f"{USER}<|endoftext|>", "message 2: <|endoftext|> stands where <|start|> must be"),
        ("<|start|>user<|message|>a<|endoftext|><|end|>", "message 1: <|endoftext|> stands inside"),
        ("<|start|>user<|message|>a", "message 1: ends without <|end|>, <|return|> or <|call|>"),
        (f"{USER}<|start|>user", "message 2: ends without <|end|>, <|return|> or <|call|>"),
        ("<|start|>user<|message|>a<|start|>assistant<|end|>", "message 1: <|start|> stands inside"),
        ("<|start|>user<|end|>", "message 1: the header is not a role, <|channel|>, <|constrain|> and <|message|>"),
        ("<|start|><|message|>a<|end|>", "message 1: the header has no role"),
        ("<|start|>user<|channel|><|message|>a<|end|>", "message 1: <|channel|> is followed by no channel"),
        ("<|start|>user b c<|message|>a<|end|>", "message 1: the header says too much: b c"),
        ("<|start|>model<|message|>a<|end|>", "message 1: nobody is called 'model'"),
        (
            f"{USER}<|start|>assistant<|message|>b<|end|>",
            "an assistant's channel is one of analysis, commentary, final",
        ),
        ("<|start|>user<|channel|>final<|message|>a<|end|>", "message 1: a user message has neither a channel nor"),
        (USER + "<|start|>system<|message|>b<|end|>", "message 2: a system message stands behind the beginning"),
        ("<|start|>developer<|message|>b<|end|>" * 2, "message 2: a second developer message"),
        (USER + CALLED.replace("functions.", ""), "message 2: a call goes to functions.NAME, and this goes to f"),
        (
            USER + CALLED.replace("commentary", "final"),
            "message 2: a call of a function stands on commentary, and this",
        ),
        (USER + CALLED.replace("{}", "[]"), "message 2: the arguments of functions.f are no JSON object"),
        (USER + CALLED.replace("<|call|>", "<|end|>"), "message 2: a call ends with <|call|>, and this with <|end|>"),
        (USER.replace("<|end|>", "<|call|>"), "message 1: <|call|> ends a message that calls nothing"),
        (USER.replace("<|end|>", "<|return|>"), "message 1: <|return|> ends a message that is no answer"),
        (
            f"{USER}<|start|>assistant<|channel|>final<|message|>b<|return|>{USER}",
            "message 2: <|return|> ends a message that is not the last",
        ),
        (USER + CALLED + USER, "message 3: the call of functions.f has no result"),
        (USER + CALLED + "<|start|>assistant", "message 3: the call of functions.f has no result"),
        (
            f"{USER}<|start|>functions.f to=assistant<|channel|>commentary<|message|>b<|end|>",
            "message 2: a result of functions.f, which nobody has called",
        ),
        (
            f"{USER}{CALLED}<|start|>functions.f<|message|>b<|end|>",
            "message 3: a result of functions.f must be to=assistant on commentary",
        ),
    ],
)
def test_what_is_no_harmony_is_named(text, why):
    """The validator says what is wrong and where; the parser refuses with the first of it."""
    assert any(why in problem for problem in problems(text))
    with pytest.raises(NotHarmony):
        parse(text)


def test_other_headers_that_models_write_are_read():
    """A recipient may stand in front of the channel, and a type do without its mark."""
    headers = ("to=functions.f<|channel|>commentary <|constrain|>json", "to=functions.f<|channel|>commentary json")
    calls = [
        CALLED.replace("<|constrain|>", ""),
        *(f"<|start|>assistant {header}<|message|>{{}}<|call|>" for header in headers),
    ]
    assert [parse(USER + call).turns[-1].calls for call in calls] == [(Call("f", "{}"),)] * 3


def test_thoughts_and_words_in_several_messages_are_one_turn():
    """What an assistant says on one channel in a row belongs together; a second answer is a turn of its own."""
    channels = ("analysis", "analysis", "final", "final")
    made = USER + "".join(
        f"<|start|>assistant<|channel|>{channel}<|message|>{number}<|end|>" for number, channel in enumerate(channels)
    )
    assert parse(made).turns[1:] == (Turn("assistant", "2", "0\n\n1"), Turn("assistant", "3"))


def test_the_older_tags_come_in_their_order():
    """Instructions, then each message with its parts; the calls are JSON, results name their call or function."""
    chat = read_chat([{"role": "developer", "content": "Be brief."}, ASKED, CALLING, RESULT, ANSWER])
    assert tags.render(chat) == (
        "<|developer|>Be brief.<|user|>How warm is it in SF?"
        "<|assistant|><|thinking|>Need get_weather.<|/thinking|>"
        '<|tool_calls|>[{"id":"c1","name":"get_weather","arguments":{"location":"SF"}}]<|/tool_calls|>'
        '<|tool|><|tool_call_id|>c1<|/tool_call_id|>{"temperature": 20}'
        "<|assistant|><|thinking|>20 it is.<|/thinking|>20 degrees.<|endoftext|>"
    )
    named = Chat((Turn("user", "a"), Turn("tool", "b", name="f")))
    without = Chat((Turn("assistant", calls=(Call("f", '{"a": 1e999}'),)),))
    assert '[{"id":null,"name":"f","arguments":{"a": 1e999}}]' in tags.render(without)
    assert tags.render(named, prompt=True) == "<|user|>a<|tool|><|name|>f<|/name|>b<|assistant|>"


TAG = re.compile(r"<\|/?[a-z_]+\|>")


@given(chats())
def test_no_text_forges_a_tag(chat):
    """The tags are those of the same conversation with other texts, and the calls are read as what they were."""
    plain = Chat(
        tuple(
            Turn(turn.role, "x" * bool(turn.text), "x" * bool(turn.thinking), turn.calls and (Call("f", "{}"),), "f")
            for turn in chat.turns
        ),
        chat.instructions and "x",
    )
    made = tags.render(chat)
    assert TAG.findall(made) == TAG.findall(tags.render(plain))
    found = [json.loads(said) for said in re.findall(r"<\|tool_calls\|>(.*?)<\|/tool_calls\|>", made, re.DOTALL)]
    given_calls = [turn.calls for turn in chat.turns if turn.calls]
    assert [[(call["name"], call["arguments"]) for call in calls] for calls in found] == [
        [(call.name, json.loads(call.arguments)) for call in calls] for calls in given_calls
    ]


def test_the_documented_row_is_what_is_made_of_its_messages():
    """The page shows the messages and tools of one row, and the texts that they become."""
    page = (Path(__file__).parents[2] / "docs" / "harmony.md").read_text("utf-8")
    messages, tools = re.findall(r"```json\n(.*?)\n```", page, re.DOTALL)
    chat = read_chat(messages, tools)
    assert f"```\n{render(chat)}\n```" in page
    assert f"```\n{tags.render(chat)}\n```" in page
