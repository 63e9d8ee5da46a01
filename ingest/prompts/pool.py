"""Fills a pool with prompts that the lake holds, by a plan, and records it: who is in it is events, too.

Domains are filled in the order of the plan, each with its prompts in an order that the seed and the prompts' ids give,
so the same plan over the same prompts makes the same pool, in whichever order they came. What is too short or too long,
in another language, blacklisted, or like a prompt that is in the pool already is passed over, and counted.

The prompts that were taken are appended as events that name the pool. A pool's id is a function of its plan and its
prompts, so what is built again is there already, and nothing is added.

Not here: what a plan says (`config`), and what is made with a pool (the exports).
"""

import hashlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from ingest.annotators.language import language_of
from ingest.annotators.minhash import NearDuplicates
from ingest.annotators.text import words
from ingest.prompts.config import QUOTA_RULE, Domain, Plan
from ingest.prompts.pools import STAGE, Elsewhere, Filled, Pool, pool_called
from lake import Lake, LakeError, Snapshot
from lake.errors import SequenceTooLow
from views import connect, needed

EVALUATION = "eval"  # the split of what is held back
EVALUATION_SPLITS = (EVALUATION, "test", "validation")  # of prompts that no pool takes
MEMORY = "512MiB"  # beyond which the order of the prompts is worked out on the disk
CHUNK_ROWS = 50_000  # prompts that are appended together,
CHUNK_BYTES = 64 << 20  # or fewer, where they are long

_CANDIDATES = Path(__file__).with_name("candidates.sql").read_text("utf-8")
_MEMBERS = Path(__file__).with_name("members.sql").read_text("utf-8")
_READ_ROWS = 8192
_FEWEST, _MOST = 64, 8192  # prompts that are compared with the others at once
_HELD = ""  # the key of what is for evaluation, among the texts that others are compared with

Progress = Callable[[int, int | None], None]


