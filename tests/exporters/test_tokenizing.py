"""Tokenizing: the ids of a text are those of the text alone, and what stands around it was settled, not guessed."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters import tokenizing
from exporters.validate import vocabulary_of
from lake.errors import Damaged, LakeError, UsageError
from tests.exporters.small_tokenizer import TEXTS, train, write

BOS, EOS, PAD = "<|begin|>", "<|end|>", "<|pad|>"
SPECIALS = tokenizing.Specials(eos=EOS, pad=PAD)

DATA = train((PAD, BOS, EOS)).encode()
SMALL = tokenizing.revived(DATA, SPECIALS)


def id_of(token):
    """The id of a special token, as the file has it."""
    return {said["content"]: said["id"] for said in json.loads(DATA)["added_tokens"]}[token]


def spelt(tokens):
    """The text that ids stand for, by the library itself."""
    return tokenizing.tokenizers.Tokenizer.from_str(DATA.decode()).decode(tokens.tolist(), skip_special_tokens=False)


@given(st.lists(st.text(max_size=40), max_size=8))
def test_a_text_becomes_its_ids_and_an_end(texts):
    """Each document is its text, to the last character, and the end token."""
    made = SMALL.encode(texts)
    assert made.tokens.dtype == np.int32
    assert len(made.offsets) == len(texts) + 1
    for place, text in enumerate(texts):
        ids = made.tokens[made.offsets[place] : made.offsets[place + 1]]
        assert ids[-1] == id_of(EOS)
        assert spelt(ids[:-1]) == text


def test_a_text_that_spells_a_special_token_out_does_not_become_one():
    """A document cannot end another, nor begin one, by what it says."""
    made = SMALL.encode([f"before {EOS}{BOS}{PAD} after"])
    assert (made.tokens == id_of(EOS)).sum() == 1
    assert made.tokens[-1] == id_of(EOS)
    assert not np.isin(made.tokens, [id_of(BOS), id_of(PAD)]).any()
    assert spelt(made.tokens[:-1]) == f"before {EOS}{BOS}{PAD} after"


def test_what_the_file_would_cut_fill_up_or_add_stays_away(tmp_path):
    """Truncation, padding and a post-processor in the file are for those who use it otherwise."""
    said = json.loads(DATA)
    said["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    said["padding"] = {
        "strategy": {"Fixed": 64},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": PAD,
    }
    bos = {"SpecialToken": {"id": BOS, "type_id": 0}}
    said["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [bos, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [bos, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {BOS: {"id": BOS, "ids": [id_of(BOS)], "tokens": [BOS]}},
    }
    made = tokenizing.revived(json.dumps(said).encode(), SPECIALS).encode(TEXTS)
    assert np.array_equal(made.tokens, SMALL.encode(TEXTS).tokens)


def test_a_begin_token_stands_before_each_document():
    """Where one is settled, it is the first of each document's tokens, and counted among them."""
    with_bos = tokenizing.revived(DATA, tokenizing.Specials(eos=EOS, pad=PAD, bos=BOS)).encode(TEXTS)
    plain = SMALL.encode(TEXTS)
    assert (with_bos.tokens[with_bos.offsets[:-1]] == id_of(BOS)).all()
    assert np.array_equal(with_bos.lengths, plain.lengths + 1)


@pytest.mark.parametrize("name", ["tokenizer.json", ""])
def test_special_tokens_come_from_the_file_beside_it(tmp_path, name):
    """A model's folder says which its tokens are, as texts or as objects."""
    write(tmp_path, [PAD, BOS, EOS], {"eos_token": EOS, "pad_token": {"content": PAD, "lstrip": False}})
    made = tokenizing.load(tmp_path / name)
    assert made.identity.specials == SPECIALS
    assert made.pad == id_of(PAD)
    assert made.identity.sha256 == hashlib.sha256((tmp_path / "tokenizer.json").read_bytes()).hexdigest()
    assert made.identity.vocabulary > id_of(EOS)


