"""Files that are written once: where a lake's bytes live, and how they get there for good.

A store holds files under one root and names them by relative paths. `write_new` is how they get there: a file appears
whole or not at all, never replaces another, and is kept when the call returns. Two files alone are ever replaced (the
hint that says which checkpoint is the newest) or taken away (by repair and vacuum).

Here is what a store is, and the one that is a folder; object stores are in `bucket`.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lake.errors import Damaged, LakeError, UsageError

VERIFY = "run 'lake verify' to see what is touched"

_SAFE_ROOT = re.compile(r"[A-Za-z0-9._/-]+")
_MISREAD = re.compile(r"[%\\\x00-\x1f\x7f\ud800-\udfff]")  # also behind a link: deltalake takes them for others


@dataclass(frozen=True)
class Entry:
    """A file in a folder of a store: `size` in bytes, `modified` in seconds since 1970 by the store's own clock."""

    name: str
    size: int
    modified: float


@dataclass(frozen=True)
class Content:
    """A file that is known by what it must hold: its name in the store, its size in bytes, its sha256."""

    name: str
    size: int
    sha256: str


class Store(ABC):
    """Files that are written once, under one root. Picklable; holds nothing open. What fails raises LakeError."""

    uri: str
    """What opens this store again."""

    seeks = False
    """Whether `after` costs no more where there is much before."""

    options: Mapping[str, str] = {}
    """What an engine needs beside a URL to read there itself."""

    @abstractmethod
    def write_new(self, name: str, data: bytes | memoryview) -> bool:
        """Put a file there, for good. Returns False, and changes nothing, if there is one by this name already.

        An error does not mean that nothing happened: the file may be there.
        """

    @abstractmethod
    def replace(self, name: str, data: bytes) -> None:
        """Put a file there, for good, in place of the one by this name."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Take a file away for good, if it is there."""

    @abstractmethod
    def sync(self, name: str) -> None:
        """Make sure that a file that is there, by whomever, is kept. Raises FileNotFoundError."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """All bytes of a file. Raises FileNotFoundError."""

    @abstractmethod
    def entry(self, name: str) -> Entry:
        """One file's size and age. Raises FileNotFoundError."""

    @abstractmethod
    def sha256(self, name: str) -> str:
        """The sha256 of a file's bytes, in hexadecimal. Raises FileNotFoundError."""

    @abstractmethod
    def entries(self, folder: str) -> Iterator[Entry]:
        """The files of a folder in the order of their names, with those that a writer left unfinished."""

    @abstractmethod
    def url(self, name: str) -> str:
        """The full address of a file, for the engines that read it themselves, and for people."""

    @abstractmethod
    def source(self, name: str) -> Any:
        """What pyarrow reads parts of a file from: a path, or a file object that fetches what is asked for."""

    @abstractmethod
    def local(self, files: Sequence[Content]) -> list[str]:
        """Paths on this machine with the contents of these files. Raises Damaged if one is gone or of another size."""

    @abstractmethod
    def is_empty(self) -> bool:
        """Whether there is nothing under the root, but for files that are still being written."""

    def after(self, folder: str, name: str) -> list[str]:
        """The names in a folder that sort after one, in no order; among them those of files still being written."""
        return [entry.name for entry in self.entries(folder) if entry.name > name]

    def alone(self) -> AbstractContextManager[None]:
        """Hold off every other repair, if the store can: an object store cannot. Raises LakeError."""
        return contextlib.nullcontext()

    def holds(self, file: Content) -> bool:
        """Whether what `local` gives for a file has its sha256. Raises FileNotFoundError, or Damaged as `local`."""
        return self.sha256(file.name) == file.sha256

    def size(self, name: str) -> int:
        """The size of a file in bytes. Raises FileNotFoundError."""
        return self.entry(name).size

    def exists(self, name: str) -> bool:
        """Whether there is a file by this name."""
        try:
            self.entry(name)
        except FileNotFoundError:
            return False
        return True

    def names(self, folder: str) -> Iterator[str]:
        """The names in a folder, sorted, without those of files that are still being written."""
        yield from (entry.name for entry in self.entries(folder) if not is_scratch(entry.name))


