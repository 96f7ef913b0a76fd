"""Take the metrics files that a run wrote out of its container: a framework's own record is more exact than its log."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

from pytest_dockerlab.artifact import SYSTEM
from pytest_dockerlab.facts import LossCurve
from pytest_dockerlab.stages.context import RunContext
from pytest_dockerlab.train.loss import best_curve
from pytest_dockerlab.train.loss.metrics import is_metrics_file

MAX_FILES = 10
MAX_BYTES = 8 << 20  # an epoch-wise CSV has a few kB; TensorBoard's events of a lab a few hundred


def best(context: RunContext, container: str, log_curve: LossCurve) -> LossCurve:
    """Return the curve of the run's metrics files where they tell the training loss, else the log's."""
    written = context.files(container, 2 * MAX_FILES * MAX_BYTES)
    paths = (
        path
        for path, change in written.changes()
        if change != "deleted" and is_metrics_file(path) and not path.startswith(SYSTEM)
    )
    files: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory(prefix="dockerlab-metrics-") as folder:
        copy = Path(folder, "copy")
        for path in list(itertools.islice(paths, MAX_FILES)):
            if written.retrieve(path, MAX_BYTES, copy).state == "file":
                files[path] = copy.read_bytes()
    return best_curve(files, log_curve) if files else log_curve
