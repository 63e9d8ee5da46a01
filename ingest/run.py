"""The pipe: files in, events and rejects in the lake, and how far each file came.

While one block is being stored, the next is parsed and the one after it read, so memory is bounded by a few blocks
whatever the size of the input. With each block its source's bookmark moves, in the same commit. A block's rejects are
stored before its events: a crash in between repeats the block, and what is told twice is stored once, by its id.

Two processes may read one file at the same time: whoever commits second sees that the bookmark has moved, drops what it
had parsed, and goes on from there.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import msgspec
import pyarrow as pa

from ingest import bookmarks
from ingest.blocks import Block, Mark, Sizes
from ingest.bookmarks import Note
from ingest.formats import Input
from ingest.parse import Parsed, Parser, rejected_file
from ingest.readers import Reader, reader_named
from ingest.readers.prompts import in_domain
from ingest.rows import Refused
from ingest.sources import FORMATS, Limits, Source, Stream, find
from lake import Appended, Lake
from lake.errors import SequenceTooLow, UsageError

HEAD = 256  # bytes that the reject of an unreadable file keeps

_FORMATS = tuple(dict.fromkeys(FORMATS.values()))


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How files are ingested.

    `domain` is what prompts are of. `source` is the name under which the rows are said to come from, instead of each
    file's own. `format` says what the files are, where neither bytes nor name do. `again` reads from the start whatever
    was read before. `dry_run` reads and counts, and stores nothing.
    """

    reader: str = "native"
    domain: str | None = None
    source: str | None = None
    format: str | None = None
    again: bool = False
    dry_run: bool = False
    sizes: Sizes = Sizes()
    limits: Limits = Limits()


class FileSummary(msgspec.Struct):
    """What became of one file.

    Of the `rows` read, some were rejected (`rejected`, by reason); the others made `events`, of which `added` are new.
    `unchanged` if the file was not read at all, `resumed` if not from its start. In a dry run nothing is added.
    """

    file: str
    format: str | None = None
    compression: str | None = None
    rows: int = 0
    events: int = 0
    added: int = 0
    rejected: dict[str, int] = {}
    unchanged: bool = False
    resumed: bool = False
    size: int = 0
    seconds: float = 0.0

    @property
    def held(self) -> int:
        """Events that the lake had already."""
        return self.events - self.added

    @property
    def rows_per_second(self) -> float:
        """Rows read in a second."""
        return self.rows / self.seconds if self.seconds else 0.0


class Summary(msgspec.Struct):
    """What became of all files."""

    kind: str
    reader: str
    dry_run: bool
    files: list[FileSummary]
    seconds: float

    @property
    def rows(self) -> int:
        """Rows read."""
        return sum(file.rows for file in self.files)

    @property
    def events(self) -> int:
        """Events that the rows made."""
        return sum(file.events for file in self.files)

    @property
    def added(self) -> int:
        """Events that are new in the lake."""
        return sum(file.added for file in self.files)

    @property
    def held(self) -> int:
        """Events that the lake had already."""
        return sum(file.held for file in self.files)

    @property
    def rejected(self) -> dict[str, int]:
        """Rows that were rejected, by reason, the most frequent first."""
        counts: Counter[str] = Counter()
        for file in self.files:
            counts.update(file.rejected)
        return dict(counts.most_common())

    @property
    def unchanged(self) -> int:
        """Files that were not read, because they are as they were when they were last read to the end."""
        return sum(file.unchanged for file in self.files)

    @property
    def rows_per_second(self) -> float:
        """Rows read in a second."""
        return self.rows / self.seconds if self.seconds else 0.0


class Step(msgspec.Struct, frozen=True):
    """How far the work has come: bytes of the sources, `total` None if unknown; rows read; the file at hand."""

    done: int
    total: int | None
    rows: int
    file: str


Progress = Callable[[Step], None]


