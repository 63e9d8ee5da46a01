"""Trains a tiny model on packed rows as their readers would, and prints what it saw.

`train_packed.py FOLDER SPLIT TOKENIZER SCRATCH`
"""

import json
import sys

import torch
from datasets import load_from_disk
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    default_data_collator,
)
from trl import SFTConfig, SFTTrainer

LEAVE_ALONE = {"use_cpu": True, "bf16": False, "report_to": [], "save_strategy": "no", "disable_tqdm": True}


def model(vocabulary: int) -> LlamaForCausalLM:
    """A llama of two layers, the same one each time."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, use_cache=False, **sizes))


def apart(one: LlamaForCausalLM, rows: list[dict[str, list[int]]]) -> float:
    """The mean loss a token of all pieces, each on its own."""
    total, count = 0.0, 0
    for row in rows:
        start = 0
        for length in row["seq_lengths"][: len(row["document_ids"])]:
            ids = torch.tensor([row["input_ids"][start : start + length]])
            start += length
            if length > 1:
                total += one(input_ids=ids, labels=ids).loss.item() * (length - 1)
                count += length - 1
    return total / count


def main(folder: str, split: str, tokenizer: str, scratch: str) -> None:
    """Compare losses, and train a few steps with two trainers."""
    rows = load_from_disk(folder)[split]
    vocabulary = 1 + max(map(max, rows["input_ids"]))
    one = model(vocabulary)
    with torch.no_grad():
        taken = [rows[number] for number in range(min(8, len(rows)))]
        batch = {name: torch.tensor([row[name] for row in taken]) for name in ("input_ids", "labels", "position_ids")}
        together = one(**batch).loss.item()
        leaking = one(input_ids=batch["input_ids"], labels=batch["labels"]).loss.item()
        said = {"together": together, "apart": apart(one, taken), "leaking": leaking}
    arguments = TrainingArguments(f"{scratch}/plain", max_steps=3, logging_steps=1, **LEAVE_ALONE)
    plain = Trainer(model(vocabulary), arguments, train_dataset=rows, data_collator=default_data_collator)
    plain.train()
    said["plain"] = [step["loss"] for step in plain.state.log_history if "loss" in step]
    settings = SFTConfig(
        f"{scratch}/sft",
        max_steps=3,
        logging_steps=1,
        padding_free=True,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        **LEAVE_ALONE,
    )
    words = PreTrainedTokenizerFast(tokenizer_file=tokenizer, eos_token="<|end|>", pad_token="<|pad|>")
    supervised = SFTTrainer(model(vocabulary), settings, train_dataset=rows, processing_class=words)
    supervised.train()
    said["sft"] = [step["loss"] for step in supervised.state.log_history if "loss" in step]
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
