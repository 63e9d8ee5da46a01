"""Appends sightings of sections: of documents, of what a run trained on, of an older system's corpus.

A sighting is told once for each section, place (document or export) and training run: the same document twice adds
nothing, a document that was edited adds what is new in it, and a run that trained on it again moves `last_seen` of all
of its sections. What cannot be read becomes a reject, with the file and line, and nothing stops.

When it was seen is given, or is now. So that two processes do not both tell it, each batch takes the next sequence
number of one producer, read before what is held is looked at: of two one gets it, and the other looks again.

Not here: what a section is (`sections`), and where each source's sections come from (`documents`, `exports`, `corpus`).
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ingest.replay import corpus, exports
from ingest.replay.documents import sections_of
from ingest.replay.rows import read
from ingest.replay.sightings import RefusedSection, is_weight, sighting
from ingest.rows import Problem, Refused
from ingest.sources import Source, find
from lake import Lake
from lake.errors import LakeError, SequenceTooLow, UsageError
from views import connect

PRODUCER = "replay"
BATCH_ROWS = 20_000
DOCUMENT_BYTES = 256 << 20
RAW_KEPT = 1 << 16  # bytes that a reject keeps
SUFFIXES = (".md", ".markdown", ".mdx", ".dlm", ".txt")

Row = dict[str, Any]
Progress = Callable[[int, int | None], object]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`run` is the training run that saw sections, `seen_at` when (now, unless given), `weight` theirs from now on.

    A dry run reads and counts, and stores nothing.
    """

    run: str | None = None
    seen_at: datetime | None = None
    weight: float | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        if self.weight is not None and not is_weight(self.weight):
            raise UsageError(f"a section's weight cannot be {self.weight}", "it is a finite number of at least 0")
        if self.run is not None and not self.run.strip():
            raise UsageError("the name of a training run is blank", "give it a name, or leave it out")


class Summary(msgspec.Struct, kw_only=True):
    """What became of one place: sightings of sections, of which `added` are new and `held` were there already.

    `skipped` are rows that are not to be repeated, such as rejected completions. `rejected` counts by reason.
    """

    document: str
    sightings: int = 0
    added: int = 0
    held: int = 0
    skipped: int = 0
    rejected: dict[str, int] = {}


class _Bad(NamedTuple):
    """What cannot be a section: where, what is wrong, and its bytes. `size` if these are not all."""

    file: str
    line: int | None
    raw: bytes
    problems: list[Problem]


class _Place(NamedTuple):
    """A place that sections were found in. `items` gives them anew at each call: rows, what is bad, None if skipped."""

    document: str
    reader: str
    items: Callable[[], Iterable[Row | _Bad | None]]


def add_documents(
    lake: Lake, inputs: Iterable[str], options: Options | None = None, progress: Progress | None = None
) -> list[Summary]:
    """Append the sections of Markdown documents: files, globs, and folders with all the documents in them.

    Raises UsageError for inputs that cannot be, LakeError where one cannot be read.
    """
    options = options or Options()
    sources = find(path for given in inputs for path in _documents_in(given))
    places = [_Place(one.name, "document", partial(_of_document, one, options)) for one in sources]
    return _Telling(lake, options, progress).tell(places)


def add_export(
    lake: Lake, folder: str, options: Options | None = None, progress: Progress | None = None
) -> list[Summary]:
    """Append what a run trained on: the training rows of an export, or of any folder that looks like one.

    Raises UsageError, LakeError as `add_documents`.
    """
    options = options or Options()
    path = Path(folder)
    files = exports.training_files(path)
    place = _Place(exports.name_of(path), "export", partial(_of_export, lake, path, files, options))
    return _Telling(lake, options, progress).tell([place])


def add_rows(
    lake: Lake,
    document: str,
    rows: Callable[[], Iterable[exports.Given]],
    options: Options | None = None,
    progress: Progress | None = None,
) -> list[Summary]:
    """Append what a run trained on, where its rows are in no file: `rows` gives them anew at each call.

    `document` is what an export of them would be called, `exports.name_of`, so that neither adds what the other did.
    """
    options = options or Options()
    place = _Place(document, "run", lambda: _of_rows(lake, rows(), options))
    return _Telling(lake, options, progress).tell([place])


def import_corpus(
    lake: Lake, corpus_file: str, index: str, options: Options | None = None, progress: Progress | None = None
) -> list[Summary]:
    """Append the sections of a corpus. A frame that cannot be read becomes a reject, with its byte offset.

    Weights come from the index, times and runs from the frames. Raises BadIndex, LakeError.
    """
    options = options or Options()
    entries = corpus.read_index(Path(index))
    place = _Place(corpus_file, "corpus", partial(_of_corpus, Path(corpus_file), entries))
    return _Telling(lake, options, progress).tell([place])


