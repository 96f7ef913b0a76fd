"""Whether a container's processes really used the GPU that they were given, sampled while they run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pytest_dockerlab.gpu.inventory import Gpu, Inventory

# Between two looks that are further apart nobody knows what happened: no more than this is counted.
MAX_GAP_S = 30.0


@dataclass(frozen=True)
class GpuUse:
    """What was seen. Seconds are those with memory on the GPU: also of a process that only holds a context."""

    seconds: float | None  # None: nobody could tell
    peak_bytes: int | None
    used: bool | None
    samples: int


class GpuWatch:
    """Adds up what a container's processes do on the GPUs of one lease."""

    def __init__(self, inventory: Inventory, gpus: Sequence[Gpu], clock: Callable[[], float] = time.monotonic) -> None:
        """Take the GPUs to look at, and who to ask."""
        self._inventory = inventory
        self._gpus = tuple(gpus)
        self._clock = clock
        self._last: float | None = None
        self._seconds = 0.0
        self._peak: int | None = None
        self._used = False
        self._samples = 0  # those in which somebody could tell

    def sample(self, pids: Iterable[int]) -> bool | None:
        """Look once: whether these processes (ids of the host) are on the GPU now; `None` if nobody can tell.

        The time since the look before counts as used if they are there at this one.
        """
        now = self._clock()
        since, self._last = (0.0 if self._last is None else now - self._last), now
        wanted = set(pids)
        answers = [self._inventory.users(gpu) for gpu in self._gpus]
        known = [users for users in answers if users is not None]
        if not known:
            return None
        self._samples += 1
        ours = [size for users in known for pid, size in users.items() if pid in wanted]
        if not ours:
            return False
        self._used = True
        self._seconds += min(since, MAX_GAP_S)
        sizes = [size for size in ours if size is not None]
        if sizes:
            self._peak = max(self._peak or 0, sum(sizes))
        return True

    def result(self) -> GpuUse:
        """Return what was seen so far; can be asked at any time, so that a timeout keeps it."""
        if not self._samples:
            return GpuUse(None, None, None, 0)
        return GpuUse(round(self._seconds, 3), self._peak if self._used else 0, self._used, self._samples)
