"""Rows of training sets as token ids, with which of them are learned from: what assistants say, and the end of it.

A conversation becomes text by a chat template, and `{% generation %}` in the template says what the assistant says. Of
what is so marked, that which a prompt for generation holds already, and white space behind the token that ends a turn,
is not learned from: a model that answers would never say it. Documents are learned from as a whole, their end included;
a prompt and its answers are encoded apart, so that no token is of both.

Special tokens are those that the template writes. A text that spells one out is text.

Not here: which template it is (`templates`), text to ids (`encoding`), and what becomes of rows that are too long or
have nothing to learn (`build`).
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, pairwise, takewhile
from typing import Any, NamedTuple

import jinja2
import msgspec
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from lake.errors import LakeError, UsageError
from trainers import templates
from trainers.encoding import Encoder, Marked, Piece
from trainers.shards import Shards
from trainers.spec import FIELDS, KINDS, Kind

Row = Mapping[str, Any]

# Two characters of no meaning stand around what is text, though it spells a special token out.
_PRIVATE = range(0xE000, 0xF900)


class Unrenderable(LakeError):
    """A row of which the chat template makes no text, or one that cannot be taken apart."""


class _Said(NamedTuple):
    """A conversation as text, and where in it the assistant speaks: pairs of places, in order."""

    text: str
    spoken: list[tuple[int, int]]


class Renderer:
    """Renders rows of a kind. Those of a `chat` are conversations, by the tokenizer's own chat template or this one.

    `date` is what a template is told that asks for the day, as 2026-01-31: a clock has no say in what is trained on.
    `literal_rows` counts the rows so far in which a text spells a special token out.
    Raises UsageError where there is no template, or none that says what the assistant says and where it ends.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        kind: Kind,
        *,
        chat: bool,
        template: str | None = None,
        date: str | None = None,
    ) -> None:
        self.kind = kind
        self.encoder = Encoder(tokenizer)
        self.literal_rows = 0
        special = sorted(self.encoder.specials, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, special)) or "(?!)")
        told: Mapping[str, Any] = tokenizer.special_tokens_map  # some are lists
        self._told = {name: token for name, token in sorted(told.items()) if isinstance(token, str)}
        self._template = None
        if chat:
            self._template = templates.dated(templates.chosen(tokenizer, template, learned=kind != "prompt"), date)
        self._opening = ""
        self._opening_ends: list[int] = []
        if self._template is not None and kind != "prompt":
            self._look()

    @property
    def identity(self) -> dict[str, Any]:
        """What the ids of a row depend on, for a key."""
        if self._template is None:
            return {"tokenizer": self.encoder.identity, "template": None, "template_told": None}
        template = _sha256(self._template)
        return {"tokenizer": self.encoder.identity, "template": template, "template_told": self._told}

    def rows(self, rows: Sequence[Row]) -> list[dict[str, Marked]]:
        """The fields of each row, as FIELDS has them for this kind. Raises Unrenderable, with the row's id.

        A row has `messages`; or `text`; or `prompt` and, by its kind, `completion`, or `chosen` and `rejected`: texts,
        or lists of messages. `tools` may be beside them.
        """
        fields = [self._fields(row) for row in rows]
        for of_row in fields:
            pieces = chain.from_iterable(of_row)
            self.literal_rows += any(piece.literal and self._special.search(piece.text) for piece in pieces)
        made = iter(self.encoder.rows(list(chain.from_iterable(fields))))
        return [{name: next(made) for name in FIELDS[self.kind]} for _ in rows]

    def _fields(self, row: Row) -> list[list[Piece]]:
        """The pieces of each field of a row, in the order of FIELDS."""
        if self.kind == "text" and "messages" in row:
            [messages, tools], marks = self._set_apart([row["messages"], row.get("tools")])
            return [_pieces(self._render(row, messages, tools), marks)]
        if self.kind == "text" and "text" in row:
            return [[*self._begin, *self._document(row["text"])]]
        names = [name for name in ("completion", "chosen", "rejected") if name in row and self.kind != "prompt"]
        sides = [row[name] for name in names]
        if isinstance(row["prompt"], str):
            prompt = Piece(row["prompt"], trained=False, literal=True)
            fields = [[*self._begin, prompt], *map(self._document, sides)]
        else:
            fields = self._continued(row, sides)
        return [list(chain.from_iterable(fields))] if self.kind == "text" else fields

    @property
    def _begin(self) -> list[Piece]:
        return [] if self.encoder.bos is None else [Piece(self.encoder.bos, trained=False)]

    def _document(self, text: str) -> list[Piece]:
        return [Piece(text, trained=True, literal=True), Piece(self.encoder.eos, trained=True)]

    def _continued(self, row: Row, sides: Sequence[list[Any]]) -> list[list[Piece]]:
        """The pieces of a prompt that is a conversation, and of what each side adds to it."""
        [prompt, tools, *sides], marks = self._set_apart([row["prompt"], row.get("tools"), *sides])
        before = self._render(row, prompt, tools, prompt=True).text
        fields = [_pieces(_Said(before, []), marks)]
        for side in sides:
            whole, spoken = self._render(row, [*prompt, *side], tools)
            if not whole.startswith(before):
                raise Unrenderable(
                    f"{row['id']}: by this chat template, its conversation does not begin with its prompt",
                    "take a template that writes a turn the same way whatever follows: data.template",
                )
            spoken = [(max(first, len(before)), stop) for first, stop in spoken if stop > len(before)]
            # Nobody learns from what comes behind the end of the last turn, and nothing follows it.
            stop = spoken[-1][1] if spoken else len(whole)
            moved = [(first - len(before), stop - len(before)) for first, stop in spoken]
            fields.append(_pieces(_Said(whole[len(before) : stop], moved), marks))
        return fields

    def _render(self, row: Row, messages: list[Any], tools: Any, *, prompt: bool = False) -> _Said:
        """A conversation as text; a `prompt` ends with what begins an answer."""
        if self._template is None:
            raise Unrenderable(f"{row['id']}: it is a conversation, and texts were told", "report it")
        render: Any = render_jinja_template  # it says that it returns a text, and takes what a template is told
        try:
            [text], spoken = render(
                conversations=[list(map(_message, messages))],
                tools=tools or None,
                chat_template=self._template,
                return_assistant_tokens_mask=self.kind != "prompt",
                add_generation_prompt=prompt,
                **self._told,
            )
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise Unrenderable(
                f"{row['id']}: the chat template makes no text of it: {error}",
                "take another template (data.template), or retract what the row is of",
            ) from None
        return _Said(text, list(self._learned(text, spoken[0] if spoken else [])))

    def _learned(self, text: str, spoken: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Of what the template marks, what a model would say itself."""
        for first, stop in _joined(spoken):
            begin = self._behind_opening(text, first)
            said = text[begin:stop].rstrip()
            end = begin + len(said) if said.endswith(self.encoder.added) else stop
            if begin < end:
                yield begin, end

    def _behind_opening(self, text: str, first: int) -> int:
        """Where an answer begins that is marked from `first` on: behind what begins every answer.

        Where that is there only in part, as in a turn that thinks nothing, behind its last token that is there.
        """
        opening = self._opening
        before = next(k for k in range(min(len(opening), first), -1, -1) if text.startswith(opening[:k], first - k))
        alike = takewhile(
            lambda both: both[0] == both[1],
            zip(opening, text[first - before : first - before + len(opening)], strict=False),
        )
        there = sum(1 for _ in alike)
        if there < len(opening):
            there = max((end for end in self._opening_ends if end <= there), default=0)
        return max(first, first - before + there)

    def _look(self) -> None:
        """See on a conversation how an answer begins, and that every turn ends with a token that is learned."""
        asked = {"role": "user", "content": "a"}
        row = {"id": "a conversation of four turns"}
        answers = ("this", "that")
        turns = [turn for answer in answers for turn in (asked, {"role": "assistant", "content": answer})]
        before, prompt = (self._render(row, [asked], None, prompt=ask).text for ask in (False, True))
        self._opening = prompt.removeprefix(before) if prompt.startswith(before) else ""
        added = re.compile("|".join(map(re.escape, sorted(self.encoder.added, key=len, reverse=True))))
        self._opening_ends = [found.end() for found in added.finditer(self._opening)]
        text, spoken = self._render(row, turns, None)
        said = [text[first:stop] for first, stop in spoken]
        if len(said) != len(answers) or not all(
            answer in one and one.endswith(self.encoder.added) for answer, one in zip(answers, said, strict=True)
        ):
            raise UsageError(
                f"the chat template marks {said} as what the assistant says, and not each turn with its end",
                templates.MARK_IT,
            )

    def _set_apart(self, values: list[Any]) -> tuple[list[Any], re.Pattern[str] | None]:
        """The same, with marks around texts that spell special tokens out; and what finds those, if there are any."""
        texts = "".join(_texts(values))
        if not self._special.search(texts):
            return values, None
        begin, end = [char for char in map(chr, _PRIVATE) if char not in texts][:2]
        marked = _mapped(values, lambda text: self._special.sub(lambda found: f"{begin}{found[0]}{end}", text))
        return marked, re.compile(f"{begin}([^{end}]*){end}|[{begin}{end}]")


def refuse_unfit(shards: Shards, method: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises UsageError where shards are of other fields than a method's, of another tokenizer, or another template.

    The template is the tokenizer's: one that settings name has been made that before.
    """
    if set(shards.fields) != set(FIELDS[KINDS[method]]):
        raise UsageError(
            f"{shards.folder}: it has {', '.join(shards.fields)}, which {method} does not learn from",
            f"'lake shards build' makes what {method} does",
        )
    told = shards.description.made_from.get("tokenizer")
    if told is not None and told != Encoder(tokenizer).identity:
        raise UsageError(
            f"{shards.folder}: another tokenizer made its tokens than {tokenizer.name_or_path or 'the model'} has",
            "name the model that they were built for, or build them for this one: lake shards build",
        )
    _refuse_drift(shards, method, tokenizer)


def _refuse_drift(shards: Shards, method: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises UsageError where a tokenizer has another template than the one that conversations were written by."""
    made_from = shards.description.made_from
    told = made_from.get("template")
    if told is None or tokenizer.chat_template is None:
        return  # they are texts, or come to a model that has no template to begin with
    date = made_from.get("policy", {}).get("harmony", {}).get("date")
    try:
        template = templates.chosen(tokenizer, None, learned=KINDS[method] != "prompt")
        now = _sha256(templates.dated(template, date))
    except UsageError:
        now = None  # those were written by one that can be learned from
    if now != told:
        raise UsageError(
            f"{shards.folder}: another chat template wrote its conversations than "
            f"{tokenizer.name_or_path or 'the model'} has",
            "name the file that they were built with (data.template), or build them again: lake shards build",
        )


def _sha256(template: str) -> str:
    return hashlib.sha256(template.encode()).hexdigest()


def _message(message: Any) -> dict[str, Any]:
    """A message as templates take it: without what is null, its text as one, arguments of calls as objects."""
    if not isinstance(message, dict):
        raise TypeError(f"a message is an object, not {type(message).__name__}")
    said = {name: value for name, value in message.items() if value is not None}
    if isinstance(parts := said.get("content"), list) and all(_is_text(part) for part in parts):
        said["content"] = "".join(part["text"] for part in parts)
    if calls := said.get("tool_calls"):
        said["tool_calls"] = list(map(_call, calls))
    return said


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _call(call: Any) -> Any:
    """A tool call, its arguments an object, as which templates expect what others send as a text of JSON."""
    if not isinstance(call, dict):
        return call
    if isinstance(inner := call.get("function"), dict):
        return {**call, "function": _call(inner)}
    try:
        made = msgspec.json.decode(call["arguments"]) if isinstance(call.get("arguments"), str) else None
    except msgspec.DecodeError:
        made = None
    return {**call, "arguments": made} if isinstance(made, dict) else call


def _joined(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans, one that begins where another ends as one with it."""
    made: list[tuple[int, int]] = []
    for first, stop in spans:
        if made and made[-1][1] == first:
            made[-1] = made[-1][0], stop
        else:
            made.append((first, stop))
    return made


def _pieces(said: _Said, marks: re.Pattern[str] | None) -> list[Piece]:
    """The text in pieces: what is learned and what is not, and what is text though it spells special tokens out."""
    made = []
    cuts = [0, *chain.from_iterable(said.spoken), len(said.text)]
    for number, (first, stop) in enumerate(pairwise(cuts)):
        text = said.text[first:stop]
        # What a pattern with one group splits alternates between what is around it and the group.
        parts = [text] if marks is None else marks.split(text)
        made += [Piece(part, number % 2 == 1, place % 2 == 1) for place, part in enumerate(parts) if part]
    return made


def _texts(value: Any) -> Iterator[str]:
    """Every text in messages and tools, names included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(name)
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """The same messages and tools with every text changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(name): _mapped(inner, change) for name, inner in value.items()}
    return [_mapped(inner, change) for inner in value] if isinstance(value, list) else value
