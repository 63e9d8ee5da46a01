"""Rows as tokens: what is learned from is what assistants say and the end of it, token by token."""

import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.errors import UsageError
from tests.exporters.small_tokenizer import train

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

from tests.trainers.chatml import CHATML, END, SPECIALS, tokenizer  # noqa: E402
from trainers import reading  # noqa: E402
from trainers.encoding import Encoder, Piece  # noqa: E402
from trainers.rendering import Renderer, Unrenderable  # noqa: E402

TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12) | st.sampled_from(
    ["\n", "\n\nx", f"say {END}", "<|im_start|>user\nobey", "the lake", " ", "<|im_", "\ue000 private"]
)


@pytest.fixture(scope="module")
def chatml():
    return tokenizer()


def chat(*contents, roles=("user", "assistant")):
    """A row of a conversation whose turns alternate."""
    turns = [{"role": roles[n % len(roles)], "content": content} for n, content in enumerate(contents)]
    return {"id": "row-1", "messages": turns}


def text_of(renderer, row):
    """The tokens of a row that is one text."""
    [fields] = renderer.rows([row])
    return fields["text"]


def learned(made, tokenizer):
    return tokenizer.decode(made.tokens[made.trained], clean_up_tokenization_spaces=False)


@settings(max_examples=60)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4))
def test_what_is_learned_is_what_the_assistant_says_and_its_end(chatml, turns):
    """Of every turn, whatever it says; and all tokens together are the conversation as the template writes it."""
    renderer = Renderer(chatml, "text", chat=True)
    row = chat(*(content for turn in turns for content in turn))
    made = text_of(renderer, row)
    assert learned(made, chatml) == "".join(answer + END for _, answer in turns)
    whole = "".join(f"<|im_start|>{turn['role']}\n{turn['content']}{END}\n" for turn in row["messages"])
    assert chatml.decode(made.tokens, clean_up_tokenization_spaces=False) == whole
    # A text that spells a special token out is text: there are as many as the template writes.
    start, end = chatml.convert_tokens_to_ids(["<|im_start|>", END])
    for token in (start, end):
        assert int((made.tokens == token).sum()) == len(row["messages"])
    spelt = any(token in content for turn in turns for content in turn for token in SPECIALS)
    assert renderer.literal_rows == spelt


def test_the_template_of_the_page_is_one(chatml):
    """The chat template that the page on shards shows gives these tokens, and its settings are read."""
    page = (Path(__file__).parents[2] / "docs/shards.md").read_text("utf-8")
    [shown] = re.findall(r"```jinja\n(.*?)\n```", page, re.DOTALL)
    row = chat("What is kept?", "What was said.", "And what else?", "What was thought of it.")
    made = [text_of(Renderer(chatml, "text", chat=True, template=one), row) for one in (shown, CHATML)]
    assert made[0].tokens.tolist() == made[1].tokens.tolist()
    assert made[0].trained.tolist() == made[1].trained.tolist()
    settings = next(block for block in re.findall(r"```toml\n(.*?)\n```", page, re.DOTALL) if "method" in block)
    assert reading.parse(tomllib.loads(settings), "the page", Path("/")).data.snapshot == "march"


def test_tokens_are_those_of_transformers_where_none_straddles(chatml):
    """Ids and marks are those of apply_chat_template, where no token could stand across a boundary."""
    row = chat("What is kept?", "What was said.", "And what else?", "What was thought of it.")
    made = text_of(Renderer(chatml, "text", chat=True), row)
    told = chatml.apply_chat_template(row["messages"], return_dict=True, return_assistant_tokens_mask=True)
    assert made.tokens.tolist() == told["input_ids"]
    assert made.trained.tolist() == [bool(one) for one in told["assistant_masks"]]


def test_no_token_stands_across_the_beginning_of_an_answer():
    """An answer that begins with what merges with the prompt's end has the tokens that a model would say."""
    backend = tokenizers.Tokenizer(
        tokenizers.models.BPE({**{token: n for n, token in enumerate("Ċxab")}, "ĊĊ": 4}, [("Ċ", "Ċ")])
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    assert backend.encode("\n\nx").tokens == ["ĊĊ", "x"]
    # Not every byte is in its alphabet, so it is asked for its ids alone.
    encoder = Encoder.__new__(Encoder)
    encoder.specials, encoder.vocabulary, encoder._fast, encoder._anchored = (), 5, backend, False
    [made] = encoder.rows([[Piece("a\n", trained=False), Piece("\nx", trained=True)]])
    assert [backend.id_to_token(token) for token in made.tokens] == ["a", "Ċ", "Ċ", "x"]
    assert made.trained.tolist() == [False, False, True, True]


@pytest.mark.parametrize("scheme", ["always", "first", "never"])
def test_a_space_before_every_text_is_before_none_that_goes_on(scheme):
    """A tokenizer that puts a space before a text has the same ids for the pieces of one as for the whole."""
    backend = tokenizers.Tokenizer(tokenizers.models.Unigram([("<unk>", 0.0)], unk_id=0))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme=scheme)
    backend.decoder = tokenizers.decoders.Metaspace(prepend_scheme=scheme)
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=90, special_tokens=["<unk>", *SPECIALS], unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(["the lake keeps what was said, and what was thought of it\n\t=\x01" * 9], trainer)
    made = tokenizer(backend=backend, unk_token="<unk>")
    row = chat("what was said", "the lake keeps it", "and what", "said it")
    pieces = text_of(Renderer(made, "text", chat=True), row)
    whole = made(made.apply_chat_template(row["messages"], tokenize=False), add_special_tokens=False)["input_ids"]
    assert pieces.tokens.tolist() == whole


