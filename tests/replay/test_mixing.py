"""Fresh and replayed rows in one export: as many as asked for, never the same text, and the same bytes again."""

import json
import re

import pytest

from exporters.export import export, verify
from exporters.mixing import FITS
from exporters.plan import Options
from exporters.validate import validate
from ingest.replay.sections import written
from lake.errors import UsageError
from tests.views import world
from views import Policy
from views.policy import Replay

FRESH = 24


def normal(text):
    return re.sub(r"[\W_]+", " ", text.lower()).strip()


@pytest.fixture
def filled(lake, sighted):
    """A lake with accepted and rejected runs, and sections of each type, some of which say what a run says."""
    runs = [world.run(f"r{i}", f"t{i}", f"answer {i}", prompt=f"question {i}") for i in range(FRESH)]
    runs += [world.run(f"x{i}", f"t{i}", f"wrong {i}", prompt=f"question {i}") for i in range(FRESH)]
    lake.append("evidence", runs, producer="t", sequence=1)
    scores = [world.score(f"r{i}") for i in range(FRESH)] + [world.score(f"x{i}", "rejected") for i in range(FRESH)]
    lake.append("scores", scores, producer="t", sequence=1)
    rows = []
    for i in range(30):
        pairs = [f"### Q\nold {i} {n}\n### A\nreply {i} {n}" for n in range(3)]
        rows.append(sighted("\n".join(pairs), "instruction", at=i))
        rows.append(sighted(f"### Prompt\nask {i}\n### Chosen\nwell {i}\n### Rejected\nno", "preference", at=i))
        rows.append(sighted(f"text {i}", at=i))
    rows.append(sighted("### Q\nQuestion 3!\n### A\nz", "instruction", at=40))
    rows.append(sighted("### Prompt\nquestion  4\n### Chosen\na\n### Rejected\nb", "preference", at=40))
    rows.append(sighted("### Q\nold 1 1\n### A\nanother", "instruction", at=40))
    lake.append("replay", rows, producer="t", sequence=1)
    return lake


def rows_in(folder, split="train"):
    return [
        json.loads(line)
        for path in sorted(folder.glob(f"data/{split}-*.jsonl"))
        for line in path.read_text().splitlines()
    ]


def options(share, **more):
    policy = Policy(replay=Replay(**{"retention": 0.0, **more.pop("replay", {})}))
    return Options(replay=share, policy=policy, **more)


@pytest.mark.parametrize("dataset", sorted(set(FITS) - {"pretrain"}))
@pytest.mark.parametrize("share", [0.2, 0.5])
def test_the_share_is_of_all_rows(filled, tmp_path, dataset, share):
    """A share of all rows is replayed, each with its provenance, and the fresh ones are those of an export without."""
    made = export(filled, dataset, tmp_path / "mixed", options(share, shape="plain" if dataset != "sft" else None))
    export(filled, dataset, tmp_path / "plain", Options(shape="plain" if dataset != "sft" else None))
    rows, fresh = rows_in(tmp_path / "mixed"), rows_in(tmp_path / "plain")
    replayed = [row for row in rows if row["_replay"] is not None]
    said = made.counts.replay
    assert [{**row, "_replay": None} for row in fresh] == [row for row in rows if row["_replay"] is None]
    assert len(replayed) == said.exported
    assert said.exported in (said.wanted, *range(said.wanted))
    if said.exported == said.wanted:
        assert said.wanted == int(len(fresh) * share / (1 - share) + 0.5)
    assert made.counts.considered == made.counts.exported + made.counts.quarantined
    for row in replayed:
        told = row["_replay"]
        assert row["id"] == f"replay-{told['section_id']}-{told['n']}"
        assert told["last_seen"].startswith("2026-01-01T00:00")
        assert row["task_id"] == f"replay-{told['section_id']}"
    assert len({row["id"] for row in rows}) == len(rows)
    assert verify(filled, tmp_path / "mixed").ok


def asked_of(row):
    return row["prompt"] if "prompt" in row else row["instruction"]


@pytest.mark.parametrize("dataset", ["sft", "preference"])
def test_no_replayed_row_says_what_a_fresh_one_says(filled, tmp_path, dataset):
    """What any split of the fresh rows asks, letters and digits compared, is not replayed, and is counted."""
    shape = "instruction" if dataset == "sft" else "plain"
    made = export(filled, dataset, tmp_path / "out", options(0.9, shape=shape, val=0.3))
    rows = rows_in(tmp_path / "out") + rows_in(tmp_path / "out", "validation")
    fresh = {normal(asked_of(row)) for row in rows if row["_replay"] is None}
    replayed = [row for row in rows if row["_replay"] is not None]
    assert replayed
    assert not fresh & {normal(asked_of(row)) for row in replayed}
    assert made.counts.replay.leaked == 1
    assert len({normal(asked_of(row)) for row in replayed}) == len(replayed)
    assert made.counts.replay.repeated == (1 if dataset == "sft" else 0)
    assert made.counts.replay.exported < made.counts.replay.wanted
    assert "fewer than asked for" in (tmp_path / "out" / "README.md").read_text()