def ingest(
    lake: Lake, kind: str, inputs: Iterable[str], options: Options | None = None, progress: Progress | None = None
) -> Summary:
    """Append the events of a kind that files, folders, globs and `-` hold. Bad rows become rejects; nothing stops.

    `progress` is called now and then. Raises UsageError for inputs, readers and formats that cannot be, LakeError where
    a file cannot be read or the lake cannot be written; what was stored by then stays, and running it again goes on.
    """
    options = options or Options()
    if options.format is not None and options.format not in _FORMATS:
        raise UsageError(f"there is no format {options.format!r}", f"the formats are {', '.join(_FORMATS)}")
    reader = reader_named(options.reader, kind)
    if options.domain is not None:
        if kind != "prompts" or not options.domain.strip() or not options.domain.isprintable():
            raise UsageError("a domain is named, and it is prompts that have one", "leave --domain out")
        reader = reader._replace(read=in_domain(reader.read, options.domain))
    sources = find(inputs)
    started = time.perf_counter()
    with _Pipe(lake, kind, reader, options, _Meter(sources, progress)) as pipe:
        files = [pipe.ingest(source) for source in sources]
    return Summary(kind, reader.name, options.dry_run, files, time.perf_counter() - started)


class _Overtaken(Exception):
    """Another process has moved the bookmark of the source at hand."""


class _Meter:
    """Adds up how far the work has come over all sources."""

    def __init__(self, sources: list[Source], progress: Progress | None) -> None:
        self._progress = progress
        sizes = [source.size for source in sources]
        self._total = None if None in sizes else sum(size for size in sizes if size is not None)
        self._before = 0
        self._rows = 0

    def step(self, source: Source, done: int, rows: int) -> None:
        """So many bytes of this source are read, and so many more rows."""
        self._rows += rows
        if self._progress is not None:
            self._progress(Step(self._before + done, self._total, self._rows, source.name))

    def finish(self, source: Source) -> None:
        """Nothing is left to do for this source."""
        self._before += source.size or 0
        self.step(source, 0, 0)


