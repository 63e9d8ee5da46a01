"""Harmony, read: its messages, the conversation that they are, and all that is wrong with them.

The parser is stricter than a model needs, as what it reads is to be trained on. It knows that a recipient may stand in
front of the channel or behind it, and that the type of a call's arguments may do without `<|constrain|>`.
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from exporters.harmony import definitions
from exporters.harmony.chats import Call, Turn, is_object
from exporters.harmony.render import INSTRUCTIONS
from exporters.harmony.tokens import Segment, split
from lake.errors import LakeError

CHANNELS = ("analysis", "commentary", "final")
ENDS = ("end", "return", "call")

_FUNCTIONS = "functions."
_ORDER = {"system": 0, "developer": 1}
_RANKS = {"analysis": 0, "commentary": 1, "final": 3}
_CALL = 2


class NotHarmony(LakeError):
    """A text is no Harmony. The message says the first thing that is wrong, and in which message, from 1."""


class Message(msgspec.Struct, frozen=True):
    """One message as Harmony has it. `author` is a role or a function, `end` the token that ends the message."""

    author: str
    content: str
    channel: str | None = None
    recipient: str | None = None
    content_type: str | None = None
    end: str = "end"


class Parsed(msgspec.Struct, frozen=True):
    """A conversation that was read. `tools` are their definitions as they stand; `open` says that an answer is due."""

    turns: tuple[Turn, ...]
    system: str | None = None
    instructions: str | None = None
    tools: str | None = None
    open: bool = False


def parse(text: str) -> Parsed:
    """The conversation that a text is: whole, or up to `<|start|>assistant`. Raises NotHarmony."""
    return parse_segments(split(text))


def parse_segments(segments: Sequence[Segment]) -> Parsed:
    """The same of special tokens and texts, such as `from_ids` gives. Raises NotHarmony."""
    messages, is_open, broken = _read(list(segments))
    for problem in (*broken, *_wrong(messages, is_open=is_open)):
        raise NotHarmony(problem)
    told = {message.author: message.content for message in messages if message.author in _ORDER}
    instructions, defined = _developer(told.get("developer", ""))
    turns = tuple(_turns([message for message in messages if message.author not in _ORDER]))
    return Parsed(turns, told.get("system"), instructions, defined, is_open)


def problems(text: str) -> list[str]:
    """Everything that is wrong with a text, in its order; nothing is if it is valid Harmony."""
    messages, is_open, broken = _read(split(text))
    return [*_wrong(messages, is_open=is_open), *broken]


def _read(segments: list[Segment]) -> tuple[list[Message], bool, list[str]]:
    """The messages as far as they can be read, whether an answer is due, and what cannot be read any further."""
    messages: list[Message] = []
    begun: int | None = None
    for place, segment in enumerate(segments):
        where = f"message {len(messages) + 1}"
        if begun is None:
            if segment != ("start", True):
                return messages, False, [f"{where}: {_shown(segment)} stands where <|start|> must be"]
            begun = place + 1
        elif segment.special and segment.text in ENDS:
            try:
                messages.append(_message(segments[begun:place], segment.text))
            except ValueError as error:
                return messages, False, [f"{where}: {error}"]
            begun = None
    if begun is not None:
        if segments[begun:] == [("assistant", False)]:
            return messages, True, []
        return messages, False, [f"message {len(messages) + 1}: ends without <|end|>, <|return|> or <|call|>"]
    return messages, False, [] if messages else ["message 1: there is none"]


def _message(inside: Sequence[Segment], end: str) -> Message:
    """The message between `<|start|>` and its end. Raises ValueError with what is wrong."""
    marks = [segment.text for segment in inside if segment.special]
    for mark in marks:
        if mark in ("start", "startoftext", "endoftext"):
            raise ValueError(f"<|{mark}|> stands inside")
    if marks not in (["message"], ["channel", "message"], ["channel", "constrain", "message"]):
        raise ValueError("the header is not a role, <|channel|>, <|constrain|> and <|message|>, each once at most")
    parts = dict.fromkeys(["role", *marks], "")
    part = "role"
    for segment in inside:
        if segment.special:
            part = segment.text
        else:
            parts[part] += segment.text
    author, *more = parts["role"].split() or [""]
    channel, *further = parts.get("channel", "").split() or [""]
    if not author:
        raise ValueError("the header has no role")
    if "channel" in parts and not channel:
        raise ValueError("<|channel|> is followed by no channel")
    words = [*more, *further]
    recipients = [word.removeprefix("to=") for word in words if word.startswith("to=")]
    types = [word for word in words if not word.startswith("to=")]
    types += [parts["constrain"].strip()] if "constrain" in parts else []
    if len(recipients) > 1 or len(types) > 1:
        raise ValueError(f"the header says too much: {' '.join(words)}")
    return Message(
        author, parts["message"], channel or None, next(iter(recipients), None), next(iter(types), None), end
    )


def _wrong(messages: Sequence[Message], *, is_open: bool) -> Iterator[str]:
    """What is wrong with messages that could be read."""
    waiting: list[str] = []
    reached = 0
    for number, message in enumerate(messages, 1):
        order = _ORDER.get(message.author, 2)
        said = [*_wrong_order(message, order, reached, number), *_wrong_header(message), *_wrong_end(message)]
        is_call = message.author == "assistant" and message.recipient is not None
        if message.author.startswith(_FUNCTIONS):
            if message.author in waiting:
                waiting.remove(message.author)
            else:
                said.append(f"a result of {message.author}, which nobody has called")
        elif waiting and not is_call:
            said.append(f"the call of {waiting[0]} has no result")
            waiting = []
        if message.end == "return" and (number < len(messages) or is_open):
            said.append("<|return|> ends a message that is not the last")
        waiting += [str(message.recipient)] if is_call else []
        reached = max(reached, order)
        yield from (f"message {number}: {problem}" for problem in said)
    if is_open and waiting:
        yield f"message {len(messages) + 1}: the call of {waiting[0]} has no result"


def _wrong_order(message: Message, order: int, reached: int, number: int) -> Iterator[str]:
    if order < reached or (order == 0 and number > 1):
        yield f"a {message.author} message stands behind the beginning"
    elif order == reached == 1 and message.author == "developer":
        yield "a second developer message"


def _wrong_header(message: Message) -> Iterator[str]:
    if message.author == "assistant":
        if message.channel not in CHANNELS:
            yield f"an assistant's channel is one of {', '.join(CHANNELS)}, and this is {message.channel or 'none'}"
        if message.recipient is not None:
            if not message.recipient.startswith(_FUNCTIONS):
                yield f"a call goes to functions.NAME, and this goes to {message.recipient}"
            if message.channel in ("analysis", "final"):
                yield f"a call of a function stands on commentary, and this on {message.channel}"
            if not is_object(message.content):
                yield f"the arguments of {message.recipient} are no JSON object"
    elif message.author.startswith(_FUNCTIONS):
        if (message.recipient, message.channel) != ("assistant", "commentary"):
            yield f"a result of {message.author} must be to=assistant on commentary"
    elif message.author not in ("system", "developer", "user"):
        yield f"nobody is called {message.author!r}"
    elif message.channel or message.recipient:
        yield f"a {message.author} message has neither a channel nor a recipient"


def _wrong_end(message: Message) -> Iterator[str]:
    is_call = message.author == "assistant" and message.recipient is not None
    if is_call and message.end != "call":
        yield f"a call ends with <|call|>, and this with <|{message.end}|>"
    elif message.end == "call" and not is_call:
        yield "<|call|> ends a message that calls nothing"
    elif message.end == "return" and (message.author, message.channel) != ("assistant", "final"):
        yield "<|return|> ends a message that is no answer"


def _developer(content: str) -> tuple[str | None, str | None]:
    """Instructions and definitions of tools."""
    text, heading, defined = content.rpartition(definitions.HEADING)
    if not heading or not content.endswith(definitions.END):
        return content.removeprefix(INSTRUCTIONS) or None, None
    return text.removeprefix(INSTRUCTIONS).removesuffix("\n\n") or None, heading + defined


def _turns(messages: Iterable[Message]) -> Iterator[Turn]:
    """The turns of a conversation. What an assistant thinks, says and calls in this order is one turn."""
    group: list[Message] = []
    for message in messages:
        if group and (message.author != "assistant" or not _goes_on(group[-1], message)):
            yield _assistant(group)
            group = []
        if message.author == "assistant":
            group.append(message)
        elif message.author == "user":
            yield Turn("user", message.content)
        else:
            yield Turn("tool", message.content, name=message.author.removeprefix(_FUNCTIONS))
    if group:
        yield _assistant(group)


def _goes_on(before: Message, message: Message) -> bool:
    return _rank(before) <= _rank(message) and _rank(before) != _RANKS["final"]


def _rank(message: Message) -> int:
    return _CALL if message.recipient is not None else _RANKS[str(message.channel)]


def _assistant(group: Sequence[Message]) -> Turn:
    calls = [Call(str(each.recipient).removeprefix(_FUNCTIONS), each.content) for each in group if each.recipient]
    said = [each.content for each in group if each.recipient is None and each.channel != "analysis"]
    thought = [each.content for each in group if each.recipient is None and each.channel == "analysis"]
    return Turn("assistant", "\n\n".join(said), "\n\n".join(thought), tuple(calls))


def _shown(segment: Segment) -> str:
    return str(segment) if segment.special else repr(segment.text[:40])
