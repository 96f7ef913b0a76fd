"""Progress bars: Keras' and tqdm's. Each drawing of a bar is a line here, and many drawings tell one thing."""

from __future__ import annotations

import re
from typing import NamedTuple

from pytest_dockerlab.facts import Series

_KERAS = re.compile(rb"\s{0,8}(\d{1,9})/(\d{1,9}|Unknown|None)\s(\S)")
_KERAS_EPOCH = re.compile(rb"\s{0,8}Epoch (\d{1,7})/(\d{1,7})\s*\Z")
_TQDM = re.compile(
    rb"(?:\d{1,3}%\|[^|\n]{0,400}\|\s{0,16}([\d.]{1,16}[kKMGT]?)/[\d.?]{1,16}[kKMGT]?|(\d{1,16})it)"
    rb"\s\[[\d:.]{1,16}(?:<[\d:., a-z?]{1,24})?,\s{0,8}[^,\]\n]{0,24}"
)


class TqdmFrame(NamedTuple):
    """One drawing of a tqdm bar: `text` is what the program put before and behind it."""

    text: bytes
    at: tuple[int, int]  # where in the line the count is
    label: int  # how much of `text` stands before the bar
    shift: int  # what to add to a place in the rest of `text` to get the place in the line
    lightning: bool

    def place(self, span: tuple[int, int]) -> slice:
        """Return where in the line something is that is at `span` in the text."""
        shift = self.shift if span[0] >= self.label else 0
        return slice(span[0] + shift, span[1] + shift)


def tqdm_frame(line: bytes) -> TqdmFrame | None:
    """Return the frame where the line is one."""
    match = _TQDM.search(line)
    if match is None:
        return None
    label = line[: match.start()] + b"|"
    behind = line[match.end() :]
    at = match.span(1) if match.group(1) else match.span(2)
    return TqdmFrame(label + behind, at, len(label), match.end() - len(label), b"v_num=" in behind)


class KerasBars:
    """Follows `fit` and `evaluate`: which epoch a bar belongs to, and whether it belongs to one at all.

    `fit` prints `Epoch 2/5` and then one bar; `evaluate` prints a bar alone, whose `loss` is no training loss.
    """

    def __init__(self) -> None:
        """Start outside any epoch."""
        self.epoch: float | None = None
        self._open = False
        self._done = 0
        self._total = b""
        self._plain = False
        self._evaluations = 0

    def epoch_line(self, line: bytes) -> bool:
        """Take note of an `Epoch 2/5` line; says whether it was one."""
        match = _KERAS_EPOCH.match(line)
        if match is None:
            return False
        self.epoch = float(match.group(1))
        self._open = True
        self._done = 0
        self._plain = False
        return True

    def frame(self, line: bytes) -> tuple[Series | None, object] | None:
        """Return the series that the bar's unqualified `loss` belongs to, and the identity of its epoch."""
        match = _KERAS.match(line)
        if match is None or (b" - " not in line and b"/step" not in line):
            return None
        done, total = int(match.group(1)), match.group(2)
        plain = match.group(3) == b"-" and b"\xe2\x94\x81" not in line
        # Another bar: it counts from the start again, or has another length, or is a second line at `verbose=2`.
        again = self._done and (done < self._done or total != self._total or (plain and self._plain))
        if again and self._open and self._total.isdigit() and self._done >= int(self._total):
            self._open = False
            self._evaluations += 1
        elif again and not self._open:
            self._evaluations += 1
        self._done, self._total, self._plain = done, total, plain
        if self._open:
            return None, ("epoch", self.epoch)
        return Series.TEST, ("evaluate", self._evaluations)
