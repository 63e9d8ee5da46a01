"""What the lake exports, read by those who will: datasets, NumPy, and TRL's trainers on a model made on the spot."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from exporters import tokenizing
from exporters.convert import Options as Conversion
from exporters.convert import convert
from exporters.datasets import DATASETS
from exporters.export import export
from exporters.plan import Options
from exporters.validate import validate
from ingest.readers.prompts import prompt_id
from lake import Lake
from tests.exporters.conftest import NASTY, fill, run, verdict
from tests.exporters.small_tokenizer import write as write_tokenizer

datasets = pytest.importorskip("datasets")

# One with rows in both splits, and one where all rows are on one side.
VAL = {"rag": 0.6, "preference": 0.01}
EOS, PAD = "<|end|>", "<|pad|>"
TOOLS = [{"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}}]
STEPS = [
    {"role": "user", "content": "Mend it."},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "a.py"},
    {"role": "assistant", "content": "Done."},
]
FAULT = {
    "buggy_code": "def add(a, b):\n    return a - b\n",
    "error_message": "AssertionError: 3 != -1",
    "fixed_code": "def add(a, b):\n    return a + b\n",
    "repo": "sums",
    "file": "add.py",
    "extent": "file",
    "outcome": "caught",
    "language": "python",
}
TASK = {
    "language": "python",
    "description": "Twice n.",
    "starter_code": "def twice(n):\n",
    "tests": "assert twice(2) == 4\n",
    "entry_point": "twice",
    "source": {"file": "tasks.jsonl", "line": 1, "sha256": "0" * 64},
}


@pytest.fixture(scope="module")
def everything(tmp_path_factory) -> Lake:
    """A lake that every dataset has rows from, awkward text among them."""
    lake = Lake.create(str(tmp_path_factory.mktemp("everything") / "lake"))
    fill(lake)
    runs = [
        run(
            f"agent-{n}",
            f"agent-{n}",
            None,
            kind="trajectory",
            prompt=None,
            messages=json.dumps(STEPS),
            extra=json.dumps({"tools": TOOLS}),
        )
        for n in range(3)
    ]
    runs += [
        run(f"doc-{n}", f"doc-{n}", f"{NASTY} {n} " * (n + 1), kind="document", role="other", prompt=None)
        for n in range(9)
    ]
    runs.append(run("fault", "sums/add.py", FAULT["fixed_code"], kind="mutation", extra=json.dumps(FAULT)))
    lake.append("evidence", runs, producer="more", sequence=1)
    scores = [verdict(f"agent-{n}", f"agent-{n}", "accepted") for n in range(3)]
    lake.append("scores", scores, producer="more", sequence=1)
    tasks = [{**TASK, "task_id": f"twice-{split}", "split": split} for split in ("train", "eval")]
    tasks += [{"task_id": name, "description": f"Do {name}.", "extra": '{"domain": "talk"}'} for name in ("t1", "t2")]
    lake.append("tasks", tasks, producer="more", sequence=1)
    said = [f"Say {n}." for n in range(3)]
    prompts = [{"prompt_id": prompt_id(text), "text": text, "source": TASK["source"]} for text in said]
    prompts += [{**prompt, "pool": "first", "domain": "talk", "language": "en"} for prompt in prompts]
    lake.append("prompts", prompts, producer="more", sequence=1)
    return lake


@pytest.fixture(scope="module")
def sets(everything, tmp_path_factory) -> Path:
    """Every dataset, as a dataset of Hugging Face's in a folder of its own, as it is asked for by default."""
    folder = tmp_path_factory.mktemp("sets")
    for name in DATASETS:
        export(everything, name, folder / name, Options(format="hf", val=VAL.get(name, 0.0)))
    return folder


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The libraries keep what they read in a folder of the tests, and ask nobody."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


