"""A model that is made on the spot, to see a run through where nothing can be fetched: `python -m trainers.toy`.

    python -m trainers.toy make FOLDER PROBLEMS.jsonl            a tokenizer and a configuration, for random weights
    python -m trainers.toy answer FOLDER PROBLEMS.jsonl OUT      what a model answers, as evidence without a verdict

Problems are rows of `question` and `answer`, as GSM8K has them. Both make the same for the same input.

Not here: training it (`lake train`), and judging what it answers (`lake score`).
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from ingest.readers.gsm8k import task_id

USER, ASSISTANT, END, PAD = "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>"
TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role == 'assistant' %}"
    f"{ASSISTANT}{{% generation %}}{{{{ message.content }}}}{END}{{% endgeneration %}}"
    "{% else %}"
    f"{USER}{{{{ message.content }}}}"
    "{% endif %}{% endfor %}"
    f"{{% if add_generation_prompt %}}{ASSISTANT}{{% endif %}}"
)
_LONGEST = 512
_AT_ONCE = 64


def make(folder: Path, problems: Sequence[dict[str, str]], *, vocabulary: int = 512) -> None:
    """Write a tokenizer of at most so many tokens, and the configuration of a model of 400 000 weights."""
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[USER, ASSISTANT, END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words.train_from_iterator((f"{one['question']}\n{one['answer']}" for one in problems), trainer)
    fast: Any = transformers.PreTrainedTokenizerFast
    tokenizer = fast(tokenizer_object=words, eos_token=END, pad_token=PAD)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    transformers.LlamaConfig(
        vocab_size=words.get_vocab_size(),
        hidden_size=96,
        intermediate_size=288,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=_LONGEST,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    ).save_pretrained(folder)


def answers(folder: Path, questions: Sequence[str], *, longest: int = 48) -> Iterator[str]:
    """What a model answers, by its likeliest token each time; random weights where the folder has none."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
    kind: Any = transformers.AutoModelForCausalLM
    if (folder / "model.safetensors").exists():
        model = kind.from_pretrained(folder)
    else:
        transformers.set_seed(0)
        model = kind.from_config(transformers.AutoConfig.from_pretrained(folder))
    model.eval()
    for first in range(0, len(questions), _AT_ONCE):
        some = questions[first : first + _AT_ONCE]
        asked = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False
            )
            for question in some
        ]
        given = tokenizer(asked, return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.inference_mode():
            drawn = model.generate(
                input_ids=given.input_ids,
                attention_mask=given.attention_mask,
                max_new_tokens=longest,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
            )
        yield from tokenizer.batch_decode(drawn[:, given.input_ids.shape[1] :], skip_special_tokens=True)


def _evidence(name: str, problems: Sequence[dict[str, str]], texts: Iterator[str]) -> Iterator[dict[str, Any]]:
    for problem, text in zip(problems, texts, strict=True):
        task = task_id(problem["question"])
        yield {
            "run_id": f"{name}:{task}",
            "task_id": task,
            "kind": "completion",
            "role": "executor",
            "model": name,
            "prompt": problem["question"],
            "text": text,
        }


def main() -> None:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m trainers.toy", description="A model that is made on the spot.")
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make", help="a tokenizer and a configuration")
    answering = commands.add_parser("answer", help="what a model answers")
    for command in (making, answering):
        command.add_argument("folder", type=Path)
        command.add_argument("problems", type=Path)
    answering.add_argument("out", type=Path)
    answering.add_argument("--name", required=True, help="what the model is called")
    said = parser.parse_args()
    problems = [msgspec.json.decode(line) for line in said.problems.read_bytes().splitlines()]
    transformers.utils.logging.disable_progress_bar()
    if said.command == "make":
        make(said.folder, problems)
        return
    given = _evidence(said.name, problems, answers(said.folder, [problem["question"] for problem in problems]))
    said.out.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in given))


if __name__ == "__main__":
    main()
