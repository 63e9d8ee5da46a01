"""Copies on this machine of files that lie in an object store.

A copy is known by the sha256 of its bytes, so it is never stale, and any number of lakes and processes share it. Past a
limit the copies that were asked for longest ago make room, though never one that a process which is still running has
asked for: an engine opens a path when it needs it, and that may be an hour later.

Not here: how a file is fetched, and whether it is the right one (`bucket`).
"""

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from lake.errors import LakeError, UsageError
from lake.files import Content

LIMIT = 50 << 30  # bytes, or half of what the disk has room for, if that is less
FOLDER_VARIABLE = "LAKE_CACHE"
LIMIT_VARIABLE = "LAKE_CACHE_BYTES"

_ABANDONED_SECONDS = 86_400.0
_SAFE = re.compile(r"[A-Za-z0-9._/-]+")

Fetch = Callable[[Content, IO[bytes]], None]


def cache_folder() -> Path:
    """Where the copies are: $LAKE_CACHE, or evidence-lake in the user's folder of caches. Raises UsageError."""
    said = os.environ.get(FOLDER_VARIABLE)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = Path(said or os.path.join(home, "evidence-lake")).absolute()
    # The engines that read the copies take some characters for patterns.
    if not _SAFE.fullmatch(str(folder)):
        raise UsageError(f"{str(folder)!r}: a cache's path may have letters, digits, '.', '_', '-' only", _ELSEWHERE)
    return folder


def cache_limit() -> int | None:
    """How many bytes the copies may take, as $LAKE_CACHE_BYTES says; None if it does not. Raises UsageError."""
    said = os.environ.get(LIMIT_VARIABLE)
    if not said:
        return None
    if not said.isdecimal():
        raise UsageError(f"{LIMIT_VARIABLE}={said}: this is no number of bytes", "for example 50000000000")
    return int(said)


class Cache:
    """The copies in a folder, of at most `limit` bytes, unless running processes need more."""

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        self._folder = folder
        self._limit = limit

    def paths(self, files: Sequence[Content], fetch: Fetch, fetchers: int) -> list[str]:
        """The paths of the files' copies; `fetch` writes one that is not there yet, `fetchers` of them at a time."""
        if not files:
            return []
        named = {f"{file.sha256}{os.path.splitext(file.name)[1]}": file for file in files}
        with self._disk():
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._locked(fcntl.LOCK_SH):
                self._announce(named)
                missing = {name: file for name, file in named.items() if not self._has(name, file)}
            if missing:
                self._make_room(sum(file.size for file in missing.values()))
                with ThreadPoolExecutor(min(fetchers, len(missing))) as pool:
                    list(pool.map(lambda name: self._add(name, missing[name], fetch), missing))
        return [str(self._folder / f"{file.sha256}{os.path.splitext(file.name)[1]}") for file in files]

    def _has(self, name: str, file: Content) -> bool:
        """Whether there is a copy; if so, it counts as asked for now."""
        path = self._folder / name
        try:
            if path.stat().st_size != file.size:
                return False
            os.utime(path)
        except FileNotFoundError:
            return False
        return True

    def _add(self, name: str, file: Content, fetch: Fetch) -> None:
        scratch = self._folder / f".{name}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
        try:
            with scratch.open("xb") as sink:
                fetch(file, sink)
                sink.flush()
                os.fsync(sink.fileno())
            scratch.rename(self._folder / name)
        finally:
            scratch.unlink(missing_ok=True)

    def _make_room(self, needed: int) -> None:
        """Remove the copies that were asked for longest ago, until what is needed fits."""
        with self._locked(fcntl.LOCK_EX):
            found, now = [], time.time()
            for entry in os.scandir(self._folder):
                about = entry.stat(follow_symlinks=False)
                if not entry.name.startswith("."):
                    found.append((about.st_mtime, about.st_size, entry.name))
                elif entry.name.endswith(".tmp") and now - about.st_mtime > _ABANDONED_SECONDS:
                    Path(entry.path).unlink(missing_ok=True)
            held = sum(size for _, size, _ in found)
            limit = self._limit
            if limit is None:
                limit = min(LIMIT, (shutil.disk_usage(self._folder).free + held) // 2)
            if held + needed <= limit:
                return
            used = self._used()
            for _, size, name in sorted(found):
                if name not in used:
                    (self._folder / name).unlink()
                    held -= size
                if held + needed <= limit:
                    break

    def _announce(self, names: Sequence[str] | dict[str, Content]) -> None:
        """Say that this process uses copies, for as long as it runs."""
        known, file = _process.users_file(self._folder)
        new = [name for name in names if name not in known]
        if new:
            os.write(file, "".join(f"{name}\n" for name in new).encode())
            known.update(new)

    def _used(self) -> set[str]:
        """What the processes that are still running have asked for."""
        used: set[str] = set()
        for path in self._folder.glob(".user-*"):
            with path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    used.update(file.read().decode().split())
                else:
                    path.unlink(missing_ok=True)
        return used

    @contextlib.contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        """Hold the folder: shared to say what is used, alone to remove what is not."""
        descriptor = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, how)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = error.filename or self._folder
            raise LakeError(f"{where}: copies cannot be kept here: {error.strerror or error}", _ELSEWHERE) from error


class _Process:
    """What this process has asked for, and the locked files that tell others so for as long as it runs."""

    def __init__(self) -> None:
        self._files: dict[Path, tuple[set[str], int]] = {}
        self._lock = threading.Lock()

    def users_file(self, folder: Path) -> tuple[set[str], int]:
        """The names that were announced in a folder, and the file to announce more in."""
        with self._lock:
            if folder not in self._files:
                path = folder / f".user-{os.getpid()}-{secrets.token_hex(4)}"
                file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o666)
                fcntl.flock(file, fcntl.LOCK_EX)
                self._files[folder] = (set(), file)
            return self._files[folder]


_process = _Process()
_ELSEWHERE = f"set {FOLDER_VARIABLE} to a folder with room"