def test_nothing_is_on_both_sides_of_a_split(filled, tmp_path):
    """The rows of a section stay together, and no text is in train and validation, replayed or fresh."""
    for seed in range(3):
        out = tmp_path / str(seed)
        made = export(filled, "sft", out, options(0.7, shape="instruction", val=0.4, seed=seed, replay={"seed": seed}))
        sides = [rows_in(out), rows_in(out, "validation")]
        assert [len(side) for side in sides] == list(made.counts.splits.values())
        train, held_out = ({normal(asked_of(row)) for row in side} for side in sides)
        assert train
        assert held_out
        assert not train & held_out
        sections = [{row["_replay"]["section_id"] for row in side if row["_replay"]} for side in sides]
        assert all(sections)
        assert not sections[0] & sections[1]
    assert made.counts.replay.repeated <= 1


def test_a_side_stays_as_the_lake_grows(filled, tmp_path, sighted):
    """Sections that come later move no row to the other side."""
    asked = options(0.9, shape="instruction", val=0.4)
    export(filled, "sft", tmp_path / "before", asked)
    rows = [sighted(f"### Q\nnew {i}\n### A\nb", "instruction", at=50) for i in range(20)]
    filled.append("replay", rows, producer="t", sequence=2)
    export(filled, "sft", tmp_path / "after", asked)
    before, after = (
        {row["id"]: split for split in ("train", "validation") for row in rows_in(tmp_path / name, split)}
        for name in ("before", "after")
    )
    assert before.items() <= after.items()


def test_seed_and_now_choose_the_rows(filled, tmp_path):
    """The same seed and moment give the same rows, others give others; both are in the receipt."""
    ids = []
    for number, asked in enumerate(({}, {"seed": 1}, {"now": world.at(86400 * 300)}, {})):
        made = export(filled, "sft", tmp_path / str(number), options(0.2, replay=asked))
        assert made.policy["replay"]["seed"] == asked.get("seed", 0)
        ids.append([row["id"] for row in rows_in(tmp_path / str(number))])
    assert made.counts.replay.now == world.at(40).isoformat()
    assert ids[0] == ids[3]
    assert len({tuple(one) for one in ids}) >= 2
    assert ids[0] != ids[1]


@pytest.mark.parametrize("form", ["parquet", "hf"])
def test_every_format_holds_the_mix(filled, tmp_path, form):
    """Formats, shapes without provenance, and the check of a folder know replayed rows."""
    made = export(filled, "sft", tmp_path / "out", options(0.3, format=form, provenance=False))
    assert made.counts.replay.exported == made.counts.replay.wanted
    assert verify(filled, tmp_path / "out").ok
    assert validate(str(tmp_path / "out")).ok


def test_a_conversation_with_tools_is_replayed_as_it_was(filled, tmp_path, sighted):
    """Tool calls and tools reach the file unchanged."""
    talk = {
        "messages": [
            {"role": "user", "content": "u"},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
            {"role": "tool", "content": "x"},
            {"role": "assistant", "content": "y"},
        ],
        "tools": [{"type": "function"}],
    }
    filled.append("replay", [sighted(written("instruction", talk), "instruction")], producer="t", sequence=2)
    export(filled, "sft", tmp_path / "out", options(0.9))
    assert talk in [{name: row[name] for name in talk} for row in rows_in(tmp_path / "out")]


def test_what_is_reserved_or_excluded_is_not_replayed(filled, tmp_path, sighted):
    """Reserved sections, and those of weight 0, are in no export."""
    weightless = sighted("### Q\nnever 1\n### A\nb", "instruction", at=60, weight=0.0)
    filled.append("replay", [weightless], producer="t", sequence=2)
    made = export(filled, "sft", tmp_path / "out", options(0.9, replay={"retention": 0.5}))
    told = {row["_replay"]["section_id"] for row in rows_in(tmp_path / "out") if row["_replay"]}
    assert weightless["section_id"] not in told
    assert made.counts.replay.pool < 30


def test_only_preferences_are_drawn_for_preferences(filled, tmp_path):
    """No draw is spent on a section of another type: as many rows come as are asked for."""
    made = export(filled, "preference", tmp_path / "out", options(0.4, shape="plain"))
    assert made.counts.replay.exported == made.counts.replay.wanted == made.counts.replay.sections == 16


def test_a_share_that_cannot_be_is_refused(filled, tmp_path):
    """A share is at least 0 and below 1, and for the datasets that sections have rows for."""
    for share in (-0.1, 1.0):
        with pytest.raises(UsageError):
            Options(replay=share)
    with pytest.raises(UsageError) as refusal:
        export(filled, "rag", tmp_path / "out", options(0.2))
    assert "sft" in refusal.value.hint
    assert not (tmp_path / "out").exists()


def test_nothing_to_replay_is_said(lake, tmp_path):
    """Without a section the export is what it is without replay, and says how many rows are short."""
    lake.append("evidence", [world.run()], producer="t", sequence=1)
    lake.append("scores", [world.score()], producer="t", sequence=1)
    made = export(lake, "sft", tmp_path / "out", options(0.5))
    assert (made.counts.replay.wanted, made.counts.replay.exported, made.counts.replay.now) == (1, 0, None)
    assert verify(lake, tmp_path / "out").ok
