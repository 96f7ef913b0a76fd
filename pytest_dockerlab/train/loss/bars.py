"""Progress bars: Keras' and tqdm's. Each drawing of a bar is a line here, and many drawings tell one thing."""

from __future__ import annotations

import re
from typing import NamedTuple

from pytest_dockerlab.facts import Series

# Keras 3: `12/94 ━━━ 1s 5ms/step - loss: 0.5`; Keras 2: `12/94 [==>...] - ETA: 1s - loss: 0.5`; at `verbose=2` both:
# `94/94 - 1s - loss: 0.5`
_KERAS = re.compile(
    rb"\s{0,8}(\d{1,9})/(\d{1,9}|Unknown|None)\s"
    rb"(?:(-\s\d{1,7}m?s\s)|\[[=>.]{1,99}\]\s|(?:\xe2\x94\x81){1,99}|\S{0,8}\s?\d{1,9}[a-z\xb5\xc2\xce\xbc]{1,4}\s[^-\n]{0,32}/step)"
)
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


class KerasFrame(NamedTuple):
    """One drawing of a Keras bar: where in the line the count and the total are; `flat` at `verbose=2`, without bar."""

    done: slice
    total: slice
    flat: bool


def keras_frame(line: bytes) -> KerasFrame | None:
    """Return the frame where the line is one."""
    match = _KERAS.match(line)
    if match is None:
        return None
    return KerasFrame(slice(*match.span(1)), slice(*match.span(2)), match.group(3) is not None)


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
        self._batches = 0  # the total as a number, 0 where it is unknown
        self._flat = False
        self._evaluations = 0
        self._means: dict[str, tuple[float | None, int, float]] = {}

    @property
    def complete(self) -> bool:
        """Whether the last frame was a full bar, or one of unknown length."""
        return self._done >= self._batches

    def epoch_line(self, line: bytes) -> bool:
        """Take note of an `Epoch 2/5` line; says whether it was one."""
        match = _KERAS_EPOCH.match(line)
        if match is None:
            return False
        self.epoch = float(match.group(1))
        self._open = True
        self._done = 0
        self._flat = False
        return True

    def since_last(self, name: str, mean: float) -> float | None:
        """Return the mean loss of the batches since the frame before, from the running means that the two show.

        `None` where there are too few batches between them: the digits printed would not carry the difference.
        """
        epoch, done, before = self._means.get(name, (None, 0, 0.0))
        if epoch != self.epoch:
            done, before = 0, 0.0
        new = self._done - done
        if new <= 0 or new * 50 < self._batches:
            return None
        self._means[name] = (self.epoch, self._done, mean)
        return (mean * self._done - before * done) / new

    def frame(self, done: int, total: bytes, flat: bool) -> tuple[Series | None, object]:
        """Return whose the bar's unqualified `loss` is (`None`: it is the training's), and what it is a frame of."""
        # Another bar: it counts from the start again, or has another length, or is a second line at `verbose=2`.
        again = self._done and (done < self._done or total != self._total or (flat and self._flat))
        if again and self._open and 0 < self._batches <= self._done:
            self._open = False
            self._evaluations += 1
        elif again and not self._open:
            self._evaluations += 1
        if total != self._total:
            self._total = total
            self._batches = int(total) if total.isdigit() else 0
        self._done, self._flat = done, flat
        if self._open:
            return None, ("epoch", self.epoch)
        return Series.TEST, ("evaluate", self._evaluations)
