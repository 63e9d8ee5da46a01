"""Rows of one shape as rows of another, where nothing is lost: from ShareGPT and Alpaca, to turns and back.

Each step takes some columns and makes others of them; columns that it does not take stay as they are. What a row says
that the other shape has no place for is refused, and so is a column that would be overwritten.

* ShareGPT, as Axolotl and LLaMA-Factory read it: `conversations`, turns of `from` and `value`, and a `system` beside.
* Alpaca, as LLaMA-Factory reads it: `instruction` and `input` with a line feed between them, `output`, `system`, and
  `history`, pairs of what was asked and answered before.
* HH-RLHF: `chosen` and `rejected` are whole dialogues; the prompt is all up to the last `Assistant:`.

Not here: files (`convert`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from exporters.shapes import ROLES, prompt_of, row_problem
from lake.errors import UsageError

Row = dict[str, object]

TARGETS = ("messages", "prompt-completion", "sharegpt", "preference", "preference-implicit")

# Shapes that are another one with a column more, which stays.
_LIKE = {"ipo": "preference", "kto": "prompt-completion"}
_FROM = {"human": "user", "gpt": "assistant", "observation": "tool", **{role: role for role in ROLES}}
_TO = {"user": "human", "assistant": "gpt", "system": "system", "tool": "observation"}


class Unfit(Exception):
    """A row that has no place in the other shape: the field, and why."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field
        self.why = why


@dataclass(frozen=True)
class Reshape:
    """The columns that are taken, those of them that are there, and what is made of them."""

    reads: tuple[str, ...]
    makes: tuple[str, ...]
    make: Callable[[Row], Row]


def reshaping(source: str, target: str) -> Reshape | None:
    """How rows of one shape become rows of another; None where they are that already. Raises UsageError."""
    if target not in TARGETS:
        raise UsageError(f"nothing becomes {target!r}", f"the shapes to convert to are {', '.join(TARGETS)}")
    source = _LIKE.get(source, source)
    if source == target:
        return None
    if (source, target) in _STEPS:
        return _STEPS[source, target]
    first, second = _STEPS.get((source, "messages")), _STEPS.get(("messages", target))
    if first is None or second is None:
        raise UsageError(f"rows of {source} do not become {target}", _hint(source))
    return Reshape(first.reads, second.makes, lambda row: second.make(first.make(row)))


def _hint(source: str) -> str:
    to = [target for one, target in _STEPS if one == source]
    return f"they become {', '.join(to)}" if to else "leave out --to to keep them as they are"


def applied(step: Reshape, row: Row) -> Row:
    """A row with what the step makes of it. Raises Unfit."""
    kept = {name: value for name, value in row.items() if name not in step.reads}
    made = step.make({name: row[name] for name in step.reads if name in row})
    for name in made:
        if name in kept:
            raise Unfit(name, "is there already, and would be overwritten")
    return {**made, **kept}


def _sharegpt_to_messages(row: Row) -> Row:
    turns = row.get("conversations")
    if not isinstance(turns, list) or not turns:
        raise Unfit("conversations", "must be a list of at least one turn")
    made = [_turn(turn, f"conversations[{number}]") for number, turn in enumerate(turns)]
    system = _optional_text(row, "system")
    if system and made[0]["role"] == "system":
        raise Unfit("system", "is there, and the conversation begins with one of its own")
    return {"messages": [{"role": "system", "content": system}, *made] if system else made}


def _turn(turn: object, place: str) -> Row:
    if not isinstance(turn, dict):
        raise Unfit(place, "must be an object")
    said, text = turn.get("from"), turn.get("value")
    if not isinstance(text, str):
        raise Unfit(f"{place}.value", "must be a string")
    rest = {name: value for name, value in turn.items() if name not in {"from", "value"}}
    if rest.keys() & {"role", "content", "tool_calls"}:
        raise Unfit(place, "has a role or a content beside 'from' and 'value'")
    if said == "function_call":
        return {"role": "assistant", "content": "", "tool_calls": _calls(text, f"{place}.value"), **rest}
    if not isinstance(said, str) or said not in _FROM:
        raise Unfit(f"{place}.from", f"must be one of {', '.join(dict.fromkeys([*_FROM, 'function_call']))}")
    return {"role": _FROM[said], "content": text, **rest}


def _calls(text: str, place: str) -> list[Row]:
    try:
        said = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise Unfit(place, "must be the JSON text of a call, with name and arguments") from None
    calls = said if isinstance(said, list) else [said]
    for call in calls:
        if not isinstance(call, dict) or call.keys() != {"name", "arguments"}:
            raise Unfit(place, "must be the JSON text of a call, with name and arguments")
    return [{"type": "function", "function": call} for call in calls]


def _messages_to_sharegpt(row: Row) -> Row:
    made = []
    for number, turn in enumerate(_turns(row, "messages")):
        place = f"messages[{number}]"
        if turn.keys() & {"tool_calls", "from", "value"}:
            raise Unfit(place, "says more than a role and a text")
        if turn["role"] not in _TO or not isinstance(turn["content"], str):
            raise Unfit(place, f"must be a text of {', '.join(_TO)}")
        rest = {name: value for name, value in turn.items() if name not in {"role", "content"}}
        made.append({"from": _TO[str(turn["role"])], "value": turn["content"], **rest})
    return {"conversations": made}


