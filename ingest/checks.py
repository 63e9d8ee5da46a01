"""What a reader says a row means, checked against the kind: the last door before the lake's own.

A checked event has exactly the kind's columns plus `recorded_at`, in the types of the table. Keys that are no column go
to `extra`. Every problem is found, not only the first.
"""

import difflib
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pyarrow as pa

from ingest.rows import Decoder, Problem, Refused, Values, json_text
from lake import Kind
from lake.kinds import TIMESTAMP

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST = EPOCH + timedelta(microseconds=(1 << 56) - 1)

# What JSON columns must hold, where it is not an object.
_LISTS = {"messages", "spans"}
_FRACTION = re.compile(r"[.,]\d{6}\d*[1-9]")

# What a required column says where nothing is given.
DEFAULTS: dict[str, dict[str, str]] = {
    "evidence": {"role": "executor", "kind": "completion"},
    "scores": {"scorer_version": "1"},
    "tasks": {},
}

Report = Callable[[str, str], None]


class Checker:
    """Checks events of one kind. Not to be shared by threads."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.names = [*kind.columns.names, "recorded_at"]
        self._decoder = Decoder()
        self._times = [name for name in self.names if kind.schema.field(name).type == TIMESTAMP]
        others = [field for field in kind.columns if field.name not in ("extra", *self._times)]
        self._checks = [(field.name, self._check(field)) for field in others]
        self._known = frozenset(self.names)
        self._defaults = tuple(DEFAULTS.get(kind.name, {}).items())

    def check(self, given: Mapping[str, Any], problems: list[Problem]) -> Values | None:
        """The event that a reader's dict says, or None after adding to `problems` everything that is wrong with it."""
        before = len(problems)

        def report(reason: str, message: str) -> None:
            problems.append(Problem(reason, message))

        missing = {name: value for name, value in self._defaults if given.get(name) is None}
        given = {**given, **missing} if missing else given
        event = {name: check(given.get(name), report) for name, check in self._checks}
        precise = {}
        for name in self._times:
            event[name], more = _moment(name, given.get(name), report)
            if more is not None:
                precise[name] = more
        event["extra"] = self._extra(given, precise, report)
        return event if len(problems) == before else None

    def _check(self, field: pa.Field) -> Callable[[Any, Report], Any]:
        name = field.name
        if name in self.kind.enums:
            return partial(_one_of, name, self.kind.enums[name], not field.nullable)
        if name in self.kind.json:
            return partial(self._json, name, list if name in _LISTS else dict)
        if pa.types.is_list(field.type):
            return partial(_texts, name)
        if pa.types.is_floating(field.type):
            return partial(_number, name)
        if pa.types.is_integer(field.type):
            return partial(_integer, name)
        if pa.types.is_boolean(field.type):
            return partial(_boolean, name)
        return partial(_required, name) if not field.nullable else partial(_text, name)

    def _json(self, name: str, shape: type, value: Any, report: Report) -> str | None:
        if value is None:
            return None
        value = self._unpacked(name, value, report)
        if not isinstance(value, shape):
            report("wrong_type", f"{name}: must be {'an array' if shape is list else 'an object'}, or JSON text of one")
            return None
        return _said(name, value, report)

    def _unpacked(self, name: str, value: Any, report: Report) -> Any:
        """What JSON text in a cell says; tables and CSV have no other way to say it."""
        if isinstance(value, str):
            try:
                return self._decoder.parse(value)
            except Refused as refused:
                for problem in refused.problems:
                    report(problem.reason, f"{name}: {problem.message}")
        return value

    def _extra(self, given: Mapping[str, Any], precise: dict[str, str], report: Report) -> str | None:
        unknown = {str(name): value for name, value in given.items() if name not in self._known} | precise
        extra = given.get("extra")
        if extra is not None:
            extra = self._unpacked("extra", extra, report)
            if not isinstance(extra, dict):
                report("wrong_type", "extra: must be an object, or JSON text of one")
            elif unknown.keys() & extra.keys():
                # Neither may hide the other.
                unknown["extra"] = extra
            else:
                unknown |= extra
        # In order, so that the same content has the same id; what is inside keeps its own order.
        return _said("extra", dict(sorted(unknown.items())), report) if unknown else None


def _text(name: str, value: Any, report: Report) -> str | None:
    if value is not None and not isinstance(value, str):
        report("wrong_type", f"{name}: must be text, and is {_shown(value)}")
        return None
    return value


def _required(name: str, value: Any, report: Report) -> str | None:
    if value is None:
        report("missing_field", f"{name}: is missing")
    elif isinstance(value, str) and not value.strip():
        report("blank_field", f"{name}: is blank")
    return _text(name, value, report)


def _one_of(name: str, allowed: tuple[str, ...], required: bool, value: Any, report: Report) -> str | None:
    value = (_required if required else _text)(name, value, report)
    if value is not None and value not in allowed and value.strip():
        near = difflib.get_close_matches(value.strip().lower(), allowed, 1, 0.5)
        advice = f"; did you mean {near[0]!r}?" if near else ""
        report("unknown_value", f"{name}: {_shown(value)} is not one of {', '.join(allowed)}{advice}")
    return value


def _texts(name: str, value: Any, report: Report) -> list[str] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        report("wrong_type", f"{name}: must be a list of texts, and is {_shown(value)}")
        return None
    for number, item in enumerate(value):
        if not isinstance(item, str):
            report("wrong_type", f"{name}[{number}]: must be text, and is {_shown(item)}")
    return list(value)


def _number(name: str, value: Any, report: Report) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        report("wrong_type", f"{name}: must be a number, and is {_shown(value)}")
        return None
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        report("not_finite", f"{name}: must be a finite number")
    elif number != value:
        report("number_out_of_range", f"{name}: {value} cannot be kept exactly as a 64-bit number")
    return number


def _integer(name: str, value: Any, report: Report) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        report("wrong_type", f"{name}: must be a whole number, and is {_shown(value)}")
        return None
    if not -(1 << 63) <= value < 1 << 63:
        report("number_out_of_range", f"{name}: {value} is beyond 64 bits")
        return None
    return value


def _boolean(name: str, value: Any, report: Report) -> bool | None:
    if value is not None and not isinstance(value, bool):
        report("wrong_type", f"{name}: must be true or false, and is {_shown(value)}")
        return None
    return value


def _moment(name: str, value: Any, report: Report) -> tuple[datetime | None, str | None]:
    """A time in UTC and, where the lake's microseconds cannot say all of it, the text that does."""
    if value is None:
        return None, None
    moment = value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            report("bad_time", f"{name}: {_shown(value)} is no ISO 8601 time, such as 2026-01-31T23:59:59Z")
            return None, None
    if not isinstance(moment, datetime):
        report("wrong_type", f"{name}: must be an ISO 8601 text, and is {_shown(value)}")
        return None, None
    try:
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:
        moment = LAST + timedelta(microseconds=1)
    if not EPOCH <= moment <= LAST:
        report("bad_time", f"{name}: {_shown(str(value))} is not between the years 1970 and 4253")
        return None, None
    precise = value if isinstance(value, str) and _FRACTION.search(value) else None
    return moment, precise


def _said(name: str, value: Any, report: Report) -> str | None:
    """JSON text of a value, which a reader of somebody's own may have made of anything."""
    try:
        text = json_text(value)
        text.encode()
    except RecursionError:
        report("too_deep", f"{name}: is nested too deep")
    except (TypeError, ValueError) as error:
        report("wrong_type", f"{name}: cannot be said in JSON: {error}")
    else:
        return text
    return None


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
