"""Files that are written once: where a lake's bytes live, and how they get there for good.

A store holds files under one root and names them by relative paths. `write_new` is the only way to put one: it appears
whole or not at all, never replaces another, and is on the disk when the call returns. Nothing above this room knows
whether the root is a folder or an object store; this version has the folder.
"""

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from lake.errors import LakeError, UsageError

_SAFE_ROOT = re.compile(r"[A-Za-z0-9._/-]+")


class Store:
    """A folder of files that are written once. Picklable; holds no open file."""

    def __init__(self, uri: str) -> None:
        self.root = _local_root(uri)

    @property
    def uri(self) -> str:
        """What opens this store again, on this machine."""
        return str(self.root)

    def path(self, name: str) -> str:
        """The full path of a file, for the engines that read it themselves."""
        return str(self.root / name)

    def write_new(self, name: str, data: bytes | memoryview) -> bool:
        """Put a file there, durably. Returns False, and changes nothing, if there is one by this name already."""
        final = self.root / name
        with _disk(final):
            _make_folder(final.parent)
            scratch = final.with_name(f".{final.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
            try:
                with scratch.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                # A link fails where a rename would silently replace.
                os.link(scratch, final)
                new = True
            except FileExistsError:
                new = False
            finally:
                scratch.unlink(missing_ok=True)
            # Also when another process has put it there: it may not have come this far.
            _sync(final.parent)
        return new

    def sync(self, name: str) -> None:
        """Bring a file that another library wrote, and its name, onto the disk."""
        path = self.root / name
        with _disk(path):
            _sync(path)
            _sync(path.parent)

    def read(self, name: str) -> bytes:
        """All bytes of a file. Raises FileNotFoundError."""
        with _disk(self.root / name):
            return (self.root / name).read_bytes()

    def exists(self, name: str) -> bool:
        """Whether there is a file by this name."""
        with _disk(self.root / name):
            return (self.root / name).is_file()

    def size(self, name: str) -> int:
        """The size of a file in bytes. Raises FileNotFoundError."""
        with _disk(self.root / name):
            return (self.root / name).stat().st_size

    def sha256(self, name: str) -> str:
        """The sha256 of a file's bytes, in hexadecimal. Raises FileNotFoundError."""
        with _disk(self.root / name), (self.root / name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def names(self, folder: str) -> Iterator[str]:
        """The names in a folder, sorted, without those of files that are still being written."""
        try:
            with _disk(self.root / folder):
                entries = sorted(os.listdir(self.root / folder))
        except FileNotFoundError:
            return
        yield from (entry for entry in entries if not entry.startswith("."))


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    """Tell the caller that there is no such file; turn all else that the disk refuses into a LakeError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except NotADirectoryError as error:
        raise FileNotFoundError(*error.args) from None
    except OSError as error:
        raise LakeError(f"{path}: {error.strerror or error}", "make room or mend the disk; then try again") from error


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, each with its name on the disk."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync(folder.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
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
            "use a folder on a local disk",
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
            "use letters, digits, '.', '_', '-' and '/' only",
        )
    return Path("/" + os.path.normpath(root).lstrip("/"))
