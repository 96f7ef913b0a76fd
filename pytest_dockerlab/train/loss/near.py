"""The lines that came nearest to a loss, for the message that says that none was found."""

from __future__ import annotations

import re

_MOST = 5
_LENGTH = 200
_NUMBER = re.compile(rb"\d\.\d")


class NearMisses:
    """Keeps the first few lines that speak of a loss and could not be read, and, behind them, lines of other news."""

    def __init__(self) -> None:
        """Start with none."""
        self._loss: dict[str, None] = {}
        self._bare: dict[str, None] = {}
        self._other: dict[str, None] = {}

    def loss(self, line: bytes) -> None:
        """Note a line with a loss word but no reading."""
        _keep(self._loss if any(byte in line for byte in b"0123456789") else self._bare, line)

    def other(self, line: bytes) -> None:
        """Note a line that names an epoch; it is near if it holds a number that could be a loss."""
        if len(self._other) < _MOST and b"it/s" not in line and _NUMBER.search(line):
            _keep(self._other, line)

    def lines(self) -> tuple[str, ...]:
        """Return at most five lines, nearest first."""
        return tuple([*self._loss, *self._bare, *self._other][:_MOST])


def _keep(kept: dict[str, None], line: bytes) -> None:
    if len(kept) < _MOST:
        text = line[: _LENGTH * 4].decode("utf-8", "replace").strip()
        kept["".join(char if char.isprintable() else " " for char in text)[:_LENGTH]] = None
