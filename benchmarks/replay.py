"""What does a draw of past training cost? Against reading every section, which is what a draw without an index does.

`python benchmarks/replay.py --rows 1000000`. Both sides draw a tenth of the sections by the same keys, from the same
Parquet file. Ours folds ids, types, weights and times, and keeps a share back for evaluation; the other also decodes
what each section says before it knows whether that is wanted.
"""

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.measure import Side, compare, parser, timed
from lake.kinds import KINDS
from views import Policy, connect, needed
from views.policy import Replay
from views.sampling import NEEDS, draw, draw_keys
from views.tables import sql_type

__all__ = ["decoding", "main", "ours", "sections"]

BAR = 1.0
SHARE = 10  # one of so many sections is drawn

_SECTIONS = """
    select
        printf('%014x', 1767225600000000 + moment) || '-' || substr(sha256(concat('event', number)), 1, 32) as event_id,
        make_timestamptz(1767225600000000 + moment) as recorded_at,
        1 as schema_version,
        'generated' as batch,
        substr(sha256(concat('section', number)), 1, 16) as section_id,
        ['prose', 'instruction', 'preference'][1 + number % 3] as section_type,
        array_to_string(list_transform(range(12), lambda word: substr(sha256(concat(number, word)), 1, 7)), ' ')
            || repeat(' and so on', 40) as content,
        500 as content_bytes,
        case when number % 10 = 0 then 0.5 end as weight,
        number % 7 = 0 as auto_mined
    from (select range as number, (hash(range) % 31536000)::bigint * 1000000 as moment from range({rows}))
"""


class _One:
    """A snapshot of one file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def paths(self, kind: str) -> list[str]:
        return [str(self._path)] if kind == "replay" else []


def sections(rows: int, data: Path) -> Path:
    """A file of so many sections, made if it is not there yet."""
    path = data.absolute() / f"replay-{rows}.parquet"
    if not path.exists():
        data.mkdir(parents=True, exist_ok=True)
        print(f"generating {rows:,} sections in {path}")
        with duckdb.connect() as con:
            con.execute(f"create view made as {_SECTIONS.format(rows=rows)}")
            known = {name for (name,) in con.execute("select column_name from (describe made)").fetchall()}
            columns = ", ".join(
                field.name if field.name in known else f"cast(null as {sql_type(field.type)}) as {field.name}"
                for field in KINDS["replay"].schema
            )
            unfinished = path.with_suffix(".unfinished")
            con.execute(f"copy (select {columns} from made) to '{unfinished}' (format parquet, compression zstd)")
        unfinished.rename(path)
    return path


def ours(path: str, k: int) -> float:
    """Draw through the views; in seconds."""
    with connect(_One(Path(path)), Policy(replay=Replay()), sql=needed(NEEDS)) as con:
        return timed(lambda: draw(con, k, seed=1))


def decoding(path: str, k: int) -> float:
    """Draw after reading every section whole; in seconds."""

    def work() -> None:
        keys, ids = [], []
        for batch in pq.ParquetFile(path).iter_batches(columns=["section_id", "section_type", "content"]):
            batch.to_pylist()
            ids.append(batch.column("section_id"))
            keys.append(pa.array(draw_keys(ids[-1], np.ones(len(batch)), 1)))
        table = pa.table({"key": pa.chunked_array(keys), "id": pa.chunked_array(ids)})
        table.sort_by([("key", "descending")]).slice(0, k)

    return timed(work)


def main() -> None:
    """Measure both sides and print them."""
    options = parser(main.__doc__).parse_args()
    path = sections(options.rows, options.data)
    k = options.rows // SHARE
    sides = [
        Side("lake replay sample", ours, lambda _: [path, k]),
        Side("decoding every section", decoding, lambda _: [path, k]),
    ]
    compare(f"draw {k:,} of {options.rows:,} sections", sides, BAR, options.times)


if __name__ == "__main__":
    main()
