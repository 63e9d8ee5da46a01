"""What `lake train` and its like say to somebody who mistypes."""

import pytest


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("train", "stf", "--config", "x"), "error: there is no method 'stf'\nhint: did you mean sft?\n"),
        (("train",), "error: which method?\nhint: it is one of pretrain, sft, "),
        (("train", "sft"), "error: which settings?\nhint: lake train sft --init > sft.toml"),
        (("train", "sft", "--config", "x"), "error: x: No such file or directory\nhint: lake train sft --init > x"),
        (("train", "--replay-run", "x"), "error: x: there is no such file\nhint: name the run.json of a run"),
        (("audit", "--config", "empty.toml"), "error: empty.toml: method: which method?\nhint: it is one of"),
        (("shards", "show", "nowhere"), "error: nowhere: no shards here\nhint: build them"),
    ],
)
def test_what_is_mistyped_is_answered_with_what_to_type(typed, said, run, tmp_path, monkeypatch):
    """One line says what is wrong, one what to do, and the exit code that of wrong usage."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.toml").touch()
    ran = run(*typed)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(said)
    assert ran.err.count("\n") == 2
