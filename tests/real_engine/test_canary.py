"""The data canary end to end: a run that trains scores 100, a model from elsewhere answers nothing right.

Three trainings of the reference solution's kind, so this file takes some minutes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from pytest_dockerlab.assignment import Assignment, Integrity
from pytest_dockerlab.data import canary
from pytest_dockerlab.facts import Artifact, IntegrityFacts, Predictions, from_json
from pytest_dockerlab.grade import Grade, Grading, grade
from pytest_dockerlab.settings import Settings
from pytest_dockerlab.submission import Submission

pytestmark = [
    pytest.mark.engine,
    pytest.mark.images,
    pytest.mark.slow,
    pytest.mark.usefixtures("lab_data", "lab_images"),
]
FORGED = Path(__file__).parents[1] / "samples" / "submissions" / "shipped-model-forged-log"
EPOCHS = os.environ.get("CANARY_EPOCHS", "2")


def assignment(**integrity: object) -> Assignment:
    mnist = Assignment.load("mnist")
    made = Assignment(mnist.folder, mnist.spec.model_copy(update={"integrity": Integrity(**integrity)}))
    made.__dict__["sha256"] = hashlib.sha256(f"{mnist.sha256} {integrity}".encode()).hexdigest()
    return made


def honest(folder: Path) -> Path:
    """The reference solution, with fewer epochs."""
    shutil.copytree(Assignment.load("mnist").folder / "solution", folder)
    dockerfile = folder / "Dockerfile.cpu"
    text = dockerfile.read_text()
    assert '"--save-model"]' in text
    dockerfile.write_text(text.replace('"--save-model"]', f'"--save-model", "--epochs", "{EPOCHS}"]'))
    return folder


def graded(folder: Path, rules: Assignment) -> Grade:
    submission = Submission.load(folder, rules.spec.limits)
    return grade(submission, rules, Settings(submission=folder, gpu="none"))


def told(result: Grade) -> dict[str, str]:
    return {check.id: f"{check.outcome.value}: {check.message}" for check in result.checks}


def test_the_reference_solution_scores_100_on_permuted_labels(tmp_path: Path):
    result = graded(honest(tmp_path / "solution"), assignment(data_canary=True))
    assert result.score == 100, told(result)
    answers, found = result.facts["predict"], result.facts["artifact"]
    assert isinstance(answers, Predictions)
    assert isinstance(found, Artifact)
    assert answers.permuted
    assert "permuted" in told(result)["predict"]
    findings = {one.id: one for one in (*found.findings, *answers.findings)}
    assert {name: one.agrees for name, one in findings.items()} == dict.fromkeys(
        ("artifact_new", "cpu_plausible", "loss_over_time", "images_match", "accuracy_agrees"), True
    ), findings
    # What is secret stays in its file, and the moved labels are gone.
    secret = result.folder / canary.SECRET_FILE
    assert secret.stat().st_mode & 0o777 == 0o600
    assert not (result.folder / canary.FOLDER).exists()
    made = canary.of(result.folder, None, result.submission.sha256)
    for path in result.folder.glob("*.*"):
        data = path.read_bytes()
        if path != secret:
            assert secret.read_bytes() not in data
            assert secret.read_bytes().hex().encode() not in data
            assert made.seed not in data
    kept = result.folder / "integrity.json"
    assert len(from_json(IntegrityFacts, kept.read_bytes()).findings) == 5


def test_a_model_from_elsewhere_and_a_written_log(tmp_path: Path):
    rules = assignment()
    trained = honest(tmp_path / "elsewhere")
    submission = Submission.load(trained, rules.spec.limits)
    with Grading(submission, rules, Settings(submission=trained, gpu="none")) as grading:
        assert grading.result("artifact").outcome.value == "passed"
        model = (grading.store.folder / "artifact.bin").read_bytes()
    folder = tmp_path / "forged"
    shutil.copytree(FORGED, folder)
    (folder / "trained.bin").write_bytes(model)

    plain = graded(folder, rules)
    assert plain.score == 100, told(plain)  # nothing fails it by default …
    seen = " ".join(plain.notes)  # … and the findings say what was seen
    assert "140 loss values arrived within 0.0" in seen
    found = plain.facts["artifact"]
    assert isinstance(found, Artifact)
    # Whether so little time is told depends on how long the engine took to start the container; the numbers stand.
    assert "140 loss values over 14 epochs" in next(one.sentence for one in found.findings if one.id == "cpu_plausible")

    with_canary = graded(folder, assignment(data_canary=True, images_match="warn"))
    outcomes = {check.id: check.outcome.value for check in with_canary.checks}
    assert outcomes == dict.fromkeys(outcomes, "passed") | {"predict": "failed"}, told(with_canary)
    answers = with_canary.facts["predict"]
    assert isinstance(answers, Predictions)
    assert answers.correct <= 5
    seen = " ".join(with_canary.notes)
    assert "The log counts 60,000 images" in seen
    assert "The log claims 99.1%" in seen

    strict = graded(folder, assignment(data_canary=True, images_match="fail", artifact_new="fail"))
    assert {check.id: check.outcome.value for check in strict.checks}["artifact"] == "failed", told(strict)