@pytest.mark.parametrize("dataset", DATASETS)
def test_both_doors_of_the_library_open_every_dataset(sets, dataset):
    """`load_from_disk` and `load_dataset` give the same splits, columns, types and rows, and there are some."""
    disk = datasets.load_from_disk(str(sets / dataset))
    loaded = datasets.load_dataset(str(sets / dataset))
    receipt = json.loads((sets / dataset / "receipt.json").read_bytes())
    assert sum(map(len, disk.values())) == receipt["counts"]["exported"] > 0
    assert list(disk) == (["train", "validation"] if dataset in VAL else ["train"])
    assert (
        list(loaded)
        == [split for split in disk if len(disk[split])]
        == ["train", "validation"][: 1 + (dataset == "rag")]
    )
    for split in loaded:
        assert disk[split].features == loaded[split].features
        assert disk[split].to_list() == loaded[split].to_list()


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_dataset_is_valid_and_converts(sets, dataset, tmp_path):
    """Every dataset passes its checks, and comes back from JSON lines as the rows that it was."""
    report = validate(sets / dataset)
    assert report.ok, report.problems
    assert report.rows > 0
    convert(sets / dataset, tmp_path / "rows.jsonl", Conversion(split="train"))
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text("utf-8").splitlines()]
    loaded = datasets.load_from_disk(str(sets / dataset))["train"].to_list()
    assert [row["id"] for row in rows] == [row["id"] for row in loaded]
    assert [{name: row[name] for name in row if name != "created_at"} for row in rows] == [
        {name: row[name] for name in row if name != "created_at"} for row in loaded
    ]


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "jsonl.zst", "parquet", "arrow"])
def test_the_library_loads_every_format(everything, form, tmp_path):
    """Every format of a dataset has the rows that the others have."""
    export(everything, "preference", tmp_path / "out", Options(format=form))
    loaded = datasets.load_dataset(str(tmp_path / "out"), split="train")
    assert loaded.features["chosen"] == datasets.List({name: datasets.Value("string") for name in ("role", "content")})
    assert len(loaded) == json.loads((tmp_path / "out" / "receipt.json").read_bytes())["counts"]["exported"] > 0


def test_packed_rows_load_as_arrays_and_as_a_dataset(everything, tmp_path):
    """Packed rows are an array for NumPy, and the same ids as a dataset, a split for each length."""
    made = tokenizing.load(write_tokenizer(tmp_path / "model", [PAD, EOS], {"eos_token": EOS, "pad_token": PAD}))
    for form in ("npy", "hf"):
        options = Options(format=form, shape="packed", tokenizer=made, lengths=(64, 32))
        export(everything, "pretrain", tmp_path / form, options)
        assert validate(tmp_path / form).ok
    loaded = datasets.load_from_disk(str(tmp_path / "hf"))
    for length in (64, 32):
        [path] = (tmp_path / "npy" / "data").glob(f"train_{length}-*.npy")
        ids = np.load(path, mmap_mode="r")
        assert ids.dtype == np.int32
        assert ids.shape[1] == length
        assert loaded[f"train_{length}"]["input_ids"][:] == ids.tolist()


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    """A model of a few thousand weights and a tokenizer with a chat template, as `from_pretrained` reads them."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("tiny")
    write_tokenizer(folder, [PAD, EOS], None)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), eos_token=EOS, pad_token=PAD
    )
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] + ': ' + (m['content'] or '') + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    tokenizer.save_pretrained(folder)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def implicit(folder: Path, out: Path) -> Any:
    """Pairs whose sides are whole conversations, as reward models take them."""
    convert(folder, out, Conversion(shape="preference-implicit", split="train"))
    return datasets.load_from_disk(str(out))["train"]


@pytest.mark.parametrize(
    ("trainer", "dataset"),
    [
        ("SFT", "sft"),
        ("SFT", "domain"),
        ("DPO", "preference"),
        ("KTO", "kto"),
        ("Reward", "preference"),
        ("GRPO", "grpo"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_trainers_take_what_is_exported(sets, model_folder, tmp_path, trainer, dataset):
    """Each of TRL's trainers makes a step on the rows as they are, and comes out with a loss that is a number."""
    trl = pytest.importorskip("trl")
    transformers = pytest.importorskip("transformers")
    rows = datasets.load_from_disk(str(sets / dataset))["train"]
    if trainer == "Reward":
        rows = implicit(sets / dataset, tmp_path / "implicit")
    more: dict[str, Any] = {}
    settings: dict[str, Any] = {"max_length": 256}
    if trainer == "GRPO":
        settings = {"max_completion_length": 4, "num_generations": 2}
        more["reward_funcs"] = lambda completions, tests, entry_point, **_: [
            float(len(test) > 0 and name == "twice") for test, name in zip(tests, entry_point, strict=True)
        ]
    options = getattr(trl, f"{trainer}Config")(
        output_dir=str(tmp_path / "out"),
        max_steps=1,
        per_device_train_batch_size=2,
        bf16=False,
        use_cpu=True,
        report_to=[],
        logging_steps=1,
        save_strategy="no",
        gradient_checkpointing=False,
        disable_tqdm=True,
        **settings,
    )
    model: Any = str(model_folder)
    if trainer == "Reward":
        model = transformers.AutoModelForSequenceClassification.from_pretrained(model_folder, num_labels=1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder)
    made = getattr(trl, f"{trainer}Trainer")(
        model=model, args=options, train_dataset=rows, processing_class=tokenizer, **more
    )
    assert np.isfinite(made.train().training_loss)


def test_arrow_files_open_without_any_library_of_the_field(sets):
    """A file of a dataset on disk is an Arrow stream, for whoever reads Arrow."""
    [path] = (sets / "sft" / "train").glob("data-*.arrow")
    with pa.memory_map(str(path)) as source:
        assert pa.ipc.open_stream(source).read_all().num_rows > 0
