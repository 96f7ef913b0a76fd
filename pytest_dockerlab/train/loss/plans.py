"""How lines of one kind are read, worked out once for each kind.

The lines that a print statement makes differ in their digits alone. So what was learnt from one of them, the place of
the loss, of the epoch and of the step, holds for the next one with the same text between equally long numbers. It is
exact, for no expression here asks for a certain digit, and five times as fast as searching every line.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pytest_dockerlab.train.loss.bars import KerasFrame, keras_frame, tqdm_frame
from pytest_dockerlab.train.loss.choice import Key
from pytest_dockerlab.train.loss.text import Position, TextReader, position

_DIGITS = bytes.maketrans(b"123456789", b"0" * 9)
_MAX_LINE = 512  # longer lines are read without a plan
_MAX_PLANS = 8192

_EXAMPLE = re.compile(rb"Train Epoch: \d{1,7} \[\d{1,12}/\d{1,12} \(\d{1,3}(?:\.\d{1,3})?%\)\]\s{1,8}Loss: \S")

# acc in any case, 准确率 and 正确率, 精度
ACCURACY_WORDS = (b"acc", b"Acc", b"ACC", b"\xe7\xa1\xae\xe7\x8e\x87", b"\xe7\xb2\xbe\xe5\xba\xa6")


class Plan(NamedTuple):
    """Where the numbers are."""

    epoch: slice | None
    step: slice | None
    losses: tuple[tuple[Key, slice], ...]
    accuracy: bool  # whether an accuracy seems to be named
    frame: slice | None = None  # the count of a progress bar, which tells one drawing of it from the next
    keras: KerasFrame | None = None


class Plans:
    """The plans of the lines met so far."""

    def __init__(self) -> None:
        """Start with none."""
        self.text = TextReader()
        self._plans: dict[bytes, Plan] = {}

    def get(self, line: bytes) -> Plan | None:
        """Return the plan for a line of a kind met before."""
        return self._plans.get(line.translate(_DIGITS)) if len(line) <= _MAX_LINE else None

    def make(self, line: bytes) -> Plan:
        """Work out how to read a line that holds no terminal codes."""
        keras = keras_frame(line)
        bar = tqdm_frame(line) if keras is None and b"it" in line and b"[" in line else None
        text = bar.text if bar else line
        hits = tuple(self.text.hits(text))
        where = Position(None, None) if keras else position(text)
        if keras:
            # The bars grow and shrink: there the name alone tells the series.
            losses = tuple((Key("keras", hit.meaning, b""), slice(*hit.span)) for hit in hits)
        elif bar:
            kind = "lightning" if bar.lightning else "tqdm"
            losses = tuple((Key(kind, hit.meaning, hit.shape), bar.place(hit.span)) for hit in hits)
        else:
            kind = _format(line)
            losses = tuple((Key(kind, hit.meaning, hit.shape), slice(*hit.span)) for hit in hits)
        place = bar.place if bar else _here
        plan = Plan(
            epoch=place(where.epoch) if where.epoch else None,
            step=place(where.step) if where.step and not bar else None,
            losses=losses,
            accuracy=mentions_accuracy(line),
            frame=slice(*bar.at) if bar else None,
            keras=keras,
        )
        # `loss1: 0.5` and `loss2: 0.7` are two series in lines of one kind: those are read afresh each time.
        told_by_digit = any(char.isdigit() for hit in hits for char in hit.meaning.name)
        if len(line) <= _MAX_LINE and not told_by_digit:
            if len(self._plans) >= _MAX_PLANS:
                self._plans.clear()
            self._plans[line.translate(_DIGITS)] = plan
        return plan


def _here(span: tuple[int, int]) -> slice:
    return slice(*span)


def mentions_accuracy(line: bytes) -> bool:
    """Say whether the line seems to speak of an accuracy."""
    return any(word in line for word in ACCURACY_WORDS)


def _format(line: bytes) -> str:
    if _EXAMPLE.search(line):
        return "pytorch-example"
    if b"{'" in line:
        return "hf-trainer" if b"'epoch'" in line else "dict"
    return "json-lines" if line.lstrip()[:1] == b"{" else "key-value"
