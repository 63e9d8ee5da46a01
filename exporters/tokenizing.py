"""Text as token ids, by a model's own `tokenizer.json`.

The ids of a text are those of the text alone: nothing that looks like a special token in it becomes one, nothing is cut
or filled up because a file says so, and no character gets lost. What marks the beginning and the end of a document, and
what fills a row, is resolved once, from what the user said or from what lies beside `tokenizer.json`, and where neither
settles it, it is asked for. The only room that imports tokenizers, which is an extra (`pack`).

Not here: chat templates, and where the ids go (`packing`).
"""

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from exporters.packing import Documents
from lake.errors import Damaged, LakeError, UsageError

try:
    import tokenizers
except ModuleNotFoundError:
    # An export that needs none works without it; `load` says what is missing.
    _VERSION = None
else:
    _VERSION = tokenizers.__version__

NAME = "tokenizer.json"
CONFIG = "tokenizer_config.json"
NO_TOKEN = "none"  # noqa: S105  what a user types instead of a token, not a secret

_BATCH_CHARACTERS = 1 << 22


class Specials(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The tokens that stand around a document and fill up a row, as texts: `bos` before each, or none; `eos` after."""

    eos: str
    pad: str
    bos: str | None = None


class Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which tokenizer it was: the sha256 of its `tokenizer.json`, how many ids there are, and the tokens it used."""

    sha256: str
    vocabulary: int
    specials: Specials


class Tokenizer:
    """A tokenizer with its special tokens resolved. `data` are the bytes of its `tokenizer.json`."""

    def __init__(self, data: bytes, specials: Specials, fast: Any, *, called: str) -> None:
        self.data = data
        self._fast = fast
        self._eos = self._id(specials.eos, called)
        self._pad = self._id(specials.pad, called)
        self._bos = None if specials.bos is None else self._id(specials.bos, called)
        vocabulary = max(self._fast.get_vocab(with_added_tokens=True).values()) + 1
        self.identity = Identity(sha256=hashlib.sha256(data).hexdigest(), vocabulary=vocabulary, specials=specials)
        model = _file(data, called).model
        self._unknown = model.unk_id if model.unk_token is None else fast.token_to_id(model.unk_token)

    @property
    def pad(self) -> int:
        """The id that fills up a row."""
        return self._pad

    @property
    def versions(self) -> dict[str, str]:
        """The library whose version can change the ids."""
        return {"tokenizers": str(_VERSION)}

    def encode(self, texts: Sequence[str]) -> Documents:
        """The texts as documents: each with `bos` before it, if there is one, and `eos` after it.

        Raises Damaged for an id that is not in the vocabulary.
        """
        ids: list[np.ndarray] = []
        for first, stop in _batches(texts):
            ids += [np.array(one.ids, np.int64) for one in self._encode(list(texts[first:stop]))]
        before = () if self._bos is None else (np.array([self._bos]),)
        parts = [part for one in ids for part in (*before, one, np.array([self._eos]))]
        tokens = np.concatenate([np.empty(0, np.int64), *parts])
        check_ids(tokens, self.identity.vocabulary)
        counts = np.array([len(one) + 1 + len(before) for one in ids], np.int64)
        return Documents(tokens.astype(np.int32), np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))

    def _encode(self, texts: list[str]) -> list[Any]:
        try:
            return self._fast.encode_batch_fast(texts, add_special_tokens=False)
        except Exception as error:  # noqa: BLE001  the library raises nothing more definite
            raise LakeError(
                f"the tokenizer cannot encode a text: {error}", "take one that knows every character"
            ) from None

    def unknown(self, tokens: np.ndarray) -> int:
        """How many of the tokens stand for something that the vocabulary cannot say."""
        return 0 if self._unknown is None else int(np.count_nonzero(tokens == self._unknown))

    def _id(self, token: str, called: str) -> int:
        found = self._fast.token_to_id(token)
        if found is None:
            raise UsageError(f"{called}: there is no token {token!r} in it", _name_one_of(self._fast))
        return int(found)


def load(path: Path, *, eos: str | None = None, bos: str | None = None, pad: str | None = None) -> Tokenizer:
    """The tokenizer in a `tokenizer.json`, or in a folder that has one, such as a model's.

    A special token that is not named is the one that `tokenizer_config.json` beside it says; `bos` stands before a
    document only where that, or the tokenizer itself, puts it before a text, and NO_TOKEN keeps it away. Raises
    UsageError where a token is not settled or is not in the vocabulary, LakeError where the library is missing or the
    file is no tokenizer that can be used.
    """
    file = path / NAME if path.is_dir() else path
    try:
        data = file.read_bytes()
    except OSError as error:
        hint = f"name a {NAME}, or a folder that has one"
        raise UsageError(f"{file}: {error.strerror or error}", hint) from None
    config = _config(file.parent / CONFIG)
    fast = _parsed(data, str(file))
    said = Specials(
        eos=_settled(fast, file, "eos", eos, config.eos_token),
        pad=_settled(fast, file, "pad", pad, config.pad_token),
        bos=_opening(fast, bos, config),
    )
    return Tokenizer(data, said, fast, called=str(file))


def revived(data: bytes, specials: Specials) -> Tokenizer:
    """The tokenizer that has these bytes and used these tokens. Raises LakeError as `load` does."""
    called = f"the {NAME} that the lake keeps"
    return Tokenizer(data, specials, _parsed(data, called), called=called)