def is_scratch(name: str) -> bool:
    """Whether this is the name of a file that is still being written, or was left when its writer was killed."""
    return name.startswith(".")


class Folder(Store):
    """A store that is a folder on a local disk."""

    def __init__(self, uri: str) -> None:
        self._root = _local_root(uri)
        self.uri = str(self._root)
        self._plain: set[str] = set()  # folders on the way to which there is no link
        self._lasting: set[str] = set()

    def url(self, name: str) -> str:
        """The full path. Raises Damaged if a folder on the way to it is a link: a lake that came from elsewhere may
        have such, and what they lead to is none of its files.
        """
        folder = os.path.dirname(name)
        if folder not in self._plain:
            parts = folder.split("/")
            for depth in range(len(parts)):
                path = os.path.join(self._root, *parts[: depth + 1])
                if os.path.islink(path):
                    raise Damaged(f"{path}: a link, and a lake has its own files", "put what it leads to in its place")
            self._plain.add(folder)
        return os.path.join(self._root, name)

    def source(self, name: str) -> str:
        """The full path. Raises FileNotFoundError."""
        return self._own(name)

    def write_new(self, name: str, data: bytes | memoryview) -> bool:
        """As any store; on the disk when this returns."""
        with self._scratch(name, data) as (scratch, final):
            try:
                # A link fails where a rename would silently replace.
                os.link(scratch, final)
                new = True
            except FileExistsError:
                new = False
            # Also when another process has put it there: it may not have come this far.
            _sync(os.path.dirname(final))
        return new

    def replace(self, name: str, data: bytes) -> None:
        """As any store; on the disk when this returns."""
        with self._scratch(name, data) as (scratch, final):
            os.rename(scratch, final)
            _sync(os.path.dirname(final))

    def remove(self, name: str) -> None:
        """As any store; gone from the disk when this returns."""
        path = self.url(name)
        with _disk(path), contextlib.suppress(FileNotFoundError):
            os.unlink(path)
            _sync(os.path.dirname(path))

    def sync(self, name: str) -> None:
        """Bring a file and its name onto the disk."""
        path = self.url(name)
        with _disk(path):
            _sync(path)
            _sync(os.path.dirname(path))

    def read(self, name: str) -> bytes:
        """As any store."""
        path = self._own(name)
        with _disk(path):
            return Path(path).read_bytes()

    def entry(self, name: str) -> Entry:
        """As any store."""
        path = self._own(name)
        with _disk(path):
            found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise FileNotFoundError(path)
        return Entry(os.path.basename(name), found.st_size, found.st_mtime)

    def sha256(self, name: str) -> str:
        """As any store."""
        path = self._own(name)
        with _disk(path), open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def entries(self, folder: str) -> Iterator[Entry]:
        """As any store; folders in the folder are passed over."""
        path = self.url(folder)
        # By name: a file system may tell of an entry twice where others come while the folder is read.
        found: dict[str, Entry] = {}
        with contextlib.suppress(FileNotFoundError), _disk(path), os.scandir(path) as entries:
            for entry in entries:
                # Scratch files come and go while the folder is read.
                with contextlib.suppress(FileNotFoundError):
                    if entry.is_file(follow_symlinks=False):
                        about = entry.stat(follow_symlinks=False)
                        found[entry.name] = Entry(entry.name, about.st_size, about.st_mtime)
        yield from (found[name] for name in sorted(found))

    def after(self, folder: str, name: str) -> list[str]:
        """As any store, without a look at any of the files; folders are among them."""
        path = self.url(folder)
        with _disk(path):
            try:
                return [other for other in os.listdir(path) if other > name]
            except FileNotFoundError:
                return []

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """As any store; a process that is killed holds nobody off any more."""
        with _disk(self.uri):
            descriptor = os.open(self.uri, os.O_RDONLY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LakeError(f"{self.uri}: another repair is at work", "wait until it is done") from None
            yield
        finally:
            os.close(descriptor)

    def is_empty(self) -> bool:
        """As any store; a folder that is not there is empty."""
        try:
            with _disk(self.uri):
                return all(map(is_scratch, os.listdir(self.uri)))
        except FileNotFoundError:
            return True

    def local(self, files: Sequence[Content]) -> list[str]:
        """The files' own paths."""
        for file in files:
            try:
                size = self.size(file.name)
            except FileNotFoundError:
                raise Damaged(f"{self.url(file.name)}: this data file is gone", VERIFY) from None
            if size != file.size:
                raise Damaged(f"{self.url(file.name)}: {size} bytes where {file.size} were written", VERIFY)
        return [self.url(file.name) for file in files]

    def _own(self, name: str) -> str:
        """The full path of a file, which is no link to another. Raises FileNotFoundError."""
        path = self.url(name)
        if os.path.islink(path):
            raise FileNotFoundError(path)
        return path

    @contextlib.contextmanager
    def _scratch(self, name: str, data: bytes | memoryview) -> Iterator[tuple[str, str]]:
        """A file beside the one that is meant, with its bytes on the disk; and the path of the one that is meant."""
        final = self.url(name)
        folder, base = os.path.split(final)
        scratch = os.path.join(folder, f".{base}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
        with _disk(final):
            self._make_folder(folder)
            try:
                _write(scratch, data)
                yield scratch, final
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(scratch)

    def _make_folder(self, folder: str) -> None:
        """Make a folder of this store and those above it, each with its name on the disk.

        One that is there already may have been made by somebody who did not come this far, so the first use counts.
        """
        if folder in self._lasting and os.path.isdir(folder):
            return
        if folder == self.uri:
            _make_root(folder)
        else:
            self._make_folder(os.path.dirname(folder))
            try:
                os.mkdir(folder)
            except FileExistsError:
                if not os.path.isdir(folder):
                    raise
            _sync(os.path.dirname(folder))
        self._lasting.add(folder)


@contextlib.contextmanager
def _disk(path: str) -> Iterator[None]:
    """Tell the caller that there is no such file; turn all else that the disk refuses into a LakeError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except NotADirectoryError as error:
        raise FileNotFoundError(*error.args) from None
    except OSError as error:
        raise LakeError(f"{path}: {error.strerror or error}", "make room or mend the disk; then try again") from error


def _write(path: str, data: bytes | memoryview) -> None:
    """Write a new file, and bring its bytes onto the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_root(folder: str) -> None:
    """Make the folder of a store, and those above it that are missing, each with its name on the disk."""
    parent = os.path.dirname(folder)
    try:
        os.mkdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        _make_root(parent)
        os.mkdir(folder)
    except FileExistsError:
        if not os.path.isdir(folder):
            raise
        # Where we may not look we have made nothing either.
        if not os.access(parent, os.R_OK):
            return
    _sync(parent)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _local_root(uri: str) -> Path:
    scheme, addressed, path = uri.partition("://")
    if not addressed:
        path = uri
    elif scheme != "file":
        raise UsageError(
            f"{uri}: a lake on {scheme}:// cannot be opened by this version",
            "use a folder on a local disk, or s3://BUCKET/PREFIX",
        )
    else:
        path = path.removeprefix("localhost")
        if not path.startswith("/"):
            raise UsageError(f"{uri}: a file:// address names no host", f"write file:///{path.partition('/')[2]}")
    if not path:
        raise UsageError("a lake's address may not be empty", "name a folder, for example ./lakehouse")
    root = str(Path(path).absolute())
    # The engines underneath disagree on how such characters are written: some read another file than the one meant.
    if not _SAFE_ROOT.fullmatch(root):
        odd = sorted(set(_SAFE_ROOT.sub("", root)))
        raise UsageError(
            f"{root!r}: a lake's path may not contain {' '.join(map(repr, odd))}",
            "use letters, digits, '.', '_', '-' and '/' only, or a symbolic link of such a name to this folder",
        )
    real = os.path.realpath(root)
    if odd := sorted(set(_MISREAD.findall(real))):
        raise UsageError(
            f"{root!r}: this leads to {real!r}, and a lake's path may not contain {' '.join(map(repr, odd))}",
            "rename that folder",
        )
    return Path("/" + os.path.normpath(root).lstrip("/"))
