import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.demo import STORY
from tests.cli.conftest import Ran

Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    """The demo, run once, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    ran = subprocess.run(
        [shutil.which("lake") or "lake", "demo", "story"], cwd=folder, capture_output=True, text=True, check=False
    )
    return folder, Ran(ran.returncode, ran.stdout, ran.stderr)


def test_the_demo_tells_its_whole_story(told: tuple[Path, Ran]) -> None:
    """Every step is printed as a command and works, without a warning, and the end says what to look at."""
    _, ran = told
    assert ran.code == 0, ran.err
    assert re.findall(r"^\$ lake (.*)$", ran.out, re.MULTILINE) == [command.format("story") for _, command in STORY]
    assert not re.search(r"^error:", ran.err, re.MULTILINE)
    assert "warning" not in ran.err.lower()
    assert "What to look at next" in ran.err


def test_the_demo_ends_with_a_lake_that_holds_what_it_told(told: tuple[Path, Ran], run: Run) -> None:
    """The exports of the demo verify, validate, and add up; the diff names just the runs whose verdict changed."""
    folder, _ = told
    lake = str(folder / "story" / "lake")
    for dataset in ("sft", "rag", "preference"):
        assert run("export", "--verify", folder / "story" / "sets-before" / dataset, "--lake", lake).code == 0
        assert run("validate", folder / "story" / "sets-before" / dataset).code == 0
    diff = run("snapshot", "diff", "before", "after", "--dataset", "sft", "--format", "csv", "--lake", lake)
    changed = {line.split(",")[3] for line in diff.out.splitlines()[1:]}
    reviewed = run("sql", "select run_id from scores where scorer = 'human'", "--format", "csv", "--lake", lake)
    assert changed == set(reviewed.out.split()[1:])
    assert run("verify", "--deep", "--lake", lake).code == 0


def test_the_demo_touches_no_folder_that_is_in_use(told: tuple[Path, Ran], run: Run) -> None:
    """A second demo in the same place is refused, and says which name is free."""
    folder, _ = told
    ran = run("demo", folder / "story")
    assert ran.code == 1
    assert "story-2" in ran.err


def test_the_catalog_opens_in_an_older_shell(told: tuple[Path, Ran], run: Run, tmp_path: Path) -> None:
    """A DuckDB shell that knows nothing of the lake joins two views of the file that `lake catalog` wrote."""
    folder, _ = told
    file = tmp_path / "lake.duckdb"
    assert run("catalog", file, "--lake", folder / "story" / "lake").code == 0
    assert run("catalog", file, "--lake", folder / "story" / "lake").code == 1
    query = "select count(*) from accepted join tasks using (task_id)"
    shell = [shutil.which("duckdb") or "duckdb", "-readonly", "-csv", "-noheader", str(file), query]
    joined = subprocess.run(shell, capture_output=True, text=True, check=True)
    ours = run("sql", query, "--format", "csv", "--lake", folder / "story" / "lake")
    assert ours.out.splitlines()[1:] == joined.stdout.splitlines()


def test_the_shell_is_a_duckdb_shell_on_the_views(told: tuple[Path, Ran]) -> None:
    """`lake shell` reads SQL from the terminal, or from a pipe."""
    folder, _ = told
    command = [shutil.which("lake") or "lake", "shell", "--lake", str(folder / "story" / "lake")]
    ran = subprocess.run(command, input="select count(*) from tasks;", capture_output=True, text=True, check=False)
    assert ran.returncode == 0
    assert "38" in ran.stdout
