"""Names of a package that are looked up in its rooms when they are first asked for.

A machine that trains has neither Delta nor DuckDB, and asks for none of the names that need them.
"""

from collections.abc import Callable, Mapping
from importlib import import_module


def looked_up(package: str, rooms: Mapping[str, str]) -> Callable[[str], object]:
    """A module's `__getattr__` (PEP 562) that finds each name in the room that `rooms` says."""

    def find(name: str) -> object:
        try:
            room = rooms[name]
        except KeyError:
            raise AttributeError(f"module {package!r} has no attribute {name!r}") from None
        return getattr(import_module(room), name)

    return find
