"""What is left after the power goes: a disk that keeps only what was brought onto it, and what it pleases of the rest.

`Disk` listens to every call under the store (`Injector.watch`) and keeps a journal of them with the bytes. At any point
of the journal `after` lays out a folder as a machine might find it when the power is back:

- bytes of a file are there for good once the file was fsynced; until then it is whole, empty, full of NUL, or cut;
- a name (made, moved, taken away) is there for good once its folder was fsynced; until then it may be there or not: a
  later one may have survived an earlier one;
- a folder whose own name was lost is lost with all that is in it.

This is what POSIX promises, which is less than most file systems keep. It is not a disk that lies about fsync.
"""

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TAILS = ("whole", "empty", "nul", "half")
NAMES = ("all", "none", "some", "later")


@dataclass
class _File:
    """A file's bytes as programs see them, and as many of them as the disk has for good."""

    data: bytearray = field(default_factory=bytearray)
    kept: bytes = b""


@dataclass
class _Folder:
    """A folder's names as programs see them, those that the disk has for good, and what happened since, in order."""

    kept: dict[str, Any] = field(default_factory=dict)
    names: dict[str, Any] = field(default_factory=dict)
    since: list[tuple[str, Any]] = field(default_factory=list)

    def set(self, name: str, what: Any) -> None:
        """A name means this from now on, or nothing."""
        if what is None:
            self.names.pop(name, None)
        else:
            self.names[name] = what
        self.since.append((name, what))

    def sync(self) -> None:
        """The disk has all of it."""
        self.kept = dict(self.names)
        self.since.clear()


class Disk:
    """A journal of what happens below a folder, which is empty as this begins. `told` puts a mark into it."""

    def __init__(self, root: str) -> None:
        self.root = os.path.dirname(root)
        self.journal: list[tuple[str, tuple[Any, ...]]] = []
        self._open: dict[int, str] = {}

    def watch(self, kind: str, given: tuple[Any, ...], done: Any) -> None:
        """What the injector calls after each call."""
        if kind == "open":
            self._open[done] = given[0]
            if given[1] & os.O_CREAT:
                self.journal.append(("create", (given[0],)))
        elif kind == "write":
            self.journal.append(("write", (self._open[given[0]], bytes(given[1][:done]))))
        elif kind == "fsync":
            self.journal.append(("fsync", (self._open[given[0]],)))
        elif kind in {"link", "rename", "unlink", "mkdir"}:
            self.journal.append((kind, tuple(given[:2]) if kind in {"link", "rename"} else (given[0],)))

    def told(self, what: object) -> None:
        """Somebody was told that this is kept."""
        self.journal.append(("told", (what,)))

    def after(self, length: int, target: str, chance: random.Random, names: str, tail: str) -> list[Any]:
        """Lay out below `target` what is left when the power goes after so many entries; what was told until then."""
        top, told = _Folder(), []
        for kind, given in self.journal[:length]:
            if kind == "told":
                told += given
            else:
                self._redo(top, kind, given)
        shutil.rmtree(target, ignore_errors=True)
        _lay_out(top, Path(target), chance, names, tail)
        return told

    def _redo(self, top: _Folder, kind: str, given: tuple[Any, ...]) -> None:
        folder, name = self._place(top, given[0])
        if kind == "create":
            folder.set(name, _File())
        elif kind == "mkdir":
            folder.set(name, _Folder())
        elif kind == "write":
            folder.names[name].data += given[1]
        elif kind == "unlink":
            folder.set(name, None)
        elif kind == "fsync":
            what = folder.names[name] if name else folder
            if isinstance(what, _Folder):
                what.sync()
            else:
                what.kept = bytes(what.data)
        else:
            target, other = self._place(top, given[1])
            target.set(other, folder.names[name])
            if kind == "rename":
                folder.set(name, None)

    def _place(self, top: _Folder, path: str) -> tuple[_Folder, str]:
        parts = Path(path).relative_to(self.root).parts
        for part in parts[:-1]:
            top = top.names[part]
        return top, parts[-1] if parts else ""


def _lay_out(folder: _Folder, path: Path, chance: random.Random, names: str, tail: str) -> None:
    """Make what a machine might find of a folder."""
    path.mkdir(parents=True)
    found = dict(folder.kept)
    for name, what in _survivors(folder.since, chance, names):
        if what is None:
            found.pop(name, None)
        else:
            found[name] = what
    for name, what in found.items():
        if isinstance(what, _Folder):
            _lay_out(what, path / name, chance, names, tail)
        else:
            (path / name).write_bytes(_bytes_of(what, tail))


def _survivors(since: list[tuple[str, Any]], chance: random.Random, names: str) -> list[tuple[str, Any]]:
    choose: dict[str, Callable[[int], bool]] = {
        "all": lambda _: True,
        "none": lambda _: False,
        "some": lambda _: chance.random() < 0.5,
        "later": lambda at: at >= len(since) // 2,
    }
    return [change for at, change in enumerate(since) if choose[names](at)]


def _bytes_of(file: _File, tail: str) -> bytes:
    data, kept = bytes(file.data), file.kept
    if tail == "whole" or len(kept) == len(data):
        return data
    lost = len(data) - len(kept)
    return kept + {"empty": b"", "nul": bytes(lost), "half": data[len(kept) : len(kept) + lost // 2]}[tail]
