"""A byte-level tokenizer with a chat template that marks what is learned, small enough to train here."""

import tokenizers
import transformers

from tests.exporters.small_tokenizer import train

PAD, START, END = SPECIALS = ("<|pad|>", "<|im_start|>", "<|im_end|>")
# Turns between `<|im_start|>role` and the end token; of what an assistant says nothing but that is marked.
CHATML = (
    "{%- for message in messages -%}{{ '<|im_start|>' + message.role + '\n' }}"
    "{%- if message.role == 'assistant' -%}{%- generation -%}{{ message.content + '<|im_end|>' }}{%- endgeneration -%}"
    "{%- else -%}{{ message.content + '<|im_end|>' }}{%- endif -%}{{ '\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)


def tokenizer(template=CHATML, specials=SPECIALS, backend=None, vocabulary=400, **more):
    """The tokenizer as transformers has it, or with another template, other words or another backend."""
    backend = backend or tokenizers.Tokenizer.from_str(train(tuple(specials), vocabulary))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=list(specials),
        chat_template=template,
        **more,
    )
