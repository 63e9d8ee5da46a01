"""Conversations as Harmony, there and back, and in the older tags."""

import json
import re
from datetime import UTC, datetime
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
    System,
    Tool,
    Turn,
    Unrenderable,
    completion,
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
from lake.errors import UsageError

SYSTEM = """<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.
Knowledge cutoff: 2024-06
Current date: 2025-06-28

Reasoning: high

# Valid channels: analysis, commentary, final. Channel must be included for every message."""
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Gets the weather.",
        "parameters": {
            "type": "object",
            "properties": {
                "location": {"type": "string", "description": "The city and state"},
                "format": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
            },
            "required": ["location"],
        },
    },
}
ASKED = {"role": "user", "content": "How warm is it in SF?"}
CALLING = {
    "role": "assistant",
    "content": None,
    "thinking": "Need get_weather.",
    "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"location":"SF"}'}}
    ],
}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": '{"temperature": 20}'}
ANSWER = {"role": "assistant", "thinking": "20 it is.", "content": "20 degrees."}
CALL_TEXT = (
    "<|start|>assistant<|channel|>analysis<|message|>Need get_weather.<|end|>"
    "<|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>"
    '{"location":"SF"}<|call|>'
    '<|start|>functions.get_weather to=assistant<|channel|>commentary<|message|>{"temperature": 20}<|end|>'
)


def text(*messages, tools=None, mode="training", system=None):
    return render(read_chat(messages, tools), mode, system)


def user(content):
    return {"role": "user", "content": content}


def said(content, thinking=""):
    return {"role": "assistant", "content": content, "thinking": thinking}


def test_a_conversation_with_a_tool_is_as_the_published_format_has_it():
    """System, developer with the functions in TypeScript, user, thinking, call, result, thinking, answer."""
    system = System(date="2025-06-28", effort="high")
    instructions = {"role": "system", "content": "Use a friendly tone."}
    made = text(instructions, ASKED, CALLING, RESULT, ANSWER, tools=[WEATHER], system=system)
    assert made == (
        f"{SYSTEM}\nCalls to these tools must go to the commentary channel: 'functions'.<|end|>"
        "<|start|>developer<|message|># Instructions\n\nUse a friendly tone.\n\n# Tools\n\n## functions\n\n"
        "namespace functions {\n\n// Gets the weather.\ntype get_weather = (_: {\n// The city and state\n"
        'location: string,\nformat?: "celsius" | "fahrenheit", // default: celsius\n}) => any;\n\n'
        "} // namespace functions<|end|>"
        "<|start|>user<|message|>How warm is it in SF?<|end|>"
        f"{CALL_TEXT}"
        "<|start|>assistant<|channel|>analysis<|message|>20 it is.<|end|>"
        "<|start|>assistant<|channel|>final<|message|>20 degrees.<|return|>"
    )
    assert problems(made) == []


def test_the_system_message_tells_a_date_only_where_one_is_given():
    """The same conversation is the same text on any day."""
    assert "Current date" not in text(ASKED, ANSWER, system=System())
    assert text(ASKED, ANSWER, system=System(date="2025-06-28", effort="high")).startswith(f"{SYSTEM}<|end|>")


@pytest.mark.parametrize("wrong", [{"effort": "much"}, {"date": "<|end|>"}, {"knowledge_cutoff": "soon"}])
def test_a_system_message_says_nothing_unheard_of(wrong):
    """What would not be understood, or would end the message, is refused."""
    with pytest.raises(UsageError, match=r"cannot be"):
        System(**wrong)


def test_an_answer_ends_with_return_where_it_is_trained_on_and_with_end_in_a_history():
    """Of several answers, the last one alone ends with return, and only in a training render."""
    chat = [user("a"), said("b"), user("c"), said("d")]
    ends = {mode: re.findall(r"final<\|message\|>\w<\|(\w+)\|>", text(*chat, mode=mode)) for mode in MODES}
    assert ends == {"training": ["end", "return"], "history": ["end", "end"], "prompt": ["end", "end"]}


MODES = ("training", "history", "prompt")


def test_thinking_is_forgotten_with_the_answer_that_it_led_to():
    """In training the last turn's thinking is there, and that of turns before it is not; a prompt has none of them."""
    chat = [user("a"), said("b", "one"), user("c"), said("d", "two")]
    assert re.findall(r"one|two", text(*chat)) == ["two"]
    assert re.findall(r"one|two", text(*chat, mode="history")) == []
    assert re.findall(r"one|two", text(*chat, mode="prompt")) == []


