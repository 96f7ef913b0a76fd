"""A loss curve in one line of a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

_BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """Return the values as at most `width` blocks, each the mean of its part; `×` stands for NaN and infinity."""
    if not values or width < 1:
        return ""
    count = min(width, len(values))
    means: list[float | None] = []
    for at in range(count):
        part = values[at * len(values) // count : (at + 1) * len(values) // count]
        finite = [value for value in part if math.isfinite(value)]
        means.append(sum(value / len(finite) for value in finite) if finite else None)
    known = [mean for mean in means if mean is not None]
    if not known:
        return "×" * count
    low, high = min(known), max(known)
    span = high / 2 - low / 2  # halves: the difference of two large numbers may overflow
    return "".join(
        "×" if mean is None else _BLOCKS[round((mean / 2 - low / 2) / span * (len(_BLOCKS) - 1)) if span > 0 else 0]
        for mean in means
    )
