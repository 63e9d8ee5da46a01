"""Chats in OpenAI's form: fine-tuning rows, {messages, tools?}, and logged chat completions.

A logged completion has its answers beside the conversation, in `choices` (or `response.choices`), and the conversation
in `messages` (or `request.messages`); each choice is one run. The text of a run is what the last assistant turn says,
its prompt the conversation before that turn. The messages themselves are kept as they are, tool calls and all.

Without `run_id`, `custom_id` or `id`, a run is named by its content; without `task_id`, a task by its conversation, so
two answers to one conversation belong to one task.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from ingest.rows import Place, Problem, Refused, refuse, sha256

Row = dict[str, Any]
Message = dict[str, Any]

_TIMES = ("recorded_at", "created_at", "timestamp")


def read(row: Row, _place: Place) -> Iterable[Mapping[str, Any]]:
    """One piece of evidence for each answer."""
    request, response = _inner(row, "request"), _inner(row, "response")
    asked = row.get("messages", request.get("messages"))
    messages = _checked(asked, "messages" if "messages" in row else "request.messages")
    choices = row.get("choices", response.get("choices"))
    common = {name: value for name, value in row.items() if name not in ("messages", "choices")}
    common["recorded_at"] = _time(row, response)
    common["model"] = row.get("model") or response.get("model") or request.get("model")
    if choices is None:
        return [common | _run(row, response, messages, "")]
    answers = _answers(choices)
    return [
        common
        | _run(row, response, [*messages, answer], f":{number}" if len(answers) > 1 else "")
        | {"choice": {name: value for name, value in choices[number].items() if name != "message"}}
        for number, answer in enumerate(answers)
    ]


def _run(row: Row, response: Row, chat: list[Message], suffix: str) -> Row:
    last = max((at for at, message in enumerate(chat) if message["role"] == "assistant"), default=None)
    if last is None:
        raise refuse("no_answer", "messages: no assistant has spoken")
    before = chat[:last]
    given = row.get("run_id") or row.get("custom_id") or row.get("id") or response.get("id")
    task = row.get("task_id")
    calls = any(message.get("tool_calls") or message["role"] in ("tool", "function") for message in chat)
    return {
        "run_id": f"{given}{suffix}" if isinstance(given, str) and suffix else given or f"chat-{_short(chat)}",
        "task_id": task if task is not None else f"chat-{_short(before)}",
        "kind": row.get("kind") or ("trajectory" if calls else "completion"),
        "role": row.get("role") or "executor",
        "prompt": row.get("prompt") or _prompt(before),
        "messages": chat,
        "text": _content(chat[last]),
    }


def _inner(row: Row, name: str) -> Row:
    """An object in the row; the answer of a batch has one more around it, `body`."""
    inner = row.get(name)
    if not isinstance(inner, dict):
        return {}
    body = inner.get("body")
    return body if isinstance(body, dict) else inner


def _answers(choices: Any) -> list[Message]:
    if not isinstance(choices, list) or not choices:
        raise refuse("wrong_type", "choices: must be a list with at least one answer")
    answers = [choice.get("message") if isinstance(choice, dict) else None for choice in choices]
    return _checked(answers, "choices.message")


def _checked(messages: Any, name: str) -> list[Message]:
    """The messages of a chat. Raises Refused with everything that is wrong with them."""
    if messages is None:
        raise refuse("missing_field", f"{name}: is missing")
    if not isinstance(messages, list) or not messages:
        raise refuse("wrong_type", f"{name}: must be a list with at least one message")
    problems = []
    for number, message in enumerate(messages):
        if not isinstance(message, dict):
            problems.append(Problem("wrong_type", f"{name}[{number}]: must be an object"))
        elif not isinstance(message.get("role"), str) or not message["role"].strip():
            problems.append(Problem("missing_field", f"{name}[{number}].role: is missing or no text"))
        elif not isinstance(message.get("content"), str | list | None):
            problems.append(Problem("wrong_type", f"{name}[{number}].content: must be text or a list of parts"))
    if problems:
        raise Refused(problems)
    return messages


def _content(message: Message) -> str | None:
    """What a message says, as text. Of parts, the texts; a picture or a sound is only named."""
    content = message.get("content")
    if not isinstance(content, list):
        return content
    return "".join(_part(part) for part in content) or None


def _part(part: Any) -> str:
    if not isinstance(part, dict):
        return str(part)
    text = part.get("text") or part.get("refusal")
    return text if isinstance(text, str) else f"[{part.get('type', 'part')}]"


def _prompt(messages: list[Message]) -> str | None:
    """A conversation as one text: a single user's turn as it is, more turns with their roles."""
    if not messages:
        return None
    if len(messages) == 1 and messages[0]["role"] == "user":
        return _content(messages[0])
    return "\n\n".join(f"{message['role']}: {_content(message) or ''}".rstrip() for message in messages)


def _time(row: Row, response: Row) -> Any:
    for name in _TIMES:
        if row.get(name) is not None:
            return row[name]
    created = row.get("created", response.get("created"))
    if isinstance(created, int | float) and not isinstance(created, bool):
        try:
            return datetime.fromtimestamp(created, UTC)
        except (OverflowError, OSError, ValueError):
            raise refuse("bad_time", f"created: {created} is no time in seconds since 1970") from None
    return created


def _short(chat: list[Message]) -> str:
    return sha256(chat)[:16]