class Short(LakeError):
    """Some domain has fewer prompts than its quota; nothing was recorded. `pool` has the counts."""

    def __init__(self, message: str, hint: str | None, pool: Pool) -> None:
        super().__init__(message, hint)
        self.pool = pool


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How to build a pool.

    `name` is given to the snapshot that has it, the pool's id by default. `at` is a reference to the state whose
    prompts are taken. A pool with too few prompts is refused unless `allow_short`. A dry run records nothing.
    """

    name: str | None = None
    at: str | None = None
    allow_short: bool = False
    dry_run: bool = False


def build(lake: Lake, plan: Plan, options: Options | None = None, progress: Progress | None = None) -> Pool:
    """Fill a pool from the lake's prompts, append who is in it, and name the snapshot that has it.

    `progress` is called with the prompts looked at so far and None. Raises Short, UsageError.
    """
    options = options or Options()
    since = time.monotonic()
    snapshot = lake.snapshot(options.at)
    filling = _Filling(plan, progress)
    with connect(snapshot, sql=needed("prompt_candidates"), memory_limit=MEMORY) as connection:
        filling.fill(_candidates(connection, plan))
        pool = filling.pool(options.name)
        if pool.is_short and not options.allow_short:
            raise _short(pool, plan.file)
        if not pool.taken:
            raise Short(f"{plan.file}: there is no prompt for this pool", _INGEST, pool)
        if options.dry_run:
            return pool
        if not _is_there(lake, pool):
            _append(lake, pool, _members(connection, filling, pool))
    return _recorded(lake, plan, pool, snapshot, time.monotonic() - since)


class _Slot(NamedTuple):
    """What is filled with prompts of one domain: so many of them, all if None."""

    domain: Domain
    quota: int | None
    languages: frozenset[str]
    low: int
    high: int
    held: bool


class _Row(NamedTuple):
    """A prompt that is considered, as the query gives it."""

    event_id: str
    prompt_id: str
    text: str
    messages: str | None
    language: str | None
    split: str | None
    of_domain: str | None
    reason: str | None
    place: int | None


class _Looked(NamedTuple):
    """A prompt that was looked at by itself: why it is passed over, None if it is not."""

    row: _Row
    reason: str | None
    language: str | None
    words: int


def _slots(plan: Plan) -> list[_Slot]:
    """What is held back first, so that nothing like it is taken; then the domains in order."""
    config, quotas = plan.config, plan.config.quotas()
    held = [
        _Slot(Domain(name=one.name, share=1.0, sources=one.sources), one.size, frozenset(), 0, 0, held=True)
        for one in config.held_back
    ]
    return held + [
        _Slot(
            domain,
            quotas[domain.name],
            frozenset([domain.language] if domain.language is not None else config.languages),
            *config.bounds(domain),
            held=False,
        )
        for domain in config.domain
    ]


class _Filling:
    """A pool that is being filled."""

    def __init__(self, plan: Plan, progress: Progress | None) -> None:
        self._plan = plan
        self._slots = _slots(plan)
        self._progress = progress
        self._near = NearDuplicates(plan.config.near_duplicate)
        self._exact: set[int] = set()
        self._held: set[int] = set()
        self._seen = 0
        self._taken: Counter[int] = Counter()
        self._considered: Counter[int] = Counter()
        self._refused: dict[int, Counter[str]] = {place: Counter() for place in range(len(self._slots))}
        self._elsewhere: Counter[tuple[str | None, str]] = Counter()
        self._digest = hashlib.sha256(plan.digest.encode())
        self._chunk: dict[str, list[Any]] = {name: [] for name in _TAKEN.names}
        self._chunks: list[pa.Table] = []

    @property
    def members(self) -> pa.Table:
        """The prompts that were taken, in order."""
        return pa.concat_tables([*self._chunks, pa.table(self._chunk, schema=_TAKEN)])

    def fill(self, rows: Iterable[_Row]) -> None:
        """Take what the plan wants of prompts, which come by their place and, within it, in the order to take them."""
        for place, some in groupby(rows, lambda row: row.place):
            if place is None:
                self._pass_by(some)
            elif place == 0:
                for row in self._counted(some):
                    self._hold(row)
                    self._elsewhere[row.of_domain, "evaluation_split"] += 1
            elif self._slots[place - 1].held:
                self._hold_back(place - 1, some)
            else:
                self._take_from(place - 1, some)

    def pool(self, name: str | None) -> Pool:
        """What came of it."""
        made = f"pool-{self._digest.hexdigest()[:16]}"
        domains = []
        for place, slot in enumerate(self._slots):
            refused, taken = self._refused[place], self._taken[place]
            if over := self._considered[place] - taken - refused.total():
                refused["over_quota"] = over
            domains.append(
                Filled(
                    name=slot.domain.name,
                    share=None if slot.held else slot.domain.share,
                    quota=slot.quota,
                    taken=taken,
                    considered=self._considered[place],
                    refused=dict(sorted(refused.items())),
                )
            )
        return Pool(
            pool=made,
            name=name or made,
            target=self._plan.config.target_size,
            domains=tuple(domains),
            elsewhere=tuple(Elsewhere(domain, reason, count) for (domain, reason), count in _in_order(self._elsewhere)),
        )

    def _counted(self, rows: Iterable[_Row]) -> Iterator[_Row]:
        for row in rows:
            self._seen += 1
            if self._progress is not None and self._seen % _READ_ROWS == 0:
                self._progress(self._seen, None)
            yield row

    def _of_slot(self, place: int, rows: Iterable[_Row]) -> Iterator[_Row]:
        for row in self._counted(rows):
            self._considered[place] += 1
            yield row

    def _pass_by(self, rows: Iterable[_Row]) -> None:
        """Count what is of none of the plan's domains."""
        for row in self._counted(rows):
            assert row.reason is not None
            self._elsewhere[row.of_domain, row.reason] += 1

    def _hold(self, row: _Row) -> None:
        """Let nothing like this into the pool."""
        self._held.add(_said(row))
        self._near.keep(_HELD, row.text)

    def _hold_back(self, place: int, rows: Iterable[_Row]) -> None:
        slot = self._slots[place]
        seen: set[int] = set()
        for row in self._of_slot(place, rows):
            said = _said(row)
            if said in seen:
                self._refused[place]["exact_duplicate"] += 1
                continue
            seen.add(said)
            self._hold(row)
            if slot.quota is None or self._taken[place] < slot.quota:
                language = row.language or language_of(row.text)
                self._take(place, _Looked(row, None, language, len(words(row.text))))

    def _take_from(self, place: int, rows: Iterable[_Row]) -> None:
        """Take prompts of a domain until it is full; what is left is counted: there was enough before it."""
        slot = self._slots[place]
        assert slot.quota is not None
        every = self._of_slot(place, rows)
        fit = self._fit(place, every)
        # Not many more at a time than are wanted: what is not needed is not looked at.
        while some := list(islice(fit, min(max(slot.quota - self._taken[place], _FEWEST), _MOST))):
            matches = self._near.matches([(looked.row.prompt_id, looked.row.text) for looked in some])
            for looked, match in zip(some, matches, strict=True):
                said = _said(looked.row)
                if said in self._held or (match is not None and match.kept == _HELD):
                    self._refused[place]["held_back"] += 1
                elif said in self._exact:
                    self._refused[place]["exact_duplicate"] += 1
                elif match is not None:
                    self._refused[place]["near_duplicate"] += 1
                else:
                    self._exact.add(said)
                    self._take(place, looked)
                    if self._taken[place] == slot.quota:
                        deque(every, maxlen=0)
                        return

    def _fit(self, place: int, rows: Iterable[_Row]) -> Iterator[_Looked]:
        """The prompts that would do by themselves; the others are counted."""
        for row in rows:
            looked = self._looked(self._slots[place], row)
            if looked.reason is None:
                yield looked
            else:
                self._refused[place][looked.reason] += 1

    def _looked(self, slot: _Slot, row: _Row) -> _Looked:
        """A prompt by itself, whatever others are like."""
        found = words(row.text)
        reason, language = None, row.language
        if len(found) < slot.low:
            reason = "too_short"
        elif len(found) > slot.high:
            reason = "too_long"
        elif self._plan.blacklist.has(row.text, found):
            reason = "blacklisted"
        elif slot.languages:
            language = language or language_of(row.text)
            reason = None if language in slot.languages else "language"
        return _Looked(row, reason, language, len(found))

    def _take(self, place: int, looked: _Looked) -> None:
        slot, row = self._slots[place], looked.row
        self._taken[place] += 1
        language = looked.language or language_of(row.text)
        split = EVALUATION if slot.held else row.split
        said = msgspec.json.encode([slot.domain.name, row.prompt_id, row.text, row.messages, language, split])
        self._digest.update(hashlib.sha256(said).digest())
        taken = {
            "event_id": row.event_id,
            "domain": slot.domain.name,
            "language": language,
            "split": split,
            "is_held": slot.held,
            "extra": f'{{"words":{looked.words}}}',
        }
        for name, value in taken.items():
            self._chunk[name].append(value)
        if len(self._chunk["event_id"]) == CHUNK_ROWS:
            self._chunks.append(pa.table(self._chunk, schema=_TAKEN))
            self._chunk = {name: [] for name in _TAKEN.names}


