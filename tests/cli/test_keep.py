"""The newcomer's path through a damaged lake: one line of what is wrong, what still works, what to type next."""

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.app import main
from lake import Lake
from lake.findings import Code
from tests.cli.conftest import Ran
from tests.lake.damage import flip
from tests.lake.rows import evidence, scores

Run = Callable[..., Ran]

# Each leaves the table of scores damaged, and says whether the newest state and the snapshot 'first' can be read.
COMMANDS = (
    ("sql", "select count(*) as n from events.scores"),
    ("sql", "select count(*) as n from events.tasks"),
    ("sql", "select count(*) as n from events.scores", "--at", "first"),
    ("snapshot", "list"),
    ("log", "--limit", "1"),
    ("health",),
    ("export", "sft", "OUT"),
    ("export", "sft", "OUT", "--at", "first"),
    ("ingest", "scores", "MORE"),
    ("verify",),
    ("verify", "--deep"),
    ("repair", "--dry-run"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of a few commits, the first of them pinned by name and exported. Not to be written to."""
    root = tmp_path_factory.mktemp("made") / "lakehouse"
    lake = Lake.create(str(root))
    source = {"file": "a.jsonl", "line": 1, "sha256": "0" * 64}
    lake.append("tasks", [{"task_id": "t"}], producer="p", sequence=0)
    lake.append("evidence", evidence("a", "b", prompt="why?", source=source), producer="p", sequence=0)
    lake.append("scores", scores("a", source=source), producer="p", sequence=0)
    lake.name(lake.pin(), "first")
    assert main(["export", "sft", str(root.parent / "sft"), "--at", "first", "--lake", str(root)]) == 0
    lake.append("scores", scores("b", source=source), producer="p", sequence=1)
    return root


@pytest.fixture
def root(made: Path, lake_uri: str) -> Path:
    """The same, where the commands of a test look for it."""
    shutil.copytree(made, lake_uri)
    return Path(lake_uri)


def log_of(root: Path) -> Path:
    return root / "tables" / "scores" / "_delta_log"


def lose_a_file(root: Path, commit: int = 2) -> None:
    """Delete the data file that a commit added."""
    said = [json.loads(line) for line in (log_of(root) / f"{commit:020d}.json").read_text().splitlines()]
    [name] = [line["add"]["path"] for line in said if "add" in line]
    (root / "tables" / "scores" / name).unlink()


def cut_the_last_commit(root: Path) -> None:
    """Leave half of the newest commit."""
    path = max(log_of(root).glob("*.json"))
    path.write_bytes(path.read_bytes()[:300])


def put_an_old_log_back(root: Path) -> None:
    """Restore a copy of the log over what was committed, pinned and named since."""
    old = root.parent / "old"
    shutil.copytree(log_of(root), old)
    lake = Lake.open(str(root))
    lake.append("scores", scores("late"), producer="p", sequence=2)
    lake.name(lake.pin(), "second")
    shutil.rmtree(log_of(root))
    shutil.copytree(old, log_of(root))


def each(run: Run, root: Path) -> Iterator[tuple[str, Ran]]:
    """What every command says, on a copy of the damaged lake."""
    more = root.parent / "more.jsonl"
    more.write_text(json.dumps(scores("c")[0]) + "\n")
    kept = root.parent / "kept"
    shutil.copytree(root, kept)
    for number, words in enumerate(COMMANDS):
        out = str(root.parent / f"out{number}")
        yield " ".join(words), run(*({"OUT": out, "MORE": str(more)}.get(word, word) for word in words))
        shutil.rmtree(root)
        shutil.copytree(kept, root)


@pytest.mark.parametrize("damage", [lose_a_file, cut_the_last_commit, put_an_old_log_back])
def test_each_command_says_what_is_wrong_and_what_to_type(run: Run, root: Path, damage: Callable[[Path], None]) -> None:
    """On a damaged lake a command does its work, or ends with one line of what is wrong and one of what to do."""
    damage(root)
    ran = dict(each(run, root))
    for command, said in ran.items():
        assert said.code in {0, 1}, command
        assert "Traceback" not in said.err
        if said.code and not command.startswith(("verify", "repair")):
            error, hint = said.err.splitlines()[-2:]
            assert error.startswith("error: "), command
            assert "lake verify" in hint, command
    assert ran["verify"].code == ran["verify --deep"].code == 1
    assert ran["snapshot list"].code == 0
    first = ran["sql select count(*) as n from events.scores --at first"]
    assert (first.code, first.out.split()) == (0, ["n", "1"])
    assert ran["export sft OUT --at first"].code == 0


def test_a_lost_file_stops_only_what_needs_it(run: Run, root: Path) -> None:
    """Other tables, and the snapshots that do not name the file, are read as ever."""
    lose_a_file(root)
    assert run("sql", "select count(*) from events.tasks").code == 0
    assert run("export", "sft", str(root.parent / "again"), "--at", "first").code == 0
    assert run("sql", "from events.scores").code == 1
    said = run("verify")
    assert "file-missing: tables/scores/" in said.out
    assert "restore this file from a backup" in said.out
    refused = run("repair")
    assert refused.code == 1
    assert "refused: tables/scores/" in refused.out


def test_what_is_touched_is_named(run: Run, root: Path) -> None:
    """A file that a named snapshot and its export need is reported with both."""
    lose_a_file(root, 1)
    said = run("verify")
    assert "touches 1 snapshot: first" in said.out
    assert "sft (sft)" in said.out
    assert "untouched are 0 of 1 snapshot and 0 of 1 export" in said.err


def test_a_cut_commit_is_put_aside_and_sent_again(run: Run, root: Path) -> None:
    """Repair says what it did and where the torn commit is; afterwards everything works, and verify is content."""
    cut_the_last_commit(root)
    assert "commit-torn" in run("verify").out
    planned = run("repair", "--dry-run")
    assert planned.code == 0
    assert "would be put aside" in planned.out
    assert run("verify").code == 1
    done = run("repair")
    assert done.code == 0
    [place] = [line.split()[-1] for line in done.out.splitlines() if "it is in" in line]
    assert (root / place).stat().st_size == 300
    assert run("verify").code == 0
    assert run("sql", "select count(*) as n from events.scores").out.split() == ["n", "1"]
    assert run("repair").err.endswith("there is nothing to repair\n")


def test_an_old_log_is_found_by_what_was_named_since(run: Run, root: Path) -> None:
    """The version that is gone, and the name that knows it, are told; the name can still be read."""
    put_an_old_log_back(root)
    said = run("verify")
    assert "rolled-back: tables/scores: its newest commit is version 2, and there was a version 3" in said.out
    assert "touches 1 snapshot: second" in said.out
    assert run("sql", "select count(*) as n from events.scores", "--at", "second").out.split() == ["n", "3"]
    assert run("repair").code == 1


def test_the_report_is_for_programs_too(run: Run, root: Path) -> None:
    """As JSON, JSON lines and CSV each finding has a severity, a code, a place and what it touches; notes too."""
    lose_a_file(root, 1)
    root.joinpath("tables", "scores", "mine.txt").write_text("?")
    lines = [json.loads(line) for line in run("verify", "--format", "jsonl").out.splitlines()]
    assert [(line["severity"], line["code"]) for line in lines] == [
        ("fault", Code.FILE_MISSING),
        ("note", Code.STRAY),
    ]
    assert lines[0]["snapshots"][0]["names"] == ["first"]
    assert lines[0]["exports"][0]["dataset"] == "sft"
    assert json.loads(run("verify", "--format", "json").out) == lines
    [first, _] = csv.DictReader(io.StringIO(run("verify", "--format", "csv").out))
    assert (first["code"], first["table"]) == ("file-missing", "scores")
    acts = [json.loads(line) for line in run("repair", "--format", "jsonl").out.splitlines()]
    assert [act["did"] for act in acts] == ["refused"]


def test_a_whole_lake_is_said_to_be_whole(run: Run, root: Path) -> None:
    """Where nothing is wrong there is one remark, nothing on stdout, and the exit code is 0."""
    for words in ((), ("--deep",)):
        ran = run("verify", *words)
        assert (ran.code, ran.out) == (0, "")
        assert "all is as it was written, with 1 snapshot and 1 export" in ran.err


def test_a_lake_whose_marker_is_damaged_is_examined(run: Run, root: Path) -> None:
    """Where `lake.json` cannot be read no command opens the lake, and verify says so and looks at all the rest."""
    marker = root / "lake.json"
    marker.write_bytes(flip(marker.read_bytes(), 3))
    lose_a_file(root)
    said = run("verify")
    assert said.code == 1
    assert "marker: lake.json: not what was written" in said.out
    assert "file-missing" in said.out
    other = run("snapshot", "list")
    assert other.code == 1
    assert "lake.json" in other.err


def test_orphans_are_taken_away_on_demand(run: Run, root: Path) -> None:
    """What a killed writer left is listed, and goes with --remove-orphans once it is old."""
    left = root / "tables" / "scores" / ".x.parquet.1.ab.tmp"
    left.write_bytes(b"half")
    assert "kept: tables/scores/.x.parquet" in run("repair").out
    assert run("repair", "--remove-orphans", "--older-than", "0.5").code == 2
    assert run("repair", "--remove-orphans").code == 0
    assert left.exists()


def test_a_bit_that_flipped_in_a_data_file_stops_an_export(run: Run, root: Path) -> None:
    """An export proves the files first, as its engine checks no page, and names the bad one."""
    [path, *_] = (root / "tables" / "evidence").glob("*.parquet")
    path.write_bytes(flip(path.read_bytes(), 4000))
    ran = run("export", "sft", str(root.parent / "flipped"))
    assert ran.code == 1
    assert path.name in ran.err
    assert not (root.parent / "flipped").exists()
