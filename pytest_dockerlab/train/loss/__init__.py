"""Loss curves: from what a run printed, and from the metrics files that it left."""

from __future__ import annotations

from pytest_dockerlab.train.loss.metrics import best_curve, read_metrics
from pytest_dockerlab.train.loss.reader import LossReader, read_log

__all__ = ["LossReader", "best_curve", "read_log", "read_metrics"]
