"""Rows to append, for the tests of this floor."""

import pyarrow as pa


def evidence(*runs: str, **more: object) -> list[dict[str, object]]:
    """One row of evidence for each run id, all with the same further columns."""
    said = {"task_id": "t", "kind": "completion", "role": "executor"}
    return [{"run_id": run, **said, "text": f"text of {run}", **more} for run in runs]


def scores(*runs: str, **more: object) -> list[dict[str, object]]:
    """One accepting score for each run id."""
    said = {"scorer": "judge", "scorer_version": "1", "category": "accepted"}
    return [{"run_id": run, **said, **more} for run in runs]


def much_evidence(start: int, stop: int) -> pa.Table:
    """A table of evidence, one row for each number."""
    rows = stop - start
    numbers = pa.array(range(start, stop)).cast(pa.string())
    same = {"task_id": "t", "kind": "completion", "role": "executor"}
    return pa.table({"run_id": numbers, "text": numbers, **{name: pa.repeat(same[name], rows) for name in same}})