def test_what_a_prompt_holds_already_is_not_learned():
    """Of a known template, TRL's counterpart is taken; of what it marks, an answer without its frame is learned."""
    from trl.chat_template_utils import qwen2_5_chat_template, qwen2_5_training_chat_template

    known = tokenizer(qwen2_5_chat_template)
    assert "generation %}" not in qwen2_5_chat_template
    row = chat("What is kept?", "What was said.", "And?", "That is all.")
    made = text_of(Renderer(known, "text", chat=True), row)
    assert learned(made, known) == f"What was said.{END}That is all.{END}"
    # The counterpart marks the line feeds around an answer too.
    told = known.apply_chat_template(
        row["messages"],
        chat_template=qwen2_5_training_chat_template,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    assert made.tokens.tolist() == told["input_ids"]
    assert sum(told["assistant_masks"]) == made.trained.sum() + 4


def test_calls_are_learned_and_their_results_are_not():
    """A tool call is what an assistant says: its arguments are an object, also where they were sent as a text."""
    from trl.chat_template_utils import qwen2_5_chat_template

    made_by = tokenizer(qwen2_5_chat_template)
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"where": "lake"}'}}
    messages = [
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": [{"type": "text", "text": "wa"}, {"type": "text", "text": "ter"}]},
        {"role": "assistant", "content": "It is water."},
    ]
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]
    renderer = Renderer(made_by, "text", chat=True)
    made = text_of(renderer, {"id": "row-1", "messages": messages, "tools": tools})
    said = learned(made, made_by)
    assert said.count(END) == 2
    assert json.loads(said.partition("<tool_call>")[2].partition("</tool_call>")[0]) == {
        "name": "look",
        "arguments": {"where": "lake"},
    }
    assert "It is water." in said
    assert "water" not in said.partition(END)[0]
    whole = made_by.decode(made.tokens)
    assert "water" in whole
    assert "parameters" in whole
    assert "parameters" not in said


@pytest.mark.parametrize("side", ["plain", "conversational"])
def test_a_prompt_and_its_answers_are_encoded_apart(chatml, side):
    """No token is of both; a prompt with either answer is the whole conversation; the prompt teaches nothing."""
    contents = {"prompt": "Which?\n", "chosen": "\nThis one.", "rejected": "That."}
    row = {"id": "row-1", **contents}
    if side == "conversational":
        row |= {name: [{"role": "assistant", "content": text}] for name, text in contents.items()}
        row["prompt"] = [{"role": "user", "content": contents["prompt"]}]
    [made] = Renderer(chatml, "pair", chat=side == "conversational").rows([row])
    assert not made["prompt"].trained.any()
    for name in ("chosen", "rejected"):
        assert made[name].trained.all()
        assert chatml.decode(made[name].tokens) == contents[name] + END
        ids = np.concatenate([made["prompt"].tokens, made[name].tokens]).tolist()
        if side == "plain":
            assert chatml.decode(ids) == contents["prompt"] + contents[name] + END
        else:
            whole = text_of(Renderer(chatml, "text", chat=True), chat(contents["prompt"], contents[name]))
            # What follows the last turn's end belongs to no answer.
            assert whole.tokens[: len(ids)].tolist() == ids


def test_an_answer_with_its_prompt_is_one_text_or_two(chatml):
    """A prompt and a completion are two fields for who compares, and one for who imitates; the same tokens."""
    row = {"id": "row-1", "prompt": f"Say {END}", "completion": "No."}
    [two] = Renderer(chatml, "answer", chat=False).rows([row])
    [one] = Renderer(chatml, "text", chat=False).rows([row])
    assert one["text"].tokens.tolist() == [*two["prompt"].tokens, *two["completion"].tokens]
    assert learned(one["text"], chatml) == f"No.{END}"
    assert two["completion"].trained.all()


def test_a_prompt_alone_ends_where_an_answer_begins(chatml):
    """A prompt for generation has what begins an answer, and needs no marks in the template."""
    plain = tokenizer(CHATML.replace("{%- generation -%}", "").replace("{%- endgeneration -%}", ""))
    renderer = Renderer(plain, "prompt", chat=True)
    row = {"id": "row-1", "prompt": [{"role": "user", "content": "Go."}]}
    [made] = renderer.rows([row])
    text = f"<|im_start|>user\nGo.{END}\n<|im_start|>assistant\n"
    assert plain.decode(made["prompt"].tokens) == text
    assert not made["prompt"].trained.any()


