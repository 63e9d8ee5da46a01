"""The house keeps its own rules: floors, doors, names, and what may be written where."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("lake", "views", "ingest", "exporters", "trainers", "cli")
MODULES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
QUERIES = sorted((ROOT / "views").rglob("*.sql"))

# Each engine, and where alone it may be imported.
ENGINES = {
    "duckdb": "views/",
    "deltalake": "lake/log.py",
    "obstore": "lake/bucket.py",
    "typer": "cli/",
    "click": "cli/",
    "rich": "cli/",
    "torch": "trainers/",
    "transformers": "trainers/",
    "trl": "trainers/",
    "peft": "trainers/",
}
BROAD = {"Exception", "BaseException"}


def at(path: Path, node: ast.AST | None = None) -> str:
    """A place as an editor understands it."""
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield node.module or "."


def exported(path: Path) -> list[str] | None:
    """The names in a module's `__all__`, None where it has none."""
    for node in tree(path).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == "__all__":
            return ast.literal_eval(node.value)
    return None


def rank(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions, each by name: the order that ruff keeps."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def tracked() -> list[Path]:
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout")
    return [ROOT / name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()]


def test_every_module_says_what_it_is_for():
    """Each module has a docstring, so a reader knows what the room is for."""
    assert [at(path) for path in MODULES if not ast.get_docstring(tree(path))] == []


def test_every_test_says_what_behaviour_it_is_about():
    """Each test has a docstring."""
    missing = [
        at(path, node)
        for path in TESTS
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not ast.get_docstring(node)
    ]
    assert missing == []


def test_tests_do_not_lean_on_each_other():
    """What two test files need is in a module that is no test: each of them runs, moves and goes by itself."""
    taken = re.compile(r"^\s*(from|import) [\w.]*\btest_", re.MULTILINE)
    found = [
        f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start(1)) + 1}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for text in [path.read_text()]
        for match in taken.finditer(text)
    ]
    assert found == []


def test_doors_are_sorted_and_real():
    """Each name in an `__all__` exists in its module, and the names are in order."""
    doors = {path: names for path in MODULES if (names := exported(path)) is not None}
    assert ROOT / "lake" / "__init__.py" in doors
    for path, names in doors.items():
        assert names == sorted(names, key=rank), at(path)
        assert len(names) == len(set(names)), at(path)
        module = importlib.import_module(
            ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        )
        assert [name for name in names if not hasattr(module, name)] == [], at(path)


def test_imports_stand_at_the_top():
    """No function imports anything: a cycle is mended by moving code, not by hiding it."""
    hidden = {
        at(path, inner)
        for path in MODULES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Import | ast.ImportFrom)
    }
    assert sorted(hidden) == []


def test_each_engine_has_one_place():
    """The engine of SQL is imported under views alone, deltalake in one file, typer under cli, torch under trainers."""
    strays = [
        f"{at(path, node)} imports {name}"
        for path in MODULES
        for node in ast.walk(tree(path))
        for name in imported(node)
        if not str(path.relative_to(ROOT)).startswith(ENGINES.get(name.split(".")[0], ""))
    ]
    assert strays == []


def test_nothing_fails_in_silence():
    """A handler of every exception raises again or looks at what it caught."""
    silent = []
    for path in MODULES:
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.ExceptHandler):
                continue
            caught = {inner.id for inner in ast.walk(node.type) if isinstance(inner, ast.Name)} if node.type else BROAD
            inside = [inner for statement in node.body for inner in ast.walk(statement)]
            raises = any(isinstance(inner, ast.Raise) for inner in inside)
            looks = any(isinstance(inner, ast.Name) and inner.id == node.name for inner in inside)
            if caught & BROAD and not raises and not looks:
                silent.append(at(path, node))
    assert silent == []


def test_no_room_is_a_drawer():
    """No module is called utils, common, helpers or misc: what it holds belongs somewhere."""
    drawers = {"utils", "util", "common", "helpers", "helper", "misc", "tools"}
    assert [at(path) for path in MODULES if {path.stem, *path.relative_to(ROOT).parts} & drawers] == []


def test_every_relation_says_what_one_row_is():
    """The first line of each query of the views says what one row of it is."""
    relations = [path for path in QUERIES if path.parent.name != "functions"]
    assert relations
    assert [at(path) for path in relations if not path.read_text().startswith("-- One row per ")] == []


@pytest.mark.parametrize("module", ["lake", "trainers"])
def test_importing_the_lake_is_light(module):
    """Importing the lake, or the floor of the trainers, brings no engine that it does not need at once."""
    heavy = "{'duckdb', 'typer', 'torch', 'transformers'}"
    program = f"import {module}, sys; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_no_file_knows_the_machine_it_was_written_on():
    """No tracked file names a folder of somebody's machine."""
    foreign = re.compile(
        r"(?<![\w.~-])/(?:" + "|".join(["wor" + "k", "tmp/" + "w", "home/[a-z]+", "Users/[a-zA-Z]+"]) + r")/"
    )
    found = []
    for path in tracked():
        text = path.read_bytes().decode(errors="replace")
        found += [
            f"{path.relative_to(ROOT)}:{number}"
            for number, line in enumerate(text.split("\n"), 1)
            if foreign.search(line)
        ]
    assert found == []


def test_every_dependency_is_pinned():
    """Each package that pyproject.toml asks for has one version in constraints.txt."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(name for extra in project["optional-dependencies"].values() for name in extra)]
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = [re.fullmatch(r"([A-Za-z0-9._-]+)==[\w.]+", line) for line in lines]
    assert None not in pinned
    names = [match[1].lower().replace("_", "-") for match in pinned]
    assert len(names) == len(set(names))
    assert {re.match(r"[\w-]+", name)[0].lower() for name in asked} <= set(names)


def test_the_changelog_knows_the_version():
    """The version in pyproject.toml has a section in the changelog."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\n## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
