"""The verdict over a loss curve: did the loss fall, and if not, what happened instead.

Two things must agree: the level (median of the last points against the median of the first) fell by at least
`min_relative_drop`, and a test says that chance would not do that (`pytest_dockerlab.train.evidence`). "Last < first"
alone passes half of all runs that learn nothing.

Why the defaults are what they are (`python bench/loss_verdict.py --each 100 --seed 12` reproduces the rates):

- `min_points = 5`: five epochs are a common run, and below five points no test can reach a useful p-value. An
  assignment may set less; then every step has to go down, and by half in all.
- `min_relative_drop = 0.3`: the level of real runs with a learning rate of 0 or with shuffled labels moved by at most 4
  and 7 %; real classifiers that reached 60 % on unseen digits fell by 32 % and more, with one exception in 294 (11 %).
- `alpha = 0.04`: false passes and false fails are about as frequent there. 0.03 and 0.05 differ by a few in a thousand.
- the last level is the last tenth of the points and not the last fifth, since slow learners still fall there.

Measured: of 7,800 simulated curves that learn 0.42 % fail (at most 0.57 % with 95 % confidence), of 15,600 that do not
0.54 % pass (at most 0.65 %), from 5 to 938 points. Of 294 real trainings that learnt 2 fail (0.7 %, at most 2.1 %), of
220 that did not none passes (at most 1.4 %). The rules were made with 344 of these 514 in view; the other 170 alone say
2 in 96 and 0 in 74, and `alpha` was raised from 0.03 (3 in 96) after seeing them. The worst population are
flat runs with noise of 30 to 60 %, of which 2.5 % pass; the batches of real runs with a learning rate of 0 differ by
1 to 5 %. Both real false fails are honest: a network that had only just begun to learn, and nine single batches of 8.

A loss may be negative (a log-likelihood, an ELBO): then the fall is measured against the larger of the two levels. For
one that starts near zero a relative fall means little; such an assignment sets `min_relative_drop` low.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum
from statistics import median
from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from pytest_dockerlab.facts import FACT, LossCurve, LossPoint, Series
from pytest_dockerlab.train.evidence import (
    SMALL,
    falling_p,
    head_size,
    lowest_stretch,
    relative_change,
    rising_p,
    stands_out,
    tail_size,
)

LN10 = math.log(10)
_RISE = 0.1  # a rise by less than this is called flat
_SHOT_UP = 5.0  # how many times its first value a loss must reach to be called unstable
_NEAR_CHANCE = 0.03  # how near a level must be to the loss of guessing to be called that
_AROUND = 0.1
_MOSTLY = 0.75  # the share of all points that lie so near, or all but two where there are few
_CHANCE_CHANGE = 0.01  # how little the level of guesses changes from its third quarter to its last
_CHANCE_SPREAD = 0.05  # how much the losses of guesses differ at most


class VerdictKind(str, Enum):
    """What the loss did. These words are public: `dockerlab loss --json` prints them."""

    DECREASED = "decreased"
    FLAT = "flat"
    ROSE = "rose"
    NAN = "nan"
    DIVERGED = "diverged"
    TOO_FEW = "too_few"
    NONE = "none"


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class LossRules:
    """What an assignment asks of a loss curve."""

    min_points: Annotated[int, Field(ge=2, le=100_000)] = 5
    min_relative_drop: Annotated[float, Field(gt=0, lt=1)] = 0.3
    alpha: Annotated[float, Field(gt=0, le=0.5)] = 0.04
    series: Series = Series.TRAIN
    # The loss of guessing, for a classifier of ten classes; a curve that ends there learnt nothing, however high it
    # began. `None` where the task has no such level.
    chance_level: Annotated[float, Field(gt=0)] | None = LN10
    # A level that the loss has to end below, where the task has one (for ten classes a loss above ln 10 is worse than
    # guessing, whatever it began with).
    end_below: float | None = None


DEFAULT_RULES = LossRules()


@dataclass(frozen=True, config=FACT)
class Verdict:
    """What the loss did, with the numbers that say so. `first` and `last` are levels, not single points."""

    kind: VerdictKind
    sentence: str
    detail: str  # a finer code: "small_drop", "lr_zero_like", "ln10_noise", "only_validation", …
    points: int = 0
    first: float | None = None
    last: float | None = None
    relative_drop: float | None = None
    p_value: float | None = None
    first_points: int = 0  # how many points made the first level
    last_points: int = 0

    @property
    def ok(self) -> bool:
        """Whether the loss decreased."""
        return self.kind is VerdictKind.DECREASED


def judge(curve: LossCurve, rules: LossRules = DEFAULT_RULES) -> Verdict:
    """Return the verdict over one series of a curve."""
    points = [point for point in curve.points if point.series is rules.series]
    if not points:
        return _nothing(curve, rules)
    broken = _not_finite(points)
    if broken is not None:
        return broken
    finite = [point.value for point in points if math.isfinite(point.value)]
    lost = len(points) - len(finite)
    if len(finite) < rules.min_points:
        return Verdict(
            VerdictKind.TOO_FEW,
            f"The {_name(rules.series)} was printed {_times(len(finite))}, and {rules.min_points} readings are the"
            " least that tell a trend from chance: print the loss more often, for example every 10 batches.",
            "printed_once" if len(finite) == 1 else "too_few",
            points=len(finite),
        )
    return _trend(finite, lost, rules, max(curve.told(rules.series), len(points)))


def _nothing(curve: LossCurve, rules: LossRules) -> Verdict:
    others = [series for series in Series if series is not rules.series and curve.values(series)]
    wanted = _name(rules.series)
    if others:
        names = " and ".join(_name(series) for series in others)
        return Verdict(
            VerdictKind.NONE,
            f"No {wanted} was found, only the {names} ({_times(len(curve.values(others[0])))}):"
            f" print the {wanted} too.",
            f"only_{others[0].value}",
        )
    near = f" The nearest line was: {curve.near_misses[0]!r}." if curve.near_misses else ""
    return Verdict(
        VerdictKind.NONE,
        f"No {wanted} was found in the log.{near} Print it with a name and a number, for example `loss: 0.1234`.",
        "no_loss",
    )


def _not_finite(points: Sequence[LossPoint]) -> Verdict | None:
    """Return a verdict where NaN or infinity is how the run went; isolated ones before the end only warn."""
    bad = [at for at, point in enumerate(points) if not math.isfinite(point.value)]
    if not bad:
        return None
    last_fifth = len(points) - max(1, len(points) // 5)
    if bad[-1] < last_fifth and len(bad) * 5 <= len(points):
        return None
    first = points[bad[0]]
    what = "NaN" if math.isnan(first.value) else "infinite"
    before = next((point.value for point in reversed(points[: bad[0]])), None)
    was = f"; the reading before was {_number(before)}" if before is not None else ""
    return Verdict(
        VerdictKind.NAN,
        f"The loss became {what} at reading {bad[0] + 1} of {len(points)}{_when(first)}{was}: a learning rate that is"
        " too high, a logarithm of 0 or a division by 0 are the usual causes.",
        "nan" if math.isnan(first.value) else "inf",
        points=len(points),
        first=points[0].value if math.isfinite(points[0].value) else None,
    )


def _trend(values: Sequence[float], lost: int, rules: LossRules, told: int) -> Verdict:
    count = len(values)
    positive = min(values) >= 0
    heads, tails = head_size(count), tail_size(count)
    p_value = falling_p(values)
    first, last = median(values[:heads]), median(values[-tails:])
    if values[0] > first and stands_out(values):
        heads, first = 1, values[0]  # a fast learner: its first points are low but for the very first
    elif positive and values[0] > 0 and (first > 2 * values[0] or (_shot_up(values, 3.0) and first > values[0])):
        heads, first = 1, values[0]  # it shot up at once: coming down from there is no learning
    drop = relative_change(first, last, positive)

    def verdict(kind: VerdictKind, detail: str, sentence: str) -> Verdict:
        ignored = f" {lost} NaN or infinite readings before the end were left out." if lost else ""
        return Verdict(kind, sentence + ignored, detail, count, first, last, drop, p_value, heads, tails)

    levels = f"from {_number(first)} to {_number(last)}"
    over = f"over {count} readings" if told == count + lost else f"over {count} of {told} readings"
    blown = _blew_up(values, first, last, positive, rules)
    if blown is not None:
        low, end = blown
        return verdict(
            VerdictKind.DIVERGED,
            "blew_up",
            f"The loss fell from {_number(first)} to {_number(low)} and then blew up to {_number(end)} ({over}): try a"
            " smaller learning rate, or clip the gradients.",
        )
    if rules.chance_level is not None and _at_chance(values, last, rules.chance_level, rules.alpha):
        return verdict(
            VerdictKind.FLAT,
            "ln10_noise" if rules.chance_level == LN10 else "chance_level",
            f"The loss stays around {_number(rules.chance_level)}"
            f"{' = ln 10' if rules.chance_level == LN10 else ''}, the loss of guessing ({levels}, {over}): nothing was"
            " learnt. Are images and labels still in step, and is the learning rate above 0?",
        )
    if rules.chance_level is not None and _exploded_first(values, rules.chance_level, rules):
        return verdict(
            VerdictKind.DIVERGED,
            "exploded_first",
            f"After a first reading of {_number(values[0])} the loss stays at {_number(median(values[1:]))} ({over}),"
            f" which is worse than guessing ({_number(rules.chance_level)}): it blew up at the beginning; try a much"
            " smaller learning rate.",
        )
    if rules.end_below is not None and last >= rules.end_below and drop >= rules.min_relative_drop:
        return verdict(
            VerdictKind.FLAT,
            "ends_too_high",
            f"The loss fell {levels}, {over}, and has to end below {_number(rules.end_below)}: train longer, or with"
            " another learning rate.",
        )
    if drop >= rules.min_relative_drop and _falls(values, drop, rules):
        return verdict(
            VerdictKind.DECREASED,
            "decreased",
            f"The loss fell by {_percent(drop)}, {levels}, {over} ({_p(p_value)}).",
        )
    if positive and drop < rules.min_relative_drop and _shot_up(values) and falling_p(values[1:]) <= rules.alpha:
        return verdict(
            VerdictKind.DIVERGED,
            "shot_up",
            f"The loss shot up from {_number(values[0])} to {_number(max(values))} and came back to {_number(last)}"
            f" only ({over}): try a much smaller learning rate.",
        )
    rise_p = rising_p(values)
    if -drop >= _RISE and rise_p <= rules.alpha:
        return verdict(
            VerdictKind.ROSE,
            "rose",
            f"The loss rose {levels}, {over} ({_p(rise_p)}): is the sign of the loss right, and the learning rate"
            " not too high?",
        )
    return verdict(VerdictKind.FLAT, *_flat(values, drop, p_value, levels, over, rules))


def _flat(
    values: Sequence[float], drop: float, p_value: float, levels: str, over: str, rules: LossRules
) -> tuple[str, str]:
    needs = _percent(rules.min_relative_drop)
    if max(values) == min(values):
        return (
            "constant",
            f"The loss is {_number(values[0])} in all of {len(values)} readings: nothing changes the model. Is"
            " `optimizer.step()` called, and the learning rate above 0?",
        )
    if p_value <= rules.alpha and drop > 0:
        return (
            "small_drop",
            f"The loss fell by only {_percent(drop)}, {levels}, {over}; {needs} are asked for: train longer, or with a"
            " larger learning rate.",
        )
    if abs(drop) < 0.05:
        return (
            "lr_zero_like",
            f"The loss did not change, {levels}, {over} ({_p(p_value)}), as with a learning rate of 0: is"
            " `optimizer.step()` called, and are the model's parameters in the optimizer?",
        )
    return (
        "noise",
        f"The loss goes up and down without a trend, {levels}, {over} ({_p(p_value)}; {rules.alpha:g} or less is"
        f" asked for, and a fall of {needs}).",
    )


def _blew_up(
    values: Sequence[float], first: float, last: float, positive: bool, rules: LossRules
) -> tuple[float, float] | None:
    """Return the low level and the level after it where the loss fell first and then gave up half of that or more."""
    if len(values) < 6:
        return None
    low, end = lowest_stretch(values)
    after = values[end:]
    if len(after) < 2 or relative_change(first, low, positive) < max(0.5, rules.min_relative_drop):
        return None
    # The fall has to be real; that the loss went up again is then told by the levels. The very last points count
    # alone where they are above the beginning: that is too late for the last level to show it.
    now = median(values[-3:])
    at_the_end = now > 2 * first > 0
    if not at_the_end and last - low < 0.5 * (first - low):
        return None
    if not _falls(values[:end], relative_change(first, low, positive), rules):
        return None
    return low, now if at_the_end else last


def _falls(values: Sequence[float], drop: float, rules: LossRules) -> bool:
    """Say whether a test finds a fall; below five points none can, and every step has to go down, by half in all."""
    p_value = falling_p(values)
    return p_value <= rules.alpha or (len(values) < SMALL and p_value < 1 and drop >= 0.5)


def _shot_up(values: Sequence[float], times: float = _SHOT_UP) -> bool:
    """Say whether the loss rose to many times its first value early on, and came back in part at least."""
    peak = max(values)
    at = values.index(peak)
    return peak > times * values[0] > 0 and at < len(values) // 2 and median(values[at + 1 :]) < 0.5 * peak


def _exploded_first(values: Sequence[float], chance: float, rules: LossRules) -> bool:
    """Say whether only the first reading is high, and the others stay at a level that is worse than guessing.

    So do the epoch means of a run that blew up within its first epoch: 38.1, 5.7, 6.0, 5.8, 5.7. A task whose loss is
    not that of a classifier can look the same with a good model, and sets `chance_level` to `None`.
    """
    rest = values[1:]
    level = median(rest)
    if level <= (1 + _NEAR_CHANCE) * chance or values[0] < _SHOT_UP * level:
        return False
    half = len(rest) // 2
    change = relative_change(median(rest[:half]), median(rest[half:]), positive=True)
    return change < rules.min_relative_drop


def _at_chance(values: Sequence[float], last: float, level: float, alpha: float) -> bool:
    """Say whether a curve, but for its beginning, only wavers around the loss of guessing.

    A model that guesses wavers little: it gives every class about the same probability, so that no batch is much worse
    than another. A loss that comes down through the same level, or happens to end there, wavers more.
    """
    if sum(abs(value / level - 1) < _AROUND for value in values) < min(_MOSTLY * len(values), len(values) - 2):
        return False
    half = values[len(values) // 2 :]
    middle = median(half)
    if abs(last / level - 1) > _NEAR_CHANCE or abs(middle / level - 1) > _NEAR_CHANCE:
        return False
    if 1.4826 * median(abs(value - middle) for value in half) > _CHANCE_SPREAD * level:
        return False
    quarter = max(1, len(half) // 2)
    change = relative_change(median(half[:quarter]), median(half[-quarter:]), positive=True)
    return len(half) < SMALL or change < _CHANCE_CHANGE or falling_p(half) > alpha


def _name(series: Series) -> str:
    return {Series.TRAIN: "training loss", Series.VALIDATION: "validation loss", Series.TEST: "test loss"}[series]


def _times(count: int) -> str:
    return "once" if count == 1 else "twice" if count == 2 else f"{count} times"


def _when(point: LossPoint) -> str:
    places = []
    if point.epoch is not None:
        places.append(f"epoch {point.epoch:g}")
    if point.step is not None:
        places.append(f"step {point.step}")
    if point.at_s is not None:
        places.append(f"{point.at_s:.0f} s after the start")
    return f" ({', '.join(places)})" if places else ""


def _number(value: float) -> str:
    return f"{value:.4g}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if abs(share) >= 0.1 else f"{100 * share:.1f} %"


def _p(value: float) -> str:
    return "p < 0.0001" if value < 1e-4 else f"p = {value:.2g}"
