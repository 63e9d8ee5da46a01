"""Prompts: questions, user's turns, and how a conversation begins, in the shapes that people keep them in.

A prompt is a `text` and, where it is more than one turn of the user, `messages`: the conversation that a model is to go
on with, or the user's turns that it is to answer one by one. The text is what the user says, turn after turn; lengths,
languages and likenesses are measured on it. A prompt's id is a function of the two, so the same prompt from two files
has one id.

Not here: which prompts go into a pool (`ingest.prompts`).
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ingest.rows import Decoder, Place, Problem, Refused, canonical, refuse

Row = dict[str, Any]
Read = Callable[[Row, Place], Iterable[Mapping[str, Any]]]

# Where a row says what is asked, and what belongs to it; the first one that is there counts.
_ASKED = ("prompt", "question", "instruction")
_MORE = ("input", "context", "declaration")
_CHATS = ("messages", "conversations", "conversation", "history")
_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "assistant": "assistant",
    "system": "system",
    "developer": "developer",
    "tool": "tool",
    "function": "function",
    "observation": "tool",
}


def read_question(row: Row, _place: Place) -> Iterable[Mapping[str, Any]]:
    """One prompt a row: its `prompt`, `question` or `instruction`, and the `input` or `declaration` that follows it.

    What else the row has is carried along.
    """
    name = next((name for name in _ASKED if row.get(name) is not None), None)
    if name is None:
        raise refuse("missing_field", f"one of {', '.join(_ASKED)} is missing")
    parts = [row[name], *(row[more] for more in _MORE if row.get(more) not in (None, ""))]
    if bad := [part for part in parts if not isinstance(part, str)]:
        raise refuse("wrong_type", f"{name}: must be text, and is {type(bad[0]).__name__}")
    text = parts[0] if len(parts) == 1 else "\n\n".join(part.strip("\n") for part in parts)
    return [{other: value for other, value in row.items() if other not in (name, *_MORE)} | prompt(text)]


def read_turns(row: Row, _place: Place) -> Iterable[Mapping[str, Any]]:
    """One prompt a row: all that the user says, in `turns` or in a conversation, without any answer."""
    if row.get("turns") is not None:
        messages = _turns(row)
    else:
        messages = [message for message in _chat(row) if message["role"] in ("system", "developer", "user")]
    return [_plain(row) | prompt(None, messages)]


def read_opening(row: Row, _place: Place) -> Iterable[Mapping[str, Any]]:
    """One prompt a row: how a conversation begins, up to the first answer; of `turns` the first."""
    if row.get("turns") is not None:
        return [_plain(row) | prompt(None, _turns(row)[:1])]
    messages = _chat(row)
    first = next((at for at, message in enumerate(messages) if message["role"] == "assistant"), len(messages))
    return [_plain(row) | prompt(None, messages[:first])]


def prompt(text: str | None, messages: Sequence[Row] | None = None) -> Row:
    """The columns of a prompt: its id, text and messages. Raises Refused where the user says nothing."""
    if messages is not None:
        said = [content for message in messages if message["role"] == "user" and (content := _content(message))]
        text = "\n\n".join(said) if text is None else text
        if len(messages) == 1 and messages[0] == {"role": "user", "content": text}:
            messages = None
    if text is None or not text.strip():
        raise refuse("blank_field", "text: the user says nothing")
    return {"prompt_id": prompt_id(text, messages), "text": text, "messages": messages and list(messages)}


def prompt_id(text: str, messages: Sequence[Any] | None = None) -> str:
    """The id of the prompt that says this: the start of the sha256 of `[text, messages]` in canonical JSON."""
    said = canonical([text, list(messages) if messages else None])
    return f"prompt-{hashlib.sha256(said.encode(errors='surrogatepass')).hexdigest()[:32]}"


def read_native(row: Row) -> Row:
    """A row of the lake's own, with the text and id that it leaves out. Raises Refused."""
    text, messages = row.get("text"), row.get("messages")
    if text is messages is None:
        raise refuse("missing_field", "text: is missing")
    if not isinstance(text, str | None):
        raise refuse("wrong_type", f"text: must be text, and is {type(text).__name__}")
    if isinstance(messages, str):
        # As a cell of a table says it.
        messages = Decoder().parse(messages)
    made = prompt(text, None if messages is None else _checked(messages, "messages"))
    own = {} if row.get("prompt_id") is not None else {"prompt_id": made["prompt_id"]}
    return row | {"text": made["text"]} | own


def in_domain(read: Read, domain: str) -> Read:
    """The same reader, for rows that are of one domain: those that say another are refused."""

    def read_in_domain(row: Row, place: Place) -> Iterable[Mapping[str, Any]]:
        made = [dict(event) for event in read(row, place)]
        for event in made:
            said = event.get("domain")
            if said is not None and said != domain:
                raise refuse("wrong_domain", f"domain: the row says {said!r:.60}, and was to be of {domain!r}")
            event["domain"] = domain
        return made

    return read_in_domain


def _turns(row: Row) -> list[Row]:
    turns = row["turns"]
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, str) for turn in turns):
        raise refuse("wrong_type", "turns: must be a list of texts, with one at least")
    return [{"role": "user", "content": turn} for turn in turns]


def _chat(row: Row) -> list[Row]:
    name = next((name for name in _CHATS if row.get(name) is not None), None)
    if name is None:
        raise refuse("missing_field", f"one of turns, {', '.join(_CHATS)} is missing")
    return _checked(row[name], name)


def _checked(given: Any, name: str) -> list[Row]:
    """The turns of a conversation as roles and contents, whatever its keys are called. Raises Refused."""
    if not isinstance(given, list) or not given:
        raise refuse("wrong_type", f"{name}: must be a list with one message at least")
    problems, messages = [], []
    for number, message in enumerate(given):
        if not isinstance(message, dict):
            problems.append(Problem("wrong_type", f"{name}[{number}]: must be an object"))
            continue
        said = message.get("role", message.get("from"))
        role = _ROLES.get(said.lower()) if isinstance(said, str) else None
        content = message.get("content", message.get("value"))
        if role is None:
            problems.append(Problem("unknown_value", f"{name}[{number}]: {said!r:.60} is no role"))
        elif not isinstance(content, str | list | None):
            problems.append(Problem("wrong_type", f"{name}[{number}]: its content must be text or a list of parts"))
        else:
            messages.append({"role": role, "content": content})
    if problems:
        raise Refused(problems)
    return messages


def _content(message: Row) -> str:
    content = message["content"]
    if isinstance(content, list):
        texts = (part.get("text") if isinstance(part, dict) else part for part in content)
        return "".join(text for text in texts if isinstance(text, str))
    return content or ""


def _plain(row: Row) -> Row:
    """What a row says of itself beside its conversation: answers and what they came with are no part of a prompt."""
    return {name: value for name, value in row.items() if isinstance(value, str | int | float)}
