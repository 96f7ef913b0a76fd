"""The verdict: every kind, the numbers in its sentence, and what must not fool it."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pytest_dockerlab.facts import LossCurve, LossPoint, Series, from_json, to_json
from pytest_dockerlab.train.trend import LN10, LossRules, Verdict, VerdictKind, judge


def curve(values, series=Series.TRAIN, **more) -> LossCurve:
    return LossCurve(tuple(LossPoint(float(value), series, step=at) for at, value in enumerate(values)), **more)


def noisy(level, count, sigma=0.05, seed=0):
    rng = random.Random(seed)
    return [level(at) * math.exp(rng.gauss(0, sigma)) for at in range(count)]


def decay(at, scale=10.0):
    return 0.2 + 2.1 * math.exp(-at / scale)


def test_decreased_with_its_numbers():
    verdict = judge(curve(noisy(decay, 94)))
    assert verdict.ok
    assert verdict.kind is VerdictKind.DECREASED
    assert verdict.first > 1.5
    assert verdict.last == pytest.approx(0.2, rel=0.1)
    assert verdict.relative_drop == pytest.approx(1 - verdict.last / verdict.first)
    assert f"{verdict.last:.4g}" in verdict.sentence
    assert "94 readings" in verdict.sentence


@pytest.mark.parametrize("count", [6, 8, 10, 15, 19])
@pytest.mark.parametrize("seed", range(5))
def test_a_fast_learner_with_few_points_is_seen(count, seed):
    verdict = judge(curve(noisy(lambda at: 2.3 if at == 0 else 0.25, count, 0.1, seed)))
    assert verdict.kind is VerdictKind.DECREASED


def test_five_epochs_are_enough():
    assert judge(curve([1.801, 0.963, 0.6197, 0.4748, 0.3938])).ok


@pytest.mark.parametrize("sigma", [0.01, 0.1, 0.3])
def test_flat(sigma):
    verdict = judge(curve(noisy(lambda at: 3.1, 60, sigma)))
    assert verdict.kind is VerdictKind.FLAT


def test_last_below_first_is_not_enough():
    assert judge(curve([2.3106, 2.31, 2.305, 2.309, 2.301, 2.304, 2.2948])).kind is VerdictKind.FLAT


def test_constant():
    verdict = judge(curve([2.5] * 30))
    assert (verdict.kind, verdict.detail) == (VerdictKind.FLAT, "constant")


def test_zero_all_along_is_flat():
    assert judge(curve([0.0] * 30)).kind is VerdictKind.FLAT


def test_learning_rate_zero_like():
    verdict = judge(curve(noisy(lambda at: 2.8, 60, 0.02)))
    assert verdict.detail == "lr_zero_like"
    assert "learning rate of 0" in verdict.sentence


def test_a_small_fall_says_how_much_is_asked_for():
    verdict = judge(curve(noisy(lambda at: 4 - at / 100, 60, 0.01)))
    assert (verdict.kind, verdict.detail) == (VerdictKind.FLAT, "small_drop")
    assert "30 %" in verdict.sentence
    assert judge(curve(noisy(lambda at: 4 - at / 100, 60, 0.01)), LossRules(min_relative_drop=0.1)).ok


def test_noise_around_ln_10_even_after_a_bad_start():
    values = [5.0, 3.1, 2.5, *noisy(lambda at: LN10, 60, 0.01)]
    verdict = judge(curve(values))
    assert (verdict.kind, verdict.detail) == (VerdictKind.FLAT, "ln10_noise")
    assert "ln 10" in verdict.sentence
    assert judge(curve(values), LossRules(chance_level=None)).detail != "ln10_noise"


def test_coming_down_through_ln_10_is_learning():
    assert judge(curve([6.9 * 0.97**at for at in range(38)])).ok


def test_rose():
    verdict = judge(curve(noisy(lambda at: 2.3 * 1.05**at, 60)))
    assert verdict.kind is VerdictKind.ROSE
    assert verdict.relative_drop < 0


def test_fell_then_blew_up():
    verdict = judge(curve(noisy(lambda at: decay(at) if at < 60 else 9.0, 94)))
    assert verdict.kind is VerdictKind.DIVERGED
    assert "blew up" in verdict.sentence


def test_blew_up_in_the_last_points():
    assert judge(curve([*noisy(decay, 90), 500, 900, 3000])).kind is VerdictKind.DIVERGED


def test_shot_up_and_came_back():
    values = [2.3, *(2.3 + 400 * math.exp(-at / 10) for at in range(60))]
    verdict = judge(curve(values))
    assert (verdict.kind, verdict.detail) == (VerdictKind.DIVERGED, "shot_up")


def test_the_epoch_means_of_a_run_that_blew_up_at_once():
    verdict = judge(curve([3592.0, 10.45, 12.64, 11.89, 11.34]))
    assert (verdict.kind, verdict.detail) == (VerdictKind.DIVERGED, "exploded_first")
    assert judge(curve([3592.0, 10.45, 12.64, 11.89, 11.34]), LossRules(chance_level=None)).ok


def test_a_level_to_end_below():
    values = noisy(lambda at: 3 + 4 * math.exp(-at / 10), 60)
    assert judge(curve(values)).ok
    verdict = judge(curve(values), LossRules(end_below=LN10))
    assert (verdict.kind, verdict.detail) == (VerdictKind.FLAT, "ends_too_high")


def test_small_batches_of_a_trained_model_are_noisy():
    values = [2.331, 1.34, 0.379, 1.033, 0.265, 0.249, 0.127, 0.081, 0.252, 0.144, 0.02, 0.652, 0.302]  # really trained
    assert judge(curve(values)).ok


def test_nan_tells_when():
    verdict = judge(curve([2.3 - at / 50 if at < 30 else math.nan for at in range(60)]))
    assert verdict.kind is VerdictKind.NAN
    assert "reading 31 of 60 (step 30)" in verdict.sentence


def test_infinity_counts_as_nan_and_says_so():
    verdict = judge(curve([2.0, 1.9, math.inf]))
    assert (verdict.kind, verdict.detail) == (VerdictKind.NAN, "inf")


def test_an_early_nan_only_warns():
    values = noisy(decay, 94)
    values[1] = math.nan
    verdict = judge(curve(values))
    assert verdict.ok
    assert "1 NaN or infinite" in verdict.sentence


@pytest.mark.parametrize(("count", "detail"), [(1, "printed_once"), (2, "too_few"), (4, "too_few")])
def test_too_few(count, detail):
    verdict = judge(curve([2.0 / (1 + at) for at in range(count)]))
    assert (verdict.kind, verdict.detail, verdict.points) == (VerdictKind.TOO_FEW, detail, count)
    assert "print the loss more often" in verdict.sentence


def test_three_points_where_an_assignment_asks_for_no_more():
    rules = LossRules(min_points=3)
    assert judge(curve([2.3, 1.0, 0.4]), rules).ok
    assert not judge(curve([2.3, 2.2, 2.1]), rules).ok
    assert not judge(curve([2.3, 0.4, 1.0]), rules).ok


def test_none_quotes_the_nearest_line():
    verdict = judge(LossCurve(near_misses=("the loss is small",)))
    assert (verdict.kind, verdict.detail) == (VerdictKind.NONE, "no_loss")
    assert "the loss is small" in verdict.sentence


def test_only_validation():
    verdict = judge(curve([2, 1, 0.5, 0.4, 0.3, 0.2], Series.VALIDATION))
    assert (verdict.kind, verdict.detail) == (VerdictKind.NONE, "only_validation")
    assert judge(curve([2, 1, 0.5, 0.4, 0.3, 0.2], Series.VALIDATION), LossRules(series=Series.VALIDATION)).ok


def test_negative_losses_have_a_direction_too():
    assert judge(curve([-float(at) for at in range(50)])).ok
    assert judge(curve([float(at) - 100 for at in range(90)])).kind is VerdictKind.ROSE
    assert judge(curve([0.1 - at * at for at in range(30)])).ok


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_points": 1},
        {"min_relative_drop": 0},
        {"min_relative_drop": 1},
        {"alpha": 0.6},
        {"chance_level": 0},
        {"x": 1},
    ],
)
def test_rules_have_ranges(wrong):
    with pytest.raises(ValidationError):
        LossRules(**wrong)


def test_a_verdict_goes_to_json_and_back():
    verdict = judge(curve(noisy(decay, 94)))
    assert from_json(Verdict, to_json(verdict)) == verdict


@given(st.lists(st.floats(), max_size=80), st.integers(3, 10))
def test_any_numbers_get_a_verdict(values, least):
    verdict = judge(curve(values), LossRules(min_points=least))
    assert verdict.sentence
    assert verdict.p_value is None or 0 <= verdict.p_value <= 1


@given(st.lists(st.floats(0.01, 100), min_size=5, max_size=60), st.floats(0.01, 1000))
def test_the_unit_of_the_loss_does_not_matter(values, factor):
    rules = LossRules(chance_level=None)
    # Rounding may move a number across a threshold only when it lies on it; powers of 2 scale exactly.
    power = 2.0 ** round(math.log2(factor))
    assert judge(curve(values), rules).kind is judge(curve([value * power for value in values]), rules).kind
