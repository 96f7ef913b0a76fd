"""A part of the checks gives no grade, and no zero."""

from __future__ import annotations

import filelock
import pytest

from pytest_dockerlab import grade


def test_collect_only_runs_nothing(lab):
    result = lab.run("--collect-only")
    assert result.ret == 0
    assert lab.engine.calls == []
    assert not lab.results_file.exists()
    result.stdout.fnmatch_lines(["*test_artifact*"])


def test_collect_only_needs_no_lock(lab, own_cache):
    """A run that is under way in another terminal does not hinder a look at what there is."""
    assert lab.run().ret == 0
    with held(own_cache):
        assert lab.run("--collect-only").ret == 0


def held(own_cache):
    [lock] = own_cache.glob("runs/*/.lock")
    return filelock.FileLock(lock)


def test_a_selection_is_no_grade(lab):
    result = lab.run("-k", "build")
    assert result.ret == 0  # pytest's own: what was asked for passed
    assert lab.results["score"] is None
    assert lab.results["graded"] is False
    assert lab.outcomes["build"] == "passed"
    assert lab.outcomes["artifact"] == "infra"
    result.assert_outcomes(passed=1, deselected=4)
    result.stdout.fnmatch_lines(["*Only a part of the checks ran*"])
    result.stdout.no_fnmatch_line("*The grading system failed*")


def test_a_selection_of_a_later_check_makes_what_it_needs(lab):
    lab.run("-k", "artifact")
    assert lab.outcomes["artifact"] == "passed"


def test_nothing_selected_is_an_error(lab):
    result = lab.run("-k", "nothing_is_called_so")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert not lab.results_file.exists()
    assert lab.engine.calls == []


def test_exit_first_is_no_grade(lab):
    lab.write("Dockerfile", "")
    result = lab.run("-x")
    assert result.ret in (1, 2, 10)
    assert lab.results["score"] is None


def test_tests_that_are_named_run_in_their_place(lab):
    own = lab.root / "test_extra.py"
    own.write_text(
        "import pytest\n"
        "@pytest.mark.dockerlab(check='build')\n"
        "def test_mine(dockerlab_image):\n"
        "    assert dockerlab_image.ok\n"
    )
    result = lab.run(own)
    result.assert_outcomes(passed=1)
    assert lab.outcomes["build"] == "passed"


def test_two_runs_of_one_submission_wait_for_each_other(lab, own_cache, monkeypatch):
    lab.run()
    monkeypatch.setattr(grade, "LOCK_WAIT_S", 0.1)
    with held(own_cache):
        result = lab.run()
    assert result.ret == 10
    told(result, "Another run is grading the same submission")


def test_a_cache_that_cannot_be_written_is_no_grade(lab, monkeypatch):
    monkeypatch.setenv("DOCKERLAB_CACHE", str(lab.write("a-file", "")))
    result = lab.run()
    assert result.ret == 10
    told(result, "DOCKERLAB_CACHE")


def test_a_broken_configuration_of_the_users_is_a_usage_error(lab, monkeypatch, tmp_path):
    (tmp_path / "config.toml").write_text('[images]\n"python:3*" = 3\n')
    monkeypatch.setenv("DOCKERLAB_CONFIG_DIR", str(tmp_path))
    result = lab.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    told(result, "config.toml")


def told(result, words):
    said = result.stdout.str() + result.stderr.str()
    assert words in said
    assert "INTERNALERROR" not in said
    assert "Traceback" not in said
