"""A grade made again from what is stored: no engine, the same results but for times."""

from __future__ import annotations

import json
import shutil

import pytest

from pytest_dockerlab.errors import UsageError
from pytest_dockerlab.report.schema import validate


def without_times(results):
    found = json.loads(json.dumps(results))
    found["timing"] = None
    for check in found["checks"]:
        check["duration_s"] = None
    return json.dumps(found, indent=1).encode()


def run_of(classroom):
    (run,) = (classroom.root / "cache" / "runs").iterdir()
    return run


@pytest.fixture
def no_engine(classroom, monkeypatch):
    """The fake engine of the child is taken away: whoever asks for one fails."""
    import pytest_dockerlab.classroom.grading as grading

    plain = grading.regrade_path

    def without(*args, **options):
        options.pop("_plugins", None)
        return plain(*args, **options)

    monkeypatch.setattr(classroom, "regrade", lambda path=None, **options: classroom._run(without, path, None, options))


@pytest.mark.parametrize("good", [True, False])
@pytest.mark.parametrize("from_run", [True, False])
def test_two_regrades_are_identical_but_for_times(classroom, no_engine, good, from_run):
    if not good:
        classroom.says(b"no loss here\n")
    first = classroom.grade()
    where = run_of(classroom) if from_run else classroom.student
    again, once_more = classroom.regrade(where), classroom.regrade(where)
    assert (again.status, once_more.status) == (first.status, first.status)
    assert without_times(again.results) == without_times(once_more.results)
    assert without_times(again.results) == without_times(first.results)
    validate(again.results)


def test_the_same_repository_graded_twice_is_identical_but_for_times(classroom):
    one, two = classroom.grade(), classroom.grade()
    assert without_times(one.results) == without_times(two.results)


def test_a_changed_assignment_changes_the_score_without_a_run(classroom, no_engine):
    classroom.grade()
    toml = classroom.assignment / "assignment.toml"
    toml.write_text(toml.read_text().replace("points = 30", "points = 31"))
    assert classroom.regrade().results["score"] == 101
    assert "the assignment has changed" in classroom.text


def test_an_assignment_that_never_graded_it_is_refused(classroom, no_engine):
    classroom.grade()
    toml = classroom.assignment / "assignment.toml"
    toml.write_text(toml.read_text().replace('name = "tiny"', 'name = "other"'))
    with pytest.raises(UsageError, match="never graded by other on this machine; it was by: tiny"):
        classroom.regrade()


def test_the_runs_folder_is_left_as_it_was(classroom, no_engine):
    classroom.grade()
    run = run_of(classroom)
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    classroom.regrade(run)
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_what_was_never_graded_can_not_be_regraded(classroom, no_engine):
    with pytest.raises(UsageError, match="never graded"):
        classroom.regrade()
    classroom.grade()
    classroom.write("more.txt", "x")
    with pytest.raises(UsageError, match="never graded"):
        classroom.regrade()


def test_facts_that_a_student_hands_in_are_not_judged(classroom, no_engine):
    classroom.grade()
    run = run_of(classroom)
    for path in run.glob("*.json"):
        classroom.write(path.name, path.read_bytes())
    with pytest.raises(UsageError, match="never graded"):
        classroom.regrade()


def test_a_report_of_ours_is_taken_where_the_caller_vouches_for_it(classroom):
    from pytest_dockerlab.classroom.grading import regrade_path

    report = classroom.root / "report"
    first = classroom.grade(report=str(report))

    def trusted(*args, **options):
        options.pop("_plugins")
        return regrade_path(*args, trusted=True, **options)

    again = classroom._run(trusted, report, None, {})
    assert without_times(again.results) == without_times(first.results)


def test_two_who_hand_in_the_same_files_keep_their_names(classroom, no_engine):
    """They share a run, which remembers the one who came last."""
    classroom.grade()
    other = classroom.root / "other"
    shutil.copytree(classroom.student, other)
    assert classroom.grade(other).results["submission"]["name"] == "other"
    again = classroom.regrade(classroom.student)
    assert again.results["submission"]["name"] == classroom.student.name
    assert classroom.regrade(other).results["submission"]["name"] == "other"


def test_of_several_assignments_the_one_that_is_asked_for(classroom, no_engine):
    """The newest run of a submission may be one by other rules, with other facts."""
    classroom.grade()
    other = classroom.root / "other-assignment"
    shutil.copytree(classroom.assignment, other)
    toml = other / "assignment.toml"
    toml.write_text(toml.read_text().replace('name = "tiny"', 'name = "other"'))
    classroom.grade(assignment=str(other))
    assert classroom.regrade().results["assignment"]["name"] == "tiny"
    assert "has changed" not in classroom.text
    assert classroom.regrade(assignment=str(other)).results["assignment"]["name"] == "other"
    assert "has changed" not in classroom.text


def test_an_infra_result_stays_one(classroom, no_engine):
    classroom.grade()
    (run_of(classroom) / "loss.json").unlink()
    again = classroom.regrade(run_of(classroom))
    assert again.status == 10
    assert again.results["score"] is None
