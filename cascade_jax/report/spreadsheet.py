"""Rows as a table that spreadsheet programs open, as CSV and as XLSX.

A text that such a program would take for a formula, since it begins with =, +, - or @, gets an apostrophe before it:
names of folders and files may be anybody's.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from cascade_jax.data.files import replacing

_FORMULA = ("=", "+", "-", "@")
_WIDEST = 60  # characters of a column, which are wrapped beyond

Row = Mapping[str, str | float | int | None]


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Writes a table as CSV, with the columns of all rows in their order; NaN and None become empty fields.

    Raises:
        CaseError: the file cannot be written.
    """
    columns = _columns(rows)
    # With the mark by which Excel knows that it is UTF-8.
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([cell(row.get(column)) for column in columns] for row in rows)


def write_xlsx(path: Path, rows: Sequence[Row], title: str) -> None:
    """Writes the same as XLSX, in one sheet of that title; needs the extra "tables".

    Raises:
        CaseError: the file cannot be written.
    """
    from openpyxl import Workbook
    from openpyxl.styles import Alignment, Font
    from openpyxl.utils import get_column_letter

    columns = _columns(rows)
    book = Workbook()
    sheet = book.active
    sheet.title = title
    sheet.append(columns)
    for row in rows:
        sheet.append([cell(row.get(column)) for column in columns])
    for index, cells in enumerate(sheet.columns, 1):
        cells[0].font = Font(bold=True)
        longest = max(len(str(one.value)) for one in cells if one.value is not None)
        sheet.column_dimensions[get_column_letter(index)].width = min(longest, _WIDEST) + 2
        for one in cells[1:]:
            one.alignment = Alignment(vertical="top", wrap_text=isinstance(one.value, str) and longest > _WIDEST)
    sheet.freeze_panes = "B2"
    sheet.auto_filter.ref = sheet.dimensions
    with replacing(path) as partial, partial.open("wb") as file:
        book.save(file)


def cell(value: str | float | int | None) -> str | float | int | None:
    """A value as it stands in a cell: numbers to four digits, texts so that they are nothing but text."""
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else None
    text = value.encode("utf-8", "backslashreplace").decode()
    text = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def _columns(rows: Sequence[Row]) -> list[str]:
    # The longest first: a row of a failure has few.
    return list(dict.fromkeys(column for row in sorted(rows, key=len, reverse=True) for column in row))
