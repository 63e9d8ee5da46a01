"""Trajectories of SWE-agent: one JSON document a file, `*.traj`, with the `history` that the agent's model saw.

A document is one run of kind `trajectory`. Its messages are the history in OpenAI's shape: role, content and tool calls
as they stand, a result with the id of its call, and what a model's thinking blocks say as `thinking`. All else that a
message has (agent, action, thought, …) is in `extra.history`, message by message, and all else that the document has
(trajectory, info, replay_config, …) in `extra`, so nothing of it is lost; a thought that is the content is that.

A run is named by its history, its task by the problem statement's id or, where there is none, by what was asked. A
document says nothing of when it was made, nor of whether the problem was solved.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ingest.rows import Decoder, Place, Problem, Refused, refuse, sha256

Row = dict[str, Any]
Message = dict[str, Any]

ROLES = ("system", "user", "assistant", "tool")


def read(row: Row, _place: Place) -> Iterable[Mapping[str, Any]]:
    """One piece of evidence a document."""
    history = row.get("history")
    if history is None:
        raise refuse("missing_field", "history: is missing")
    if not isinstance(history, list) or not history:
        raise refuse("wrong_type", "history: must be a list with at least one message")
    if problems := [problem for number, message in enumerate(history) for problem in _wrong(number, message)]:
        raise Refused(problems)
    spoke = [number for number, message in enumerate(history) if message["role"] == "assistant"]
    if not spoke:
        raise refuse("no_answer", "history: no assistant has spoken")
    agents = {message["agent"] for message in history if isinstance(message.get("agent"), str)}
    if len(agents) > 1:
        raise refuse("unknown_value", f"history: several agents speak in it: {', '.join(sorted(agents))}")
    config = _config(row.get("replay_config"))
    messages = [_message(message) for message in history]
    asked = messages[: spoke[0]]
    return [
        {
            "run_id": f"swe-agent-{sha256(messages)[:16]}",
            "task_id": _inner(config, "problem_statement", "id") or f"swe-agent-{sha256(asked)[:16]}",
            "kind": "trajectory",
            "role": "executor",
            "model": _inner(config, "agent", "model", "name"),
            "prompt": "\n\n".join(text for message in asked if message["role"] == "user" and (text := _text(message))),
            "messages": messages,
            "text": _text(messages[spoke[-1]]) or None,
            "extra": row | {"history": [_rest(message) for message in history]},
        }
    ]


def _wrong(number: int, message: Any) -> Iterable[Problem]:
    """What of a message is not as SWE-agent writes it."""
    name = f"history[{number}]"
    if not isinstance(message, dict):
        yield Problem("wrong_type", f"{name}: must be an object")
        return
    if message.get("role") not in ROLES:
        yield Problem("unknown_value", f"{name}.role: {message.get('role')!r:.60} is not one of {', '.join(ROLES)}")
    if not isinstance(message.get("content"), str | list | None):
        yield Problem("wrong_type", f"{name}.content: must be text or a list of parts")
    if not isinstance(message.get("tool_calls"), list | None):
        yield Problem("wrong_type", f"{name}.tool_calls: must be a list")
    ids = message.get("tool_call_ids")
    if not isinstance(ids, list | None) or not all(isinstance(each, str) for each in ids or ()):
        yield Problem("wrong_type", f"{name}.tool_call_ids: must be a list of texts")
    elif ids is not None and len(ids) > 1:
        yield Problem("unknown_value", f"{name}.tool_call_ids: is one result of {len(ids)} calls")
    blocks = message.get("thinking_blocks")
    if not isinstance(blocks, list | None) or not all(isinstance(block, dict) for block in blocks or ()):
        yield Problem("wrong_type", f"{name}.thinking_blocks: must be a list of objects")


def _message(given: Message) -> Message:
    """A message in OpenAI's shape."""
    message = {"role": given["role"], "content": given.get("content")}
    if thinking := _thinking(given):
        message["thinking"] = thinking
    if given.get("tool_calls"):
        message["tool_calls"] = given["tool_calls"]
    if given.get("tool_call_ids"):
        [message["tool_call_id"]] = given["tool_call_ids"]
    return message


def _thinking(given: Message) -> str:
    blocks = given.get("thinking_blocks") or ()
    return "\n\n".join(block["thinking"] for block in blocks if isinstance(block.get("thinking"), str))


def _rest(given: Message) -> Message:
    """What a message has beside that."""
    taken = {"role", "content"} | ({"tool_calls"} if given.get("tool_calls") else set())
    taken |= {"tool_call_ids"} if given.get("tool_call_ids") else set()
    taken |= {"thought"} if given.get("thought") == given.get("content") else set()
    return {name: value for name, value in given.items() if name not in taken}


def _text(message: Message) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    parts = (part.get("text") for part in content if isinstance(part, dict))
    return "".join(part for part in parts if isinstance(part, str))


def _config(given: Any) -> Any:
    """The configuration of the run, an object or the JSON text of one."""
    if not isinstance(given, str):
        return given
    try:
        return Decoder().parse(given)
    except Refused as refused:
        raise Refused(
            Problem(problem.reason, f"replay_config: {problem.message}") for problem in refused.problems
        ) from None


def _inner(value: Any, *names: str) -> str | None:
    """The text under these keys, None where there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) and value.strip() else None
