r"""Conversations in an older form, with a tag around each part. It is no Harmony: none of its tags is a token there.

`<|developer|>` and the instructions, then the messages: `<|user|>` and a text; `<|assistant|>`, then as far as there
are any `<|thinking|>…<|/thinking|>`, `<|tool_calls|>[{"id": …, "name": …, "arguments": {…}}]<|/tool_calls|>` and the
text; `<|tool|>`, then `<|tool_call_id|>…<|/tool_call_id|>` or, without an id, `<|name|>…<|/name|>`, and the result. At
the end stands `<|endoftext|>`, or `<|assistant|>` where a model is to go on.

No text can forge a tag: what looks like one in it gets a backslash behind its first character, `<\|user|>`, and what
already looks so gets one more. In the JSON of tool calls, which an encoder writes, it is an escape, `\u003c|user|>`.
Definitions of tools have no place in this form.
"""

import re
from collections.abc import Iterator

import msgspec

from exporters.harmony.chats import Chat, Turn

END = "<|endoftext|>"

_LIKE = re.compile(r"<(\\*)(\|/?[a-z_]+\|>)")


def render(chat: Chat, *, prompt: bool = False) -> str:
    """A conversation with tags, whole or as a prompt for the assistant."""
    head = [f"<|developer|>{escaped(chat.instructions)}"] if chat.instructions else []
    return "".join([*head, *(part for turn in chat.turns for part in _turn(turn)), "<|assistant|>" if prompt else END])


def escaped(text: str) -> str:
    """Text that holds no tag."""
    return _LIKE.sub(r"<\1\\\2", text)


def _turn(turn: Turn) -> Iterator[str]:
    yield f"<|{turn.role}|>"
    if turn.role == "tool":
        tag, name = ("name", turn.name) if turn.call_id is None else ("tool_call_id", turn.call_id)
        yield f"<|{tag}|>{escaped(str(name))}<|/{tag}|>"
    if turn.thinking:
        yield f"<|thinking|>{escaped(turn.thinking)}<|/thinking|>"
    if turn.calls:
        calls = [
            {"id": call.id, "name": call.name, "arguments": msgspec.Raw(call.arguments.encode())} for call in turn.calls
        ]
        said = msgspec.json.encode(calls).decode()
        yield f"<|tool_calls|>{said.replace('<|', chr(92) + 'u003c|')}<|/tool_calls|>"
    yield escaped(turn.text)
