"""A run that prints nothing and leaves a metrics file is read from that file, on the real engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_dockerlab.assignment import Assignment
from pytest_dockerlab.facts import LossCurve
from pytest_dockerlab.grade import Grading
from pytest_dockerlab.settings import Settings
from pytest_dockerlab.submission import Submission

pytestmark = [pytest.mark.engine, pytest.mark.images, pytest.mark.usefixtures("lab_data", "lab_images")]

TRAIN = """
import json
with open("metrics.jsonl", "w") as log:
    for step in range(60):
        log.write(json.dumps({"step": step, "train_loss": 2.3 * 0.95 ** step, "val_loss": 9}) + "\\n")
open("model.pt", "wb").write(b"no model")
"""
PRINTS_FLAT = '\nfor step in range(60): print("loss:", 2.3)\n'


@pytest.mark.parametrize(("more", "why"), [("", "a silent run"), (PRINTS_FLAT, "a log that says something else")])
def test_the_metrics_file_is_read(tmp_path: Path, more: str, why: str):
    folder = tmp_path / "lab"
    folder.mkdir()
    (folder / "train.py").write_text(TRAIN + more)
    (folder / "Dockerfile").write_text('FROM python:3.11-slim\nCOPY train.py .\nCMD ["python3", "train.py"]\n')
    assignment = Assignment.load("mnist")
    settings = Settings(submission=folder, gpu="none", given=frozenset({"gpu"}))

    with Grading(Submission.load(folder, assignment.spec.limits), assignment, settings) as grading:
        result = grading.result("loss")
        curve = grading.fact("loss")

    assert isinstance(curve, LossCurve)
    assert result.outcome.value == "passed", why
    assert curve.source.startswith("file:")
    assert len(curve.values()) == 60
