"""Hidden digits and the secret of the draw: nobody sees them who should not."""

from __future__ import annotations

import json

import pytest

from pytest_dockerlab.classroom.audience import MARK, for_reader, scrub, secrets_of, shows
from pytest_dockerlab.classroom.publish import write_report
from pytest_dockerlab.report.schema import validate

SECRET = "correct-horse-battery"

LOOK_AROUND = """
import os
from pathlib import Path

def test_what_the_child_has(dockerlab_settings, capfd):
    s = dockerlab_settings
    assert s.secret == {secret!r}
    assert str(s.digits) == {digits!r}
    assert {secret!r} not in repr(s)
    everywhere = [f"{{name}}={{value}}" for name, value in os.environ.items()]
    everywhere += Path("/proc/self/cmdline").read_text().split("\\0")
    everywhere += Path("/proc/self/environ").read_text().split("\\0")
    for text in everywhere:
        assert {secret!r} not in text and {digits!r} not in text
    for number in os.listdir("/proc/self/fd"):
        if int(number) > 2 and os.path.exists(f"/proc/self/fd/{{number}}"):
            assert "pipe:" not in os.readlink(f"/proc/self/fd/{{number}}") or number
    with capfd.disabled():
        print("they are", s.secret, s.digits)
"""


@pytest.fixture
def hidden(classroom):
    digits = classroom.root / "hidden-digits-folder"
    digits.mkdir()
    with (classroom.assignment / "test_tiny.py").open("a") as file:
        file.write(LOOK_AROUND.format(secret=SECRET, digits=str(digits)))
    return digits


@pytest.mark.parametrize("reader", ["student", "ta"])
def test_the_secret_goes_through_a_pipe_and_into_no_log(classroom, hidden, reader):
    import os

    report = classroom.root / "report"
    environ = dict(os.environ) | {"DOCKERLAB_SECRET": SECRET, "DOCKERLAB_DIGITS": str(hidden)}
    graded = classroom.grade(environ=environ, reader=reader, report=str(report), formats=("junit", "step-summary"))
    assert graded.status == 0, classroom.text
    assert "they are [hidden] [hidden]" in classroom.text
    files = [path for path in classroom.root.rglob("*") if path.is_file() and "course" not in path.parts]
    for path in files:
        assert SECRET.encode() not in path.read_bytes(), path
    for path in report.iterdir():
        assert str(hidden).encode() not in path.read_bytes(), path
    assert str(hidden) not in classroom.text
    runs = list((classroom.root / "cache" / "runs").iterdir())
    assert [(run / MARK).is_file() for run in runs] == [True]
    assert (report / MARK).is_file() == (reader == "ta")


def test_an_answer_file_of_an_earlier_run_is_in_no_report(classroom, tmp_path):
    """A fact that this run did not come to is empty in the results, and the file may still hold the labels."""
    results = classroom.grade().results
    evidence = tmp_path / "evidence"
    evidence.mkdir()
    (evidence / "predict.json").write_text('{"items": [{"expected": 7}]}')
    (evidence / "dockerfile.json").write_text("{}")
    assert not results["facts"]["predict"]
    write_report(results, evidence, tmp_path / "report", "student", hidden=True)
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["dockerfile.json", "results.json"]


def test_another_secret_is_another_run(classroom, hidden):
    import os

    environ = dict(os.environ) | {"DOCKERLAB_DIGITS": str(hidden)}
    for secret in (SECRET, "another"):
        classroom.grade(environ=environ | {"DOCKERLAB_SECRET": secret})
    assert len(list((classroom.root / "cache" / "runs").iterdir())) == 2


@pytest.fixture
def results(golden):
    found = json.loads((golden / "passed.json").read_text())
    items = [{"image": f"{n}.png", "expected": n % 10, "got": n % 9, "raw": str(n % 9)} for n in range(50)]
    found["facts"]["predict"] = {"items": items, "probes": items[:3], "permuted": True, "new": "x"}
    found["checks"][-1]["message"] = "48 of 50 are right; 4 was taken for 9 twice."
    return found


def test_students_see_no_label_of_a_hidden_digit(results):
    seen = for_reader(results, "student", (), hidden=True)
    fact = seen["facts"]["predict"]
    items = fact["items"] + fact["probes"]
    assert set(fact) == {"items", "probes"}  # what is not known to be harmless is left out
    assert all("expected" not in item and item["image"].startswith("digit ") for item in items)
    assert "taken for" not in json.dumps(seen["checks"])
    assert seen["score"] == results["score"]
    validate(seen)


def test_the_ta_and_public_digits_keep_them(results):
    assert for_reader(results, "ta", (), hidden=True) == results
    assert for_reader(results, "student", (), hidden=False) == results


def test_a_finding_about_the_model_stays_the_reason(results):
    finding = {"id": "provenance", "agrees": False, "sentence": "The model is older than the run."}
    results["facts"]["predict"]["findings"] = [finding]
    results["checks"][-1]["message"] = finding["sentence"]
    assert for_reader(results, "student", (), hidden=True)["checks"][-1]["message"] == finding["sentence"]


@pytest.mark.parametrize(
    ("name", "public", "secret"),
    [
        ("predict.json", True, True),
        ("train.log", True, True),
        ("loss.png", True, True),
        ("digits.png", True, False),
        ("integrity.json", True, False),
        ("canary.json", False, False),
        (MARK, False, False),
    ],
)
def test_files_of_a_run_that_a_student_may_see(name, public, secret):
    assert (shows(name, hidden=False), shows(name, hidden=True)) == (public, secret)


def test_what_is_secret_is_scrubbed_for_everybody(results, tmp_path):
    secrets = secrets_of(tmp_path, SECRET)
    results["checks"][0]["message"] = f"The digits can't be used: {tmp_path}/labels.csv ({SECRET})"
    seen = for_reader(results, "ta", secrets, hidden=True)
    assert seen["checks"][0]["message"] == "The digits can't be used: [hidden]/labels.csv ([hidden])"
    assert for_reader(results, "student", secrets, hidden=True)["checks"][0]["message"].startswith("not judged")
    assert scrub("abc", secrets_of(None, "ab")) == "abc"  # too short to be told from a word
