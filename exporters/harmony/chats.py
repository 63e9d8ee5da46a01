"""Conversations in OpenAI's shape, read and checked: what Harmony and the older tags are rendered from.

A message has a role and `content`, a text or a list of text parts; an assistant's may have `thinking` (or
`reasoning_content`, or `reasoning`) and `tool_calls`, each with a function's name and its arguments, an object or the
JSON text of one, which is kept to the letter. A tool's result names its call by `tool_call_id`, or its function by
`name`. System and developer messages stand at the beginning and are instructions.

Keys that are not named here say nothing that either form could hold, and are passed over.
"""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from lake.errors import LakeError

THINKING = ("thinking", "reasoning_content", "reasoning")
ROLES = ("system", "developer", "user", "assistant", "tool", "function")

_NAME = re.compile(r"[A-Za-z0-9_.-]+")


class Unrenderable(LakeError):
    """A conversation cannot be told in the form asked for. The message says which message of it, from 0, and why."""


class Call(msgspec.Struct, frozen=True):
    """A tool call: a function's name and its arguments, JSON text of an object. Harmony has no room for the id."""

    name: str
    arguments: str
    id: str | None = None


class Turn(msgspec.Struct, frozen=True):
    """One message after the instructions; `role` is user, assistant or tool.

    Of an assistant, `text` is the answer or, before calls, what the user is told about them; of a tool, the result, and
    `name` is its function.
    """

    role: str
    text: str = ""
    thinking: str = ""
    calls: tuple[Call, ...] = ()
    name: str | None = None
    call_id: str | None = None

    @property
    def final(self) -> bool:
        """Whether this is an assistant's answer."""
        return self.role == "assistant" and not self.calls


