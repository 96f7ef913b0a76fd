"""The loss curve as a picture: raw, smoothed, and the two levels that the verdict compared (extra `plot`)."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from statistics import median
from typing import Any

from pytest_dockerlab.errors import UsageError
from pytest_dockerlab.facts import LossCurve, Series
from pytest_dockerlab.train.trend import Verdict, VerdictKind

_COLOURS = {Series.TRAIN: "#1f77b4", Series.VALIDATION: "#ff7f0e", Series.TEST: "#2ca02c"}
_MAX_SHOWN = 1e12  # matplotlib's ticks fail beyond what a plot can mean anyway
_WIDE = 1000.0  # from this ratio of largest to smallest on the axis is logarithmic


def plot_svg(curve: LossCurve, verdict: Verdict, series: Series = Series.TRAIN) -> bytes:
    """Return the plot as SVG. The same curve gives the same bytes."""
    return _plot(curve, verdict, series, "svg")


def plot_png(curve: LossCurve, verdict: Verdict, series: Series = Series.TRAIN) -> bytes:
    """Return the plot as PNG."""
    return _plot(curve, verdict, series, "png")


def smoothed(values: Sequence[float]) -> list[float]:
    """Return the running median, as robust as the verdict's levels; NaN and infinity are passed over."""
    side = max(1, min(25, len(values) // 25))
    result = []
    for at in range(len(values)):
        near = [value for value in values[max(0, at - side) : at + side + 1] if math.isfinite(value)]
        result.append(median(near) if near else math.nan)
    return result


def _plot(curve: LossCurve, verdict: Verdict, series: Series, kind: str) -> bytes:
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError(
            "a plot needs matplotlib, which is not installed", fix="pip install 'pytest-dockerlab[plot]'"
        ) from error
    # A fixed salt and no date: a plot made again from the same facts is the same file.
    with mpl.rc_context({"svg.hashsalt": "dockerlab", "svg.fonttype": "path", "text.usetex": False}):
        figure = Figure(figsize=(7, 4), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        shown = _draw_series(axes, curve, series)
        finite_at = [at for at, value in enumerate(curve.values(series)) if math.isfinite(value)]
        _draw_levels(axes, verdict, finite_at)
        if shown and min(shown) > 0 and max(shown) / min(shown) > _WIDE:
            axes.set_yscale("log")
        axes.set_title(_title(verdict), fontsize=10)
        axes.set_xlabel("reading")
        axes.set_ylabel("loss")
        axes.grid(alpha=0.25)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)
        out = io.BytesIO()
        figure.savefig(out, format=kind, metadata={"Date": None} if kind == "svg" else {"Software": None})
        return out.getvalue()


def _draw_series(axes: Any, curve: LossCurve, series: Series) -> list[float]:
    """Draw every series over the readings of the judged one; return what is on the axis."""
    judged = [at for at, point in enumerate(curve.points) if point.series is series]
    places = {place: at for at, place in enumerate(judged)}
    shown: list[float] = []
    for each, colour in _COLOURS.items():
        passed = -1  # validation and test losses stand where they came between the judged readings
        at: list[float] = []
        values: list[float] = []
        for place, point in enumerate(curve.points):
            passed = places.get(place, passed)
            if point.series is each:
                at.append(places[place] if each is series else max(passed, 0) + 0.5)
                values.append(point.value if abs(point.value) <= _MAX_SHOWN else math.nan)
        if not values:
            continue
        shown += [value for value in values if math.isfinite(value)]
        if each is series:
            axes.plot(at, values, color=colour, alpha=0.35, linewidth=1, label=f"{each.value}, raw")
            axes.plot(at, smoothed(values), color=colour, linewidth=2, label=f"{each.value}, smoothed")
            for spot in (place for place, value in zip(at, values, strict=True) if not math.isfinite(value)):
                axes.axvline(spot, color="#d62728", alpha=0.15, linewidth=1)
        else:
            axes.plot(at, values, color=colour, marker="o", markersize=3, linewidth=1, label=each.value)
    return shown


def _draw_levels(axes: Any, verdict: Verdict, finite_at: list[int]) -> None:
    if verdict.first is None or verdict.last is None or len(finite_at) != verdict.points:
        return
    spans = (
        ("first level", verdict.first, finite_at[: verdict.first_points]),
        ("last level", verdict.last, finite_at[-verdict.last_points :]),
    )
    for name, level, span in spans:
        if span and abs(level) <= _MAX_SHOWN:
            axes.hlines(level, span[0] - 0.5, span[-1] + 0.5, color="black", linewidth=2.5)
            axes.axhline(level, color="black", linestyle=":", linewidth=0.8, label=f"{name}: {level:.4g}")


def _title(verdict: Verdict) -> str:
    """Return the sentence's first part; `$` would begin a formula."""
    text = verdict.sentence.split(": ")[0] if verdict.kind is not VerdictKind.NONE else "No loss was found"
    text = text.replace("$", "")
    return text if len(text) <= 110 else f"{text[:107]}…"
