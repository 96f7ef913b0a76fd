"""A whole grade through pytest, on the fake engine."""

from __future__ import annotations

import pytest

from pytest_dockerlab.engine.fake import FakeProgram
from pytest_dockerlab.report import schema


def test_a_good_submission_gets_all_points(lab):
    result = lab.run()
    assert result.ret == 0
    assert lab.results["score"] == 100
    assert lab.results["graded"] is True
    assert set(lab.outcomes.values()) == {"passed"}
    result.assert_outcomes(passed=5)


def test_the_results_follow_the_schema(lab):
    lab.run()
    schema.validate(lab.results)


def test_nothing_is_left_on_the_engine(lab):
    lab.run()
    assert lab.engine.owned() == []
    assert lab.engine.containers == {}
    assert lab.engine.images() == ["python:3.11-slim"]
    assert lab.engine.closed


def test_the_time_of_a_check_is_that_of_its_stage_too(lab):
    """A fixture runs the stage: without it, a check would always take no time."""
    output = b"".join(b"loss: %.2f\n" % (2.3 * 0.8**step) for step in range(20))
    lab.engine.program("python train.py", FakeProgram(output=output, seconds=0.3))
    lab.run()
    [train] = [check for check in lab.results["checks"] if check["id"] == "train"]
    assert train["duration_s"] >= 0.3
    assert train["duration_s"] == pytest.approx(lab.results["timing"]["stages"]["train"], abs=0.2)
