"""The numbers behind a loss verdict: levels, their relative change, and how surely a series falls.

Two tests look for a fall, for each is blind where the other sees:

- **Mann–Kendall** (Kendall's tau of the values against time): ranks only, so no outlier moves it. It finds slow falls
  and misses a model that learns within its first points and then stays: at 15 points the ranks of such a curve say
  almost nothing, since "the largest value came first" happens by chance once in 15.
- **Falling shapes**: the best correlation of log(value + median) with a family of falling curves (a step after any
  point, a quick exponential, 1/i, log i, a line, a parabola). It uses *how far* the first points lie above the later
  ones, so it finds those fast learners, and late ones too, from five points on. (The plain logarithm would make the
  small losses of a trained model, 0.005 and 0.5 in two small batches, the noisiest of all.) Its price is an
  assumption, that the noise of these values is about normal; the level rule beside it and the rates in
  `bench/loss_verdict.py` cover that. How large the best correlation gets by chance is simulated once for each number
  of points up to 40, with a fixed seed: the shapes resemble each other, and a Bonferroni correction would throw away
  most of the power just where points are few.

The p-value is twice the smaller of the two (Bonferroni).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SMALL = 5  # below this number of points no test can reach a useful level
_SIMULATED = 40  # up to this number chance is simulated
_CACHED = 48
_FAR = 5.0  # robust standard deviations


def head_size(points: int) -> int:
    """How many first points make the first level: few where there are few, for fast learners are done by then."""
    return 1 if points < 10 else 2 if points < 20 else 3 if points < 60 else 5


def tail_size(points: int) -> int:
    """How many last points make the last level."""
    return 1 if points < SMALL else 2 if points < 8 else max(3, points // 10)


def relative_change(first: float, last: float, positive: bool) -> float:
    """Return the fall from `first` to `last` as a share: 0.3 is 30 % down, negative is up.

    A loss that is never negative is measured against where it began. One that can be negative (a log-likelihood, an
    ELBO) has no natural zero: there the larger of the two levels is the measure, so that a fall from 0.1 to -50 is
    1.0 and one from -10 to -15 is 0.33.
    """
    scale = abs(first) if positive and first > 0 else max(abs(first), abs(last))
    if scale == 0:
        return 0.0
    change = first / scale - last / scale
    return max(change, -1e9) if math.isfinite(change) else -1e9


def falling_p(values: Sequence[float]) -> float:
    """Return the probability that values without any trend look at least as falling as these."""
    points = len(values)
    if min(values) == max(values):
        return 1.0
    if points < SMALL:
        falls = all(later < earlier for earlier, later in itertools.pairwise(values))
        return 1 / math.factorial(points) if falls else 1.0
    shapes = _shapes_p(values)
    return min(1.0, 2 * min(_mann_kendall(values), shapes))


def _mann_kendall(values: Sequence[float]) -> float:
    from scipy import stats

    p_value = float(stats.kendalltau(range(len(values)), values, alternative="less").pvalue)
    return p_value if math.isfinite(p_value) else 1.0


def _shapes_p(values: Sequence[float]) -> float:
    import numpy as np
    from scipy import stats

    points = len(values)
    series = np.asarray(values, dtype=float)
    if series.min() >= 0 and (middle := float(np.median(series))) > 0:
        series = np.log(series / middle + 1)
    else:
        series = series / np.abs(series).max()
    series = series - series.mean()
    norm = float(np.linalg.norm(series))
    if not norm > 0:
        return 1.0
    shapes = _shapes(points)
    best = min(1.0, float((shapes @ series).max()) / norm)
    if points <= _SIMULATED:
        chance = _best_by_chance(points)
        return float(1 + len(chance) - np.searchsorted(chance, best - 1e-12)) / (1 + len(chance))
    if best <= 0:
        return 1.0
    statistic = best * math.sqrt((points - 2) / max(1e-15, 1 - best * best))
    return min(1.0, len(shapes) * float(stats.t.sf(statistic, points - 2)))


@lru_cache(maxsize=64)
def _shapes(points: int) -> NDArray[np.float64]:
    """Return falling curves of that many points, each with mean 0 and length 1."""
    import numpy as np

    at = np.arange(points, dtype=float)
    if points <= _SIMULATED:
        steps = list(range(1, points))
    else:
        steps = sorted({1, 2, 4, 8, points // 16, points // 8, points // 4, points // 2, points * 3 // 4})
    curves = [(at < step).astype(float) for step in steps]
    curves += [(at < step) + 0.5 * (at == step) for step in steps if step < points - 1]  # with one point on the way
    curves += [1 / (1 + at), np.exp(-at / max(1.0, points / 10)), -np.log1p(at), -at, -(at**2)]
    shapes = np.stack(curves)
    shapes -= shapes.mean(axis=1, keepdims=True)
    shapes /= np.linalg.norm(shapes, axis=1, keepdims=True)
    return shapes


@lru_cache(maxsize=_CACHED)
def _best_by_chance(points: int) -> NDArray[np.float64]:
    """Return, in order, the best correlations that normal noise without any trend reached."""
    import numpy as np

    noise = np.random.default_rng(20_000 + points).normal(size=(20_000, points))
    noise -= noise.mean(axis=1, keepdims=True)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    best: NDArray[np.float64] = np.sort((noise @ _shapes(points).T).max(axis=1))
    return best


def rising_p(values: Sequence[float]) -> float:
    """Return the same for a rise: the fall of the inverse, whose logarithm is the negative."""
    return falling_p([1 / value for value in values] if min(values) > 1e-300 else [-value for value in values])


def stands_out(values: Sequence[float]) -> bool:
    """Say whether the first point lies far above the noise of the second half: a model that learnt within one step."""
    if min(values) <= 0 or not 10 <= len(values) < 200:
        return False
    unit = median(values)
    half = [math.log1p(value / unit) for value in values[len(values) // 2 :]]
    middle = median(half)
    spread = 1.4826 * median(abs(value - middle) for value in half)
    return math.log1p(values[0] / unit) - middle > _FAR * max(spread, 0.01)


def lowest_stretch(values: Sequence[float]) -> tuple[float, int]:
    """Return the lowest median of neighbouring points, and where that stretch ends."""
    width = max(1, min(3, len(values) // 4)) if len(values) < 40 else len(values) // 12
    best, end = math.inf, width
    for stop in range(width, len(values) + 1):
        level = median(values[stop - width : stop])
        if level < best:
            best, end = level, stop
    return best, end
