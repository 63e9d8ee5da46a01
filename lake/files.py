"""Files that are written once: where a lake's bytes live, and how they get there for good.

A store holds files under one root and names them by relative paths. `write_new` is the only way to put one: it appears
whole or not at all, never replaces another, and is on the disk when the call returns. Nothing above this room knows
whether the root is a folder or an object store; this version has the folder.
"""

import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from lake.errors import UsageError

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
        final.parent.mkdir(parents=True, exist_ok=True)
        scratch = final.with_name(f".{final.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
        try:
            with scratch.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            # A link fails where a rename would silently replace.
            os.link(scratch, final)
        except FileExistsError:
            return False
        finally:
            scratch.unlink(missing_ok=True)
        self.sync_folder(final.parent)
        return True

    def sync(self, name: str) -> None:
        """Bring a file that another library wrote, and its name, onto the disk."""
        path = self.root / name
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self.sync_folder(path.parent)

    def sync_folder(self, folder: Path) -> None:
        """Bring the names in a folder onto the disk."""
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self, name: str) -> bytes:
        """All bytes of a file. Raises FileNotFoundError."""
        return (self.root / name).read_bytes()

    def exists(self, name: str) -> bool:
        """Whether there is a file by this name."""
        return (self.root / name).is_file()

    def size(self, name: str) -> int:
        """The size of a file in bytes. Raises FileNotFoundError."""
        return (self.root / name).stat().st_size

    def sha256(self, name: str) -> str:
        """The sha256 of a file's bytes, in hexadecimal. Raises FileNotFoundError."""
        with (self.root / name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def names(self, folder: str) -> Iterator[str]:
        """The names of the files directly in a folder, sorted, without those still being written."""
        try:
            entries = sorted(os.listdir(self.root / folder))
        except FileNotFoundError:
            return
        yield from (entry for entry in entries if not entry.startswith("."))


def _local_root(uri: str) -> Path:
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        raise UsageError(
            f"{uri}: a lake on {parts.scheme}:// cannot be opened by this version",
            "use a folder on a local disk",
        )
    if parts.netloc not in ("", "localhost"):
        raise UsageError(f"{uri}: a file:// address names no host", f"write file://{parts.path}")
    root = Path(parts.path if parts.scheme else uri).absolute()
    # The engines underneath disagree on how such characters are written: some read another file than the one meant.
    if not _SAFE_ROOT.fullmatch(str(root)):
        odd = sorted(set(_SAFE_ROOT.sub("", str(root))))
        raise UsageError(
            f"{root}: a lake's path may not contain {' '.join(map(repr, odd))}",
            "use letters, digits, '.', '_', '-' and '/' only",
        )
    return Path(os.path.normpath(root))