class _Pipe:
    """Reads, parses and stores sources, one after the other."""

    def __init__(self, lake: Lake, kind: str, reader: Reader, options: Options, meter: _Meter) -> None:
        self._lake = lake
        self._kind = kind
        self._reader = reader
        self._options = options
        self._meter = meter
        self._parser = Parser(kind, reader, options.sizes.row)
        self._reading = ThreadPoolExecutor(1, "lake-read")
        self._storing = ThreadPoolExecutor(1, "lake-store")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._reading.shutdown()
        self._storing.shutdown()
        self._parser.close()

    def ingest(self, source: Source) -> FileSummary:
        """Ingest one source to its end."""
        started = time.perf_counter()
        summary = FileSummary(source.name, size=source.size or 0)
        again: bool | None = self._options.again
        while again is not None:
            # Once, unless it is overtaken (then from the bookmark) or not what it was (then from the start).
            again = self._read(source, summary, again=again)
        summary.seconds = time.perf_counter() - started
        self._meter.finish(source)
        return summary

    def _read(self, source: Source, summary: FileSummary, *, again: bool) -> bool | None:
        """Read a source from where it was left, or from its start if `again`. None if done, else how to try again."""
        way = self._reader.name if self._options.domain is None else f"{self._reader.name}@{self._options.domain}"
        producer = bookmarks.producer_of(self._kind, way, source)
        with Stream(source, self._options.limits) as stream:
            sequence, note = 0, None
            if stream.regular:
                sequence, note = bookmarks.last(self._lake, self._kind, producer, self._options.sizes.row)
            if again:
                note = None
            if note is not None and stream.stat is not None and note.complete and note.is_of(stream.stat):
                summary.unchanged = not summary.rows
                return None
            summary.compression = stream.compression
            head = stream.peek(HEAD)
            try:
                given = Input(stream, self._options.limits, self._options.format)
                summary.format = given.format
            except Refused as refused:
                self._reject(source, summary, producer, head, refused)
                return None
            if note is not None:
                if note.form != given.form or not given.resume(note.mark):
                    return True
                summary.resumed = note.offset > 0 or note.line > 0
            work = _Work(source, stream, given, producer, note)
            try:
                self._run(work, sequence, summary)
            except _Overtaken:
                return False
        return None

    def _run(self, work: "_Work", sequence: int, summary: FileSummary) -> None:
        """Parse and store the blocks of a source that are left, each while the next one is parsed."""
        blocks = work.given.blocks(self._options.sizes)
        stored: Future[tuple[Parsed, int]] | None = None
        block: Block | None = next(blocks, None) or work.nothing()
        while block is not None:
            following = self._reading.submit(next, blocks, None)
            name = self._options.source or work.source.name
            parsed = self._parser.parse(block, name, work.given.format)
            mark = block.mark
            block = following.result()
            if stored is not None:
                self._count(work, summary, *stored.result())
            sequence += 1
            note = work.note(mark, self._options.sizes.row, complete=block is None)
            stored = self._storing.submit(self._store, work, parsed, sequence, note)
        if stored is not None:
            self._count(work, summary, *stored.result())

    def _store(self, work: "_Work", parsed: Parsed, sequence: int, note: Note | None) -> tuple[Parsed, int]:
        """Commit a block, its rejects first. Returns it with the number of new events. Raises _Overtaken."""
        if self._options.dry_run:
            return parsed, 0
        if len(parsed.rejects):
            self._append("rejects", parsed.rejects, work.producer)
        if note is None:
            if not len(parsed.events):
                return parsed, 0
            return parsed, self._append(self._kind, parsed.events, work.producer).added
        if note == work.known and not len(parsed.events):
            return parsed, 0
        try:
            appended = self._lake.append(
                self._kind, parsed.events, producer=work.producer, sequence=sequence, note=note.asdict()
            )
        except SequenceTooLow:
            raise _Overtaken from None
        if appended.repeated:
            raise _Overtaken
        return parsed, appended.added

    def _append(self, kind: str, rows: pa.Table, producer: str) -> Appended:
        """Append rows that no bookmark goes with, under the next sequence that nobody else has taken."""
        while True:
            position = self._lake.position(kind, producer)
            sequence = position.sequence + 1 if position is not None else 1
            try:
                appended = self._lake.append(kind, rows, producer=producer, sequence=sequence)
            except SequenceTooLow:
                continue
            if not appended.repeated:
                return appended

    def _reject(self, source: Source, summary: FileSummary, producer: str, head: bytes, refused: Refused) -> None:
        """Reject a whole file: nothing can be read from it."""
        name = self._options.source or source.name
        rejects = rejected_file(self._kind, self._reader.name, name, head, refused.problems)
        if not self._options.dry_run:
            self._append("rejects", rejects, producer)
        summary.rows += 1
        _add(summary, Counter([refused.problems[0].reason]))

    def _count(self, work: "_Work", summary: FileSummary, parsed: Parsed, added: int) -> None:
        summary.rows += parsed.rows
        summary.events += len(parsed.events)
        summary.added += added
        _add(summary, parsed.reasons)
        self._meter.step(work.source, work.stream.raw_done, parsed.rows)


class _Work(msgspec.Struct, frozen=True):
    """A source that is being read. `known` is the bookmark that was found, None to begin at the start."""

    source: Source
    stream: Stream
    given: Input
    producer: str
    known: Note | None

    def note(self, mark: Mark, row_limit: int, *, complete: bool) -> Note | None:
        """The bookmark at a mark; None for what cannot be read a second time."""
        if self.stream.stat is None or not self.stream.regular:
            return None
        return bookmarks.note_of(self.stream.stat, self.given.form, mark, row_limit, complete=complete)

    def nothing(self) -> Block:
        """A block without rows, for a source that has none (any more)."""
        return Block(self.known.mark if self.known is not None else self.given.mark())


def _add(summary: FileSummary, reasons: Counter[str]) -> None:
    summary.rejected = dict(Counter(summary.rejected) + reasons)
