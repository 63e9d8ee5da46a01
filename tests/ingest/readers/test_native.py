"""The native reader."""

import pytest

from ingest.readers import native
from ingest.rows import Place, Refused


def read(row, kind="evidence", form="jsonl"):
    return list(native.read(row, Place("f", 1, "", kind, form)))


def test_a_row_is_its_event():
    """Nothing is added to a row, and nothing is taken from it but the version of its schema."""
    assert read({"run_id": "r", "other": 1, "schema_version": 1}) == [{"run_id": "r", "other": 1}]


@pytest.mark.parametrize("version", [2, 0, "1", None, 1.5, [1]])
def test_an_unknown_schema_version_is_refused(version):
    """A row of a schema that this version does not know is not guessed at."""
    with pytest.raises(Refused) as refused:
        read({"run_id": "r", "schema_version": version})
    assert refused.value.problems[0].reason == "unknown_schema_version"


def test_cells_of_csv_become_what_their_columns_hold():
    """In CSV everything is text: numbers are read, and a list is JSON or its only item."""
    row = {"run_id": "r", "score": "0.5", "reasons": '["a", "b"]', "schema_version": "1"}
    assert read(row, "scores", "csv") == [{"run_id": "r", "score": 0.5, "reasons": ["a", "b"]}]
    assert read({"source_files": "a.py"}, "evidence", "csv") == [{"source_files": ["a.py"]}]
    assert read({"source_files": "[a.py"}, "evidence", "csv") == [{"source_files": ["[a.py"]}]
    with pytest.raises(Refused, match="must be a number"):
        read({"score": "high"}, "scores", "csv")