_TAKEN = pa.schema(
    [
        pa.field("event_id", pa.string()),
        pa.field("domain", pa.string()),
        pa.field("language", pa.string()),
        pa.field("split", pa.string()),
        pa.field("is_held", pa.bool_()),
        pa.field("extra", pa.string()),
    ]
)
_INGEST = "ingest some: lake ingest prompts FILE --domain NAME"


def _said(row: _Row) -> int:
    """What tells one prompt from another, whatever they are called."""
    text = f"{row.text}\0{row.messages or ''}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def _in_order(counts: Counter[tuple[str | None, str]]) -> list[tuple[tuple[str | None, str], int]]:
    return sorted(counts.items(), key=lambda item: (item[0][0] or "", item[0][1]))


def _candidates(connection: Any, plan: Plan) -> Iterator[_Row]:
    """The prompts that a plan is about, in the order of `candidates.sql`."""
    slots = _slots(plan)
    names = [slot.domain.name for slot in slots]
    places = {
        "place": pa.array(range(1, len(slots) + 1), pa.int64()),
        "domain": names,
        "has_sources": [bool(slot.domain.sources) for slot in slots],
        "is_held": [slot.held for slot in slots],
    }
    files = [
        file
        for (file,) in connection.execute("select distinct source.file from prompt_candidates order by all").fetchall()
        if file is not None
    ]
    sourced = [
        {"file": file, "domain": slot.domain.name}
        for file in files
        for slot in slots
        if any(fnmatchcase(file, pattern) for pattern in slot.domain.sources)
    ]
    connection.register("slots", pa.table(places))
    connection.register("file_domains", pa.Table.from_pylist(sourced, schema=_SOURCED))
    connection.register("kept_splits", pa.table({"split": list(EVALUATION_SPLITS)}))
    connection.register("plan", pa.table({"seed": [str(plan.config.seed)]}))
    reader = connection.sql(_CANDIDATES).to_arrow_reader(_READ_ROWS)
    for batch in reader:
        yield from map(_Row, *(batch.column(name).to_pylist() for name in _Row._fields))


