"""The scorer `verdict-markers`: verdicts from what evidence already says of itself, by rules in a file.

Streams carry markers ("accepted_on_attempt_2"), an observer's verdict, a severity, counts, a latency. A configuration
gives each stream a class, and rules over these fields; the first rule that holds gives category and reason. The one
shipped, `distillation.toml`, is for the streams of a distillation pipeline; write your own for yours.

Evidence of a stream that the file does not name, or that no rule fits, is not scored.
"""

import fnmatch
import re
from pathlib import Path
from typing import Any, Literal

import msgspec

from ingest.scorers import configuration
from ingest.scorers.scorer import Evidence, NotScored, Task, Verdict

EXAMPLE = Path(__file__).with_name("distillation.toml")
REASON_CHARACTERS = 200


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one field must be. All tests that are given must hold.

    `equals` and `one_of` compare text, case aside, and numbers. `has` is a pattern (`*`, `?`) that an item of a list
    fits, or a key of an object with a true value, or the text itself. `blank` asks for nothing (null, "", [], {},
    white space) or for something. `number` is a regular expression whose first group is the number to compare; without
    it the field's value is. `above`, `below`, `at_least` and `at_most` compare it.
    """

    field: str
    equals: str | int | float | bool | None = None
    one_of: tuple[str | int | float, ...] | None = None
    has: str | None = None
    blank: bool | None = None
    number: str | None = None
    above: float | None = None
    below: float | None = None
    at_least: float | None = None
    at_most: float | None = None


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A verdict for the rows of one stream or one class where all conditions hold.

    `{value}` and `{number}` in the reason stand for what the last condition found.
    """

    category: Literal["accepted", "partially_accepted", "rejected", "needs_human_review"]
    reason: str
    stream: str | None = None
    class_: str | None = msgspec.field(default=None, name="class")
    when: tuple[Condition, ...] = ()


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`classes` maps a class to the streams in it, which may be patterns. Rules are tried in their order."""

    rules: tuple[Rule, ...]
    version: str | None = None
    classes: dict[str, tuple[str, ...]] = {}


class VerdictMarkers:
    """Tries the rules of a configuration."""

    name = "verdict-markers"
    uses_task = False
    workers = 1

    def __init__(self, options: Options, digest: str | None, file: str = "the configuration") -> None:
        self.version = options.version
        self.digest = digest if options.version is None else None
        self.options = options
        for place, rule in enumerate(options.rules):
            _check(rule, options, f"{file}: rules[{place}]")

    @classmethod
    def read(cls, path: Path = EXAMPLE) -> "VerdictMarkers":
        """The scorer of a configuration file, whose digest is the version if it names none."""
        text = configuration.content(path)
        options = configuration.decoded(text, Options, str(path), toml=path.suffix != ".json")
        return cls(options, configuration.digest(text), str(path))

    def __call__(self, evidence: Evidence, _task: Task | None) -> Verdict | NotScored:
        """The verdict on one run."""
        stream = evidence.get("stream")
        if not stream:
            return NotScored("the evidence names no stream")
        class_ = self.class_of(stream)
        for rule in self.options.rules:
            if rule.stream == stream or (rule.class_ is not None and rule.class_ == class_):
                found = held(rule, evidence)
                if found is not None:
                    return Verdict(rule.category, (filled(rule.reason, found),))
        return NotScored(f"no rule fits stream {stream}")

    def class_of(self, stream: str) -> str | None:
        """The class of a stream, if it has one."""
        for name, streams in self.options.classes.items():
            if any(fnmatch.fnmatchcase(stream, pattern) for pattern in streams):
                return name
        return None


def held(rule: Rule, evidence: Evidence) -> dict[str, str] | None:
    """What a rule's conditions found, or None if one of them does not hold."""
    found: dict[str, str] = {}
    for condition in rule.when:
        one = fits(condition, value_at(evidence, condition.field))
        if one is None:
            return None
        found |= one
    return found


