"""How far each source has been read, kept in the commit that stored what was read.

A producer is one kind, reader and file. Its note says up to which byte, line and digest the file is stored, and what
the file looked like, so that an unchanged file costs one look, a grown one is read from where it ended, and one that is
no longer what it was is read again from the start (which stores nothing twice).

For JSON lines, arrays and CSV the place is a byte of the unpacked source, and the digest is that of all bytes before
it: a compressed file is unpacked again up to there. For Parquet it is a number of rows, and the digest is that of the
file.
"""

import os
from typing import Any

import msgspec

from ingest.blocks import Mark
from ingest.sources import Source
from lake import Lake, Position

VERSION = 1


class Note(msgspec.Struct, frozen=True):
    """What is kept with the last batch of a source. `complete` if it had been read to its end."""

    version: int
    form: str
    offset: int
    line: int
    digest: str
    size: int
    mtime_ns: int
    inode: int
    row_limit: int
    complete: bool

    @property
    def mark(self) -> Mark:
        """The place in the source."""
        return Mark(self.offset, self.line, self.digest)

    def is_of(self, stat: os.stat_result) -> bool:
        """Whether a file looks as it did then."""
        return (self.size, self.mtime_ns, self.inode) == (stat.st_size, stat.st_mtime_ns, stat.st_ino)

    def asdict(self) -> dict[str, Any]:
        """The note as the lake keeps it."""
        return msgspec.structs.asdict(self)


def producer_of(kind: str, reader: str, source: Source) -> str:
    """The name under which a source's batches are committed: what is read the same way has the same one."""
    path = "-" if source.path is None else os.path.abspath(source.path)
    return f"ingest:{kind}:{reader}:{os.fsencode(path).decode(errors='backslashreplace')}"


def note_of(stat: os.stat_result, form: str, mark: Mark, row_limit: int, *, complete: bool) -> Note:
    """The note for a source that looks like this and has been read up to a mark."""
    return Note(
        version=VERSION,
        form=form,
        offset=mark.offset,
        line=mark.line,
        digest=mark.digest,
        size=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
        inode=stat.st_ino,
        row_limit=row_limit,
        complete=complete,
    )


def last(lake: Lake, kind: str, producer: str, row_limit: int) -> tuple[int, Note | None]:
    """A producer's last sequence (0 if it has none), and its note if that can be gone on from."""
    position = lake.position(kind, producer)
    if position is None:
        return 0, None
    return position.sequence, _usable(position, row_limit)


def _usable(position: Position, row_limit: int) -> Note | None:
    try:
        note = msgspec.convert(position.note, Note)
    except msgspec.ValidationError:
        # Another version's note. Reading from the start stores nothing twice.
        return None
    return note if note.version == VERSION and note.row_limit == row_limit else None
