"""Metrics files that a run left (filled in below)."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_dockerlab.facts import LossCurve


def read_metrics(files: Mapping[str, bytes]) -> LossCurve | None:
    """Return the curve of the most trusted file that holds one."""
    return None


def best_curve(files: Mapping[str, bytes], log_curve: LossCurve) -> LossCurve:
    """Return the files' curve where there is one, else the log's."""
    return read_metrics(files) or log_curve
