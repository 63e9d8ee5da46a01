"""Mixes rows of past training into an export: drawn, checked, and never the same text as a fresh row.

A share p of all rows is replayed: with n fresh ones, n p / (1 - p) rows of the sections that are drawn first. A row is
passed over if what it asks or says is, letters and digits compared, what any fresh row asks or says, whichever split
that is in, or what a section drawn before it does; both are counted, and the next one takes its place. The task of a
replayed row is its section, so splits keep the rows of a section together, and no text is on both sides.

`mix` puts the rows into the dataset's own view, so that all that follows, formats, splits and accounts, is what it is
without them; `_replay` says of each row which section it is of, and is null for a fresh one.

Not here: which sections may be drawn (`views/replay`), and how they are (`views.sampling`).
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from exporters.dataset import SAID, Dataset, Fault, Rows
from exporters.faults import blank, free_form, turns
from exporters.receipt import ReplayCounts
from lake.errors import UsageError
from views import sampling
from views.policy import Replay

REPLAYED = "_replay"
# The datasets that sections have rows for, each with the types of section; the view `replayed_<name>` has the rows.
FITS = {
    "sft": ("instruction",),
    "preference": ("preference",),
    "kto": ("instruction", "preference"),
    "pretrain": ("prose",),
}

_SPARE = 1.1  # sections that are drawn for each row that is wanted, at first: some are passed over


class Mixed(msgspec.Struct, frozen=True):
    """The dataset as it is with replayed rows in it, and what these are."""

    dataset: Any  # an exporters.dataset.Dataset, which is no struct
    counts: ReplayCounts


def needs(dataset: Dataset) -> str:
    """The relations that mixing takes, as `views.connect.needed` wants them. Raises UsageError where nothing fits."""
    if dataset.name not in FITS:
        raise UsageError(
            f"no section of past training is a row of {dataset.name}", f"--replay is for {' and '.join(FITS)}"
        )
    return f"{sampling.NEEDS} replayed_{dataset.name}"


def mix(con: sampling.Connection, dataset: Dataset, share: float, policy: Replay) -> Mixed:
    """Put a share of replayed rows into the dataset's view on this connection. The same for the same snapshot.

    Raises UsageError if the views are older than replay.
    """
    name = dataset.relation
    if not con.execute("select 1 from duckdb_views() where view_name = ?", [f"replayed_{dataset.name}"]).fetchall():
        raise UsageError("these views know of no replay", "export without --views, or without --replay")
    said = SAID.format(f"coalesce({dataset.said}, '')")
    con.execute(f"create table fresh as select md5({said}) as said, count(*) as rows from {name} group by all")
    [(fresh,)] = con.execute("select coalesce(sum(rows), 0) from fresh").fetchall()
    wanted = int(fresh * share / (1 - share) + 0.5)
    pool = _draw(con, dataset, wanted, policy, said)
    con.execute(_CHOSEN, [wanted])
    con.execute(f"alter view {name} rename to fresh_{name}")
    con.execute(f"create view {name} as {_MIXED.format(name=name)}")
    counts = con.execute(_COUNTS).fetchall()[0]
    [(now,)] = con.execute(
        "select coalesce(now, (select max(recorded_at) from all_replay)) from replay_policy"
    ).fetchall()
    told = None if now is None else now.astimezone(UTC).isoformat()
    exported, sections, leaked, repeated = counts
    made = ReplayCounts(wanted, exported, sections, pool, leaked, repeated, told)
    columns = (*dataset.provenance, REPLAYED)
    return Mixed(replace(dataset, provenance=columns, faults=_faults_of(dataset)), made)


def is_fresh(batch: pa.RecordBatch) -> pa.Array:
    """Which rows of a batch are not replayed."""
    return pc.is_null(batch.column(REPLAYED))


def _draw(con: sampling.Connection, dataset: Dataset, wanted: int, policy: Replay, said: str) -> int:
    """Make the table `candidates`: rows of the sections drawn first, enough of them to choose from or all there are.

    How many sections are drawn at a time cannot be told from the rows that are chosen: a smaller draw begins a larger.
    """
    con.execute("alter view replay rename to all_replay")
    con.execute("create table drawn (section_id varchar, place bigint)")
    # From here on the relations see the sections that were drawn and no others, so that only these are read.
    k = int(wanted * _SPARE) + 16
    while True:
        con.execute("create or replace view replay as from all_replay")
        drawn = sampling.draw(con, k if wanted else 0, seed=policy.seed, types=FITS[dataset.name])
        con.execute("delete from drawn")
        con.execute("insert into drawn select unnest(?), unnest(range(?))", [list(drawn.ids), len(drawn.ids)])
        con.execute("create or replace view replay as from all_replay semi join drawn using (section_id)")
        con.execute(_CANDIDATES.format(name=dataset.name, said=said))
        [(sound,)] = con.execute("select count(*) from candidates where not leaks and not repeats").fetchall()
        if sound >= wanted or len(drawn.ids) == drawn.pool:
            return drawn.pool
        k *= 2


# Rows of what was drawn, in the order of the draw; what says the same as a fresh row, or as a section drawn before.
_CANDIDATES = """
create or replace table candidates as
with
rows as (
    select replayed.*, drawn.place, md5({said}) as said
    from replayed_{name} as replayed
    inner join drawn using (section_id)
)
select
    *,
    said in (select said from fresh) as leaks,
    place > min(place) over (partition by said) as repeats
