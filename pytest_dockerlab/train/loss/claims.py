"""What a log claims beside its losses: the accuracy reached and the epochs trained."""

from __future__ import annotations

import math
import re

from pytest_dockerlab.facts import Series
from pytest_dockerlab.train.loss.words import decoded, series_in, snake

# accuracy, acc, Acc@1, 准确率, 正确率, 精度; then `9837/10000 (98%)`, `98.4%`, `0.984`, `'0.984'`
_ACCURACY = re.compile(
    rb"((?:[aA]cc(?:uracy)?|ACC(?:URACY)?)(?:@1)?(?![a-zA-Z])"
    rb"|\xe5\x87\x86\xe7\xa1\xae\xe7\x8e\x87|\xe6\xad\xa3\xe7\xa1\xae\xe7\x8e\x87|\xe7\xb2\xbe\xe5\xba\xa6)"
    rb"([\w\-]{0,24}?)[\"'`)\]*]{0,3}\s{0,8}(?:(?:[:=|]|\xef\xbc\x9a|is|of|\xe4\xb8\xba|\xe6\x98\xaf)\s{0,8})?"
    rb"[\"'\[(]{0,2}(?:tensor\()?"
    rb"(?:(\d{1,9})\s?/\s?(\d{1,9})|(\d{1,4}(?:\.\d{0,20})?(?:[eE]-?\d{1,2})?)\s?(%)?)(?![\w/:])"
)
_BEFORE = 48
_DIGITS = bytes.maketrans(b"123456789", b"0" * 9)
_MAX_PENDING = 256
_MAX_LINE = 1024


class Claims:
    """Collects claims line by line."""

    def __init__(self) -> None:
        """Start with no claim."""
        self._accuracy: dict[Series, float] = {}
        # Only the last claim counts: of lines that differ in their digits alone the last is kept, and read at the end.
        self._pending: dict[bytes, tuple[bytes, Series]] = {}
        self._first_epoch: float | None = None
        self._last_epoch: float | None = None

    def epoch(self, epoch: float) -> None:
        """Note that the log speaks of an epoch."""
        if self._first_epoch is None or epoch < self._first_epoch:
            self._first_epoch = epoch
        if self._last_epoch is None or epoch > self._last_epoch:
            self._last_epoch = epoch

    def line(self, line: bytes, otherwise: Series = Series.TRAIN) -> None:
        """Note a line that seems to speak of an accuracy, which is `otherwise`'s where the line does not say whose."""
        line = line[:_MAX_LINE]
        kind = line.translate(_DIGITS)
        pending = self._pending
        pending.pop(kind, None)
        pending[kind] = (line, otherwise)
        if len(pending) > _MAX_PENDING:
            self._read_pending()

    def _read_pending(self) -> None:
        for line, otherwise in self._pending.values():
            self._read(line, otherwise)
        self._pending.clear()

    def _read(self, line: bytes, otherwise: Series) -> None:
        reached = 0
        for match in _ACCURACY.finditer(line):
            before = decoded(line[max(reached, match.start() - _BEFORE) : match.start()])
            reached = match.end()
            series = series_in(snake(decoded(match.group(2)))) or series_in(snake(before)) or otherwise
            right, asked, number, percent = match.groups()[2:]
            if right is not None:
                value = int(right) / int(asked) if int(asked) else math.nan
            else:
                value = float(number)
                value = value / 100 if percent or value > 1 else value
            if 0 <= value <= 1:
                self._accuracy[series] = value

    @property
    def accuracy(self) -> float | None:
        """The last accuracy claimed, on test data where there is one, else validation, else training data."""
        self._read_pending()
        for series in (Series.TEST, Series.VALIDATION, Series.TRAIN):
            if series in self._accuracy:
                return self._accuracy[series]
        return None

    @property
    def epochs(self) -> int | None:
        """How many epochs the log says were begun; counted from 0 or from 1, as the log does."""
        first, last = self._first_epoch, self._last_epoch
        if first is None or last is None or not last < 1e7:
            return None
        return int(last) + 1 if first == 0 and last == int(last) else max(1, math.ceil(last))