def value_at(evidence: Evidence, path: str) -> Any:
    """A field by its dotted path: a column, a key of `extra`, or of `extra.metadata`; else None."""
    extra = evidence.get("extra")
    metadata = extra.get("metadata") if isinstance(extra, dict) else None
    for place in (evidence, extra, metadata):
        value: Any = place
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            return value
    return None


def fits(condition: Condition, value: Any) -> dict[str, str] | None:
    """What a condition found in a value ("value", "number"), or None if it does not hold."""
    found = {"value": _shown(value)}
    if condition.blank is not None and condition.blank != _is_blank(value):
        return None
    if condition.equals is not None and not _same(value, condition.equals):
        return None
    if condition.one_of is not None and not any(_same(value, one) for one in condition.one_of):
        return None
    if condition.has is not None:
        item = next((one for one in _items(value) if fnmatch.fnmatchcase(one, condition.has)), None)
        if item is None:
            return None
        found["value"] = item
    bounds = (condition.above, condition.below, condition.at_least, condition.at_most)
    if condition.number is None and bounds == (None, None, None, None):
        return found
    number = _number(value, condition.number)
    if number is None or not _within(number, condition):
        return None
    return found | {"number": f"{number:g}"}


def _within(number: float, condition: Condition) -> bool:
    return (
        (condition.above is None or number > condition.above)
        and (condition.below is None or number < condition.below)
        and (condition.at_least is None or number >= condition.at_least)
        and (condition.at_most is None or number <= condition.at_most)
    )


def _number(value: Any, pattern: str | None) -> float | None:
    """The number that a value is, or that the first of its items to match holds; a list counts as its length."""
    if pattern is not None:
        match = next((m for m in (re.fullmatch(pattern, item) for item in _items(value)) if m), None)
        value = match[1] if match else None
    elif isinstance(value, list):
        value = len(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _items(value: Any) -> list[str]:
    if isinstance(value, list):
        return [str(one) for one in value]
    if isinstance(value, dict):
        return [str(key) for key, one in value.items() if one]
    return [] if value is None else [str(value)]


def _same(value: Any, wanted: str | float) -> bool:
    if isinstance(value, str) and isinstance(wanted, str):
        return value.strip().lower() == wanted.strip().lower()
    return isinstance(value, bool) == isinstance(wanted, bool) and bool(value == wanted)


def _is_blank(value: Any) -> bool:
    return value in (None, [], {}) or (isinstance(value, str) and not value.strip())


def _shown(value: Any) -> str:
    return ", ".join(_items(value)) if isinstance(value, list | dict) else str(value)


def filled(reason: str, found: dict[str, str]) -> str:
    """A reason with what was found in the place of {value} and {number}."""
    text = configuration.PLACEHOLDER.sub(lambda match: found.get(match[1], match[0]), reason)
    return text[:REASON_CHARACTERS]


def _check(rule: Rule, options: Options, where: str) -> None:
    """Raise BadConfiguration for a rule that can never hold, or that cannot be tried."""
    wrong = configuration.BadConfiguration
    if (rule.stream is None) == (rule.class_ is None):
        raise wrong(f"{where} names {'neither' if rule.stream is None else 'both'} of stream and class", "name one")
    if rule.class_ is not None and rule.class_ not in options.classes:
        raise wrong(f"{where}.class: there is no class {rule.class_!r}", f"classes has {', '.join(options.classes)}")
    if not rule.reason.strip():
        raise wrong(f"{where}.reason is blank", "say why, in a line")
    for place, condition in enumerate(rule.when):
        here = f"{where}.when[{place}]"
        if all(value is None for value in msgspec.structs.asdict(condition).values() if value != condition.field):
            raise wrong(f"{here} asks nothing of {condition.field}", "add equals, one_of, has, blank or a bound")
        try:
            groups = re.compile(condition.number).groups if condition.number is not None else 1
        except re.error as error:
            raise wrong(f"{here}.number is no regular expression: {error}", "mend it") from None
        if not groups:
            raise wrong(f"{here}.number has no group", "put ( ) around the number")