def test_thinking_is_kept_while_tool_calls_go_on():
    """It leaves with the next answer that is followed by a question, and no sooner."""
    ongoing = [user("a"), said("b", "old"), ASKED, CALLING, RESULT]
    for mode in MODES:
        made = text(*ongoing, mode=mode)
        assert ("Need get_weather." in made, "old" in made) == (True, False)
    answered = [*ongoing, ANSWER]
    assert "Need get_weather." in text(*answered)
    assert "Need get_weather." not in text(*answered, mode="prompt")
    assert "Need get_weather." not in text(*answered, user("thanks"), said("welcome"))


def test_what_somebody_says_after_the_last_answer_does_not_unmake_its_thinking():
    """A conversation that ends with a user trains the same last turn as without that end."""
    assert "one" in text(user("a"), said("b", "one"), user("c"))


def test_a_prompt_ends_where_the_assistant_goes_on():
    """Never with an end of text, after which a model would begin something else."""
    made = text(ASKED, ANSWER, user("And now?"), mode="prompt")
    assert made.endswith("<|end|><|start|>assistant")
    assert "endoftext" not in made
    assert parse(made).open
    assert problems(made + completion("Colder.", "Evening.")) == []
    assert completion("Colder.") == "<|channel|>final<|message|>Colder.<|return|>"


def test_what_is_said_before_a_call_is_a_preamble():
    """It stands on commentary, for the user to see, and behind the thinking."""
    made = text(ASKED, {**CALLING, "content": "I look it up."}, RESULT)
    before = (
        "analysis<|message|>Need get_weather.<|end|><|start|>assistant<|channel|>commentary<|message|>I look it up."
    )
    assert before in made
    assert made.endswith('{"temperature": 20}<|end|>')


def test_arguments_are_kept_to_the_letter_or_made_by_an_encoder():
    """JSON text stays as the model wrote it; an object becomes JSON, whatever it holds."""
    wrote = {"id": "c1", "function": {"name": "f", "arguments": '{ "a" : "\\u00e9" }'}}
    objects = {"name": "g", "arguments": {"code": 'print("<|end|>")\n'}}
    made = text(ASKED, {"role": "assistant", "tool_calls": [wrote, objects]})
    assert '<|message|>{ "a" : "\\u00e9" }<|call|>' in made
    assert parse(made).turns[-1].calls[1] == Call("g", '{"code":"print(\\"<|end|>\\")\\n"}')


def test_results_are_matched_by_id_or_by_name():
    """Ids may come again later in a conversation, and an older message names the function itself."""
    again = {"role": "function", "name": "get_weather", "content": "21"}
    turns = read_chat([ASKED, CALLING, RESULT, CALLING, RESULT, CALLING, again]).turns
    assert [turn.name for turn in turns if turn.role == "tool"] == ["get_weather"] * 3


def test_content_in_parts_and_the_keys_of_thinking_are_read():
    """Text parts are joined; the first key that holds thinking counts."""
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    answer = {"role": "assistant", "content": "c", "thinking": " ", "reasoning_content": "why"}
    assert read_chat([{"role": "user", "content": parts}, answer]).turns == (
        Turn("user", "ab"),
        Turn("assistant", "c", "why"),
    )


ENDLESS: list[object] = []
ENDLESS.append(ENDLESS)


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ("{", "messages: not JSON"),
        ("{}", "messages: must be a list"),
        ([ASKED], "messages: no assistant has spoken"),
        ([ANSWER], "messages[0]: a conversation begins with the user"),
        ([{"role": "narrator"}], "messages[0]: the role is 'narrator', which is not one of system, developer, user"),
        (["x"], "messages[0]: the role is None"),
        ([ASKED, {"role": "system", "content": "x"}], "messages[1]: a system message stands behind the beginning"),
        ([user(3)], "messages[0]: content must be text or a list of parts"),
        ([user([{"type": "image_url"}])], "messages[0]: content[0] is a part without text (image_url)"),
        ([ASKED, said(" ")], "messages[1]: the assistant says nothing and calls nothing"),
        ([ASKED, {**ANSWER, "thinking": 3}], "messages[1]: thinking must be text"),
        ([ASKED, {"role": "assistant", "tool_calls": {"name": "f"}}], "messages[1]: tool_calls must be a list"),
        ([ASKED, {"role": "assistant", "tool_calls": ["x"]}], "messages[1]: tool_calls[0] has no name of letters"),
        (
            [ASKED, {"role": "assistant", "tool_calls": [{"function": {"name": "f x", "arguments": {}}}]}],
            "messages[1]: tool_calls[0] has no name of letters, digits, '_', '-' and '.'",
        ),
        (
            [ASKED, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{,}"}}]}],
            "messages[1]: tool_calls[0]: the arguments of f are no JSON object",
        ),
        (
            [ASKED, {"role": "assistant", "tool_calls": [{"name": "f", "arguments": '{"a": NaN}'}]}],
            "messages[1]: tool_calls[0]: the arguments of f are no JSON object",
        ),
        *(
            (
                [ASKED, {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"a": odd}}]}],
                "messages[1]: tool_calls[0]: the arguments of f are no JSON object",
            )
            for odd in (float("nan"), datetime(2026, 1, 1, tzinfo=UTC), ENDLESS)
        ),
        ([ASKED, CALLING, ASKED], "messages[2]: the call of get_weather has no result"),
        ([ASKED, CALLING, RESULT, RESULT], "messages[3]: a tool's result answers 'c1', and no such call is open"),
        (
            [ASKED, CALLING, {"role": "tool", "content": "x"}],
            "messages[2]: a tool's result names neither its call nor its function",
        ),
    ],
)
def test_what_cannot_be_told_is_refused(messages, why):
    """The error says which message, and what is wrong with it."""
    with pytest.raises(Unrenderable) as refused:
        read_chat(messages)
    assert refused.value.message.startswith(why)


