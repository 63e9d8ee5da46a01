"""Writes the pages that are made from the code, in a checkout: `python -m cli.reference`.

`docs/cli.md` is made from the commands' own help, `docs/relations.md` from the views' SQL and the columns that DuckDB
finds in it; the commands in `README.md` are run, and their output is what the page shows.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import views
from cli.commands import command
from cli.events import REJECTED
from views import connect

INTRODUCTION = """# The `lake` command

Made from the commands' own help by `make docs`; `lake COMMAND --help` prints the same.
"""


RELATIONS = """# The relations

Made from the views' SQL by `make docs`. Ask them with `lake sql`, `lake shell`, or any DuckDB shell on the file that
`lake catalog` writes. Beside these, `events.NAME` is a table as it was stored, withdrawn events included.
"""
FOLDERS = {
    "facts": "Facts: the events that nobody has withdrawn",
    "state": "State: what follows from them",
    "prompts": "Prompts: what a pool may take, and what it took",
    "datasets": "Datasets: one row a training example",
    "replay": "Replay: what models were trained on, and what may be drawn of it",
    "quarantine": "Quarantine: what was considered, and what was refused",
    "quality": "Quality: what annotators found, and what the gates bar",
    "health": "Health",
    "history": "History: what `lake why` and `lake snapshot diff` ask",
}


def pages() -> str:
    """The help of every command, as one Markdown page."""
    return "\n".join([INTRODUCTION, *(_section(path, context) for path, context in _contexts(command, "lake"))])


def commands() -> dict[str, Any]:
    """Every command by its path, such as `lake snapshot create`."""
    return {path: context.command for path, context in _contexts(command, "lake")}


def _contexts(node: Any, name: str, parent: Any = None) -> Iterator[tuple[str, Any]]:
    """Every command's path and context; a command takes its settings from the context that it is called in."""
    context = node.make_context(
        name, [], parent=parent, resilient_parsing=True, terminal_width=100, max_content_width=100
    )
    yield context.command_path, context
    for child, called in getattr(node, "commands", {}).items():
        yield from _contexts(called, child, context)


def _section(path: str, context: Any) -> str:
    return f"## {path}\n\n```text\n{context.command.get_help(context).strip()}\n```\n"


def relations_page() -> str:
    """Every relation that SQL can ask, by folder: what one row is, and its columns."""
    parts = [RELATIONS]
    with connect(_Nothing()) as connection:
        for folder, title in FOLDERS.items():
            parts.append(f"## {title}\n")
            for file in sorted((Path(views.__file__).parent / folder).glob("*.sql")):
                row = _first_comment(file.read_text("utf-8"))
                columns = connection.sql(f"describe {file.stem}").fetchall()
                listed = ", ".join(f"`{name}` {kind.lower()}" for name, kind, *_ in columns)
                parts.append(f"### {file.stem}\n\n{row}\n\n{listed}\n")
    return "\n".join(parts)


class _Nothing:
    """A snapshot of an empty lake."""

    def paths(self, _kind: str) -> list[str]:
        """No files of any kind."""
        return []


def _first_comment(sql: str) -> str:
    """The first sentence of the comment at the top of a relation's file."""
    lines = takewhile(lambda line: line.startswith("--"), sql.splitlines())
    text = " ".join(line.removeprefix("--").strip() for line in lines)
    return text.split(". ")[0].rstrip(".") + "."


def replay(page: str, checkout: Path) -> str:
    """The page with the output of its `$ lake` commands as it is today. They are run in order, in an empty folder.

    Commands are those in blocks marked `console`. Raises RuntimeError if one fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "cli").symlink_to(checkout / "cli")

        def run(block: re.Match[str]) -> str:
            asked = [line for line in block[1].splitlines() if line.startswith("$ ")]
            return "```console\n" + "".join(f"{line}\n{_output(line[2:], folder)}" for line in asked) + "```\n"

        return re.sub(r"```console\n(.*?)```\n", run, page, flags=re.DOTALL)


def _output(typed: str, folder: str) -> str:
    words = [sys.executable, "-m", "cli.app", *typed.split(" ", 1)[1:]]
    shell = ["bash", "-c", f"{shlex.join(words[:3])} {words[3]}"]
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1", "LAKE_URI": "lakehouse", "NO_COLOR": "1"}
    ended = subprocess.run(
        shell, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if ended.returncode not in {0, REJECTED}:
        raise RuntimeError(f"'{typed}' ended with {ended.returncode}:\n{ended.stdout}")
    return ended.stdout


if __name__ == "__main__":
    root = Path(__file__).parents[1]
    (root / "docs" / "cli.md").write_text(pages(), "utf-8")
    (root / "docs" / "relations.md").write_text(relations_page(), "utf-8")
    readme = root / "README.md"
    readme.write_text(replay(readme.read_text("utf-8"), root), "utf-8")
