"""The parameters of the views, as one small struct that travels with every export.

It reaches the SQL as rows of relations, `policy`, `precedence`, `known_files`, `replay_policy`, `replay_protected` and
those that `views.gates` names, never as text.
"""

import math
import re
from datetime import datetime
from typing import Self

import msgspec

from lake.errors import UsageError
from views.gates import Quality

SCHEMES = ("recency", "uniform")
EFFORTS = ("low", "medium", "high")

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


class Replay(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which sections of past training may be drawn again, and how.

    Beyond `max_bytes` of content the sections that were seen last the longest ago are no longer active, `protected` ids
    apart. A share of all, `retention`, is kept for evaluation and never drawn; `retention_seed` chooses it. A draw
    depends on its `scheme`, its `seed` and on `now`, which is when a section was last seen at all unless given.
    Preferences that a program mined are drawn if `auto_mined`.
    """

    max_bytes: int | None = None
    protected: tuple[str, ...] = ()
    retention: float = 0.05
    retention_seed: int = 0
    scheme: str = "recency"
    seed: int = 0
    now: datetime | None = None
    auto_mined: bool = True

    def __post_init__(self) -> None:
        if self.max_bytes is not None and not 0 <= self.max_bytes < 1 << 63:
            raise UsageError(f"max_bytes cannot be {self.max_bytes}", "give bytes, from 0 on, or leave it out")
        if not (math.isfinite(self.retention) and 0 <= self.retention < 1):
            raise UsageError(f"retention cannot be {self.retention}", "it is a share: 0, or less than 1")
        if self.scheme not in SCHEMES:
            raise UsageError(f"there is no scheme {self.scheme!r}", f"the schemes are {' and '.join(SCHEMES)}")
        if self.now is not None and self.now.tzinfo is None:
            raise UsageError("now has no time zone", "write for example 2026-04-23T18:42:11Z")


class Harmony(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the system message of a text in Harmony says: how hard a model is to think, and of what day, if of any."""

    effort: str = "medium"
    date: str | None = None

    def __post_init__(self) -> None:
        if self.effort not in EFFORTS:
            raise UsageError(f"effort cannot be {self.effort!r}", f"it is one of {', '.join(EFFORTS)}")
        if self.date is not None and not _DATE.fullmatch(self.date):
            raise UsageError(f"date cannot be {self.date!r}", "a date is written 2026-01-31")


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may be exported, and how pairs are made.

    `include_partial` lets partially accepted runs into sft; `include_review` lets runs that a person has yet to look at
    into rag and pretrain; `include_completions` lets accepted completions into pretrain. `pairs_per_task` caps the
    valid pairs of a task. `precedence` lists the scorers whose verdict goes before the others', the first one first.
    `known_files`, if given, are the only paths that evidence may name.
    `partial_label` is the label of partially accepted runs in kto, which leaves them out without one. `domain` is the
    only one that the dataset of that name has, `pool` the id of the pool whose prompts are exported. `replay` is about
    sections of past training, `quality` about the gates that rows have to pass, `harmony` about texts in that format.
    """

    include_partial: bool = False
    include_review: bool = False
    include_completions: bool = False
    pairs_per_task: int = 5
    precedence: tuple[str, ...] = ("human",)
    known_files: tuple[str, ...] | None = None
    partial_label: bool | None = None
    domain: str | None = None
    pool: str | None = None
    replay: Replay = Replay()
    quality: Quality = Quality()
    harmony: Harmony = Harmony()

    def __post_init__(self) -> None:
        if not 1 <= self.pairs_per_task <= 1000:
            raise UsageError(f"pairs_per_task cannot be {self.pairs_per_task}", "pairs_per_task can be 1 to 1000")
        if len(set(self.precedence)) < len(self.precedence):
            raise UsageError("precedence names a scorer twice", "name each scorer once")

    def to_json(self) -> bytes:
        """The canonical JSON: every field, in one order."""
        return msgspec.json.encode(self, order="deterministic")

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """The policy that `to_json` wrote. Raises UsageError on an unknown field, a wrong type or value."""
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.DecodeError as error:
            fields = ", ".join(cls.__struct_fields__)
            raise UsageError(f"this is no policy: {error}", f"a policy's fields are {fields}") from None
