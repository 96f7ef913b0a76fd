"""One clock for every wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Deadline:
    """A moment on the monotonic clock. Every wait in this package takes one; none has a number of its own."""

    at: float
    budget_s: float
    clock: Callable[[], float] = field(default=time.monotonic, repr=False, compare=False)

    @classmethod
    def after(cls, seconds: float, clock: Callable[[], float] = time.monotonic) -> Deadline:
        """Return the deadline `seconds` from now."""
        return cls(clock() + seconds, seconds, clock)

    def sooner(self, seconds: float) -> Deadline:
        """Return a deadline at most `seconds` from now, and never later than this one."""
        return Deadline(min(self.at, self.clock() + seconds), seconds, self.clock)

    @property
    def remaining_s(self) -> float:
        """Seconds left, at least 0."""
        return max(0.0, self.at - self.clock())

    @property
    def passed(self) -> bool:
        """Whether the moment is over."""
        return self.clock() >= self.at

    def poll(self, interval_s: float) -> Iterator[None]:
        """Yield now, then every `interval_s`, until the deadline; the last turn is never skipped."""
        while True:
            yield
            if self.passed:
                return
            time.sleep(min(interval_s, self.remaining_s))
