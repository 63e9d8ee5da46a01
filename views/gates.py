"""Which gates a training set has to pass, and what they are held to: the part of the policy that is about quality.

It reaches the SQL as rows of `quality_policy`, `eval_splits`, `allowed_languages` and `known_licences`, never as text.
"""

from collections.abc import Mapping

import msgspec

from lake.errors import UsageError

GATES = (
    "contamination",
    "pii",
    "licence",
    "language",
    "length",
    "exact-duplicate",
    "near-duplicate",
)

ALLOWED = (
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC-BY-4.0",
    "CC-BY-SA-4.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unlicense",
)
DENIED = ("AGPL", "BUSL", "CC-BY-NC", "CC-BY-ND", "GPL", "SSPL")


class Quality(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The gates that are shut, by name; none unless they are asked for.

    `contamination` bars what overlaps the registered eval tasks, those whose split is one of `eval_splits`, and what
    has not been compared with them. `pii` bars what holds personal data or secrets; `language` what is in none of
    `languages`. `length` bars answers of fewer than `min_words` or more than `max_words`. `licence` bars what names a
    licence (SPDX) that is not among `licences`, or begins as one of `denied_licences` does; without `licences`, all
    others pass. `exact-duplicate` and `near-duplicate` keep one of those that say the same.
    """

    gates: tuple[str, ...] = ()
    eval_splits: tuple[str, ...] = ("eval", "test")
    languages: tuple[str, ...] = ()
    min_words: int = 50
    max_words: int = 10_000
    licences: tuple[str, ...] = ALLOWED
    denied_licences: tuple[str, ...] = DENIED

    def __post_init__(self) -> None:
        for gate in self.gates:
            if gate not in GATES:
                raise UsageError(f"there is no gate {gate!r}", f"the gates are {', '.join(GATES)}")
        if not 0 <= self.min_words <= self.max_words:
            raise UsageError(f"no answer has {self.min_words} to {self.max_words} words", "min_words is 0 to max_words")
        if "language" in self.gates and not self.languages:
            raise UsageError("the gate 'language' lets nothing through", "name languages, for example en")

    @property
    def tables(self) -> dict[str, tuple[str, list[tuple[object, ...]]]]:
        """What the views read: by table its columns, as SQL, and its rows."""
        shut = [gate in self.gates for gate in GATES]
        columns = ", ".join(f"{gate.replace('-', '_')} boolean" for gate in GATES)
        return {
            "quality_policy": (
                f"{columns}, min_words bigint, max_words bigint, allow_unknown boolean",
                [(*shut, self.min_words, self.max_words, not self.licences)],
            ),
            "eval_splits": ("split varchar", [(name,) for name in dict.fromkeys(self.eval_splits)]),
            "allowed_languages": ("language varchar", [(name,) for name in dict.fromkeys(self.languages)]),
            "known_licences": (
                "licence varchar, is_denied boolean",
                [
                    *((name.upper(), False) for name in dict.fromkeys(self.licences)),
                    *((name.upper(), True) for name in dict.fromkeys(self.denied_licences)),
                ],
            ),
        }


_NOTHING = "select cast(null as varchar) as {key}, cast(null as varchar) as errors where false"
_BARRED = {
    "gate_faults": "event_id",
    "barred_tasks": "task_id",
    "barred_prompts": "event_id",
    "barred_sections": "section_id",
}


def as_they_stand(sql: Mapping[str, str], quality: Quality) -> dict[str, str]:
    """The relations, as the gates stand: with every gate open nothing is barred, and nobody has to work that out."""
    if quality.gates:
        return dict(sql)
    return {**sql, **{name: _NOTHING.format(key=key) for name, key in _BARRED.items() if name in sql}}
