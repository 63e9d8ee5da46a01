"""A file that is hashed as it is written, and what is known of it afterwards."""

import hashlib
import io
import os
from pathlib import Path

import msgspec
import pyarrow as pa


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of an export: its path in the folder, bytes, sha256, and rows where it holds rows."""

    path: str
    bytes: int
    sha256: str
    rows: int | None = None


class Hashed(io.RawIOBase):
    """A new file that knows the size and sha256 of what was written to it; without a path, only those."""

    def __init__(self, path: Path | None) -> None:
        super().__init__()
        # Named before it is opened: a file that cannot be opened is closed, too.
        self._file: io.FileIO | None = None
        if path is not None:
            self._file = path.open("xb", buffering=0)
        self._sha256 = hashlib.sha256()
        self._size = 0

    def writable(self) -> bool:
        """It is for writing, and cannot be read or moved about in."""
        return True

    def tell(self) -> int:
        """How many bytes were written."""
        return self._size

    def write(self, data: "bytes | memoryview | pa.Buffer") -> int:
        """Write all of it; a short write of the system is gone on with."""
        view = memoryview(data).cast("B")
        self._sha256.update(view)
        self._size += len(view)
        rest = view
        while self._file is not None and len(rest) > 0:
            rest = rest[self._file.write(rest) :]
        return len(view)

    def seal(self, name: str, rows: int | None = None) -> File:
        """Bring the bytes to the disk, close, and say what the file is."""
        if self._file is not None:
            os.fsync(self._file.fileno())
        self.close()
        return File(name, self._size, self._sha256.hexdigest(), rows)

    def close(self) -> None:
        """Close the file, whether or not all of it was written."""
        if self._file is not None and not self._file.closed:
            self._file.close()
        super().close()