from rows
"""
# The first so many that are sound; passed over counts what came before the last of them.
_CHOSEN = """
create table chosen as
with
counted as (
    select
        *,
        count(*) filter (where not leaks and not repeats) over (order by place, n) as sound,
        count(*) filter (where not leaks and not repeats) over () as all_sound,
        cast(? as bigint) as wanted
    from candidates
)
select * exclude (sound, all_sound, wanted), not leaks and not repeats as taken
from counted
where (sound <= wanted and (not leaks and not repeats or sound < wanted)) or (all_sound < wanted)
"""
_MIXED = """
select *, cast(null as struct(section_id varchar, n bigint, last_seen varchar)) as _replay
from fresh_{name}
union all by name
select
    * exclude (section_id, n, last_seen, place, said, leaks, repeats, taken),
    {{
        'section_id': section_id,
        'n': n,
        'last_seen': strftime(make_timestamp(epoch_us(last_seen)), '%Y-%m-%dT%H:%M:%SZ')
    }} as _replay
from chosen
where taken
"""
_COUNTS = """
select
    count(*) filter (where taken),
    count(distinct section_id) filter (where taken),
    count(*) filter (where leaks),
    count(*) filter (where repeats and not leaks)
from chosen
"""


def _faults_of(dataset: Dataset) -> Any:
    """The dataset's faults for fresh rows, and those of replayed ones, which no verdict is about, for the others."""

    def faults(rows: Rows, batch: pa.RecordBatch) -> Iterator[Fault]:
        fresh = is_fresh(batch)
        for chosen, found in ((fresh, dataset.faults), (pc.invert(fresh), _replayed_faults)):
            places = np.flatnonzero(np.asarray(chosen))
            if len(places):
                for mask, why in found(rows, batch.take(pa.array(places))):
                    yield _spread(mask, places, len(batch)), _moved(why, places)

    return faults


def _spread(mask: pa.Array, places: np.ndarray, rows: int) -> pa.Array:
    """A mask of some of the rows as one of all; what is not known to be sound is not."""
    marked = np.zeros(rows, bool)
    marked[places[np.asarray(pc.fill_null(mask, True))]] = True
    return pa.array(marked)


def _moved(why: Any, places: np.ndarray) -> Any:
    if isinstance(why, str):
        return why
    within = {place: number for number, place in enumerate(places.tolist())}
    return lambda place: why(within[place])


def _replayed_faults(rows: Rows, batch: pa.RecordBatch) -> Iterator[Fault]:
    yield from blank(batch, "id")
    named = pc.starts_with(batch.column("id"), "replay-")
    yield pc.invert(named), "a replayed row has the id of a fresh one"
    yield from blank(pa.RecordBatch.from_struct_array(batch.column(REPLAYED)), "section_id", "last_seen")
    for name in rows.training:
        column = batch.column(name)
        if pa.types.is_list(column.type):
            yield from turns(column, name, None if name == "prompt" else "assistant")
        elif name == "label":
            yield pc.is_null(column), "label is missing"
        elif name in rows.json and name in ("messages", "completion"):
            yield from free_form(column)
        elif name not in ("context", "tools", "domain"):
            yield from blank(batch, name)
