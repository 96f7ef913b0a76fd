"""A part of the checks gives no grade, and no zero."""

from __future__ import annotations

import pytest


def test_collect_only_runs_nothing(lab):
    result = lab.run("--collect-only")
    assert result.ret == 0
    assert lab.engine.calls == []
    assert not lab.results_file.exists()
    result.stdout.fnmatch_lines(["*test_artifact*"])


def test_collect_only_needs_no_lock(lab, own_cache):
    """A run that is under way in another terminal does not hinder a look at what there is."""
    assert lab.run("--collect-only").ret == 0


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
