"""Tables in a log: a header that names a loss, then rows of numbers (fastai's learner, a printed CSV, Markdown)."""

from __future__ import annotations

import re
from typing import NamedTuple

from pytest_dockerlab.facts import Series
from pytest_dockerlab.train.loss.words import Meaning, column_meaning

_HEADER_CELL = re.compile(rb"[A-Za-z_\x80-\xff][\w /.()\-\x80-\xff]{0,40}\Z")
_GAP = re.compile(rb"\t| {2,}")
_MAX_COLUMNS = 32
_MAX_ROW = 600


def _cells(line: bytes, separator: bytes) -> list[bytes]:
    if separator == b"gap":
        parts = _GAP.split(line.strip())
    elif separator == b" ":
        parts = line.split()
    else:
        parts = line.strip().strip(b"|").split(separator)
    return [part.strip() for part in parts]


class Row(NamedTuple):
    """One row of a table."""

    format: str
    epoch: float | None
    step: int | None
    losses: list[tuple[Meaning, float]]


# fastai's learner without a terminal: `[0, 1.848, 1.391, 0.758, '00:00']`, epoch, training loss, validation loss, …
_FASTAI = re.compile(
    rb"\[(\d{1,7}), ([-+.\deE]{1,32}|nan|inf), ([-+.\deE]{1,32}|nan|inf|None)"
    rb"(?:, (?:[-+.\deE]{1,32}|nan|inf|None)){0,16}, '[\d:]{1,16}'\]\Z"
)
_TRAIN_LOSS = Meaning("train_loss", Series.TRAIN, 0)
_VALID_LOSS = Meaning("valid_loss", Series.VALIDATION, 0)


def fastai_row(line: bytes) -> Row | None:
    """Return the row that fastai printed as a list."""
    match = _FASTAI.match(line)
    if match is None:
        return None
    try:
        losses = [(_TRAIN_LOSS, float(match[2]))]
        if match[3] != b"None":
            losses.append((_VALID_LOSS, float(match[3])))
    except ValueError:
        return None
    return Row("fastai", float(match[1]), None, losses)


class Table:
    """A table that a log has begun."""

    def __init__(self, separator: bytes, columns: list[Meaning | None], names: list[bytes]) -> None:
        """Keep how rows are split and what each column means."""
        self._separator = separator
        self.columns = columns
        self._epoch = next((at for at, name in enumerate(names) if name.lower() in {b"epoch", b"ep"}), None)
        self._step = next((at for at, name in enumerate(names) if name.lower() in {b"step", b"iter", b"batch"}), None)
        self._format = "fastai" if names[:3] == [b"epoch", b"train_loss", b"valid_loss"] else "table"

    @classmethod
    def header(cls, line: bytes) -> Table | None:
        """Return the table that this line begins, if it looks like a header with a loss among its columns."""
        if len(line) > _MAX_ROW:
            return None
        for separator in (b"|", b",", b"gap", b" "):
            names = _cells(line, separator)
            if not 2 <= len(names) <= _MAX_COLUMNS or not all(_HEADER_CELL.match(name) for name in names):
                continue
            columns = [column_meaning(name) for name in names]
            if any(columns):
                return cls(separator, columns, names)
        return None

    def row(self, line: bytes) -> Row | None:
        """Return a row's numbers; `None` where the line is no row of this table."""
        if len(line) > _MAX_ROW:
            return None
        cells = _cells(line, self._separator)
        if len(cells) != len(self.columns):
            return None
        try:
            losses = [
                (column, float(cell))
                for column, cell in zip(self.columns, cells, strict=True)
                if column is not None and cell not in {b"", b"-"}
            ]
            epoch = float(cells[self._epoch]) if self._epoch is not None else None
            step = int(float(cells[self._step])) if self._step is not None else None
        except (ValueError, OverflowError):
            return None
        return Row(self._format, epoch, step, losses) if losses else None
