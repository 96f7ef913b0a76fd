"""Write what a grade leaves: `results.json` in the run's folder, its copy, and the report folder with the evidence."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_dockerlab.errors import InfraError
from pytest_dockerlab.facts import LossCurve
from pytest_dockerlab.store import write_atomic

if TYPE_CHECKING:
    from pytest_dockerlab.results import Grade
    from pytest_dockerlab.settings import Settings

RESULTS = "results.json"
# What travels into a report: facts, logs and the results; never the student's model or a lock.
KEPT = (".json", ".log", ".txt", ".svg", ".png", ".md", ".xml")


def write_files(grade: Grade, settings: Settings) -> None:
    """Write all that the settings ask for; raises `InfraError` where a file can't be written."""
    data = json.dumps(grade.to_results(), indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    write_atomic(grade.folder / RESULTS, data)
    if settings.results is not None:
        write_atomic(settings.results, data)
    if settings.report is not None:
        _plot(grade)
        copy_report(grade.folder, settings.report)


def _plot(grade: Grade) -> None:
    """Draw the loss curve for the report, where the extra `plot` is installed: nobody needs it for a grade."""
    curve = grade.facts.get("loss")
    if not isinstance(curve, LossCurve) or not curve.points or find_spec("matplotlib") is None:
        return
    from pytest_dockerlab.train import plot, trend

    verdict = trend.judge(curve)
    write_atomic(grade.folder / "loss.svg", plot.plot_svg(curve, verdict))
    write_atomic(grade.folder / "loss.png", plot.plot_png(curve, verdict))


def copy_report(source: Path, target: Path) -> None:
    """Copy the results and the evidence of a run into a folder for people."""
    try:
        target.mkdir(parents=True, exist_ok=True)
        for path in sorted(source.iterdir()):
            if path.is_file() and path.suffix in KEPT:
                shutil.copyfile(path, target / path.name)
    except OSError as error:
        raise InfraError(f"The report can't be written to {target}: {error.strerror}.") from error
