"""A loss curve in one line of text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pytest_dockerlab.report.schema import Results

_BARS = "▁▂▃▄▅▆▇█"
BROKEN = "×"  # NaN or infinite


def train_losses(results: Results) -> list[float]:
    """Return the values of the training loss that the facts hold, NaN and infinities among them."""
    fact = results["facts"].get("loss", {})
    points = fact.get("points", ())
    found: list[float] = []
    for point in points if isinstance(points, list) else ():
        if isinstance(point, dict) and point.get("series", "train") == "train":
            value = _number(point.get("value"))
            if value is not None:
                found.append(value)
    return found


def _number(value: Any) -> float | None:
    """Read a number as facts write it: JSON has no NaN and no infinity, so these are strings."""
    if isinstance(value, str) and value in ("NaN", "Infinity", "-Infinity"):
        return float(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value) if abs(value) < 1.7e308 else math.inf  # JSON's integers have no end, floats have
    return None


def sparkline(values: Sequence[float], width: int = 60) -> str:
    """Return at most `width` bars. A bar is the mean of its stretch; a stretch with a broken value is `×`."""
    count = min(width, len(values))
    stretches = [values[len(values) * k // count : len(values) * (k + 1) // count] for k in range(count)]
    # Halved and divided before they are added: a log may claim 1e308, and the difference of two such overflows.
    means = [sum(value / len(part) / 2 for value in part) for part in stretches]
    finite = [mean for mean in means if math.isfinite(mean)]
    low, span = (min(finite), max(finite) - min(finite)) if finite else (0.0, 0.0)
    return "".join(_bar(mean - low, span) if math.isfinite(mean) else BROKEN for mean in means)


def _bar(height: float, span: float) -> str:
    return _BARS[round(height / span * (len(_BARS) - 1))] if span > 0 else _BARS[0]


def number(value: float) -> str:
    """Return a loss as a person reads it."""
    return f"{value:.4g}"
