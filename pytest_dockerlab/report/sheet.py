"""A CSV file that a person exported, with cells to fill in. Every cell that is not filled keeps its bytes.

The csv module would write the file anew, with its own quotes and line ends; then a person who compares the two files
sees every line changed. So the text is only cut at the delimiters here, and joined again.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path

from pytest_dockerlab.errors import UsageError
from pytest_dockerlab.report.escape import csv_text

MAX_SHEET_BYTES = 64 * 1024 * 1024
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


@dataclass
class Row:
    """The raw cells of a row, quotes included, and its line end."""

    cells: list[str]
    end: str

    def value(self, column: int | None) -> str:
        """Return the text of a cell, stripped; empty where the row is too short or there is no such column."""
        if column is None or column >= len(self.cells):
            return ""
        raw = self.cells[column]
        if raw.startswith('"'):
            raw = raw[1:].removesuffix('"').replace('""', '"')
        return raw.strip()


class Sheet:
    """A CSV file in memory. `rows[0]` is the header."""

    def __init__(self, data: bytes, name: str = "the file", encoding: str | None = None) -> None:
        """Read bytes: a byte order mark decides the encoding, then the caller, then it has to be UTF-8."""
        self.name = name
        self.bom, self.encoding = next(
            ((bom, codec) for bom, codec in _BOMS if data.startswith(bom)), (b"", encoding or "utf-8")
        )
        try:
            text = data[len(self.bom) :].decode(self.encoding)
        except (UnicodeDecodeError, LookupError) as error:
            raise UsageError(
                f"{name} is not {self.encoding}: {error}",
                fix="name its encoding, e.g. --encoding gb18030, or export it as UTF-8",
            ) from error
        header = text.split("\n", 1)[0]
        self.delimiter = max(",;\t", key=header.count)
        self.rows = self._split(text)
        if not self.rows:
            raise UsageError(f"{name} is empty")

    @classmethod
    def read(cls, path: Path, encoding: str | None = None) -> Sheet:
        """Read a file; whatever is wrong with it is a `UsageError` that names it."""
        try:
            with path.open("rb") as file:
                data = file.read(MAX_SHEET_BYTES + 1)
        except OSError as error:
            raise UsageError(f"{path} can't be read: {error.strerror or error}") from error
        if len(data) > MAX_SHEET_BYTES:
            raise UsageError(f"{path} is larger than {MAX_SHEET_BYTES >> 20} MiB")
        return cls(data, str(path), encoding)

    def _split(self, text: str) -> list[Row]:
        rows: list[Row] = []
        cells: list[str] = []
        start = position = 0
        while position < len(text):
            if position == start and text[position] == '"':
                position = self._end_of_quotes(text, position)
                continue
            char = text[position]
            if char == self.delimiter:
                cells.append(text[start:position])
                start = position = position + 1
            elif char in "\r\n":
                end = "\r\n" if text.startswith("\r\n", position) else char
                rows.append(Row([*cells, text[start:position]], end))
                cells = []
                start = position = position + len(end)
            else:
                position += 1
        if cells or start < len(text):
            rows.append(Row([*cells, text[start:]], ""))
        return rows

    def _end_of_quotes(self, text: str, start: int) -> int:
        """Return the place after the closing quote of the cell that begins at `start`."""
        position = text.find('"', start + 1)
        while position >= 0 and text.startswith('""', position):
            position = text.find('"', position + 2)
        if position < 0:
            line = text.count("\n", 0, start) + 1
            raise UsageError(f"{self.name}: the quote that opens in line {line} is never closed")
        return position + 1

    @property
    def header(self) -> list[str]:
        """Return the texts of the first row."""
        return [self.rows[0].value(column) for column in range(len(self.rows[0].cells))]

    def column(self, name: str) -> int:
        """Return the column with exactly this header; raises `UsageError` that lists those there are."""
        places = [place for place, header in enumerate(self.header) if header == name.strip()]
        if len(places) != 1:
            what = "has no column" if not places else "has more than one column"
            raise UsageError(f"{self.name} {what} {name!r}", fix=f"its columns are {', '.join(map(repr, self.header))}")
        return places[0]

    def find_column(self, names: frozenset[str]) -> int | None:
        """Return the first column whose header is one of `names` (lower case), or `None`."""
        return next((place for place, header in enumerate(self.header) if header.casefold() in names), None)

    def fill(self, row: Row, column: int, value: str | int) -> None:
        """Put a value into a cell: quoted, and guarded where it is a text that looks like a formula."""
        row.cells += [""] * (column + 1 - len(row.cells))
        text = csv_text(value) if isinstance(value, str) else str(value)
        quoted = isinstance(value, str) or row.cells[column].startswith('"')
        row.cells[column] = '"' + text.replace('"', '""') + '"' if quoted else text

    def to_bytes(self) -> bytes:
        """Return the file, in the encoding and with the byte order mark that it came with."""
        text = "".join(self.delimiter.join(row.cells) + row.end for row in self.rows)
        return self.bom + text.encode(self.encoding, "replace")
