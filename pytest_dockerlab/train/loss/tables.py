"""Tables in a log: a header that names a loss, then rows of numbers (fastai's learner, a printed CSV, Markdown)."""

from __future__ import annotations

import re

from pytest_dockerlab.train.loss.words import Meaning, meaning

_HEADER_CELL = re.compile(rb"[A-Za-z_\x80-\xff][\w /.()\-\x80-\xff]{0,40}\Z")
_LOSS = re.compile(rb"(.*?)([lL]oss(?:es)?|LOSS|\xe6\x8d\x9f\xe5\xa4\xb1)(.*)\Z", re.DOTALL)
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


class Table:
    """A table that a log has begun."""

    def __init__(self, separator: bytes, columns: list[Meaning | None], names: list[bytes]) -> None:
        """Keep how rows are split and what each column means."""
        self._separator = separator
        self.columns = columns
        self._epoch = next((at for at, name in enumerate(names) if name.lower() in {b"epoch", b"ep"}), None)
        self._step = next((at for at, name in enumerate(names) if name.lower() in {b"step", b"iter", b"batch"}), None)
        self.fastai = names[:3] == [b"epoch", b"train_loss", b"valid_loss"]

    @classmethod
    def header(cls, line: bytes) -> Table | None:
        """Return the table that this line begins, if it looks like a header with a loss among its columns."""
        if len(line) > _MAX_ROW:
            return None
        for separator in (b"|", b",", b"gap", b" "):
            names = _cells(line, separator)
            if not 2 <= len(names) <= _MAX_COLUMNS or not all(_HEADER_CELL.match(name) for name in names):
                continue
            columns: list[Meaning | None] = []
            for name in names:
                match = _LOSS.match(name)
                columns.append(meaning(match[1], match[2], match[3], b"") if match else None)
            if any(columns):
                return cls(separator, columns, names)
        return None

    def row(self, line: bytes) -> tuple[float | None, int | None, list[tuple[Meaning, float]]] | None:
        """Return epoch, step and losses of a row; `None` where the line is no row of this table."""
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
        return (epoch, step, losses) if losses else None