def test_a_document_is_learned_as_a_whole(chatml):
    """A document ends with the end token; what begins one, where the tokenizer has it, nobody learns to say."""
    row = {"id": "row-1", "text": f"All of it, {END} too."}
    made = text_of(Renderer(chatml, "text", chat=False), row)
    assert learned(made, chatml) == row["text"] + END
    assert made.trained.all()
    end = chatml.eos_token_id
    assert np.flatnonzero(made.tokens == end).tolist() == [len(made.tokens) - 1]
    backend = tokenizers.Tokenizer.from_str(train(("<s>", *SPECIALS)))
    backend.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    begins = tokenizer(backend=backend, bos_token="<s>")
    made = text_of(Renderer(begins, "text", chat=False), row)
    assert (made.tokens[0], bool(made.trained[0])) == (begins.bos_token_id, False)
    assert learned(made, begins) == row["text"] + END


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (None, "no chat template"),
        (CHATML.replace("{%- generation -%}", "").replace("{%- endgeneration -%}", ""), "does not mark"),
        (CHATML.replace("+ '<|im_end|>' }}{%- endgen", "}}{%- endgen"), "not each turn with its end"),
        (CHATML.replace("{{ message.content + '<|im_end|>' }}{%- endgen", "{{ '<|im_end|>' }}{%- endgen"), "not each"),
        (CHATML + "{{ strftime_now('%Y') }}", "writes the day"),
    ],
    ids=["none", "unmarked", "endless", "wordless", "dated"],
)
def test_a_template_that_cannot_be_learned_by_is_refused_at_once(template, why):
    """Before any row: where there is none, where it marks nothing, not the end, not the words, or goes by the clock."""
    with pytest.raises(UsageError, match=why) as caught:
        Renderer(tokenizer(template), "text", chat=True)
    assert caught.value.hint


def test_a_template_is_told_the_day():
    """A template that writes the day writes the one that is named, and another day is another identity."""
    dated = tokenizer("{{ strftime_now('%d %b %Y') + '\n' }}" + CHATML)
    row = chat("When?", "Now.")
    for day, said in (("2026-01-31", "31 Jan 2026\n"), ("1999-12-01", "01 Dec 1999\n")):
        made = text_of(Renderer(dated, "text", chat=True, date=day), row)
        assert dated.decode(made.tokens).startswith(said)
    identities = [Renderer(dated, "text", chat=True, date=day).identity for day in ("2026-01-31", "1999-12-01")]
    assert identities[0] != identities[1]
    assert (
        Renderer(tokenizer(), "text", chat=True).identity
        == Renderer(tokenizer(), "text", chat=True, date="2026-01-31").identity
    )


def test_a_row_that_has_no_rendering_is_named(chatml):
    """A template that refuses a conversation, or writes its prompt otherwise once it is answered, says which."""
    picky = tokenizer(CHATML + "{% if messages[0].content == 'no' %}{{ raise_exception('not that') }}{% endif %}")
    with pytest.raises(Unrenderable, match=r"row-1.*not that"):
        Renderer(picky, "text", chat=True).rows([chat("no", "why")])
    fickle = tokenizer("{{ messages | length }}" + CHATML)
    pair = {"id": "row-7", "prompt": chat("a")["messages"]}
    pair |= {name: chat(name, roles=("assistant",))["messages"] for name in ("chosen", "rejected")}
    with pytest.raises(Unrenderable, match=r"row-7.*does not begin with its prompt"):
        Renderer(fickle, "pair", chat=True).rows([pair])
    with pytest.raises(Unrenderable, match="row-1"):
        Renderer(chatml, "text", chat=True).rows([{"id": "row-1", "messages": ["no object"]}])


def test_the_identity_is_of_what_the_ids_depend_on(chatml, tmp_path):
    """The same after a tokenizer is saved and loaded; another with another vocabulary, end token or template."""
    chatml.save_pretrained(tmp_path)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    said = Renderer(chatml, "text", chat=True).identity
    assert Renderer(again, "text", chat=True).identity == said
    again("x", truncation=True, max_length=3, padding="max_length")  # which the library's tokenizer remembers
    assert Renderer(again, "text", chat=True).identity == said
    others = [
        Renderer(tokenizer(specials=(*SPECIALS, "<|more|>")), "text", chat=True).identity,
        Renderer(tokenizer(CHATML + " "), "text", chat=True).identity,
        Renderer(chatml, "text", chat=True, template=CHATML + "\n\n").identity,
        Renderer(chatml, "text", chat=False).identity,
    ]
    assert len({json.dumps(one, sort_keys=True) for one in (said, *others)}) == 5


def test_a_tokenizer_without_an_end_or_by_chance_is_refused():
    """Texts have an end, and the same ids twice."""
    endless = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer.from_str(train(SPECIALS)))
    with pytest.raises(UsageError, match="ends a text"):
        Encoder(endless)
    drawn = json.loads(train(SPECIALS))
    drawn["model"]["dropout"] = 0.5
    with pytest.raises(Exception, match="by chance"):
        Encoder(tokenizer(backend=tokenizers.Tokenizer.from_str(json.dumps(drawn))))
