"""`lake replay`, as it is typed."""

import json

import pytest

DOCUMENT = """# Lakes

A lake is still water.

## Questions

### Q
What is the deepest lake?
### A
Lake Baikal, 1,642 metres.

# Pairs

### Prompt
Name a lake.
### Chosen
Baikal.
### Rejected
The Nile.
"""


@pytest.fixture
def notes(run, tmp_path):
    """A lake that knows a document, and the document."""
    path = tmp_path / "notes.md"
    path.write_text(DOCUMENT)
    assert run("init").code == 0
    assert run("replay", "add", path, "--run", "r1", "--seen-at", "2026-01-01T00:00:00Z").code == 0
    return path


def test_a_document_is_added_once(run, notes):
    """Adding says what came of it; a broken section is told with its line, and the exit code is 3."""
    again = run("replay", "add", notes, "--run", "r1", "--format", "jsonl")
    assert json.loads(again.out)["held"] == 3
    assert "3 sightings read: 0 added, 3 there already" in again.err
    notes.write_text(DOCUMENT + "### Prompt\nalone\n")
    broken = run("replay", "add", notes, "--run", "r2", "--weight", "0.5", "--dry-run")
    assert broken.code == 3
    assert "none stored (a dry run)" in broken.err
    assert "1 section rejected: missing_header 1" in broken.err
    assert run("replay", "add", notes).code == 3
    told = run("sql", "select errors[1] as error from rejects", "--format", "jsonl")
    assert json.loads(told.out)["error"].endswith("line 20: no '### Chosen' after this '### Prompt'")


def test_sections_are_listed_and_shown(run, notes):
    """A list says what becomes of each section, and a section is found by the start of its id."""
    rows = [json.loads(line) for line in run("replay", "list", "--format", "jsonl").out.splitlines()]
    assert sorted(row["state"] for row in rows) == ["active", "active", "reserved"]
    [pair] = [row for row in rows if row["section_type"] == "preference"]
    assert len(run("replay", "list", "--type", "preference", "--format", "jsonl").out.splitlines()) == 1
    assert len(run("replay", "list", "--state", "reserved", "--format", "jsonl").out.splitlines()) == 1
    shown = run("replay", "show", pair["section_id"][:8])
    assert "Baikal." in shown.out
    assert json.loads(run("replay", "show", pair["section_id"], "--format", "jsonl").out)["training_runs"] == ["r1"]
    assert run("replay", "show", "nothing").code == 1
    assert run("replay", "list", "--state", "actve").code == 2


def test_a_sample_is_the_same_each_time(run, notes):
    """Sections, rows or ids; the same for the same seed and moment."""
    asked = ("replay", "sample", 5, "--seed", 3, "--now", "2026-02-01", "--scheme", "uniform")
    first = run(*asked, "--show", "rows", "--format", "jsonl")
    assert first.out == run(*asked, "--show", "rows", "--format", "jsonl").out
    assert "2 sections of 2 that may be drawn" in first.err
    ids = [
        json.loads(line)["section_id"] for line in run(*asked, "--show", "ids", "--format", "jsonl").out.splitlines()
    ]
    assert [json.loads(line)["id"] for line in first.out.splitlines()] == [f"replay-{one}-0" for one in ids]
    assert (
        "Baikal"
        in run("replay", "sample", 5, "--type", "preference", "--no-auto-mined").out + run("replay", "list").out
    )
    for wrong in (("--type", "verse"), ("--now", "soon"), ("--now", "1969-12-31"), ("--now", "0001-01-01T00:00+14:00")):
        assert run(*asked, *wrong).code == 2


def test_a_budget_is_a_question(run, notes, tmp_path):
    """What a budget has no room for is listed, by an option or a policy; nothing changes in the lake."""
    before = run("replay", "list", "--format", "jsonl").out
    gone = run("replay", "evicted", "--max-bytes", "0")
    assert gone.code == 0
    assert "3 sections, " in gone.err
    policy = tmp_path / "policy.json"
    policy.write_text('{"replay": {"max_bytes": 100000}}')
    assert "0 sections, 0 bytes" in run("replay", "evicted", "--policy", policy).err
    assert run("replay", "evicted").code == 2
    assert "evicted" in run("replay", "list", "--max-bytes", "0").out
    assert run("replay", "list", "--format", "jsonl").out == before


def test_what_was_exported_and_a_corpus_are_added(run, notes, tmp_path):
    """An export's rows become sections; a corpus without its index is refused with what to do."""
    (tmp_path / "runs.jsonl").write_text('{"run_id": "r", "task_id": "t", "prompt": "p", "text": "a"}\n')
    run("ingest", "evidence", tmp_path / "runs.jsonl")
    run("review", "r", "accepted", "--reason", "good")
    made = run("export", "sft", tmp_path / "out", "--replay", "0.5", "--replay-seed", "2", "--replay-now", "2026-03-01")
    assert made.code == 0
    assert "replayed rows" in made.err
    assert "--replay 0.5 --policy FOLDER/receipt.json" in (tmp_path / "out" / "README.md").read_text()
    assert run("export", "--verify", tmp_path / "out").code == 0
    added = run("replay", "add", "--export", tmp_path / "out", "--run", "r2", "--format", "jsonl")
    assert json.loads(added.out)["added"] >= 1
    assert run("replay", "add").code == 2
    assert run("replay", "add", notes, "--export", tmp_path / "out").code == 2
    missing = run("replay", "import", tmp_path / "corpus.zst", tmp_path / "index.json")
    assert missing.code == 1
    assert "hint:" in missing.err
