"""The shapes of training rows, and what is wrong with a row that should be of one: ours or anybody's, row by row.

A shape is what a trainer reads: `messages`; `prompt`, `chosen`, `rejected`; `input_ids`; and so on. A side of a prompt
or of a pair is a text or a list of turns {role, content}. Columns that a shape does not name are nobody's business.

Not here: reading files (`reading`), and the checks over whole columns that an export makes of its own rows (`faults`).
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from lake.errors import UsageError

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
INT32_MAX = 2**31 - 1

Row = Mapping[str, object]
Found = tuple[str | None, str]

_MISSING = "missing field"
_EMPTY = "empty after stripping"
_IGNORED_LABEL = -100


class Limits(msgspec.Struct):
    """What a whole set has to keep to: ids below `vocabulary`, rows of `length` ids (the first row's, once seen)."""

    vocabulary: int | None = None
    length: int | None = None


@dataclass(frozen=True)
class Shape:
    """A shape: the columns that it needs, and the check of a row that has them all.

    A row that has one of `told_by`, and all of `with_`, is taken to be meant as one.
    """

    name: str
    fields: tuple[str, ...]
    told_by: tuple[str, ...]
    check: Callable[[Row, Limits], Found | None]
    with_: tuple[str, ...] = ()


def row_problem(row: object, shape: str, limits: Limits | None = None) -> Found | None:
    """The place, and why, a row is not one of a shape of SHAPES; None if it is."""
    if not isinstance(row, dict):
        return None, "a row must be an object"
    made = SHAPES[shape]
    for name in made.fields:
        if row.get(name) is None:
            return name, _MISSING
    return made.check(row, limits if limits is not None else Limits())


def shape_of(row: Row, among: Iterable[str] = ()) -> str | None:
    """The shape that the columns of a row tell, out of those named; None where they tell none."""
    wanted = tuple(among) or tuple(SHAPES)
    for name in wanted:
        shape = SHAPES[name]
        # A task that may be measured by an answer is one to measure with.
        if name == "grpo" and "answer" in row:
            continue
        if any(column in row for column in shape.told_by) and all(column in row for column in shape.with_):
            return name if name != "preference" or "prompt" in row else "preference-implicit"
    return None


def shapes_named(name: str) -> tuple[str, ...]:
    """The shapes that a name means: one of SHAPES, or those of a dataset. Raises UsageError."""
    found = FAMILIES.get(name, (name,) if name in SHAPES else ())
    if not found:
        known = ", ".join(dict.fromkeys([*FAMILIES, *SHAPES]))
        raise UsageError(f"there is no shape {name!r}", f"the shapes are {known}")
    return found


def said(side: object) -> object:
    """What two sides are compared by: a text, and likewise the turns of a list, without the space around it."""
    if isinstance(side, str):
        return side.strip()
    if isinstance(side, list):
        return [said(part) for part in side]
    return {name: said(value) for name, value in side.items()} if isinstance(side, dict) else side


def begin_alike(chosen: list[object], rejected: list[object]) -> int:
    """How many turns two conversations have in common at their beginning."""
    count = 0
    for one, other in zip(chosen, rejected, strict=False):
        if said(one) != said(other):
            break
        count += 1
    return count


def _texts(*names: str) -> Callable[[Row, Limits], Found | None]:
    return lambda row, _: _first(_text(row[name], name) for name in names)


def _first(found: Iterable[Found | None]) -> Found | None:
    return next((one for one in found if one is not None), None)


def _text(value: object, place: str) -> Found | None:
    if not isinstance(value, str):
        return place, "must be a string"
    # Looks no further than the first character that is no space.
    return (place, _EMPTY) if not value or value.isspace() else None


def _side(value: object, place: str) -> Found | None:
    if isinstance(value, list):
        return turns_problem(value, place, ends=None if place == "prompt" else "assistant")
    return _text(value, place) if isinstance(value, str) else (place, "must be a string or a list")


def turns_problem(turns: object, place: str, *, ends: str | None = "assistant") -> Found | None:
    """What is wrong with a list of turns; the last must be of the role `ends`, and must say or call something."""
    if not isinstance(turns, list):
        return place, "must be a list"
    if not turns:
        return place, "must be a list of at least one turn"
    for number, turn in enumerate(turns):
        if found := _turn_problem(turn, f"{place}[{number}]"):
            return found
    last = turns[-1]
    # A prompt may end with a user, with what a tool said, or be a system's alone.
    if ends is not None and last["role"] != ends:
        return f"{place}[{len(turns) - 1}].role", f"must be {ends} in the last turn"
    content = last.get("content")
    if not (content.strip() if isinstance(content, str) else content) and not last.get("tool_calls"):
        return f"{place}[{len(turns) - 1}].content", _EMPTY
    return None


def _turn_problem(turn: object, place: str) -> Found | None:
    if not isinstance(turn, dict):
        return place, "must be an object"
    role, content = turn.get("role"), turn.get("content")
    if role is None:
        return f"{place}.role", _MISSING
    if role not in ROLES:
        return f"{place}.role", f"must be one of {', '.join(ROLES)}"
    if isinstance(content, str):
        return None
    if content is None and not turn.get("tool_calls"):
        return f"{place}.content", _MISSING
    return None if isinstance(content, list | None) else (f"{place}.content", "must be a string or a list")


def _messages(row: Row, _: Limits) -> Found | None:
    return turns_problem(row["messages"], "messages")


def _prompt_completion(row: Row, _: Limits) -> Found | None:
    return _first(_side(row[name], name) for name in ("prompt", "completion")) or _kinds(row, "completion")


def _kinds(row: Row, *names: str) -> Found | None:
    kind = "list" if isinstance(row["prompt"], list) else "string"
    for name in names:
        if isinstance(row[name], list) != (kind == "list"):
            return name, f"must be a {kind}, as 'prompt' is"
    return None


def _preference(row: Row, _: Limits) -> Found | None:
    names = ("prompt", "chosen", "rejected")
    found = _first(_side(row[name], name) for name in names) or _kinds(row, "chosen", "rejected")
    return found or _same(row) or _first(_repeated(row, name) for name in ("chosen", "rejected"))


def _same(row: Row) -> Found | None:
    same = said(row["chosen"]) == said(row["rejected"])
    return ("rejected", "the same text as 'chosen' after stripping") if same else None


def _repeated(row: Row, name: str) -> Found | None:
    """A side that holds the prompt again, which a trainer that puts the two together would say twice."""
    prompt, side = row["prompt"], row[name]
    if isinstance(prompt, list) and isinstance(side, list):
        return (name, "repeats the prompt") if begin_alike(prompt, side) == len(prompt) else None
    # A completion may well begin as its prompt does; the markers of a turn it does not begin with.
    marked = isinstance(prompt, str) and any(mark in prompt for mark in _TURN_MARKS)
    return (name, "repeats the prompt") if marked and str(side).startswith(str(prompt)) else None


_TURN_MARKS = ("<|start|>", "<|im_start|>", "<|start_header_id|>", "Human:", "<|user|>")


def _implicit(row: Row, _: Limits) -> Found | None:
    chosen, rejected = row["chosen"], row["rejected"]
    found = _first(_side(row[name], name) for name in ("chosen", "rejected"))
    if found or type(chosen) is not type(rejected):
        return found or ("rejected", "must be of the type that 'chosen' is")
    if found := _same(row):
        return found
    if isinstance(chosen, list) and isinstance(rejected, list):
        return _apart(chosen, rejected)
    return _texts_apart(str(chosen), str(rejected))


def _apart(chosen: list[dict[str, object]], rejected: list[dict[str, object]]) -> Found | None:
    """Where two conversations part, it has to be the assistant who says something else, after some prompt."""
    common = begin_alike(list(chosen), list(rejected))
    for name, turns in (("chosen", chosen), ("rejected", rejected)):
        if common == len(turns):
            return name, "has nothing after what both begin with"
    if common == 0 or chosen[common]["role"] != "assistant" or rejected[common]["role"] != "assistant":
        return f"rejected[{common}]", f"the prompts differ: not turn {common} of 'chosen'"
    return None


def _texts_apart(chosen: str, rejected: str) -> Found | None:
    first, second = prompt_of(chosen), prompt_of(rejected)
    if first is not None and second is not None:
        differ = "the prompts differ: up to the last 'Assistant:' not as 'chosen'"
        return None if first == second else ("rejected", differ)
    # Without turns, as in "The sky is blue.", "The sky is green.": there is a word that both begin with.
    return (
        None
        if chosen.split(None, 1)[0] == rejected.split(None, 1)[0]
        else ("prompt", "missing field, and 'chosen' and 'rejected' do not begin alike")
    )


def prompt_of(text: str) -> str | None:
    """What comes before an answer in a text of HH-RLHF: all up to its last `Assistant:`; None where there is none."""
    before, mark, _ = text.rpartition("Assistant:")
    return before + mark if mark and not before.isspace() and before else None


def _kto(row: Row, limits: Limits) -> Found | None:
    found = _prompt_completion(row, limits)
    return found or (None if isinstance(row["label"], bool) else ("label", "must be true or false"))


def _ipo(row: Row, limits: Limits) -> Found | None:
    margin = row["margin"]
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not math.isfinite(margin):
        return "margin", "must be a number"
    return _preference(row, limits)


def _pretrain(row: Row, limits: Limits) -> Found | None:
    ids = row["input_ids"]
    if not isinstance(ids, list):
        return "input_ids", "must be a list"
    if not ids:
        return "input_ids", "must be a list of at least one token id"
    if found := _ids_problem(ids, limits.vocabulary):
        return found
    limits.length = limits.length or len(ids)
    if len(ids) != limits.length:
        return "input_ids", f"must be {limits.length} token ids as in the first row, not {len(ids)}"
    for name in ("labels", "attention_mask", "position_ids"):
        beside = row.get(name)
        if beside is not None and (not isinstance(beside, list) or len(beside) != len(ids)):
            return name, f"must be a list of {len(ids)}, one for each of input_ids"
    labels = row.get("labels")
    if isinstance(labels, list):
        wrong = (place for place, label in enumerate(labels) if label not in {ids[place], _IGNORED_LABEL})
        return next(((f"labels[{place}]", "must be the token id, or -100") for place in wrong), None)
    return None


def _ids_problem(ids: list[object], vocabulary: int | None) -> Found | None:
    if set(map(type, ids)) != {int}:
        place = next(place for place, value in enumerate(ids) if type(value) is not int)
        return f"input_ids[{place}]", "must be an integer"
    numbers: list[int] = [value for value in ids if isinstance(value, int)]
    upper = INT32_MAX + 1 if vocabulary is None else vocabulary
    if min(numbers) >= 0 and max(numbers) < upper:
        return None
    place = next(place for place, value in enumerate(numbers) if not 0 <= value < upper)
    return f"input_ids[{place}]", id_problem(numbers[place], vocabulary)


def id_problem(value: int, vocabulary: int | None) -> str:
    """What is wrong with a token id that is out of range."""
    if vocabulary is not None and value >= 0:
        return f"token id {value} out of vocabulary: it has {vocabulary}"
    return f"token id {value} out of range: 0 to {INT32_MAX}"


def _mutation(row: Row, limits: Limits) -> Found | None:
    names = ("buggy_code", "error_message", "fixed_code", "repo", "file")
    found = _texts(*names)(row, limits)
    same = said(row["buggy_code"]) == said(row["fixed_code"])
    return found or (("fixed_code", "the same text as 'buggy_code' after stripping") if same else None)


def _task(row: Row, limits: Limits) -> Found | None:
    if found := _texts("description")(row, limits) or _tests(row["tests"]):
        return found
    starter = row.get("starter_code")
    if starter is not None and not isinstance(starter, str):
        return "starter_code", "must be a string"
    prompt = row.get("prompt")
    return None if prompt is None else _side(prompt, "prompt")


def _measured(row: Row, limits: Limits) -> Found | None:
    tests, answer = row.get("tests"), row.get("answer")
    if tests is None and answer is None:
        return "tests", "missing field, and so is 'answer'"
    # A text that a task does not have may be there, as an empty one.
    if tests is None or (tests == "" and answer):
        return _texts("description", "answer")(row, limits)
    return _task(row, limits)


def _tests(tests: object) -> Found | None:
    # A task whose tests are empty is passed by anything.
    if isinstance(tests, list):
        return _first(_text(test, f"tests[{n}]") for n, test in enumerate(tests)) if tests else ("tests", _EMPTY)
    return _text(tests, "tests") if isinstance(tests, str) else ("tests", "must be a string or a list")


def _prompts(row: Row, _: Limits) -> Found | None:
    return _side(row["prompt"], "prompt")


def _trajectory(row: Row, _: Limits) -> Found | None:
    messages = row["messages"]
    if found := turns_problem(messages, "messages", ends=None):
        return found
    assert isinstance(messages, list)
    asked: set[object] = set()
    for number, turn in enumerate(messages):
        place = f"messages[{number}]"
        calls = turn.get("tool_calls") or []
        if not isinstance(calls, list):
            return f"{place}.tool_calls", "must be a list"
        for at, call in enumerate(calls):
            if found := _call_problem(call, f"{place}.tool_calls[{at}]"):
                return found
            asked.add(call.get("id"))
        answered = turn.get("tool_call_id")
        if turn["role"] == "tool" and answered is not None and answered not in asked:
            return f"{place}.tool_call_id", f"{answered!r} answers no call before it"
    return None


def _call_problem(call: object, place: str) -> Found | None:
    if not isinstance(call, dict):
        return place, "must be an object"
    function = call.get("function", call)
    if not isinstance(function, dict):
        return f"{place}.function", "must be an object"
    where = f"{place}.function" if "function" in call else place
    if function.get("name") is None:
        return f"{where}.name", _MISSING
    if found := _text(function["name"], f"{where}.name"):
        return found
    arguments = function.get("arguments")
    if arguments is None:
        return f"{where}.arguments", _MISSING
    if isinstance(arguments, str):
        try:
            arguments = msgspec.json.decode(arguments)
        except (msgspec.DecodeError, RecursionError):
            return f"{where}.arguments", "must be an object, or the JSON text of one"
    return None if isinstance(arguments, dict) else (f"{where}.arguments", "must be an object, or the JSON text of one")


def _shapes(*made: Shape) -> dict[str, Shape]:
    return {shape.name: shape for shape in made}


# In the order in which they are looked for: a row of one may have the columns of a later one too.
SHAPES = _shapes(
    Shape("ipo", ("prompt", "chosen", "rejected", "margin"), ("chosen", "rejected"), _ipo, ("margin", "prompt")),
    Shape("preference", ("prompt", "chosen", "rejected"), ("chosen", "rejected"), _preference),
    Shape("preference-implicit", ("chosen", "rejected"), (), _implicit),
    Shape("kto", ("prompt", "completion", "label"), ("completion",), _kto, ("label",)),
    Shape("messages", ("messages",), ("messages",), _messages),
    Shape("trajectory", ("messages",), (), _trajectory),
    Shape("prompt-completion", ("prompt", "completion"), ("completion",), _prompt_completion),
    Shape("grpo", ("description", "starter_code", "tests"), ("starter_code",), _task),
    Shape("eval", ("description",), ("tests", "answer"), _measured, ("description",)),
    Shape(
        "mutations",
        ("buggy_code", "error_message", "fixed_code", "repo", "file"),
        ("buggy_code", "fixed_code"),
        _mutation,
    ),
    Shape("instruction", ("instruction", "response"), ("response",), _texts("instruction", "response")),
    Shape("alpaca", ("instruction", "output"), ("output", "instruction"), _texts("instruction", "output")),
    Shape("pretrain", ("input_ids",), ("input_ids",), _pretrain),
    Shape("document", ("content",), ("content",), _texts("content")),
    Shape("text", ("text",), ("text",), _texts("text")),
    Shape("prompts", ("prompt",), ("prompt",), _prompts),
)
# What a dataset's name means: the first of these that a row tells, and the first of all if it tells none.
FAMILIES = {
    "sft": ("messages", "prompt-completion", "instruction", "alpaca", "text"),
    "preference": ("preference",),
    "rag": ("document",),
    "domain": ("messages", "text"),
    "pretrain": ("pretrain", "text"),
    "trajectories": ("trajectory", "text"),
    "mutations": ("mutations", "messages"),
}
# Columns that every shape reads as text, however much their values look like something else.
TEXTS = frozenset(
    {
        *("text", "prompt", "completion", "chosen", "rejected", "content", "system"),
        *("instruction", "context", "response", "input", "output"),
        *("buggy_code", "error_message", "fixed_code", "repo", "file", "description", "starter_code", "tests"),
    }
)
