"""Whose fault it is: an engine that is not there, goes away or is full gives no grade, and never a zero."""

from __future__ import annotations

import pytest

from pytest_dockerlab import fixtures
from pytest_dockerlab.engine.docker import DockerEngine
from pytest_dockerlab.engine.fake import FakeProgram
from pytest_dockerlab.errors import DiskFull, EngineUnavailable, InfraError

NO_GRADE = 10


def ungraded(lab, result, check):
    assert result.ret == NO_GRADE, result.stdout.str()
    assert lab.results["score"] is None
    assert lab.results["graded"] is False
    assert lab.outcomes[check] == "infra"
    assert all(item["points"] == 0 for item in lab.results["checks"] if item["outcome"] == "infra")
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


def test_no_engine(lab, monkeypatch):
    monkeypatch.setattr(fixtures, "open_engine", DockerEngine)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{lab.root}/nobody.sock")
    result = lab.run()
    assert result.ret == NO_GRADE
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    said = result.stdout.str() + result.stderr.str()
    assert "No container engine answers" in said
    assert "dockerlab doctor" in said
    assert lab.results["score"] is None


def test_no_engine_is_said_once(lab, monkeypatch):
    monkeypatch.setattr(fixtures, "open_engine", DockerEngine)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{lab.root}/nobody.sock")
    said = lab.run().stdout.str()
    # Where the check failed, in the table, and in pytest's own summary, which is cut to a line's width outside of CI.
    assert said.count("Start Docker or Podman") <= 3


@pytest.mark.parametrize(
    ("method", "check"), [("build", "build"), ("create", "train"), ("start", "train"), ("state", "train")]
)
def test_an_engine_that_goes_away_is_asked_once_more(lab, method, check):
    lab.engine.fail(method)
    result = lab.run()
    assert result.ret == 0, result.stdout.str()
    assert lab.results["score"] == 100
    result.stdout.fnmatch_lines(["*Trying once more.*"])


@pytest.mark.parametrize(
    ("method", "check"), [("build", "build"), ("create", "train"), ("start", "train"), ("state", "train")]
)
def test_an_engine_that_stays_away_gives_no_grade(lab, method, check):
    lab.engine.fail(method, times=1000)
    result = lab.run()
    ungraded(lab, result, check)
    assert "went away" in result.stdout.str()


def test_what_passed_before_is_kept(lab):
    lab.engine.fail("start", times=1000)
    ungraded(lab, lab.run(), "train")
    assert lab.outcomes["build"] == "passed"
    assert lab.outcomes["dockerfile"] == "passed"
    assert lab.results["facts"]["build"]["ok"] is True


def test_the_checks_behind_it_are_no_zero_either(lab):
    lab.engine.fail("build", times=1000)
    ungraded(lab, lab.run(), "build")
    assert set(lab.outcomes.values()) <= {"passed", "infra", "blocked"}
    assert lab.outcomes["artifact"] in ("infra", "blocked")


def test_a_second_run_goes_on_from_there(lab):
    lab.engine.fail("start", times=2)
    assert lab.run().ret == NO_GRADE
    assert lab.run().ret == 0
    assert lab.results["score"] == 100


def test_a_full_disk(lab):
    lab.engine.fail("create", DiskFull("The engine's disk is full.", fix="dockerlab clean"), times=1000)
    result = lab.run()
    ungraded(lab, result, "train")
    assert "dockerlab clean" in result.stdout.str()


def test_another_refusal_is_not_tried_twice(lab):
    lab.engine.fail("build", InfraError("The engine refused."), times=1000)
    ungraded(lab, lab.run(), "build")
    assert lab.engine.calls.count("build") == 1


def test_a_restart_during_training_is_not_the_students_fault(lab):
    lab.engine.program("python train.py", FakeProgram(output=b"loss: 1.0\n", runs_forever=True))
    lab.engine.fail("state", EngineUnavailable("The engine went away."), after=1, times=1000)
    ungraded(lab, lab.run(), "train")


def test_nothing_is_left_behind(lab):
    lab.engine.fail("start", times=1000)
    lab.run()
    assert lab.engine.containers == {}
    assert lab.engine.images() == ["python:3.11-slim"]


def test_a_fault_of_ours_is_infra(lab, monkeypatch):
    def broken(*_args):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("pytest_dockerlab.stages.build.find", broken)
    result = lab.run()
    assert result.ret == NO_GRADE
    assert lab.results["score"] is None
    assert lab.outcomes["dockerfile"] == "infra"