_SOURCED = pa.schema([pa.field("file", pa.string()), pa.field("domain", pa.string())])


def _members(connection: Any, filling: _Filling, pool: Pool) -> Iterator[pa.Table]:
    """The events of a pool's prompts, in order, in chunks."""
    taken = filling.members
    pools = [pool.held(domain) if held else pool.pool for domain, held in zip(*_columns(taken), strict=True)]
    taken = taken.append_column("pool", pa.array(pools, pa.string()))
    connection.register("taken", taken.append_column("number", pa.array(range(len(taken)), pa.int64())))
    chunk: list[pa.RecordBatch] = []
    for batch in connection.sql(_MEMBERS).to_arrow_reader(_READ_ROWS):
        chunk.append(batch)
        if sum(map(len, chunk)) >= CHUNK_ROWS or sum(part.nbytes for part in chunk) >= CHUNK_BYTES:
            yield pa.Table.from_batches(chunk)
            chunk = []
    if chunk:
        yield pa.Table.from_batches(chunk)


def _columns(taken: pa.Table) -> tuple[list[str], list[bool]]:
    return taken.column("domain").to_pylist(), taken.column("is_held").to_pylist()


def _is_there(lake: Lake, pool: Pool) -> bool:
    """Whether the lake has every prompt of a pool. What was withdrawn of it since then stays withdrawn."""
    with connect(lake.snapshot(), sql={}) as connection:
        [(count,)] = connection.execute(
            "select count(*) from events.prompts where pool = $pool or starts_with(pool, $held)",
            {"pool": pool.pool, "held": pool.held("")},
        ).fetchall()
    return count == pool.taken


def _append(lake: Lake, pool: Pool, chunks: Iterable[pa.Table]) -> None:
    """Append who is in a pool. Whoever is killed and starts again stores nothing twice: ids are what events say."""
    producer = f"pool:{pool.pool}"
    for chunk in chunks:
        while True:
            position = lake.position("prompts", producer)
            sequence = position.sequence + 1 if position is not None else 1
            try:
                if not lake.append("prompts", chunk, producer=producer, sequence=sequence).repeated:
                    break
            except SequenceTooLow:
                # Another process builds the same pool.
                continue


def _recorded(lake: Lake, plan: Plan, pool: Pool, read: Snapshot, seconds: float) -> Pool:
    """Name the snapshot that has a pool, and append a receipt, unless both was done before."""
    known = pool_called(lake, pool.name)
    if known is not None and known.pool == pool.pool:
        return msgspec.structs.replace(pool, snapshot=known.snapshot, is_new=False)
    snapshot = lake.pin()
    lake.name(snapshot, pool.name, f"{pool.taken} prompts: {pool.pool}")
    made = msgspec.structs.replace(pool, snapshot=snapshot.id)
    config = msgspec.json.decode(msgspec.json.encode(plan.config))
    inputs = {"file": plan.file, "config": config, "digest": plan.digest, "blacklist": plan.blacklist.said.split("\n")}
    lake.record(
        "receipts",
        {
            "stage": STAGE,
            "inputs": _json(inputs | {"state": read.vector}),
            "outputs": _json({"pool": made.pool, "name": made.name, "snapshot": made.snapshot}),
            "counts": _json(made),
            "duration_s": seconds,
            "passed": True,
            "extra": _json({"quota_rule": QUOTA_RULE, "is_short": made.is_short}),
        },
    )
    return made


def _short(pool: Pool, file: str) -> Short:
    counts = ", ".join(f"{one.name} {one.taken:,} of {one.quota:,}" for one in pool.domains if one.quota is not None)
    return Short(
        f"{file}: too few prompts: {counts}",
        f"{_INGEST}; or lower target_size or the shares; or take what there is with --allow-short",
        pool,
    )


def _json(value: object) -> str:
    return msgspec.json.encode(value, order="sorted").decode()