def test_what_is_named_goes_before_what_the_file_says(tmp_path):
    """A user may pack with other tokens than the model's own."""
    write(
        tmp_path, [PAD, BOS, EOS], {"eos_token": "<|other|>", "pad_token": PAD, "bos_token": BOS, "add_bos_token": True}
    )
    made = tokenizing.load(tmp_path, eos=EOS, pad=EOS, bos=tokenizing.NO_TOKEN)
    assert made.identity.specials == tokenizing.Specials(eos=EOS, pad=EOS)
    assert tokenizing.load(tmp_path, eos=EOS, bos=PAD).identity.specials.bos == PAD


@pytest.mark.parametrize(
    ("config", "starts"),
    [
        ({"bos_token": BOS, "add_bos_token": True}, BOS),
        ({"bos_token": BOS, "add_bos_token": False}, None),
        ({"bos_token": BOS}, None),
        ({"add_bos_token": True}, None),
    ],
)
def test_a_begin_token_is_used_where_the_model_uses_it(tmp_path, config, starts):
    """To know a begin token is not to put it before every text."""
    write(tmp_path, [PAD, BOS, EOS], {"eos_token": EOS, "pad_token": PAD, **config})
    assert tokenizing.load(tmp_path).identity.specials.bos == starts


def test_a_begin_token_is_used_where_the_tokenizer_puts_it(tmp_path):
    """Many models say it in the tokenizer's own post-processor alone."""
    write(tmp_path, [PAD, BOS, EOS], {"eos_token": EOS, "pad_token": PAD, "bos_token": BOS}, opening=BOS)
    assert tokenizing.load(tmp_path).identity.specials.bos == BOS


@pytest.mark.parametrize(
    ("config", "named", "message", "hint"),
    [
        ({"pad_token": PAD}, {}, "which token is eos", "--eos"),
        ({"eos_token": EOS}, {}, "which token is pad", "--pad"),
        (None, {"pad": PAD}, "there is no tokenizer_config.json", EOS),
        ({"eos_token": {"content": 5}, "pad_token": PAD}, {}, "tokenizer_config.json: Expected `str", "--eos"),
        ({"eos_token": {"lstrip": True}, "pad_token": PAD}, {}, "which token is eos", "--eos"),
        ({"eos_token": "<|gone|>", "pad_token": PAD}, {}, "no token '<|gone|>'", EOS),
        ({"eos_token": EOS, "pad_token": PAD}, {"bos": "<|gone|>"}, "no token '<|gone|>'", EOS),
    ],
)
def test_a_token_that_is_not_settled_is_asked_for(tmp_path, config, named, message, hint):
    """Nothing is guessed: the error says what to name, and which tokens there are."""
    write(tmp_path, [PAD, BOS, EOS], config)
    with pytest.raises(UsageError) as refused:
        tokenizing.load(tmp_path, **named)
    assert message in refused.value.message
    assert hint in refused.value.hint


def test_what_is_no_tokenizer_is_refused(tmp_path):
    """A missing file, a folder without one, JSON of another kind, and a broken configuration each say what they are."""
    with pytest.raises(UsageError, match="No such file"):
        tokenizing.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(LakeError, match="is no tokenizer"):
        tokenizing.load(tmp_path, eos=EOS, pad=PAD)
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe")
    with pytest.raises(LakeError, match="is no tokenizer"):
        tokenizing.load(tmp_path, eos=EOS, pad=PAD)
    write(tmp_path, [PAD, BOS, EOS], None)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(UsageError, match="tokenizer_config"):
        tokenizing.load(tmp_path)
    os.unlink(tmp_path / "tokenizer_config.json")
    (tmp_path / "tokenizer_config.json").mkdir()
    with pytest.raises(UsageError, match="tokenizer_config"):
        tokenizing.load(tmp_path)


