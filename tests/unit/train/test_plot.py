"""The sparkline and the plots."""

from __future__ import annotations

import math
import sys
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_dockerlab.errors import UsageError
from pytest_dockerlab.facts import LossCurve, LossPoint, Series
from pytest_dockerlab.train.plot import plot_png, plot_svg, smoothed
from pytest_dockerlab.train.sparkline import sparkline
from pytest_dockerlab.train.trend import judge


def curve(values) -> LossCurve:
    points = [LossPoint(float(value)) for value in values]
    points[2:2] = [LossPoint(1.0, Series.VALIDATION), LossPoint(0.5, Series.TEST)]
    return LossCurve(tuple(points))


def test_sparkline_falls():
    assert sparkline([8, 7, 6, 5, 4, 3, 2, 1]) == "█▇▆▅▄▃▂▁"


def test_sparkline_is_no_wider_than_asked():
    assert len(sparkline(list(range(1000)), 40)) == 40
    assert len(sparkline([1.0, 2.0], 40)) == 2


def test_sparkline_of_odd_values():
    assert sparkline([]) == ""
    assert sparkline([1, 1, 1]) == "▁▁▁"
    assert sparkline([1, math.nan, 2]) == "▁×█"
    assert sparkline([math.nan]) == "×"


@given(st.lists(st.floats(), max_size=200), st.integers(0, 60))
def test_sparkline_never_raises(values, width):
    assert len(sparkline(values, width)) == min(width, len(values))


def test_smoothing_passes_over_nan_and_outliers():
    assert smoothed([5.0, math.nan, 5.0, 5.0]) == [5.0] * 4
    assert smoothed([5.0, 5.0, 1e9, 5.0, 5.0])[2] == 5.0
    assert math.isnan(smoothed([math.nan])[0])


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([2.3 * 0.95**at for at in range(60)], id="decreased"),
        pytest.param([2.3 if at < 30 else math.nan for at in range(60)], id="nan"),
        pytest.param([2.3 * 2.0**at for at in range(1000)], id="huge"),
        pytest.param([-float(at) for at in range(60)], id="negative"),
        pytest.param([0.0] * 60, id="zero"),
        pytest.param([math.inf, math.nan, -math.inf], id="nothing finite"),
        pytest.param([1.0], id="one"),
    ],
)
def test_plots_of_all_kinds(values):
    pytest.importorskip("matplotlib")
    facts = curve(values)
    ET.fromstring(plot_svg(facts, judge(facts)))
    assert plot_png(facts, judge(facts)).startswith(b"\x89PNG")


def test_an_empty_curve_and_a_hostile_name():
    pytest.importorskip("matplotlib")
    facts = LossCurve(near_misses=("$\\frac{", "<script>"))
    ET.fromstring(plot_svg(facts, judge(facts)))


def test_the_same_curve_gives_the_same_bytes():
    pytest.importorskip("matplotlib")
    facts = curve([2.3 * 0.95**at for at in range(60)])
    assert plot_svg(facts, judge(facts)) == plot_svg(facts, judge(facts))


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    facts = curve([1.0, 2.0, 3.0])
    with pytest.raises(UsageError, match="pytest-dockerlab\\[plot\\]"):
        plot_svg(facts, judge(facts))
