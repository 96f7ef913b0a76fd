"""An author's own assignment: plain pytest tests over the fixtures, with a marker that is checked."""

from __future__ import annotations

import pytest

USAGE = pytest.ExitCode.USAGE_ERROR
OWN = """
import pytest


@pytest.mark.dockerlab(check="build", points=40)
def test_small_image(dockerlab_image):
    assert dockerlab_image.bytes < 1_000_000_000, "the image is over 1 GB"


@pytest.mark.dockerlab(check="speed")
def test_fast(dockerlab_training):
    assert dockerlab_training.seconds < {limit}, "too slow"


def test_without_a_marker(dockerlab_loss, dockerlab_settings, dockerlab_submission, dockerlab_assignment):
    assert dockerlab_loss.values()
    assert dockerlab_assignment.name == "tiny"
    assert dockerlab_submission.root.name == "student"
    assert dockerlab_settings.lang == "en"
"""


def test_own_checks_are_graded(lab):
    lab.assignment(tests=OWN.format(limit=1000), checks={"build": 40, "speed": 60})
    result = lab.run()
    assert result.ret == 0, result.stdout.str()
    assert lab.results["score"] == 100
    assert lab.outcomes == {"build": "passed", "speed": "passed"}
    assert [check["evidence"] for check in lab.results["checks"]] == [["build.log"], ["train.json"]]
    result.assert_outcomes(passed=3)


def test_an_assertion_that_fails_is_a_failed_check(lab):
    lab.assignment(tests=OWN.format(limit=-1), checks={"build": 40, "speed": 60})
    result = lab.run()
    assert result.ret == 1
    assert lab.results["score"] == 40
    [_, speed] = lab.results["checks"]
    assert speed["outcome"] == "failed"
    assert "too slow" in speed["message"]
    assert speed["evidence"] == ["train.json"]


def test_an_own_check_behind_a_failure_is_blocked(lab):
    lab.write("Dockerfile", "FROM python:3.11-slim\nCOPY nothing .\n")
    lab.assignment(tests=OWN.format(limit=1000), checks={"build": 40, "speed": 60})
    lab.run()
    assert lab.outcomes["speed"] == "blocked"


def test_an_unknown_check_in_a_marker(lab):
    tests = 'import pytest\n@pytest.mark.dockerlab(check="sped")\ndef test_one(): pass\n'
    lab.assignment(tests=tests, checks={"build": 40, "speed": 60})
    result = lab.run()
    assert result.ret == USAGE
    said = result.stdout.str() + result.stderr.str()
    assert "no check 'sped'" in said
    assert "build, speed" in said
    assert "Traceback" not in said
    assert lab.engine.calls == []


def test_other_points_than_the_assignment_says(lab):
    lab.assignment(tests=OWN.format(limit=1000), checks={"build": 30, "speed": 70})
    result = lab.run()
    assert result.ret == USAGE
    assert "40 points here, 30 in assignment.toml" in result.stdout.str() + result.stderr.str()


def test_a_marker_without_a_check(lab):
    tests = "import pytest\n@pytest.mark.dockerlab\ndef test_one(): pass\n"
    lab.assignment(tests=tests, checks={"build": 40})
    assert lab.run().ret == USAGE


def test_a_check_that_no_test_judges_is_refused(lab):
    lab.assignment(tests=OWN.format(limit=1000), checks={"build": 40, "speed": 60, "style": 10})
    result = lab.run()
    assert result.ret == USAGE
    assert "no test judges style" in result.stdout.str() + result.stderr.str()
    assert lab.engine.calls == []


def test_two_tests_of_one_check_have_to_pass_both(lab):
    tests = (
        "import pytest\n"
        "@pytest.mark.dockerlab(check='build')\ndef test_a(dockerlab_image): pass\n"
        "@pytest.mark.dockerlab(check='build')\ndef test_b(dockerlab_image): assert False, 'second'\n"
        "@pytest.mark.dockerlab(check='build')\ndef test_c(dockerlab_image): pass\n"
    )
    lab.assignment(tests=tests, checks={"build": 40})
    lab.run()
    assert lab.outcomes == {"build": "failed"}
    assert lab.results["score"] == 0


def test_a_test_that_checks_nothing_is_no_pass(lab):
    """Rule 3: a check with no evidence is not a pass; here the author's own test is the evidence."""
    tests = "import pytest\n@pytest.mark.dockerlab(check='build')\ndef test_a(): pytest.skip('not today')\n"
    lab.assignment(tests=tests, checks={"build": 40})
    result = lab.run()
    assert lab.results["score"] is None
    assert result.ret == 10


def test_tests_that_judge_no_check_are_no_grade_and_no_fault_of_the_machine(lab):
    lab.assignment(tests="def test_one(): pass\n", checks={"build": 40})
    result = lab.run()
    assert result.ret == USAGE
    assert "Nothing was checked" in result.stdout.str()
    assert not lab.results_file.exists()


def test_tests_that_are_no_python_are_our_fault(lab):
    lab.assignment(tests="this is no Python\n", checks={"build": 40})
    assert lab.run().ret == 10
    assert not lab.results_file.exists()


def test_an_error_in_the_authors_test_is_infra(lab):
    tests = "import pytest\n@pytest.mark.dockerlab(check='build')\ndef test_a(dockerlab_image): 1 / 0\n"
    lab.assignment(tests=tests, checks={"build": 40})
    result = lab.run()
    assert lab.outcomes == {"build": "infra"}
    assert result.ret == 10


def test_an_assignment_without_tests(lab):
    lab.assignment()
    (lab.assignment_folder / "test_tiny.py").unlink()
    result = lab.run()
    assert result.ret == USAGE
    assert "no tests" in result.stderr.str()


def test_facts_have_the_names_of_the_data_flow(lab):
    names = {
        "dockerlab_image": "tag id log seconds",
        "dockerlab_training": "exit oom timed_out cpu_s peak_rss gpu_s log",
        "dockerlab_loss": "points source",
        "dockerlab_artifact": "path sha256 bytes kind",
    }
    tests = "import pytest\n@pytest.mark.dockerlab(check='build')\n"
    tests += f"def test_a({', '.join(names)}):\n"
    tests += "".join(f"    {fact}.{name}\n" for fact, all_of in names.items() for name in all_of.split())
    tests += "    assert (dockerlab_training.exit, dockerlab_training.oom, dockerlab_training.timed_out) == (0, 0, 0)\n"
    tests += "    assert dockerlab_image.id == dockerlab_image.image_id\n"
    lab.assignment(tests=tests, checks={"build": 40})
    assert lab.run().ret == 0