class Tool(msgspec.Struct, frozen=True):
    """A function that may be called; `parameters` is a JSON schema."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] | None = None


class Chat(msgspec.Struct, frozen=True):
    """A conversation. `instructions` are what is usually called the system prompt."""

    turns: tuple[Turn, ...]
    instructions: str | None = None
    tools: tuple[Tool, ...] = ()


def read_chat(messages: str | Sequence[Any], tools: str | Sequence[Any] | None = None) -> Chat:
    """The conversation of a row. Both may be JSON text. Raises Unrenderable.

    Each assistant message says or calls something, each call but those of the last message is answered before anybody
    else speaks, and each result answers a call that is open.
    """
    given = _listed("messages", messages)
    offered = [] if tools is None else _listed("tools", tools)
    roles = [_role(place, message) for place, message in enumerate(given)]
    begin = next((place for place, role in enumerate(roles) if role not in ("system", "developer")), len(roles))
    told = [_text(place, given[place]) for place in range(begin)]
    turns: list[Turn] = []
    waiting: list[Call] = []
    for place in range(begin, len(given)):
        if roles[place] == "tool":
            call = waiting.pop(_call_meant(place, given[place], waiting))
            turns.append(Turn("tool", _text(place, given[place]), name=call.name, call_id=call.id))
            continue
        if waiting:
            raise _wrong(place, f"the call of {waiting[0].name} has no result")
        turns.append(_turn(place, roles[place], given[place]))
        waiting += turns[-1].calls
    if not any(turn.role == "assistant" for turn in turns):
        raise Unrenderable("messages: no assistant has spoken")
    if turns[0].role != "user":
        raise _wrong(begin, "a conversation begins with the user")
    instructions = "\n\n".join(text for text in told if text.strip())
    return Chat(tuple(turns), instructions or None, tuple(_tool(place, tool) for place, tool in enumerate(offered)))


def _wrong(place: int, why: str) -> Unrenderable:
    return Unrenderable(f"messages[{place}]: {why}")


def _listed(name: str, given: str | Sequence[Any]) -> Sequence[Any]:
    if isinstance(given, str):
        try:
            given = msgspec.json.decode(given)
        except (msgspec.DecodeError, RecursionError) as error:
            raise Unrenderable(f"{name}: not JSON: {error}") from None
    if not isinstance(given, list | tuple):
        raise Unrenderable(f"{name}: must be a list")
    return given


def _role(place: int, message: Any) -> str:
    role = message.get("role") if isinstance(message, Mapping) else None
    if role not in ROLES:
        raise _wrong(place, f"the role is {role!r}, which is not one of {', '.join(ROLES)}")
    return "tool" if role == "function" else str(role)


def _turn(place: int, role: str, message: Mapping[str, Any]) -> Turn:
    if role in ("system", "developer"):
        raise _wrong(place, f"a {role} message stands behind the beginning")
    text = _text(place, message)
    if role == "user":
        return Turn("user", text)
    given = message.get("tool_calls")
    if not isinstance(given, list | tuple | None):
        raise _wrong(place, "tool_calls must be a list")
    calls = tuple(_call(place, number, call) for number, call in enumerate(given or ()))
    if not calls and not text.strip():
        raise _wrong(place, "the assistant says nothing and calls nothing")
    # Where there is a call, white space before it is nothing that anybody is told.
    return Turn("assistant", text if text.strip() else "", _thinking(place, message), calls)


def _text(place: int, message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list | tuple):
        raise _wrong(place, "content must be text or a list of parts")
    return "".join(_part(place, number, part) for number, part in enumerate(content))


def _part(place: int, number: int, part: Any) -> str:
    text = part.get("text") if isinstance(part, Mapping) else None
    if not isinstance(text, str):
        kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
        raise _wrong(place, f"content[{number}] is a part without text ({kind})")
    return text


def _thinking(place: int, message: Mapping[str, Any]) -> str:
    found = ""
    for key in reversed(THINKING):
        thinking = message.get(key)
        if not isinstance(thinking, str | None):
            raise _wrong(place, f"{key} must be text")
        found = thinking if thinking and thinking.strip() else found
    return found


def _call(place: int, number: int, call: Any) -> Call:
    said = call.get("function", call) if isinstance(call, Mapping) else None
    name = said.get("name") if isinstance(said, Mapping) else None
    if not isinstance(said, Mapping) or not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _wrong(place, f"tool_calls[{number}] has no name of letters, digits, '_', '-' and '.'")
    arguments = said.get("arguments")
    if isinstance(arguments, Mapping):
        with suppress(ValueError, TypeError, RecursionError):
            arguments = json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))
    if not isinstance(arguments, str) or not is_object(arguments):
        raise _wrong(place, f"tool_calls[{number}]: the arguments of {name} are no JSON object")
    given = call.get("id")
    return Call(name, arguments, given if isinstance(given, str) else None)


def is_object(text: str) -> bool:
    """Whether this is JSON text of an object."""
    try:
        return isinstance(_STRICT.decode(text), dict)
    except (ValueError, RecursionError):
        return False


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")


# Numbers stay text: whether they are numbers counts, and not how large they are.
_STRICT = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_no_number)


def _call_meant(place: int, message: Mapping[str, Any], waiting: Sequence[Call]) -> int:
    """Which of the open calls a result answers: the one of its id, else the first of its function."""
    given, name = message.get("tool_call_id"), message.get("name")
    for number, call in enumerate(waiting):
        if call.id == given if given is not None else call.name == name:
            return number
    if given is None and name is None:
        raise _wrong(place, "a tool's result names neither its call nor its function")
    raise _wrong(place, f"a tool's result answers {given or name!r}, and no such call is open")


def _tool(place: int, tool: Any) -> Tool:
    said = tool.get("function", tool) if isinstance(tool, Mapping) else None
    name = said.get("name") if isinstance(said, Mapping) else None
    if not isinstance(said, Mapping) or not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Unrenderable(f"tools[{place}] has no name of letters, digits, '_', '-' and '.'")
    parameters = said.get("parameters")
    if parameters is not None and not isinstance(parameters, Mapping):
        raise Unrenderable(f"tools[{place}]: the parameters of {name} are no object")
    description = said.get("description")
    return Tool(name, description if isinstance(description, str) else "", parameters)
