"""A whole grade through pytest, on the fake engine."""

from __future__ import annotations

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
