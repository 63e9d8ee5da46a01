"""Writes `docs/cli.md` from the commands' own help: `python -m cli.reference [FILE]`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cli.app import command

INTRODUCTION = """# The `lake` command

Made from the commands' own help by `make docs`; `lake COMMAND --help` prints the same.
"""


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


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else "docs/cli.md").write_text(pages(), "utf-8")
