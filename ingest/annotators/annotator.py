"""What an annotator is: it looks at events, each on its own or against what it knows, and says what it finds.

An annotator is pure: the same events, known ones and settings give the same findings. It has a version, which changes
when what it finds does; settings other than the default are part of the version under which its findings are kept.

Not here: which events are looked at, and how findings become events (`annotating`); what bars a row (the views).
"""

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

__all__ = ["Annotator", "Field", "Finding", "Known", "Look", "Span", "Target", "fields_of"]

SPANS = 100  # that a finding names at most

# What says how a turn or a call is made, and is no text of anybody's.
_FORMAL = frozenset({"role", "type", "id", "tool_call_id", "call_id"})


class Known(enum.Enum):
    """What an annotator has to know before it looks at anything."""

    nothing = "nothing"
    kept = "kept"  # the events that it has kept before
    eval_tasks = "eval tasks"


class Field(NamedTuple):
    """One text of an event, and where in the event it is: a column, or a place in the JSON of one."""

    name: str
    text: str


class Target(msgspec.Struct, frozen=True):
    """An event that is looked at: its kind, its texts, and what was asked where it does not say so itself."""

    event_id: str
    kind: str
    run_id: str | None
    task_id: str | None
    fields: tuple[Field, ...]
    asked: str | None = None


class Span(NamedTuple):
    """Characters [start, end) of a field, and what is there."""

    start: int
    end: int
    field: str
    what: str


class Finding(msgspec.Struct, frozen=True):
    """What is found of an event. An annotator's own file says what its labels and values mean."""

    label: str | None = None
    value: float | None = None
    spans: tuple[Span, ...] = ()
    extra: dict[str, Any] | None = None


Look = Callable[[Sequence[Target]], Iterable[Finding]]


class Annotator(Protocol):
    """One way to look at events.

    `digest` is None where the settings are the default ones.
    """

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def version(self) -> str:
        """Its version, settings apart."""
        ...

    @property
    def digest(self) -> str | None:
        """What tells its settings from others."""
        ...

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of event that it looks at."""
        ...

    @property
    def known(self) -> Known:
        """What it has to know first."""
        ...

    def over(self, known: Iterable[Target], /) -> Look:
        """How to look at events, in their order, given the known ones: one finding for each."""
        ...


_TEXTS = ("prompt", "description", "starter_code", "section", "text", "tests", "answer")
_JSON = ("messages", "extra")


def fields_of(row: Mapping[str, Any]) -> tuple[Field, ...]:
    """Every text of a row of the lake that is not blank, those in JSON too."""
    found = [Field(name, row[name]) for name in _TEXTS if row.get(name) is not None]
    for name in _JSON:
        if row.get(name) is not None:
            found += _leaves(name, _read(row[name]))
    return tuple(field for field in found if field.text.strip())


def _read(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _leaves(path: str, value: object) -> Iterator[Field]:
    if isinstance(value, str):
        yield Field(path, value)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key not in _FORMAL:
                yield from _leaves(f"{path}/{key}", inner)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _leaves(f"{path}/{place}", inner)
