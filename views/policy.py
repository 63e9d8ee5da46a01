"""The parameters of the views, as one small struct that travels with every export.

It reaches the SQL as rows of three relations, `policy`, `precedence` and `known_files`, never as text.
"""

from typing import Self

import msgspec

from lake.errors import UsageError


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may be exported, and how pairs are made.

    `include_partial` lets partially accepted runs into sft; `include_review` lets runs that a person has yet to look at
    into rag. `pairs_per_task` caps the valid pairs of a task. `precedence` lists the scorers whose verdict goes before
    the others', the first one first. `known_files`, if given, are the only paths that evidence may name.
    """

    include_partial: bool = False
    include_review: bool = False
    pairs_per_task: int = 5
    precedence: tuple[str, ...] = ("human",)
    known_files: tuple[str, ...] | None = None

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