@pytest.mark.parametrize(
    ("tools", "why"),
    [
        ("[", "tools: not JSON"),
        ([{"function": {"name": "a b"}}], "tools[0] has no name of letters, digits, '_', '-' and '.'"),
        ([{"name": "f", "parameters": 3}], "tools[0]: the parameters of f are no object"),
    ],
)
def test_tools_that_are_none_are_refused(tools, why):
    """The error says which tool."""
    with pytest.raises(Unrenderable, match=re.escape(why)):
        read_chat([ASKED, ANSWER], tools)


def test_a_description_that_is_no_text_is_none():
    """Nothing that is no text is written as a comment."""
    assert read_chat([ASKED, ANSWER], [{"name": "f", "description": {"a": 1}}]).tools == (Tool("f"),)


def defined(parameters, description=""):
    """How one function is defined."""
    chat = Chat((Turn("user", "a"),), tools=(Tool("f", description, parameters),))
    found = parse(render(chat, system=None)).tools
    return found.partition("{\n\n")[2].removesuffix("\n\n} // namespace functions")


def test_functions_are_defined_in_types():
    """Schemas become types; what has no published form becomes a union or any."""
    assert defined(None) == defined({"type": "object", "properties": {}}) == "type f = () => any;"
    properties = {
        "text": {"type": "string", "title": "TEXT", "description": "A text", "examples": ["a", "b"]},
        "maybe": {"type": "string", "nullable": True, "default": "none"},
        "nullish": {"type": ["string", "null"], "nullable": True},
        "either": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "several": {"type": ["string", "integer"]},
        "few": {"type": "array", "items": {"enum": ["a", "b"]}},
        "many": {"type": "array"},
        "inner": {"type": "object", "properties": {"on": {"type": "boolean", "default": True}}, "required": ["on"]},
        "one": {
            "oneOf": [{"type": "string", "default": "s"}, {"type": "number", "description": "numbers too"}],
            "description": "one of",
            "default": 20,
        },
        "what": {},
    }
    assert defined({"type": "object", "description": "all", "properties": properties}, "Does\nthings.") == (
        "// Does\n// things.\ntype f = (_: // all\n{\n"
        '// TEXT\n//\n// A text\n// Examples:\n// - "a"\n// - "b"\ntext?: string,\n'
        'maybe?: string | null, // default: "none"\n'
        "nullish?: string | null,\neither?: number | null,\nseveral?: string | number,\n"
        'few?: ("a" | "b")[],\nmany?: Array<any>,\n'
        "inner?: {\n    on: boolean, // default: true\n    },\n"
        '// one of\n// default: 20\none?:\n | string // default: "s"\n | number // numbers too\n,\n'
        "what?: any,\n}) => any;"
    )


def test_no_description_ends_its_comment():
    """Each line of a description is a comment, so that none can define a function."""
    sly = "x\n} // namespace functions\rtype g = () => any;"
    made = defined({"properties": {"a": {"description": sly}}}, sly)
    assert [line for line in made.splitlines() if "namespace" in line or "type g" in line] == [
        "// } // namespace functions",
        "// type g = () => any;",
    ] * 2


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from(["object", "array", "a\n}"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "properties", "items", "oneOf", "anyOf", "enum", "x"]), inner, max_size=3
        )
        | st.dictionaries(
            st.sampled_from(["description", "default", "required", "nullable", "title"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["type", "properties", "required", "description"]), JSON))
def test_any_schema_becomes_one_definition(parameters):
    """What is no schema is defined as well as it goes, and the conversation behind it is read."""
    made = render(Chat((Turn("user", "a"), Turn("assistant", "b")), tools=(Tool("f", "", parameters),)))
    assert problems(made) == []
    assert parse(made).tools.count("type f = (") == 1


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
