"""Text as token ids, by the tokenizer of a model that transformers loaded: piece by piece, so that no token straddles.

A conversation is encoded in pieces that are learned from and pieces that are not, each by itself: a model that answers
is given the prompt's tokens and adds its own, so no token ever stands across that boundary. A text that spells a
special token out is text and no token, unless the chat template wrote it.

Not here: which pieces a conversation has (`rendering`).
"""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import tokenizers
from transformers import PreTrainedTokenizerBase

from exporters.tokenizing import Specials, check_ids, revived
from lake.errors import LakeError, UsageError

# Characters after which a text goes on: where a tokenizer puts a space before every text, one of these keeps it away.
_ANCHORS = ("\n", "\t", "=", "\x01")
_BATCH_CHARACTERS = 1 << 20


class Piece(NamedTuple):
    """Some text of a row. What is `trained` is learned from; in a `literal` one, no special token is meant."""

    text: str
    trained: bool
    literal: bool = False


class Marked(NamedTuple):
    """The token ids of a text, int32, and which of them are learned from, bool: both of shape (tokens,)."""

    tokens: npt.NDArray[np.int32]
    trained: npt.NDArray[np.bool_]


class Encoder:
    """Encodes rows of pieces. `eos` ends a document, `bos` begins one, where the tokenizer would have it so.

    `specials` and `added` are the special tokens, and all that are not of the model's own vocabulary.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        called = tokenizer.name_or_path or "the tokenizer"
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise UsageError(
                f"{called}: this tokenizer has no tokenizer.json", "save it once as a fast tokenizer of transformers'"
            )
        if tokenizer.eos_token is None or tokenizer.eos_token_id not in tokenizer.added_tokens_decoder:
            raise UsageError(
                f"{called}: which special token ends a text is not said", "set eos_token in tokenizer_config.json"
            )
        backend = tokenizers.Tokenizer.from_str(backend.to_str())
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = False
        self._fast = backend
        self._data = backend.to_str()
        self.sha256 = _digest(self._data)
        self.eos = str(tokenizer.eos_token)
        self.bos = _opening(tokenizer)
        self.vocabulary = len(tokenizer)
        self.specials = tuple(token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
        self.added = tuple(token.content for token in tokenizer.added_tokens_decoder.values())
        # It refuses tokenizers that lose characters or draw lots.
        revived(self._data.encode(), Specials(eos=tokenizer.eos_token, pad=tokenizer.eos_token))
        # Some put a space before every text, also before one that goes on where another ended.
        alone, anchor, both = _encoded(self._fast, ["a", _ANCHORS[0], f"{_ANCHORS[0]}a"])
        self._anchored = both != anchor + alone

    @property
    def identity(self) -> dict[str, Any]:
        """What the ids depend on, for a key."""
        return {"sha256": self.sha256, "eos": self.eos, "bos": self.bos}

    def rows(self, rows: Sequence[Sequence[Piece]]) -> list[Marked]:
        """The ids of each row's pieces, one after the other. Raises LakeError where a text cannot be encoded."""
        made: list[Marked] = []
        for first, stop in _batches([sum(len(piece.text) for piece in row) for row in rows]):
            made += self._rows(rows[first:stop])
        return made

    def _rows(self, rows: Sequence[Sequence[Piece]]) -> list[Marked]:
        pieces = [
            (piece.text, self._anchors(before, piece))
            for row in rows
            for before, piece in zip((None, *row), row, strict=False)
        ]
        literal = [piece.literal for row in rows for piece in row]
        ids: list[list[int]] = [[]] * len(pieces)
        for kind in (False, True):
            places = [place for place, one in enumerate(literal) if one is kind]
            for place, found in zip(places, self._ids([pieces[place] for place in places], literal=kind), strict=True):
                ids[place] = found
        made, at = [], 0
        for row in rows:
            parts = ids[at : at + len(row)]
            at += len(row)
            tokens = np.array([one for part in parts for one in part], np.int64)
            check_ids(tokens, self.vocabulary)
            trained = np.repeat([piece.trained for piece in row], [len(part) for part in parts]).astype(bool)
            made.append(Marked(tokens.astype(np.int32), trained))
        return made

    def _anchors(self, before: Piece | None, piece: Piece) -> tuple[str, ...]:
        """What may stand before a piece to encode it as it is behind another; nothing where it is encoded alone."""
        if before is None:
            return ()
        special = next((one for one in self.specials if not before.literal and before.text.endswith(one)), None)
        if special is None:
            return _ANCHORS
        return () if piece.literal else (special,)

    def _ids(self, texts: Sequence[tuple[str, tuple[str, ...]]], *, literal: bool) -> list[list[int]]:
        """The ids of texts, each with what may stand before it."""
        if not texts:
            return []
        fast = self._literal if literal else self._fast
        if not self._anchored:
            return _encoded(fast, [text for text, _ in texts])
        return [self._behind(fast, anchors, text) for text, anchors in texts]

    @staticmethod
    def _behind(fast: Any, anchors: tuple[str, ...], text: str) -> list[int]:
        """The ids of a text as it goes on behind the first of the anchors that does not merge with it."""
        if not anchors:
            return _encoded(fast, [text])[0]
        for anchor in anchors:
            alone, both = _encoded(fast, [anchor, f"{anchor}{text}"])
            if both[: len(alone)] == alone:
                return both[len(alone) :]
        raise LakeError(f"the tokenizer cannot go on with {text[:40]!r} behind another text", "take a byte-level one")

    @cached_property
    def _literal(self) -> Any:
        made = tokenizers.Tokenizer.from_str(self._data)
        made.encode_special_tokens = True
        return made


def _digest(data: str) -> str:
    """The sha256 of a tokenizer.json, whatever the order of its keys."""
    return hashlib.sha256(msgspec.json.encode(msgspec.json.decode(data), order="sorted")).hexdigest()


def _opening(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The token that this tokenizer puts before a text, if it does."""
    if tokenizer.bos_token is None or tokenizer("a")["input_ids"][:1] != [tokenizer.bos_token_id]:
        return None
    return str(tokenizer.bos_token)


def _encoded(fast: Any, texts: list[str]) -> list[list[int]]:
    try:
        return [one.ids for one in fast.encode_batch_fast(texts, add_special_tokens=False)]
    except Exception as error:  # noqa: BLE001  the library raises nothing more definite
        raise LakeError(f"the tokenizer cannot encode a text: {error}", "take one that knows every character") from None


def _batches(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Ranges of rows of about as many characters each, so that what is held at a time has a bound."""
    bounds, held = [0], 0
    for place, size in enumerate(sizes):
        if held and held + size > _BATCH_CHARACTERS:
            bounds.append(place)
            held = 0
        held += size
    bounds.append(len(sizes))
    return [(first, stop) for first, stop in pairwise(bounds) if first < stop]
