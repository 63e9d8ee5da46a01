"""Conversations as Harmony, there and back, and in the older tags."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.harmony import (
    Call,
    Chat,
    System,
    Tool,
    Turn,
    Unrenderable,
    completion,
    parse,
    problems,
    read_chat,
    render,
)
from lake.errors import UsageError
from tests.exporters.conversations import ANSWER, ASKED, CALL_TEXT, CALLING, RESULT, SYSTEM, WEATHER, said, text, user


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
