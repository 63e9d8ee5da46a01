"""The commands that convert and validate rows of anybody's."""

import json


def rows(path, *said):
    path.write_text("".join(json.dumps(row) + "\n" for row in said))
    return path


def test_what_others_have_becomes_rows_that_pass(run, tmp_path):
    """ShareGPT's rows become turns in Parquet, which are valid; the number of rows is told."""
    source = rows(
        tmp_path / "in.jsonl",
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
    )
    made = run("convert", source, tmp_path / "out.parquet", "--to", "messages")
    assert (made.code, made.out) == (0, "")
    assert "1 rows as parquet, sharegpt before" in made.err
    checked = run("validate", tmp_path / "out.parquet", "--shape", "sft")
    assert checked.code == 0
    assert "1 rows of messages" in checked.err


def test_what_would_be_lost_is_refused_in_one_line(run, tmp_path):
    """A refusal names file, row and field, says what to do, and exits with 1; a wrong use exits with 2."""
    source = rows(tmp_path / "in.jsonl", {"messages": []}, {"messages": [{"role": "user", "content": "x"}]})
    refused = run("convert", source, tmp_path / "out.csv")
    assert refused.code == 1
    assert refused.err.startswith("error: in.jsonl: row 1, field messages: a CSV cannot hold a list")
    assert "hint: " in refused.err
    assert not (tmp_path / "out.csv").exists()
    assert run("convert", source, tmp_path / "out.npy").code == 2
    assert run("convert", source, source).code == 2
    assert run("convert", source, tmp_path / "out", "--format", "csv").code == 2
    assert run("convert", tmp_path / "nothing", tmp_path / "out").code == 2


def test_a_folder_is_a_dataset_by_default(run, tmp_path):
    """A new folder holds a dataset of Hugging Face's, and one split of it becomes a file again."""
    (tmp_path / "in").mkdir()
    for split in ("train", "test"):
        rows(tmp_path / "in" / f"{split}.jsonl", {"text": split})
    assert run("convert", tmp_path / "in", tmp_path / "out").code == 0
    assert (tmp_path / "out" / "dataset_dict.json").exists()
    assert run("convert", tmp_path / "out", tmp_path / "back.json", "--split", "test").code == 0
    assert json.loads((tmp_path / "back.json").read_text()) == [{"text": "test"}]


def test_validate_is_told_the_vocabulary(run, tmp_path):
    """Token ids are held to a size, or to a tokenizer's, and not to both."""
    source = rows(tmp_path / "ids.jsonl", {"input_ids": [1, 7]})
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": 0, "b": 7}}}))
    assert run("validate", source).code == 0
    assert run("validate", source, "--vocab-size", 8).code == 0
    assert run("validate", source, "--tokenizer", tmp_path).code == 0
    refused = run("validate", source, "--vocab-size", 7, "--format", "jsonl")
    assert refused.code == 1
    assert json.loads(refused.out) == {
        "file": "ids.jsonl",
        "row": 1,
        "field": "input_ids[1]",
        "problem": "token id 7 out of vocabulary: it has 7",
    }
    assert run("validate", source, "--vocab-size", 7, "--tokenizer", tmp_path).code == 2
    assert run("validate", source, "--vocab-size", 0).code == 2
    mistyped = run("validate", tmp_path / "idss.jsonl")
    assert mistyped.code == 2
    assert "there is nothing of this name" in mistyped.err
    assert run("validate", source, "--shape", "poems").code == 2
