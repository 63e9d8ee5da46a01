import csv
import io
import json
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from cli.output import CELL, ROWS_SHOWN, Format, amount, fail, show

ROWS = [
    {"name": "plain", "number": 1, "list": ["a", "b"], "at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "none": None},
    {"name": 'quotes " and, commas', "number": 2.5, "list": [], "at": None, "none": None},
    {"name": "two\nlines \x1b[31mred\x1b[0m ü 漢字", "number": Decimal("1.50"), "list": None, "at": None, "none": None},
]


def test_json_lines_and_csv_carry_every_value(capsys: pytest.CaptureFixture[str]) -> None:
    """The data formats cut, escape and drop nothing: what is read back is what went in."""
    show(ROWS, Format.jsonl)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["name"] for line in lines] == [row["name"] for row in ROWS]
    assert lines[0]["list"] == ["a", "b"]
    assert lines[2]["number"] == 1.5
    show(ROWS, Format.json)
    assert json.loads(capsys.readouterr().out) == lines
    show(ROWS, Format.csv)
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["name"] for row in table] == [row["name"] for row in ROWS]
    assert json.loads(table[0]["list"]) == ["a", "b"]


def test_no_rows_are_valid_data(capsys: pytest.CaptureFixture[str]) -> None:
    """An empty result is an empty JSON list, no JSON lines, and a CSV header where the columns are known."""
    show([], Format.json)
    assert json.loads(capsys.readouterr().out) == []
    show([], Format.jsonl)
    assert capsys.readouterr().out == ""
    show([], Format.csv, columns=("a", "b"))
    assert capsys.readouterr().out == "a,b\n"
    show([], Format.table)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "no rows" in captured.err


def test_a_table_says_what_it_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    """A table shows the first rows and tells on stderr how many more there are and how to see them."""
    show(({"n": number} for number in range(ROWS_SHOWN + 7)), Format.table)
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == ROWS_SHOWN + 1
    assert "7 more rows" in captured.err


def test_a_table_is_one_line_a_row_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Line breaks and terminal escapes in a value cannot break the table or reach the terminal."""
    show([*ROWS, {"name": "x" * 500}], Format.table)
    out = capsys.readouterr().out
    assert len(out.splitlines()) == len(ROWS) + 2
    assert "\x1b" not in out
    assert "x" * CELL not in out


def test_arrow_batches_print_like_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """A stream of record batches gives the same output as the rows in it."""
    table = pa.table({"a": [1, 2, 3], "b": ["x", None, "z"]})
    for form in Format:
        show(table.to_reader(max_chunksize=2), form)
        streamed = capsys.readouterr().out
        show(table.to_pylist(), form, columns=("a", "b"))
        assert capsys.readouterr().out == streamed


def test_an_error_is_one_line_and_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    """An error says what is wrong on its first line and what to type on its second, without wrapping or colour."""
    fail("a" * 300, "type this")
    assert capsys.readouterr().err == f"error: {'a' * 300}\nhint: type this\n"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (865_000_000, "865.0 MB"),
        (5 * 10**12, "5000.0 GB"),
    ],
)
def test_bytes_read_as_people_say_them(number: int, text: str) -> None:
    """Sizes are printed with the prefix that keeps them short."""
    assert amount(number, "B") == text


def test_columns_of_one_name_are_all_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """A query may give two columns the same name; neither hides the other."""
    table = pa.table([[1], [2], [3]], names=["a", "a", "a_1"])
    show(table.to_reader(), Format.jsonl)
    assert sorted(json.loads(capsys.readouterr().out).values()) == [1, 2, 3]
