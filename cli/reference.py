"""Writes the reference pages: `python -m cli.reference [FOLDER]`.

`cli.md` is made from the commands' own help, `relations.md` from the views' SQL and the columns that DuckDB finds in
it.
"""

import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import views
from cli.app import command
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
    "datasets": "Datasets: one row a training example",
    "quarantine": "Quarantine: what was considered, and what was refused",
    "health": "Health",
}


def pages() -> str:
    """The help of every command, as one Markdown page."""
    return "\n".join([INTRODUCTION, *(_section(path, node) for path, node in commands().items())])


def commands() -> dict[str, Any]:
    """Every command by its path, such as `lake snapshot create`."""
    return dict(_walk(command, "lake"))


def _walk(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, node
    for name, child in getattr(node, "commands", {}).items():
        yield from _walk(child, f"{path} {name}")


def _section(path: str, node: Any) -> str:
    context = node.make_context(path, [], resilient_parsing=True, terminal_width=100, max_content_width=100)
    return f"## {path}\n\n```text\n{node.get_help(context).strip()}\n```\n"


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


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "docs")
    (target / "cli.md").write_text(pages(), "utf-8")
    (target / "relations.md").write_text(relations_page(), "utf-8")
