import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.reference import commands
from tests.cli.conftest import Ran

Run = Callable[..., Ran]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["sqll", "select 1"], "sqll"),
        (["sql"], "query"),
        (["sql", "select 1", "--fromat", "csv"], "--fromat"),
        (["sql", "select 1", "--format", "xml"], "xml"),
        (["snapshot", "creat"], "creat"),
        (["log", "--limit", "0"], "--limit"),
        (["review", "run", "splendid", "--reason", "x"], "splendid"),
        (["export"], "dataset"),
        (["--fast"], "--fast"),
    ],
)
def test_wrong_usage_is_one_error_and_one_hint(run: Run, arguments: list[str], named: str) -> None:
    """What was typed wrong is named on one line of stderr, the next says what to type, and the exit code is 2."""
    ran = run(*arguments)
    assert ran.code == 2
    assert ran.out == ""
    error, hint = ran.err.splitlines()
    assert error.startswith("error: ")
    assert named.lower() in error.lower()
    assert hint.startswith("hint: ")


@pytest.mark.parametrize(
    "arguments", [["sql", "select 1"], ["health"], ["log"], ["verify"], ["snapshot", "list"], ["why", "x"]]
)
def test_without_a_lake_the_error_says_how_to_make_one(run: Run, lake_uri: str, arguments: list[str]) -> None:
    """A command in the wrong folder names the folder it looked in and the command that creates a lake."""
    ran = run(*arguments)
    assert ran.code == 1
    assert lake_uri in ran.err
    assert "lake init" in ran.err


def test_a_lake_is_created_once(run: Run) -> None:
    """Creating a lake where there is one fails and changes nothing."""
    assert run("init").code == 0
    assert run("init").code == 1
    assert run("verify").code == 0


def test_the_lake_may_be_named_before_or_after_the_command(run: Run, tmp_path: Path) -> None:
    """--lake works on `lake` itself and on each command, where the nearer one wins."""
    other = str(tmp_path / "other")
    assert run("init", "--lake", other).code == 0
    assert run("--lake", other, "verify").code == 0
    assert run("--lake", str(tmp_path / "nowhere"), "verify", "--lake", other).code == 0
    assert run("--lake", str(tmp_path / "nowhere"), "verify").code == 1


def test_every_command_has_a_sentence_and_an_example() -> None:
    """The help of each command starts with one sentence that fits its line in the list, and ends with an example."""
    for path, command in commands().items():
        if not getattr(command, "commands", None):
            first = command.help.split("\n")[0]
            assert first.endswith("."), path
            assert len(first) <= 64, path
            assert f"Example: {path}" in command.help, path


def test_every_option_says_what_it_is_for() -> None:
    """No option and no argument is without a line of help."""
    for path, command in commands().items():
        for parameter in command.params:
            assert getattr(parameter, "help", "set"), f"{path}: {parameter.name}"


def test_an_output_that_nobody_reads_to_its_end_is_no_error(lake_uri: str, run: Run) -> None:
    """`lake ... | head -n 1` ends quietly."""
    run("init")
    command = [sys.executable, "-m", "cli.app", "sql", "from range(2000000)", "--format", "csv"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"range\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_the_start_costs_little() -> None:
    """`lake --version` loads neither torch nor pandas, and says which version it is on stdout alone."""
    heavy = {"torch", "transformers", "pandas"}
    check = f"import sys, cli.app; cli.app.main(['--version']); sys.exit(bool({heavy} & {{*sys.modules}}))"
    ran = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("lake ")
