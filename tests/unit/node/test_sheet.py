"""Tables for a spreadsheet: nothing in them is computed, wherever it splits a line into cells."""

import csv
from io import StringIO

import pytest

from node.sheet import BYTE_ORDER_MARK, sheet_lines

ODD = (
    "=1+1",
    'DOE;=HYPERLINK("http://x")',
    "DOE\t=1+1",
    "DOE\n=1+1",
    "DOE\r+1",
    'DOE";-1',
    '"=1+1',
    "DOE; @SUM(1)",
    "\t=1+1",
    "+;=;-",
    "DOE;;=1",
)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_NONE])
def test_no_cell_begins_a_formula_however_the_line_is_split(delimiter: str, quoting: int) -> None:
    page = "".join(sheet_lines(("name", "next"), [(odd, "DOE") for odd in ODD])).removeprefix(BYTE_ORDER_MARK)
    rows = csv.reader(StringIO(page, newline=""), delimiter=delimiter, quoting=quoting)  # type: ignore[arg-type]  # one of them
    cells = [cell.strip(' "') for row in rows for cell in row]
    assert len(cells) > len(ODD)
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]


def test_what_is_harmless_stays_as_it_is() -> None:
    (_, line) = sheet_lines(("a",), [("DOE-SMITH; J=1", -1.5, None, "2025-01-14", 'Ø 3" x')])
    assert next(csv.reader([line])) == ["DOE-SMITH; J=1", "-1.5", "", "2025-01-14", 'Ø 3" x']
