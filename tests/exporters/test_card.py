import msgspec
import pyarrow as pa

from exporters.card import render
from exporters.datasets import DATASETS
from exporters.receipt import Counts
from views.policy import Policy

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("tools", pa.json_(pa.string())),
        ("quality_score", pa.float64()),
        ("created_at", pa.timestamp("us", "UTC")),
        ("provenance", pa.struct([("file", pa.string()), ("line", pa.int64())])),
        ("schema_version", pa.int32()),
    ]
)


def card(**more):
    given = {
        "dataset": DATASETS["preference"],
        "schema": SCHEMA,
        "counts": Counts(9, 4, 5, {"self_pairing": 2, "empty_content": 3}, 7),
        "policy": {"include_partial": True, "include_review": False, "precedence": ["human"], "known_files": None},
        "snapshot": "0123",
        "tables": {"scores": 2, "evidence": 4},
        "views": "f" * 64,
        "rebuild": "lake export preference FOLDER --at 0123",
    }
    return render(**{**given, **more})


def test_the_head_spells_out_the_types():
    """Loaders read the columns' types from the head, so a column that is null at first keeps its type."""
    head = card().split("---\n")[1]
    assert (
        head
        == """configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
dataset_info:
  features:
  - name: id
    dtype: string
  - name: messages
    list:
    - name: role
      dtype: string
    - name: content
      dtype: string
  - name: tools
    dtype: json
  - name: quality_score
    dtype: float64
  - name: created_at
    dtype: timestamp[us, tz=UTC]
  - name: provenance
    struct:
    - name: file
      dtype: string
    - name: line
      dtype: int64
  - name: schema_version
    dtype: int32
"""
    )


def test_the_words_say_what_there_is():
    """The card says what one row is, the counts, what was refused and why, the state, the policy and the command."""
    text = card()
    for said in (
        "# preference",
        "One row is one pair",
        "9 records were considered: 4 are here, 5 are not.",
        "| empty_content | 3 |",
        "7 tasks have no pair.",
        "Snapshot `0123` (evidence 4, scores 2), views `ffffffffffff`",
        "- include_partial: yes",
        "- include_review: no",
        "- precedence: human",
        "- known_files: not given",
        "lake export preference FOLDER --at 0123",
        "lake export --verify FOLDER",
    ):
        assert said in text


def test_a_policy_is_told_to_its_parts():
    """A part of a policy has a line for each of its own parameters, under the name that a policy file has it by."""
    text = card(policy=msgspec.json.decode(Policy().to_json()))
    policy = text[text.index("under the policy") : text.index("`receipt.json`")]
    assert "- quality.gates: none\n- quality.eval_splits: eval, test\n" in policy
    assert "- replay.max_bytes: not given\n" in policy
    assert "- harmony.effort: medium\n" in policy
    assert not set("{}[]'") & set(policy)


def test_a_long_list_in_a_policy_is_counted():
    """A policy may list thousands of files; the card says how many."""
    text = card(policy={"known_files": [f"src/{number}.py" for number in range(5000)]})
    assert "- known_files: 5000 values, see receipt.json" in text
    assert len(text) < 3000


def test_nothing_refused_needs_no_table():
    """Without a refusal there is no table of reasons, and without pairs no word of them."""
    text = card(dataset=DATASETS["sft"], counts=Counts(4, 4, 0, {}))
    assert "not here because" not in text
    assert "have no pair" not in text
