"""Pairs with a margin, as columns and in Harmony."""

import json

import pytest

from exporters import harmony
from exporters.export import export, verify
from exporters.faults import FirewallBreach
from exporters.plan import Options
from tests.exporters.conftest import run, verdict
from views.connect import connect, dumps, needed, sources


@pytest.fixture
def paired(lake):
    """Two tasks with a pair each; one verdict of the second has no score."""
    texts = {"good": "right <|end|>", "bad": "wrong", "more": "right too", "less": "wrong too"}
    tasks = {"good": "t1", "bad": "t1", "more": "t2", "less": "t2"}
    lake.append("evidence", [run(name, tasks[name], text) for name, text in texts.items()], producer="t", sequence=1)
    scores = {
        "good": ("accepted", 0.9),
        "bad": ("rejected", 0.2),
        "more": ("accepted", 0.8),
        "less": ("rejected", None),
    }
    rows = [verdict(name, tasks[name], category, score=score) for name, (category, score) in scores.items()]
    lake.append("scores", rows, producer="t", sequence=1)
    return lake


def rows(folder):
    [file] = folder.glob("data/*.jsonl")
    return list(map(json.loads, file.read_text("utf-8").splitlines()))


def test_a_margin_is_the_difference_of_the_scores(paired, tmp_path):
    """Where one of them is missing there is no margin, and the pair is in quarantine for that."""
    counts = export(paired, "ipo", tmp_path / "out", Options(shape="plain")).counts
    assert (counts.considered, counts.exported, counts.reasons) == (2, 1, {"missing_margin": 1})
    [row] = rows(tmp_path / "out")
    assert (row["prompt"], row["chosen"], row["rejected"]) == ("Do t1.", "right <|end|>", "wrong")
    assert row["margin"] == pytest.approx(0.7)
    with connect(paired.snapshot(), sql=needed("ipo_checks")) as connection:
        found = connection.sql("select record_type, run_id, errors from ipo_checks where errors <> ''").fetchall()
    assert found == [("pair", "more", "missing_margin")]


def test_sides_are_turns_where_trainers_want_turns(paired, tmp_path):
    """The conversational shape is that of preference with a margin."""
    export(paired, "ipo", tmp_path / "out")
    [row] = rows(tmp_path / "out")
    assert row["prompt"] == [{"role": "user", "content": "Do t1."}]
    assert row["chosen"] == [{"role": "assistant", "content": "right <|end|>"}]


def test_no_side_in_harmony_repeats_the_prompt(paired, tmp_path):
    """The prompt ends where the assistant begins; behind it each side is a whole, valid conversation."""
    export(paired, "ipo", tmp_path / "out", Options(shape="harmony"))
    [row] = rows(tmp_path / "out")
    assert row["prompt"].endswith("<|start|>user<|message|>Do t1.<|end|><|start|>assistant")
    assert row["rejected"] == "<|channel|>final<|message|>wrong<|return|>"
    for side, text in (("chosen", "right <|end|>"), ("rejected", "wrong")):
        assert "Do t1." not in row[side]
        assert harmony.parse(row["prompt"] + row[side]).turns[-1].text == text
    assert verify(paired, tmp_path / "out").ok


def test_records_that_stand_in_no_pair_are_accounted_for(filled, tmp_path):
    """The books are those of preference: every record that it refuses, ipo refuses too."""
    mine = export(filled, "ipo", tmp_path / "ipo").counts
    theirs = export(filled, "preference", tmp_path / "preference").counts
    assert (mine.considered, mine.exported, mine.reasons) == (theirs.considered, theirs.exported, theirs.reasons)
    assert mine.tasks_without_pair == theirs.tasks_without_pair


@pytest.mark.parametrize(
    ("shape", "made_up", "why"),
    [
        ("plain", "cast(null as double) as margin", "margin is missing"),
        ("plain", "cast('nan' as double) as margin", "margin is missing"),
        ("plain", "chosen as rejected", "the same text"),
        ("harmony", "chosen as rejected", "the same text"),
    ],
)
def test_a_view_that_makes_bad_rows_is_refused(paired, tmp_path, shape, made_up, why):
    """The second layer looks at every row again."""
    rules = dict(sources())
    rules["ipo_before"] = rules["ipo"]
    rules["ipo"] = f"select * replace ({made_up}) from ipo_before"
    options = Options(shape=shape, views=paired.put_object(dumps(rules)))
    with pytest.raises(FirewallBreach, match=why):
        export(paired, "ipo", tmp_path / "out", options)
