"""Conversations as Harmony, special tokens and texts apart.

After docs/format.md of https://github.com/openai/harmony: an assistant thinks on the channel `analysis`, calls
functions and says beforehand what it is about to do on `commentary`, and answers on `final`. What it thought is
forgotten with the answer: the thinking of a turn that ended in an answer is left out of everything that comes later,
and kept while a turn's tool calls go on.
"""

import re
from collections.abc import Iterator
from typing import Literal

import msgspec

from exporters.harmony import definitions
from exporters.harmony.chats import Chat, Turn
from exporters.harmony.tokens import Segment, special, text_of
from lake.errors import UsageError

Mode = Literal["training", "history", "prompt"]
INSTRUCTIONS = "# Instructions\n\n"

_CHANNELS = "# Valid channels: analysis, commentary, final. Channel must be included for every message."
_CALLS = "Calls to these tools must go to the commentary channel: 'functions'."
_EFFORTS = ("low", "medium", "high")
_DATE = re.compile(r"\d{4}-\d{2}(-\d{2})?")


class System(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the system message says. Without a date, it tells none: the same rows are the same text on any day.

    Raises UsageError for an effort other than low, medium and high, and for what is no date.
    """

    identity: str = "You are ChatGPT, a large language model trained by OpenAI."
    knowledge_cutoff: str | None = "2024-06"
    date: str | None = None
    effort: str = "medium"

    def __post_init__(self) -> None:
        if self.effort not in _EFFORTS:
            raise UsageError(f"effort cannot be {self.effort!r}", f"it is one of {', '.join(_EFFORTS)}")
        for name, value in (("date", self.date), ("knowledge_cutoff", self.knowledge_cutoff)):
            if value is not None and not _DATE.fullmatch(value):
                raise UsageError(f"{name} cannot be {value!r}", "a date is written 2026-01-31")

    def text(self, *, functions: bool) -> str:
        """The content of the message; `functions` are any that may be called."""
        head = [self.identity]
        head += [f"Knowledge cutoff: {self.knowledge_cutoff}"] if self.knowledge_cutoff else []
        head += [f"Current date: {self.date}"] if self.date else []
        channels = f"{_CHANNELS}\n{_CALLS}" if functions else _CHANNELS
        return "\n\n".join(["\n".join(head), f"Reasoning: {self.effort}", channels])


def render(chat: Chat, mode: Mode = "training", system: System | None = System()) -> str:  # noqa: B008 -- it is frozen
    """A conversation as one string; as a training set in text has it."""
    return text_of(segments(chat, mode, system))


def segments(chat: Chat, mode: Mode = "training", system: System | None = System()) -> list[Segment]:  # noqa: B008
    """A conversation as special tokens and texts.

    For `training`, an answer at the very end ends with `return`, which is what a model has to say then, and what was
    thought on the way to it is there. In a `history` it ends with `end`, and that thinking is forgotten too. A `prompt`
    is a history that ends with `<|start|>assistant`, where the model goes on. Without `system` there is no system
    message.
    """
    return list(_segments(chat, mode, system))


def completion(text: str, thinking: str = "") -> str:
    """What a model answers to a prompt, up to the token that ends its answer."""
    turn = list(_turn(Turn("assistant", text, thinking), thinks=True, end="return"))
    # The prompt ended with the first two of them.
    return text_of(turn[2:])


def _segments(chat: Chat, mode: Mode, system: System | None) -> Iterator[Segment]:
    if system is not None:
        yield from _message("system", system.text(functions=bool(chat.tools)))
    if chat.instructions or chat.tools:
        said = [f"{INSTRUCTIONS}{chat.instructions}"] if chat.instructions else []
        said += [definitions.section(chat.tools)] if chat.tools else []
        yield from _message("developer", "\n\n".join(said))
    forgotten = _forgotten(chat.turns, mode)
    last = len(chat.turns) - 1
    for place, turn in enumerate(chat.turns):
        end = "return" if mode == "training" and place == last and turn.final else "end"
        yield from _turn(turn, thinks=place >= forgotten, end=end)
    if mode == "prompt":
        yield from (special("start"), Segment("assistant"))


def _forgotten(turns: tuple[Turn, ...], mode: Mode) -> int:
    """Before which turn all thinking is forgotten: behind the last answer that somebody has asked on after."""
    upto = len(turns)
    if mode == "training":
        spoke = max((place for place, turn in enumerate(turns) if turn.role == "assistant"), default=0)
        upto = max((place for place, turn in enumerate(turns[:spoke]) if turn.role == "user"), default=0)
    return 1 + max((place for place, turn in enumerate(turns[:upto]) if turn.final), default=-1)


def _turn(turn: Turn, *, thinks: bool, end: str) -> Iterator[Segment]:
    if turn.role == "user":
        yield from _message("user", turn.text)
        return
    if turn.role == "tool":
        yield from _message(f"functions.{turn.name} to=assistant", turn.text, "commentary")
        return
    if thinks and turn.thinking:
        yield from _message("assistant", turn.thinking, "analysis")
    if not turn.calls:
        yield from _message("assistant", turn.text, "final", end)
        return
    if turn.text:
        yield from _message("assistant", turn.text, "commentary")
    for call in turn.calls:
        yield from (special("start"), Segment("assistant"), special("channel"))
        yield from (Segment(f"commentary to=functions.{call.name} "), special("constrain"), Segment("json"))
        yield from (special("message"), Segment(call.arguments), special("call"))


def _message(author: str, text: str, channel: str | None = None, end: str = "end") -> Iterator[Segment]:
    yield from (special("start"), Segment(author))
    if channel is not None:
        yield from (special("channel"), Segment(channel))
    yield special("message")
    if text:
        yield Segment(text)
    yield special(end)