def check_ids(tokens: np.ndarray, vocabulary: int) -> None:
    """Raises Damaged if any token id is not in a vocabulary of so many."""
    outside = (tokens < 0) | (tokens >= vocabulary)
    if outside.any():
        first = int(tokens[int(np.argmax(outside))])
        raise Damaged(
            f"token id {first} is out of the vocabulary of {vocabulary} (and {int(outside.sum()) - 1} more)",
            "fetch the tokenizer's files again: its added tokens do not fit its vocabulary",
        )


class _Token(msgspec.Struct):
    content: str | None = None


class _Config(msgspec.Struct):
    """What matters of a `tokenizer_config.json`: a token is its text, or an object with its text as `content`."""

    eos_token: str | _Token | None = None
    bos_token: str | _Token | None = None
    pad_token: str | _Token | None = None
    add_bos_token: bool | None = None


def _config(path: Path) -> _Config:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Config)
    except FileNotFoundError:
        return _Config()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", "make it readable, or name --eos and --pad") from None
    except msgspec.DecodeError as error:
        raise UsageError(f"{path}: {error}", "mend it, or move it away and name --eos and --pad") from None


def _parsed(data: bytes, called: str) -> Any:
    """The library's tokenizer, with everything switched off that would change or drop text."""
    if _VERSION is None:
        raise LakeError(
            "packing needs the library tokenizers, which is not installed", "pip install 'evidence-lake[pack]'"
        )
    try:
        fast = tokenizers.Tokenizer.from_str(data.decode())
    except Exception as error:  # noqa: BLE001  the library raises nothing more definite
        raise LakeError(f"{called}: this is no tokenizer: {error}", f"name the {NAME} of a model") from None
    _refuse_unfaithful(fast, _file(data, called).model, called)
    fast.no_truncation()
    fast.no_padding()
    fast.encode_special_tokens = True  # a text that spells a special token out is text
    return fast


class _Model(msgspec.Struct):
    dropout: float | None = None
    unk_token: str | None = None
    unk_id: int | None = None
    byte_fallback: bool = False


class _File(msgspec.Struct):
    model: _Model


def _file(data: bytes, called: str) -> _File:
    try:
        return msgspec.json.decode(data, type=_File)
    except msgspec.DecodeError as error:
        raise LakeError(f"{called}: this is no tokenizer: {error}", f"name the {NAME} of a model") from None


def _refuse_unfaithful(fast: Any, model: _Model, called: str) -> None:
    if model.dropout:
        raise LakeError(
            f"{called}: it drops merges by chance (dropout {model.dropout}), so no text has the same ids twice",
            'set "dropout" to null in a copy of it',
        )
    if not isinstance(fast.model, tokenizers.models.BPE) or model.unk_token is not None or model.byte_fallback:
        return
    vocabulary = fast.get_vocab(with_added_tokens=False)
    text = _EVERY_BYTE if fast.normalizer is None else fast.normalizer.normalize_str(_EVERY_BYTE)
    pieces = [text] if fast.pre_tokenizer is None else [said for said, _ in fast.pre_tokenizer.pre_tokenize_str(text)]
    if lost := set("".join(pieces)) - vocabulary.keys():
        raise LakeError(
            f"{called}: {len(lost)} of the characters or bytes of a text are not in its vocabulary, and would vanish",
            'give its model an "unk_token", or train it with every byte in its alphabet',
        )


# Characters that, as UTF-8, have every byte that UTF-8 has.
_EVERY_BYTE = "".join(
    map(chr, [*range(0x800), *range(0x800, 0xD800, 0x800), 0xE000, 0xF000, *range(0x10000, 0x110000, 0x10000)])
)


def _settled(fast: Any, file: Path, name: str, named: str | None, said: str | _Token | None) -> str:
    token = named if named is not None else _text(said)
    if token is None:
        why = (
            f"{CONFIG} beside it does not say" if (file.parent / CONFIG).exists() else f"there is no {CONFIG} beside it"
        )
        hint = f"say --{name} TOKEN; {_name_one_of(fast)}"
        if name == "pad":
            hint = "say --pad TOKEN; the end token will do, since what is padding is told by lengths"
        raise UsageError(f"{file}: which token is {name}? {why}", hint)
    return token


def _opening(fast: Any, named: str | None, config: _Config) -> str | None:
    if named is not None:
        return None if named == NO_TOKEN else named
    token = _text(config.bos_token)
    if token is None or config.add_bos_token is False:
        return None
    # A file that says nothing is taken at what its tokenizer does.
    if config.add_bos_token is None and fast.encode("", add_special_tokens=True).tokens[:1] != [token]:
        return None
    return token


def _text(token: str | _Token | None) -> str | None:
    return token.content if isinstance(token, _Token) else token


def _name_one_of(fast: Any) -> str:
    special = [token.content for token in fast.get_added_tokens_decoder().values() if token.special][:8]
    return f"its special tokens are {', '.join(special)}" if special else "it has no special tokens"


def _batches(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Ranges of texts of about as many characters each, so that what the library holds at a time has a bound."""
    bounds, held = [0], 0
    for place, text in enumerate(texts):
        if held and held + len(text) > _BATCH_CHARACTERS:
            bounds.append(place)
            held = 0
        held += len(text)
    bounds.append(len(texts))
    return [(first, stop) for first, stop in pairwise(bounds) if first < stop]
