"""One series of readings in bounded memory: the first and the last ones whole, the middle thinned evenly."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

from pytest_dockerlab.facts import MAX_POINTS, LossPoint, Series

EDGE = 64  # readings kept whole at either end
_BODY = MAX_POINTS - 2 * EDGE
_MAX_CONSTANT = 64


class Reading(NamedTuple):
    """One value as it was read; `seq` orders the readings of all series."""

    seq: int
    value: float
    step: int | None
    epoch: float | None
    at_s: float | None

    def point(self, series: Series) -> LossPoint:
        """Return the fact."""
        return LossPoint(self.value, series, self.step, self.epoch, self.at_s)


class Store:
    """At most `MAX_POINTS` readings of one series, however many come."""

    __slots__ = ("_body", "_frame", "_head", "_passed", "_stride", "_tail", "total")

    def __init__(self) -> None:
        """Start empty."""
        self._head: list[Reading] = []
        self._body: list[Reading] = []
        self._tail: deque[Reading] = deque()
        self._stride = 1
        self._passed = 0  # readings that left the tail for the body
        self.total = 0
        self._frame: object = None  # what the last reading kept was a frame of, where it came from a progress bar

    def append(self, reading: Reading) -> None:
        """Add the newest reading."""
        self.total += 1
        if len(self._head) < EDGE:
            self._head.append(reading)
            return
        tail = self._tail
        tail.append(reading)
        if len(tail) > EDGE:
            oldest = tail.popleft()
            if self._passed % self._stride == 0:
                body = self._body
                body.append(oldest)
                if len(body) > _BODY:
                    del body[1::2]
                    self._stride *= 2
            self._passed += 1

    def replace_last(self, reading: Reading) -> None:
        """Put a newer frame in the place of the last reading."""
        if self._tail:
            self._tail[-1] = reading
        elif self._head:
            self._head[-1] = reading
        else:
            self.append(reading)

    def append_frame(self, reading: Reading, frame: object) -> None:
        """Add what a progress bar shows at `frame`: a newer drawing of one frame replaces it, a stale value is no news.

        A bar whose value never changes is the exception: it is a constant loss, and some of its frames are kept.
        """
        last = self._tail[-1] if self._tail else self._head[-1] if self._head else None
        if last is not None and last.value == reading.value:
            if frame == self._frame or not self._constant() or self.total >= _MAX_CONSTANT:
                return  # `self._frame` stays: the next drawing of this frame may bring the new value
        elif last is not None and self.total > 1 and self._constant():
            del self._head[1:]  # not a constant loss after all, only a value shown for a while
            self.total = 1
        elif last is not None and frame == self._frame:
            self.replace_last(reading)
            return
        self.append(reading)
        self._frame = frame

    def _constant(self) -> bool:
        return self.total == len(self._head) and all(item.value == self._head[0].value for item in self._head)

    def __iter__(self) -> Iterator[Reading]:
        """Yield what was kept, in order."""
        yield from self._head
        yield from self._body
        yield from self._tail


Item = TypeVar("Item")


def thin(items: Sequence[Item], most: int) -> list[Item]:
    """Return at most `most` of the items, evenly, with the ends whole."""
    if len(items) <= most:
        return list(items)
    if most < 4:
        return list(items[len(items) - max(most, 0) :])
    edge = min(EDGE, most // 4)
    middle = items[edge : len(items) - edge]
    want = most - 2 * edge
    kept = [middle[index * len(middle) // want] for index in range(want)]
    return [*items[:edge], *kept, *items[len(items) - edge :]]