def _alpaca_to_messages(row: Row) -> Row:
    return _asked_and_answered(row, "input", "output")


def _instruction_to_messages(row: Row) -> Row:
    return _asked_and_answered(row, "context", "response")


def _asked_and_answered(row: Row, beside: str, answer: str) -> Row:
    instruction, more = _text(row, "instruction"), _optional_text(row, beside)
    turns: list[Row] = []
    if system := _optional_text(row, "system"):
        turns.append({"role": "system", "content": system})
    history = row.get("history") or []
    if not isinstance(history, list):
        raise Unfit("history", "must be a list")
    for number, pair in enumerate(history):
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise Unfit(f"history[{number}]", "must be two texts: what was asked, and what was answered")
        turns += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    asked = f"{instruction}\n{more}" if more else instruction
    return {
        "messages": [*turns, {"role": "user", "content": asked}, {"role": "assistant", "content": _text(row, answer)}]
    }


def _prompt_completion_to_messages(row: Row) -> Row:
    _refuse(row, "prompt-completion")
    prompt, completion = row["prompt"], row["completion"]
    if isinstance(prompt, list) and isinstance(completion, list):
        return {"messages": [*prompt, *completion]}
    return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]}


def _messages_to_prompt_completion(row: Row) -> Row:
    turns = _turns(row, "messages")
    if len(turns) < 2 or turns[-1]["role"] != "assistant":
        raise Unfit("messages", "must end with a turn of the assistant, after a prompt")
    return {"prompt": turns[:-1], "completion": turns[-1:]}


def _implicit_to_explicit(row: Row) -> Row:
    _refuse(row, "preference-implicit")
    chosen, rejected = row["chosen"], row["rejected"]
    if isinstance(chosen, list) and isinstance(rejected, list):
        common = 0
        while chosen[common] == rejected[common]:
            common += 1
        if chosen[common]["role"] != "assistant" or rejected[common]["role"] != "assistant":
            raise Unfit(f"rejected[{common}]", "the prompts differ in the space around a text")
        return {"prompt": chosen[:common], "chosen": chosen[common:], "rejected": rejected[common:]}
    prompt = prompt_of(str(chosen))
    if prompt is None or prompt != prompt_of(str(rejected)):
        raise Unfit("chosen", "has no 'Assistant:' that a prompt would end with")
    return {"prompt": prompt, "chosen": str(chosen)[len(prompt) :], "rejected": str(rejected)[len(prompt) :]}


def _explicit_to_implicit(row: Row) -> Row:
    _refuse(row, "preference")
    prompt, chosen, rejected = row["prompt"], row["chosen"], row["rejected"]
    if isinstance(prompt, list) and isinstance(chosen, list) and isinstance(rejected, list):
        if chosen[0] == rejected[0] or any(side[0]["role"] != "assistant" for side in (chosen, rejected)):
            raise Unfit("rejected[0]", "the two sides must begin with the assistant, and say something else")
        return {"chosen": [*prompt, *chosen], "rejected": [*prompt, *rejected]}
    if not str(prompt).endswith("Assistant:") or any("Assistant:" in str(side) for side in (chosen, rejected)):
        raise Unfit("prompt", "must end with the only 'Assistant:' there is, to be told from what follows")
    return {"chosen": f"{prompt}{chosen}", "rejected": f"{prompt}{rejected}"}


def _refuse(row: Row, shape: str) -> None:
    if found := row_problem(row, shape):
        raise Unfit(found[0] or "", found[1])


def _turns(row: Row, name: str) -> list[Row]:
    turns = row.get(name)
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise Unfit(name, "must be a list of turns")
    for number, turn in enumerate(turns):
        if not {"role", "content"} <= turn.keys():
            raise Unfit(f"{name}[{number}]", "must have a role and a content")
    return turns


def _text(row: Row, name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise Unfit(name, "missing field" if value is None else "must be a string")
    return value


def _optional_text(row: Row, name: str) -> str:
    return "" if row.get(name) is None else _text(row, name)


_STEPS = {
    ("sharegpt", "messages"): Reshape(("conversations", "system"), ("messages",), _sharegpt_to_messages),
    ("alpaca", "messages"): Reshape(
        ("instruction", "input", "output", "system", "history"), ("messages",), _alpaca_to_messages
    ),
    ("instruction", "messages"): Reshape(
        ("instruction", "context", "response"), ("messages",), _instruction_to_messages
    ),
    ("prompt-completion", "messages"): Reshape(("prompt", "completion"), ("messages",), _prompt_completion_to_messages),
    ("messages", "prompt-completion"): Reshape(("messages",), ("prompt", "completion"), _messages_to_prompt_completion),
    ("messages", "sharegpt"): Reshape(("messages",), ("conversations",), _messages_to_sharegpt),
    ("preference-implicit", "preference"): Reshape(
        ("chosen", "rejected"), ("prompt", "chosen", "rejected"), _implicit_to_explicit
    ),
    ("preference", "preference-implicit"): Reshape(
        ("prompt", "chosen", "rejected"), ("chosen", "rejected"), _explicit_to_implicit
    ),
}