def test_ids_with_holes_between_them_are_in_the_vocabulary(tmp_path):
    """The size of a vocabulary is one more than its largest id, however many ids there are."""
    made = json.loads(train((PAD, EOS)))
    last = max(made["model"]["vocab"], key=made["model"]["vocab"].get)
    made["model"]["vocab"][last] = 5000
    (tmp_path / "tokenizer.json").write_text(json.dumps(made))
    tokenizer = tokenizing.load(tmp_path, eos=EOS, pad=PAD)
    assert tokenizer.identity.vocabulary == vocabulary_of(tmp_path) == 5001
    assert 5000 in tokenizer.encode(list(TEXTS)).tokens


def test_a_tokenizer_that_would_lose_text_is_refused(tmp_path):
    """Without an unknown token or every byte, what it does not know would vanish without a word."""
    said = json.loads(DATA)
    kept = {token: place for token, place in said["model"]["vocab"].items() if token not in {"Ń", "ĩ"}}
    said["model"]["vocab"] = {token: number for number, token in enumerate(kept)}
    said["model"]["merges"] = []
    said["added_tokens"] = []
    with pytest.raises(LakeError, match="would vanish"):
        tokenizing.revived(json.dumps(said).encode(), SPECIALS)


def test_a_tokenizer_that_goes_by_chance_is_refused():
    """With dropout no text has the same ids twice."""
    said = json.loads(DATA)
    said["model"]["dropout"] = 0.1
    with pytest.raises(LakeError, match="by chance"):
        tokenizing.revived(json.dumps(said).encode(), SPECIALS)


def word_level(unknown):
    vocab = {EOS: 0, PAD: 1, "known": 2, "[UNK]": 3}
    model = {"type": "WordLevel", "vocab": vocab, "unk_token": unknown}
    said = {"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"}, "model": model}
    return tokenizing.revived(json.dumps(said).encode(), SPECIALS)


def test_unknown_tokens_are_counted():
    """A word that the vocabulary cannot say is a token that says so, and the count can be looked at."""
    made = word_level("[UNK]")
    tokens = made.encode(["known stranger known", "stranger"]).tokens
    assert made.unknown(tokens) == 2
    assert SMALL.unknown(SMALL.encode(["stranger"]).tokens) == 0


def test_a_text_that_cannot_be_encoded_is_an_error():
    """A tokenizer without the unknown token that it names gives up, with a reason and no traceback of its library."""
    with pytest.raises(LakeError, match="cannot encode"):
        word_level("[GONE]").encode(["stranger"])


def test_an_id_out_of_the_vocabulary_is_refused():
    """No row is ever written that a model's embedding has no line for."""
    tokenizing.check_ids(np.array([0, 9]), 10)
    for bad in ([0, 10, 11], [3, -1, 10]):
        with pytest.raises(Damaged, match=r"out of the vocabulary of 10 \(and 1 more\)"):
            tokenizing.check_ids(np.array(bad), 10)


def test_many_long_texts_go_through_in_batches(monkeypatch):
    """How texts are batched cannot be seen in their ids."""
    whole = SMALL.encode([text * 3 for text in TEXTS])
    monkeypatch.setattr(tokenizing, "_BATCH_CHARACTERS", 50)
    again = SMALL.encode([text * 3 for text in TEXTS])
    assert np.array_equal(whole.tokens, again.tokens)
    assert np.array_equal(whole.offsets, again.offsets)
    assert SMALL.encode([]).lengths.tolist() == []


def test_without_the_library_it_says_what_to_install(tmp_path):
    """The library is an extra: without it the house still imports, and packing says what is missing."""
    write(tmp_path, [PAD, BOS, EOS], {"eos_token": EOS, "pad_token": PAD})
    program = (
        "import sys; sys.modules['tokenizers'] = None\n"
        "from pathlib import Path\n"
        "from exporters import tokenizing\n"
        "from lake.errors import LakeError\n"
        "try: tokenizing.load(Path(sys.argv[1]))\n"
        "except LakeError as error: print(error.message, '|', error.hint)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert "not installed" in done.stdout
    assert "evidence-lake[pack]" in done.stdout