def _documents_in(given: str) -> Iterator[str]:
    """What an input means: a folder is all the documents in it."""
    path = Path(given)
    if not path.is_dir():
        yield given
        return
    found = sorted(
        one for one in path.rglob("*") if one.suffix.lower() in SUFFIXES and one.is_file() and not _is_hidden(one, path)
    )
    if not found:
        raise UsageError(f"{given}: there are no documents in this folder", f"they end in {', '.join(SUFFIXES)}")
    yield from (one.as_posix() for one in found)


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _of_document(source: Source, options: Options) -> Iterator[Row | _Bad]:
    if source.path is None:
        raise UsageError("a document is not read from stdin", "its name is the place that its sections were seen in")
    try:
        with source.path.open("rb") as file:
            data = file.read(DOCUMENT_BYTES + 1)
    except OSError as error:
        raise LakeError(f"{source.name}: {error.strerror or error}", "look at the path and its permissions") from None
    if len(data) > DOCUMENT_BYTES:
        yield _Bad(source.name, None, data, [Problem("too_long", f"it has more than {DOCUMENT_BYTES:,} bytes")])
        return
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = Problem("invalid_utf8", f"line {line}: not UTF-8: 0x{data[error.start]:02x}")
        yield _Bad(source.name, line, data, [problem])
        return
    for found in sections_of(text):
        said = {"weight": options.weight, **found.mined}
        raw = found.content.encode()
        try:
            made = sighting(found.section_type, found.content, said, line=found.line)
        except RefusedSection as refused:
            yield _Bad(source.name, refused.line, raw, refused.problems)
            continue
        yield _placed(made, source.name, found.line, raw)


def _of_export(lake: Lake, folder: Path, files: list[Path], options: Options) -> Iterator[Row | _Bad | None]:
    yield from _of_rows(lake, (given for path in files for given in exports.rows(folder, path)), options)


def _of_rows(lake: Lake, rows: Iterable[exports.Given], options: Options) -> Iterator[Row | _Bad | None]:
    replayed: dict[str, tuple[str, int, bytes]] = {}
    for given in rows:
        problems = given.problems
        if given.values is not None and not problems:
            try:
                row = read(given.values)
                if row is None:
                    yield None
                elif row.replayed is not None:
                    replayed.setdefault(row.replayed, (given.file, given.line, given.raw))
                else:
                    made = sighting(row.section_type, row.content, {"weight": options.weight})
                    yield _placed(made, given.file, given.line, given.raw, given.sha256)
                continue
            except Refused as refused:
                problems = refused.problems
        yield _Bad(given.file, given.line, given.raw, problems)
    yield from _seen_again(lake, replayed)


def _seen_again(lake: Lake, replayed: dict[str, tuple[str, int, bytes]]) -> Iterator[Row | _Bad]:
    """Sightings of sections that the lake has, by their ids; what they say is taken from there."""
    if not replayed:
        return
    with closing(connect(lake.snapshot(), sql={})) as con:
        found = con.execute(_SECTIONS, [list(replayed)]).fetchall()
    for section_id, section_type, content in found:
        file, line, raw = replayed.pop(section_id)
        said = {"section_id": section_id, "section_type": section_type, "content": content}
        yield _placed({**said, "content_bytes": len(content.encode()), "weight": None}, file, line, raw)
    for section_id, (file, line, raw) in sorted(replayed.items()):
        problem = Problem("unknown_section", f"it replays {section_id}, which this lake has not")
        yield _Bad(file, line, raw, [problem])


def _of_corpus(path: Path, entries: list[corpus.Entry]) -> Iterator[Row | _Bad]:
    for frame in corpus.frames(path, entries):
        where = f"byte {frame.entry.byte_offset}, {frame.entry.length} bytes"
        if frame.snapshot is None:
            assert frame.bad is not None
            yield _Bad(path.as_posix(), None, frame.raw, [Problem(frame.bad.reason, f"frame at {where}: {frame.bad}")])
            continue
        snapshot = frame.snapshot
        try:
            made = sighting(snapshot.section_type, snapshot.content, {"weight": frame.entry.weight})
            if made["section_id"] != snapshot.section_id:
                message = f"section_id {snapshot.section_id} is not {made['section_id']}, which this content has"
                raise Refused([Problem("wrong_id", message)])
        except Refused as refused:
            problems = [Problem(one.reason, f"frame at {where}: {one.message}") for one in refused.problems]
            yield _Bad(path.as_posix(), None, snapshot.content.encode(), problems)
            continue
        # Such a corpus does not keep who judged a mined pair.
        made["auto_mined"] = snapshot.auto_mined
        for moment, run in corpus.moments(snapshot):
            row = _placed(made, path.as_posix(), None, frame.raw)
            yield {**row, "recorded_at": moment, "training_run": run}


def _placed(made: Row, file: str, line: int | None, raw: bytes, sha256: str | None = None) -> Row:
    return {**made, "source": {"file": file, "line": line, "sha256": sha256 or hashlib.sha256(raw).hexdigest()}}


class _Lost(Exception):
    """Another process has told something in between."""


class _Telling:
    """Tells what places hold, in batches, until nobody came between."""

    def __init__(self, lake: Lake, options: Options, progress: Progress | None) -> None:
        self._lake = lake
        self._options = options
        self._progress = progress
        self._seen_at = (options.seen_at or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0)
        self._sequence = 0
        self._added: Counter[str] = Counter()  # what was stored stays stored, also if somebody came between later

    def tell(self, places: list[_Place]) -> list[Summary]:
        """Append what is new of each place."""
        while True:
            position = self._lake.position("replay", PRODUCER)
            self._sequence = position.sequence if position is not None else 0
            held = self._held([place.document for place in places])
            try:
                return [self._place(place, held[place.document]) for place in places]
            except _Lost:
                continue

    def _place(self, place: _Place, held: set[tuple[object, ...]]) -> Summary:
        summary = Summary(document=place.document)
        rejected: Counter[str] = Counter()
        items = iter(place.items())
        done = 0
        while batch := list(islice(items, BATCH_ROWS)):
            bad = [item for item in batch if isinstance(item, _Bad)]
            found = [item for item in batch if isinstance(item, dict)]
            rows = list(self._new(found, place.document, held))
            if self._options.dry_run:
                self._added[place.document] += len(rows)
            else:
                self._reject(place.reader, bad)
                self._added[place.document] += self._append(rows)
            done += len(batch)
            summary.sightings += len(found)
            summary.skipped += len(batch) - len(found) - len(bad)
            rejected.update(item.problems[0].reason for item in bad)
            if self._progress is not None:
                self._progress(done, None)
        summary.added = self._added[place.document]
        summary.held = summary.sightings - summary.added
        summary.rejected = dict(rejected.most_common())
        return summary

    def _held(self, documents: list[str]) -> dict[str, set[tuple[object, ...]]]:
        """What the lake has of each place already, withdrawn or not: a retraction holds for what is told again."""
        held: dict[str, set[tuple[object, ...]]] = {document: set() for document in documents}
        with closing(connect(self._lake.snapshot(), sql={})) as con:
            for document, *told in con.execute(_HELD, [documents]).fetchall():
                held[document].add(_key(*told))
        return held

    def _new(self, rows: Iterable[Row], document: str, held: set[tuple[object, ...]]) -> Iterator[Row]:
        for row in rows:
            told = {"recorded_at": self._seen_at, "training_run": self._options.run, **row, "document": document}
            given = "recorded_at" in row or self._options.seen_at is not None
            moment = told["recorded_at"] if given else None
            identity = (row["section_id"], told["training_run"], row.get("weight"), bool(row.get("auto_mined")))
            if _key(*identity, moment) in held:
                continue
            held |= {_key(*identity, moment), _key(*identity, None)}
            yield told

    def _append(self, rows: list[Row]) -> int:
        if not rows:
            return 0
        self._sequence += 1
        try:
            appended = self._lake.append("replay", rows, producer=PRODUCER, sequence=self._sequence)
        except SequenceTooLow:
            raise _Lost from None
        if appended.repeated:
            raise _Lost
        return appended.added

    def _reject(self, reader: str, bad: list[_Bad]) -> None:
        rows = [_reject_of(reader, one) for one in bad]
        while rows:
            position = self._lake.position("rejects", PRODUCER)
            sequence = position.sequence + 1 if position is not None else 1
            try:
                if not self._lake.append("rejects", rows, producer=PRODUCER, sequence=sequence).repeated:
                    return
            except SequenceTooLow:
                continue


def _key(section_id: object, run: object, weight: object, mined: object, moment: datetime | None) -> tuple[object, ...]:
    return (section_id, run, weight, mined, moment)


def _reject_of(reader: str, bad: _Bad) -> Row:
    raw = bad.raw[:RAW_KEPT]
    try:
        text, encoding = raw.decode(), "utf-8"
    except UnicodeDecodeError:
        text, encoding = raw.decode("latin-1"), "latin-1"
    return {
        "kind": "replay",
        "reader": reader,
        "reason": bad.problems[0].reason,
        "errors": [f"{bad.file}: {problem.message}" for problem in bad.problems],
        "raw": text,
        "raw_encoding": encoding,
        "extra": None if len(raw) == len(bad.raw) else f'{{"raw_bytes":{len(bad.raw)}}}',
        "source": {"file": bad.file, "line": bad.line, "sha256": hashlib.sha256(bad.raw).hexdigest()},
    }


_HELD = """
select distinct document, section_id, training_run, weight, coalesce(auto_mined, false), moment
from (
    select *, unnest([recorded_at, null]) as moment
    from events.replay
    where list_contains(?, document)
)
"""
_SECTIONS = """
select section_id, min(section_type), min(content)
from events.replay
where list_contains(?, section_id)
group by section_id
order by section_id
"""
